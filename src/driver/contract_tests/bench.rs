//! The bench for testing a driver: the driver, a network with peers, and the completions of its waits.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

use crate::base::id::ConnId;
use crate::driver::epoll::EpollDriver;
use crate::driver::sim::{SimDriver, SimNet, SimOptions, SimPeer};
use crate::driver::socket::{Listener, SocketOptions, bind};
use crate::driver::unix::{SocketFile, bind_unix};
use crate::driver::uring::tests::{proven, proven_reporting_everything};
use crate::driver::uring::{PreparedUring, Proven, UringDriver};
use crate::driver::{Completion, Driver, SendStart, with_offer};

/// A network that peers connect through.
pub(super) trait Net {
    type Driver: Driver;
    type Peer: Peer;
    /// More bytes than the buffers of a connection hold.
    const MANY_BYTES: usize;
    /// Whether it has races that only repetition finds.
    const IS_REAL: bool;
    /// Whether a peer that closes at once, with nothing unread, differs from a peer that ends its side.
    const REPORTS_RESETS: bool = true;
    /// Connects. `None` if nobody listens.
    fn try_connect(&mut self) -> Option<Self::Peer>;
    fn connect(&mut self) -> Self::Peer {
        self.try_connect().unwrap()
    }
}

/// The other end of a connection. Nothing it does blocks.
pub(super) trait Peer {
    fn write(&mut self, bytes: &[u8]) -> usize;
    fn read(&mut self) -> Vec<u8>;
    fn shutdown_write(&mut self);
    fn reset(&mut self);
    /// Returns true if and only if a read has met the end or a reset.
    fn is_over(&self) -> bool;
}

/// A completion that owns its contents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Accepted(ConnId),
    Received(ConnId, Vec<u8>),
    Ended(ConnId),
    Sent(ConnId, usize),
    Writable(ConnId),
    Failed(ConnId),
}

pub(super) struct Bench<N: Net> {
    pub(super) net: N,
    pub(super) driver: N::Driver,
    /// The id of the next connection that is accepted.
    pub(super) next_id: ConnId,
    /// Whether new connections are refused.
    pub(super) refuses: bool,
    seen: VecDeque<Seen>,
}

impl<N: Net> Bench<N> {
    fn new(net: N, driver: N::Driver) -> Bench<N> {
        let next_id = ConnId { index: 3, generation: 1 };
        Bench { net, driver, next_id, refuses: false, seen: VecDeque::new() }
    }

    /// Waits once, for a moment. Adopts new connections, and leaves out failures to accept, which may
    /// always happen.
    pub(super) fn wait(&mut self) -> Vec<Seen> {
        self.wait_for(Duration::from_millis(1))
    }

    /// As [`Bench::wait`], for at most `timeout`.
    pub(super) fn wait_for(&mut self, timeout: Duration) -> Vec<Seen> {
        self.driver.wait(Some(timeout)).unwrap();
        let mut newcomers = Vec::new();
        while let Some(completion) = self.driver.next() {
            self.seen.push_back(match completion {
                Completion::Accepted { socket, listener } => {
                    assert_eq!(listener, 0);
                    newcomers.push(socket);
                    continue;
                }
                Completion::AcceptFailed { .. } => continue,
                Completion::Received { conn, bytes } => Seen::Received(conn, bytes.to_vec()),
                Completion::ReceiveEnded { conn } => Seen::Ended(conn),
                Completion::Sent { conn, bytes } => Seen::Sent(conn, bytes),
                Completion::Writable { conn } => Seen::Writable(conn),
                Completion::Failed { conn, .. } => Seen::Failed(conn),
            });
        }
        for socket in newcomers {
            if self.refuses {
                self.driver.refuse(socket);
                continue;
            }
            let conn = self.next_id;
            self.next_id.index += 1;
            self.driver.adopt(socket, conn).unwrap();
            self.seen.push_back(Seen::Accepted(conn));
        }
        self.seen.drain(..).collect()
    }

