//! The patterns that streams subscribe to: which patterns a channel's name matches, what each has lost
//! lately, and what is still to be gathered for a new one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::base::hashed::Hashed;
use crate::base::heap::block_bytes;
use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;

/// The patterns in the channel table, by prefix.
///
/// A name is looked up once for each length of prefix, so the cost of an event does not grow with the
/// number of patterns.
#[derive(Debug, Default)]
pub(in crate::hub) struct Patterns {
    patterns: BTreeMap<ChannelId, Pattern>,
    /// Finds a pattern's number by its prefix.
    by_prefix: Hashed,
    /// Hashes prefixes in a way that no peer can predict.
    hasher: RandomState,
    /// The number of prefixes of each length in bytes.
    lengths: BTreeMap<usize, usize>,
    /// The bytes of the prefixes.
    prefix_bytes: usize,
    /// New patterns whose channels' earlier losses are not all gathered yet.
    gathering: BTreeMap<ChannelId, Gathering>,
}

#[derive(Debug)]
struct Pattern {
    prefix: Box<str>,
    evictions: Evictions,
}

/// The gathering for a new pattern: what its channels had lost before it entered the table. It goes
/// through the table first, then through the former channels.
#[derive(Debug)]
pub(in crate::hub) struct Gathering {
    /// The head when the pattern was entered. Later losses are noted as they happen.
    pub(in crate::hub) until: Sequence,
    pub(super) stage: Stage,
    /// The last event lost, and the last place up to which a history was dropped, in the part looked at
    /// so far.
    pub(in crate::hub) lost: Sequence,
    pub(in crate::hub) dropped: Sequence,
}

/// Where to look next.
#[derive(Debug)]
pub(in crate::hub) enum Stage {
    /// In the table, from this place on.
    Table(usize),
    /// Among the former channels, after this name.
    Former(Option<Arc<str>>),
}

impl Gathering {
    /// Adds the losses of one channel.
    pub(super) fn add(&mut self, lost: Sequence, dropped: Sequence) {
        self.lost = self.lost.max(lost.min(self.until));
        self.dropped = self.dropped.max(dropped);
    }
}

/// The events that the channels of a pattern have given up since it entered the table.
///
/// A channel gives up its oldest event first, so one place says what it has lost. The channels of a
/// pattern give up events in any order: knowing that events up to some place were lost does not say
/// whether another one before it was lost since. So evictions are counted.
#[derive(Debug, Default)]
struct Evictions {
    /// The number of evictions.
    count: u64,
    /// The evicted event with the highest number, then the one with the highest number among the later
    /// evictions, and so on: its count and its number. The numbers decrease strictly from each to the
    /// next.
    latest: Vec<(u64, Sequence)>,
}

/// The number of evictions remembered for a pattern. Beyond it, the second oldest eviction takes the
/// number of the oldest, which is higher: a loss may be overstated, but never missed.
const LATEST_MAX: usize = 64;

/// The cost of a pattern beside its prefix: its entries in a tree, which may be half free, and in a
/// table, and its evictions, with room for a power of two.
const PATTERN_BYTES: usize = 2 * size_of::<(ChannelId, Pattern)>()
    + 10
    + block_bytes((LATEST_MAX + 1).next_power_of_two() * size_of::<(u64, Sequence)>());

impl Evictions {
    fn note(&mut self, sequence: Sequence) {
        self.count += 1;
        while self.latest.pop_if(|(_, before)| *before <= sequence).is_some() {}
        self.latest.push((self.count, sequence));
        if self.latest.len() > LATEST_MAX {
            self.latest[1].1 = self.latest[0].1;
            self.latest.remove(0);
        }
    }
}

impl Patterns {
    /// The bytes held, counting for each pattern the most it may come to hold.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.patterns.len() * PATTERN_BYTES + self.prefix_bytes
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Finds the pattern with this prefix.
    fn find(&self, prefix: &str) -> Option<ChannelId> {
        let is_it = |number: u32| {
            self.patterns.get(&ChannelId(number)).is_some_and(|pattern| *pattern.prefix == *prefix)
        };
        self.by_prefix.get(self.hash(prefix), is_it).map(|&number| ChannelId(number))
    }

    fn hash(&self, prefix: &str) -> u32 {
        (self.hasher.hash_one(prefix) >> 32) as u32
    }

    /// Adds a new pattern, and begins its gathering.
    pub(in crate::hub) fn insert(&mut self, prefix: &str, id: ChannelId) {
        self.by_prefix.insert(self.hash(prefix), id.0);
        self.prefix_bytes += block_bytes(prefix.len());
        self.patterns.insert(id, Pattern { prefix: prefix.into(), evictions: Evictions::default() });
        let (until, start) = (Sequence::MAX, Sequence::START);
        let gathering = Gathering { until, stage: Stage::Table(0), lost: start, dropped: start };
        self.gathering.insert(id, gathering);
        *self.lengths.entry(prefix.len()).or_insert(0) += 1;
    }

