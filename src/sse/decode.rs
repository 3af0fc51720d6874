//! The reference decoder of `text/event-stream`, which follows WHATWG HTML 9.2.6 to the letter.
//!
//! The client commands, tests and fuzzing use it. It knows no connection: its caller decides when to
//! reconnect, by [`Decoder::last_event_id`] and [`Decoder::retry`].

use std::time::Duration;

use memchr::memchr2;

/// Decodes the bytes of a stream, in pieces of any size, into events.
///
/// It does not matter where the pieces are cut. If the stream ends before an event's blank line, the
/// event is not dispatched and its id is not taken.
#[derive(Debug)]
pub struct Decoder {
    /// An unfinished line.
    line: Vec<u8>,
    data: String,
    event_type: String,
    /// The id of the next dispatched event. Outlives the event that set it.
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
    event_bytes_max: usize,
    position: Position,
    has_failed: bool,
}

/// The position of the next byte, as far as it affects the byte's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// In the first line, which may begin with a byte order mark.
    FirstLine,
    /// Behind a CR that ended its line: an LF here belongs to the CR.
    BehindCr,
    Elsewhere,
}

/// An event as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The type, or `message` if the stream gave none.
    pub event_type: &'a str,
    /// The data, its lines joined by LF.
    pub data: &'a str,
    /// The id of this event. If it has none, the id of the last event before it that had one, or else
    /// empty.
    pub last_event_id: &'a str,
}

