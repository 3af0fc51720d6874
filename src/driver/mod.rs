//! Moves bytes between one shard and its sockets: the contract and its implementations.
//!
//! A driver accepts connections, moves bytes, and reports what happened as completions. It knows
//! sockets, never HTTP, channels or deadlines. [`epoll`] and [`uring`] serve real sockets. [`sim`] is a
//! seeded network in memory, for tests of everything above. A caller cannot tell which driver it has:
//! all pass the same tests (`contract_tests`).

pub mod affinity;
pub mod descriptors;
pub mod epoll;
pub mod heap;
pub mod sim;
pub mod socket;
pub mod source;
mod table;
pub mod unix;
pub mod uring;

#[cfg(test)]
mod contract_tests;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::ConnId;
use crate::base::mailbox::Wake;
use crate::frame::offer::Offer;

/// Moves the bytes of one shard's connections.
///
/// Its owner loops: [`wait`](Driver::wait), then [`next`](Driver::next) until `None`. It handles each
/// completion before it asks for the next, since all connections share one buffer for received bytes.
///
/// For each connection, named by an id that its owner chose:
/// - At most one receive is outstanding. It ends in exactly one `Received`, `ReceiveEnded` or `Failed`.
/// - At most one send is outstanding: from `SendStart::Pending` to its `Sent`, and from a short send to
///   its `Writable`. Nothing may be offered while a send is pending. Before the `Writable` of a short
///   send the owner may send again, which gives that `Writable` up. If it still comes while the new send
///   is pending, it means nothing.
/// - `Failed` is its last completion. Afterwards only [`close`](Driver::close) is useful.
/// - No completion comes after `close`, not even of outstanding operations. The id may not be used in a
///   call again.
pub trait Driver {
    /// An accepted connection without an owner. Dropping it closes it.
    type Socket: fmt::Debug;

    /// Takes a socket over under an id. No other open connection may have the id's slot (`conn.index`).
    ///
    /// # Errors
    /// If the kernel has no room for one more socket. The socket is then closed, and `conn` is unknown
    /// here. A driver that finds this out later reports [`Completion::Failed`].
    fn adopt(&mut self, socket: Self::Socket, conn: ConnId) -> io::Result<()>;

    /// Closes a socket without taking it over.
    fn refuse(&mut self, socket: Self::Socket) {
        drop(socket);
    }

    /// Turns a socket into a file descriptor, for a driver of the same kind on another thread to [take
    /// over](Driver::take_over).
    ///
    /// # Errors
    /// Returns the socket if it cannot leave this driver. The caller then adopts it here. By default a
    /// driver keeps all its sockets.
    fn hand_over(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        Err(socket)
    }

