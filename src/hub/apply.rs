//! Applying what the log has committed: events enter the history, become visible to shards, and their
//! receivers are counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::{self, EVENT_STEPS, NAMES_PER_HOLD_MAX};
use super::channel_id::ChannelId;
use super::lock::Hub;
use super::options::ticks_up;
use super::shards::ShardSet;
use super::state::State;
use super::tally::Receivers;
use crate::base::id::{EventId, Sequence};
use crate::record::Events;
use crate::record::targets::is_channel;

/// Committed events, one or more, that are to be applied.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// The number of the first event.
    pub first: Sequence,
    /// The events.
    pub events: &'a Events,
    /// Who waits for the number of receivers of the last event: the distinct streams that were
    /// subscribed when it was applied, in whatever state. A waiting appender that is no shard has a
    /// number from [`SHARDS_MAX`](super::SHARDS_MAX) on.
    pub waiting: Option<usize>,
    /// How old the events are already.
    pub age: Duration,
    /// The result, once they are applied: the id of the first event, which the others follow without a
    /// hole, and the number of receivers of the last event.
    pub result: Option<(EventId, Receivers)>,
}

/// The result of applying the events of one [`Commit`].
#[derive(Clone, Debug)]
pub struct Applied {
    /// The id of the first event; the others follow it without a hole.
    pub first: EventId,
    /// The number of receivers of the last event.
    pub receivers: Receivers,
    /// The shards that have events to take.
    pub interested: ShardSet,
}

/// The room for channels of an event that is kept for the next one.
const EVENT_ROOM_KEPT: usize = 256;

/// The place in a group up to which it is applied.
struct Progress {
    commit: usize,
    event: usize,
    interested: ShardSet,
}

impl Hub {
    /// Applies committed events in their order: they enter the history and become visible to shards. A
    /// small group takes one hold of the lock. A large one is applied in parts, and others may have the
    /// lock between two parts. Sets the results, and returns the shards that have events to take.
    ///
    /// # Panics
    /// If the numbers do not continue the order.
    pub fn apply_group(&self, group: &mut [Commit<'_>]) -> ShardSet {
        let mut progress = Progress { commit: 0, event: 0, interested: ShardSet::default() };
        let mut lacks_room = false;
        while progress.commit < group.len() {
            if progress.commit + progress.event > 0 {
                self.yield_to_waiting();
            }
            let mut state = self.lock();
            let state = &mut *state;
            state.apply_part(group, &mut progress);
            state.enforce_retention();
            lacks_room = state.is_unfinished && state.lacks_room();
            self.publish_counts(state);
            self.head.store(state.epochs.head().0, Ordering::Release);
        }
        if lacks_room {
            self.make_room();
        }
        progress.interested
    }

    /// Applies events of this moment as a group of their own.
    ///
    /// # Panics
    /// As [`Hub::apply_group`], and if there is no event.
    pub fn apply(&self, first: Sequence, events: &Events, waiting: Option<usize>) -> Applied {
        let mut group = [Commit { first, events, waiting, age: Duration::ZERO, result: None }];
        let interested = self.apply_group(&mut group);
        let [Commit { result, .. }] = group;
        let (first, receivers) = result.expect("it is applied");
        Applied { first, receivers, interested }
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

    /// Returns true if applying `events` now would exceed the limit of channel names.
    #[must_use]
    pub fn exceeds_channels_max(&self, events: &Events) -> bool {
        if !self.is_near_channels_max(events.len()) && events.iter().all(|event| event.targets().count() == 1)
        {
            return false;
        }
        let mut names: Vec<&str> =
            events.iter().flat_map(|event| event.targets()).filter(|name| is_channel(name)).collect();
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
    /// Applies events of a group, at least one, until half of the budget is spent. The other half is for
    /// the events they drive out.
    fn apply_part(&mut self, group: &mut [Commit<'_>], progress: &mut Progress) {
        let before = self.epochs.head();
        let mut interested = ShardSet::default();
        let mut channels = std::mem::take(&mut self.of_event);
        while let Some(commit) = group.get_mut(progress.commit) {
            let event = commit.events.get(progress.event);
            let is_last = progress.event + 1 == commit.events.len();
            let sequence = commit.first.plus(progress.event as u64);
            let tag = self.epochs.extend(sequence, sequence);
            channels.clear();
            channels.extend(event.targets().filter_map(|name| self.enter_target(name)));
            let retaining = channels.len();
            self.add_patterns(event.targets(), &mut channels);
            let target = self.targets.enter(&channels);
            let holders = u32::try_from(retaining).expect("an event's channels are bounded by its body");
            let at = self.now.saturating_sub(ticks_up(commit.age));
            self.history.append(EventId { tag, sequence }, event, target, at, holders);
            if progress.event == 0 {
                commit.result = Some((EventId { tag, sequence }, Receivers::Exactly(0)));
            }
            if let Some(who) = commit.waiting.filter(|_| is_last)
                && let Some((_, receivers)) = &mut commit.result
            {
                *receivers = self.count_receivers(&channels, sequence, who);
            }
            for (index, &channel) in channels.iter().enumerate() {
                interested.union(self.channels.shards(channel));
                if index < retaining {
                    self.retain(channel, sequence, event.own_id);
                } else {
                    self.channels.pass(channel, sequence);
                }
            }
            self.applied += 1;
            (progress.commit, progress.event) =
                if is_last { (progress.commit + 1, 0) } else { (progress.commit, progress.event + 1) };
            self.budget.spend(2 * EVENT_STEPS + EVENT_STEPS * budget::steps(channels.len()));
            if self.budget.is_spent_to(2) {
                break;
            }
        }
        if channels.capacity() <= EVENT_ROOM_KEPT {
            self.of_event = channels;
        }
        let head = self.epochs.head();
        for (shard, cursor) in self.cursors.iter_mut().enumerate() {
            // A shard that had taken everything and that none of this concerns does not need to look at it.
            if *cursor == before && !interested.contains(shard) {
                *cursor = head;
            }
        }
        progress.interested.union(interested);
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
