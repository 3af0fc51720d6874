//! A raw HTTP client: it sends the given bytes and reads the received ones.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Server, masked};

/// One connection to a server.
pub(crate) struct Client {
    socket: TcpStream,
    /// Received bytes. Those before `at` were taken.
    received: Vec<u8>,
    at: usize,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status line and headers, with the blank line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A message whose head lines end in `\r\n`. The body is unchanged.
pub(crate) fn wire(text: &str) -> String {
    match text.split_once("\n\n") {
        Some((head, body)) => format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")),
        None => text.replace('\n', "\r\n"),
    }
}

/// Sends a request over a new connection and ends the client's side. Returns everything received until
/// the server ends its side, masked.
pub(crate) fn exchange(server: &Server, request: &str) -> String {
    let mut client = Client::connect(server);
    client.send(request);
    client.shutdown_write();
    masked(&String::from_utf8(client.rest()).unwrap())
}

impl Client {
    pub(crate) fn connect(server: &Server) -> Client {
        Client::connect_to(server.address())
    }

    pub(crate) fn connect_to(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Client::over(socket)
    }

    /// Connects from `source`, with a receive buffer of about `receive_bytes` if given. The kernel
    /// accepts that much for a client that does not read.
    pub(crate) fn connect_as(server: &Server, source: [u8; 4], receive_bytes: Option<usize>) -> Client {
        Client::connect_from(server.address(), source, receive_bytes)
    }

    /// As [`Client::connect_as`], for any listener on an address.
    pub(crate) fn connect_from(address: SocketAddr, source: [u8; 4], receive_bytes: Option<usize>) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        Client::over(socket.into())
    }

    /// Uses an open connection.
    pub(crate) fn over(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket, received: Vec::new(), at: 0 }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// As [`Client::send`], for bytes that the server may refuse before all of them arrived.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    pub(crate) fn shutdown_write(&self) {
        // The server may have closed already.
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// Waits for bytes. `Ok(false)` at the end of the server's side.
    pub(crate) fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 * 1024];
        let count = loop {
            match self.socket.read(&mut bytes) {
                // A signal, such as the end of another test's process.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Bytes that were received and not taken.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received[self.at..]
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.received()[..count].to_vec();
        self.at += count;
        if self.at == self.received.len() {
            self.received.clear();
            self.received.shrink_to(64 * 1024);
            self.at = 0;
        } else if self.at > 1024 * 1024 {
            self.received.drain(..self.at);
            self.at = 0;
        }
        taken
    }

    /// Takes bytes up to and including the first `mark`.
    pub(crate) fn take_through(&mut self, mark: &[u8]) -> Vec<u8> {
        let mut from = 0;
        loop {
            let received = self.received();
            if let Some(at) = received[from..].windows(mark.len()).position(|window| window == mark) {
                return self.take(from + at + mark.len());
            }
            from = received.len().saturating_sub(mark.len() - 1);
            let shown = String::from_utf8_lossy(self.received()).into_owned();
            assert!(self.receive().unwrap(), "the connection ended behind {shown:?}");
        }
    }

    pub(crate) fn take_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received().len() < count {
            assert!(self.receive().unwrap(), "the connection ended early");
        }
        self.take(count)
    }

    /// Takes the head of a response.
    pub(crate) fn head(&mut self) -> String {
        String::from_utf8(self.take_through(b"\r\n\r\n")).unwrap()
    }

    /// Takes a response whose body has a known length.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let body = self.take_exactly(length.map_or(0, |length| length.parse().unwrap()));
        Answer { head, body }
    }

    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Takes everything until the server ends its side. A reset fails the test, since it may have
    /// dropped bytes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.receive().unwrap() {}
        self.take(self.received().len())
    }

    /// Takes bytes until they equal `expected`, masked.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &str) {
        loop {
            let text = String::from_utf8_lossy(self.received()).into_owned();
            let seen = masked(&text);
            if seen == expected {
                self.take(self.received().len());
                return;
            }
            // No further bytes can make it right.
            let is_over = text.len() > 8 * expected.len() || !self.receive_in_time();
            assert!(!is_over, "found {seen:?}\nexpected {expected:?}");
        }
    }

    fn receive_in_time(&mut self) -> bool {
        self.socket.set_read_timeout(Some(PATIENCE / 3)).unwrap();
        let came = self.receive().unwrap_or(false);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        came
    }

    /// Publishes an array of envelopes. Returns the ids of its events.
    pub(crate) fn publish(&mut self, envelopes: &str) -> Vec<String> {
        let answer = self.ask(&post("/publish", envelopes));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let ids = body["ids"].as_array().unwrap_or_else(|| panic!("{body}"));
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Publishes a text to a channel. Returns its id and the number of streams that received it.
    pub(crate) fn publish_text(&mut self, channel: &str, text: &str) -> (String, u64) {
        let answer = self.ask(&post(&format!("/channels/{channel}"), text));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status(), 200, "{body}");
        (body["id"].as_str().unwrap().to_owned(), body["receivers"].as_u64().unwrap())
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Head and body, masked.
    pub(crate) fn text(&self) -> String {
        masked(&format!("{}{}", self.head, String::from_utf8_lossy(&self.body)))
    }
}

/// A `POST` with a body and no content type.
fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