impl Decoder {
    /// A decoder for a stream from its first byte. It holds at most `event_bytes_max` bytes of an
    /// unfinished event.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Decoder {
        Decoder {
            line: Vec::new(),
            data: String::new(),
            event_type: String::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry: None,
            event_bytes_max,
            position: Position::FirstLine,
            has_failed: false,
        }
    }

    /// Starts with the last event id of the previous stream, as browsers do when they reconnect. Events
    /// without an id keep it, although the letter of the standard would clear it.
    #[must_use]
    pub fn resuming_after(self, last_event_id: &str) -> Decoder {
        Decoder { id: last_event_id.to_owned(), last_event_id: last_event_id.to_owned(), ..self }
    }

    /// Takes the next bytes of the stream. Passes each event to `sink` at its blank line.
    ///
    /// # Errors
    /// [`DecodeError::EventTooLong`], after the events before it. The stream is unreadable from then on:
    /// every further call fails in the same way.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(Decoded<'_>)) -> Result<(), DecodeError> {
        if self.has_failed {
            return Err(DecodeError::EventTooLong { limit_bytes: self.event_bytes_max });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.position == Position::BehindCr {
                self.position = Position::Elsewhere;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            let line_end = memchr2(b'\r', b'\n', rest);
            let (piece, behind) = rest.split_at(line_end.unwrap_or(rest.len()));
            self.check_bound(piece.len())?;
            let Some((&end, behind)) = behind.split_first() else {
                self.line.extend_from_slice(piece);
                break;
            };
            self.end_line(piece, sink);
            self.position = if end == b'\r' { Position::BehindCr } else { Position::Elsewhere };
            rest = behind;
        }
        Ok(())
    }

    /// The id to resume after: the id at the last blank line, whether or not an event was dispatched
    /// there. Else empty.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long the client should wait before it reconnects, if the stream has said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Fails if the event would hold too many bytes with `more` bytes of its unfinished line.
    fn check_bound(&mut self, more: usize) -> Result<(), DecodeError> {
        let held = self.line.len() + self.data.len() + self.event_type.len();
        if held + more > self.event_bytes_max {
            self.has_failed = true;
            return Err(DecodeError::EventTooLong { limit_bytes: self.event_bytes_max });
        }
        Ok(())
    }

    /// Handles the line that `piece` completes.
    fn end_line(&mut self, piece: &[u8], sink: &mut impl FnMut(Decoded<'_>)) {
        if self.line.is_empty() {
            self.handle_line(piece, sink);
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(piece);
        self.handle_line(&line, sink);
        line.clear();
        self.line = line;
    }

    fn handle_line(&mut self, line: &[u8], sink: &mut impl FnMut(Decoded<'_>)) {
        let line = match self.position {
            Position::FirstLine => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
            Position::BehindCr | Position::Elsewhere => line,
        };
        if line.is_empty() {
            self.dispatch(sink);
            return;
        }
        // Line ends are ASCII, so decoding line by line equals decoding the stream: a sequence that a
        // line end cuts short is malformed either way, and the line end is kept.
        let line = String::from_utf8_lossy(line);
        match line.split_once(':') {
            Some(("", _comment)) => {}
            Some((name, value)) => self.handle_field(name, value.strip_prefix(' ').unwrap_or(value)),
            None => self.handle_field(&line, ""),
        }
    }

    fn handle_field(&mut self, name: &str, value: &str) {
        match name {
            "event" => value.clone_into(&mut self.event_type),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" => self.retry = parse_retry(value).or(self.retry),
            _ => {}
        }
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Decoded<'_>)) {
        self.last_event_id.clone_from(&self.id);
        if let Some(data) = self.data.strip_suffix('\n') {
            let event_type = if self.event_type.is_empty() { "message" } else { &self.event_type };
            sink(Decoded { event_type, data, last_event_id: &self.last_event_id });
        }
        self.data.clear();
        self.event_type.clear();
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A time in milliseconds. `None` if `value` has anything but ASCII digits. A number that is too large
/// becomes the longest time.
fn parse_retry(value: &str) -> Option<Duration> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_millis(value.parse().unwrap_or(u64::MAX)))
}

/// Why a stream cannot be decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The server's fault: an event or line that is longer than this client is willing to hold.
    #[error("the stream has an event of more than {limit_bytes} bytes")]
    EventTooLong {
        /// The decoder's `event_bytes_max`.
        limit_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` and lists each event as `type|data|id`.
    fn decode(decoder: &mut Decoder, pieces: &[&str]) -> Result<Vec<String>, DecodeError> {
        let mut seen = Vec::new();
        let mut sink = |event: Decoded<'_>| {
            seen.push(format!("{}|{}|{}", event.event_type, event.data, event.last_event_id));
        };
        pieces.iter().try_for_each(|piece| decoder.feed(piece.as_bytes(), &mut sink))?;
        Ok(seen)
    }

    #[test]
    fn an_event_comes_with_its_blank_line_and_not_before() {
        let mut decoder = Decoder::new(1000);
        assert_eq!(decode(&mut decoder, &["data: a\n"]).unwrap(), [""; 0]);
        assert_eq!(decode(&mut decoder, &["\r"]).unwrap(), ["message|a|"]);
        assert_eq!(decode(&mut decoder, &["\ndata: b\n\n"]).unwrap(), ["message|b|"]);
    }

    #[test]
    fn the_id_to_resume_after_is_taken_at_the_blank_line() {
        let mut decoder = Decoder::new(1000);
        decode(&mut decoder, &["id: 1\ndata: a\n"]).unwrap();
        assert_eq!(decoder.last_event_id(), "");
        decode(&mut decoder, &["\nid: 2\n"]).unwrap();
        assert_eq!(decoder.last_event_id(), "1");
        decode(&mut decoder, &["\n"]).unwrap();
        assert_eq!(decoder.last_event_id(), "2");
    }

    #[test]
    fn an_id_outlives_a_reconnect_whose_first_events_have_none() {
        let mut decoder = Decoder::new(1000).resuming_after("7");
        assert_eq!(decoder.last_event_id(), "7");
        assert_eq!(
            decode(&mut decoder, &["data: a\n\nid\ndata: b\n\n"]).unwrap(),
            ["message|a|7", "message|b|"]
        );
        assert_eq!(decoder.last_event_id(), "");
    }

    #[test]
    fn the_reconnection_time_is_known_at_its_line() {
        let mut decoder = Decoder::new(1000);
        assert_eq!(decoder.retry(), None);
        decode(&mut decoder, &["retry: 250\nretry: x\nretry\n"]).unwrap();
        assert_eq!(decoder.retry(), Some(Duration::from_millis(250)));
        decode(&mut decoder, &["retry: 99999999999999999999\n"]).unwrap();
        assert_eq!(decoder.retry(), Some(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn an_event_over_the_bound_fails_the_stream_for_good() {
        let failed = Err(DecodeError::EventTooLong { limit_bytes: 12 });
        for pieces in
            [&["data: 123456", "7\n\n"][..], &["data:12345678\n\n"], &["event:1\ndata:12", "\ndata:1234"]]
        {
            let mut decoder = Decoder::new(12);
            assert_eq!(decode(&mut decoder, pieces), failed, "{pieces:?}");
            assert_eq!(decode(&mut decoder, &["\n"]), failed);
        }
    }

    #[test]
    fn the_bound_is_for_each_event_alone() {
        let mut decoder = Decoder::new(12);
        let pieces = ["data: 123456\n\n".repeat(100)];
        assert_eq!(decode(&mut decoder, &[&pieces[0]]).unwrap().len(), 100);
    }
}
