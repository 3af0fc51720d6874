//! Deadlines that are due. Input that came before a deadline is handled first. After its process or
//! machine was stopped, a shard finds that input together with the deadlines, and must not blame its own
//! silence on its peers.

use std::time::Instant;

use crate::base::id::ConnId;
use crate::conn::Input;
use crate::driver::Driver;

use crate::shard::Shard;

/// Deadlines that one turn checks. A turn with a keepalive for each of them took 0.55 ms by epoll and
/// 0.47 ms by io_uring as a median, on a busy machine (`cargo bench --bench keepalives`).
const EXPIRIES_PER_TURN_MAX: usize = 128;

/// Turns after which deadlines are checked although the input before them was not all handed over.
const HEARING_TURNS_MAX: u32 = 1024;

/// A receive of this many bytes may have left more in the socket: drivers receive no less at once.
pub(super) const MUCH_BYTES: usize = 4 * 1024;

/// How often a connection with much input is spared after its deadline.
const EXTRA_LOOKS_MAX: u8 = 64;

/// A deadline check that waits until the driver has handed over the input before it.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Deadlines up to here are checked afterwards.
    at: Instant,
    /// The driver's count once all that input was handed over; `None` while the driver is still taking
    /// it in.
    mark: Option<u64>,
    turns_left: u32,
}

impl<D: Driver> Shard<D> {
    /// Handles connections whose deadlines are due, if the driver has handed over the input before them.
    pub(in crate::shard) fn expire(&mut self) {
        self.hear();
        if let Some(hearing) = self.connections.hearing.take() {
            let is_heard = hearing.mark.is_some_and(|mark| self.driver.handed_over() >= mark);
            if is_heard || hearing.turns_left == 0 {
                self.connections.timers.advance(hearing.at);
            } else {
                self.connections.hearing = Some(hearing);
            }
        }
        for _ in 0..EXPIRIES_PER_TURN_MAX {
            let Some(slot) = self.connections.timers.pop_due() else { break };
            let Some(conn) = self.connections.peers.id_at(slot) else { continue };
            self.expire_connection(conn);
        }
        self.streams.forget_old_sources(self.clock.now);
    }

    /// Begins a check if a deadline may be due, or goes on with the one that has begun.
    fn hear(&mut self) {
        let now = self.clock.now;
        if let Some(hearing) = &mut self.connections.hearing {
            hearing.turns_left = hearing.turns_left.saturating_sub(1);
            if hearing.mark.is_none() {
                (hearing.mark, hearing.at) = (self.driver.hear(), now);
            }
        } else if self.connections.timers.next_deadline().is_some_and(|deadline| deadline <= now) {
            let mark = self.driver.hear();
            self.connections.hearing = Some(Hearing { at: now, mark, turns_left: HEARING_TURNS_MAX });
        }
    }

    fn expire_connection(&mut self, conn: ConnId) {
        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        peer.is_timed = false;
        // Most deadlines have moved on, without the wheel being updated.
        if peer.conn.deadline(context.options).is_none_or(|deadline| deadline > context.now) {
            peer.extra_looks = 0;
        } else if peer.conn.is_overdue(context.now) {
            self.end_stream_for_age(conn);
        } else if std::mem::take(&mut peer.had_much) && peer.extra_looks < EXTRA_LOOKS_MAX {
            peer.extra_looks += 1; // The socket may have more, which is received first.
        } else {
            peer.extra_looks = 0;
            peer.conn.handle(&context, Input::DeadlineReached);
            if let Some(request) = &mut peer.open_request
                && !peer.conn.awaits_answer()
            {
                request.forget_request(); // The timeout was its answer.
            }
        }
        self.act(conn);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::base::limits::COMPLETIONS_PER_WAIT_MAX;
    use crate::driver::sim::{SimOptions, SimPeer};
    use crate::shard::tests::{Servers, read};

    const HOUR: Duration = Duration::from_secs(3600);

    /// A shard, and clients that have each sent `begun`.
    fn begin(begun: &str) -> (Servers, Vec<SimPeer>) {
        let mut servers = Servers::over(&SimOptions::calm(), |options| options.connections_max = 10_000);
        let clients = (0..2 * COMPLETIONS_PER_WAIT_MAX + 100).map(|_| servers.nets[0].connect());
        let clients: Vec<SimPeer> = clients.collect();
        for client in &clients {
            assert_eq!(client.write(begun.as_bytes()), begun.len());
        }
        (0..20).for_each(|_| servers.turn(0));
        (servers, clients)
    }

    /// Stops the shard for an hour in which the clients send `rest`. Returns how many answers do not
    /// begin with `expected`.
    fn too_slow_after_standing_still(begun: &str, rest: &str, expected: &str) -> usize {
        let (mut servers, clients) = begin(begun);
        servers.now += HOUR;
        for client in &clients {
            assert_eq!(client.write(rest.as_bytes()), rest.len());
        }
        for _ in 0..100 {
            servers.turn(0);
            servers.now += Duration::from_millis(1);
        }
        let answers: Vec<String> = clients.iter().map(read).collect();
        answers.iter().filter(|answer| !answer.starts_with(expected)).count()
    }

    #[test]
    fn requests_that_came_whole_while_the_shard_stood_still_are_answered() {
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let publish = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000\r\n\r\n";
        let body = "x".repeat(6000);
        for (begun, rest) in
            [("", request), ("GET ", &request[4..]), (publish, &body), ("", &(publish.to_owned() + &body))]
        {
            assert_eq!(too_slow_after_standing_still(begun, rest, "HTTP/1.1 200"), 0, "{begun:?}");
        }
    }

    #[test]
    fn requests_that_did_not_come_whole_meanwhile_are_timed_out_soon() {
        assert_eq!(too_slow_after_standing_still("GET ", "/healthz HTTP", "HTTP/1.1 408"), 0);
        let publish = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n";
        assert_eq!(too_slow_after_standing_still(publish, &"x".repeat(50_000), "HTTP/1.1 408"), 0);
    }

    #[test]
    fn those_who_always_have_something_to_say_put_off_nobodys_deadline_for_long() {
        let (mut servers, clients) = begin("GET ");
        let talkers: Vec<SimPeer> =
            (0..2 * COMPLETIONS_PER_WAIT_MAX).map(|_| servers.nets[0].connect()).collect();
        (0..20).for_each(|_| servers.turn(0));
        servers.now += HOUR;
        let mut turns = 0;
        let mut waiting: Vec<&SimPeer> = clients.iter().collect();
        while !waiting.is_empty() {
            for talker in &talkers {
                let _ = talker.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
                read(talker);
            }
            servers.turn(0);
            turns += 1;
            assert!(turns < 50, "{} wait", waiting.len());
            waiting.retain(|client| !read(client).starts_with("HTTP/1.1 408"));
        }
    }
}
