//! Requests over a persistent connection, as publishers make them: written whole, answered in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// A connection for requests.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
}

/// An answer with its body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { socket, received: Vec::new() })
    }

    /// Writes requests, or parts of them.
    ///
    /// # Errors
    /// The server does not read.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Makes a request without a body, and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub fn ask(&mut self, method: &str, target: &str) -> anyhow::Result<Answer> {
        self.send(request(method, target, "", "").as_bytes())?;
        self.answer()
    }

    /// Reads the answer to the oldest open request.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn answer(&mut self) -> anyhow::Result<Answer> {
        let head_end = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive().context("no answer came")?;
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).into_owned();
        let status = status(&head).with_context(|| format!("no head of an answer: {head}"))?;
        let length = field(&head, "content-length").and_then(|text| text.parse().ok());
        let length: usize = length.with_context(|| format!("an answer without a length: {head}"))?;
        while self.received.len() < head_end + length {
            self.receive().context("an answer broke off")?;
        }
        let body = String::from_utf8_lossy(&self.received[head_end..head_end + length]).into_owned();
        self.received.drain(..head_end + length);
        Ok(Answer { status, body })
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece)? {
            0 => bail!("the server closed the connection"),
            count => self.received.extend_from_slice(&piece[..count]),
        }
        Ok(())
    }
}

/// A request with a body. `fields` are lines that end in CR LF.
pub fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// The status in the first line of a response's head.
pub fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.get(..3)?.parse().ok()
}

/// The value of a header field, by its name in lower case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// How long to wait for an answer. A longer time is a fault, not a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_its_status_and_fields() {
        let head = "HTTP/1.1 429 Too Many Requests\r\nDate: x\r\nContent-Length:  7\r\n\r\n";
        assert_eq!(status(head), Some(429));
        assert_eq!(field(head, "content-length"), Some("7"));
        assert_eq!(field(head, "retry-after"), None);
        assert_eq!(status("nonsense"), None);
    }

    #[test]
    fn answers_are_taken_in_order_though_they_come_together() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let answers =
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
        server.write_all(answers.as_bytes()).unwrap();
        drop(server);
        let first = connection.answer().unwrap();
        assert_eq!((first.status, first.body.as_str()), (200, "ok"));
        assert_eq!(connection.answer().unwrap().status, 404);
        assert!(format!("{:#}", connection.answer().unwrap_err()).contains("closed the connection"));
    }
}
