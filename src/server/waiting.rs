//! A batch that somebody waits for: who does, and what is known of it so far.

use std::thread::Thread;

use super::handle::{PublishError, Published};
use crate::base::id::EventId;

/// What came of a batch.
pub(super) type Outcome = Result<Published, PublishError>;

/// Hears what came of a batch.
pub(super) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// Who waits for a batch.
pub(super) enum Waiter {
    /// The thread that calls [`wait`](super::desk::Desk::wait).
    Thread(Thread),
    /// Whoever left this.
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

/// A batch that somebody waits for.
pub(super) struct UnderWay {
    pub(super) waiter: Waiter,
    pub(super) events: usize,
    /// What is known so far.
    pub(super) known: Known,
}

/// What is known of a batch.
pub(super) enum Known {
    Nothing,
    /// It was applied; its receivers are being counted.
    Applied(EventId),
    Outcome(Outcome),
}

impl Known {
    /// What there is to tell of a batch of so many events where no more is going to be known.
    pub(super) fn into_outcome(self, events: usize) -> Outcome {
        match self {
            Known::Nothing => Err(PublishError::Uncertain),
            Known::Applied(first) => Ok(Published { id: first, events, receivers: None }),
            Known::Outcome(outcome) => outcome,
        }
    }
}
