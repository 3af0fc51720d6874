//! A publisher that waits for each answer, and reads the server's account of its history.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection that publishes.
pub(crate) struct Publisher {
    connection: BufReader<TcpStream>,
}

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> Publisher {
        let connection = TcpStream::connect(address).expect("the server listens");
        connection.set_nodelay(true).expect("it is a TCP socket");
        Publisher { connection: BufReader::new(connection) }
    }

    /// Publishes events, as channel and data, in one request. Waits until they are in the history.
    pub(crate) fn publish<'d>(&mut self, events: impl Iterator<Item = (String, &'d str)>) {
        let body: String = events
            .map(|(channel, data)| format!("{{\"channel\":\"{channel}\",\"data\":\"{data}\"}}\n"))
            .collect();
        let length = body.len();
        self.ask(&format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
    }

    /// Drops all that a channel retains.
    #[allow(dead_code, reason = "one bench of several does")]
    pub(crate) fn drop_history(&mut self, channel: &str) {
        self.ask(&format!("DELETE /channels/{channel} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    /// Bytes that the history holds by its own account.
    pub(crate) fn history_bytes(&mut self) -> usize {
        let metrics = self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix("downpour_history_bytes "));
        lines.next().and_then(|number| number.parse().ok()).expect("the metric is a whole number")
    }

    /// Sends a request and returns its answer's body.
    fn ask(&mut self, request: &str) -> String {
        self.connection.get_mut().write_all(request.as_bytes()).expect("the server reads");
        let (mut line, mut length) = (String::new(), 0);
        self.connection.read_line(&mut line).expect("the server answers");
        assert!(line.starts_with("HTTP/1.1 200 "), "the server answers {line:?}");
        while line != "\r\n" {
            line.clear();
            self.connection.read_line(&mut line).expect("an answer has a head");
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length is a number");
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("the answer has its whole body");
        String::from_utf8(body).expect("answers are text")
    }
}
