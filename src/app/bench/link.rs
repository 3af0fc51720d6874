//! One connection that events are published over: requests out, answers in, in order.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::answer::{AnswerError, Body, BodyError, Head};
use super::stream::detail;

/// A connection to publish over. It is opened on demand, and again if the server ended it between two
/// answers.
#[derive(Debug)]
pub(super) struct Link {
    address: SocketAddr,
    token: Token,
    socket: Option<TcpStream>,
    /// Bytes of requests; those from `out_at` on were not taken by the kernel yet.
    out: Vec<u8>,
    out_at: usize,
    under_way: VecDeque<Request>,
    input: Vec<u8>,
    /// The answer whose body is being read.
    answer: Option<(Head, Body, Vec<u8>)>,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) events: u32,
    /// The place in the run of its first event.
    pub(super) place: u64,
    /// When it was sent, in ns of the run's clock.
    pub(super) sent_ns: u64,
}

/// Why publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no connection to publish over to {address}: {source}")]
    NoConnection { address: SocketAddr, source: io::Error },
    #[error("the connection to publish over was lost before an answer came: {0}")]
    Lost(io::Error),
    #[error("the server answered {status} to a publish{detail}")]
    Refused { status: u16, detail: String },
    #[error("a publish was answered, but {0}")]
    Answer(#[from] AnswerError),
}

impl Link {
    pub(super) fn new(address: SocketAddr, token: Token) -> Link {
        Link {
            address,
            token,
            socket: None,
            out: Vec::new(),
            out_at: 0,
            under_way: VecDeque::new(),
            input: Vec::new(),
            answer: None,
        }
    }

    /// The number of requests without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The place in the run of the first event without an answer; `None` if there is none.
    pub(super) fn first_place(&self) -> Option<u64> {
        self.under_way.front().map(|request| request.place)
    }

    /// The buffer to which the bytes of a request are appended, before [`Link::send`].
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends the buffer's bytes as `request`.
    pub(super) fn send(&mut self, request: Request, registry: &Registry) -> Result<(), LinkError> {
        if self.socket.is_none() {
            self.connect(registry)?;
        }
        self.under_way.push_back(request);
        self.flush()
    }

