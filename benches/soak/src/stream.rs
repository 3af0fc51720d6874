//! One connection to an event stream, read without waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use downpour::sse::decode::Decoder;
use socket2::{Domain, SockRef, Socket, Type};

use crate::chunks::Chunks;
use crate::tracker::{Told, Tracker};
use downpour_load::http;

/// The request for a stream.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: String,
    /// By HTTP/1.0, whose streams have no chunks.
    pub(crate) is_old: bool,
    /// The kernel buffers little for a client that does not read.
    pub(crate) is_narrow: bool,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    /// The bytes of an incomplete response head.
    head: Vec<u8>,
    has_head: bool,
    chunks: Option<Chunks>,
    decoder: Decoder,
    /// The server has announced the end of the stream.
    told_end: bool,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Open,
    /// The server has ended the stream; `told` if an event announced it, `is_whole` if the answer was
    /// complete.
    Ended {
        told: bool,
        is_whole: bool,
    },
}

impl Stream {
    /// Connects and sends the request, with the last event id where it is not empty.
    pub(crate) fn open(
        address: SocketAddr,
        request: &Request,
        last_event_id: &str,
    ) -> anyhow::Result<Stream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if request.is_narrow {
            socket.set_recv_buffer_size(4096)?;
        }
        socket.connect(&address.into()).context("a stream cannot connect")?;
        let mut socket = TcpStream::from(socket);
        let version = if request.is_old { "1.0" } else { "1.1" };
        let id = match last_event_id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        let target = &request.target;
        let head = format!(
            "GET {target} HTTP/{version}\r\nHost: localhost\r\nAccept: text/event-stream\r\n{id}\r\n"
        );
        socket.write_all(head.as_bytes())?;
        socket.set_nonblocking(true)?;
        let decoder = Decoder::new(EVENT_BYTES_MAX).resuming_after(last_event_id);
        Ok(Stream { socket, head: Vec::new(), has_head: false, chunks: None, decoder, told_end: false })
    }

    /// Reads available bytes, up to a bound, and passes every event to `tracker`; `count` counts each.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(crate) fn poll(
        &mut self,
        buffer: &mut [u8],
        tracker: &mut Tracker,
        count: &mut impl FnMut(Told),
    ) -> Result<Polled, String> {
        for _ in 0..READS_MAX {
            let read = match self.socket.read(buffer) {
                Ok(0) => return Ok(self.ended()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(self.ended()),
            };
            let mut told_end = false;
            self.feed(&buffer[..read], tracker, &mut |event| {
                told_end |= event == Told::End;
                count(event);
            })?;
            self.told_end |= told_end;
        }
        Ok(Polled::Open)
    }

    /// The result of the end of the connection. Without chunks, any end after the head is proper.
    fn ended(&self) -> Polled {
        let is_whole = self.has_head && self.chunks.as_ref().is_none_or(Chunks::are_done);
        Polled::Ended { told: self.told_end, is_whole }
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        tracker: &mut Tracker,
        count: &mut impl FnMut(Told),
    ) -> Result<(), String> {
        if self.has_head {
            return self.feed_body(bytes, tracker, count);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
        let body = self.head.split_off(end + 4);
        let head = String::from_utf8_lossy(&std::mem::take(&mut self.head)).into_owned();
        if http::status(&head) != Some(200) {
            return Err(format!("refused: {head}{}", String::from_utf8_lossy(&body)));
        }
        self.chunks = http::field(&head, "transfer-encoding").map(|_| Chunks::default());
        self.has_head = true;
        self.feed_body(&body, tracker, count)
    }

    fn feed_body(
        &mut self,
        bytes: &[u8],
        tracker: &mut Tracker,
        count: &mut impl FnMut(Told),
    ) -> Result<(), String> {
        let decoder = &mut self.decoder;
        let mut decode = |data: &[u8]| {
            let mut fault = None;
            let fed = decoder.feed(data, &mut |event| match tracker.take(
                event.event_type,
                event.data,
                event.last_event_id,
            ) {
                Ok(told) => count(told),
                Err(wrong) => fault = fault.take().or(Some(wrong)),
            });
            fed.map_err(|error| error.to_string())?;
            fault.map_or(Ok(()), Err)
        };
        match &mut self.chunks {
            Some(chunks) => chunks.feed(bytes, &mut decode),
            None => decode(bytes),
        }
    }

    pub(crate) fn last_event_id(&self) -> &str {
        self.decoder.last_event_id()
    }

    /// Shuts this side down.
    pub(crate) fn close_half(&self) {
        // The server may have ended the connection already.
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))
    }
}

/// Reads of one stream in a turn, each of up to a buffer.
const READS_MAX: usize = 16;

const EVENT_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The result of reading if the server answers with these bytes and ends the connection.
    fn polled(answer: &str, is_old: bool) -> Polled {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let request = Request { target: "/sse".to_owned(), is_old, is_narrow: false };
        let mut stream = Stream::open(listener.local_addr().unwrap(), &request, "").unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        server.write_all(answer.as_bytes()).unwrap();
        drop(server);
        stream.socket.set_nonblocking(false).unwrap();
        stream.poll(&mut [0; 100], &mut Tracker::default(), &mut |_| ()).unwrap()
    }

    #[test]
    fn a_stream_is_whole_if_and_only_if_its_last_chunk_has_come() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "3\r\n: \n\r\n0\r\n\r\n";
        let whole = format!("{head}{body}");
        assert_eq!(polled(&whole, false), Polled::Ended { told: false, is_whole: true });
        for missing in [1, 5, body.len(), body.len() + 1, whole.len()] {
            let cut = &whole[..whole.len() - missing];
            assert_eq!(polled(cut, false), Polled::Ended { told: false, is_whole: false }, "{cut:?}");
        }
        let old = "HTTP/1.0 200 OK\r\n\r\n: \n";
        assert_eq!(polled(old, true), Polled::Ended { told: false, is_whole: true });
    }
}
