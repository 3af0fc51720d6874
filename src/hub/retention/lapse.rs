//! Events with a `ttl`. When it has passed, an event has *lapsed*: a stream that resumes or fell behind
//! does not get it, and no `gap` reports it.
//!
//! Readers pass over a lapsed event from that very tick on. Its memory is given up once every shard has
//! taken it, as the budget of a hold of the lock allows. Each page keeps which of its events lapse next,
//! so this knowledge goes with the page.

use crate::base::id::Sequence;
use crate::hub::budget;
use crate::hub::history::targets::TargetId;
use crate::hub::state::State;

/// The cost of giving up a lapsed event in steps: it may lie anywhere in its channel's list.
const LAPSE_STEPS: u32 = 16;

impl State {
    /// Returns true if the memory of a lapsed event is still to be given up.
    pub(in crate::hub) fn has_lapsed(&self) -> bool {
        !self.history.untaken_lapsed.is_empty()
            || self.history.next_lapse().is_some_and(|tick| tick <= self.now)
    }

    /// Returns true if this retained event has lapsed.
    pub(in crate::hub) fn is_lapsed(&self, sequence: Sequence) -> bool {
        // Nearly always no lapsed event is retained, and no entry must be looked up.
        self.has_lapsed() && self.history.entry(sequence).is_some_and(|entry| entry.has_lapsed(self.now))
    }

    /// Gives up the lapsed events that every shard has taken, as the budget allows. Returns true if
    /// there was any lapsed event to look at.
    pub(super) fn give_up_lapsed(&mut self, taken: Sequence) -> bool {
        if !self.has_lapsed() {
            return false;
        }
        let count_max = self.budget.times(LAPSE_STEPS, 3);
        if count_max == 0 {
            // Nothing else is given up before those that can go now: the next hold begins with them.
            let is_due = self.history.untaken_lapsed.first().is_some_and(|&first| first <= taken)
                || self.history.next_lapse().is_some_and(|tick| tick <= self.now);
            self.budget.spend(if is_due { LAPSE_STEPS } else { 0 });
            return false;
        }
        let (lapsed, looked_at) = self.history.drain_lapsed(self.now, taken, count_max);
        // If more may have lapsed, the budget is used up, so that nothing else is given up before them.
        let others = looked_at - lapsed.len() + usize::from(looked_at == count_max);
        self.budget.spend(LAPSE_STEPS * budget::steps(others));
        for (sequence, target) in lapsed {
            for _ in 0..self.lapse(target, sequence) {
                self.history.release(sequence, taken);
            }
        }
        looked_at > 0
    }

