//! Whether the kernel does what the driver needs. The probe tries it once with a unix socket.
//!
//! Versions say little: distributions backport features, and seccomp removes them. The probe checks most
//! carefully how a send ends, since memory safety depends on it ([`sends`](super::sends)).

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use io_uring::cqueue;
use socket2::{Domain, SockAddr, Socket, Type};

use super::buffers::{self, Buffers};
use super::error::UringError;
use super::key::Key;
use super::ring::Ring;
use super::sends::{Reporting, Sends};
use super::{ARRIVAL, error};
use crate::base::id::ConnId;
use crate::frame::outbox::Outbox;
use crate::frame::run::Run;

/// Proof that io_uring works here, and how it reports sends.
#[derive(Clone, Copy, Debug)]
pub struct Proven(Reporting);

impl Proven {
    /// Claims without proof that the kernel reports sends in this way.
    #[cfg(test)]
    pub(super) fn of(reporting: Reporting) -> Proven {
        Proven(reporting)
    }

    pub(super) fn reporting(self) -> Reporting {
        self.0
    }
}

/// How long to wait for an answer of the kernel.
const PATIENCE: Duration = Duration::from_secs(2);

/// More bytes than a unix socket takes at once.
const MANY_BYTES: usize = 2 << 20;

const CONN: ConnId = ConnId { index: 0, generation: 0 };

/// Tries every operation that the driver uses.
///
/// # Errors
/// [`UringError`] names what is missing or in the way.
pub fn prove() -> Result<Proven, UringError> {
    // The kernel takes a ring apart some time after it was closed. This interrupts system calls of the
    // thread that used it (`EINTR`), which must not be the caller's.
    let trial = thread::Builder::new().name("io_uring-probe".to_owned()).spawn(prove_here);
    let trial = trial.map_err(UringError::refused)?;
    trial.join().unwrap_or_else(|_| Err(UringError::refused(io::Error::other("the probe has panicked"))))
}

fn prove_here() -> Result<Proven, UringError> {
    let ring = Ring::new(16, 32).map_err(UringError::refused)?;
    let parameters = ring.parameters();
    for (has, what) in [
        (parameters.is_feature_nodrop(), "completions that are never dropped"),
        (parameters.is_feature_ext_arg(), "waits with a time limit"),
        (parameters.is_feature_skip_cqe_on_success(), "completions that are skipped"),
    ] {
        if !has {
            return Err(UringError::lacks(what)(ErrorKind::Unsupported.into()));
        }
    }
    let table = ring.submitter().register_files_sparse(2);
    table.map_err(UringError::lacks("tables of direct descriptors"))?;
    ring.enable().map_err(UringError::lacks(error::RINGS))?;
    let buffers = Buffers::register(&ring.submitter()).map_err(UringError::lacks(buffers::WHAT))?;
    let mut trial = Trial { ring, buffers, seen: Vec::new(), receives: 0 };
    let proven = trial.run();
    trial.end();
    proven
}

/// A ring for trying operations.
struct Trial {
    ring: Ring,
    buffers: Buffers,
    seen: Vec<cqueue::Entry>,
    /// Receives in the kernel.
    receives: usize,
}

impl Trial {
    fn run(&mut self) -> Result<Proven, UringError> {
        let (mut peer, file) =
            self.accept().map_err(UringError::lacks("multishot accept into direct descriptors"))?;
        self.receive(&mut peer, file).map_err(UringError::lacks("receiving into provided buffers"))?;
        self.poll(&mut peer, file).map_err(UringError::lacks("polls"))?;
        let mut reporting = Reporting::Everything;
        for wanted in [Reporting::Failures, Reporting::Everything] {
            let ends = self.send(&mut peer, file, wanted);
            if ends.map_err(UringError::lacks("sends that never wait"))? {
                reporting = wanted;
                break;
            }
        }
        self.finish(&mut peer, file).map_err(UringError::lacks("shutting down and closing"))?;
        Ok(Proven(reporting))
    }

    fn accept(&mut self) -> io::Result<(Socket, u32)> {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        listener.bind(&SockAddr::unix("")?)?; // The kernel chooses an abstract name (`unix(7)`, autobind).
        listener.listen(2)?;
        let key = Key::Listener(0);
        self.ring.accept(listener.as_raw_fd(), true, key);
        self.ring.enter(Some(Duration::ZERO))?;
        let mut accept = || {
            let peer = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            peer.set_read_timeout(Some(PATIENCE))?;
            peer.connect(&listener.local_addr()?)?;
            let entry = self.completion(key)?;
            let file = u32::try_from(entry.result()).map_err(|_| error_of(&entry))?;
            require(cqueue::more(entry.flags()))?;
            Ok::<_, io::Error>((peer, file))
        };
        let (_, first) = accept()?;
        let second = accept()?;
        require(first != second.1)?;
        self.ring.cancel(key);
        let entry = self.completion(key)?;
        require(entry.result() == -libc::ECANCELED && !cqueue::more(entry.flags()))?;
        self.ring.close(first);
        Ok(second)
    }