    /// Waits for the next completion and returns it (a minute at most).
    pub(super) fn next(&mut self) -> Seen {
        for _ in 0..60_000 {
            let seen = self.wait();
            self.seen.extend(seen);
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
        }
        panic!("no completion came");
    }

    /// Returns all completions of a while in which nobody does anything.
    pub(super) fn settle(&mut self) -> Vec<Seen> {
        (0..20).flat_map(|_| self.wait()).collect()
    }

    pub(super) fn connect(&mut self) -> (N::Peer, ConnId) {
        let peer = self.net.connect();
        let seen = self.next();
        let Seen::Accepted(conn) = seen else { panic!("{seen:?}") };
        (peer, conn)
    }

    /// Offers each part as a run of its own. Only the driver holds the runs afterwards.
    pub(super) fn offer(&mut self, conn: ConnId, parts: &[&[u8]]) -> SendStart {
        with_offer(parts, |offer| self.driver.send(conn, offer))
    }

    /// Sends, waits for the result, and returns how many bytes were taken.
    pub(super) fn send(&mut self, conn: ConnId, parts: &[&[u8]]) -> usize {
        match self.offer(conn, parts) {
            SendStart::Sent(bytes) => bytes,
            SendStart::Pending => {
                let seen = self.next();
                let Seen::Sent(_, bytes) = seen else { panic!("{seen:?}") };
                bytes
            }
            SendStart::Failed(error) => panic!("{error}"),
        }
    }

    /// Sends all `bytes` while the peer reads as much as needed. Returns the bytes that it read.
    pub(super) fn send_all(&mut self, conn: ConnId, peer: &mut N::Peer, bytes: &[u8]) -> Vec<u8> {
        let (mut sent, mut read) = (0, Vec::new());
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let taken = self.send(conn, &[rest]);
            sent += taken;
            if taken < rest.len() {
                read.extend(peer.read());
                assert_eq!(self.next(), Seen::Writable(conn));
            }
        }
        read
    }

    /// Sends until no more fits while the peer does not read. Returns how many bytes were taken.
    pub(super) fn fill(&mut self, conn: ConnId) -> usize {
        let bytes = vec![b'x'; 16 * 1024];
        let mut sent = 0;
        loop {
            let taken = self.send(conn, &[&bytes]);
            sent += taken;
            if taken < bytes.len() && self.settle().is_empty() {
                return sent;
            }
        }
    }

    /// Reads to the end of the connection, and waits for it.
    pub(super) fn read_to_end(&mut self, peer: &mut N::Peer) -> Vec<u8> {
        let mut read = Vec::new();
        for _ in 0..60_000 {
            read.extend(peer.read());
            if peer.is_over() {
                return read;
            }
            let seen = self.wait();
            self.seen.extend(seen);
        }
        panic!("the connection did not end");
    }
}

pub(super) struct Sockets<D> {
    address: SocketAddr,
    driver: PhantomData<D>,
}

pub(super) struct SocketPeer {
    /// `None` once reset.
    stream: Option<TcpStream>,
    is_over: bool,
}

pub(super) fn over_epoll() -> Bench<Sockets<EpollDriver>> {
    over_sockets(epoll)
}

pub(super) fn over_unix_and_epoll() -> Bench<UnixSockets<EpollDriver>> {
    over_unix_sockets(epoll)
}

/// `None` if the kernel has no io_uring and that is allowed.
pub(super) fn over_io_uring() -> Option<Bench<Sockets<UringDriver>>> {
    proven().map(io_uring).map(over_sockets)
}

/// As [`over_io_uring`].
pub(super) fn over_unix_and_io_uring() -> Option<Bench<UnixSockets<UringDriver>>> {
    proven().map(io_uring).map(over_unix_sockets)
}

/// As [`over_io_uring`], for a kernel whose silence does not mean success.
pub(super) fn over_io_uring_that_reports_everything() -> Option<Bench<Sockets<UringDriver>>> {
    proven_reporting_everything().map(io_uring).map(over_sockets)
}

fn epoll(listener: Listener) -> EpollDriver {
    EpollDriver::new(vec![listener]).unwrap()
}

