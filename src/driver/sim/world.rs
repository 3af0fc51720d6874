//! The state of the simulated network and the rules by which it changes.
//!
//! Every event that may end an outstanding operation puts a check on the agenda, for this wait or, by
//! chance, for a later one. When the check falls due, the connection's state decides the completion.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};

use super::SimOptions;
use super::link::{Link, Sending, ServerSide};
use crate::base::id::ConnId;
use crate::base::limits::READ_BUFFER_BYTES;
use crate::base::random::SplitMix64;
use crate::driver::{SendStart, slices_bytes};

pub(super) struct World {
    random: SplitMix64,
    options: SimOptions,
    /// The number of waits of the driver.
    wait_count: u64,
    /// The pending checks. The key is the wait at which a check falls due, then a random number, then
    /// the check's own number.
    agenda: BTreeMap<(u64, u64, u64), Check>,
    check_count: u64,
    /// All connections ever made, so that the number of a link stays valid.
    links: Vec<Link>,
    /// Connections in the backlog.
    waiting_count: usize,
    pub(super) listening: Listening,
}

/// How the server treats new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// There is no server.
    Absent,
    Taking,
    Paused,
    /// Only the connections in the backlog are still accepted.
    Stopped,
}

/// A part of the state to check.
#[derive(Clone, Copy, Debug)]
enum Check {
    Accept(usize),
    Receive(usize),
    Send(usize),
}

/// A completion with a link in place of a socket. Received bytes are handed over separately.
pub(super) enum Step {
    Accepted { link: usize, listener: usize },
    AcceptFailed(io::Error),
    Received(ConnId),
    ReceiveEnded(ConnId),
    Sent(ConnId, usize),
    Writable(ConnId),
    Failed(ConnId, io::Error),
}

impl World {
    pub(super) fn new(seed: u64, options: SimOptions) -> World {
        World {
            random: SplitMix64::new(seed),
            options,
            wait_count: 0,
            agenda: BTreeMap::new(),
            check_count: 0,
            links: Vec::new(),
            waiting_count: 0,
            listening: Listening::Absent,
        }
    }

    pub(super) fn link(&self, link: usize) -> &Link {
        &self.links[link]
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.agenda.is_empty()
    }

    pub(super) fn is_listening(&self) -> bool {
        match self.listening {
            Listening::Absent => false,
            Listening::Taking | Listening::Paused => true,
            Listening::Stopped => self.waiting_count > 0,
        }
    }

    // What a peer does.

    pub(super) fn connect(&mut self, listener: usize) -> usize {
        let bytes_max = self.random.within(self.options.send_buffer_bytes.clone());
        let number = self.links.len();
        let mut link = Link::new(listener, bytes_max);
        match self.listening {
            Listening::Absent | Listening::Stopped => {
                link.is_reset = true;
                link.server = ServerSide::Closed;
            }
            Listening::Taking | Listening::Paused => self.waiting_count += 1,
        }
        self.links.push(link);
        self.schedule_accept(number);
        number
    }

    pub(super) fn peer_write(&mut self, number: usize, bytes: &[u8]) -> usize {
        let link = &mut self.links[number];
        if link.is_reset || link.peer_ended || bytes.is_empty() {
            return 0;
        }
        if link.server == ServerSide::Closed {
            self.reset(number); // There is no receiver. The peer learns this by a reset.
            return bytes.len();
        }
        let room = self.options.receive_buffer_bytes.saturating_sub(link.inbound.len());
        let taken = bytes.len().min(room);
        link.inbound.extend(&bytes[..taken]);
        if self.random.chance(self.options.reset_probability) {
            self.reset(number);
        }
        self.schedule_checks(number);
        taken
    }

    pub(super) fn peer_read(&mut self, number: usize, bytes_max: usize) -> Vec<u8> {
        let link = &mut self.links[number];
        let bytes = link.outbound.len().min(bytes_max);
        let read = link.outbound.drain(..bytes).collect();
        self.schedule_checks(number);
        read
    }

    pub(super) fn peer_shutdown(&mut self, number: usize) {
        self.links[number].peer_ended = true;
        self.schedule_checks(number);
    }

    pub(super) fn peer_close(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.peer_ended = true;
        link.peer_gone = true;
        if !link.outbound.is_empty() {
            self.reset(number); // Closing a socket with unread bytes resets its connection (RFC 2525 2.17).
        }
        self.schedule_checks(number);
    }

    /// Breaks a connection. Bytes that the peer has not read are lost, and perhaps bytes that the server
    /// has not received.
    pub(super) fn reset(&mut self, number: usize) {
        let loses_inbound = self.random.chance(0.5);
        let link = &mut self.links[number];
        if link.is_read_out() && link.peer_ended {
            return; // Both sides have ended in good order, so nothing is left to break.
        }
        link.is_reset = true;
        link.outbound.clear();
        if loses_inbound {
            link.inbound.clear();
        }
        self.schedule_checks(number);
    }

