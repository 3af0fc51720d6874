//! The driver for very many connections: io_uring, which needs no file descriptor for any of them.
//!
//! One ring for each shard. Connections are accepted into the ring's own table ("direct descriptors"). Operations are
//! queued and submitted together: with a full lot of sends, and at each wait. Their completions are taken right after, so
//! what the kernel has no more use for is known at once.
//!
//! | what | how |
//! | --- | --- |
//! | accept | multishot, into direct descriptors that the kernel chooses |
//! | `recv` | a receive that takes one of the ring's buffers for the bytes that come; where none is free, it waits in line |
//! | `watch` | a poll, and a receive once that has told of something: a poll costs an idle stream a third of it |
//! | `send` | never waits, and success is not told one by one |
//! | `Writable` | a poll, after a short send |
//! | `shutdown` | on a thread of the kernel's; the descriptor stays until that is done |
//! | `close` | what is outstanding is cancelled, each by its key: to cancel everything is quadratic in the kernel |
//!
//! **Whose memory.** The kernel looks at two kinds: bytes that are sent, whose runs stand in `sends` until their send is
//! done, and receive buffers, which are given up only when no receive is outstanding. Both outlive their connections.
//! Where the driver ends before the kernel is done, they are leaked.

mod accept;
mod buffers;
mod completions;
mod connection;
mod error;
mod exchange;
mod key;
mod probe;
mod ring;
mod sends;
mod setup;
#[cfg(test)]
pub(super) mod tests;
mod waker;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::cqueue;

pub use self::error::UringError;
pub use self::probe::{Proven, prove};
pub use self::setup::{FILES_MAX, PreparedUring};

use self::accept::{Accept, Acceptor};
use self::buffers::Buffers;
use self::connection::{Connection, Receiving, Room};
use self::exchange::Exchange;
use self::key::{Key, SLOTS_MAX};
use self::ring::Ring;
use self::sends::Sends;
use self::waker::EventFd;
use super::table::Table;
use super::{Completion, Driver, SendStart};
use crate::base::id::ConnId;
use crate::base::limits::{COMPLETIONS_PER_WAIT_MAX, SEND_SLICES_MAX};
use crate::base::mailbox::Wake;
use crate::frame::offer::Offer;

/// Serves sockets through io_uring. See the [module](self).
pub struct UringDriver {
    ring: Ring,
    /// `None` once dropped.
    sends: Option<Sends>,
    /// `None` once dropped.
    buffers: Option<Buffers>,
    waker: Arc<EventFd>,
    acceptor: Acceptor,
    table: Table<Connection>,
    /// What is to be handed over. May tell of connections that were closed since.
    events: VecDeque<Event>,
    /// How many were taken from the front of the events.
    passed: u64,
    /// Connections that wait for a buffer to receive into, first come first. The driver does not sleep while there are
    /// any: either a buffer is free, or what is in them waits to be handed over.
    starved: VecDeque<ConnId>,
    /// Direct descriptors of connections that were closed while the end of our side was under way.
    ending: HashMap<ConnId, u32>,
    /// `None` once dropped.
    exchange: Option<Exchange>,
    /// Direct descriptors of sockets that were dropped.
    dropped: Dropped,
    /// Receives in the kernel, also those of connections that are closed.
    receives: usize,
    /// The buffer whose bytes were handed over last.
    lent: Option<u16>,
    reaped: Vec<cqueue::Entry>,
    /// Completions handed over since the last wait.
    completions: usize,
    /// A ring that broke in the midst of a turn; the next wait says so.
    broken: Option<io::Error>,
}

type Dropped = Rc<RefCell<Vec<u32>>>;

/// A connection that was accepted into a direct descriptor. Dropping it has the driver close it.
#[derive(Debug)]
pub struct UringSocket {
    file: u32,
    /// Taken out when the driver takes the connection over.
    dropped: Option<Dropped>,
}

impl Drop for UringSocket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.borrow_mut().push(self.file);
        }
    }
}

/// A completion to be handed over.
#[derive(Clone, Copy, Debug)]
enum Event {
    Received {
        conn: ConnId,
        buffer: u16,
        bytes: u32,
    },
    ReceiveEnded(ConnId),
    Sent {
        conn: ConnId,
        bytes: usize,
    },
    Writable(ConnId),
    /// With the number of the error.
    Failed(ConnId, i32),
}

/// A completion, but for what is borrowed.
enum Step {
    Accept(Accept),
    Event(Event),
}

/// What `watch` waits for; an error and the end of both sides are told besides.
const ARRIVAL: libc::c_int = (libc::POLLIN | libc::POLLRDHUP) as libc::c_int;
/// Most rounds through the kernel in one wait: a poll that has told of something, its receive, and one to spare.
const ROUNDS_MAX: usize = 3;
/// The same when what has come is heard: the kernel does some of what is due in each (20 completions, since Linux 6.13), and
/// a round that brings nothing is the last.
const HEARING_ROUNDS_MAX: usize = 64;
/// The same when the driver ends: each closes as many connections as the queue holds, of which there are at most 2^20.
const LAST_ROUNDS_MAX: usize = 8192;

