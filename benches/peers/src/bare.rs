//! A server that only reads publishes and sends them: the limit for any other.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::{ANSWER, ANY_PORT, Lengths, READ_BYTES, Requests, STREAM_HEAD, say_address};

/// Sends the same bytes to each of the sockets.
pub(crate) type SendAll<'a> = &'a mut dyn FnMut(&mut [TcpStream], &[u8]) -> io::Result<()>;

const LISTENER: Token = Token(usize::MAX);

/// A connection: a stream, a publisher, or not known yet.
struct Peer {
    socket: TcpStream,
    requests: Option<Requests>,
}

struct Server<'a> {
    load: Lengths,
    /// A read that does not fill the buffer has emptied the socket (epoll(7)), so none follows it.
    trusts_short_reads: bool,
    send_all: SendAll<'a>,
    poll: Poll,
    peers: HashMap<Token, Peer>,
    streams: Vec<TcpStream>,
    /// The frame of every event.
    frame: Vec<u8>,
    /// The frames of everything that was read.
    joined: Vec<u8>,
    buffer: Vec<u8>,
}

/// One `send()` for each socket.
pub(crate) fn send_loop(streams: &mut [TcpStream], frames: &[u8]) -> io::Result<()> {
    streams.iter_mut().try_for_each(|stream| stream.write_all(frames))
}

/// Serves until a call fails.
pub(crate) fn serve(load: Lengths, trusts_short_reads: bool, send_all: SendAll<'_>) -> io::Result<()> {
    let listener = TcpListener::bind(ANY_PORT)?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    let (peers, streams, joined) = (HashMap::new(), Vec::new(), Vec::new());
    let (frame, buffer) = (load.frames(1), vec![0; READ_BYTES]);
    let mut server =
        Server { load, trusts_short_reads, send_all, poll, peers, streams, frame, joined, buffer };
    say_address(listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    loop {
        match server.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener)?;
            } else {
                server.read(event.token())?;
            }
        }
    }
}

impl Server<'_> {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let fd = socket.as_raw_fd();
            let token = Token(usize::try_from(fd).map_err(io::Error::other)?);
            self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            self.peers.insert(token, Peer { socket, requests: None });
        }
    }

    /// Reads all available bytes of one connection, and sends what they publish at once.
    fn read(&mut self, token: Token) -> io::Result<()> {
        let (mut requests, mut events) = (0, 0);
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        loop {
            let bytes = match peer.socket.read(&mut self.buffer) {
                Ok(0) => {
                    self.peers.remove(&token);
                    return Ok(());
                }
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if peer.requests.is_none() && self.buffer.starts_with(b"GET ") {
                return self.begin_stream(token);
            }
            let counted =
                peer.requests.get_or_insert_with(|| Requests::of(&self.buffer[..bytes], &self.load));
            let published = counted.take(bytes);
            requests += published.requests;
            events += published.events;
            if self.trusts_short_reads && bytes < self.buffer.len() {
                break;
            }
        }
        if requests == 0 {
            return Ok(());
        }
        // Publishers have few requests under way, so their answers fit the socket.
        peer.socket.write_all(&ANSWER.repeat(requests))?;
        self.joined.clear();
        (0..events).for_each(|_| self.joined.extend_from_slice(&self.frame));
        (self.send_all)(&mut self.streams, &self.joined)
    }

    /// From here on nothing is read from the stream, and sends to it wait for room.
    fn begin_stream(&mut self, token: Token) -> io::Result<()> {
        let Some(Peer { mut socket, .. }) = self.peers.remove(&token) else { return Ok(()) };
        self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()))?;
        socket.set_nonblocking(false)?;
        socket.write_all(STREAM_HEAD)?;
        self.streams.push(socket);
        Ok(())
    }
}
