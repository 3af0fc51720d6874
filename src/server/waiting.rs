//! A batch under way: its waiter, and what is known of its outcome.

use std::thread::Thread;

use super::handle::{PublishError, Published};
use crate::base::id::EventId;

/// The outcome of a batch.
pub(super) type Outcome = Result<Published, PublishError>;

/// Called with the outcome of a batch.
pub(super) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// The waiter of a batch.
pub(super) enum Waiter {
    /// The thread that calls [`wait`](super::desk::Desk::wait).
    Thread(Thread),
    /// A function of the application.
    Callback(Callback),
}

/// Why a batch may not be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Too many are under way.
    Full,
    /// The server drains, or has ended.
    Draining,
}

/// A batch under way.
pub(super) struct UnderWay {
    pub(super) waiter: Waiter,
    pub(super) events: usize,
    /// What is known so far.
    pub(super) known: Known,
}

/// What is known of a batch's outcome.
pub(super) enum Known {
    Nothing,
    /// It was applied; its receivers are being counted.
    Applied(EventId),
    Outcome(Outcome),
}

impl Known {
    /// The outcome of a batch of `events` events if nothing more becomes known.
    pub(super) fn into_outcome(self, events: usize) -> Outcome {
        match self {
            Known::Nothing => Err(PublishError::Uncertain),
            Known::Applied(first) => Ok(Published { id: first, events, receivers: None }),
            Known::Outcome(outcome) => outcome,
        }
    }
}
