//! Why a valid HTTP request was refused, and the status of the answer.

use std::borrow::Cow;

use crate::base::limits::{EVENT_CHANNELS_MAX, EVENT_KEY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::base::name::{NameError, UserIdError};
use crate::http::{Problem, Status};
use crate::sse::event::EventError;

/// Why a valid HTTP request was refused. Every variant is the client's fault. Each is answered with 400
/// unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The body is empty, where JSON is expected.
    #[error("the body is empty; expected {expected}")]
    EmptyBody {
        /// The expected kind of body.
        expected: &'static str,
    },
    /// The body is not UTF-8.
    #[error("not UTF-8: the byte at {at} begins no character")]
    NotUtf8 {
        /// The position of the first bad byte, counted from 0.
        at: usize,
    },
    /// The body is not JSON, or not JSON of the expected kind.
    #[error("{} at {place}: {problem}", if *.is_syntax { "not JSON" } else { "no envelope" })]
    BadJson {
        /// The body is not JSON at all.
        is_syntax: bool,
        /// The parser's message, shortened.
        problem: String,
        /// The column in bytes, and the line if there are several. Both are counted from 1.
        place: String,
    },
    /// The body is JSON, but not an object.
    #[error("the body is {found}; expected a JSON object")]
    NoObject {
        /// The kind of JSON value that it is.
        found: &'static str,
    },
    /// An unknown field.
    #[error("unknown field {name}; the fields are {known}")]
    UnknownField {
        /// The name, quoted and shortened.
        name: String,
        /// The known fields.
        known: String,
    },
    /// A repeated field.
    #[error("`{field}` is given twice")]
    RepeatedField {
        /// Which field.
        field: &'static str,
    },
    /// A missing field.
    #[error("`{field}` is missing; the fields are {known}")]
    MissingField {
        /// Which field.
        field: &'static str,
        /// The required fields.
        known: String,
    },
    /// A field with a value of the wrong kind or out of its range.
    #[error("`{field}`: found {found}, expected {expected}")]
    WrongValue {
        /// Which field.
        field: &'static str,
        /// The value, or its kind.
        found: Cow<'static, str>,
        /// The expected value.
        expected: &'static str,
    },
    /// An event without a target.
    #[error("no target; expected exactly one of `channel`, `channels`, `userId`, `clientId` and `all`")]
    NoTarget,
    /// An event with two targets.
    #[error("both `{first}` and `{second}` are given; expected one of {targets}")]
    SeveralTargets {
        /// One of them.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// The fields that name a target.
        targets: String,
    },
    /// An event without data.
    #[error("no data; expected {expected}")]
    NoData {
        /// The expected fields.
        expected: &'static str,
    },
    /// An event with two payloads.
    #[error("both `data` and `text` are given; expected one of them")]
    DataAndText,
    /// An invalid name of a channel.
    #[error("`{field}`: {error}")]
    BadName {
        /// The field that contains it.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// An invalid id of a user.
    #[error("`{field}`: {error}")]
    BadUser {
        /// The field that contains it.
        field: &'static str,
        /// What is wrong with it.
        error: UserIdError,
    },
    /// A pattern as a target: events are published to names only.
    #[error("`{field}`: {name} is a pattern, and events are not published to patterns")]
    PatternTarget {
        /// The field that contains it.
        field: &'static str,
        /// The pattern, quoted and shortened.
        name: String,
    },
    /// An empty array of channels.
    #[error("`channels` is empty; expected one name at least")]
    NoChannels,
    /// More channels than one event may have.
    #[error("`channels` has more than {EVENT_CHANNELS_MAX} names")]
    TooManyChannels,
    /// An invalid type, id or reconnection time.
    #[error(transparent)]
    Event(#[from] EventError),
    /// An id in the form of the server's ids, with a tag that the server knows. Only the server may give
    /// such ids.
    #[error("`id`: {id} has the form of the ids that the server gives; choose another form, or leave it out")]
    ServerId {
        /// The id.
        id: String,
    },
    /// A conflation key that is empty or too long.
    #[error("`key` has 1 to {EVENT_KEY_BYTES_MAX} bytes, this one has {bytes}")]
    BadKey {
        /// The length of the key, in bytes.
        bytes: usize,
    },
    /// No connected stream has this name. Answered with 404.
    #[error("{NO_CLIENT}")]
    UnknownClient,
    /// An idempotency key that is empty or too long.
    #[error("{name} has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, this one has {bytes}")]
    IdempotencyKeyLength {
        /// The header or the field.
        name: &'static str,
        /// The length of the key, in bytes.
        bytes: usize,
    },
    /// An idempotency key with a character that is not allowed.
    #[error("{name}: expected {expected}; found another at byte {at}")]
    BadIdempotencyKey {
        /// The header or the field.
        name: &'static str,
        /// The allowed characters.
        expected: &'static str,
        /// The position of the first character that is not allowed, counted from 0.
        at: usize,
    },
    /// An idempotency key for the whole request, and others within it.
    #[error(
        "both the header Idempotency-Key, which covers the whole request, and `idempotencyKey` are given"
    )]
    KeyAndKeys,
    /// An idempotency key that was used before with other content. Answered with 409.
    #[error("{key} was used for another {what} within the last five minutes; a new {what} needs a new key")]
    KeyReused {
        /// The header or the field.
        key: &'static str,
        /// What the key covers.
        what: &'static str,
    },
    /// A part of the contract that this version lacks. Answered with 501.
    #[error("{what} is not part of this version of the server")]
    NotBuilt {
        /// The part.
        what: &'static str,
    },
    /// The request may not publish to this channel. Answered with 403.
    #[error("publishing to the channel {channel} is not allowed")]
    PublishForbidden {
        /// The channel, quoted and shortened.
        channel: String,
    },
    /// The request may not subscribe to this channel. Answered with 403.
    #[error("subscribing to the channel {channel} is not allowed")]
    SubscribeForbidden {
        /// The channel, quoted and shortened.
        channel: String,
    },
}

/// The message for a client id that is not, or no longer, connected.
pub(super) const NO_CLIENT: &str = "no client with this `clientId` is connected";

impl ApiError {
    /// The status of the answer.
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

    /// The error of the JSON parser in a whole body.
    pub(super) fn in_body(error: &serde_json::Error) -> ApiError {
        ApiError::bad_json(error, format!("line {} column {}", error.line(), error.column()))
    }

    /// The error of the JSON parser in one line of a body of lines.
    pub(super) fn in_line(error: &serde_json::Error) -> ApiError {
        ApiError::bad_json(error, format!("column {}", error.column()))
    }

    fn bad_json(error: &serde_json::Error, place: String) -> ApiError {
        let text = error.to_string();
        let suffix = format!(" at line {} column {}", error.line(), error.column());
        let problem = cut(text.strip_suffix(&suffix).unwrap_or(&text));
        ApiError::BadJson { is_syntax: !error.is_data(), problem, place }
    }

    /// The problem of one part of a body. `part` names it: `item 3`, `line 17`.
    pub(super) fn within(&self, part: std::fmt::Arguments<'_>) -> Problem {
        Problem::new(self.status(), format!("{part}: {self}"))
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        Problem::new(error.status(), error.to_string())
    }
}

/// Quotes, escapes and shortens a client's text for an error.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// Lists names in backquotes: `a`, `b` and `c`.
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
    fn texts_of_clients_are_quoted_and_shortened() {
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
