//! Bytes in and out of one shard's sockets: the contract, and those who keep it.
//!
//! A driver accepts connections, moves bytes, and reports what happened as completions. It knows sockets, never HTTP,
//! channels or deadlines. [`epoll`] serves real sockets; [`sim`] is a seeded network in memory, for tests of everything
//! above. Who calls a driver cannot tell which one it is: both pass the same tests (`contract_tests.rs`).

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
/// The loop of its owner is: [`wait`](Driver::wait), then [`next`](Driver::next) until `None`, handling each completion
/// before it asks for the next one, as received bytes lie in a buffer that all connections share.
///
/// For each connection, named by an id that its owner chose:
/// - At most one receive is outstanding. It ends in exactly one `Received`, `ReceiveEnded` or `Failed`.
/// - At most one send is outstanding: from `SendStart::Pending` to its `Sent`, and from a short send to its `Writable`.
///   Nothing may be offered while a send is pending. Its owner may try again before the `Writable` of a short send: that
///   `Writable` is given up then, and if it comes all the same while the new send is pending, it means nothing.
/// - `Failed` is its last completion, and only [`close`](Driver::close) is of use afterwards.
/// - No completion comes after `close`, also not of what was outstanding. The id may not be used in a call again.
pub trait Driver {
    /// A connection that was accepted and is nobody's yet. Dropping it closes it.
    type Socket: fmt::Debug;

    /// Takes a socket over, under an id whose slot (`conn.index`) no other open connection has.
    ///
    /// # Errors
    /// Where the kernel has no room for one more socket. The socket is closed then, and `conn` is not known here. A driver
    /// that finds it out later says so by [`Completion::Failed`].
    fn adopt(&mut self, socket: Self::Socket, conn: ConnId) -> io::Result<()>;

    /// Closes a socket without ever taking it over.
    fn refuse(&mut self, socket: Self::Socket) {
        drop(socket);
    }

    /// Gives a socket up as a file descriptor, for a driver of the same kind on another thread to
    /// [take over](Driver::take_over).
    ///
    /// # Errors
    /// Gives the socket back where it cannot leave this driver: it is to be adopted here. A driver that says nothing of
    /// this keeps all its sockets.
    fn hand_over(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        Err(socket)
    }