fn io_uring(proven: Proven) -> impl FnOnce(Listener) -> UringDriver {
    move |listener| PreparedUring::new(vec![listener], 10_000, proven).unwrap().start().unwrap()
}

fn over_sockets<D: Driver>(driver: impl FnOnce(Listener) -> D) -> Bench<Sockets<D>> {
    let options = SocketOptions { send_buffer_bytes: Some(32 * 1024), ..SocketOptions::default() };
    let listener = bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let net = Sockets { address: listener.address().unwrap(), driver: PhantomData };
    Bench::new(net, driver(listener))
}

/// Sockets in the file system.
pub(super) struct UnixSockets<D> {
    file: SocketFile,
    _directory: tempfile::TempDir,
    driver: PhantomData<D>,
}

fn over_unix_sockets<D: Driver>(driver: impl FnOnce(Listener) -> D) -> Bench<UnixSockets<D>> {
    let directory = tempfile::tempdir().unwrap();
    let (listener, file) = bind_unix(&directory.path().join("s"), &SocketOptions::default()).unwrap();
    let net = UnixSockets { file, _directory: directory, driver: PhantomData };
    Bench::new(net, driver(listener))
}

impl<D: Driver> Net for UnixSockets<D> {
    type Driver = D;
    type Peer = SocketPeer;
    const MANY_BYTES: usize = 10_000_000;
    const IS_REAL: bool = true;
    const REPORTS_RESETS: bool = false;

    fn try_connect(&mut self) -> Option<SocketPeer> {
        let stream = UnixStream::connect(self.file.path()).ok()?;
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from(OwnedFd::from(stream)); // The calls made on it do not depend on TCP.
        Some(SocketPeer { stream: Some(stream), is_over: false })
    }
}

impl<D: Driver> Net for Sockets<D> {
    type Driver = D;
    type Peer = SocketPeer;
    const MANY_BYTES: usize = 10_000_000;
    const IS_REAL: bool = true;

    fn try_connect(&mut self) -> Option<SocketPeer> {
        let stream = TcpStream::connect(self.address).ok()?;
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(SocketPeer { stream: Some(stream), is_over: false })
    }
}

impl Peer for SocketPeer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.stream.as_mut().unwrap().write(bytes).unwrap_or(0)
    }

    fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let bytes = match self.stream.as_mut().unwrap().read(&mut buffer) {
            Ok(bytes) => {
                self.is_over = bytes == 0;
                bytes
            }
            Err(error) => {
                self.is_over = error.kind() != ErrorKind::WouldBlock;
                0
            }
        };
        buffer.truncate(bytes);
        buffer
    }

    fn shutdown_write(&mut self) {
        self.stream.as_ref().unwrap().shutdown(Shutdown::Write).unwrap();
    }

    fn reset(&mut self) {
        let stream = self.stream.take().unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(); // Makes a close a reset.
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

pub(super) fn over_calm_sim() -> Bench<SimNet> {
    over_sim(0, SimOptions::calm())
}

pub(super) fn over_hostile_sim(seed: u64) -> Bench<SimNet> {
    over_sim(seed, SimOptions::hostile())
}

fn over_sim(seed: u64, options: SimOptions) -> Bench<SimNet> {
    let net = SimNet::new(seed, options);
    let driver = net.driver();
    Bench::new(net, driver)
}

impl Net for SimNet {
    type Driver = SimDriver;
    type Peer = SimPeer;
    const MANY_BYTES: usize = 100_000;
    const IS_REAL: bool = false;

    fn try_connect(&mut self) -> Option<SimPeer> {
        let peer = SimNet::connect(self);
        (!peer.was_reset()).then_some(peer)
    }
}

impl Peer for SimPeer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        SimPeer::write(self, bytes)
    }

    fn read(&mut self) -> Vec<u8> {
        SimPeer::read(self, usize::MAX)
    }

    fn shutdown_write(&mut self) {
        SimPeer::shutdown_write(self);
    }

    fn reset(&mut self) {
        SimPeer::reset(self);
    }

    fn is_over(&self) -> bool {
        self.is_ended() || self.was_reset()
    }
}
