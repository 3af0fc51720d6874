//! Draining: streams are sent a last notice and end, requests under way are answered, new connections
//! are answered with 503, and at last the listeners close.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::frame::notice::Notice;

use super::Shard;

/// Longest time for connections that were still in the backlog when the listeners closed.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// The part of a drain's time that is left for them: connections that are stuck are cut off before it.
pub(super) fn closing(drain_timeout: Duration) -> Duration {
    CLOSING_MAX.min(drain_timeout / 4)
}

/// How often a shard that has finished checks whether the others have.
const OTHERS_LOOKED_AT: Duration = Duration::from_millis(5);

/// How far a shard has drained.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drain {
    /// The shard serves.
    No,
    /// Streams end; new connections are answered. At the deadline the remaining connections are cut off.
    Ending { deadline: Instant },
    /// The listeners close. Connections of the backlog are answered.
    Closing { deadline: Instant },
}

impl Drain {
    pub(super) fn is_on(self) -> bool {
        !matches!(self, Drain::No)
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Drain::No => None,
            Drain::Ending { deadline } | Drain::Closing { deadline } => Some(deadline),
        }
    }
}

impl<D: Driver> Shard<D> {
    /// When the drain has to go on at the latest. No shard reports its last connection to the others, so
    /// one without connections polls.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        let deadline = self.drain.deadline()?;
        let waits_for_others =
            matches!(self.drain, Drain::Ending { .. }) && self.connections.peers.is_empty();
        Some(if waits_for_others { deadline.min(self.clock.now + OTHERS_LOOKED_AT) } else { deadline })
    }

    /// Connections that all shards hold.
    fn connections_of_all(&self) -> usize {
        self.core.open_connections.load(Ordering::Relaxed)
    }

    /// Begins to drain. Later calls do nothing.
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_on() {
            return;
        }
        self.append_outgoing();
        self.core.log.flush();
        // Events acknowledged by now reach the streams before these end: the history may end with the
        // process.
        let head = self.core.hub.head();
        while self.streams.cursor < head && self.has_events() {
            self.take_events();
        }
        let timeout = self.options.drain_timeout;
        self.drain = Drain::Ending { deadline: self.clock.now + timeout - closing(timeout) };
        self.announce_all_handed_on();
        for conn in self.connections.peers.ids().collect::<Vec<_>>() {
            let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
            if peer.conn.is_streaming() {
                self.end_stream_for_drain(conn);
            } else {
                peer.conn.drain(self.clock.now);
            }
            self.mark(conn);
        }
    }

    /// Ends a stream because the server stops. The client reconnects at a random moment of the drain's
    /// time, so that the streams of a large server do not reconnect all at once.
    pub(super) fn end_stream_for_drain(&mut self, conn: ConnId) {
        let retry = self.random_up_to(self.options.drain_timeout);
        self.end_stream(conn, &Notice::Shutdown { retry, reason: "drain" });
    }

    /// Moves to the next step of the drain if this one is over.
    pub(super) fn advance_drain(&mut self) {
        match self.drain {
            Drain::No => {}
            Drain::Ending { deadline } => {
                if !self.connections.peers.is_empty() && self.clock.now >= deadline {
                    self.cut_off_all();
                }
                if self.connections.peers.is_empty()
                    && (self.connections_of_all() == 0 || self.clock.now >= deadline)
                {
                    // A client that connects while a listener closes is reset, and newcomers must be
                    // answered. So no listener closes while a shard still serves, and the backlog is
                    // accepted and answered before the listeners close.
                    self.driver.stop_listening();
                    let closing = closing(self.options.drain_timeout);
                    self.drain = Drain::Closing { deadline: self.clock.now + closing };
                }
            }
            Drain::Closing { deadline } => {
                if self.clock.now >= deadline {
                    self.is_handed_connections = false; // The other shard is stuck or has ended.
                    self.cut_off_all();
                }
            }
        }
    }

    fn cut_off_all(&mut self) {
        for conn in self.connections.peers.ids().collect::<Vec<_>>() {
            if let Some(peer) = self.connections.peers.get_mut(conn) {
                peer.conn.abort();
            }
            self.act(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sim::SimOptions;
    use crate::shard::tests::{Servers, read};

    /// A container runtime waits longer than `timeout` before it kills the process, but not twice as long.
    #[test]
    fn a_drain_ends_in_its_time_although_readers_are_stuck_and_newcomers_come() {
        for seconds in [0, 1, 8, 60] {
            let timeout = Duration::from_secs(seconds);
            let mut servers = Servers::over(&SimOptions::calm(), |options| {
                options.drain_timeout = timeout;
                options.conn.idle_timeout = 2 * timeout + Duration::from_secs(75);
            });
            let _stuck = [servers.subscribe(0, "a"), servers.subscribe(1, "a")];
            let _begun = servers
                .request(0, "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
            servers.settle();
            let text = "x".repeat(50_000);
            for _ in 0..4 {
                servers.publish(0, &format!("{{\"channel\":\"a\",\"text\":\"{text}\"}}"));
            }
            let end = servers.now + timeout;
            servers.shards.iter_mut().for_each(Shard::begin_drain);
            let mut newcomers = Vec::new();
            while servers.now < end {
                newcomers.push(servers.nets[newcomers.len() % 2].connect());
                let _ = newcomers[newcomers.len() - 1].write(b"GET /sse HTTP/1.1\r\n");
                (0..2).for_each(|shard| servers.turn(shard));
                let is_over = servers.shards.iter().any(Shard::is_drained);
                assert!(!is_over || servers.now + timeout / 4 >= end, "they have most of the time");
                servers.now += timeout / 100;
            }
            (0..2).for_each(|_| (0..2).for_each(|shard| servers.turn(shard)));
            assert!(servers.shards.iter().all(Shard::is_drained), "{seconds} s are over");
        }
    }

    #[test]
    fn a_shard_listens_while_another_has_connections_to_finish() {
        let mut servers = Servers::new(None);
        let _held =
            servers.request(0, "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
        servers.settle();
        servers.shards.iter_mut().for_each(Shard::begin_drain);
        servers.settle();
        assert!(servers.shards.iter().all(|shard| !shard.is_drained()));
        let timeout = servers.shards[1].prepare_to_wait(servers.now);
        assert!(
            timeout.is_some_and(|timeout| timeout < Duration::from_millis(10)),
            "{timeout:?}: it looks again"
        );
        let late = servers.request(1, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        servers.settle();
        assert!(read(&late).starts_with("HTTP/1.1 503 "), "a newcomer is answered");
    }
}
