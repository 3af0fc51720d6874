//! Encodes events, comments and reconnection times as `text/event-stream` (WHATWG HTML 9.2.5).
//!
//! Every function appends complete output to the caller's buffer. A block ends with the blank line on
//! which a client acts. A comment needs none, since no client acts on it. HTTP framing is not known
//! here.

use memchr::memchr2;

use super::event::Event;
use crate::base::decimal::push_decimal;

/// Which id an encoded event has. The event's own id is written only if it is named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdField<'a> {
    /// No id: the client keeps the last one that it saw.
    None,
    /// This id, which has one line and no NUL.
    Text(&'a str),
    /// An id of this many bytes. The caller fills it in once the event's place in the sequence is known.
    Reserved(usize),
}

/// Appends `event` with `id`. The fields come in the order `retry`, `event`, `id`, `data`.
///
/// Returns the place of the id's text in `out`. For [`IdField::Reserved`], the reserved bytes hold `0`
/// until they are filled in. `None` if and only if there is no id.
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>, id: IdField<'_>) -> Option<usize> {
    let id_at = push_fields(out, event, id);
    push_lines(out, b"data:", event.data());
    out.push(b'\n');
    id_at
}

/// As [`encode_event`], for an event whose data is appended by `data`. The data must be one line of at
/// least a byte, as JSON is, so that nothing searches it for line ends.
pub fn encode_event_of_line(
    out: &mut Vec<u8>,
    event: &Event<'_>,
    id: IdField<'_>,
    data: impl FnOnce(&mut Vec<u8>),
) -> Option<usize> {
    let id_at = push_fields(out, event, id);
    out.extend_from_slice(b"data: ");
    let data_from = out.len();
    data(out);
    debug_assert!(
        out.len() > data_from && memchr2(b'\r', b'\n', &out[data_from..]).is_none(),
        "it is a line"
    );
    out.extend_from_slice(b"\n\n");
    id_at
}

/// Appends a comment with one line for each line of `text`. Clients ignore it, but it shows that the
/// connection is alive. No blank line follows, since some clients take every blank line for the end of
/// an event.
pub fn encode_comment(out: &mut Vec<u8>, text: &str) {
    push_lines(out, b":", text);
}

/// Appends a block that only sets the client's reconnection time, in milliseconds. It dispatches no
/// event.
pub fn encode_retry(out: &mut Vec<u8>, retry_ms: u64) {
    push_retry(out, retry_ms);
    out.push(b'\n');
}

/// Appends the fields before the data. Returns the place of the id's text.
fn push_fields(out: &mut Vec<u8>, event: &Event<'_>, id: IdField<'_>) -> Option<usize> {
    if let Some(retry_ms) = event.retry_ms() {
        push_retry(out, retry_ms);
    }
    if let Some(event_type) = event.event_type() {
        push_line(out, b"event: ", event_type.as_bytes());
    }
    push_id(out, id)
}

fn push_id(out: &mut Vec<u8>, id: IdField<'_>) -> Option<usize> {
    match id {
        IdField::None => None,
        IdField::Text(text) => {
            debug_assert!(!text.contains(['\r', '\n', '\0']), "{text:?} is not an id");
            let at = out.len() + b"id: ".len();
            push_line(out, b"id: ", text.as_bytes());
            Some(at)
        }
        IdField::Reserved(bytes) => {
            out.extend_from_slice(b"id: ");
            let at = out.len();
            out.resize(at + bytes, b'0');
            out.push(b'\n');
            Some(at)
        }
    }
}

fn push_retry(out: &mut Vec<u8>, retry_ms: u64) {
    out.extend_from_slice(b"retry: ");
    push_decimal(out, retry_ms);
    out.push(b'\n');
}

/// Appends one line for each line of `text`. CR, LF and CRLF each start a new line (WHATWG HTML 9.2.5,
/// `end-of-line`).
fn push_lines(out: &mut Vec<u8>, field: &[u8], text: &str) {
    let mut rest = text.as_bytes();
    while let Some(end) = memchr2(b'\r', b'\n', rest) {
        push_value(out, field, &rest[..end]);
        let break_bytes = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + break_bytes..];
    }
    push_value(out, field, rest);
}

/// Appends a field's line. A decoder removes one space after the colon, so a space that begins the value
/// is kept.
fn push_value(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    if !value.is_empty() {
        out.push(b' ');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn push_line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(event: Event<'_>, id: IdField<'_>) -> String {
        let mut out = Vec::new();
        encode_event(&mut out, &event, id);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_come_in_their_order() {
        let event = Event::new("x").with_id("own").unwrap().with_type("t").unwrap().with_retry(250).unwrap();
        assert_eq!(encoded(event, IdField::Text("7")), "retry: 250\nevent: t\nid: 7\ndata: x\n\n");
        assert_eq!(encoded(event, IdField::None), "retry: 250\nevent: t\ndata: x\n\n");
    }

    #[test]
    fn every_kind_of_line_break_begins_a_data_line() {
        for (data, lines) in [
            ("", "data:\n"),
            ("a", "data: a\n"),
            ("a\nb\rc\r\nd", "data: a\ndata: b\ndata: c\ndata: d\n"),
            ("\n", "data:\ndata:\n"),
            ("a\n", "data: a\ndata:\n"),
            ("\r\n\r\n", "data:\ndata:\ndata:\n"),
            ("\n\r", "data:\ndata:\ndata:\n"),
            (" a", "data:  a\n"),
            (":", "data: :\n"),
        ] {
            assert_eq!(encoded(Event::new(data), IdField::None), format!("{lines}\n"), "{data:?}");
        }
    }

    #[test]
    fn a_reserved_id_can_be_filled_in_later() {
        let mut out = b"before".to_vec();
        let at = encode_event(&mut out, &Event::new("x"), IdField::Reserved(3)).unwrap();
        assert_eq!(out, b"beforeid: 000\ndata: x\n\n");
        out[at..at + 3].copy_from_slice(b"abc");
        assert_eq!(out, b"beforeid: abc\ndata: x\n\n");
        assert_eq!(encode_event(&mut out, &Event::new("x"), IdField::None), None);
        let at = encode_event(&mut out, &Event::new("x"), IdField::Text("1")).unwrap();
        assert_eq!(&out[at - 4..=at], b"id: 1");
    }

    #[test]
    fn reconnection_times_are_blocks_of_their_own_and_comments_are_not() {
        let mut out = Vec::new();
        encode_comment(&mut out, "");
        encode_comment(&mut out, "a\nb");
        encode_retry(&mut out, 3000);
        assert_eq!(out, b":\n: a\n: b\nretry: 3000\n\n");
    }
}
