//! A reader: one thread with an epoll loop of its own. It opens its share of the streams, reads them
//! into one buffer, and checks each against the numbers of its events.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::board::{Board, Phase, ReaderBoard};
use super::connect::{Connector, Ramp};
use super::connection::Connection;
use super::found::Found;
use super::latency::Sample;
use super::looks::Looks;
use super::mark::MarkFinder;
use super::plan::Plan;
use super::scan::{EventKind, Seen};
use super::sequence::Told;
use super::slow::SlowTurns;
use crate::driver::affinity::pin_to_cpu;

/// One reading thread.
pub(super) struct Reader {
    plan: Arc<Plan>,
    board: Arc<Board>,
    /// Its number among the readers of its process.
    index: usize,
    /// The number of its process in the run.
    process: usize,
    connector: Connector,
    ramp: Ramp,
    poll: Poll,
    marks: MarkFinder,
    sample: Sample,
    connections: Vec<Connection>,
    slow: SlowTurns,
    /// Connections with more to read than one turn allows.
    unread: Vec<usize>,
    buffer: Vec<u8>,
    /// Connections that wait for the server's answer.
    opening: usize,
    begun: u64,
    failed: u64,
    settled: u64,
    ended: u64,
    deliveries: u64,
    received_bytes: u64,
    last_delivery_ns: u64,
    /// Places advanced in this turn.
    advanced: u64,
    looks: Looks,
    found: Found,
}

impl Reader {
    pub(super) fn new(
        plan: Arc<Plan>,
        board: Arc<Board>,
        (process, index): (usize, usize),
        connector: Connector,
    ) -> io::Result<Reader> {
        Ok(Reader {
            ramp: Ramp::new(board.clock.ns(), plan.ramp),
            marks: MarkFinder::new(&plan.intro),
            sample: Sample::new(plan.latency_sample),
            slow: SlowTurns::new(plan.slow_bytes_per_second),
            poll: Poll::new()?,
            plan,
            board,
            index,
            process,
            connector,
            connections: Vec::new(),
            unread: Vec::new(),
            buffer: vec![0; READ_BYTES],
            opening: 0,
            begun: 0,
            failed: 0,
            settled: 0,
            ended: 0,
            deliveries: 0,
            received_bytes: 0,
            last_delivery_ns: 0,
            advanced: 0,
            looks: Looks::new(),
            found: Found::default(),
        })
    }

