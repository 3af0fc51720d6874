//! Accepts connections from listeners, fairly and in spite of errors.
//!
//! ```text
//!            event, stop                      accept4 fails for want of resources
//!   Quiet ───────────────► Waiting ─────────────────────────────────────────────► Exhausted
//!     ▲                     │   ▲                                                     │
//!     └──────── EAGAIN ─────┘   └───────── a connection closed, or 100 ms ────────────┘
//! ```
//! After `stop`, `EAGAIN` and exhaustion close a listener instead.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use socket2::Socket;

use super::connection::token_of_listener;
use crate::base::limits::ACCEPTS_PER_WAIT_MAX;
use crate::driver::socket::{Listener, is_peers_fault};

/// The listeners of a driver.
pub(super) struct Acceptor {
    /// In the order they were passed in. `None` if closed.
    listeners: Vec<Option<Watched>>,
    is_paused: bool,
    is_stopping: bool,
    /// How many more accepts may be tried before the next wait.
    budget: usize,
}

struct Watched {
    socket: Socket,
    state: State,
    /// Most connections accepted after it begins to stop: newcomers may not delay its end for ever.
    last_count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection waits. An event reports the next one.
    Quiet,
    /// A connection waits, or may wait.
    Waiting,
    /// A connection waits but could not be accepted.
    Exhausted { retry_at: Instant },
}

/// The result of an accept.
pub(super) enum Accept {
    Taken { socket: Socket, listener: usize },
    Failed(io::Error),
}

pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>, registry: &Registry) -> io::Result<Acceptor> {
        for (number, listener) in (0..).zip(&listeners) {
            let mut source = SourceFd(&listener.socket.as_raw_fd());
            registry.register(&mut source, token_of_listener(number), Interest::READABLE)?;
        }
        let watched = |listener: Listener| {
            Some(Watched { socket: listener.socket, state: State::Quiet, last_count: listener.backlog })
        };
        Ok(Acceptor {
            listeners: listeners.into_iter().map(watched).collect(),
            is_paused: false,
            is_stopping: false,
            budget: ACCEPTS_PER_WAIT_MAX,
        })
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.listeners.iter_mut().flatten().for_each(|listener| listener.state = State::Waiting);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listeners.iter().any(Option::is_some)
    }

    /// A connection waits at this listener.
    pub(super) fn note_waiting(&mut self, listener: usize) {
        if let Some(Some(listener)) = self.listeners.get_mut(listener)
            && listener.state == State::Quiet
        {
            listener.state = State::Waiting;
        }
    }

    /// A file descriptor has become free.
    pub(super) fn note_closed(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            if matches!(listener.state, State::Exhausted { .. }) {
                listener.state = State::Waiting;
            }
        }
    }

    /// Returns true if and only if there may be connections to accept now.
    pub(super) fn is_ready(&self) -> bool {
        self.is_taking() && self.listeners.iter().flatten().any(|listener| listener.state == State::Waiting)
    }

    /// Renews the budget for the next wait. Returns the longest time that wait may take, so that
    /// accepting is retried after exhaustion.
    pub(super) fn begin_wait(&mut self) -> Option<Duration> {
        self.budget = ACCEPTS_PER_WAIT_MAX;
        let mut longest = None;
        for listener in self.listeners.iter_mut().flatten() {
            let State::Exhausted { retry_at } = listener.state else { continue };
            let rest = retry_at.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                listener.state = State::Waiting;
            } else {
                longest = longest.into_iter().chain([rest]).min();
            }
        }
        longest
    }

    /// Accepts a connection, or reports why none can be accepted although some wait.
    pub(super) fn next(&mut self) -> Option<Accept> {
        while self.budget > 0 && self.is_taking() {
            let number = self.next_waiting()?;
            self.budget -= 1;
            if let Some(accept) = self.try_accept(number) {
                return Some(accept);
            }
        }
        None
    }

    fn is_taking(&self) -> bool {
        self.is_stopping || !self.is_paused
    }

    fn next_waiting(&self) -> Option<usize> {
        // The search starts elsewhere each time, so that no listener starves another.
        let count = self.listeners.len();
        (0..count).map(|at| (at + self.budget) % count).find(|&number| {
            self.listeners[number].as_ref().is_some_and(|listener| listener.state == State::Waiting)
        })
    }

    fn try_accept(&mut self, number: usize) -> Option<Accept> {
        let listener = self.listeners[number].as_mut()?;
        match listener.socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
            Ok((socket, _)) => {
                if self.is_stopping {
                    listener.last_count = listener.last_count.saturating_sub(1);
                    if listener.last_count == 0 {
                        self.listeners[number] = None;
                    }
                }
                Some(Accept::Taken { socket, listener: number })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                listener.state = State::Quiet;
                if self.is_stopping {
                    self.listeners[number] = None;
                }
                None
            }
            Err(error) if is_peers_fault(&error) => None,
            Err(error) => {
                listener.state = State::Exhausted { retry_at: Instant::now() + RETRY_INTERVAL };
                if self.is_stopping {
                    self.listeners[number] = None;
                }
                Some(Accept::Failed(error))
            }
        }
    }
}
