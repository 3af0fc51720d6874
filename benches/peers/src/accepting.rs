//! A server that takes streams and sends only the answer to each: the limit for a connect, and for the
//! kernel's memory of an unused socket.

use std::io::{self, Read, Write};
use std::net::TcpListener;

use crate::{ANY_PORT, READ_BYTES, STREAM_HEAD, say_address};

/// The end of an answer: that of a chunk with an event.
const END: &[u8] = b"\n\n\r\n";

/// Serves until a call fails: an accept, a receive, a send of `answer_bytes`, and nothing else. A
/// connection with `POST` closes all streams.
pub(crate) fn serve(answer_bytes: usize) -> io::Result<()> {
    let mut answer = STREAM_HEAD.to_vec();
    answer.resize(answer_bytes.saturating_sub(END.len()).max(answer.len()), b'x');
    answer.extend_from_slice(END);
    let listener = TcpListener::bind(ANY_PORT)?;
    say_address(listener.local_addr()?);
    let (mut streams, mut buffer) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let (mut socket, _) = listener.accept()?;
        let bytes = socket.read(&mut buffer)?;
        if buffer[..bytes].starts_with(b"POST ") {
            streams.clear();
            continue;
        }
        socket.write_all(&answer)?;
        streams.push(socket);
    }
}
