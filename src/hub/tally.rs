//! The count of an event's receivers, as one number or as a sum that shards make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hub::shards::ShardSet;

/// How many distinct streams were subscribed when an event was applied.
#[derive(Clone, Debug)]
pub enum Receivers {
    /// So many.
    Exactly(u64),
    /// The shards are counting.
    Counting(Arc<Tally>),
}

/// A count that several shards make together.
#[derive(Debug)]
pub struct Tally {
    /// The shard that waits for the sum, or who else appends batches, by a number beyond those of shards.
    pub waiting_shard: usize,
    /// The shards that have yet to count, as bits: those that had subscribers when the event was applied.
    shards_left: AtomicU64,
    receivers: AtomicU64,
}

impl Tally {
    pub(super) fn new(waiting_shard: usize, shards: ShardSet) -> Tally {
        Tally { waiting_shard, shards_left: AtomicU64::new(shards.bits()), receivers: AtomicU64::new(0) }
    }

    /// Adds what a shard has counted, once. Of one that had no subscribers when the event was applied, nothing counts.
    ///
    /// Returns true if and only if this completed the count: the waiting shard is to be told.
    pub fn add(&self, shard: usize, receivers: u64) -> bool {
        if !self.awaits(shard) {
            return false;
        }
        self.receivers.fetch_add(receivers, Ordering::Relaxed);
        self.shards_left.fetch_and(!(1 << shard), Ordering::AcqRel) == 1 << shard
    }

    /// Adds a stream of a shard that has yet to count, and that will not find the stream any more when it does.
    pub(super) fn add_leaver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if and only if the shard has yet to count.
    pub(super) fn awaits(&self, shard: usize) -> bool {
        self.shards_left.load(Ordering::Relaxed) & (1 << shard) != 0
    }

    /// The sum, once every shard has added its own.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        (self.shards_left.load(Ordering::Acquire) == 0).then(|| self.receivers.load(Ordering::Relaxed))
    }
}
