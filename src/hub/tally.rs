//! The receiver count of an event: a number, or a sum that the shards make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hub::shards::ShardSet;

/// The number of distinct streams that were subscribed when an event was applied.
#[derive(Clone, Debug)]
pub enum Receivers {
    /// Exactly this number.
    Exactly(u64),
    /// The shards are counting.
    Counting(Arc<Tally>),
}

/// A count that several shards make together.
#[derive(Debug)]
pub struct Tally {
    /// The shard that waits for the sum, or a number beyond those of shards for another appender of
    /// batches.
    pub waiting_shard: usize,
    /// The shards that have not counted yet, as bits. At first these are the shards with subscribers
    /// when the event was applied.
    shards_left: AtomicU64,
    receivers: AtomicU64,
}

impl Tally {
    pub(super) fn new(waiting_shard: usize, shards: ShardSet) -> Tally {
        Tally { waiting_shard, shards_left: AtomicU64::new(shards.bits()), receivers: AtomicU64::new(0) }
    }

    /// Adds the count of a shard, once. The count of a shard that had no subscribers when the event was
    /// applied is ignored.
    ///
    /// Returns true if and only if this completes the count: the caller must notify the waiting shard.
    pub fn add(&self, shard: usize, receivers: u64) -> bool {
        if !self.awaits(shard) {
            return false;
        }
        self.receivers.fetch_add(receivers, Ordering::Relaxed);
        self.shards_left.fetch_and(!(1 << shard), Ordering::AcqRel) == 1 << shard
    }

    /// Adds a stream that leaves before its shard counts, so that the shard will not find it.
    pub(super) fn add_leaver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if the shard has not counted yet.
    pub(super) fn awaits(&self, shard: usize) -> bool {
        self.shards_left.load(Ordering::Relaxed) & (1 << shard) != 0
    }

    /// Returns the sum once every shard has added its count.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        (self.shards_left.load(Ordering::Acquire) == 0).then(|| self.receivers.load(Ordering::Relaxed))
    }
}
