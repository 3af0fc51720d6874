//! Dropping the history of a channel on demand (section "Managing" of the contract).
//!
//! For readers of the history, all dropped events are gone at once. Live streams notice nothing: an
//! event that a shard has not taken stays until every shard has, like every event that is given up.

use std::sync::MutexGuard;

use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::state::State;
use crate::record::targets::is_channel;

impl Hub {
    /// Drops all events of a channel up to now, and returns how many. An event that also went to other
    /// channels stays there. A stream that resumes from before gets one `gap` for all of them, as for
    /// any events that are no longer retained. This and later holds of the lock give their memory back, as
    /// their budgets allow.
    ///
    /// Returns `None` if there is no such channel, that is, none with subscribers or events that can be
    /// read.
    pub fn drop_history(&self, name: &str) -> Option<usize> {
        let mut state = self.lock_without_lapsed();
        let state = &mut *state;
        let id = state.channels.find(name).filter(|_| is_channel(name))?;
        if state.channels.prefix(id).is_some() {
            return None;
        }
        let subscribers = state.channels.subscribers(id);
        let Some(Droppable { lapsed, newest, count }) = state.droppable(id) else {
            return (subscribers > 0).then_some(0);
        };
        if !state.channels.change(id, |ledger| std::mem::replace(&mut ledger.is_over, true)) {
            state.over.push(id);
        }
        state.drop_through(id, newest, &lapsed);
        state.enforce_retention();
        self.publish_counts(state);
        Some(count)
    }

    /// Gives up all lapsed events that every shard has taken. After that, [`Hub::drop_history`] takes one
    /// hold of the lock, however many there were.
    pub fn give_up_lapsed(&self) {
        drop(self.lock_without_lapsed());
    }

    /// Returns the lock once all lapsed events that every shard has taken are given up, in as many holds
    /// as that takes. The drop must tell lapsed events from dropped ones, and while there are lapsed
    /// events that takes a look at each event.
    fn lock_without_lapsed(&self) -> MutexGuard<'_, State> {
        loop {
            let mut state = self.lock();
            let taken = state.taken_by_all();
            if !state.give_up_lapsed(taken) {
                return state;
            }
            self.publish_counts(&state);
            drop(state);
            self.yield_to_waiting();
        }
    }
}

/// The events that a drop concerns.
struct Droppable {
    /// Lapsed events that are still retained and come before `newest`.
    lapsed: Vec<Sequence>,
    /// The last event that has not lapsed.
    newest: Sequence,
    /// The number of events that have not lapsed.
    count: usize,
}

impl State {
    /// Returns what a drop of the channel concerns, or `None` if there is nothing.
    fn droppable(&self, id: ChannelId) -> Option<Droppable> {
        let readable = self.channels.get(id).readable();
        // Lapsed events that every shard has taken are given up already; the others are in
        // `untaken_lapsed`.
        let count = readable.len();
        let untaken = self.history.untaken_lapsed.iter().copied();
        let mut lapsed: Vec<Sequence> =
            untaken.filter(|&sequence| self.channels.get(id).holds(sequence)).collect();
        let newest = readable.rev().find(|sequence| lapsed.binary_search(sequence).is_err())?;
        let count = count - lapsed.len();
        lapsed.truncate(lapsed.partition_point(|&sequence| sequence < newest));
        Some(Droppable { lapsed, newest, count })
    }