    /// Removes a pattern.
    pub(in crate::hub) fn remove(&mut self, prefix: &str) {
        let Some(id) = self.find(prefix) else { return };
        self.by_prefix.remove(self.hash(prefix), |number| number == id.0);
        self.prefix_bytes -= block_bytes(prefix.len());
        self.patterns.remove(&id);
        self.gathering.remove(&id);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Sets where the head was when a pattern was entered, if it is new.
    pub(in crate::hub) fn gather_until(&mut self, id: ChannelId, head: Sequence) {
        if let Some(gathering) = self.gathering.get_mut(&id).filter(|new| new.until == Sequence::MAX) {
            gathering.until = head;
        }
    }

    /// Returns a pattern whose gathering is unfinished.
    pub(in crate::hub) fn first_gathering(&self) -> Option<ChannelId> {
        self.gathering.first_key_value().map(|(&id, _)| id)
    }

    /// Removes and returns a pattern's unfinished gathering, if there is one.
    pub(super) fn remove_gathering(&mut self, id: ChannelId) -> Option<Gathering> {
        self.gathering.remove(&id)
    }

    /// Puts back a gathering that is still unfinished.
    pub(super) fn restore_gathering(&mut self, id: ChannelId, gathering: Gathering) {
        self.gathering.insert(id, gathering);
    }

    /// Adds the losses of a former channel that comes back to the gatherings of its patterns.
    pub(super) fn note_former(&mut self, name: &str, lost: Sequence) {
        if self.gathering.is_empty() {
            return;
        }
        let matching: Vec<ChannelId> = self.matching(name).collect();
        for id in matching {
            if let Some(gathering) = self.gathering.get_mut(&id) {
                gathering.add(lost, Sequence::START);
            }
        }
    }

    /// The patterns that a name matches, each once.
    pub(super) fn matching(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        let prefixes = self.lengths.range(..=name.len()).filter_map(|(&length, _)| name.get(..length));
        prefixes.filter_map(|prefix| self.find(prefix))
    }

    /// Notes that an event was evicted and is lost to a pattern.
    pub(super) fn note_eviction(&mut self, pattern: ChannelId, sequence: Sequence) {
        if let Some(pattern) = self.patterns.get_mut(&pattern) {
            pattern.evictions.note(sequence);
        }
    }

    /// Counts the evictions of a pattern.
    pub(in crate::hub) fn evictions(&self, pattern: ChannelId) -> u64 {
        self.patterns.get(&pattern).map_or(0, |pattern| pattern.evictions.count)
    }

    /// Returns the highest number among the events evicted after the first `count` evictions of a
    /// pattern.
    pub(super) fn evicted_since(&self, pattern: ChannelId, count: u64) -> Option<Sequence> {
        let latest = &self.patterns.get(&pattern)?.evictions.latest;
        latest.iter().find(|(nth, _)| *nth > count).map(|&(_, sequence)| sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_knows_the_last_event_that_it_lost_since() {
        let mut patterns = Patterns::default();
        let id = ChannelId(7);
        patterns.insert("chat/", id);
        assert_eq!((patterns.evictions(id), patterns.evicted_since(id, 0)), (0, None));
        [10, 5, 7, 20, 3].into_iter().for_each(|number| patterns.note_eviction(id, Sequence(number)));
        assert_eq!(patterns.evictions(id), 5);
        let since = |count| patterns.evicted_since(id, count).map(|sequence| sequence.0);
        assert_eq!([since(0), since(3), since(4), since(5)], [Some(20), Some(20), Some(3), None]);
    }

    #[test]
    fn a_pattern_never_forgets_that_it_lost_something() {
        let mut patterns = Patterns::default();
        let id = ChannelId(7);
        patterns.insert("", id);
        (0..1000).for_each(|n| patterns.note_eviction(id, Sequence(5000 - n)));
        for count in 0..1000 {
            let since = patterns.evicted_since(id, count).unwrap();
            assert!(since.0 >= 5000 - count, "{since} since {count}");
        }
    }

    #[test]
    fn a_name_matches_every_pattern_whose_prefix_it_begins_with() {
        let mut patterns = Patterns::default();
        for (number, prefix) in ["", "entity:", "entity:4", "größe", "x"].into_iter().enumerate() {
            patterns.insert(prefix, ChannelId(u32::try_from(number).unwrap()));
        }
        let matching = |patterns: &Patterns, name| patterns.matching(name).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(matching(&patterns, "entity:42"), [0, 1, 2]);
        assert_eq!(matching(&patterns, "entity:"), [0, 1]);
        assert_eq!(matching(&patterns, "grüße"), [0], "a prefix may end within one of its letters");
        patterns.remove("entity:");
        patterns.remove("");
        assert_eq!(matching(&patterns, "entity:42"), [2]);
        ["entity:4", "größe", "x"].into_iter().for_each(|prefix| patterns.remove(prefix));
        assert!(patterns.is_empty() && patterns.lengths.is_empty());
        assert_eq!(patterns.bytes(), 0);
    }
}