    /// Takes in a socket that another driver of this kind has [handed over](Driver::hand_over). The
    /// caller then adopts or refuses it.
    ///
    /// # Errors
    /// If it cannot be taken in. It is then closed.
    fn take_over(&mut self, descriptor: OwnedFd) -> io::Result<Self::Socket> {
        drop(descriptor);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The address of a connection's peer. `None` if it has no address, as over a unix socket, or if the
    /// address is unavailable at present. May cost a few system calls.
    fn peer_address(&mut self, conn: ConnId) -> Option<IpAddr> {
        let _ = conn;
        None
    }

    /// Starts a receive. Does nothing while one is outstanding.
    fn recv(&mut self, conn: ConnId);

    /// As [`recv`](Driver::recv), for a stream, where hardly anything but the end will come. A driver
    /// may use its cheapest way to notice the end, even if receiving bytes then costs more.
    fn watch(&mut self, conn: ConnId) {
        self.recv(conn);
    }

    /// Offers the bytes of `offer` and says how many were taken. An offer has 1 to
    /// [`SEND_SLICES_MAX`](crate::base::limits::SEND_SLICES_MAX) slices, not all empty. If the result
    /// comes later, the driver holds the runs until then, whatever happens to the connection.
    #[must_use]
    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart;

    /// Ends our side: the peer receives everything sent, then the end. Neither `Writable` nor another
    /// send comes after it. May not be called while a send is [`Pending`](SendStart::Pending).
    fn shutdown(&mut self, conn: ConnId);

    /// Closes a connection and forgets it. If the peer's bytes were not all received, this resets the
    /// connection, and the peer may lose the last bytes sent to it (RFC 9112 9.6).
    fn close(&mut self, conn: ConnId);

    /// Stops or resumes accepting connections. Meanwhile they wait in the kernel's backlog.
    fn pause_accepting(&mut self, paused: bool);

    /// Accepts the connections that already wait in the backlog, paused or not. Then closes the
    /// listeners for good.
    fn stop_listening(&mut self);

    /// Returns true if and only if a listener is still open.
    fn is_listening(&self) -> bool;

    /// Waits for completions, for the waker, or for `timeout` (`None`: without bound). May return early
    /// without completions.
    ///
    /// # Errors
    /// If waiting itself is broken, which no retry mends.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// The next completion. `None` if it is time to [`wait`](Driver::wait) again. That is the case after
    /// at most [`COMPLETIONS_PER_WAIT_MAX`](crate::base::limits::COMPLETIONS_PER_WAIT_MAX) completions.
    fn next(&mut self) -> Option<Completion<'_, Self::Socket>>;

    /// Collects everything that has arrived, without waiting and without handing it over. Returns the
    /// number that [`handed_over`](Driver::handed_over) reaches once all of it is handed over. `None` if
    /// more may have arrived than could be collected: the caller asks again after its next wait.
    ///
    /// So an owner that stood still learns what its peers sent meanwhile, before it closes them for
    /// being late. By default a driver collects nothing ahead.
    fn hear(&mut self) -> Option<u64> {
        Some(0)
    }

    /// The number of collected items that were handed over or became obsolete.
    fn handed_over(&self) -> u64 {
        0
    }

    /// Ends a wait from any thread: the current wait, or else the next.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// The immediate result of a send.
#[derive(Debug)]
pub enum SendStart {
    /// This many bytes were taken. If fewer were taken than offered, no more fit. Then exactly one
    /// [`Completion::Writable`] follows when there is room again, unless another send comes first.
    Sent(usize),
    /// The result comes later, in one [`Completion::Sent`].
    Pending,
    /// The connection is broken and no byte was taken. The peer is gone, or will see a reset.
    Failed(io::Error),
}

/// Something that happened. `S` is [`Driver::Socket`].
#[derive(Debug)]
pub enum Completion<'a, S> {
    /// A peer has connected. The connection must be adopted or refused.
    Accepted {
        /// The new connection.
        socket: S,
        /// The index of the listener that accepted it, in the order the driver got its listeners.
        listener: usize,
    },
    /// Connections wait but cannot be accepted, most likely since the process or the system is out of
    /// file descriptors. The driver tries again after the next close, or after a while.
    AcceptFailed {
        /// The kernel's error.
        error: io::Error,
    },
    /// The receive ended with these bytes, at least one.
    Received {
        /// The connection.
        conn: ConnId,
        /// Valid until the driver is called again.
        bytes: &'a [u8],
    },
    /// The receive ended since the peer has ended its side. The peer may still read.
    ReceiveEnded {
        /// The connection.
        conn: ConnId,
    },
    /// The pending send ended. If `bytes` is less than was offered, a `Writable` follows.
    Sent {
        /// The connection.
        conn: ConnId,
        /// The number of bytes taken.
        bytes: usize,
    },
    /// There is room again after a short send.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// All outstanding operations have failed: the peer is gone or has reset the connection.
    Failed {
        /// The connection.
        conn: ConnId,
        /// The kernel's error.
        error: io::Error,
    },
}

/// The number of bytes of all slices together.
fn slices_bytes(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// Calls `send` with an offer that has a run of its own for each part.
#[cfg(test)]
fn with_offer<R>(parts: &[&[u8]], send: impl FnOnce(Offer<'_>) -> R) -> R {
    let mut outbox = crate::frame::outbox::Outbox::default();
    parts.iter().for_each(|part| outbox.push_unbounded(crate::frame::run::Run::own(part.to_vec())));
    outbox.offer(send)
}
