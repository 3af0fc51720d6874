//! A decoder of `text/event-stream` (WHATWG HTML 9.2.6) for a load test. It finds the [`Mark`] of an
//! event, or else whether it is a `gap`, and the `gap`'s data.
//!
//! Its result agrees with [`crate::sse::decode`] at a fraction of the cost: it copies only lines that
//! span two reads, and the data of events without a mark.

use memchr::memchr2;

use super::mark::{Mark, MarkFinder};

/// Decodes the body of a stream, in pieces of any size.
#[derive(Debug)]
pub(super) struct EventScanner {
    /// The bytes of a line whose end has not come.
    line: Vec<u8>,
    /// The data of an event without a mark so far, lines joined by LF, up to [`TEXT_BYTES_MAX`].
    text: Vec<u8>,
    mark: Option<Mark>,
    kind: EventKind,
    has_data: bool,
    is_behind_cr: bool,
    is_first_line: bool,
}

/// The types of events that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// No type, or an empty one.
    Message,
    /// `gap`: the server says that events are missing.
    Gap,
    /// Any other.
    Other,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// An event of this run.
    Marked(Mark),
    /// Any other event, with the beginning of its data.
    Unmarked(EventKind, &'a [u8]),
}

/// A line longer than that of any event in a load test. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has a line of more than {LINE_BYTES_MAX} bytes")]
pub(super) struct LineTooLong;

impl EventScanner {
    pub(super) fn new() -> EventScanner {
        EventScanner {
            line: Vec::new(),
            text: Vec::new(),
            mark: None,
            kind: EventKind::Message,
            has_data: false,
            is_behind_cr: false,
            is_first_line: true,
        }
    }

    /// Takes the stream's next bytes, and passes each event to `sink` at its blank line.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        marks: &MarkFinder,
        sink: &mut impl FnMut(Seen<'_>),
    ) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        if self.is_behind_cr && !rest.is_empty() {
            self.is_behind_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (piece, behind) = (&rest[..end], &rest[end + 1..]);
            let is_cr = rest[end] == b'\r';
            rest = behind;
            if self.line.is_empty() {
                self.end_line(piece, marks, sink);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                self.end_line(&line, marks, sink);
                line.clear();
                self.line = line;
            }
            if is_cr {
                self.is_behind_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        if self.line.len() + rest.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }

    fn end_line(&mut self, line: &[u8], marks: &MarkFinder, sink: &mut impl FnMut(Seen<'_>)) {
        let mut line = line;
        if self.is_first_line {
            self.is_first_line = false;
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(sink);
        } else if let Some(value) = value_of(line, b"data") {
            self.take_data(value, marks);
        } else if let Some(value) = value_of(line, b"event") {
            self.kind = match value {
                b"" => EventKind::Message,
                b"gap" => EventKind::Gap,
                _ => EventKind::Other,
            };
        }
    }

    fn take_data(&mut self, value: &[u8], marks: &MarkFinder) {
        if self.mark.is_none() {
            self.mark = marks.find(value);
            if self.mark.is_none() {
                if self.has_data {
                    self.text.push(b'\n');
                }
                let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
                self.text.extend_from_slice(&value[..value.len().min(room)]);
            }
        }
        self.has_data = true;
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Seen<'_>)) {
        if let Some(mark) = self.mark.take() {
            sink(Seen::Marked(mark));
        } else if self.has_data {
            sink(Seen::Unmarked(self.kind, &self.text));
        }
        self.text.clear();
        self.kind = EventKind::Message;
        self.has_data = false;
    }
}

/// The value of a line's field, if its name is `name`.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// More than any data that is looked at, such as that of a `gap`.
const TEXT_BYTES_MAX: usize = 4096;

/// Above the largest data that is sent, with any text that a server wraps it in.
const LINE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::mark::Intro;
    use super::*;
    use crate::sse::decode::Decoder;

    fn finder() -> MarkFinder {
        MarkFinder::new(&Intro::new(1))
    }

    /// The events in the pieces: `mark N`, or the kind and the data.
    fn seen<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut scanner, finder, mut seen) = (EventScanner::new(), finder(), Vec::new());
        for piece in pieces {
            let mut sink = |event: Seen<'_>| {
                seen.push(match event {
                    Seen::Marked(mark) => format!("mark {}", mark.number),
                    Seen::Unmarked(kind, text) => format!("{kind:?} {}", String::from_utf8_lossy(text)),
                });
            };
            scanner.feed(piece, &finder, &mut sink).unwrap();
        }
        seen
    }

    /// The same by the reference decoder.
    fn reference(bytes: &[u8]) -> Vec<String> {
        let (finder, mut seen) = (finder(), Vec::new());
        let mut sink = |event: crate::sse::decode::Decoded<'_>| {
            let kind = match event.event_type {
                "message" => EventKind::Message,
                "gap" => EventKind::Gap,
                _ => EventKind::Other,
            };
            seen.push(match finder.find(event.data.as_bytes()) {
                Some(mark) => format!("mark {}", mark.number),
                None => format!("{kind:?} {}", event.data),
            });
        };
        Decoder::new(1 << 20).feed(bytes, &mut sink).unwrap();
        seen
    }

    /// A type `message` given by name is the default type to a client. Here it matters only without a
    /// mark.
    fn agrees(bytes: &[u8], what: &str) {
        let named = |seen: Vec<String>| -> Vec<String> {
            seen.into_iter().map(|event| event.replacen("Other ", "Message ", 1)).collect()
        };
        let expected = named(reference(bytes));
        assert_eq!(named(seen([bytes])), expected, "{what}");
        assert_eq!(named(seen(bytes.chunks(1))), expected, "{what}, byte by byte");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(named(seen([head, tail])), expected, "{what}, cut at {cut}");
        }
    }

    #[derive(Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        stream: Option<String>,
    }

    #[test]
    fn it_agrees_with_the_reference_decoder_on_the_shared_vectors() {
        let file: Vectors = serde_json::from_str(include_str!("../../../tests/vectors/sse.json")).unwrap();
        let texts = file.vectors.iter().filter_map(|vector| Some((&vector.name, vector.stream.as_ref()?)));
        assert!(texts.clone().count() > 20);
        for (name, stream) in texts {
            agrees(stream.as_bytes(), name);
        }
    }

    #[test]
    fn marks_and_gaps_are_seen_wherever_the_stream_is_cut() {
        let mut stream = b"retry: 5\nevent: connected\nid: a\ndata: {}\n\n".to_vec();
        for number in 0..3 {
            stream.extend_from_slice(b"id: 7\r\ndata: ");
            Mark { channel: 0, number, sent_ns: 5 }.write(&Intro::new(1), 40, &mut stream);
            stream.extend_from_slice(b"\r\n\r\n");
        }
        stream.extend_from_slice(b"event: gap\ndata: {\"missed\":3}\n\n: ping\nevent: gap\n\n");
        agrees(&stream, "a stream of marks");
        let expected = ["Other {}", "mark 0", "mark 1", "mark 2", "Gap {\"missed\":3}"];
        assert_eq!(seen([&stream[..]]), expected);
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut scanner = EventScanner::new();
        let piece = vec![b'x'; LINE_BYTES_MAX / 2];
        let mut feed = || scanner.feed(&piece, &finder(), &mut |_| ());
        assert_eq!([feed(), feed(), feed()], [Ok(()), Ok(()), Err(LineTooLong)]);
    }
}
