//! The driver for every Linux: readiness from epoll, through mio, reported as completions.
//!
//! Sockets are watched edge-triggered (`epoll(7)`): the kernel tells once that there is something, and never again until
//! more comes. So whatever is left before `EAGAIN` must be remembered here: a socket that may hold more to read in its
//! slot, a listener that may hold more connections in `accept`. Those whose owner waits for just that stand in the
//! ready list, in the order in which they came up, and each is read from once before its next turn.
//!
//! A connection is read from before it is watched, as its request has mostly come with it. It is watched from the wait on
//! for which it has something to wait for. Being added to epoll reports what is there by then (`epoll_ctl(2)`), so nothing
//! is lost that came in between, the end included.

mod accept;
mod connection;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};
use socket2::Socket;

use self::accept::{Accept, Acceptor};
use self::connection::{Connection, Source};
use super::socket::Listener;
use super::table::Table;
use super::{Completion, Driver, SendStart};
use crate::base::id::ConnId;
use crate::base::limits::{COMPLETIONS_PER_WAIT_MAX, READ_BUFFER_BYTES, SEND_SLICES_MAX};
use crate::base::mailbox::Wake;
use crate::frame::offer::Offer;

/// Serves sockets through epoll. See the [module](self).
pub struct EpollDriver {
    poll: Poll,
    events: Events,
    waker: Arc<EpollWaker>,
    acceptor: Acceptor,
    table: Table<Connection>,
    /// Connections that have what their owner waits for. May name some that were closed since.
    ready: VecDeque<ConnId>,
    /// How many were taken from the front of the ready list.
    passed: u64,
    /// Connections to be watched from the next wait on, as a receive is outstanding for which nothing is there. May name some
    /// that were closed since.
    unwatched: Vec<ConnId>,
    read_buffer: Box<[u8]>,
    /// Completions handed over since the last wait.
    completions: usize,
}

/// A connection that was accepted from a listener. Dropping it closes it.
#[derive(Debug)]
pub struct EpollSocket(Socket);

/// A completion, but for the bytes, which lie in the read buffer.
enum Step {
    Accept(Accept),
    Received { conn: ConnId, bytes: usize },
    ReceiveEnded(ConnId),
    Writable(ConnId),
    Failed(ConnId, io::Error),
}

/// A peer that is gone makes an error of a send, never a signal: the process may be anyone's who embeds this library.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
const EVENTS_PER_WAIT_MAX: usize = 1024;

