//! Events that may be replayed for a time only (`ttl`). When it has passed, an event has *lapsed*: nobody who resumes, or
//! has fallen behind, is sent it any more, and nobody is told of a gap for it.
//!
//! Readers pass over what has lapsed from that very tick on. Its memory is given up as soon as every shard has taken it,
//! as much as the budget of a hold of the lock allows. What it takes to know the next event that lapses is held by pages, and goes with
//! them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;

use crate::base::id::Sequence;
use crate::hub::budget;
use crate::hub::history::History;
use crate::hub::targets::TargetId;
use crate::hub::{State, TICK};

/// What it takes to give up an event that has lapsed, in steps: it may stand anywhere among those of its channel.
const LAPSE_STEPS: u32 = 16;

/// Lapsed events whose numbers a channel remembers, so that streams know how many of what they missed had lapsed.
const NUMBERS_MAX: usize = 1024;

/// When an event lapses that never does.
pub(super) const NEVER: u32 = u32::MAX;

/// The tick from which on an event of this `ttl`, in seconds, has lapsed, if it is applied in the tick `now`. An event may
/// be replayed for up to a tick less than its `ttl`, and never longer.
pub(super) fn lapses_at(now: u32, ttl: Option<NonZeroU32>) -> u32 {
    let ticks_per_second = 1000 / u32::try_from(TICK.as_millis()).expect("a tick is less than a second");
    ttl.map_or(NEVER, |ttl| now.saturating_add(ttl.get().saturating_mul(ticks_per_second)))
}

/// The events of a page that lapse, by when they do.
#[derive(Debug, Default)]
pub(super) struct Lapsing(BinaryHeap<Reverse<(u32, u32)>>);

impl Lapsing {
    /// Adds an event, by its place in the page.
    pub(super) fn push(&mut self, lapses: u32, delta: u32) {
        if lapses != NEVER {
            self.0.push(Reverse((lapses, delta)));
        }
    }

    /// The tick in which the next event lapses.
    pub(super) fn next(&self) -> Option<u32> {
        self.0.peek().map(|&Reverse((lapses, _))| lapses)
    }

    /// Takes off the event that lapses next: when, and its place in the page.
    pub(super) fn pop(&mut self) -> Option<(u32, u32)> {
        self.0.pop().map(|Reverse(next)| next)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u32, u32)>()
    }
}

/// The lapsed events of a channel, since it has been in the table.
#[derive(Debug, Default)]
pub(super) struct Lapsed {
    /// How many.
    pub(super) count: u64,
    /// The numbers of the last ones in order.
    numbers: VecDeque<Sequence>,
    /// Those that had lapsed when the history was dropped that they are still part of, in order: not lost by it, and not
    /// yet among `count`.
    dropped: VecDeque<Sequence>,
    /// The last one of which the number is not remembered.
    forgotten_through: Sequence,
}

impl Lapsed {
    /// Takes in an event that has lapsed.
    pub(super) fn note(&mut self, sequence: Sequence) {
        self.count += 1;
        if sequence <= self.forgotten_through {
            return;
        }
        let index = self.numbers.partition_point(|&number| number < sequence);
        self.numbers.insert(index, sequence);
        if self.numbers.len() > NUMBERS_MAX
            && let Some(oldest) = self.numbers.pop_front()
        {
            self.forgotten_through = oldest;
        }
    }

    /// Notes events that have lapsed and are still retained, by their numbers in order, as a history is dropped that they are
    /// part of.
    pub(super) fn note_dropped(&mut self, lapsed: impl ExactSizeIterator<Item = Sequence>) {
        let surplus = (self.dropped.len() + lapsed.len()).saturating_sub(NUMBERS_MAX);
        self.dropped.extend(lapsed);
        if let Some(last) = self.dropped.drain(..surplus).next_back() {
            self.forgotten_through = self.forgotten_through.max(last);
        }
    }

    /// Takes in an event of a dropped history that is given up now; returns true if and only if it had lapsed when that was
    /// dropped.
    pub(super) fn note_if_dropped(&mut self, sequence: Sequence) -> bool {
        let Ok(index) = self.dropped.binary_search(&sequence) else { return false };
        self.dropped.remove(index);
        self.note(sequence);
        true
    }

    /// How many events up to a place had lapsed when a history was dropped that they are still part of.
    pub(super) fn count_dropped_through(&self, place: Sequence) -> usize {
        self.dropped.partition_point(|&number| number <= place)
    }

    /// Forgets the numbers, and that up to a place there were none: no stream counts from a place before.
    pub(super) fn forget_numbers_through(&mut self, place: Sequence) {
        let last = [self.numbers.back(), self.dropped.back(), Some(&place)].into_iter().flatten().max();
        self.forgotten_through = self.forgotten_through.max(*last.unwrap_or(&place));
        self.numbers = VecDeque::new();
        self.dropped = VecDeque::new();
    }

    /// How many of them come after a place; `None` where that is not remembered.
    pub(super) fn count_after(&self, place: Sequence) -> Option<u64> {
        let after = || self.numbers.len() - self.numbers.partition_point(|&number| number <= place);
        (place >= self.forgotten_through).then(|| after() as u64)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Lapsed>() + (self.numbers.capacity() + self.dropped.capacity()) * size_of::<Sequence>()
    }
}

