//! A publisher that waits for each answer, and reads the server's account of its history.

use std::net::SocketAddr;

use crate::http::{Answer, Connection, request};
use crate::metrics::Metrics;

/// A connection that publishes. Its calls panic if a request is refused.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
}

impl Publisher {
    /// Connects to the server at this address.
    pub fn connect(address: SocketAddr) -> Publisher {
        Publisher { connection: Connection::open(address).expect("the server listens") }
    }

    /// Publishes events, as channel and data, in one request. Waits until they are in the history.
    pub fn publish<'d>(&mut self, events: impl Iterator<Item = (String, &'d str)>) {
        let body: String = events
            .map(|(channel, data)| format!("{{\"channel\":\"{channel}\",\"data\":\"{data}\"}}\n"))
            .collect();
        self.ask(&request("POST", "/publish", "Content-Type: application/x-ndjson\r\n", &body));
    }

    /// Drops all that a channel retains, which may be nothing.
    pub fn drop_history(&mut self, channel: &str) {
        let answer = self.answer(&request("DELETE", &format!("/channels/{channel}"), "", ""));
        // 404: the channel has no event left.
        assert!(matches!(answer.status, 200 | 404), "the server answers {}", answer.body);
    }

    /// Bytes that the history holds by its own account.
    pub fn history_bytes(&mut self) -> f64 {
        Metrics::read(&self.ask(&request("GET", "/metrics", "", ""))).gauges["downpour_history_bytes"]
    }

    /// Sends a request and returns its answer's body.
    fn ask(&mut self, request: &str) -> String {
        let answer = self.answer(request);
        assert_eq!(answer.status, 200, "the server answers {}", answer.body);
        answer.body
    }

    fn answer(&mut self, request: &str) -> Answer {
        self.connection.send(request.as_bytes()).expect("the server reads");
        self.connection.answer().expect("the server answers")
    }
}
