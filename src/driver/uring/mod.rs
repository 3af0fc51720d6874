//! The driver for very many connections: io_uring, which needs no file descriptor for any of them.
//!
//! There is one ring per shard. It accepts connections into its own table ("direct descriptors").
//! Operations are queued and submitted together: when a full lot of sends is queued, and at each wait.
//! Their completions are taken in right after, so the driver knows at once what the kernel has finished
//! with.
//!
//! | what | how |
//! | --- | --- |
//! | accept | multishot, into direct descriptors that the kernel chooses |
//! | `recv` | a receive that takes one of the ring's buffers once bytes come; if none is free, it waits in line |
//! | `watch` | a poll, then a receive once it reports something: a poll costs an idle stream a third of a receive |
//! | `send` | never waits; a success is not reported on its own |
//! | `Writable` | a poll, after a short send |
//! | `shutdown` | on a kernel thread; the descriptor stays open until it is done |
//! | `close` | cancels each outstanding operation by its key: cancelling all at once is quadratic in the kernel |
//!
//! **Whose memory.** The kernel accesses two kinds of memory. Runs of sent bytes are in `sends` until
//! their send is done. Receive buffers are freed only when no receive is outstanding. Both outlive their
//! connections. If the driver ends before the kernel is done, they are leaked.

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
use self::exchange::DescriptorExchange;
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
    /// Completions to hand over. May name connections that were closed since.
    events: VecDeque<Event>,
    /// How many were taken from the front of the events.
    passed: u64,
    /// Connections that wait for a buffer to receive into, first come first. The driver does not sleep
    /// while there are any: either a buffer is free, or its bytes wait to be handed over.
    starved: VecDeque<ConnId>,
    /// Direct descriptors of connections that were closed while the end of our side was under way.
    ending: HashMap<ConnId, u32>,
    /// `None` once dropped.
    exchange: Option<DescriptorExchange>,
    /// Direct descriptors of sockets that were dropped.
    dropped: Dropped,
    /// Receives in the kernel, those of closed connections included.
    receives: usize,
    /// The buffer whose bytes were handed over last.
    lent: Option<u16>,
    reaped: Vec<cqueue::Entry>,
    /// Completions handed over since the last wait.
    completions: usize,
    /// The error of a ring that broke in the middle of a turn. The next wait returns it.
    broken: Option<io::Error>,
}

type Dropped = Rc<RefCell<Vec<u32>>>;

/// A connection accepted into a direct descriptor. Dropping it makes the driver close it.
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

/// A completion to hand over.
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

/// A completion without borrowed parts.
enum Step {
    Accept(Accept),
    Event(Event),
}

/// The poll mask of `watch`. An error and the end of both sides are reported too.
const ARRIVAL: libc::c_int = (libc::POLLIN | libc::POLLRDHUP) as libc::c_int;
/// Most rounds through the kernel in one wait: a poll that has reported something, its receive, and one
/// to spare.
const ROUNDS_MAX: usize = 3;
/// The same for `hear`. Each round does part of the work that is due (20 completions, since Linux 6.13).
/// A round that brings nothing is the last.
const HEARING_ROUNDS_MAX: usize = 64;
/// The same when the driver ends. Each round closes as many connections as the queue holds, and there
/// are at most 2^20.
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

    /// Returns true if and only if the connection is still open for this event. Notes that the event is
    /// handed over.
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
            // A receive that begins now would find a buffer before those that wait for one: a few busy
            // peers would keep all buffers.
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
        debug_assert!((1..=SEND_SLICES_MAX).contains(&offer.slices().len()), "an offer has 1 to 64 slices");
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
                    connection.room = Room::Forgotten; // A send is retried before there was room.
                }
                if sends.is_full() {
                    // Only if the kernel had no memory for any send before.
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
        // Asked first: the last listener may close below, and the wait must not sleep through that.
        let was_ready = self.acceptor.is_ready();
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
            timeout = Some(Duration::ZERO); // A poll has reported something, which is received at once.
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
                    // Nobody knows what has come for connections that found no buffer.
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
        // Connections without outstanding operations close here. The others close when the kernel has
        // taken the ring apart. If the ring is broken, that closes all of them.
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