impl History {
    /// When the next event of all lapses.
    pub(super) fn next_lapse(&self) -> Option<u32> {
        self.next_lapses.first().map(|&(next, _)| next)
    }

    /// Takes out of those that lapse what has done so by `now` and was taken by all shards: the events and where they went.
    /// It looks at `count_max` events at the most; returns also at how many. Those that a shard has yet to take are put off,
    /// and hide none.
    pub(super) fn take_lapsed(
        &mut self,
        now: u32,
        taken_by_all: Sequence,
        count_max: usize,
    ) -> (Vec<(Sequence, TargetId)>, usize) {
        let (mut lapsed, mut looked_at) = (Vec::new(), 0);
        while looked_at < count_max {
            let sequence = match self.untaken_lapsed.first() {
                Some(&sequence) if sequence <= taken_by_all => {
                    self.untaken_lapsed.pop_first();
                    sequence
                }
                _ => match self.pop_lapsed(now) {
                    Some(sequence) => sequence,
                    None => break,
                },
            };
            looked_at += 1;
            if sequence > taken_by_all {
                self.untaken_lapsed.insert(sequence);
            } else if let Some(entry) = self.entry(sequence).filter(|entry| entry.holders > 0) {
                lapsed.push((sequence, entry.target));
            }
        }
        (lapsed, looked_at)
    }

    /// The next event that has lapsed by `now`.
    fn pop_lapsed(&mut self, now: u32) -> Option<Sequence> {
        let &(_, first) = self.next_lapses.first().filter(|&&(tick, _)| tick <= now)?;
        let index = self.pages.partition_point(|page| page.first < first);
        let page = &mut self.pages[index];
        let (lapses, delta) = page.lapsing.pop()?;
        let next = page.lapsing.next();
        self.note_next_lapse(first, Some(lapses), next);
        Some(first.plus(u64::from(delta)))
    }

    /// Keeps the order of pages by their next lapse.
    pub(super) fn note_next_lapse(&mut self, first: Sequence, before: Option<u32>, next: Option<u32>) {
        if before != next {
            before.map(|before| self.next_lapses.remove(&(before, first)));
            next.map(|next| self.next_lapses.insert((next, first)));
        }
    }
}

impl State {
    /// Returns true if and only if the memory of something lapsed is yet to be given up.
    pub(super) fn has_lapsed(&self) -> bool {
        !self.history.untaken_lapsed.is_empty()
            || self.history.next_lapse().is_some_and(|tick| tick <= self.now)
    }

    /// Returns true if and only if a retained event has lapsed.
    pub(super) fn is_lapsed(&self, sequence: Sequence) -> bool {
        // Nearly always nothing that has lapsed is retained still, and no entry has to be found.
        self.has_lapsed() && self.history.entry(sequence).is_some_and(|entry| entry.lapses <= self.now)
    }

    /// Gives up what has lapsed, as far as every shard has taken it and the budget allows; returns true if and only if there was
    /// something to be done.
    pub(super) fn give_up_lapsed(&mut self, taken: Sequence) -> bool {
        let count_max = self.budget.times(LAPSE_STEPS, 3);
        if count_max == 0 || !self.has_lapsed() {
            return false;
        }
        let (lapsed, looked_at) = self.history.take_lapsed(self.now, taken, count_max);
        // Where there may be more of them, nothing else goes before it is their turn.
        let others = looked_at - lapsed.len() + usize::from(looked_at == count_max);
        self.budget.spend(LAPSE_STEPS * budget::steps(others));
        for (sequence, target) in lapsed {
            for _ in 0..self.lapse(target, sequence) {
                self.history.release(sequence, taken);
            }
        }
        looked_at > 0
    }