    /// Returns true if a connection is open, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Checks that a connection can be opened, and keeps none. Blocks.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        let connected = std::net::TcpStream::connect(self.address);
        connected.map(drop).map_err(|source| LinkError::NoConnection { address: self.address, source })
    }

    /// Opens the connection. Blocks.
    pub(super) fn connect(&mut self, registry: &Registry) -> Result<(), LinkError> {
        let connected = std::net::TcpStream::connect(self.address).and_then(|socket| {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            registry.register(&mut socket, self.token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        });
        self.socket =
            Some(connected.map_err(|source| LinkError::NoConnection { address: self.address, source })?);
        Ok(())
    }

    /// Writes as much as the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while self.out_at < self.out.len() {
            match socket.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(LinkError::Lost(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.out_at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Lost(error)),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Reads available bytes, and passes each request with a good answer to `sink`.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        sink: &mut impl FnMut(Request),
    ) -> Result<(), LinkError> {
        while let Some(socket) = &mut self.socket {
            match socket.read(buffer) {
                Ok(0) => return self.end(sink),
                Ok(count) => self.take(&buffer[..count], sink)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An idle connection may end.
                Err(_) if self.under_way.is_empty() => self.socket = None,
                Err(error) => return Err(LinkError::Lost(error)),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], sink: &mut impl FnMut(Request)) -> Result<(), LinkError> {
        self.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while at < input.len() {
            let Some((_, body, said)) = &mut self.answer else {
                let Some(head) = Head::parse(&input[at..])? else { break };
                at += head.bytes;
                let body = head.body()?;
                self.answer = Some((head, body, Vec::new()));
                self.finish_answer(sink)?;
                continue;
            };
            let fed = body.feed(&input[at..], |piece| {
                let room = SAID_BYTES_MAX.saturating_sub(said.len());
                said.extend_from_slice(&piece[..piece.len().min(room)]);
                Ok::<_, std::convert::Infallible>(())
            });
            match fed {
                Ok(count) => at += count,
                Err(BodyError::Framing(error)) => return Err(error.into()),
                Err(BodyError::Sink(never)) => match never {},
            }
            self.finish_answer(sink)?;
        }
        input.drain(..at);
        self.input = input;
        Ok(())
    }

    /// Passes on the answer's request, if its body has ended.
    fn finish_answer(&mut self, sink: &mut impl FnMut(Request)) -> Result<(), LinkError> {
        let Some((head, _, said)) = self.answer.take_if(|(_, body, _)| body.is_done()) else { return Ok(()) };
        self.settle(&head, &said, sink)?;
        if !head.keeps_open {
            self.close()?;
        }
        Ok(())
    }

    fn settle(&mut self, head: &Head, said: &[u8], sink: &mut impl FnMut(Request)) -> Result<(), LinkError> {
        if !(200..300).contains(&head.status) {
            return Err(LinkError::Refused { status: head.status, detail: detail(said) });
        }
        match self.under_way.pop_front() {
            Some(request) => sink(request),
            None => return Err(AnswerError::BadFraming("there was no request for it".to_owned()).into()),
        }
        Ok(())
    }

    /// Handles the end of the server's side, which also ends a body without framing.
    fn end(&mut self, sink: &mut impl FnMut(Request)) -> Result<(), LinkError> {
        if let Some((head, _, said)) = self.answer.take_if(|(_, body, _)| matches!(body, Body::UntilClose)) {
            self.settle(&head, &said, sink)?;
        }
        self.close()
    }

    fn close(&mut self) -> Result<(), LinkError> {
        self.socket = None;
        self.input.clear();
        if self.under_way.is_empty() && self.answer.is_none() {
            return Ok(());
        }
        Err(LinkError::Lost(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Bytes of a refusal's explanation that are shown.
const SAID_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::Poll;

    use super::*;

    /// A link with `requests` under way, whose server answered with `answers` and closed the connection.
    fn after(requests: u32, answers: &str) -> (Result<(), LinkError>, Vec<u32>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let mut link = Link::new(listener.local_addr().unwrap(), Token(0));
        for events in 1..=requests {
            link.out().extend_from_slice(b"x");
            link.send(Request { events, place: 0, sent_ns: 0 }, poll.registry()).unwrap();
        }
        let mut server = listener.accept().unwrap().0;
        let mut asked = vec![0; requests as usize];
        server.read_exact(&mut asked).unwrap();
        server.write_all(answers.as_bytes()).unwrap();
        drop(server);
        let (mut events, mut answered) = (mio::Events::with_capacity(8), Vec::new());
        let (mut poll, mut buffer) = (poll, [0; 7]);
        while link.socket.is_some() {
            poll.poll(&mut events, Some(std::time::Duration::from_millis(50))).unwrap();
            let received = link.receive(&mut buffer, &mut |request| answered.push(request.events));
            if received.is_err() {
                return (received, answered);
            }
        }
        (Ok(()), answered)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn answers_are_matched_to_requests_in_order() {
        let (received, answered) = after(3, &[OK, "HTTP/1.1 204 No Content\r\n\r\n", OK].concat());
        assert!(received.is_ok(), "{received:?}");
        assert_eq!(answered, [1, 2, 3]);
    }

    #[test]
    fn a_body_without_framing_ends_with_the_connection() {
        let (received, answered) = after(1, "HTTP/1.1 201 Created\r\n\r\nwhatever");
        assert!(received.is_ok(), "{received:?}");
        assert_eq!(answered, [1]);
    }

    #[test]
    fn a_refusal_is_reported_with_what_was_said() {
        let (received, answered) = after(1, "HTTP/1.1 503 No\r\nContent-Length: 8\r\n\r\ntoo\nmuch");
        assert_eq!(received.unwrap_err().to_string(), "the server answered 503 to a publish: too much");
        assert!(answered.is_empty());
    }

    #[test]
    fn a_connection_that_ends_before_its_answer_is_lost() {
        let (received, answered) = after(2, OK);
        assert!(matches!(received, Err(LinkError::Lost(_))), "{received:?}");
        assert_eq!(answered, [1]);
    }
}
