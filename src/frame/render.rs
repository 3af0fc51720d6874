//! How the server's own events become frames.
//!
//! A frame is one event as `text/event-stream` (WHATWG HTML 9.2) inside one [`chunk`] of HTTP/1.1 chunked
//! transfer coding. So the bytes of a stream are frames one after the other and nothing else.
//! [`crate::frame::coding`] has the same frames for readers without chunked coding.

use crate::frame::chunk;
use crate::frame::coding::Coding;

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

    #[test]
    fn what_the_server_says_itself_is_framed_as_the_stream_is() {
        let mut out = b"-".to_vec();
        render_own(&mut out, Coding::Chunked, |out| out.extend_from_slice(b":\n\n"));
        render_own(&mut out, Coding::Unframed, |out| out.extend_from_slice(b":\n\n"));
        assert_eq!(out, b"-3\r\n:\n\n\r\n:\n\n");
    }
}
