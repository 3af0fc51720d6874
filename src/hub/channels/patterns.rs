//! The patterns that streams subscribe to: which of them a channel's name matches, and what they have lost of late.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::base::hashed::Hashed;
use crate::base::heap::block_bytes;
use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;

/// The patterns in the table of channels, by their prefixes.
///
/// A name is looked up once for each length that prefixes have, so that what an event costs does not grow with the
/// number of patterns.
#[derive(Debug, Default)]
pub(in crate::hub) struct Patterns {
    patterns: BTreeMap<ChannelId, Pattern>,
    /// The ids of patterns by their prefixes.
    by_prefix: Hashed,
    /// Spreads prefixes, in a way that no peer can foresee.
    hasher: RandomState,
    /// How many prefixes there are of each length in bytes.
    lengths: BTreeMap<usize, usize>,
    /// Bytes of the prefixes.
    prefix_bytes: usize,
    /// Those for which it is yet to be gathered what their channels had lost before.
    gathering: BTreeMap<ChannelId, Gathering>,
}

/// A pattern.
#[derive(Debug)]
struct Pattern {
    prefix: Box<str>,
    evictions: Evictions,
}

/// What is gathered for a pattern that is new: what the channels that it matches had lost by then. It is looked for in the
/// table, and then among the former channels.
#[derive(Debug)]
pub(in crate::hub) struct Gathering {
    /// The head when the pattern was entered: what was lost behind it the pattern was told of.
    pub(in crate::hub) until: Sequence,
    pub(super) stage: Stage,
    /// The last event that was lost, and up to where a history was dropped, as far as was looked.
    pub(in crate::hub) lost: Sequence,
    pub(in crate::hub) dropped: Sequence,
}

/// Where to look next.
#[derive(Debug)]
pub(in crate::hub) enum Stage {
    /// From this place of the table on.
    Table(usize),
    /// Among the former channels behind this name.
    Former(Option<Arc<str>>),
}

impl Gathering {
    /// Takes in what a channel had lost.
    pub(super) fn take_in(&mut self, lost: Sequence, dropped: Sequence) {
        self.lost = self.lost.max(lost.min(self.until));
        self.dropped = self.dropped.max(dropped);
    }
}

/// What was evicted from the channels of a pattern since it is in the table.
///
/// Each channel gives up its oldest event first, but a pattern's channels do so in any order: that events were lost up to
/// some place does not tell whether more were lost before it since.
#[derive(Debug, Default)]
struct Evictions {
    /// How many.
    count: u64,
    /// Which of them is the last in the order of events, of all, of those after it, and so on: the how-manieth it was,
    /// and its number, which only decreases from one to the next.
    latest: Vec<(u64, Sequence)>,
}

/// Evictions that are remembered of a pattern. Beyond, some are taken for later ones.
const LATEST_MAX: usize = 64;

/// What a pattern costs beside its prefix: its entries in a tree, of which half may be free, and in a table, and its evictions, of
/// which there is room for a power of two.
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
    /// Bytes held; of each pattern as many as it may come to hold.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.patterns.len() * PATTERN_BYTES + self.prefix_bytes
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The pattern of this prefix.
    fn find(&self, prefix: &str) -> Option<ChannelId> {
        let is_it = |number: u32| {
            self.patterns.get(&ChannelId(number)).is_some_and(|pattern| *pattern.prefix == *prefix)
        };
        self.by_prefix.get(self.hash(prefix), is_it).map(|&number| ChannelId(number))
    }

    fn hash(&self, prefix: &str) -> u32 {
        (self.hasher.hash_one(prefix) >> 32) as u32
    }

    /// Adds a pattern that is not there yet.
    pub(in crate::hub) fn insert(&mut self, prefix: &str, id: ChannelId) {
        self.by_prefix.insert(self.hash(prefix), id.0);
        self.prefix_bytes += block_bytes(prefix.len());
        self.patterns.insert(id, Pattern { prefix: prefix.into(), evictions: Evictions::default() });
        let (until, start) = (Sequence::MAX, Sequence::START);
        let gathering = Gathering { until, stage: Stage::Table(0), lost: start, dropped: start };
        self.gathering.insert(id, gathering);
        *self.lengths.entry(prefix.len()).or_insert(0) += 1;
    }

    /// Takes a pattern out.
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

    /// Says where the head was when a pattern was entered for which is being gathered.
    pub(in crate::hub) fn gather_until(&mut self, id: ChannelId, head: Sequence) {
        if let Some(gathering) = self.gathering.get_mut(&id).filter(|new| new.until == Sequence::MAX) {
            gathering.until = head;
        }
    }

    /// A pattern for which it is yet to be gathered what its channels had lost.
    pub(in crate::hub) fn first_gathering(&self) -> Option<ChannelId> {
        self.gathering.first_key_value().map(|(&id, _)| id)
    }

    /// Takes out what is being gathered for a pattern; `None` where nothing is.
    pub(super) fn take_gathering(&mut self, id: ChannelId) -> Option<Gathering> {
        self.gathering.remove(&id)
    }

    /// Has it be gathered on for a pattern.
    pub(super) fn put_back(&mut self, id: ChannelId, gathering: Gathering) {
        self.gathering.insert(id, gathering);
    }

    /// Takes in what a channel had lost before it came back, for those of its patterns for which is being gathered.
    pub(super) fn note_former(&mut self, name: &str, lost: Sequence) {
        if self.gathering.is_empty() {
            return;
        }
        let matching: Vec<ChannelId> = self.matching(name).collect();
        for id in matching {
            if let Some(gathering) = self.gathering.get_mut(&id) {
                gathering.take_in(lost, Sequence::START);
            }
        }
    }

    /// The patterns that a channel's name matches, each once.
    pub(super) fn matching(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        let prefixes = self.lengths.range(..=name.len()).filter_map(|(&length, _)| name.get(..length));
        prefixes.filter_map(|prefix| self.find(prefix))
    }

    /// Notes that a channel of a pattern has given up an event.
    pub(super) fn note_eviction(&mut self, pattern: ChannelId, sequence: Sequence) {
        if let Some(pattern) = self.patterns.get_mut(&pattern) {
            pattern.evictions.note(sequence);
        }
    }

    /// How many events the channels of a pattern have given up.
    pub(in crate::hub) fn evictions(&self, pattern: ChannelId) -> u64 {
        self.patterns.get(&pattern).map_or(0, |pattern| pattern.evictions.count)
    }

    /// The last in the order of events that the channels of a pattern have given up since they had given up `count`.
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
