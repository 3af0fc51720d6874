//! Accepts connections from listeners into direct descriptors, in spite of errors.
//!
//! An accept stays in the kernel and completes once for each connection. The kernel takes a connection
//! before it looks for a descriptor, and drops the connection if it finds none. So while few descriptors
//! are free, the driver accepts one connection at a time. With none free it accepts none.
//!
//! ```text
//!            tend                       it failed for want of resources
//!   Idle ───────────► Once, Always ──────────────────────────────────────► Idle, until `retry_at` or a close
//!     ▲                 │ paused; few descriptors are free; stopping and nobody waits
//!     └── it has ended ─┴─► Cancelled
//! ```
//! A stopping listener closes once it is idle and nobody waits.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::key::Key;
use super::ring::Ring;
use crate::base::limits::ACCEPTS_PER_WAIT_MAX;
use crate::driver::socket::{Listener, is_peers_fault};

/// The listeners of a driver, and the accepted connections that were not handed over yet.
pub(super) struct Acceptor {
    /// In the order they were passed in. `None` if closed.
    listeners: Vec<Option<Watched>>,
    /// Direct descriptors that are not in use.
    free: usize,
    /// The driver accepts one by one while this many descriptors or fewer are free: all backlogs
    /// together could use them up at once.
    reserve: usize,
    /// Results of accepts, by the index of their listener.
    taken: Vec<VecDeque<Accept>>,
    /// The number of results in all queues. Kept since it is checked before each completion.
    taken_len: usize,
    is_paused: bool,
    is_stopping: bool,
    /// How many more connections may be handed over before the next wait.
    budget: usize,
}

struct Watched {
    socket: Socket,
    arm: Arm,
    /// When to try again after a failure.
    retry_at: Option<Instant>,
    /// Most connections accepted after it begins to stop: newcomers may not delay its end for ever.
    last_count: u32,
}

/// The accept operation of a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arm {
    /// There is none.
    Idle,
    /// It accepts one connection.
    Once,
    /// It accepts connections until it fails.
    Always,
    /// It is about to end.
    Cancelled,
}

/// The result of an accept.
pub(super) enum Accept {
    Taken { file: u32, listener: usize },
    Failed(io::Error),
}

pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl Acceptor {
    /// `files` is the size of the ring's table of direct descriptors.
    pub(super) fn new(listeners: Vec<Listener>, files: u32) -> io::Result<Acceptor> {
        let mut watched = Vec::new();
        let mut reserve = ACCEPTS_PER_WAIT_MAX;
        for Listener { socket, backlog, .. } in listeners {
            // Some kernels give up an accept at once if its listener does not block.
            socket.set_nonblocking(false)?;
            reserve += backlog as usize;
            watched.push(Some(Watched { socket, arm: Arm::Idle, retry_at: None, last_count: backlog }));
        }
        let taken = watched.iter().map(|_| VecDeque::new()).collect();
        let budget = ACCEPTS_PER_WAIT_MAX;
        Ok(Acceptor {
            listeners: watched,
            free: files as usize,
            reserve,
            taken,
            taken_len: 0,
            is_paused: false,
            is_stopping: false,
            budget,
        })
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.listeners.iter_mut().flatten().for_each(|listener| listener.retry_at = None);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.has_taken() || self.listeners.iter().any(Option::is_some)
    }

    /// Reserves a direct descriptor for a connection that another driver hands over. Returns false if
    /// none is free.
    pub(super) fn note_taken_over(&mut self) -> bool {
        let is_free = self.free > self.listeners.len();
        self.free -= usize::from(is_free);
        is_free
    }

    /// A direct descriptor has become free.
    pub(super) fn note_closed(&mut self) {
        self.free += 1;
        self.listeners.iter_mut().flatten().for_each(|listener| listener.retry_at = None);
    }

    /// Returns true if and only if something is ready, so that the next wait must not block.
    pub(super) fn is_ready(&self) -> bool {
        (self.is_taking() && self.has_taken())
            || (self.is_stopping && self.listeners.iter().any(Option::is_some))
    }

    /// Starts and cancels accepts as needed before a wait. Returns the longest time that wait may take.
    pub(super) fn begin_wait(&mut self, ring: &mut Ring) -> Option<Duration> {
        self.budget = ACCEPTS_PER_WAIT_MAX;
        for (number, index) in (0..).zip(0..self.listeners.len()) {
            self.tend(number, index, ring);
        }
        if !self.is_taking() {
            return None;
        }
        let now = Instant::now();
        let retries = self.listeners.iter().flatten().filter_map(|listener| listener.retry_at);
        retries.map(|at| at.saturating_duration_since(now)).min()
    }

    fn tend(&mut self, number: u32, index: usize, ring: &mut Ring) {
        let armed = self.listeners.iter().flatten().filter(|other| other.arm != Arm::Idle).count();
        let Some(listener) = &mut self.listeners[index] else { return };
        let key = Key::Listener(number);
        let fd = listener.socket.as_raw_fd();
        let shall_end = if self.is_stopping {
            listener.last_count == 0 || !is_anybody_waiting(fd)
        } else {
            self.is_paused
        };
        let are_few = self.free <= self.reserve;
        match listener.arm {
            Arm::Idle => {}
            Arm::Cancelled => return,
            Arm::Once | Arm::Always => {
                if shall_end || (are_few && listener.arm == Arm::Always) {
                    ring.cancel(key);
                    listener.arm = Arm::Cancelled;
                }
                return;
            }
        }
        if shall_end {
            if self.is_stopping {
                self.listeners[index] = None;
            }
            return;
        }
        if listener.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        listener.retry_at = None;
        if self.free <= armed {
            if is_anybody_waiting(fd) {
                let full = io::Error::from_raw_os_error(libc::ENFILE);
                self.fail(index, full);
            } else {
                listener.retry_at = Some(Instant::now() + RETRY_INTERVAL);
            }
            return;
        }
        ring.accept(fd, !are_few, key);
        listener.arm = if are_few { Arm::Once } else { Arm::Always };
    }

    /// Takes in a completion of an accept. `has_ended` says that the accept will not complete again.
    pub(super) fn note(&mut self, number: u32, result: i32, has_ended: bool) {
        let index = number as usize;
        let Some(Some(listener)) = self.listeners.get_mut(index) else { return };
        if has_ended {
            listener.arm = Arm::Idle;
        }
        if let Ok(file) = u32::try_from(result) {
            self.free = self.free.saturating_sub(1);
            listener.last_count = listener.last_count.saturating_sub(u32::from(self.is_stopping));
            self.taken[index].push_back(Accept::Taken { file, listener: index });
            self.taken_len += 1;
            return;
        }
        let error = io::Error::from_raw_os_error(-result);
        if !(result == -libc::ECANCELED || is_peers_fault(&error)) {
            self.fail(index, error);
        }
    }

    fn fail(&mut self, index: usize, error: io::Error) {
        if self.is_stopping {
            self.listeners[index] = None;
        } else if let Some(listener) = &mut self.listeners[index] {
            listener.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        }
        self.taken[index].push_back(Accept::Failed(error));
        self.taken_len += 1;
    }

    /// Hands over a connection, or reports why none can be accepted although some wait.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Accept> {
        if self.has_taken() { self.next_taken() } else { None }
    }

    fn next_taken(&mut self) -> Option<Accept> {
        if self.budget == 0 || !self.is_taking() {
            return None;
        }
        // The search starts elsewhere each time, so that no listener starves another.
        let count = self.taken.len();
        let number =
            (0..count).map(|at| (at + self.budget) % count).find(|&at| !self.taken[at].is_empty())?;
        self.budget -= 1;
        self.taken_len -= 1;
        self.taken[number].pop_front()
    }

    fn has_taken(&self) -> bool {
        self.taken_len > 0
    }

    fn is_taking(&self) -> bool {
        self.is_stopping || !self.is_paused
    }

    /// Closes everything that was not handed over, for a driver that ends. An accept in the kernel keeps
    /// its listener open until the ring is gone, some time after it was closed. So this shuts the
    /// listeners down.
    pub(super) fn abandon(&mut self, ring: &mut Ring) {
        for listener in self.listeners.drain(..).flatten() {
            if listener.arm != Arm::Idle {
                let _ = listener.socket.shutdown(Shutdown::Both); // Fails only if it has ended.
            }
        }
        for accept in self.taken.drain(..).flatten() {
            if let Accept::Taken { file, .. } = accept {
                ring.close(file);
            }
        }
    }
}

/// Returns true if and only if a connection waits in the backlog.
fn is_anybody_waiting(listener: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
    #[expect(unsafe_code, reason = "std has no call for poll")]
    // SAFETY: `poll` is one entry. It lives through the call, which writes to it and keeps nothing
    // (`poll(2)`). With a timeout of 0 the call returns at once.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0
}
