//! How many streams an event reached.
//!
//! Where one channel decides, the hub knows. Where a stream may be reached in several ways, each interested shard counts
//! from its own index, when it takes the event and before it sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::id::Sequence;
use crate::hub::channel::ChannelId;
use crate::hub::{ShardSet, State};

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
    fn new(waiting_shard: usize, shards: ShardSet) -> Tally {
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

impl State {
    /// Counts the receivers of an event to `channels` for a shard, or has the shards count them when they take it.
    pub(super) fn count_receivers(
        &mut self,
        channels: &[ChannelId],
        sequence: Sequence,
        waiting_shard: usize,
    ) -> Receivers {
        let mut subscribed =
            channels.iter().map(|&id| self.channels.subscribers(id)).filter(|&count| count > 0);
        match (subscribed.next(), subscribed.next()) {
            (None, _) => return Receivers::Exactly(0),
            (Some(only), None) => return Receivers::Exactly(u64::from(only)),
            (Some(_), Some(_)) => {}
        }
        let mut interested = ShardSet::default();
        channels.iter().for_each(|&channel| interested.union(self.channels.shards(channel)));
        let tally = Arc::new(Tally::new(waiting_shard, interested));
        self.tallies.push_back((sequence, Arc::clone(&tally)));
        Receivers::Counting(tally)
    }

    /// The count that is to be made of an event.
    pub(super) fn tally_of(&self, sequence: Sequence) -> Option<Arc<Tally>> {
        let index = self.tallies.partition_point(|&(counted, _)| counted < sequence);
        self.tallies
            .get(index)
            .filter(|&&(counted, _)| counted == sequence)
            .map(|(_, tally)| Arc::clone(tally))
    }

    /// Forgets counts that every shard has made. A shard may have taken an event and not yet counted: should it panic
    /// then, the count is found here.
    pub(super) fn forget_tallies(&mut self) {
        while self.tallies.front().is_some_and(|(_, tally)| tally.total().is_some()) {
            self.tallies.pop_front();
        }
    }
}
