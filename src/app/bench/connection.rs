//! One connection of a reader: its socket, its stream, and its position in its channel.

use std::io::{self, Read};

use mio::net::TcpStream;

use super::connect::send_whole;
use super::plan::Plan;
use super::sequence::Sequence;
use super::spread::Spread;
use super::stream::StreamReader;

pub(super) struct Connection {
    /// `None` before it is opened, and once it has ended.
    pub(super) socket: Option<TcpStream>,
    pub(super) stream: StreamReader,
    pub(super) sequence: Sequence,
    pub(super) channel: u32,
    pub(super) is_slow: bool,
    pub(super) is_request_sent: bool,
    /// When it was begun, in ns of the run's clock.
    pub(super) tried_ns: u64,
    subscriber: usize,
}

impl Connection {
    /// The connection of a subscriber, before it is opened.
    pub(super) fn new(plan: &Plan, subscriber: usize, tried_ns: u64) -> Connection {
        Connection {
            socket: None,
            stream: StreamReader::new(),
            sequence: Sequence::default(),
            channel: plan.channel_of(subscriber),
            is_slow: plan.is_slow(subscriber),
            is_request_sent: false,
            tried_ns,
            subscriber,
        }
    }

    /// Sends the request for the stream, unless it was sent or cannot be sent yet.
    pub(super) fn send_request(&mut self, plan: &Plan) -> io::Result<()> {
        let Some(socket) = self.socket.as_mut().filter(|_| !self.is_request_sent) else { return Ok(()) };
        let mut request = Vec::new();
        plan.endpoints.subscribe(&plan.channels[self.channel as usize], self.subscriber, &mut request);
        self.is_request_sent = send_whole(socket, &request)?;
        Ok(())
    }

    /// Reads available bytes; `None` if the connection has ended.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let socket = self.socket.as_mut()?;
        loop {
            match socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Some(result),
            }
        }
    }

    /// The place in the run of the event that it waits for.
    pub(super) fn place(&self, spread: Spread) -> u64 {
        self.sequence.next().map_or(0, |next| spread.place(self.channel, next))
    }
}
