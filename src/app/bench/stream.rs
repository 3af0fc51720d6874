//! One stream: the head of its answer, and its events.

use super::answer::{AnswerError, Body, BodyError, Head};
use super::mark::MarkFinder;
use super::scan::{EventScanner, LineTooLong, Seen};

/// Reads the bytes of one connection that asked for a stream.
#[derive(Debug)]
pub(super) struct StreamReader {
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// The head, as far as it has come.
    Head(Vec<u8>),
    Events(Body, EventScanner),
}

/// Why a connection is not a stream, or no longer one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    #[error("{0}")]
    Answer(#[from] AnswerError),
    /// Any answer but 200 with an event stream.
    #[error("it answered {status}{detail} where a stream was asked for")]
    Refused {
        status: u16,
        /// The server's explanation after a colon; may be empty.
        detail: String,
    },
    #[error("{0}")]
    Line(#[from] LineTooLong),
}

impl StreamReader {
    pub(super) fn new() -> StreamReader {
        StreamReader { part: Part::Head(Vec::new()) }
    }

    /// Returns true if and only if the server has begun the stream.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.part, Part::Events(..))
    }

    /// Returns true if and only if the stream has ended properly.
    pub(super) fn is_done(&self) -> bool {
        match &self.part {
            Part::Head(_) => false,
            Part::Events(body, _) => body.is_done(),
        }
    }

    /// Takes the connection's next bytes, and passes each event to `sink`. Returns the head when it is
    /// complete.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        marks: &MarkFinder,
        sink: &mut impl FnMut(Seen<'_>),
    ) -> Result<Option<Head>, StreamError> {
        match &mut self.part {
            Part::Events(body, scanner) => feed_events(body, scanner, bytes, marks, sink).map(|()| None),
            Part::Head(held) => {
                held.extend_from_slice(bytes);
                let Some(head) = Head::parse(held)? else { return Ok(None) };
                let rest = held.split_off(head.bytes);
                if !head.is_stream() {
                    return Err(refused(&head, &rest));
                }
                let (mut body, mut scanner) = (head.body()?, EventScanner::new());
                let fed = feed_events(&mut body, &mut scanner, &rest, marks, sink);
                self.part = Part::Events(body, scanner);
                fed.map(|()| Some(head))
            }
        }
    }
}

fn feed_events(
    body: &mut Body,
    scanner: &mut EventScanner,
    bytes: &[u8],
    marks: &MarkFinder,
    sink: &mut impl FnMut(Seen<'_>),
) -> Result<(), StreamError> {
    match body.feed(bytes, |piece| scanner.feed(piece, marks, sink)) {
        Ok(_) => Ok(()),
        Err(BodyError::Framing(error)) => Err(error.into()),
        Err(BodyError::Sink(error)) => Err(error.into()),
    }
}

fn refused(head: &Head, rest: &[u8]) -> StreamError {
    if head.status == 200 {
        let content_type = if head.content_type.is_empty() { "no type" } else { &head.content_type };
        return StreamError::Refused { status: 200, detail: format!(" and {content_type}") };
    }
    StreamError::Refused { status: head.status, detail: detail(rest) }
}

/// The beginning of a refusal's explanation, on one line, after a colon.
pub(super) fn detail(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(DETAIL_CHARS_MAX).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {text}") }
}

const DETAIL_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::super::mark::{Intro, Mark};
    use super::super::scan::EventKind;
    use super::*;

    /// The numbers of events in the pieces, and whether the stream ended.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u64>, bool), StreamError> {
        let finder = MarkFinder::new(&Intro::new(1));
        let (mut reader, mut seen) = (StreamReader::new(), Vec::new());
        for piece in pieces {
            reader.feed(piece, &finder, &mut |event| {
                seen.push(match event {
                    Seen::Marked(mark) => mark.number,
                    Seen::Unmarked(EventKind::Gap, _) => 1000,
                    Seen::Unmarked(EventKind::Message | EventKind::Other, _) => 2000,
                });
            })?;
        }
        Ok((seen, reader.is_done()))
    }

    fn event(number: u64) -> Vec<u8> {
        let mut out = b"id: 5\ndata: ".to_vec();
        Mark { channel: 0, number, sent_ns: 1 }.write(&Intro::new(1), 40, &mut out);
        out.extend_from_slice(b"\n\n");
        out
    }

    fn chunks(body: &[u8], bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in body.chunks(bytes) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    #[test]
    fn events_are_seen_through_chunks_and_reads_cut_anywhere() {
        let body =
            [&b"event: gap\ndata: {}\n\n"[..], &event(0), &event(1), b"event: x\ndata: y\n\n"].concat();
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunk_bytes in [1, 7, 1000] {
            let wire = [&head[..], &chunks(&body, chunk_bytes)].concat();
            let expected = Ok((vec![1000, 0, 1, 2000], true));
            assert_eq!(read(wire.chunks(1)), expected);
            for cut in 0..=wire.len() {
                let (first, second) = wire.split_at(cut);
                assert_eq!(read([first, second]), expected, "chunks of {chunk_bytes}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_stream_without_framing_ends_with_its_connection() {
        let wire = [&b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"[..], &event(0)].concat();
        assert_eq!(read([&wire[..]]), Ok((vec![0], false)));
    }

    #[test]
    fn what_is_no_stream_is_reported_with_what_was_said() {
        let wire = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nno\nwhy";
        let error = read([&wire[..]]).unwrap_err();
        assert_eq!(error.to_string(), "it answered 404: no why where a stream was asked for");
        let wire = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n";
        assert!(read([&wire[..]]).unwrap_err().to_string().contains("200 and text/html"));
    }

    #[test]
    fn a_chunk_that_is_none_ends_the_stream() {
        let wire =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert!(matches!(read([&wire[..]]), Err(StreamError::Answer(AnswerError::BadFraming(_)))));
    }
}
