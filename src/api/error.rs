//! Why a request was refused for what it asks, and the status that says so.

use std::borrow::Cow;

use crate::base::limits::{EVENT_CHANNELS_MAX, EVENT_KEY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::base::name::{NameError, UserIdError};
use crate::http::{Problem, Status};
use crate::sse::event::EventError;

/// Why a request was refused, though it is good HTTP. Every variant is the client's doing, and answered with 400 where
/// it does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no body where JSON is expected.
    #[error("the body is empty; expected {expected}")]
    EmptyBody {
        /// What should be there.
        expected: &'static str,
    },
    /// The body is not text.
    #[error("not UTF-8: the byte at {at} begins no character")]
    NotUtf8 {
        /// The place of the first bad byte, counted from 0.
        at: usize,
    },
    /// The body is not JSON, or JSON of another kind.
    #[error("{} at {place}: {problem}", if *.is_syntax { "not JSON" } else { "no envelope" })]
    BadJson {
        /// Whether it is not JSON at all.
        is_syntax: bool,
        /// What the parser says, cut.
        problem: String,
        /// The line, where there are several, and the column in bytes; both are counted from 1.
        place: String,
    },
    /// The body is JSON, but no object.
    #[error("the body is {found}; expected a JSON object")]
    NoObject {
        /// What it is.
        found: &'static str,
    },
    /// A field that means nothing here.
    #[error("unknown field {name}; the fields are {known}")]
    UnknownField {
        /// The name, quoted and cut.
        name: String,
        /// Those that mean something.
        known: String,
    },
    /// A field that came before.
    #[error("`{field}` is given twice")]
    RepeatedField {
        /// Which field.
        field: &'static str,
    },
    /// A field that must be there.
    #[error("`{field}` is missing; the fields are {known}")]
    MissingField {
        /// Which field.
        field: &'static str,
        /// Those that must be there.
        known: String,
    },
    /// A field with a value of another kind, or out of its range.
    #[error("`{field}`: found {found}, expected {expected}")]
    WrongValue {
        /// Which field.
        field: &'static str,
        /// What it holds, or of what kind that is.
        found: Cow<'static, str>,
        /// What it should hold.
        expected: &'static str,
    },
    /// Nothing says where the event goes.
    #[error("no target; expected exactly one of `channel`, `channels`, `userId`, `clientId` and `all`")]
    NoTarget,
    /// An event has one target.
    #[error("both `{first}` and `{second}` are given; expected one of {targets}")]
    SeveralTargets {
        /// One of them.
        first: &'static str,
        /// Another.
        second: &'static str,
        /// Those that there are.
        targets: String,
    },
    /// Nothing says what the event holds.
    #[error("no data; expected {expected}")]
    NoData {
        /// What should be there.
        expected: &'static str,
    },
    /// An event has one payload.
    #[error("both `data` and `text` are given; expected one of them")]
    DataAndText,
    /// Not a channel's name.
    #[error("`{field}`: {error}")]
    BadName {
        /// Where it stands.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// Not a user's id.
    #[error("`{field}`: {error}")]
    BadUser {
        /// Where it stands.
        field: &'static str,
        /// What is wrong with it.
        error: UserIdError,
    },
    /// Events go to channels by their names.
    #[error("`{field}`: {name} is a pattern, and events are not published to patterns")]
    PatternTarget {
        /// Where it stands.
        field: &'static str,
        /// The pattern, quoted and cut.
        name: String,
    },
    /// An array of channels without any.
    #[error("`channels` is empty; expected one name at least")]
    NoChannels,
    /// More channels than one event goes to.
    #[error("`channels` has more than {EVENT_CHANNELS_MAX} names")]
    TooManyChannels,
    /// The type, the id or the reconnection time cannot be sent.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Ids of the server's form, with a tag that it knows, are its own to give.
    #[error("`id`: {id} has the form of the ids that the server gives; choose another form, or leave it out")]
    ServerId {
        /// The id.
        id: String,
    },
    /// A conflation key that is empty or too long.
    #[error("`key` has 1 to {EVENT_KEY_BYTES_MAX} bytes, this one has {bytes}")]
    BadKey {
        /// How many it has.
        bytes: usize,
    },
    /// No stream is connected of which this is the name. Answered with 404.
    #[error("{NO_CLIENT}")]
    UnknownClient,
    /// An idempotency key that is empty or too long.
    #[error("{name} has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, this one has {bytes}")]
    IdempotencyKeyLength {
        /// The header or the field.
        name: &'static str,
        /// How many it has.
        bytes: usize,
    },
    /// An idempotency key of other characters than it may have.
    #[error("{name}: expected {expected}; found another at byte {at}")]
    BadIdempotencyKey {
        /// The header or the field.
        name: &'static str,
        /// What it should be of.
        expected: &'static str,
        /// The place of the first other character, counted from 0.
        at: usize,
    },
    /// An idempotency key for the whole request, and further ones within it.
    #[error(
        "both the header Idempotency-Key, which covers the whole request, and `idempotencyKey` are given"
    )]
    KeyAndKeys,
    /// An idempotency key that was given for something else before. Answered with 409.
    #[error("{key} was used for another {what} within the last five minutes; a new {what} needs a new key")]
    KeyReused {
        /// The header or the field.
        key: &'static str,
        /// What it covers.
        what: &'static str,
    },
    /// The contract names it, this version does not have it. Answered with 501.
    #[error("{what} is not part of this version of the server")]
    NotBuilt {
        /// What it is.
        what: &'static str,
    },
    /// The request may not publish to this channel. Answered with 403.
    #[error("publishing to the channel {channel} is not allowed")]
    PublishForbidden {
        /// The channel, quoted and cut.
        channel: String,
    },
    /// The request may not subscribe to this channel. Answered with 403.
    #[error("subscribing to the channel {channel} is not allowed")]
    SubscribeForbidden {
        /// The channel, quoted and cut.
        channel: String,
    },
}