impl EpollDriver {
    /// Makes a driver that accepts from `listeners`.
    ///
    /// # Errors
    /// Where the kernel refuses an epoll instance or an eventfd: file descriptors have run out.
    pub fn new(listeners: Vec<Listener>) -> io::Result<EpollDriver> {
        let poll = Poll::new()?;
        let waker = Arc::new(EpollWaker(mio::Waker::new(poll.registry(), connection::WAKER)?));
        let acceptor = Acceptor::new(listeners, poll.registry())?;
        Ok(EpollDriver {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT_MAX),
            waker,
            acceptor,
            table: Table::default(),
            ready: VecDeque::new(),
            passed: 0,
            unwatched: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            completions: 0,
        })
    }

    /// Has epoll watch those connections that wait for bytes. All of them together, as one system call after the other of a
    /// kind costs less than different ones by turns.
    fn watch_receivers(&mut self) {
        while let Some(conn) = self.unwatched.pop() {
            let Some(connection) = self.table.get_mut(conn) else { continue };
            if watch(self.poll.registry(), connection, conn, false).is_err() {
                // It is tried again after a read that finds nothing, where a failure can be told.
                connection.is_readable = true;
                enqueue(&mut self.ready, connection, conn);
            }
        }
    }

    /// Takes in what the last poll told.
    fn note_events(&mut self) {
        for event in &self.events {
            let conn = match connection::source_of(event.token()) {
                Source::Waker => continue, // Having ended the wait is all it is for.
                Source::Listener(listener) => {
                    self.acceptor.note_waiting(listener);
                    continue;
                }
                Source::Connection(conn) => conn,
            };
            let Some(connection) = self.table.get_mut(conn) else { continue };
            let is_broken = event.is_error() || event.is_write_closed();
            if event.is_readable() || event.is_read_closed() || is_broken {
                connection.is_readable = true;
                connection.is_end_near |= event.is_read_closed() || is_broken;
            }
            if event.is_writable() || is_broken {
                connection.has_room = true;
            }
            enqueue(&mut self.ready, connection, conn);
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        if self.completions == COMPLETIONS_PER_WAIT_MAX {
            return None;
        }
        if let Some(accept) = self.acceptor.next() {
            return Some(Step::Accept(accept));
        }
        while let Some(conn) = self.ready.pop_front() {
            self.passed += 1;
            let Some(connection) = self.table.get_mut(conn) else { continue };
            connection.is_queued = false;
            if connection.awaits_room && connection.has_room {
                connection.awaits_room = false;
                enqueue(&mut self.ready, connection, conn);
                return Some(Step::Writable(conn));
            }
            if !(connection.is_receiving && connection.is_readable) {
                continue;
            }
            if let Some(step) = receive(connection, conn, &mut self.read_buffer) {
                return Some(step);
            }
            if !connection.is_readable
                && let Err(error) = watch(self.poll.registry(), connection, conn, false)
            {
                tracing::warn!(%error, "cannot watch a connection");
                return Some(fail(connection, conn, error));
            }
            enqueue(&mut self.ready, connection, conn); // Only where the read was interrupted.
        }
        None
    }
}

/// Has epoll watch a connection, for room too where `for_room` says so. Costs nothing where it does so already.
fn watch(registry: &Registry, connection: &mut Connection, conn: ConnId, for_room: bool) -> io::Result<()> {
    if connection.is_watched && connection.watches_room >= for_room {
        return Ok(());
    }
    let interest = if for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    let descriptor = connection.socket.as_raw_fd();
    let (mut source, token) = (SourceFd(&descriptor), connection::token_of(conn));
    // Either way what is the case by now is reported, as if it came about afterwards.
    if connection.is_watched {
        registry.reregister(&mut source, token, interest)?;
    } else {
        registry.register(&mut source, token, interest)?;
    }
    connection.is_watched = true;
    connection.watches_room = for_room;
    Ok(())
}

/// Puts a connection on the ready list if it has what its owner waits for and is not there yet.
fn enqueue(ready: &mut VecDeque<ConnId>, connection: &mut Connection, conn: ConnId) {
    if connection.has_news() && !connection.is_queued {
        connection.is_queued = true;
        ready.push_back(conn);
    }
}

