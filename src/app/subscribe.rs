//! `downpour subscribe`: shows the events of a stream. Reconnects as a browser's `EventSource` does
//! (WHATWG HTML 9.2.3): after the stream's own delay, with the last event id, until an answer is not a
//! stream.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use ureq::http::{HeaderValue, StatusCode};
use ureq::{Agent, Body};

use super::client::{ClientError, ServerUrl, agent};
use crate::sse::decode::{Decoded, Decoder};

/// The options of `downpour subscribe`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SubscribeOptions {
    /// The server's address: plain HTTP only, no TLS.
    #[arg(long, env = "DOWNPOUR_URL", default_value = "http://127.0.0.1:8080")]
    url: ServerUrl,
    /// A channel to subscribe to. May be given several times; "global" where none is.
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Begin after the event with this id: what came since then is shown first, as far as the server has
    /// kept it.
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// Print one JSON object a line for each event: {"event":…,"id":…,"data":…}.
    #[arg(long)]
    json: bool,
}

/// Writes events to `out` as they come, and the reason of each reconnection to `notices`.
///
/// Returns only on an error. `sleep` waits between two connections.
///
/// # Errors
/// [`ClientError`] if an answer is not a stream, an event is too long, or `out` cannot be written.
pub fn run(
    options: &SubscribeOptions,
    out: &mut impl Write,
    notices: &mut impl Write,
    mut sleep: impl FnMut(Duration),
) -> Result<(), ClientError> {
    let mut subscription = Subscription {
        agent: agent(REDIRECTS_MAX),
        url: options.url.endpoint("/sse"),
        channels: &options.channels,
        last_event_id: options.last_event_id.clone().unwrap_or_default(),
        retry_delay: RETRY_DELAY,
    };
    let mut had_failed = false;
    loop {
        match subscription.connect() {
            Ok(body) => {
                had_failed = false;
                subscription.follow(body, options.json, out)?;
            }
            Err(ClientError::NoAnswer { url, source }) => {
                // Once is enough: a server that is away stays away for many attempts.
                if !std::mem::replace(&mut had_failed, true) {
                    let delay = subscription.retry_delay;
                    // Standard error may be closed; only the events matter.
                    drop(writeln!(notices, "no answer from {url} ({source}); trying again every {delay:?}"));
                }
            }
            Err(error) => return Err(error),
        }
        sleep(subscription.retry_delay);
    }
}

/// The state that outlives a connection.
struct Subscription<'a> {
    agent: Agent,
    url: String,
    channels: &'a [String],
    last_event_id: String,
    retry_delay: Duration,
}

impl Subscription<'_> {
    fn connect(&self) -> Result<Body, ClientError> {
        let mut request = self
            .agent
            .get(&self.url)
            .header("Accept", "text/event-stream")
            .header("Cache-Control", "no-cache");
        for channel in self.channels {
            request = request.query("channel", channel);
        }
        if !self.last_event_id.is_empty() {
            request = match HeaderValue::from_bytes(self.last_event_id.as_bytes()) {
                Ok(value) => request.header("Last-Event-ID", value),
                // A stream may use control characters in its ids, which a header cannot carry.
                Err(_) => request.query("lastEventId", &self.last_event_id),
            };
        }
        let mut answer = request.call().map_err(|error| ClientError::no_answer(&self.url, error))?;
        if answer.status() != StatusCode::OK {
            return Err(ClientError::refused(answer.status(), answer.body_mut()));
        }
        let media_type = answer.body().mime_type().unwrap_or("not given").trim();
        if media_type.eq_ignore_ascii_case("text/event-stream") {
            return Ok(answer.into_body()); // Types are compared without case and parameters (RFC 9110 8.3.1).
        }
        Err(ClientError::NotAStream { url: self.url.clone(), content_type: media_type.to_owned() })
    }

    /// Shows the events of one connection until it ends, for any reason.
    fn follow(&mut self, body: Body, is_json: bool, out: &mut impl Write) -> Result<(), ClientError> {
        let mut reader = body.into_reader();
        let mut decoder = Decoder::new(EVENT_BYTES_MAX).resuming_after(&self.last_event_id);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(()), // The caller reconnects after a lost connection.
            };
            let mut written = Ok(());
            let decoded = decoder.feed(&buffer[..count], &mut |event| {
                if written.is_ok() {
                    written = show(&event, is_json, out);
                }
            });
            written.map_err(ClientError::Output)?;
            decoded?;
            self.last_event_id = decoder.last_event_id().to_owned();
            self.retry_delay = decoder.retry().unwrap_or(self.retry_delay);
        }
    }
}

fn show(event: &Decoded<'_>, is_json: bool, out: &mut impl Write) -> io::Result<()> {
    if is_json {
        serde_json::to_writer(&mut *out, &JsonEvent::from(event))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", Readable(event))?;
    }
    out.flush()
}

/// An event as one line of JSON.
#[derive(Serialize)]
struct JsonEvent<'a> {
    event: &'a str,
    id: Option<&'a str>,
    data: &'a str,
}

impl<'a> From<&Decoded<'a>> for JsonEvent<'a> {
    fn from(event: &Decoded<'a>) -> JsonEvent<'a> {
        let id = Some(event.last_event_id).filter(|id| !id.is_empty());
        JsonEvent { event: event.event_type, id, data: event.data }
    }
}

/// An event for people: its fields on lines of their own, and a blank line.
struct Readable<'a>(&'a Decoded<'a>);

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "event: {}", self.0.event_type)?;
        if !self.0.last_event_id.is_empty() {
            writeln!(f, "id: {}", self.0.last_event_id)?;
        }
        for line in self.0.data.split('\n') {
            writeln!(f, "data: {line}")?;
        }
        writeln!(f)
    }
}

/// Until the stream sets another: roughly the default of browsers.
const RETRY_DELAY: Duration = Duration::from_secs(3);

/// Roughly as many as browsers follow.
const REDIRECTS_MAX: u32 = 10;

/// Far above what servers let through. It bounds the memory that a broken server can take.
const EVENT_BYTES_MAX: usize = 64 << 20;

const READ_BYTES: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  downpour subscribe --channel news
  downpour subscribe --channel scores --channel news --json | jq .data

Events go to standard output, notices about the connection to standard error. A lost connection is made again after \
the delay that the stream asked for, without losing events. An answer that is no event stream ends the command with \
exit code 1.";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event: Decoded<'_>, is_json: bool) -> String {
        let mut out = Vec::new();
        show(&event, is_json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_shown_field_by_field() {
        let event = Decoded { event_type: "goal", data: "2:1\nat home", last_event_id: "t.7" };
        assert_eq!(shown(event, false), "event: goal\nid: t.7\ndata: 2:1\ndata: at home\n\n");
        assert_eq!(shown(event, true), "{\"event\":\"goal\",\"id\":\"t.7\",\"data\":\"2:1\\nat home\"}\n");
    }

    #[test]
    fn an_event_without_id_has_none() {
        let event = Decoded { event_type: "message", data: "", last_event_id: "" };
        assert_eq!(shown(event, false), "event: message\ndata: \n\n");
        assert_eq!(shown(event, true), "{\"event\":\"message\",\"id\":null,\"data\":\"\"}\n");
    }
}