    /// Removes a lapsed event from the channels that retain it, and returns how many did.
    pub(in crate::hub) fn lapse(&mut self, target: TargetId, sequence: Sequence) -> usize {
        let mut channels = self.targets.channels(target);
        self.budget.spend(LAPSE_STEPS * budget::steps(channels.len()));
        channels.retain(|channel| self.channels.lapse(*channel, sequence));
        channels.iter().for_each(|&channel| self.note_given_up(channel));
        channels.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::hub::SEGMENT_BYTES_MOST;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::base::name::Selector;
    use crate::hub::reading::{Cursor, Slice, SliceLimits};
    use crate::hub::tests::{finish, hub, id, publish as publish_all, read_from, take_all};
    use crate::hub::{Begin, Commit, Hub};
    use crate::record::Events;
    use crate::sse::event::Event;

    /// Publishes events to channels: the data, and the `ttl` in seconds, 0 for none.
    fn publish(hub: &Hub, events: &[(&[&str], &str, u32)]) {
        for &(channels, data, ttl) in events {
            let mut batch = Events::new();
            batch.push(channels, &Event::new(data));
            batch.set_ttl(NonZeroU32::new(ttl));
            hub.apply(hub.head().next(), &batch, None);
            take_all(hub);
        }
    }

    fn set_seconds(hub: &Hub, seconds: f64) {
        hub.set_now(Duration::from_secs_f64(seconds));
    }

    /// What is read from channels: the numbers of missed events, and the data.
    fn read(hub: &Hub, channels: &[&str], begin: Begin) -> (Vec<Option<u64>>, String) {
        let (missed, data) = read_from(hub, channels, None, begin);
        (missed, data.join(" "))
    }

    #[test]
    fn lapsed_events_are_not_replayed_and_not_missing() {
        let hub = hub(10, usize::MAX);
        publish(&hub, &[(&["a"], "1", 2), (&["a"], "2", 0), (&["a", "b"], "3", 1), (&["b"], "4", 0)]);
        set_seconds(&hub, 0.9);
        assert_eq!(read(&hub, &["a", "b"], Begin::After(id(0))), (vec![], "1 2 3 4".to_owned()));
        set_seconds(&hub, 1.0);
        assert_eq!(read(&hub, &["a", "b"], Begin::After(id(0))), (vec![], "1 2 4".to_owned()));
        assert_eq!(read(&hub, &["*"], Begin::AllRetained), (vec![], "1 2 4".to_owned()));
        set_seconds(&hub, 2.5);
        assert_eq!(read(&hub, &["a"], Begin::After(id(0))), (vec![], "2".to_owned()));
        assert_eq!(read(&hub, &["a"], Begin::LastRetained(3)), (vec![], "2".to_owned()));
        assert_eq!(read(&hub, &["b"], Begin::After(id(3))), (vec![], "4".to_owned()));
    }

    #[test]
    fn events_from_elsewhere_are_as_old_as_the_log_says() {
        let hub = hub(10, usize::MAX);
        set_seconds(&hub, 1.0);
        for (data, ttl, age) in
            [("1", 3, 3000), ("2", 3, 2901), ("3", 3, 2900), ("4", 5, 3000), ("5", 0, 9000)]
        {
            let mut events = Events::new();
            events.push(&["a"], &Event::new(data));
            events.set_ttl(NonZeroU32::new(ttl));
            let (first, age) = (hub.head().next(), Duration::from_millis(age));
            hub.apply_group(&mut [Commit { first, events: &events, waiting: None, age, result: None }]);
            take_all(&hub);
        }
        assert_eq!(read(&hub, &["a"], Begin::AllRetained), (vec![], "3 4 5".to_owned()));
        set_seconds(&hub, 2.9);
        assert_eq!(read(&hub, &["a"], Begin::AllRetained), (vec![], "4 5".to_owned()));
        set_seconds(&hub, 3.0);
        assert_eq!(read(&hub, &["a"], Begin::AllRetained), (vec![], "5".to_owned()));
    }

    #[test]
    fn the_last_events_are_those_that_have_not_lapsed() {
        let hub = hub(10, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        for n in 1..=6 {
            publish(&hub, &[(&["a"], &n.to_string(), n % 2), (&["b"], &format!("b{n}"), 0)]);
        }
        // The shard has not taken the last event, so its memory is not given up yet.
        publish_all(&hub, [("a".to_owned(), "7".to_owned())]);
        let mut batch = Events::new();
        batch.push(&["a"], &Event::new("8"));
        batch.set_ttl(NonZeroU32::new(1));
        hub.apply(hub.head().next(), &batch, None);
        set_seconds(&hub, 1.0);
        assert!(hub.lock().has_lapsed());
        let place = |channels: &[&str], count| {
            let names: Vec<_> = channels.iter().map(|name| Selector::parse(name).unwrap()).collect();
            let ids = hub.subscribe(0, &names, None, Begin::AtHead).unwrap().channels;
            hub.lock().cursor_before_last(count, &ids, false).place.0
        };
        assert_eq!([place(&["a"], 1), place(&["a"], 2), place(&["a"], 4)], [12, 10, 2]);
        assert_eq!(place(&["a", "b"], 3), 10);
    }

    #[test]
    fn a_lagging_shard_still_takes_lapsed_events() {
        let hub = hub(10, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let live = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let mut batch = Events::new();
        batch.push(&["a"], &Event::new("short"));
        batch.set_ttl(NonZeroU32::new(1));
        hub.apply(hub.head().next(), &batch, None);
        set_seconds(&hub, 5.0);
        let mut runs = Vec::new();
        let limits = crate::hub::reading::TakeLimits { frames_max: 9, large_frames_max: 9, bytes_max: 999 };
        hub.take(0, limits, &mut runs);
        assert_eq!(runs.iter().map(|run| run.frames).sum::<u32>(), 1, "live delivery is not touched");
        assert!(!hub.lock().has_lapsed(), "its memory is given up as soon as it is taken");
        hub.unsubscribe(0, live.channels, |_, _| true);
        assert_eq!(hub.channels_len(), 0);
    }

    #[test]
    fn a_stream_that_fell_behind_counts_exactly_the_missed_events_that_had_not_lapsed() {
        let hub = hub(4, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let short = |n: u32| if n.is_multiple_of(3) { 1 } else { 0 };
        (1..=10).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), short(n))]));
        // It got 2 live. 3 to 6 were evicted before they lapsed. 9 lapses while it is retained.
        let mut cursor = Cursor::behind(Sequence(2), Some(2));
        set_seconds(&hub, 1.0);
        let limits = SliceLimits { frames_max: 1, bytes_max: usize::MAX };
        let mut slice = Slice::default();
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!((slice.gap.map(|gap| gap.missed), slice.frames), (Some(Some(4)), 1));
        assert_eq!((cursor.place, cursor.seen), (Sequence(7), Some(7)));
        // Of the events that were retained, 8, 10 and 11 are lost now; 9 and 12 had lapsed.
        publish(&hub, &[(&["a"], "11", 0), (&["a"], "12", 1)]);
        set_seconds(&hub, 2.0);
        (13..=16).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), 0)]));
        let mut slice = Slice::default();
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!((slice.gap.map(|gap| gap.missed), slice.frames), (Some(Some(3)), 1));
        assert_eq!((cursor.place, cursor.seen), (Sequence(13), Some(13)));
    }

    #[test]
    fn the_memory_of_lapsed_events_is_given_up() {
        let hub = hub(100_000, usize::MAX);
        let data = "x".repeat(1000);
        publish(&hub, &[(&["keeps"], "first", 0)]);
        let empty = hub.held_bytes();
        for n in 0..20_000_u32 {
            publish(&hub, &[(&["a", "b"][..1 + n as usize % 2], &data, 1 + n % 3), (&["once"], "x", 1)]);
        }
        assert!(hub.held_bytes() > 20_000_000);
        let before = hub.channels_len();
        for tick in 1..100 {
            set_seconds(&hub, f64::from(tick) / 10.0 + 1.0);
        }
        finish(&hub);
        assert_eq!((before, hub.channels_len()), (4, 1));
        let held = hub.held_bytes();
        // A segment is kept for the next page.
        let most = empty + SEGMENT_BYTES_MOST + 50_000;
        assert!(held < most, "{held} bytes are held, {empty} before");
        assert_eq!(read(&hub, &["keeps", "a"], Begin::AllRetained), (vec![], "first".to_owned()));
    }

    #[test]
    fn an_event_that_is_evicted_before_it_lapses_is_missing() {
        let hub = hub(2, usize::MAX);
        (1..=5).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), 1)]));
        set_seconds(&hub, 1.0);
        assert_eq!(read(&hub, &["a"], Begin::After(id(1))), (vec![None], String::new()));
        assert_eq!(read(&hub, &["a"], Begin::After(id(3))), (vec![], String::new()));
    }
}