    /// Takes in a socket that another driver of this kind has [handed over](Driver::hand_over), to be adopted or refused.
    ///
    /// # Errors
    /// Where it cannot be taken in; it is closed then.
    fn take_over(&mut self, descriptor: OwnedFd) -> io::Result<Self::Socket> {
        drop(descriptor);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Says from which address a connection comes; `None` where it has none, as over a unix socket, and where that cannot be
    /// found out at present. It may cost a few system calls.
    fn peer_address(&mut self, conn: ConnId) -> Option<IpAddr> {
        let _ = conn;
        None
    }

    /// Asks for bytes. Asking again while a receive is outstanding changes nothing.
    fn recv(&mut self, conn: ConnId);

    /// As [`recv`](Driver::recv), where hardly anything but the end will come: on a stream. A driver may take the cheapest
    /// way there is to notice that, though bytes then cost it more.
    fn watch(&mut self, conn: ConnId) {
        self.recv(conn);
    }

    /// Offers the bytes of `offer` (1 to [`SEND_SLICES_MAX`](crate::base::limits::SEND_SLICES_MAX) slices, not all
    /// empty), and says how many of them were taken. Where that is said later, the driver holds their runs until then,
    /// whatever happens to the connection.
    #[must_use]
    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart;

    /// Ends our side: what was sent arrives, then the end does. Neither `Writable` nor another send comes after it; may
    /// not be called while a send is [`Pending`](SendStart::Pending).
    fn shutdown(&mut self, conn: ConnId);

    /// Closes a connection and forgets it. Where bytes of the peer were not yet received, this resets the connection,
    /// and the peer may lose what was sent to it last (RFC 9112 9.6).
    fn close(&mut self, conn: ConnId);

    /// Stops taking connections, or takes them again; they wait in the kernel's backlog meanwhile.
    fn pause_accepting(&mut self, paused: bool);

    /// Takes the connections that already wait in the backlog, paused or not, and then closes the listeners for good.
    fn stop_listening(&mut self);

    /// Returns true if and only if a listener is still open.
    fn is_listening(&self) -> bool;

    /// Waits until there are completions to take, the waker is used, or `timeout` has passed (`None`: without bound).
    /// May return earlier without any.
    ///
    /// # Errors
    /// Where waiting itself is broken, which no retry mends.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Hands over the next completion; `None` when it is time to [`wait`](Driver::wait) again, at the latest after
    /// [`COMPLETIONS_PER_WAIT_MAX`](crate::base::limits::COMPLETIONS_PER_WAIT_MAX).
    fn next(&mut self) -> Option<Completion<'_, Self::Socket>>;

    /// Takes in what has come by now, without waiting and without handing any of it over. Returns the number that
    /// [`handed_over`](Driver::handed_over) has reached once it was all handed over; `None` where more may have come than
    /// could be taken in: ask again after the next wait.
    ///
    /// So an owner that stood still hears what its peers sent meanwhile before it judges them by the time. A driver that
    /// says nothing of this hands over at once whatever comes.
    fn hear(&mut self) -> Option<u64> {
        Some(0)
    }

    /// How much was handed over of what came, or is of no use any more.
    fn handed_over(&self) -> u64 {
        0
    }

    /// Ends a wait from any thread: the present one, or else the next.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// What became of an offered batch at once.
#[derive(Debug)]
pub enum SendStart {
    /// So many bytes were taken. Where that is less than was offered, none more fit, and exactly one
    /// [`Completion::Writable`] follows when some do, unless a send is tried before.
    Sent(usize),
    /// One [`Completion::Sent`] follows that says the same.
    Pending,
    /// The connection is broken; none of the bytes were taken. The peer is gone, or will see a reset.
    Failed(io::Error),
}

/// Something that happened. `S` is the driver's [`Driver::Socket`].
#[derive(Debug)]
pub enum Completion<'a, S> {
    /// Somebody connected: to be adopted or refused.
    Accepted {
        /// The new connection.
        socket: S,
        /// Which of the driver's listeners took it, counted from 0 in the order they were handed over.
        listener: usize,
    },
    /// Connections wait, but none can be taken, most likely as the process or the system is out of file descriptors.
    /// The driver tries again after the next close, or after a while.
    AcceptFailed {
        /// What the kernel said.
        error: io::Error,
    },
    /// The receive ended with these bytes, at least one.
    Received {
        /// Whose.
        conn: ConnId,
        /// Valid until the driver is called again.
        bytes: &'a [u8],
    },
    /// The receive ended as the peer has ended its side. It may still read.
    ReceiveEnded {
        /// Whose.
        conn: ConnId,
    },
    /// The pending send ended. Where `bytes` is less than was offered, a `Writable` follows.
    Sent {
        /// Whose.
        conn: ConnId,
        /// How many bytes were taken.
        bytes: usize,
    },
    /// After a short send: there is room again.
    Writable {
        /// Whose.
        conn: ConnId,
    },
    /// Whatever was outstanding has failed: the peer is gone or has reset the connection.
    Failed {
        /// Whose.
        conn: ConnId,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Returns the bytes of all slices together.
fn batch_bytes(batch: &[IoSlice<'_>]) -> usize {
    batch.iter().map(|slice| slice.len()).sum()
}

/// Has `send` offered each part as a run of its own.
#[cfg(test)]
fn with_offer<R>(parts: &[&[u8]], send: impl FnOnce(Offer<'_>) -> R) -> R {
    let mut outbox = crate::frame::outbox::Outbox::default();
    parts.iter().for_each(|part| outbox.push_unbounded(crate::frame::run::Run::own(part.to_vec())));
    outbox.offer(send)
}
