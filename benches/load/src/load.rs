//! The streams and events of a load: the same for every server that takes part.

use downpour::Event;
use downpour::frame::chunk::Chunk;
use downpour::record::Events;
use serde::{Deserialize, Serialize};

use crate::http::request;

/// The end of every event's data, and only there: ids have only unreserved characters (RFC 3986 2.3).
pub const MARK: u8 = b'|';

/// The number of the pace that publishes an event once every stream has the one before.
pub const UNBATCHED: usize = 0;

/// The number of the pace that publishes as fast as events are taken. Only with one channel.
pub const SATURATED: usize = 1;

/// Events of one request at saturation, and requests under way.
const SEVERAL_EVENTS: usize = 64;
const SEVERAL_UNDER_WAY: usize = 8;

/// Streams of one server and their events.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Load {
    /// The number of streams.
    pub streams: usize,
    /// Channels that streams take in turn.
    pub channels: usize,
    /// Bytes of an event's data.
    pub event_bytes: usize,
    /// Channels of each stream beside its own. Nothing is published to them.
    pub further_channels: usize,
    /// Every stream has a user of its own.
    pub has_users: bool,
    /// Streams are requested by HTTP/1.0.
    pub is_http10: bool,
}

/// How events are published.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// One request.
    pub request: Vec<u8>,
    /// Events of each request that a stream receives.
    pub events: usize,
    /// Most requests whose event some stream has yet to receive.
    pub under_way_max: usize,
}

impl Load {
    /// Streams of one channel each, the same channel for all.
    pub fn new(streams: usize, event_bytes: usize) -> Load {
        Load { streams, channels: 1, event_bytes, further_channels: 0, has_users: false, is_http10: false }
    }

    /// The request of a stream.
    pub fn stream_request(&self, stream: usize) -> String {
        let channel = stream % self.channels;
        let mut query = String::new();
        (0..self.further_channels).for_each(|further| query += &format!("&channel=further-{further}"));
        if self.has_users {
            query += &format!("&userId=user-{stream}");
        }
        let version = if self.is_http10 { "1.0" } else { "1.1" };
        format!(
            "GET /sse?channel={channel}{query} HTTP/{version}\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
    }

    /// The paces, by their numbers.
    pub fn paces(&self) -> Vec<Publishing> {
        let lines: String = (0..self.channels).map(|channel| self.envelope(channel) + "\n").collect();
        if self.channels > 1 {
            return vec![Publishing { request: post("x-ndjson", &lines), events: 1, under_way_max: 1 }];
        }
        let single = Publishing { request: post("json", &self.envelope(0)), events: 1, under_way_max: 1 };
        let several = Publishing {
            request: post("x-ndjson", &lines.repeat(SEVERAL_EVENTS)),
            events: SEVERAL_EVENTS,
            under_way_max: SEVERAL_UNDER_WAY,
        };
        vec![single, several]
    }

    /// The arguments of a server that parses nothing: bytes of a frame, of the two kinds of requests,
    /// and events.
    pub fn peer_arguments(&self) -> Vec<String> {
        let data = self.data();
        let mut events = Events::new();
        events.push(&["a"], &Event::new(&data));
        let mut numbers = vec![Chunk::of(events.get(0).text.len()).bytes()];
        numbers.extend(self.paces().iter().map(|pace| pace.request.len()));
        numbers.push(SEVERAL_EVENTS);
        numbers.iter().map(usize::to_string).collect()
    }

    fn data(&self) -> String {
        format!("{}{}", "x".repeat(self.event_bytes - 1), char::from(MARK))
    }

    fn envelope(&self, channel: usize) -> String {
        format!("{{\"channel\":\"{channel}\",\"data\":\"{}\"}}", self.data())
    }
}

/// A request that publishes.
pub fn post(kind: &str, body: &str) -> Vec<u8> {
    request("POST", "/publish", &format!("Content-Type: application/{kind}\r\n"), body).into_bytes()
}