/// Reads once for the receive that is outstanding; `None` if nothing came of it.
fn receive(connection: &mut Connection, conn: ConnId, buffer: &mut [u8]) -> Option<Step> {
    match connection.socket.read(buffer) {
        Ok(0) => {
            connection.is_receiving = false;
            Some(Step::ReceiveEnded(conn))
        }
        Ok(bytes) => {
            connection.is_receiving = false;
            // A buffer that was not filled was all there is (`epoll(7)`), but for the end, which is told with no
            // event of its own where it came together with these bytes.
            connection.is_readable = bytes == buffer.len() || connection.is_end_near;
            Some(Step::Received { conn, bytes })
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            connection.is_readable = false;
            None
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => None,
        Err(error) => Some(fail(connection, conn, error)),
    }
}

/// A failure is a connection's last completion.
fn fail(connection: &mut Connection, conn: ConnId, error: io::Error) -> Step {
    connection.is_receiving = false;
    connection.awaits_room = false;
    connection.is_readable = false;
    connection.is_watched = true; // Or else what is left of it would be reported.
    Step::Failed(conn, error)
}

impl Driver for EpollDriver {
    type Socket = EpollSocket;

    fn adopt(&mut self, socket: EpollSocket, conn: ConnId) -> io::Result<()> {
        self.table.insert(conn, Connection::new(socket.0));
        Ok(())
    }

    fn hand_over(&mut self, socket: EpollSocket) -> Result<OwnedFd, EpollSocket> {
        Ok(socket.0.into())
    }

    fn take_over(&mut self, descriptor: OwnedFd) -> io::Result<EpollSocket> {
        Ok(EpollSocket(Socket::from(descriptor)))
    }

    fn peer_address(&mut self, conn: ConnId) -> Option<IpAddr> {
        let address = self.table.get_mut(conn)?.socket.peer_addr().ok()?;
        address.as_socket().map(|address| address.ip())
    }

    fn recv(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.is_receiving = true;
        if connection.is_watched || connection.is_readable {
            enqueue(&mut self.ready, connection, conn);
        } else {
            self.unwatched.push(conn);
        }
    }

    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart {
        let batch = offer.slices();
        debug_assert!((1..=SEND_SLICES_MAX).contains(&batch.len()), "a batch has 1 to 64 slices");
        let Some(connection) = self.table.get_mut(conn) else {
            return SendStart::Failed(ErrorKind::NotConnected.into());
        };
        connection.awaits_room = false; // Where it is tried again before there was room.
        let sent = match batch {
            [slice] => connection.socket.send_with_flags(slice, SEND_FLAGS),
            slices => connection.socket.send_vectored_with_flags(slices, SEND_FLAGS),
        };
        let sent = match sent {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return SendStart::Failed(error),
        };
        if sent == offer.bytes() {
            return SendStart::Sent(sent);
        }
        connection.awaits_room = true;
        connection.has_room = false;
        // Watched for room from the first time on: an edge comes only after a send found none, so that taking the interest
        // back would save nothing.
        match watch(self.poll.registry(), connection, conn, true) {
            Ok(()) => SendStart::Sent(sent),
            Err(error) => SendStart::Failed(error),
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.awaits_room = false;
        // It fails only where the peer is gone already (`ENOTCONN`), which a receive tells.
        let _ = connection.socket.shutdown(Shutdown::Write);
    }

    fn close(&mut self, conn: ConnId) {
        self.table.remove(conn);
        self.acceptor.note_closed();
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
        self.completions = 0;
        self.watch_receivers();
        let retry = self.acceptor.begin_wait();
        let timeout = if self.ready.is_empty() && !self.acceptor.is_ready() {
            timeout.into_iter().chain(retry).min()
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => self.note_events(),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<'_, EpollSocket>> {
        let step = self.next_step()?;
        self.completions += 1;
        Some(match step {
            Step::Accept(Accept::Taken { socket, listener }) => {
                Completion::Accepted { socket: EpollSocket(socket), listener }
            }
            Step::Accept(Accept::Failed(error)) => Completion::AcceptFailed { error },
            Step::Received { conn, bytes } => {
                Completion::Received { conn, bytes: &self.read_buffer[..bytes] }
            }
            Step::ReceiveEnded(conn) => Completion::ReceiveEnded { conn },
            Step::Writable(conn) => Completion::Writable { conn },
            Step::Failed(conn, error) => Completion::Failed { conn, error },
        })
    }

    fn hear(&mut self) -> Option<u64> {
        self.watch_receivers();
        if self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_err() {
            self.events.clear(); // It was interrupted, or the next wait says what is broken.
            return None;
        }
        self.note_events();
        // The kernel goes on with others at the next poll, as each is told of once.
        let is_all = self.events.iter().count() < EVENTS_PER_WAIT_MAX;
        is_all.then(|| self.passed + self.ready.len() as u64)
    }

    fn handed_over(&self) -> u64 {
        self.passed
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::<EpollWaker>::clone(&self.waker)
    }
}

impl fmt::Debug for EpollDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollDriver").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

struct EpollWaker(mio::Waker);

impl Wake for EpollWaker {
    fn wake(&self) {
        // An eventfd refuses only when its counter is full, which mio takes care of (`eventfd(2)`).
        let _ = self.0.wake();
    }
}
