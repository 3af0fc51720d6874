//! The reference decoder of `text/event-stream`, which follows WHATWG HTML 9.2.6 to the letter.
//!
//! It serves the client commands, tests and fuzzing. It knows no connection: when to reconnect is its caller's
//! matter, who asks it for the two things that a reconnect needs, [`Decoder::last_event_id`] and [`Decoder::retry`].

use std::time::Duration;

use memchr::memchr2;

/// Turns the bytes of a stream, in pieces of any size, into events.
///
/// Where the pieces are cut does not matter. An event that the stream's end leaves without its blank line is never
/// dispatched, and the id in it is not taken.
#[derive(Debug)]
pub struct Decoder {
    /// The bytes of a line whose end has not come.
    line: Vec<u8>,
    data: String,
    event_type: String,
    /// The id that the next dispatch takes for its own. Outlives the event that set it.
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
    event_bytes_max: usize,
    position: Position,
    has_failed: bool,
}

/// Where in the stream the next byte is, as far as its meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// In the first line, which may begin with a byte order mark.
    FirstLine,
    /// Behind a CR, which has ended its line: an LF here belongs to it.
    BehindCr,
    Elsewhere,
}

/// An event as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The type; `message` where the stream gave none.
    pub event_type: &'a str,
    /// The data, its lines joined by LF.
    pub data: &'a str,
    /// The id of this event or, where it has none, of the last one before it that had; else empty.
    pub last_event_id: &'a str,
}

impl Decoder {
    /// A decoder for a stream from its first byte, which holds at most `event_bytes_max` bytes of an unfinished event.
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

    /// Begins with the last event id of the stream before, as browsers do when they reconnect: events without an id
    /// do not take it away, as they would to the letter of the standard.
    #[must_use]
    pub fn resuming_after(self, last_event_id: &str) -> Decoder {
        Decoder { id: last_event_id.to_owned(), last_event_id: last_event_id.to_owned(), ..self }
    }

    /// Takes the stream's next bytes and hands each event to `sink` at its blank line.
    ///
    /// # Errors
    /// [`DecodeError::EventTooLong`], after the events that came before it. The stream cannot be read on: every
    /// further call fails in the same way.
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

    /// The id to resume after: that of the last block that was ended by a blank line, dispatched or not; else empty.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long the stream wants its client to wait before it reconnects, where it has said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Fails where the event would hold too much with `more` bytes of its unfinished line.
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
        // Line ends are ASCII, so that decoding line by line is the same as decoding the stream: a sequence that is
        // cut short by a line's end is malformed either way, and the line's end is kept.
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

/// A time in milliseconds; `None` if and only if `value` is not ASCII digits alone. Times too long to count are the
/// longest that can be.
fn parse_retry(value: &str) -> Option<Duration> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_millis(value.parse().unwrap_or(u64::MAX)))
}

/// Why a stream cannot be decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The server's doing: an event, or a line, that is longer than this client is willing to hold.
    #[error("the stream has an event of more than {limit_bytes} bytes")]
    EventTooLong {
        /// The decoder's `event_bytes_max`.
        limit_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` and tells each event as `type|data|id`.
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