/// What a client is told who names a stream that is not, or no longer, connected.
pub(super) const NO_CLIENT: &str = "no client with this `clientId` is connected";

impl ApiError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            ApiError::NotBuilt { .. } => Status::NOT_IMPLEMENTED,
            ApiError::UnknownClient => Status::NOT_FOUND,
            ApiError::KeyReused { .. } => Status::CONFLICT,
            ApiError::PublishForbidden { .. } | ApiError::SubscribeForbidden { .. } => Status::FORBIDDEN,
            ApiError::EmptyBody { .. }
            | ApiError::NotUtf8 { .. }
            | ApiError::BadJson { .. }
            | ApiError::NoObject { .. }
            | ApiError::UnknownField { .. }
            | ApiError::RepeatedField { .. }
            | ApiError::MissingField { .. }
            | ApiError::WrongValue { .. }
            | ApiError::NoTarget
            | ApiError::SeveralTargets { .. }
            | ApiError::NoData { .. }
            | ApiError::DataAndText
            | ApiError::BadName { .. }
            | ApiError::BadUser { .. }
            | ApiError::PatternTarget { .. }
            | ApiError::NoChannels
            | ApiError::TooManyChannels
            | ApiError::Event(_)
            | ApiError::ServerId { .. }
            | ApiError::IdempotencyKeyLength { .. }
            | ApiError::BadIdempotencyKey { .. }
            | ApiError::KeyAndKeys
            | ApiError::BadKey { .. } => Status::BAD_REQUEST,
        }
    }

    /// Says what is not an envelope in a whole body.
    pub(super) fn in_body(error: &serde_json::Error) -> ApiError {
        ApiError::bad_json(error, format!("line {} column {}", error.line(), error.column()))
    }

    /// Says what is not an envelope in one line of a body of lines.
    pub(super) fn in_line(error: &serde_json::Error) -> ApiError {
        ApiError::bad_json(error, format!("column {}", error.column()))
    }

    fn bad_json(error: &serde_json::Error, place: String) -> ApiError {
        let text = error.to_string();
        let suffix = format!(" at line {} column {}", error.line(), error.column());
        let problem = cut(text.strip_suffix(&suffix).unwrap_or(&text));
        ApiError::BadJson { is_syntax: !error.is_data(), problem, place }
    }

    /// The problem of one part of a body, which `part` names: `item 3`, `line 17`.
    pub(super) fn within(&self, part: std::fmt::Arguments<'_>) -> Problem {
        Problem::new(self.status(), format!("{part}: {self}"))
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        Problem::new(error.status(), error.to_string())
    }
}

/// A text of the client's for an error: quoted, escaped, and not longer than an error should be.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// Names in backquotes: `a`, `b` and `c`.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut text = String::new();
    let mut names = names.into_iter().peekable();
    while let Some(name) = names.next() {
        let separator = match (text.is_empty(), names.peek()) {
            (true, _) => "",
            (false, Some(_)) => ", ",
            (false, None) => " and ",
        };
        text.push_str(separator);
        text.push('`');
        text.push_str(name);
        text.push('`');
    }
    text
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const QUOTED_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_sent_is_quoted_and_cut() {
        assert_eq!(quoted("a\n\"b\""), r#""a\n\"b\"""#);
        let long = quoted(&"ü".repeat(1000));
        assert_eq!(long.chars().count(), QUOTED_CHARS_MAX + 3);
        assert!(long.ends_with("ü…\""));
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(listed([]), "");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b"]), "`a` and `b`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }

    #[test]
    fn statuses_are_those_of_the_contract() {
        let status = |error: ApiError| Problem::from(error).status();
        assert_eq!(status(ApiError::NoTarget), Status::BAD_REQUEST);
        assert_eq!(status(ApiError::KeyReused { key: "k", what: "x" }), Status::CONFLICT);
        assert_eq!(status(ApiError::NotBuilt { what: "x" }), Status::NOT_IMPLEMENTED);
        assert_eq!(status(ApiError::PublishForbidden { channel: quoted("a") }), Status::FORBIDDEN);
    }
}
