//! The requests of publishers, in every form. Those with idempotency keys may be sent again.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::draft::{Written, write_draft};
use crate::model::CHANNELS;
use crate::rules::{LINES_MAX, pick};
use crate::scene::Scene;
use crate::wire::Body;

/// How long a publisher sends a request again. It is far below the five minutes for which a key is
/// remembered, since a request may take long to arrive.
const RETRIES_FOR: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event, as a body or as an envelope.
    Single,
    Array,
    /// A body of lines, and whether its last line is bad.
    Lines {
        is_bad: bool,
    },
    /// An array with a bad item.
    BadArray,
    /// One event with a key that another event was published with.
    Conflict,
    /// No publish: drops the history of a channel. Gaps must report the dropped events like all missing
    /// events.
    Drop,
}

/// How a request uses idempotency keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    None,
    Header,
    /// Every envelope has its own key.
    Envelopes,
}

/// A request that can be sent, and sent again.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) keys: Keys,
    /// The serial numbers of its events that may be committed.
    pub(crate) serials: Range<usize>,
    target: String,
    fields: String,
    data: String,
    /// How often it was sent.
    pub(crate) attempts: u64,
    sent_at: Instant,
    /// The step in which its first byte was first written.
    pub(crate) begun_at: Option<u64>,
    /// The number of receivers in its answer.
    pub(crate) receivers: Option<u64>,
}

impl Message {
    /// Draws a request, and adds its events to the model.
    pub(crate) fn draw(scene: &mut Scene<'_>) -> (Message, Vec<Written>) {
        let first = scene.model.drafts.len();
        let lines = Kind::Lines { is_bad: scene.random.chance(0.1) };
        let kinds = [Kind::Single, Kind::Single, Kind::Single, Kind::Array, lines, lines, Kind::BadArray];
        let kind = *pick(scene.random, &kinds);
        let count = match kind {
            Kind::Single | Kind::Conflict | Kind::Drop => 1,
            Kind::Array | Kind::BadArray => scene.random.within(1..=6),
            Kind::Lines { .. } => scene.random.within(1..=LINES_MAX),
        };
        let keys = match kind {
            Kind::BadArray | Kind::Conflict | Kind::Drop => Keys::None,
            Kind::Single | Kind::Array => *pick(scene.random, &[Keys::None, Keys::Header, Keys::Envelopes]),
            Kind::Lines { .. } => *pick(scene.random, &[Keys::None, Keys::Envelopes]),
        };
        let mut drafts: Vec<Written> =
            (first..first + count).map(|serial| write_draft(serial, scene, true)).collect();
        if keys == Keys::Envelopes {
            drafts.iter_mut().zip(first..).for_each(|(draft, serial)| draft.set_key(&key(serial)));
        }
        let may_be_verbatim = keys != Keys::Envelopes && drafts[0].is_plain();
        let (target, content_type, data) = match kind {
            Kind::Single if may_be_verbatim && scene.random.chance(0.5) => drafts[0].verbatim(),
            Kind::Single | Kind::Conflict | Kind::Drop => {
                ("/publish".to_owned(), "application/json", drafts[0].envelope.clone())
            }
            Kind::Array | Kind::BadArray => {
                let mut items: Vec<&str> = drafts.iter().map(|draft| &*draft.envelope).collect();
                if kind == Kind::BadArray {
                    items.insert(scene.random.within(0..=count), r#"{"channel":"a b","data":1}"#);
                }
                ("/publish".to_owned(), "application/json", format!("[{}]", items.join(",\n")))
            }
            Kind::Lines { is_bad } => {
                let mut text = String::new();
                for draft in &mut drafts {
                    text.push_str(&draft.envelope);
                    let line_end = pick(scene.random, &["\n", "\n", "\r\n", "\n\n"]);
                    text.push_str(line_end);
                    draft.line_end = text.trim_end().len();
                }
                if is_bad {
                    text.push_str("{\"channel\":\"a\"}\n");
                }
                ("/publish".to_owned(), "application/x-ndjson", text)
            }
        };
        let mut fields = format!("Content-Type: {content_type}\r\n");
        if keys == Keys::Header {
            fields.push_str(&format!("Idempotency-Key: {}\r\n", key(first)));
        }
        let message = Message {
            kind,
            keys,
            serials: first..first + count,
            target,
            fields,
            data,
            attempts: 0,
            sent_at: scene.now,
            begun_at: None,
            receivers: None,
        };
        (message, drafts)
    }

    /// A request that drops the history of a channel.
    pub(crate) fn dropping(scene: &mut Scene<'_>) -> (Message, Vec<Written>) {
        let index = scene.random.within(0..=CHANNELS.len() - 1);
        scene.model.note_drop(index);
        let channel = CHANNELS[index].replace('ö', "%C3%B6").replace('ß', "%C3%9F");
        let serial = scene.model.drafts.len();
        let message = Message {
            kind: Kind::Drop,
            keys: Keys::None,
            serials: serial..serial,
            target: format!("/channels/{channel}"),
            fields: String::new(),
            data: String::new(),
            attempts: 0,
            sent_at: scene.now,
            begun_at: None,
            receivers: None,
        };
        (message, Vec::new())
    }

    /// Another event with a key of this request.
    pub(crate) fn conflicting(&self, scene: &mut Scene<'_>) -> (Message, Vec<Written>) {
        let serial = scene.model.drafts.len();
        let mut draft = write_draft(serial, scene, true);
        let mut fields = "Content-Type: application/json\r\n".to_owned();
        match self.keys {
            Keys::Envelopes => {
                draft.set_key(&key(scene.random.within(self.serials.start..=self.serials.end - 1)));
            }
            Keys::Header | Keys::None => {
                fields.push_str(&format!("Idempotency-Key: {}\r\n", key(self.serials.start)));
            }
        }
        let message = Message {
            kind: Kind::Conflict,
            keys: Keys::None,
            serials: serial..serial + 1,
            target: "/publish".to_owned(),
            fields,
            data: draft.envelope.clone(),
            attempts: 0,
            sent_at: scene.now,
            begun_at: None,
            receivers: None,
        };
        (message, vec![draft])
    }

    /// Returns true if and only if sending it again publishes nothing twice.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        self.keys != Keys::None && now < self.sent_at + RETRIES_FOR
    }

    /// The request's head and body, in any form that HTTP allows.
    pub(crate) fn write(&self, is_last: bool, scene: &mut Scene<'_>) -> (String, Body) {
        let body = if scene.random.chance(0.3) {
            Body::chunked(self.data.as_bytes(), scene.random)
        } else {
            Body::counted(self.data.as_bytes())
        };
        let connection = if is_last { "Connection: close\r\n" } else { "" };
        let method = if self.kind == Kind::Drop { "DELETE" } else { "POST" };
        let head = format!(
            "{method} {} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{}{connection}{}\r\n",
            self.target, self.fields, body.fields
        );
        (head, body)
    }
}

impl fmt::Debug for Message {
    /// Leaves out the data, which is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { kind, keys, serials, attempts, begun_at, .. } = self;
        write!(f, "{kind:?} of {serials:?} with keys {keys:?}, attempt {attempts}, begun at {begun_at:?}")
    }
}

fn key(serial: usize) -> String {
    format!("key-{serial}")
}
