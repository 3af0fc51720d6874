//! The events that the server itself sends to a stream. It reserves their types.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{ClientId, EventId};
use crate::base::name::Selector;
use crate::frame::coding::Coding;
use crate::frame::render::render_own;
use crate::sse::encode::{IdField, encode_comment, encode_event_of_line, encode_retry};
use crate::sse::event::Event;

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The client read too slowly, and its cursor left the history.
    SlowConsumer,
    /// The history no longer reaches back to where the client resumes.
    HistoryExpired,
    /// No history here vouches for the id that the client resumes from.
    UnknownId,
}

impl GapReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [GapReason; 3] =
        [GapReason::SlowConsumer, GapReason::HistoryExpired, GapReason::UnknownId];

    /// The reason as the `gap` event names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GapReason::SlowConsumer => "slow-consumer",
            GapReason::HistoryExpired => "history-expired",
            GapReason::UnknownId => "unknown-id",
        }
    }
}

/// How a silent stream is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepaliveStyle {
    /// By an event, which a client can listen for.
    Event,
    /// By a comment, which no client reports.
    Comment,
}

impl KeepaliveStyle {
    /// The styles by their names in the configuration.
    pub const WORDS: [(&str, KeepaliveStyle); 2] =
        [("event", KeepaliveStyle::Event), ("comment", KeepaliveStyle::Comment)];
}

/// A last event id that a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastEventId<'a> {
    /// An id of the server.
    Server(EventId),
    /// The client's own id, which has one line and no NUL.
    Given(&'a str),
}

/// One event from the server itself to a stream.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The first event on every stream.
    Connected {
        /// How long the client should wait before it reconnects.
        retry: Duration,
        /// The last event id that the client then has. `None` for a stream that begins with a replay.
        id: Option<LastEventId<'a>>,
        /// The stream's id.
        client: ClientId,
        /// The stream's user.
        user: Option<&'a str>,
        /// The channels that it subscribes to, in the order they were named.
        channels: &'a [Selector],
    },
    /// Nothing was written for the keepalive interval.
    Ping(KeepaliveStyle),
    /// Events are missing here.
    Gap {
        /// Why.
        reason: GapReason,
        /// How many, if known exactly.
        missed: Option<u64>,
        /// The id after which they are missing, as the client knows it.
        last_event_id: Option<&'a str>,
        /// Where the stream continues. Only for an unknown id.
        id: Option<EventId>,
    },
    /// A replay has ended.
    CaughtUp {
        /// How many events the replay had.
        replayed: u64,
        /// Whether no event was missing.
        complete: bool,
        /// The place at which the stream was opened. Only for a replay that no last event id began.
        id: Option<EventId>,
    },
    /// The stream has one more channel from here on.
    Subscribed {
        /// The channel.
        channel: &'a str,
        /// All its channels now, in the order they were named.
        channels: &'a [Arc<str>],
    },
    /// The stream has one channel less from here on.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// All its channels now, in the order they were named.
        channels: &'a [Arc<str>],
    },
    /// The server accepts no more streams now.
    Overloaded {
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// The server, or this stream's time, ends.
    Shutdown {
        /// How long to wait before reconnecting.
        retry: Duration,
        /// Why.
        reason: &'a str,
    },
}

