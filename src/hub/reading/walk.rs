//! Reading for streams with patterns. If few channels match, their events are merged; otherwise entries
//! are picked one by one from the order of all events.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::budget;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::ledger::{Ledger, pattern_prefix};
use crate::hub::history::page::Entry;
use crate::hub::reading::cursor::Cursor;
use crate::hub::reading::slice::{Slice, SliceLimits};
use crate::hub::state::State;
use crate::record::targets::is_channel;

/// The most channels that a slice merges for patterns. With more, finding the place in each costs more
/// than looking at as many entries as a slice may have.
const MERGED_CHANNELS_MAX: usize = 64;

/// What a stream subscribes to, in the form that checks events one by one.
pub(in crate::hub) struct Selected<'s> {
    channels: SmallVec<[ChannelId; 8]>,
    prefixes: SmallVec<[&'s str; 8]>,
}

/// A channel of an event's target, if it is in the table.
#[derive(Clone, Copy)]
struct Present<'s> {
    id: ChannelId,
    name: &'s str,
    is_pattern: bool,
    ledger: &'s Ledger,
}

impl State {
    /// The channels among `channels` and those that its patterns match, or `None` if there are too many
    /// to merge.
    pub(in crate::hub) fn merged(&self, channels: &[ChannelId]) -> Option<SmallVec<[ChannelId; 8]>> {
        let mut merged = SmallVec::new();
        let mut has_patterns = false;
        for &id in channels {
            let Some(prefix) = self.channels.prefix(id) else {
                merged.push(id);
                continue;
            };
            has_patterns = true;
            let room = channels.len() + MERGED_CHANNELS_MAX - merged.len();
            merged.extend(self.channels.beginning_with(prefix)?.take(room + 1));
            if merged.len() > channels.len() + MERGED_CHANNELS_MAX {
                return None;
            }
        }
        if has_patterns {
            merged.sort_unstable();
            merged.dedup();
        }
        Some(merged)
    }

    /// Reads the events up to `end` that go to any of `channels`, in the order of all events. Returns
    /// true if it got there.
    pub(super) fn walk(
        &self,
        channels: &[ChannelId],
        cursor: &mut Cursor,
        end: Sequence,
        limits: SliceLimits,
        slice: &mut Slice,
    ) -> bool {
        let selected = self.select(channels);
        let (from, mut has_passed) = (cursor.place, false);
        for page in self.history.pages().from(self.history.page_index(from.next())) {
            for entry in &page.entries[page.index_after(from)..] {
                let sequence = page.sequence(entry);
                if sequence > end {
                    return true;
                }
                if !self.may_pass_over(&mut has_passed) {
                    return false;
                }
                self.budget.spend(1);
                if self.selects(&selected, entry, sequence) && !slice.push(&page.place(entry), limits) {
                    return false;
                }
                cursor.place = sequence;
            }
        }
        true
    }

    /// Counts the events after `place` that go to any of `channels`. It looks at as many events of the
    /// order as the budget allows, and counts every event beyond those.
    pub(in crate::hub) fn count_walked(&self, channels: &[ChannelId], place: Sequence) -> usize {
        let selected = self.select(channels);
        let mut count = 0;
        for page in self.history.pages().from(self.history.page_index(place.next())) {
            for entry in &page.entries[page.index_after(place)..] {
                let sequence = page.sequence(entry);
                if self.budget.is_spent() {
                    let behind = self.epochs.head().0 - sequence.0 + 1;
                    return count + usize::try_from(behind).unwrap_or(usize::MAX);
                }
                self.budget.spend(1);
                count += usize::from(self.selects(&selected, entry, sequence));
            }
        }
        count
    }

