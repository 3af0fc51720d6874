//! Floor 4: the log, which gives events their one order. An event is *appended*, then *committed* as the next of that
//! order; only what is committed is applied, delivered and acknowledged.
//!
//! A log sees neither the hub nor the shards: it tells a [`Sink`] what it commits, one commit after the other, and
//! whoever appended finds its batch again by its [`Ticket`]. Appending never waits for the commit.

pub mod memory;
pub mod sim;

use std::fmt;

use crate::base::id::{EpochTag, Sequence};
use crate::frame::batch::Batch;

/// Names a batch to the one who appended it. The log only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Takes batches and commits them in one order.
pub trait Log: Send + Sync + fmt::Debug {
    /// Hands over a batch of one or more events. Exactly one [`Sink::committed`] or [`Sink::refused`] with this ticket
    /// follows, perhaps before this returns, unless the process ends first.
    fn append(&self, batch: Batch, ticket: Ticket);
}

/// Hears what a log does, in the order in which it counts. A log calls it from one thread at a time. Where a call panics, what
/// it was told holds all the same, and the next one goes on behind it.
pub trait Sink: Send + Sync {
    /// From `first` on numbers belong to a new epoch. Comes before the first commit, too.
    fn epoch_began(&self, tag: EpochTag, first: Sequence);

    /// The batch is committed as the events from `first` on, which continues the order without a hole. `ticket` is
    /// `None` for events that were appended by an earlier process.
    fn committed(&self, first: Sequence, batch: &Batch, ticket: Option<Ticket>);

    /// The batch is not committed; here it is again.
    fn refused(&self, ticket: Ticket, batch: Batch, refusal: Refusal);
}

/// Why a batch was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log does not take it; it will never appear.
    #[error("the log refused the events: {reason}")]
    Refused {
        /// What the log said.
        reason: String,
    },
    /// Nobody knows whether it will appear. Its idempotency keys are remembered: a retry is not published, and told the
    /// same, until they are given up.
    #[error("the log did not say in time whether it took the events: they may still appear")]
    Uncertain,
}