impl UringDriver {
    fn close_file(&mut self, file: u32) {
        self.ring.close(file);
        self.acceptor.note_closed();
    }

    fn close_dropped(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.borrow_mut());
        dropped.into_iter().for_each(|file| self.close_file(file));
    }

    fn begin_receive(&mut self, conn: ConnId, group: &buffers::Group) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.receiving = Receiving::Begun;
        self.receives += 1;
        self.ring.recv(connection.file, group.number, Key::Receive(conn));
    }

    fn return_lent(&mut self) {
        if let (Some(buffer), Some(buffers)) = (self.lent.take(), &mut self.buffers) {
            buffers.give_back(buffer);
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        if self.completions == COMPLETIONS_PER_WAIT_MAX {
            return None;
        }
        if let Some(accept) = self.acceptor.next() {
            return Some(Step::Accept(accept));
        }
        loop {
            let event = self.events.pop_front()?;
            self.passed += 1;
            if self.is_wanted(event) {
                return Some(Step::Event(event));
            }
        }
    }

    /// Returns true if and only if the connection is still open for what is to be handed over, and notes that it is.
    fn is_wanted(&mut self, event: Event) -> bool {
        let (Event::Received { conn, .. }
        | Event::ReceiveEnded(conn)
        | Event::Sent { conn, .. }
        | Event::Writable(conn)
        | Event::Failed(conn, _)) = event;
        let connection = self.table.get_mut(conn);
        match (event, connection) {
            (Event::Received { buffer, .. }, None) => {
                self.lent = Some(buffer);
                self.return_lent();
                false
            }
            (_, None) => false,
            (Event::Received { bytes, .. }, Some(connection)) => {
                let is_much = bytes >= buffers::SMALL.bytes;
                connection.receiving = if is_much { Receiving::NoAfterMuch } else { Receiving::No };
                true
            }
            (Event::ReceiveEnded(_), Some(connection)) => {
                connection.receiving = Receiving::No;
                true
            }
            (Event::Sent { .. }, Some(connection)) => !connection.has_failed,
            (Event::Writable(_) | Event::Failed(..), Some(_)) => true,
        }
    }
}

impl Driver for UringDriver {
    type Socket = UringSocket;