    /// Reads until the run is over, and returns its findings.
    ///
    /// # Errors
    /// If waiting fails, which no retry repairs, or the kernel refuses the thread its CPU.
    pub(super) fn run(mut self) -> io::Result<Found> {
        if !self.plan.reader_cpus.is_empty() {
            let reader = self.process * self.plan.threads + self.index;
            pin_to_cpu(self.plan.reader_cpus[reader % self.plan.reader_cpus.len()])?;
        }
        self.own_board().thread_id.store(super::process::thread_id(), Ordering::Release);
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let phase = self.board.phase();
            if phase == Phase::Over {
                return Ok(self.finish());
            }
            let now = self.board.clock.ns();
            self.open_due(now);
            self.slow_turn(phase, now)?;
            let timeout = self.timeout(now);
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for at in std::mem::take(&mut self.unread) {
                self.read(at, false);
            }
            for event in &events {
                let at = event.token().0;
                if event.is_writable() {
                    self.send_request(at);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(at, event.is_read_closed() || event.is_error());
                }
            }
            self.post()?;
        }
    }

    /// With P processes, process p reads subscribers p, p+P, p+2P. The readers of a process share its
    /// subscribers in the same way.
    fn next_subscriber(&self) -> Option<usize> {
        let within = self.index + self.connections.len() * self.plan.threads;
        let subscriber = self.process + within * self.plan.processes;
        (subscriber < self.plan.subscribers).then_some(subscriber)
    }

    fn open_due(&mut self, now: u64) {
        for _ in 0..OPENED_PER_TURN {
            let Some(subscriber) = self.next_subscriber() else { return };
            if self.opening == OPENING_MAX || self.ramp.due_ns(subscriber) > now || self.board.is_stopped() {
                return;
            }
            self.open(subscriber);
        }
    }

    fn open(&mut self, subscriber: usize) {
        let at = self.connections.len();
        let mut connection = Connection::new(&self.plan, subscriber, self.board.clock.ns());
        self.opening += 1;
        match self.connector.connect(subscriber, connection.is_slow) {
            Ok(socket) => {
                connection.socket = Some(socket);
                self.connections.push(connection);
                self.send_request(at);
                let connection = &mut self.connections[at];
                let Some(socket) = &mut connection.socket else { return };
                let interest = match connection.is_request_sent {
                    true => Interest::READABLE,
                    false => Interest::READABLE | Interest::WRITABLE,
                };
                if let Err(error) = self.poll.registry().register(socket, Token(at), interest) {
                    self.end(at, Some(error.to_string()));
                }
            }
            Err(error) => {
                self.connections.push(connection);
                self.end(at, Some(error.to_string()));
            }
        }
    }

    fn send_request(&mut self, at: usize) {
        if let Err(error) = self.connections[at].send_request(&self.plan) {
            self.end(at, Some(format!("no connection: {error}")));
        }
    }

    /// Slow streams leave the poll while they read slowly, so they cost nothing between their turns.
    fn slow_turn(&mut self, phase: Phase, now: u64) -> io::Result<()> {
        let is_slow_phase = phase == Phase::SlowRead;
        if self.slow.is_on() != is_slow_phase {
            self.slow.turn(is_slow_phase, now);
            for (at, connection) in self.connections.iter_mut().enumerate() {
                let Some(socket) = connection.socket.as_mut().filter(|_| connection.is_slow) else {
                    continue;
                };
                if is_slow_phase {
                    self.slow.push(at);
                    self.poll.registry().deregister(socket)?;
                } else {
                    self.poll.registry().register(socket, Token(at), Interest::READABLE)?;
                }
            }
        }
        let (due, bytes) = self.slow.due(now);
        for at in due {
            self.read_once(at, bytes);
        }
        Ok(())
    }

    /// Reads all available bytes. A short read has emptied the socket (`epoll(7)`), unless the
    /// connection was closed too.
    fn read(&mut self, at: usize, is_closed: bool) {
        for _ in 0..READS_PER_TURN {
            match self.read_once(at, READ_BYTES) {
                Some(count) if count == READ_BYTES || is_closed => {}
                Some(_) | None => return,
            }
        }
        self.unread.push(at);
    }

    /// Reads up to `bytes`; `None` if nothing is available, or nothing comes any more.
    fn read_once(&mut self, at: usize, bytes: usize) -> Option<usize> {
        let room = bytes.min(READ_BYTES);
        match self.connections[at].read(&mut self.buffer[..room])? {
            Ok(0) => self.end(at, None),
            Ok(count) => {
                self.take(at, count);
                return Some(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.end(at, Some(error.to_string())),
        }
        None
    }

    /// Handles the first `count` bytes of the buffer.
    fn take(&mut self, at: usize, count: usize) {
        let now = self.board.clock.ns();
        // Loaded after the bytes are read: no measured event may be seen before this value.
        let measured_from_ns = self.board.measured_from_ns.load(Ordering::Acquire);
        let connection = &mut self.connections[at];
        let had_begun = connection.stream.has_begun();
        let had_events = connection.sequence.next().is_some();
        let (sequence, channel, is_slow) = (&mut connection.sequence, connection.channel, connection.is_slow);
        let tally = if is_slow { &mut self.found.slow } else { &mut self.found.fast };
        let (mut advanced, mut deliveries) = (0, 0);
        let (sample, latency) = (self.sample, &mut self.found.latency);
        let fed = connection.stream.feed(&self.buffer[..count], &self.marks, &mut |seen| match seen {
            Seen::Marked(mark) if mark.channel == channel => {
                advanced += sequence.take(mark.number, tally);
                if mark.sent_ns >= measured_from_ns {
                    deliveries += 1;
                    if !is_slow && sample.takes(mark.number) {
                        latency.saturating_record(now.saturating_sub(mark.sent_ns));
                    }
                }
            }
            Seen::Marked(_) => tally.misdelivered += 1,
            Seen::Unmarked(EventKind::Gap, data) => sequence.take_gap(Told::by(data), tally),
            Seen::Unmarked(EventKind::Message | EventKind::Other, _) => {}
        });
        self.settled += u64::from(!had_events && sequence.next().is_some());
        self.advanced += if is_slow { 0 } else { advanced };
        if advanced > 0 || !had_events {
            self.looks.note_move();
        }
        self.deliveries += deliveries;
        if deliveries > 0 {
            self.last_delivery_ns = now;
        }
        if measured_from_ns != u64::MAX {
            self.received_bytes += count as u64;
        }
        let is_done = connection.stream.is_done();
        if !had_begun && connection.stream.has_begun() {
            self.opening -= 1;
            self.begun += 1;
            self.found.connect_latency.saturating_record(now - connection.tried_ns);
            self.found.last_begun_ns = now;
        }
        match fed {
            Ok(head) => self.found.server = head.and_then(|head| head.server).or(self.found.server.take()),
            Err(error) => return self.end(at, Some(error.to_string())),
        }
        if is_done {
            self.end(at, None);
        }
    }

    /// Closes a connection, and records why.
    fn end(&mut self, at: usize, failure: Option<String>) {
        let connection = &mut self.connections[at];
        connection.socket = None;
        self.looks.note_move();
        let failure = if connection.stream.has_begun() {
            self.ended += 1;
            *(if connection.is_slow { &mut self.found.slow_ended } else { &mut self.found.fast_ended }) += 1;
            failure.unwrap_or_else(|| "the server ended the stream".to_owned())
        } else {
            self.opening -= 1;
            self.failed += 1;
            failure.unwrap_or_else(|| "the server closed the connection without an answer".to_owned())
        };
        self.found.count_failure(failure, 1);
    }

    fn own_board(&self) -> &ReaderBoard {
        &self.board.readers[self.index]
    }

    fn post(&mut self) -> io::Result<()> {
        let board = self.own_board();
        board.tried.store(self.connections.len() as u64, Ordering::Release);
        board.begun.store(self.begun, Ordering::Release);
        board.failed.store(self.failed, Ordering::Release);
        board.settled.store(self.settled, Ordering::Release);
        board.ended.store(self.ended, Ordering::Release);
        board.received_bytes.store(self.received_bytes, Ordering::Release);
        board.last_delivery_ns.store(self.last_delivery_ns, Ordering::Release);
        board.deliveries.store(self.deliveries, Ordering::Release);
        self.board.advance(std::mem::take(&mut self.advanced))?;
        self.post_places();
        Ok(())
    }

    /// Looks for the slowest streams if the board asks for them.
    fn post_places(&mut self) {
        if !self.board.wants_places.load(Ordering::Acquire) {
            return;
        }
        let (plan, connections) = (&self.plan, &self.connections);
        let look = || {
            let (mut fast, mut slow) = (u64::MAX, u64::MAX);
            for connection in connections.iter().filter(|connection| connection.socket.is_some()) {
                let place = connection.place(plan.spread);
                let least = if connection.is_slow { &mut slow } else { &mut fast };
                *least = place.min(*least);
            }
            (fast, slow)
        };
        if let Some((fast, slow)) = self.looks.look(self.board.clock, look) {
            let board = self.own_board();
            board.fast_place.store(fast, Ordering::Release);
            board.slow_place.store(slow, Ordering::Release);
        }
    }

    fn timeout(&self, now: u64) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let waits_for_places = self.looks.has_moved() && self.board.wants_places.load(Ordering::Acquire);
        let opens = self.next_subscriber().is_some_and(|_| self.opening < OPENING_MAX);
        let shortest = if waits_for_places || opens { TICK } else { IDLE };
        shortest.min(self.slow.wait(now).unwrap_or(IDLE))
    }

    /// Counts events that never came. A stream that ended early lacks the events after its end, which
    /// its client can see.
    fn finish(mut self) -> Found {
        let published = self.board.published.load(Ordering::Acquire);
        let is_drain_cut = self.board.is_drain_cut.load(Ordering::Acquire);
        for connection in self.connections.iter_mut().filter(|connection| connection.socket.is_some()) {
            let of_channel = self.plan.spread.published(connection.channel, published);
            if connection.is_slow && is_drain_cut {
                self.found.unread +=
                    of_channel.saturating_sub(connection.sequence.next().unwrap_or(of_channel));
                continue;
            }
            let tally = if connection.is_slow { &mut self.found.slow } else { &mut self.found.fast };
            connection.sequence.end(of_channel, tally);
        }
        self.found
    }
}

/// Large enough that one read empties a stream's socket buffer, small enough to stay in a core's cache.
const READ_BYTES: usize = 256 * 1024;

/// Reads of one connection before the others have their turn.
const READS_PER_TURN: usize = 16;

const EVENTS_PER_TURN: usize = 1024;

/// Most connections that wait for their answer. It is below the backlog of common servers, so that no
/// handshake is dropped and repeated a second later.
const OPENING_MAX: usize = 256;

/// Connections begun before the open ones have their turn.
const OPENED_PER_TURN: usize = 64;

/// The shortest timeout of epoll.
const TICK: Duration = Duration::from_millis(1);

/// Longest time until a change of phase is noticed.
const IDLE: Duration = Duration::from_millis(20);
