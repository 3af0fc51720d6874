//! The driver for every Linux: takes readiness from epoll, through mio, and reports it as completions.
//!
//! Sockets are watched edge-triggered (`epoll(7)`): the kernel reports new data once, and not again
//! until more comes. So the driver must remember what is left before `EAGAIN`. A socket that may have
//! more to read is marked in its slot, and a listener that may have more connections in `accept`. If the
//! owner waits for such a connection, it is in the ready list, in the order of arrival. Each is read
//! once before its next turn.
//!
//! A connection is read before it is watched, since its request has usually come with it. epoll watches
//! it from the first wait at which it has something to wait for. Adding it to epoll reports everything
//! that is already there (`epoll_ctl(2)`), so nothing is lost in between, the end included.

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
use self::connection::{Connection, TokenOwner};
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
    /// Connections with something that their owner waits for. May name connections that were closed
    /// since.
    ready: VecDeque<ConnId>,
    /// How many were taken from the front of the ready list.
    passed: u64,
    /// Connections to watch from the next wait on: a receive is outstanding, and there is nothing to
    /// read. May name connections that were closed since.
    unwatched: Vec<ConnId>,
    read_buffer: Box<[u8]>,
    /// Completions handed over since the last wait.
    completions: usize,
}

/// A connection accepted from a listener. Dropping it closes it.
#[derive(Debug)]
pub struct EpollSocket(Socket);

/// A completion without its bytes, which are in the read buffer.
enum Step {
    Accept(Accept),
    Received { conn: ConnId, bytes: usize },
    ReceiveEnded(ConnId),
    Writable(ConnId),
    Failed(ConnId, io::Error),
}

/// A vanished peer makes a send fail and raises no signal: any application may embed this library.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
const EVENTS_PER_WAIT_MAX: usize = 1024;

impl EpollDriver {
    /// Makes a driver that accepts from `listeners`.
    ///
    /// # Errors
    /// If the kernel refuses an epoll instance or an eventfd, since file descriptors have run out.
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

    /// Makes epoll watch the connections that wait for bytes. It does so for all of them at once, since
    /// many system calls of one kind in a row cost less than a mix.
    fn watch_receivers(&mut self) {
        while let Some(conn) = self.unwatched.pop() {
            let Some(connection) = self.table.get_mut(conn) else { continue };
            if watch(self.poll.registry(), connection, conn, false).is_err() {
                // It is retried after a read that finds nothing, where a failure can be reported.
                connection.is_readable = true;
                enqueue(&mut self.ready, connection, conn);
            }
        }
    }

    /// Takes in the events of the last poll.
    fn note_events(&mut self) {
        for event in &self.events {
            let conn = match connection::owner_of(event.token()) {
                TokenOwner::Waker => continue, // A wake-up only ends the wait.
                TokenOwner::Listener(listener) => {
                    self.acceptor.note_waiting(listener);
                    continue;
                }
                TokenOwner::Connection(conn) => conn,
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
            enqueue(&mut self.ready, connection, conn); // Only if the read was interrupted.
        }
        None
    }
}

/// Makes epoll watch a connection, and for room too if `for_room` is true. Makes no system call if it
/// already does.
fn watch(registry: &Registry, connection: &mut Connection, conn: ConnId, for_room: bool) -> io::Result<()> {
    if connection.is_watched && connection.watches_room >= for_room {
        return Ok(());
    }
    let interest = if for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    let descriptor = connection.socket.as_raw_fd();
    let (mut source, token) = (SourceFd(&descriptor), connection::token_of(conn));
    // Either call reports existing readiness as if it were new.
    if connection.is_watched {
        registry.reregister(&mut source, token, interest)?;
    } else {
        registry.register(&mut source, token, interest)?;
    }
    connection.is_watched = true;
    connection.watches_room = for_room;
    Ok(())
}

/// Adds a connection to the ready list if it is not there and has something that its owner waits for.
fn enqueue(ready: &mut VecDeque<ConnId>, connection: &mut Connection, conn: ConnId) {
    if connection.has_news() && !connection.is_queued {
        connection.is_queued = true;
        ready.push_back(conn);
    }
}

/// Reads once for the outstanding receive. `None` if nothing came of it.
fn receive(connection: &mut Connection, conn: ConnId, buffer: &mut [u8]) -> Option<Step> {
    match connection.socket.read(buffer) {
        Ok(0) => {
            connection.is_receiving = false;
            Some(Step::ReceiveEnded(conn))
        }
        Ok(bytes) => {
            connection.is_receiving = false;
            // A buffer that was not filled has taken everything (`epoll(7)`), except the end. If the end
            // came together with these bytes, it has no event of its own.
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
    connection.is_watched = true; // Otherwise its remaining events would be reported.
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
        let slices = offer.slices();
        debug_assert!((1..=SEND_SLICES_MAX).contains(&slices.len()), "an offer has 1 to 64 slices");
        let Some(connection) = self.table.get_mut(conn) else {
            return SendStart::Failed(ErrorKind::NotConnected.into());
        };
        connection.awaits_room = false; // If a send is retried before there was room.
        let sent = match slices {
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
        // It stays watched for room from the first time on. An edge comes only after a send found no
        // room, so withdrawing the interest would save nothing.
        match watch(self.poll.registry(), connection, conn, true) {
            Ok(()) => SendStart::Sent(sent),
            Err(error) => SendStart::Failed(error),
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.awaits_room = false;
        // Fails only if the peer is already gone (`ENOTCONN`), which a receive reports.
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
            self.events.clear(); // It was interrupted, or the next wait reports what is broken.
            return None;
        }
        self.note_events();
        // The kernel returns other events at the next poll, since it returns each once.
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
        // An eventfd refuses a write only if its counter is full, which mio handles (`eventfd(2)`).
        let _ = self.0.wake();
    }
}
