//! Counting the streams that an event reached.
//!
//! If one channel decides, the hub knows the count. If a stream may be reached in several ways, each
//! interested shard counts from its own index, when it takes the event and before it sends it.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::hub::budget::{CHANNEL_STEPS, COMPARISONS_PER_STEP, EVENT_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::shards::ShardSet;
use crate::hub::state::State;
use crate::hub::tally::{Receivers, Tally};

impl State {
    /// Counts the receivers of an event to `channels` for a waiting shard, or starts a count that the
    /// shards make when they take the event.
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

    /// Counts a leaving stream for each event that its shard has not taken and counted yet, if the event
    /// reached the stream by one of the channels in `leaving` and by none in `staying`. `had` says
    /// whether the stream had a channel when an event was applied. Returns true if it was counted for
    /// all such events, and false if the budget sufficed only for those up to `counted`.
    pub(super) fn count_leaver(
        &self,
        shard: usize,
        leaving: &[ChannelId],
        staying: &[ChannelId],
        had: impl Fn(ChannelId, Sequence) -> bool,
        counted: &mut Sequence,
    ) -> bool {
        let from = self.tallies.partition_point(|(sequence, _)| sequence <= counted);
        for (sequence, tally) in self.tallies.from(from) {
            if self.budget.is_spent_to(2) {
                return false;
            }
            *counted = *sequence;
            self.budget.spend(CHANNEL_STEPS);
            if !tally.awaits(shard) {
                continue;
            }
            let Some(target) = self.history.target_of(*sequence) else { continue };
            let channels = self.targets.channels(target);
            let comparisons = channels.len() * (leaving.len() + staying.len());
            self.budget.spend(EVENT_STEPS + steps(comparisons / COMPARISONS_PER_STEP));
            let has_way = |of: &[ChannelId]| of.iter().any(|id| channels.contains(id) && had(*id, *sequence));
            if has_way(leaving) && !has_way(staying) {
                tally.add_leaver();
            }
        }
        true
    }

    /// Counts no stream of a shard that has lost its streams, for each event after `counted`. `waiting`
    /// gets the appender of each count that this completes. Returns false if the budget sufficed only
    /// for the events up to `counted`.
    pub(super) fn count_none(&self, shard: usize, counted: &mut Sequence, waiting: &mut Vec<usize>) -> bool {
        let from = self.tallies.partition_point(|(sequence, _)| sequence <= counted);
        for (sequence, tally) in self.tallies.from(from) {
            if self.budget.is_spent_to(2) {
                return false;
            }
            self.budget.spend(CHANNEL_STEPS);
            *counted = *sequence;
            if tally.add(shard, 0) {
                waiting.push(tally.waiting_shard);
            }
        }
        true
    }

    /// Returns the receiver count of an event, if shards make one.
    pub(super) fn tally_of(&self, sequence: Sequence) -> Option<Arc<Tally>> {
        let index = self.tallies.partition_point(|&(counted, _)| counted < sequence);
        self.tallies
            .get(index)
            .filter(|&&(counted, _)| counted == sequence)
            .map(|(_, tally)| Arc::clone(tally))
    }

    /// Forgets completed counts from the front. A count stays until every shard has counted: if a shard
    /// panics after it took an event and before it counted, the count is found here.
    pub(super) fn forget_tallies(&mut self) {
        while self.tallies.front().is_some_and(|(_, tally)| tally.total().is_some()) {
            self.tallies.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::EpochTag;
    use crate::base::name::Selector;
    use crate::hub::Retention;
    use crate::hub::tests::hub;
    use crate::hub::{Backlog, Begin, HOLD_STEPS, Hub, HubOptions};
    use crate::record::Events;
    use crate::record::targets::TARGET_ALL;
    use crate::sse::event::Event;

    fn subscribe(hub: &Hub, names: &[&str]) -> Vec<ChannelId> {
        let names: Vec<_> = names.iter().map(|name| Selector::parse(name).unwrap()).collect();
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap().channels.to_vec()
    }

    fn publish(hub: &Hub) -> Arc<Tally> {
        let mut batch = Events::new();
        batch.push(&["a", "b"], &Event::new("x"));
        match hub.apply(hub.head().next(), &batch, Some(0)).receivers {
            Receivers::Counting(tally) => tally,
            Receivers::Exactly(count) => panic!("{count} of two channels"),
        }
    }

    #[test]
    fn a_stream_that_leaves_before_its_shard_counts_is_among_the_receivers() {
        let hub = hub(100, usize::MAX);
        let [both, one, later] = [&["a", "b"][..], &["a"], &["b"]].map(|names| subscribe(&hub, names));
        let tally = publish(&hub);
        hub.unsubscribe(0, both, |_, event| event == Sequence(1));
        hub.unsubscribe(0, one, |_, _| true);
        hub.unsubscribe(0, later, |_, _| false);
        assert_eq!(tally.total(), None, "the shard has yet to say that it counted");
        assert!(tally.add(0, 0));
        assert_eq!(tally.total(), Some(2), "one had subscribed later");
    }

    #[test]
    fn a_stream_that_stays_with_one_of_the_channels_is_counted_once() {
        let hub = hub(100, usize::MAX);
        let [one, other, joins] =
            [&["a", "b"][..], &["a", "c"], &["a", "b"]].map(|names| subscribe(&hub, names));
        let tally = publish(&hub);
        hub.remove(0, one[0], &one[1..], |_, _| true);
        hub.remove(0, other[0], &other[1..], |_, _| true);
        // It had "a" then, and got "b" after the event.
        hub.remove(0, joins[0], &joins[1..], |id, _| id == joins[0]);
        assert!(tally.add(0, 1), "one is found by its other channel");
        assert_eq!(tally.total(), Some(3));
    }

    #[test]
    fn a_shard_that_lost_its_streams_has_none_and_nobody_waits_for_it() {
        let hub = Hub::new(HubOptions {
            retention: Retention { events_max: 1, bytes_max: usize::MAX, age_max: None },
            channels_max: 100,
            backlog: Backlog { events_max: 0, bytes_max: usize::MAX },
            shards: 2,
            hold_steps: HOLD_STEPS,
        });
        hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
        let names = ["a", "b", "x*"].map(|name| Selector::parse(name).unwrap());
        for shard in [0, 0, 1] {
            hub.subscribe(shard, &names, Some("ann"), Begin::AtHead).unwrap();
        }
        let (first, second) = (publish(&hub), publish(&hub));
        assert!(!first.add(1, 1), "shard 0 has yet to count");
        assert!(hub.is_behind(), "it has yet to take them");
        assert_eq!(hub.forget_shard(0), [0], "it waits for the first event's count");
        assert_eq!([first.total(), second.total()], [Some(1), None]);
        assert_eq!(["a", "b", "x*"].map(|name| hub.subscribers(name)), [1; 3]);
        assert_eq!(hub.subscribers(TARGET_ALL), 1);
        assert_eq!((hub.cursor(0), hub.is_behind()), (hub.head(), true), "the other shard is");
        assert!(second.add(1, 1), "nothing is waited for but the other shard");
        assert!(hub.forget_shard(1).is_empty());
        assert_eq!((hub.channels_len(), hub.is_behind()), (2, false), "what is retained is left");
        let state = hub.lock();
        assert!(state.tallies.is_empty() && state.cursors == [Sequence(2); 2]);
        assert_eq!(
            state.channels.get(state.channels.find("a").unwrap()).retained.len(),
            1,
            "its bound holds again"
        );
    }
}
