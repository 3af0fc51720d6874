//! Applying what the log has committed: events enter the history, become visible to shards, and their
//! receivers are counted.

use std::sync::atomic::Ordering;

use super::budget::{self, EVENT_STEPS, NAMES_PER_HOLD_MAX};
use super::channel_id::ChannelId;
use super::lock::Hub;
use super::shards::ShardSet;
use super::state::State;
use super::tally::Receivers;
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::frame::batch::{Batch, DraftRef, is_channel};

/// The result of applying a batch.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The id of the first event; the others follow it without a hole.
    pub first: EventId,
    /// The number of receivers of the batch's last event.
    pub receivers: Receivers,
    /// The shards that have events to take.
    pub interested: ShardSet,
}

impl Hub {
    /// Applies a committed batch as the events from `first` on: they enter the history and become
    /// visible to shards. A large batch is applied in parts, and others may have the lock between two
    /// parts.
    ///
    /// If `waiting_shard` is given, the receivers of the batch's last event are counted: the distinct
    /// streams that were subscribed when it was applied, in whatever state. A waiting appender that is
    /// no shard has a number from [`SHARDS_MAX`] on.
    ///
    /// # Panics
    /// If `first` does not continue the order.
    pub fn apply(&self, first: Sequence, batch: &Batch, waiting_shard: Option<usize>) -> Applied {
        let mut drafts = batch.iter();
        let (mut next, mut parts) = (first, 0);
        let mut applied = Applied {
            first: EventId { tag: EpochTag::from_bits(0), sequence: first },
            receivers: Receivers::Exactly(0),
            interested: ShardSet::default(),
        };
        let mut lacks_room = false;
        while parts == 0 || drafts.len() > 0 {
            if parts > 0 {
                self.yield_to_waiting();
            }
            parts += 1;
            let mut state = self.lock();
            let state = &mut *state;
            state.apply_part(&mut drafts, &mut next, waiting_shard, &mut applied);
            state.enforce_retention();
            lacks_room = state.is_unfinished && state.lacks_room();
            self.publish_counts(state);
            self.head.store(next.0 - 1, Ordering::Release);
        }
        if lacks_room {
            self.make_room();
        }
        applied
    }

    /// Makes room for what was applied, in as many holds of the lock as it takes: the publisher of a
    /// large event pays for the many small events that go for it.
    fn make_room(&self) {
        loop {
            self.yield_to_waiting();
            let mut state = self.lock();
            let state = &mut *state;
            let before = (state.held_bytes(), state.evicted_through);
            state.enforce_retention();
            let has_got_on =
                state.budget.is_spent_to(3) || before != (state.held_bytes(), state.evicted_through);
            self.publish_counts(state);
            if !state.is_unfinished || !state.lacks_room() || !has_got_on {
                return;
            }
        }
    }

    /// Returns true if applying `batch` now would exceed the limit of channel names.
    #[must_use]
    pub fn exceeds_channels_max(&self, batch: &Batch) -> bool {
        if !self.is_near_channels_max(batch.len()) && batch.iter().all(|draft| draft.targets().count() == 1) {
            return false;
        }
        let mut names: Vec<&str> =
            batch.iter().flat_map(|draft| draft.targets()).filter(|name| is_channel(name)).collect();
        names.sort_unstable();
        names.dedup();
        let mut new = 0;
        for part in names.chunks(NAMES_PER_HOLD_MAX) {
            let state = self.lock();
            new += part.iter().filter(|name| state.channels.find(name).is_none()).count();
        }
        new > 0 && self.channels_len() + new > self.channels_max
    }
}

impl State {
    /// Applies events of a batch, at least one, until half of the budget is spent. The other half is for
    /// the events they drive out.
    fn apply_part<'b>(
        &mut self,
        drafts: &mut impl ExactSizeIterator<Item = DraftRef<'b>>,
        next: &mut Sequence,
        waiting_shard: Option<usize>,
        applied: &mut Applied,
    ) {
        let before = self.epochs.head();
        let mut interested = ShardSet::default();
        let mut channels = Vec::new();
        while let Some(draft) = drafts.next() {
            let sequence = *next;
            *next = sequence.next();
            let tag = self.epochs.extend(sequence, sequence);
            applied.first.tag = tag;
            channels.clear();
            channels.extend(draft.targets().filter_map(|name| self.enter_target(name)));
            let retaining = channels.len();
            self.add_patterns(draft.targets(), &mut channels);
            let target = self.targets.enter(&channels);
            let holders = u32::try_from(retaining).expect("an event's channels are bounded by its body");
            self.history.append(EventId { tag, sequence }, draft, target, self.now, holders);
            if let Some(shard) = waiting_shard.filter(|_| drafts.len() == 0) {
                applied.receivers = self.count_receivers(&channels, sequence, shard);
            }
            for (index, &channel) in channels.iter().enumerate() {
                interested.union(self.channels.shards(channel));
                if index < retaining {
                    self.retain(channel, sequence, draft.own_id);
                } else {
                    self.channels.pass(channel, sequence);
                }
            }
            self.applied += 1;
            self.budget.spend(2 * EVENT_STEPS + EVENT_STEPS * budget::steps(channels.len()));
            if self.budget.is_spent_to(2) {
                break;
            }
        }
        let head = self.epochs.head();
        for (shard, cursor) in self.cursors.iter_mut().enumerate() {
            // A shard that had taken everything and that none of this concerns does not need to look at it.
            if *cursor == before && !interested.contains(shard) {
                *cursor = head;
            }
        }
        applied.interested.union(interested);
    }

    /// Adds the patterns with subscribers that match any of `names` to `channels`, each once.
    fn add_patterns<'n>(&self, names: impl Iterator<Item = &'n str>, channels: &mut Vec<ChannelId>) {
        if !self.channels.has_patterns() {
            return;
        }
        for pattern in names.filter(|name| is_channel(name)).flat_map(|name| self.channels.patterns_of(name))
        {
            if !channels.contains(&pattern) {
                channels.push(pattern);
            }
        }
    }
}