impl Notice<'_> {
    /// Appends the notice as one frame in this coding.
    pub fn render(&self, out: &mut Vec<u8>, coding: Coding) {
        render_own(out, coding, |out| self.encode(out));
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Notice::Connected { retry, id, client, user, channels } => {
                encode_with(out, "connected", id, Some(retry), |out| {
                    encode_connected(out, client, user, channels);
                });
            }
            Notice::Ping(KeepaliveStyle::Event) => encode(out, "ping", "{}", None, None),
            Notice::Ping(KeepaliveStyle::Comment) => encode_comment(out, "ping"),
            Notice::Gap { reason, missed, last_event_id, id } => {
                let reason = reason.as_str();
                let missed = missed.map_or("null".to_owned(), |missed| missed.to_string());
                let last = last_event_id.map_or(serde_json::Value::Null, serde_json::Value::from);
                let data = format!(r#"{{"reason":"{reason}","missed":{missed},"lastEventId":{last}}}"#);
                encode(out, "gap", &data, id, None);
            }
            Notice::CaughtUp { replayed, complete, id } => {
                let data = format!(r#"{{"replayed":{replayed},"complete":{complete}}}"#);
                encode(out, "caught-up", &data, id, None);
            }
            Notice::Subscribed { channel, channels } => encode_change(out, "subscribed", channel, channels),
            Notice::Unsubscribed { channel, channels } => {
                encode_change(out, "unsubscribed", channel, channels)
            }
            Notice::Overloaded { retry_after } => {
                let data = format!(r#"{{"retryAfter":{}}}"#, retry_after.as_millis());
                encode(out, "overloaded", &data, None, Some(retry_after));
            }
            Notice::Shutdown { retry, reason } => {
                let reason = serde_json::Value::from(reason);
                encode_retry(out, milliseconds(retry));
                encode(out, "shutdown", &format!(r#"{{"reason":{reason}}}"#), None, None);
            }
        }
    }
}

/// Written piece by piece: every stream begins with it, and `fmt` would take half of the shard's cost of
/// a connect.
fn encode_connected(out: &mut Vec<u8>, client: ClientId, user: Option<&str>, channels: &[Selector]) {
    let mut room = [0; ClientId::TEXT_BYTES_MAX];
    let client = client.write(&mut room);
    for part in
        [br#"{"connected":true,"clientId":""#, client, br#"","client_id":""#, client, br#"","userId":"#]
    {
        out.extend_from_slice(part);
    }
    match user {
        None => out.extend_from_slice(b"null"),
        Some(user) => push_json(out, user),
    }
    out.extend_from_slice(br#","channels":["#);
    for (place, channel) in channels.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_json(out, channel.as_str());
    }
    out.extend_from_slice(b"]}");
}

/// Appends a text as a JSON string.
fn push_json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("every text is a JSON string, and a buffer takes all of it");
}

fn encode_change(out: &mut Vec<u8>, event_type: &str, channel: &str, channels: &[Arc<str>]) {
    let channel = serde_json::Value::from(channel);
    let channels: serde_json::Value = channels.iter().map(|name| &**name).collect();
    encode(out, event_type, &format!(r#"{{"channel":{channel},"channels":{channels}}}"#), None, None);
}

fn encode(out: &mut Vec<u8>, event_type: &str, data: &str, id: Option<EventId>, retry: Option<Duration>) {
    encode_with(out, event_type, id.map(LastEventId::Server), retry, |out| {
        out.extend_from_slice(data.as_bytes())
    });
}

/// Appends an event. `data` appends its data, which is JSON and so one line.
fn encode_with(
    out: &mut Vec<u8>,
    event_type: &str,
    id: Option<LastEventId<'_>>,
    retry: Option<Duration>,
    data: impl FnOnce(&mut Vec<u8>),
) {
    let field = match id {
        None => IdField::None,
        Some(LastEventId::Server(_)) => IdField::Reserved(EventId::WIDTH),
        Some(LastEventId::Given(text)) => IdField::Text(text),
    };
    let mut event = Event::new("").with_type(event_type).expect("the server's own types are plain words");
    if let Some(retry) = retry {
        event = event.with_retry(milliseconds(retry)).expect("at least one millisecond");
    }
    let id_at = encode_event_of_line(out, &event, field, data);
    if let (Some(LastEventId::Server(id)), Some(at)) = (id, id_at) {
        out[at..at + EventId::WIDTH].copy_from_slice(&id.encode());
    }
}

/// Whole milliseconds, at least one: `retry:` 0 would mean no wait.
fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{EpochTag, NodeId, Sequence};

    fn text(notice: Notice<'_>) -> String {
        let mut out = Vec::new();
        notice.render(&mut out, Coding::Unframed);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn connected_says_all_that_the_contract_names() {
        let id = EventId { tag: EpochTag::from_bits(0), sequence: Sequence(0) };
        let client = ClientId { secret: 1, node: NodeId::ALONE, shard: 0, slot: 2 };
        let channels = ["a", "b\""].map(|name| Selector::parse(name).unwrap());
        let retry = Duration::from_secs(3);
        assert_eq!(
            text(Notice::Connected {
                retry,
                id: Some(LastEventId::Server(id)),
                client,
                user: None,
                channels: &channels
            }),
            format!(
                "retry: 3000\nevent: connected\nid: AAAAAAAAAAA.000000000000000\ndata: {{\"connected\":true,\
                 \"clientId\":\"{client}\",\"client_id\":\"{client}\",\"userId\":null,\
                 \"channels\":[\"a\",\"b\\\"\"]}}\n\n"
            )
        );
        let begun =
            |id| text(Notice::Connected { retry, id, client, user: Some("j\"d"), channels: &channels });
        let replaying = begun(None);
        assert!(!replaying.contains("\nid:") && replaying.contains(r#","userId":"j\"d","#), "{replaying}");
        let resumed = begun(Some(LastEventId::Given(" ö")));
        assert!(resumed.starts_with("retry: 3000\nevent: connected\nid:  ö\ndata: {"), "{resumed}");
    }

    #[test]
    fn gaps_say_why_and_how_many() {
        let gap = Notice::Gap {
            reason: GapReason::HistoryExpired,
            missed: Some(3),
            last_event_id: Some("x"),
            id: None,
        };
        assert_eq!(
            text(gap),
            "event: gap\ndata: {\"reason\":\"history-expired\",\"missed\":3,\"lastEventId\":\"x\"}\n\n"
        );
        let gap = Notice::Gap { reason: GapReason::UnknownId, missed: None, last_event_id: None, id: None };
        assert!(text(gap).contains(r#"{"reason":"unknown-id","missed":null,"lastEventId":null}"#));
    }

    #[test]
    fn the_end_of_a_stream_says_when_to_come_again() {
        let retry = Duration::from_millis(1500);
        assert_eq!(
            text(Notice::Shutdown { retry, reason: "drain" }),
            "retry: 1500\n\nevent: shutdown\ndata: {\"reason\":\"drain\"}\n\n"
        );
        assert_eq!(
            text(Notice::Overloaded { retry_after: retry }),
            "retry: 1500\nevent: overloaded\ndata: {\"retryAfter\":1500}\n\n"
        );
        assert_eq!(text(Notice::Ping(KeepaliveStyle::Event)), "event: ping\ndata: {}\n\n");
        assert_eq!(text(Notice::Ping(KeepaliveStyle::Comment)), ": ping\n");
        let id = EventId { tag: EpochTag::from_bits(0), sequence: Sequence(7) };
        assert_eq!(
            text(Notice::CaughtUp { replayed: 0, complete: true, id: Some(id) }),
            "event: caught-up\nid: AAAAAAAAAAA.000000000000007\ndata: {\"replayed\":0,\"complete\":true}\n\n"
        );
        assert_eq!(
            text(Notice::CaughtUp { replayed: 2, complete: true, id: None }),
            "event: caught-up\ndata: {\"replayed\":2,\"complete\":true}\n\n"
        );
    }

    #[test]
    fn a_change_of_channels_names_the_channel_and_what_there_is_now() {
        let channels: [Arc<str>; 2] = [Arc::from("a"), Arc::from("b\"")];
        assert_eq!(
            text(Notice::Subscribed { channel: "b\"", channels: &channels }),
            "event: subscribed\ndata: {\"channel\":\"b\\\"\",\"channels\":[\"a\",\"b\\\"\"]}\n\n"
        );
        assert_eq!(
            text(Notice::Unsubscribed { channel: "c", channels: &[] }),
            "event: unsubscribed\ndata: {\"channel\":\"c\",\"channels\":[]}\n\n"
        );
    }
}