    // What the server does.

    pub(super) fn set_listening(&mut self, listening: Listening) {
        self.listening = listening;
        let waiting = |&number: &usize| self.links[number].server == ServerSide::Waiting;
        let newcomers: Vec<usize> = (0..self.links.len()).filter(waiting).collect();
        newcomers.into_iter().for_each(|number| self.schedule_accept(number));
    }

    pub(super) fn adopt(&mut self, number: usize, conn: ConnId) {
        debug_assert_eq!(
            self.links[number].server,
            ServerSide::Accepted,
            "only a new connection is taken over"
        );
        self.links[number].server = ServerSide::Adopted(conn);
    }

    pub(super) fn recv(&mut self, number: usize) {
        self.links[number].is_receiving = true;
        self.schedule_checks(number);
    }

    pub(super) fn send(&mut self, number: usize, slices: &[IoSlice<'_>]) -> SendStart {
        let link = &self.links[number];
        // After a short send the server may send again before there is room.
        assert!(!matches!(link.sending, Sending::Pending { .. }), "a send is pending: {:?}", link.sending);
        assert!(!link.server_ended, "nothing is sent after shutdown");
        if self.random.chance(self.options.reset_probability) {
            self.reset(number);
        }
        if self.links[number].is_reset {
            return SendStart::Failed(ErrorKind::ConnectionReset.into());
        }
        let offered = slices_bytes(slices);
        let fits = offered.min(self.links[number].room());
        let taken = if self.random.chance(self.options.short_send_probability) {
            self.cut(slices).min(fits)
        } else {
            fits
        };
        let start = if self.random.chance(self.options.pending_send_probability) {
            // A kernel may have passed bytes on well before it reports that it took them.
            let is_early = self.random.chance(0.5);
            self.take_pending(number, slices, taken, is_early);
            SendStart::Pending
        } else {
            self.take(number, slices, taken);
            SendStart::Sent(taken)
        };
        self.schedule_checks(number);
        start
    }

    fn take(&mut self, number: usize, slices: &[IoSlice<'_>], taken: usize) {
        let link = &mut self.links[number];
        link.deliver(slices.iter().flat_map(|slice| slice.iter().copied()).take(taken));
        link.sending = if taken < slices_bytes(slices) { Sending::Short } else { Sending::Idle };
        if link.peer_gone {
            self.reset(number);
        }
    }

    fn take_pending(&mut self, number: usize, slices: &[IoSlice<'_>], taken: usize, is_early: bool) {
        let link = &mut self.links[number];
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).take(taken);
        let rest = if is_early {
            link.deliver(bytes);
            Vec::new()
        } else {
            bytes.collect()
        };
        link.sending = Sending::Pending { taken, offered: slices_bytes(slices), rest };
    }

    /// Draws how many bytes a short send takes: fewer than all, most often near the edge of a slice.
    fn cut(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let last = slices_bytes(slices).saturating_sub(1);
        let whole = self.random.within(0..=slices.len());
        let edge = slices_bytes(&slices[..whole]);
        match self.random.within(0..=5) {
            0 => edge,
            1 => edge + 1,
            2 => edge.saturating_sub(1),
            _ => self.random.within(0..=last),
        }
        .min(last)
    }

    pub(super) fn shutdown(&mut self, number: usize) {
        let link = &mut self.links[number];
        assert!(!matches!(link.sending, Sending::Pending { .. }), "a pending send is cut by shutdown");
        link.server_ended = true;
        link.sending = Sending::Idle;
    }

    pub(super) fn close(&mut self, number: usize) {
        let link = &mut self.links[number];
        if link.server == ServerSide::Waiting {
            self.waiting_count -= 1;
        }
        link.server = ServerSide::Closed;
        link.server_ended = true;
        link.sending = Sending::Idle;
        if !std::mem::take(&mut link.inbound).is_empty() {
            self.reset(number);
        }
    }

    /// The server is gone. Everything that it had not closed is reset.
    pub(super) fn end_server(&mut self) {
        self.listening = Listening::Absent;
        for number in 0..self.links.len() {
            if self.links[number].server != ServerSide::Closed {
                self.close(number);
                self.reset(number);
            }
        }
    }

    // The results.

    pub(super) fn begin_wait(&mut self) {
        self.wait_count += 1;
    }

    /// The number of checks scheduled so far.
    pub(super) fn checks_scheduled(&self) -> u64 {
        self.check_count
    }

    /// All checks below this number were done, except those scheduled for a later wait.
    pub(super) fn checks_done(&self) -> u64 {
        let due = self.agenda.keys().take_while(|key| key.0 <= self.wait_count);
        due.map(|key| key.2).min().unwrap_or(self.check_count)
    }

    /// Takes the next completion that is due. Received bytes go to `buffer`.
    pub(super) fn next_step(&mut self, buffer: &mut Vec<u8>) -> Option<Step> {
        loop {
            let entry = self.agenda.first_entry()?;
            if entry.key().0 > self.wait_count {
                return None;
            }
            let step = match entry.remove() {
                Check::Accept(number) => self.end_accept(number),
                Check::Receive(number) => self.end_receive(number, buffer),
                Check::Send(number) => self.end_send(number),
            };
            if step.is_some() {
                return step;
            }
        }
    }

    fn end_accept(&mut self, number: usize) -> Option<Step> {
        let link = &mut self.links[number];
        if link.server != ServerSide::Waiting || self.listening == Listening::Paused {
            return None;
        }
        if self.random.chance(self.options.accept_failure_probability) {
            self.schedule(Check::Accept(number), 1);
            return Some(Step::AcceptFailed(io::Error::from_raw_os_error(libc::EMFILE)));
        }
        link.server = ServerSide::Accepted;
        self.waiting_count -= 1;
        Some(Step::Accepted { link: number, listener: link.listener })
    }

    fn end_receive(&mut self, number: usize, buffer: &mut Vec<u8>) -> Option<Step> {
        let link = &mut self.links[number];
        link.receive_scheduled = false;
        let ServerSide::Adopted(conn) = link.server else { return None };
        if link.has_failed || !link.is_receiving || !link.is_receivable() {
            return None;
        }
        link.is_receiving = false;
        if link.inbound.is_empty() {
            if link.is_reset {
                return Some(self.fail(number, conn));
            }
            return Some(Step::ReceiveEnded(conn));
        }
        let arrived = link.inbound.len().min(READ_BUFFER_BYTES);
        let is_short = self.random.chance(self.options.short_receive_probability);
        let bytes = if is_short { self.random.within(1..=arrived) } else { arrived };
        buffer.clear();
        buffer.extend(link.inbound.drain(..bytes));
        Some(Step::Received(conn))
    }

    fn end_send(&mut self, number: usize) -> Option<Step> {
        let link = &mut self.links[number];
        link.send_scheduled = false;
        let ServerSide::Adopted(conn) = link.server else { return None };
        if link.has_failed || !link.is_send_due() {
            return None;
        }
        let is_reset = link.is_reset;
        match std::mem::replace(&mut link.sending, Sending::Idle) {
            Sending::Idle => None,
            Sending::Pending { .. } if is_reset => Some(self.fail(number, conn)),
            Sending::Pending { taken, offered, rest } => {
                link.deliver(rest);
                link.sending = if taken < offered { Sending::Short } else { Sending::Idle };
                if link.peer_gone {
                    self.reset(number);
                }
                self.schedule_checks(number);
                Some(Step::Sent(conn, taken))
            }
            // If this does not report the reset, the next send does.
            Sending::Short if is_reset && self.random.chance(0.5) => Some(self.fail(number, conn)),
            Sending::Short => Some(Step::Writable(conn)),
        }
    }

    fn fail(&mut self, number: usize, conn: ConnId) -> Step {
        let link = &mut self.links[number];
        link.has_failed = true;
        link.sending = Sending::Idle;
        Step::Failed(conn, ErrorKind::ConnectionReset.into())
    }

    // The agenda.

    fn schedule_accept(&mut self, number: usize) {
        if self.links[number].server == ServerSide::Waiting {
            self.schedule(Check::Accept(number), 0);
        }
    }

    /// Schedules the checks for operations that can end in the connection's present state.
    fn schedule_checks(&mut self, number: usize) {
        let link = &mut self.links[number];
        if !link.takes_completions() {
            return;
        }
        let receives = link.is_receiving && !link.receive_scheduled && link.is_receivable();
        let sends = !link.send_scheduled && link.is_send_due();
        link.receive_scheduled |= receives;
        link.send_scheduled |= sends;
        if receives {
            self.schedule(Check::Receive(number), 0);
        }
        if sends {
            self.schedule(Check::Send(number), 0);
        }
    }

    fn schedule(&mut self, check: Check, waits_min: usize) {
        let is_late = self.random.chance(self.options.delay_probability);
        let delay = if is_late { self.random.within(0..=self.options.delay_waits_max) } else { 0 };
        let wait = self.wait_count + delay.max(waits_min) as u64;
        self.agenda.insert((wait, self.random.bits(), self.check_count), check);
        self.check_count += 1;
    }
}
