//! How many streams an event reached.
//!
//! Where one channel decides, the hub knows. Where a stream may be reached in several ways, each interested shard counts
//! from its own index, when it takes the event and before it sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::base::id::Sequence;
use crate::hub::channels::ChannelId;
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
    /// The shard that waits for the sum.
    pub waiting_shard: usize,
    /// The shards that count.
    pub(super) shards: ShardSet,
    shards_left: AtomicUsize,
    receivers: AtomicU64,
}

impl Tally {
    fn new(waiting_shard: usize, shards: ShardSet) -> Tally {
        let shards_left = AtomicUsize::new(shards.len());
        Tally { waiting_shard, shards, shards_left, receivers: AtomicU64::new(0) }
    }

    /// Adds what one shard has counted; each interested shard does so once. Returns true if and only if it was the last:
    /// the waiting shard is to be told.
    pub fn add(&self, receivers: u64) -> bool {
        self.receivers.fetch_add(receivers, Ordering::Relaxed);
        self.shards_left.fetch_sub(1, Ordering::AcqRel) == 1
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
        if let &[channel] = channels {
            return Receivers::Exactly(u64::from(self.channels.get(channel).subscribers));
        }
        let mut interested = ShardSet::default();
        channels.iter().for_each(|&channel| interested.union(self.channels.get(channel).shards));
        if interested.is_empty() {
            return Receivers::Exactly(0);
        }
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

    /// Forgets counts that every shard has made.
    pub(super) fn forget_tallies(&mut self) {
        let taken = self.taken_by_all();
        while self.tallies.front().is_some_and(|&(counted, _)| counted <= taken) {
            self.tallies.pop_front();
        }
    }
}