    /// Takes an event that has lapsed out of the channels that retain it; returns how many did.
    pub(super) fn lapse(&mut self, target: TargetId, sequence: Sequence) -> usize {
        let mut channels = self.targets.channels(target);
        self.budget.spend(LAPSE_STEPS * budget::steps(channels.len()));
        channels.retain(|channel| self.channels.lapse(*channel, sequence));
        channels.iter().for_each(|&channel| self.note_given_up(channel));
        channels.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::hub::retention::SEGMENT_BYTES_MOST;
    use std::time::Duration;

    use super::super::reader::{Cursor, Slice, SliceLimits};
    use super::super::tests::{finish, hub, id, publish as publish_all, read_from, take_all};
    use super::super::{Begin, Hub};
    use super::*;
    use crate::base::name::Selector;
    use crate::frame::batch::Batch;
    use crate::sse::event::Event;

    /// Publishes events to channels: the data, and the `ttl` in seconds, 0 for none.
    fn publish(hub: &Hub, events: &[(&[&str], &str, u32)]) {
        for &(channels, data, ttl) in events {
            let mut batch = Batch::new();
            batch.push(channels, &Event::new(data));
            batch.set_ttl(NonZeroU32::new(ttl));
            hub.apply(hub.head().next(), &batch, None);
            take_all(hub);
        }
    }

    fn set_seconds(hub: &Hub, seconds: f64) {
        hub.set_now(Duration::from_secs_f64(seconds));
    }

    /// What is read of a channel from a place on: what was missed, and the data.
    fn read(hub: &Hub, channels: &[&str], begin: Begin) -> (Vec<Option<u64>>, String) {
        let (missed, data) = read_from(hub, channels, None, begin);
        (missed, data.join(" "))
    }

    #[test]
    fn what_has_lapsed_is_not_replayed_and_not_missing() {
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
    fn the_last_events_are_those_that_are_still_to_be_had() {
        let hub = hub(10, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        for n in 1..=6 {
            publish(&hub, &[(&["a"], &n.to_string(), n % 2), (&["b"], &format!("b{n}"), 0)]);
        }
        // The shard has not taken the last one, so its memory is not given up yet.
        publish_all(&hub, [("a".to_owned(), "7".to_owned())]);
        let mut batch = Batch::new();
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
    fn a_lagging_shard_is_still_given_what_has_lapsed() {
        let hub = hub(10, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let live = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let mut batch = Batch::new();
        batch.push(&["a"], &Event::new("short"));
        batch.set_ttl(NonZeroU32::new(1));
        hub.apply(hub.head().next(), &batch, None);
        set_seconds(&hub, 5.0);
        let mut runs = Vec::new();
        let limits = super::super::live::TakeLimits { frames_max: 9, large_frames_max: 9, bytes_max: 999 };
        hub.take(0, limits, &mut runs);
        assert_eq!(runs.iter().map(|run| run.frames).sum::<u32>(), 1, "live delivery is not touched");
        assert!(!hub.lock().has_lapsed(), "its memory is given up as soon as it is taken");
        hub.unsubscribe(0, live.channels, |_, _| true);
        assert_eq!(hub.channels_len(), 0);
    }

    #[test]
    fn a_stream_that_fell_behind_knows_exactly_what_it_missed_of_what_had_not_lapsed() {
        let hub = hub(4, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let short = |n: u32| if n.is_multiple_of(3) { 1 } else { 0 };
        (1..=10).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), short(n))]));
        // It got 2 live. Of 3 to 6, which are evicted, none had lapsed then; 9 lapses while it is retained.
        let mut cursor = Cursor::behind(Sequence(2), Some(2));
        set_seconds(&hub, 1.0);
        let limits = SliceLimits { frames_max: 1, bytes_max: usize::MAX };
        let mut slice = Slice::default();
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!((slice.gap.map(|gap| gap.missed), slice.frames), (Some(Some(4)), 1));
        assert_eq!((cursor.place, cursor.seen), (Sequence(7), Some(7)));
        // 8, 10 and 11 of what is retained are lost now, 9 and 12 had lapsed.
        publish(&hub, &[(&["a"], "11", 0), (&["a"], "12", 1)]);
        set_seconds(&hub, 2.0);
        (13..=16).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), 0)]));
        let mut slice = Slice::default();
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!((slice.gap.map(|gap| gap.missed), slice.frames), (Some(Some(3)), 1));
        assert_eq!((cursor.place, cursor.seen), (Sequence(13), Some(13)));
    }

    #[test]
    fn the_memory_of_what_has_lapsed_is_given_up() {
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
    fn what_was_evicted_before_it_lapsed_is_missing() {
        let hub = hub(2, usize::MAX);
        (1..=5).for_each(|n| publish(&hub, &[(&["a"], &n.to_string(), 1)]));
        set_seconds(&hub, 1.0);
        assert_eq!(read(&hub, &["a"], Begin::After(id(1))), (vec![None], String::new()));
        assert_eq!(read(&hub, &["a"], Begin::After(id(3))), (vec![], String::new()));
    }

    #[test]
    fn numbers_of_what_lapsed_are_remembered_up_to_a_bound() {
        let mut lapsed = Lapsed::default();
        [5, 3, 9].into_iter().for_each(|number| lapsed.note(Sequence(number)));
        assert_eq!([0, 3, 8, 9].map(|place| lapsed.count_after(Sequence(place))), [3, 2, 1, 0].map(Some));
        (0..NUMBERS_MAX as u64).for_each(|n| lapsed.note(Sequence(100 + n)));
        assert_eq!(lapsed.count_after(Sequence(8)), None);
        assert_eq!(lapsed.count_after(Sequence(9)), Some(NUMBERS_MAX as u64));
        lapsed.forget_numbers_through(Sequence::START);
        assert_eq!((lapsed.count, lapsed.count_after(Sequence(1122))), (NUMBERS_MAX as u64 + 3, None));
        assert_eq!(lapsed.count_after(Sequence(1123)), Some(0));
    }

    #[test]
    fn an_event_of_a_very_long_ttl_never_lapses() {
        assert_eq!(lapses_at(7, None), NEVER);
        assert_eq!(lapses_at(7, NonZeroU32::new(2)), 27);
        assert_eq!(lapses_at(7, NonZeroU32::new(u32::MAX)), NEVER);
    }
}