    /// Makes all events of a channel up to `newest` unreadable, and notes what its patterns lose. For
    /// each pattern one event is noted: the last one that no other channel of the pattern retains.
    /// Events in `lapsed` had lapsed and are not lost.
    fn drop_through(&mut self, id: ChannelId, newest: Sequence, lapsed: &[Sequence]) {
        let mut patterns = self.channels.all_patterns_of(id);
        let from = self.channels.get(id).index_after(Sequence::START);
        self.channels.drop_through(id, newest, lapsed.iter().copied());
        let mut index = self.channels.get(id).retained.count_through(newest);
        while index > from && !patterns.is_empty() {
            index -= 1;
            let sequence = self.channels.get(id).retained.get(index);
            let Some(sequence) = sequence.filter(|number| lapsed.binary_search(number).is_err()) else {
                continue;
            };
            let Some(target) = self.history.target_of(sequence) else { continue };
            let lost_to = self.channels.note_lost_to(&patterns, &self.targets.channels(target), sequence);
            patterns.retain(|pattern| !lost_to.contains(pattern));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::Ordering;

    use crate::base::id::Sequence;
    use crate::base::name::Selector;
    use crate::hub::reading::TakeLimits;
    use crate::hub::reading::{Cursor, Gap, Slice, SliceLimits};
    use crate::hub::state::State;
    use crate::hub::tests::{finish, hub, id, publish, publish_to, read, read_as, read_from};
    use crate::hub::{Begin, Begun, Hub};
    use crate::record::Events;
    use crate::record::targets::TARGET_ALL;
    use crate::sse::event::Event;

    fn dropped_and_taken(hub: &Hub, channel: &str) -> Option<usize> {
        let dropped = hub.drop_history(channel);
        hub.take(
            0,
            TakeLimits { frames_max: 100, large_frames_max: 100, bytes_max: usize::MAX },
            &mut Vec::new(),
        );
        dropped
    }

    #[test]
    fn a_dropped_history_is_one_gap_and_later_events_are_read() {
        let hub = hub(100, usize::MAX);
        for n in 1..=4 {
            publish_to(&hub, "a", &format!("a{n}"));
            publish_to(&hub, "b", &format!("b{n}"));
        }
        assert_eq!(dropped_and_taken(&hub, "a"), Some(4));
        assert_eq!(read_as(&hub, None, 0), (vec![None], vec![]));
        publish_to(&hub, "a", "new");
        assert_eq!(read_as(&hub, None, 0), (vec![None], vec!["new".to_owned()]));
        assert_eq!(
            read_as(&hub, None, 7),
            (vec![], vec!["new".to_owned()]),
            "nothing was lost after its last event"
        );
        let everything = |after| read_from(&hub, &["a", "b"], None, Begin::After(id(after)));
        let others = |from| (from..=4).map(|n| format!("b{n}")).chain(["new".to_owned()]).collect::<Vec<_>>();
        assert_eq!(everything(0), (vec![None], others(1)));
        assert_eq!(everything(5), (vec![None], others(3)));
        assert_eq!(read_from(&hub, &["a"], None, Begin::AllRetained), (vec![], vec!["new".to_owned()]));
    }

    #[test]
    fn a_channel_is_dropped_if_and_only_if_it_has_subscribers_or_events() {
        let hub = hub(100, usize::MAX);
        assert_eq!(hub.drop_history("a"), None);
        assert_eq!(hub.drop_history(TARGET_ALL), None, "it is no channel");
        publish_to(&hub, "a", "1");
        assert_eq!(hub.drop_history("a"), Some(1));
        assert_eq!((hub.drop_history("a"), hub.channels_len()), (None, 0));
        let subscribed =
            hub.subscribe(0, &[Selector::parse("a").unwrap()], None, Begin::After(id(0))).unwrap();
        assert_eq!(hub.drop_history("a"), Some(0));
        let Begun::After(mut cursor) = subscribed.begun else { panic!("the id is known") };
        let (mut slice, limits) = (Slice::default(), SliceLimits { frames_max: 64, bytes_max: usize::MAX });
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert!(slice.gap.is_some() && slice.is_live, "what was dropped before it came is lost for it");
    }

    #[test]
    fn dropped_events_still_reach_live_streams_of_a_shard_that_has_not_taken_them() {
        let hub = hub(100, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        publish(&hub, (1..=3).map(|n| ("a".to_owned(), format!("{n}"))));
        assert_eq!(hub.drop_history("a"), Some(3));
        let retained = |state: &State| state.channels.get(state.channels.find("a").unwrap()).readable().len();
        assert_eq!(retained(&hub.lock()), 0);
        assert_eq!(hub.drop_history("a"), Some(0));

        // A stream that resumes now sees none of it, whether its shard has taken it or not.
        let resumed = hub.subscribe(0, &names, None, Begin::After(id(0))).unwrap();
        let Begun::After(mut cursor) = resumed.begun else { panic!("the id is known") };
        let (mut slice, limits) = (Slice::default(), SliceLimits { frames_max: 64, bytes_max: usize::MAX });
        hub.read(0, &resumed.channels, &mut cursor, limits, &mut slice);
        assert!(slice.gap.is_none() && slice.frames == 0 && !slice.is_live, "it waits for its shard");
        let mut runs = Vec::new();
        hub.take(0, TakeLimits { frames_max: 100, large_frames_max: 100, bytes_max: usize::MAX }, &mut runs);
        assert_eq!(runs.iter().map(|run| run.frames).sum::<u32>(), 3);
        hub.read(0, &resumed.channels, &mut cursor, limits, &mut slice);
        let gap = slice.gap.take().expect("the stream is notified of its loss");
        assert_eq!((gap, slice.frames, slice.is_live), (Gap { missed: None, after: id(0) }, 0, true));
        assert!(
            hub.lock().channels.get(resumed.channels[0]).retained.is_empty(),
            "now all of it is given up"
        );
    }

    #[test]
    fn lapsed_events_of_a_dropped_history_are_not_missed_and_the_others_are_counted() {
        for is_taken in [true, false] {
            let hub = hub(100, usize::MAX);
            let limits = TakeLimits { frames_max: 100, large_frames_max: 100, bytes_max: usize::MAX };
            let names = [Selector::parse("a").unwrap()];
            let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
            for n in 1..=6 {
                let mut batch = Events::new();
                batch.push(&["a"], &Event::new(&n.to_string()));
                batch.set_ttl(NonZeroU32::new(if n == 2 || n == 4 { 1 } else { 0 }));
                hub.apply(hub.head().next(), &batch, None);
                if is_taken {
                    hub.take(0, limits, &mut Vec::new());
                }
            }
            // A tick passes, and no shard has set the hub's clock by the time of the drop.
            hub.now.fetch_add(10, Ordering::Relaxed);
            assert_eq!(hub.drop_history("a"), Some(4));
            hub.take(0, limits, &mut Vec::new());
            publish_to(&hub, "a", "new");
            hub.take(0, limits, &mut Vec::new());
            let mut slice = Slice::default();
            let mut cursor = Cursor::behind(Sequence(1), Some(1));
            let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
            hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
            let told = slice.gap.map(|gap| gap.missed);
            assert_eq!((told, slice.frames), (Some(Some(3)), 1), "3, 5 and 6 are lost; taken: {is_taken}");
            assert_eq!(cursor.seen, Some(7), "it goes on with all of them behind it");
        }
    }

    #[test]
    fn a_pattern_reports_a_dropped_channel_once() {
        for channels in [1, 100] {
            // Few channels are merged for a pattern; for many, the order is walked.
            let hub = hub(100, usize::MAX);
            (0..channels).for_each(|n| drop(publish_to(&hub, &format!("x{n}"), &format!("{n}"))));
            publish_to(&hub, "x0", "last");
            assert_eq!(hub.drop_history("x*"), None, "it is no channel");
            assert_eq!(dropped_and_taken(&hub, "x0"), Some(2));
            let others: Vec<String> = (1..channels).map(|n| n.to_string()).collect();
            assert_eq!(read_from(&hub, &["x*"], None, Begin::After(id(0))), (vec![None], others));
        }
    }

    #[test]
    fn a_large_history_is_dropped_wholly() {
        let hub = hub(100_000, usize::MAX);
        publish(&hub, (0..20_000).map(|_| ("a".to_owned(), "x".repeat(100))));
        publish(&hub, [("b".to_owned(), "stays".to_owned())]);
        let held = hub.held_bytes();
        assert_eq!(hub.drop_history("a"), Some(20_000));
        finish(&hub);
        assert_eq!(hub.channels_len(), 1);
        assert!(hub.held_bytes() < held / 2, "{} bytes are held of {held}", hub.held_bytes());
        assert_eq!(read(&hub, "b", 0).0, None);
    }
}