    fn receive(&mut self, peer: &mut Socket, file: u32) -> io::Result<()> {
        let key = Key::Receive(CONN);
        self.ring.recv(file, buffers::SMALL.number, key);
        self.receives += 1;
        self.ring.enter(Some(Duration::ZERO))?;
        peer.write_all(b"question")?;
        let entry = self.completion(key)?;
        self.receives -= 1;
        let buffer = cqueue::buffer_select(entry.flags()).ok_or_else(|| error_of(&entry))?;
        self.buffers.take(buffer);
        let len = usize::try_from(entry.result()).map_err(|_| error_of(&entry))?;
        let is_whole = self.buffers.bytes(buffer, len) == b"question";
        self.buffers.give_back(buffer);
        require(is_whole)
    }

    fn poll(&mut self, peer: &mut Socket, file: u32) -> io::Result<()> {
        let key = Key::Arrival(CONN);
        self.ring.poll(file, ARRIVAL, key);
        self.ring.enter(Some(Duration::ZERO))?;
        peer.write_all(b"x")?;
        let entry = self.completion(key)?;
        require(entry.result() > 0)
    }

    /// Sends wholly, in part and not at all. Returns whether the kernel reports that as it should.
    fn send(&mut self, peer: &mut Socket, file: u32, reporting: Reporting) -> io::Result<bool> {
        let mut sends = Sends::new(reporting);
        let outcome = self.send_three(peer, file, &mut sends, reporting);
        sends.leak(); // Leaks nothing if all went well.
        outcome
    }

    fn send_three(
        &mut self,
        peer: &mut Socket,
        file: u32,
        sends: &mut Sends,
        reporting: Reporting,
    ) -> io::Result<bool> {
        let mut done = Vec::new();
        for parts in [&[4][..], &[4, MANY_BYTES], &[1]] {
            let mut outbox = Outbox::default();
            parts.iter().for_each(|&len| outbox.push_unbounded(Run::own(vec![b'x'; len])));
            outbox.offer(|offer| sends.begin(&mut self.ring, file, CONN, offer));
            drop(outbox);
            self.ring.enter(Some(Duration::ZERO))?;
            let all_consumed = !self.ring.has_queued();
            self.ring.reap(&mut self.seen)?;
            let completions: Vec<cqueue::Entry> = self.seen.drain(..).collect();
            for entry in &completions {
                if let Key::Send(number) = Key::of(entry.user_data()) {
                    sends.note(number, entry.result());
                }
            }
            let is_success = done.is_empty();
            if completions.len() != usize::from(!is_success || reporting == Reporting::Everything) {
                return Ok(false);
            }
            sends.settle(all_consumed, |send| done.push(send.outcome));
        }
        let [Ok(4), Ok(short), Err(error)] = done[..] else { return Ok(false) };
        // The bytes that arrive are those reported as taken.
        let mut bytes = vec![0; 4 + short];
        peer.read_exact(&mut bytes)?;
        peer.set_nonblocking(true)?;
        let rest = peer.read(&mut [0]).map_err(|error| error.kind());
        peer.set_nonblocking(false)?;
        let is_short = short < 4 + MANY_BYTES;
        Ok(is_short && error == -libc::EAGAIN && rest == Err(ErrorKind::WouldBlock))
    }

    fn finish(&mut self, peer: &mut Socket, file: u32) -> io::Result<()> {
        self.ring.shutdown(file, Key::Shutdown(CONN));
        require(self.completion(Key::Shutdown(CONN))?.result() == 0)?;
        require(peer.read(&mut [0])? == 0)?;
        self.ring.close(file);
        let key = Key::Room(CONN);
        self.ring.poll(file, ARRIVAL, key);
        let entry = self.completion(key)?;
        require(entry.result() == -libc::EBADF)
    }

    /// The next completion. It must have this key.
    fn completion(&mut self, key: Key) -> io::Result<cqueue::Entry> {
        self.ring.enter(Some(PATIENCE))?;
        self.ring.reap(&mut self.seen)?;
        let entry = self.seen.drain(..).next().ok_or(ErrorKind::TimedOut)?;
        if Key::of(entry.user_data()) == key { Ok(entry) } else { Err(error_of(&entry)) }
    }

    fn end(self) {
        if self.receives == 0 {
            self.buffers.unregister(&self.ring.submitter());
        }
    }
}

/// The error of an unexpected completion.
fn error_of(entry: &cqueue::Entry) -> io::Error {
    match entry.result() {
        error @ ..0 => io::Error::from_raw_os_error(-error),
        result => io::Error::other(format!("the kernel has answered {result}")),
    }
}

fn require(holds: bool) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other("the kernel has done something else")) }
}