    fn adopt(&mut self, mut socket: UringSocket, conn: ConnId) -> io::Result<()> {
        if conn.index >= SLOTS_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENFILE)); // Dropping the socket closes it.
        }
        socket.dropped = None;
        self.table.insert(conn, Connection::new(socket.file));
        Ok(())
    }

    fn hand_over(&mut self, socket: UringSocket) -> Result<OwnedFd, UringSocket> {
        self.make_descriptor(socket)
    }

    fn take_over(&mut self, descriptor: OwnedFd) -> io::Result<UringSocket> {
        self.make_socket(&descriptor)
    }

    fn peer_address(&mut self, conn: ConnId) -> Option<IpAddr> {
        let file = self.table.get_mut(conn).filter(|connection| !connection.has_failed)?.file;
        self.ask_peer_address(file)
    }

    fn recv(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if !connection.receiving.may_begin() || connection.has_failed {
            return;
        }
        if !self.starved.is_empty() {
            // Begun now, it would find the buffers before those do that wait for one: a few busy peers would keep them.
            connection.receiving = Receiving::Starved;
            self.starved.push_back(conn);
            return;
        }
        let had_much = connection.receiving == Receiving::NoAfterMuch;
        self.begin_receive(conn, if had_much { &buffers::LARGE } else { &buffers::SMALL });
    }

    fn watch(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if connection.receiving.may_begin() && !connection.has_failed {
            connection.receiving = Receiving::Polled;
            self.ring.poll(connection.file, ARRIVAL, Key::Arrival(conn));
        }
    }

    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart {
        debug_assert!((1..=SEND_SLICES_MAX).contains(&offer.slices().len()), "a batch has 1 to 64 slices");
        if self.sends.as_ref().is_some_and(Sends::is_full)
            && let Err(error) = self.go_round(Some(Duration::ZERO))
        {
            self.broken.get_or_insert(error);
        }
        let UringDriver { ring, sends: Some(sends), table, .. } = self else {
            return SendStart::Failed(ErrorKind::NotConnected.into());
        };
        match table.get_mut(conn) {
            Some(connection) if !connection.has_failed => {
                if connection.room == Room::Awaited {
                    connection.room = Room::Forgotten; // It is tried again before there was room.
                }
                if sends.is_full() {
                    // Only where the kernel had no memory for any of those before.
                    return SendStart::Failed(io::Error::from_raw_os_error(libc::ENOBUFS));
                }
                sends.begin(ring, connection.file, conn, offer);
                SendStart::Pending
            }
            _ => SendStart::Failed(ErrorKind::NotConnected.into()),
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if connection.room == Room::Awaited {
            connection.room = Room::Forgotten;
        }
        if !std::mem::replace(&mut connection.is_ending, true) {
            self.ring.shutdown(connection.file, Key::Shutdown(conn));
        }
    }

    fn close(&mut self, conn: ConnId) {
        let Some(connection) = self.table.remove(conn) else { return };
        match connection.receiving {
            Receiving::Polled => self.ring.cancel(Key::Arrival(conn)),
            Receiving::Begun => self.ring.cancel(Key::Receive(conn)),
            Receiving::No | Receiving::NoAfterMuch | Receiving::Starved | Receiving::Ended => {}
        }
        if connection.room != Room::Enough {
            self.ring.cancel(Key::Room(conn));
        }
        if connection.is_ending {
            self.ending.insert(conn, connection.file);
        } else {
            self.close_file(connection.file);
        }
    }

    fn pause_accepting(&mut self, paused: bool) {
        self.acceptor.pause(paused);
    }

    fn stop_listening(&mut self) {
        self.acceptor.stop();
    }

    fn is_listening(&self) -> bool {
        self.acceptor.is_listening()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.completions = 0;
        self.return_lent();
        self.close_dropped();
        self.feed_starved();
        let was_ready = self.acceptor.is_ready(); // Before its last listener may close, which is not to be slept upon.
        let retry = self.acceptor.begin_wait(&mut self.ring);
        let sends = self.sends.as_ref().is_some_and(|sends| !sends.is_empty());
        let has_work = sends || !self.events.is_empty() || !self.starved.is_empty();
        let mut timeout = if has_work || was_ready || self.acceptor.is_ready() {
            Some(Duration::ZERO)
        } else {
            timeout.into_iter().chain(retry).min()
        };
        for _ in 0..ROUNDS_MAX {
            self.go_round(timeout)?;
            if !self.events.is_empty() || !self.ring.has_queued() {
                break;
            }
            timeout = Some(Duration::ZERO); // A poll has told of something, which is received at once.
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<'_, UringSocket>> {
        self.return_lent();
        let step = self.next_step()?;
        self.completions += 1;
        Some(match step {
            Step::Accept(Accept::Taken { file, listener }) => {
                let socket = UringSocket { file, dropped: Some(Rc::clone(&self.dropped)) };
                Completion::Accepted { socket, listener }
            }
            Step::Accept(Accept::Failed(error)) => Completion::AcceptFailed { error },
            Step::Event(Event::Received { conn, buffer, bytes }) => {
                self.lent = Some(buffer);
                let bytes = self.buffers.as_ref().map_or(&[][..], |all| all.bytes(buffer, bytes as usize));
                Completion::Received { conn, bytes }
            }
            Step::Event(Event::ReceiveEnded(conn)) => Completion::ReceiveEnded { conn },
            Step::Event(Event::Sent { conn, bytes }) => Completion::Sent { conn, bytes },
            Step::Event(Event::Writable(conn)) => Completion::Writable { conn },
            Step::Event(Event::Failed(conn, error)) => {
                Completion::Failed { conn, error: io::Error::from_raw_os_error(error) }
            }
        })
    }

    fn hear(&mut self) -> Option<u64> {
        for _ in 0..HEARING_ROUNDS_MAX {
            match self.go_round(Some(Duration::ZERO)) {
                Ok(0) if !self.ring.has_queued() => {
                    // Of those that found no buffer nobody knows what has come.
                    let is_all = self.starved.is_empty();
                    return is_all.then(|| self.passed + self.events.len() as u64);
                }
                Ok(_) => {}
                Err(error) => {
                    self.broken.get_or_insert(error);
                    return None;
                }
            }
        }
        None
    }

    fn handed_over(&self) -> u64 {
        self.passed
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::<EventFd>::clone(&self.waker)
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        self.acceptor.abandon(&mut self.ring);
        self.close_dropped();
        for connection in self.table.drain() {
            self.ring.close(connection.file);
        }
        // Connections with nothing outstanding close here, the others when the kernel has taken the ring apart. Where the
        // ring is broken, that closes them all.
        for _ in 0..LAST_ROUNDS_MAX {
            if !self.ring.has_queued() || self.go_round(Some(Duration::ZERO)).is_err() {
                break;
            }
        }
        if let Some(sends) = self.sends.take() {
            sends.leak();
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.leak();
        }
        let Some(buffers) = self.buffers.take() else { return };
        if self.receives == 0 {
            buffers.unregister(&self.ring.submitter());
        }
    }
}

impl fmt::Debug for UringDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringDriver").field("events", &self.events.len()).finish_non_exhaustive()
    }
}