    /// Splits `channels` into channels and prefixes of patterns.
    pub(super) fn select(&self, channels: &[ChannelId]) -> Selected<'_> {
        let prefixes = channels.iter().filter_map(|&id| self.channels.prefix(id)).collect();
        let is_no_pattern = |id: &ChannelId| self.channels.prefix(*id).is_none();
        Selected { channels: channels.iter().copied().filter(is_no_pattern).collect(), prefixes }
    }

    /// Returns true if and only if a selected channel retains the event and it can be read.
    pub(super) fn selects(&self, selected: &Selected<'_>, entry: &Entry, sequence: Sequence) -> bool {
        if entry.holders == 0 || entry.has_lapsed(self.now) {
            return false;
        }
        let mut present: SmallVec<[Present<'_>; 4]> = SmallVec::new();
        self.targets.for_each(entry.target, |id| {
            if let Some(ledger) = self.channels.peek(id) {
                let name = self.channels.name(id);
                present.push(Present { id, name, is_pattern: pattern_prefix(name).is_some(), ledger });
            }
        });
        let comparisons = present.len() * (selected.channels.len() + selected.prefixes.len());
        self.budget.spend(budget::steps(comparisons / budget::COMPARISONS_PER_STEP));
        // If as many channels retain the event as the target has without its patterns, each of them
        // does, and no list of numbers need be searched. If the place of a channel that left was given
        // to another, the target has more channels than retain the event.
        let retaining_max = present.iter().filter(|channel| !channel.is_pattern).count();
        let is_with_all = retaining_max == entry.holders as usize;
        present.iter().any(|&Present { id, name, is_pattern, ledger }| {
            let is_prefix = |prefix: &&str| name.starts_with(prefix);
            let matches = || is_channel(name) && selected.prefixes.iter().any(is_prefix);
            let is_held = || match is_with_all {
                true => !is_pattern && sequence > ledger.dropped_through,
                false => ledger.holds(sequence),
            };
            (selected.channels.contains(&id) || matches()) && is_held()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Selector;
    use crate::base::random::SplitMix64;
    use crate::hub::RETENTION_BYTES_MIN;
    use crate::hub::tests::{finish, hub, id, publish, take_all};
    use crate::hub::{Begin, Begun, Hub};
    use crate::record::Events;
    use crate::record::targets::{TARGET_ALL, user_target};
    use crate::sse::event::Event;

    /// The data read from a place on, through `merged` channels or by a walk, in slices of three.
    fn read_all(hub: &Hub, ids: &[ChannelId], after: u64, merged: bool) -> Vec<String> {
        let (mut cursor, mut read) = (Cursor::behind(Sequence(after), None), Vec::new());
        let limits = SliceLimits { frames_max: 3, bytes_max: 20_000 };
        loop {
            let mut slice = Slice::default();
            let state = hub.lock();
            let end = state.epochs.head();
            let is_done = if merged {
                let merged = state.merged(ids).expect("they are few");
                state.read_frames(&merged, &mut cursor, end, limits, &mut slice)
            } else {
                state.walk(ids, &mut cursor, end, limits, &mut slice)
            };
            for run in &slice.runs {
                let bytes = run.segment.bytes(run.from as usize, run.to as usize);
                read.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
            if is_done {
                return read;
            }
        }
    }

    #[test]
    fn a_walk_reads_what_a_merge_reads() {
        let hub = hub(7, RETENTION_BYTES_MIN);
        let names = ["chat/1", "chat/2", "chat/3", "news", "other"];
        let mut random = SplitMix64::new(5);
        let selectors = ["chat/*", "news", "chat/2"].map(|text| Selector::parse(text).unwrap());
        let ids = hub.subscribe(0, &selectors, Some("ann"), Begin::AtHead).unwrap().channels;
        let user = user_target("ann");
        for step in 0..400 {
            let mut batch = Events::new();
            for _ in 0..random.within(1..=5) {
                let name = |random: &mut SplitMix64| names[random.within(0..=names.len() - 1)];
                let targets = match random.within(0..=9) {
                    0 => vec![TARGET_ALL],
                    1 => vec![&*user],
                    2 | 3 => vec![name(&mut random), name(&mut random)],
                    _ => vec![name(&mut random)],
                };
                let filler = "x".repeat(random.within(0..=6000));
                batch.push(&targets, &Event::new(&format!("{step} {filler}")));
            }
            hub.apply(hub.head().next(), &batch, None);
            take_all(&hub);
            let after = random.within(0..=usize::try_from(hub.head().0).unwrap()) as u64;
            let ids: Vec<ChannelId> = ids.iter().copied().chain([ChannelId::ALL]).collect();
            let (merged, walked) = (read_all(&hub, &ids, after, true), read_all(&hub, &ids, after, false));
            assert_eq!(merged.concat(), walked.concat(), "after {after} at step {step}");
        }
    }

    #[test]
    fn a_pattern_of_very_many_channels_is_walked_a_bounded_way_at_a_time() {
        let hub = hub(10, usize::MAX);
        publish(&hub, (0..100).map(|n| (format!("chat/{n}"), "first".to_owned())));
        publish(&hub, (0..10_000).map(|n| (format!("busy/{}", n % 2000), "b".to_owned())));
        publish(&hub, (0..100).map(|n| (format!("chat/{n}"), "last".to_owned())));
        take_all(&hub);
        let names = [Selector::parse("chat/*").unwrap()];
        let subscribed = hub.subscribe(0, &names, None, Begin::After(id(50))).unwrap();
        finish(&hub); // Now the pattern knows its channels' earlier losses.
        let Begun::After(mut cursor) = subscribed.begun else { panic!("the id is known") };
        let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
        let (mut slice, mut frames, mut slices) = (Slice::default(), 0, 0);
        while !slice.is_live {
            let before = cursor.place;
            hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
            assert!(!slice.is_ahead && slice.gap.is_none());
            assert!(
                cursor.place > before && cursor.place.0 - before.0 <= u64::from(crate::hub::HOLD_STEPS),
                "{before} {}",
                cursor.place
            );
            (frames, slices) = (frames + slice.frames, slices + 1);
        }
        assert_eq!(frames, 150);
        assert!(slices >= 5, "{slices}");
    }

    #[test]
    fn the_last_events_of_a_pattern_are_found_however_many_channels_it_matches() {
        let hub = hub(10, usize::MAX);
        let name = |n: u64| format!("{}/{}", if n.is_multiple_of(2) { "chat" } else { "other" }, n % 200);
        publish(&hub, (1..=1000).map(|n| (name(n), n.to_string())));
        take_all(&hub);
        for (text, count, place) in
            [("chat/*", 1, 999), ("chat/*", 100, 801), ("*", 30, 970), ("*", 5000, 0), ("none*", 5, 1000)]
        {
            let names = [Selector::parse(text).unwrap(), Selector::parse("chat/0").unwrap()];
            let names = if text == "none*" { &names[..1] } else { &names[..] };
            let subscribed = hub.subscribe(0, names, None, Begin::LastRetained(count)).unwrap();
            let Begun::After(mut cursor) = subscribed.begun else {
                panic!("it begins with what is retained")
            };
            cursor.stop_at(Some(Sequence(0))); // The place is found, and nothing is read.
            let limits = SliceLimits { frames_max: 1, bytes_max: 1 };
            while !cursor.has_place() {
                hub.read(0, &subscribed.channels, &mut cursor, limits, &mut Slice::default());
            }
            assert_eq!(cursor.place.0, place, "{count} of {text}");
            hub.unsubscribe(0, subscribed.channels, |_, _| true);
        }
    }
}
