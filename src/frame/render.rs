//! The only place where an event becomes the bytes of a frame.
//!
//! A frame is one event as `text/event-stream` (WHATWG HTML 9.2) inside one [`chunk`] of HTTP/1.1 chunked
//! transfer coding. So the bytes of a stream are frames one after the other and nothing else.
//! [`crate::frame::coding`] has the same frames for readers without chunked coding.

use std::ops::Range;

use crate::base::id::EventId;
use crate::frame::chunk;
use crate::frame::coding::Coding;
use crate::sse::encode::{IdField, encode_event};
use crate::sse::event::Event;

/// Where a frame is in the buffer that it was rendered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Its first byte.
    pub from: usize,
    /// The place behind its last byte.
    pub to: usize,
    /// Where the id of [`EventId::WIDTH`] bytes goes once it is known, counted from `from`. `None` if
    /// the event has its publisher's id or no id.
    pub id_at: Option<usize>,
    /// The range of its publisher's id, counted from `from`.
    pub own_id: Option<Range<usize>>,
}

/// Renders an event as a frame behind the contents of `out`. Reserves room for the server's id unless
/// the event has its own.
///
/// Up to ten bytes before the frame are filler, since a chunk's length is known only after its data.
///
/// # Panics
/// If the frame is 4 GiB or longer. Bodies are bounded far below that.
pub fn render(out: &mut Vec<u8>, event: &Event<'_>) -> Rendered {
    let id = match event.id() {
        Some(text) => IdField::Text(text),
        None => IdField::Reserved(EventId::WIDTH),
    };
    let (from, id_at) = chunk::append_with(out, |out| encode_event(out, event, id));
    let id_at = id_at.map(|at| at - from);
    let (id_at, own_id) = match event.id() {
        Some(text) => (None, id_at.map(|at| at..at + text.len())),
        None => (id_at, None),
    };
    Rendered { from, to: out.len(), id_at, own_id }
}

/// Renders an event or comment of the server itself in this coding. `encode` writes its text.
pub fn render_own(out: &mut Vec<u8>, coding: Coding, encode: impl FnOnce(&mut Vec<u8>)) {
    match coding {
        Coding::Unframed => encode(out),
        Coding::Chunked => {
            let start = out.len();
            let (from, ()) = chunk::append_with(out, encode);
            out.drain(start..from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(event: &Event<'_>) -> (String, Option<usize>) {
        let mut out = b"before".to_vec();
        let Rendered { from, to, id_at, own_id } = render(&mut out, event);
        assert_eq!(to, out.len());
        let own_id = own_id.map(|range| String::from_utf8(out[from..to][range].to_vec()).unwrap());
        assert_eq!(own_id.as_deref(), event.id());
        (String::from_utf8(out[from..to].to_vec()).unwrap(), id_at)
    }

    #[test]
    fn a_frame_is_one_chunk_with_room_for_the_id() {
        let (text, id_at) = rendered(&Event::new("hello"));
        let id_at = id_at.unwrap();
        assert!(text.starts_with("2d\r\nid: "), "{text:?}");
        assert!(text.ends_with("\ndata: hello\n\n\r\n"), "{text:?}");
        assert_eq!(&text[id_at - 4..id_at], "id: ");
        assert_eq!(&text[id_at + EventId::WIDTH..][..1], "\n");
    }

    #[test]
    fn a_publishers_own_id_stays_as_it_is() {
        let event = Event::new("x").with_id("mine").unwrap();
        assert_eq!(rendered(&event), ("12\r\nid: mine\ndata: x\n\n\r\n".to_owned(), None));
    }

    #[test]
    fn what_the_server_says_itself_is_framed_as_the_stream_is() {
        let mut out = b"-".to_vec();
        render_own(&mut out, Coding::Chunked, |out| out.extend_from_slice(b":\n\n"));
        render_own(&mut out, Coding::Unframed, |out| out.extend_from_slice(b":\n\n"));
        assert_eq!(out, b"-3\r\n:\n\n\r\n:\n\n");
    }
}
