//! Floor 4: the log, which gives records their one order. A record is *appended*, then *committed* as the
//! next of that order, and *acknowledged* once it is as safe as the log promises. Committed records are
//! applied; only acknowledged ones are answered.
//!
//! A log knows neither the hub nor the shards. It reports to a [`Sink`], one call after the other. A
//! [`Ticket`] tells the caller of `append` which record is reported. Appending never waits.

pub mod memory;
pub mod sim;

use std::fmt;
use std::time::Duration;

use crate::base::id::{EpochTag, Sequence};
use crate::record::Record;

/// Names a record for its appender. The log only returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A record on its way to the log, with the ticket under which its outcome is reported.
pub type Append = (Ticket, Record);

/// Takes records and commits them in one order.
///
/// ```text
///              ready              close
/// opening ──────────────► open ──────────────► closed
/// ```
pub trait Log: Send + Sync + fmt::Debug {
    /// Takes all records out of `group` and appends them in their order. For each, these calls with its
    /// ticket follow, unless the process ends first; they may come before this call returns:
    ///
    /// - one [`Sink::refused`], or
    /// - one [`Sink::committed`]. Unless it says that the record is acknowledged, one
    ///   [`Sink::acknowledged`] follows.
    ///
    /// A log that is not open refuses.
    fn append(&self, group: &mut Vec<Append>);

    /// Returns true if and only if the log is open: it has reported everything that earlier processes
    /// left in it.
    fn is_ready(&self) -> bool;

    /// Returns true if more bytes wait to be committed than the log's bound. Appenders pause then.
    fn is_behind(&self) -> bool;

    /// Asks the log to commit and acknowledge what waits without gathering more. Does not wait for it.
    fn flush(&self);

    /// Closes the log, when all that waits is committed and acknowledged, or refused. A second call does
    /// nothing.
    fn close(&self);
}

/// Receives what a log does, in the order that counts. A log calls it from one thread at a time. If a
/// call panics, its report still holds, and the next call continues behind it.
pub trait Sink: Send + Sync {
    /// Numbers from `first` on belong to a new epoch. Also called before the first commit.
    fn epoch_began(&self, tag: EpochTag, first: Sequence);

    /// These records are committed, in this order.
    fn committed(&self, group: &[Committed<'_>]);

    /// The records with these tickets, committed before, are as safe as the log promises, or it is known
    /// that nobody knows.
    fn acknowledged(&self, tickets: &[Ticket], outcome: Acknowledgement);

    /// The record is not committed, and returned.
    fn refused(&self, ticket: Ticket, record: Record, refusal: Refusal);
}

/// A committed record.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// The number of its first event. A record without events takes its place before this number. The
    /// numbers continue the order without a hole.
    pub first: Sequence,
    /// The record.
    pub record: &'a Record,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a committed record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process appended it under this ticket, a moment ago.
    Here {
        /// The ticket.
        ticket: Ticket,
        /// Whether it is acknowledged too.
        is_acknowledged: bool,
    },
    /// An earlier process or another node appended it.
    Elsewhere {
        /// The wall time that has passed since it was appended.
        age: Duration,
    },
}

/// What a log knows of a record that it has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It is as safe as the log promises.
    Safe,
    /// Nobody knows whether it will outlast this process.
    Uncertain,
}

/// Why a record was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log does not take the record. It will never appear.
    #[error("the log refused the events: {reason}")]
    Refused {
        /// The reason that the log gave.
        reason: String,
    },
    /// Nobody knows whether the record will appear. Its idempotency keys are kept: until they expire, a
    /// retry is not published and gets the same answer.
    #[error("the log did not say in time whether it took the events: they may still appear")]
    Uncertain,
}

impl Refusal {
    /// The refusal of a log that is not open.
    #[must_use]
    pub fn not_open() -> Refusal {
        Refusal::Refused { reason: "it is not open".to_owned() }
    }
}
