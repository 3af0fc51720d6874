//! Floor 4: the log, which gives events their one order. An event is *appended*, then *committed* as the
//! next of that order. Only committed events are applied, delivered and acknowledged.
//!
//! A log knows neither the hub nor the shards. It reports each commit to a [`Sink`], one after the
//! other. A [`Ticket`] tells the caller of `append` which batch was committed. Appending never waits for
//! the commit.

pub mod memory;
pub mod sim;

use std::fmt;

use crate::base::id::{EpochTag, Sequence};
use crate::frame::batch::Batch;

/// Names a batch for its appender. The log only returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Takes batches and commits them in one order.
pub trait Log: Send + Sync + fmt::Debug {
    /// Appends a batch of one or more events. Exactly one [`Sink::committed`] or [`Sink::refused`] with
    /// this ticket follows, unless the process ends first. It may come before this call returns.
    fn append(&self, batch: Batch, ticket: Ticket);
}

/// Receives what a log does, in the order that counts. A log calls it from one thread at a time. If a
/// call panics, its report still holds, and the next call continues behind it.
pub trait Sink: Send + Sync {
    /// Numbers from `first` on belong to a new epoch. Also called before the first commit.
    fn epoch_began(&self, tag: EpochTag, first: Sequence);

    /// The batch is committed, and its events have the numbers from `first` on, which continue the order
    /// without a hole. `ticket` is `None` for events that an earlier process appended.
    fn committed(&self, first: Sequence, batch: &Batch, ticket: Option<Ticket>);

    /// The batch is not committed, and returned.
    fn refused(&self, ticket: Ticket, batch: Batch, refusal: Refusal);
}

/// Why a batch was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log does not take the batch. It will never appear.
    #[error("the log refused the events: {reason}")]
    Refused {
        /// The reason that the log gave.
        reason: String,
    },
    /// Nobody knows whether the batch will appear. Its idempotency keys are kept: until they expire, a
    /// retry is not published and gets the same answer.
    #[error("the log did not say in time whether it took the events: they may still appear")]
    Uncertain,
}
