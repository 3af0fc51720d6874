//! The table of channels: by name, by number, and by what their names begin with.
//!
//! A pattern is an entry of the table too, under its text with the `*`, which no channel's name ends in. It retains
//! nothing: its events are those of the channels that it matches, and what is evicted from them is lost to it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::{TARGET_ALL, is_channel, is_client};
use crate::hub::ShardSet;
use crate::hub::channel::{Channel, ChannelId, pattern_prefix};
use crate::hub::forgotten::{Forgotten, beginning_with};
use crate::hub::numbers::Numbers;
use crate::hub::patterns::Patterns;
use crate::hub::reader::Told;

/// What a channel costs in the table, beside what it holds itself: its entry, and its place in the table of names, of
/// which between 7/16 and 7/8 are taken and each has a byte more, in bytes.
const CHANNEL_BYTES: usize = size_of::<Option<Channel>>() + (size_of::<ChannelId>() + 1) * 16 / 7;

/// What a channel costs in the order of names: its entry, and what a B-tree has of free room, in bytes.
const SORTED_BYTES: usize = size_of::<(Arc<str>, ChannelId)>() * 3 / 2;

/// What became of a channel that may be idle.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is out of the table.
    Removed,
    /// It has subscribers or retained events, or went before.
    NotIdle,
    /// It is idle, but a shard has not taken its last event yet.
    NotYet,
}

/// The table of channels.
#[derive(Debug)]
pub(super) struct Channels {
    slots: Vec<Option<Channel>>,
    free: Vec<u32>,
    /// The channels by their names, which stand in their entries alone.
    by_name: HashTable<ChannelId>,
    /// Spreads names, in a way that no peer can foresee.
    hasher: RandomState,
    /// How many are channels by name or patterns, and not a user's or that of all.
    named_len: usize,
    patterns: Patterns,
    /// The channels in the order of their names, from the first pattern on.
    sorted: Option<BTreeMap<Arc<str>, ChannelId>>,
    /// The channels that are in the table no more.
    forgotten: Forgotten,
    /// Bytes that the table holds, by its own account.
    bytes: usize,
}

impl Channels {
    /// An empty table that remembers of up to `forgotten_max` former channels how far they were evicted.
    pub(super) fn new(forgotten_max: usize) -> Channels {
        let mut channels = Channels {
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
            named_len: 0,
            patterns: Patterns::default(),
            sorted: None,
            forgotten: Forgotten::new(forgotten_max),
            bytes: 0,
        };
        let all = channels.enter(TARGET_ALL);
        debug_assert_eq!(all, ChannelId::ALL, "it is the first");
        channels
    }

    /// How many channels and patterns there are by name.
    pub(super) fn len(&self) -> usize {
        self.named_len
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Channels from a place in the table on, at most `places_max` places further, and where to go on; `None` at its end.
    pub(super) fn part(
        &self,
        from: usize,
        places_max: usize,
    ) -> (impl Iterator<Item = &Channel>, Option<usize>) {
        let to = from.saturating_add(places_max).min(self.slots.len());
        let next = (to < self.slots.len()).then_some(to);
        (self.slots[from.min(to)..to].iter().flatten(), next)
    }

    pub(super) fn find(&self, name: &str) -> Option<ChannelId> {
        let is_it = |id: &ChannelId| *self.get(*id).name == *name;
        self.by_name.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// The channel of that name, put into the table where it is not yet there.
    pub(super) fn enter(&mut self, name: &str) -> ChannelId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let name: Arc<str> = Arc::from(name);
        let (evicted_through, dropped_through) = match pattern_prefix(&name) {
            Some(prefix) => {
                self.sort();
                (self.evicted_through_of(prefix), self.dropped_through_of(prefix))
            }
            // It is entered once, for a stream that lives, and had nothing before.
            None if is_client(&name) => (Sequence::START, Sequence::START),
            None => (self.forgotten.evicted_through(&name), Sequence::START),
        };
        let channel = Channel {
            name: Arc::clone(&name),
            retained: Numbers::default(),
            evicted_through,
            evicted_count: 0,
            lapsed: None,
            dropped_through,
            last: Sequence::START,
            subscribers: 0,
            shards: ShardSet::default(),
            is_over: false,
        };
        self.bytes += CHANNEL_BYTES + channel.bytes();
        self.named_len += usize::from(is_channel(&name));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(channel);
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("channels are bounded far below 2^31");
                self.slots.push(Some(channel));
                slot
            }
        };
        let id = ChannelId(slot);
        match (pattern_prefix(&name), &mut self.sorted) {
            (Some(prefix), _) => self.patterns.insert(prefix, id),
            (None, Some(sorted)) if is_channel(&name) => {
                sorted.insert(Arc::clone(&name), id);
                self.bytes += SORTED_BYTES;
            }
            (None, _) => {}
        }
        let (hasher, slots) = (&self.hasher, &self.slots);
        let hash_of = |id: &ChannelId| {
            let channel = slots[id.0 as usize].as_ref().expect("a channel with a name is in the table");
            hasher.hash_one(&*channel.name)
        };
        self.by_name.insert_unique(hasher.hash_one(&*name), id, hash_of);
        id
    }

    /// Puts the channels in the order of their names, and keeps them so.
    fn sort(&mut self) {
        if self.sorted.is_none() {
            let names = self.by_name.iter().map(|&id| (Arc::clone(&self.get(id).name), id));
            let sorted: BTreeMap<_, _> =
                names.filter(|(name, _)| is_channel(name) && pattern_prefix(name).is_none()).collect();
            self.bytes += sorted.len() * SORTED_BYTES;
            self.sorted = Some(sorted);
        }
    }

    /// The channels whose names begin with a prefix, in the order of their names. There is a pattern of that prefix.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = ChannelId> {
        let from = self.sorted.iter().flat_map(move |sorted| beginning_with(sorted, prefix));
        from.map(|(_, &id)| id)
    }

    /// The last event that any channel of this prefix has lost, those that are in the table no more included.
    fn evicted_through_of(&self, prefix: &str) -> Sequence {
        let present = self.beginning_with(prefix).map(|id| self.get(id).lost_through());
        present.fold(self.forgotten.evicted_through_of(prefix), Sequence::max)
    }

    /// How many events the channels of a pattern have given up since it is in the table; 0 for a channel.
    pub(super) fn evictions(&self, id: ChannelId) -> u64 {
        self.patterns.evictions(id)
    }

    /// The last event after `place` that a channel, or a channel of a pattern, has lost since `told`, if it has.
    pub(super) fn lost_after(&self, id: ChannelId, place: Sequence, told: Option<&Told>) -> Option<Sequence> {
        let channel = self.get(id);
        let (lost, place) = match told {
            None if channel.prefix().is_some() => (channel.evicted_through, place),
            None => (channel.lost_through(), place),
            Some(told) if channel.prefix().is_some() => {
                (self.patterns.evicted_since(id, told.evictions).unwrap_or(Sequence::START), place)
            }
            Some(told) => (channel.lost_through(), told.through.max(place)),
        };
        (lost > place).then_some(lost)
    }

    /// Up to where a history of any channel of this prefix was dropped, of those that are in the table.
    fn dropped_through_of(&self, prefix: &str) -> Sequence {
        let dropped = self.beginning_with(prefix).map(|id| self.get(id).dropped_through);
        dropped.max().unwrap_or(Sequence::START)
    }

    /// Notes that a channel's history is dropped up to `through`. Its patterns too are not read before every event up to
    /// there is taken; what is lost to them is for [`Channels::note_lost`].
    /// Where some of it `has_lapsed`, nobody counts any more how much of it is lost.
    pub(super) fn drop_through(&mut self, id: ChannelId, through: Sequence, has_lapsed: bool) {
        self.forget_lapsed_through(id, has_lapsed.then_some(through));
        self.get_mut(id).dropped_through = through;
        for pattern in self.all_patterns_of(id) {
            let dropped = &mut self.get_mut(pattern).dropped_through;
            *dropped = through.max(*dropped);
        }
    }

    /// Returns true if and only if there are patterns.
    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The patterns with subscribers that a channel's name matches.
    pub(super) fn patterns_of(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        self.patterns.matching(name).filter(|&id| self.get(id).subscribers > 0)
    }

    pub(super) fn get(&self, id: ChannelId) -> &Channel {
        self.slots[id.0 as usize].as_ref().expect("a channel that is referred to is in the table")
    }

    /// What has this id now. The history remembers of an event where it went as long as anything retains it: of several
    /// channels one may have gone, and another may have its id.
    pub(super) fn peek(&self, id: ChannelId) -> Option<&Channel> {
        self.slots.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> &mut Channel {
        self.slots[id.0 as usize].as_mut().expect("a channel that is referred to is in the table")
    }

    /// Retains `sequence` as the channel's newest event. It will hardly ever have more than `len_max`.
    pub(super) fn retain(&mut self, id: ChannelId, sequence: Sequence, len_max: usize) {
        let channel =
            self.slots[id.0 as usize].as_mut().expect("a channel that is published to is in the table");
        let before = channel.retained.bytes();
        channel.retained.push(sequence, len_max);
        channel.last = sequence;
        self.bytes += channel.retained.bytes() - before;
    }

    /// Notes an event of a channel that a pattern matches.
    pub(super) fn pass(&mut self, pattern: ChannelId, sequence: Sequence) {
        self.get_mut(pattern).last = sequence;
    }

    /// Gives up the channel's oldest event and returns its number.
    pub(super) fn evict_oldest(&mut self, id: ChannelId) -> Option<Sequence> {
        let channel = self.slots[id.0 as usize].as_mut()?;
        let before = channel.retained.bytes();
        let sequence = channel.retained.pop_first()?;
        channel.evicted_through = sequence;
        channel.evicted_count += 1;
        self.bytes -= before - channel.retained.bytes();
        Some(sequence)
    }

    /// Gives up an event that has lapsed: nothing is lost by it. Returns true if and only if the channel retained it.
    pub(super) fn lapse(&mut self, id: ChannelId, sequence: Sequence) -> bool {
        let Some(channel) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else { return false };
        let Some(index) = channel.retained.index_of(sequence) else { return false };
        self.bytes -= channel.bytes();
        channel.retained.remove(index);
        if sequence <= channel.dropped_through {
            // It was lost when it was dropped, whether or not it has lapsed since.
            channel.evicted_through = sequence.max(channel.evicted_through);
            channel.evicted_count += 1;
            self.bytes += channel.bytes();
            return true;
        }
        let lapsed = channel.lapsed.get_or_insert_default();
        lapsed.note(sequence);
        if channel.subscribers == 0 {
            lapsed.forget_numbers_through(sequence);
        }
        self.bytes += channel.bytes();
        true
    }

    /// Forgets which events of a channel have lapsed that nobody subscribes to any more.
    pub(super) fn forget_lapsed(&mut self, id: ChannelId) {
        if self.get(id).lapsed.is_some() {
            self.forget_lapsed_through(id, Some(Sequence::START));
        }
    }

    /// Forgets which events of a channel have lapsed, and that up to a place; does nothing for `None`.
    fn forget_lapsed_through(&mut self, id: ChannelId, through: Option<Sequence>) {
        let Some(through) = through else { return };
        let channel = self.get_mut(id);
        let before = channel.bytes();
        channel.lapsed.get_or_insert_default().forget_numbers_through(through);
        let after = channel.bytes();
        self.bytes = self.bytes + after - before;
    }

    /// Notes that the channels `evicted` have given up an event of `target`. It is lost to the patterns that match them,
    /// but for those that match another channel of the target, which retains it still.
    pub(super) fn note_lost(&mut self, evicted: &[ChannelId], target: &[ChannelId], sequence: Sequence) {
        if self.patterns.is_empty() {
            return;
        }
        let mut patterns: SmallVec<[ChannelId; 8]> = SmallVec::new();
        let names = evicted.iter().map(|&id| &self.get(id).name);
        for name in names.filter(|name| is_channel(name)) {
            for pattern in self.patterns.matching(name) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        self.note_lost_to(&patterns, target, sequence);
    }

    /// The same for those of `patterns` that no channel of the target keeps the event for; returns which they are.
    pub(super) fn note_lost_to(
        &mut self,
        patterns: &[ChannelId],
        target: &[ChannelId],
        sequence: Sequence,
    ) -> SmallVec<[ChannelId; 8]> {
        let mut lost_to: SmallVec<[ChannelId; 8]> = SmallVec::from_slice(patterns);
        lost_to.retain(|pattern| !target.iter().any(|&id| self.keeps_for(*pattern, id, sequence)));
        for &pattern in &lost_to {
            let evicted_through = &mut self.get_mut(pattern).evicted_through;
            *evicted_through = sequence.max(*evicted_through);
            self.patterns.note_eviction(pattern, sequence);
        }
        lost_to
    }

    /// The patterns that a channel's name matches.
    pub(super) fn all_patterns_of(&self, id: ChannelId) -> SmallVec<[ChannelId; 8]> {
        self.patterns.matching(&self.get(id).name).collect()
    }

    /// Returns true if and only if a pattern matches a channel that retains `sequence`.
    fn keeps_for(&self, pattern: ChannelId, id: ChannelId, sequence: Sequence) -> bool {
        let channel = self.peek(id).filter(|channel| channel.holds(sequence));
        let prefix = self.get(pattern).prefix();
        channel
            .zip(prefix)
            .is_some_and(|(channel, prefix)| is_channel(&channel.name) && channel.name.starts_with(prefix))
    }

    /// Takes a channel out of the table if and only if nobody subscribes to it, none of its events is retained, and
    /// every shard has taken its last one.
    pub(super) fn remove_if_idle(&mut self, id: ChannelId, taken_by_all: Sequence) -> Removal {
        let slot = &mut self.slots[id.0 as usize];
        let is_idle = |channel: &mut Channel| {
            id != ChannelId::ALL
                && channel.subscribers == 0
                && channel.retained.is_empty()
                && !channel.is_over
        };
        let idle = slot.take_if(is_idle);
        let Some(channel) = idle else { return Removal::NotIdle };
        if channel.last > taken_by_all {
            *slot = Some(channel);
            return Removal::NotYet;
        }
        self.free.push(id.0);
        let hash = self.hasher.hash_one(&*channel.name);
        if let Ok(named) = self.by_name.find_entry(hash, |&named| named == id) {
            named.remove();
        }
        self.named_len -= usize::from(is_channel(&channel.name));
        self.bytes -= CHANNEL_BYTES + channel.bytes();
        if let Some(prefix) = channel.prefix() {
            self.patterns.remove(prefix);
            return Removal::Removed;
        }
        if self.sorted.as_mut().is_some_and(|sorted| sorted.remove(&channel.name).is_some()) {
            self.bytes -= SORTED_BYTES;
        }
        if !is_client(&channel.name) {
            self.forgotten.remember(channel.name, channel.evicted_through);
        }
        Removal::Removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_lost_what_any_of_its_channels_has_lost() {
        let mut channels = Channels::new(10);
        let lose = |channels: &mut Channels, name: &str, number: u64| {
            let id = channels.enter(name);
            channels.retain(id, Sequence(number), 10);
            channels.evict_oldest(id);
            channels.note_lost(&[id], &[id], Sequence(number));
            id
        };
        let gone = lose(&mut channels, "chat/1", 5);
        assert_eq!(channels.remove_if_idle(gone, ALL), Removal::Removed);
        lose(&mut channels, "chat/2", 3);
        lose(&mut channels, "other", 9);
        let pattern = channels.enter("chat/*");
        assert_eq!(channels.get(pattern).evicted_through, Sequence(5), "also of a channel that went");
        lose(&mut channels, "chat/3", 11);
        lose(&mut channels, "other", 12);
        assert_eq!(channels.get(pattern).evicted_through, Sequence(11));
        let all = channels.enter("*");
        assert_eq!(channels.get(all).evicted_through, Sequence(12));
        lose(&mut channels, TARGET_ALL, 13);
        assert_eq!(channels.get(all).evicted_through, Sequence(12), "what goes to all is no channel's");
        assert_eq!(channels.remove_if_idle(all, ALL), Removal::Removed);
        let names: Vec<&str> = channels.beginning_with("chat/").map(|id| &*channels.get(id).name).collect();
        assert_eq!(names, ["chat/2", "chat/3"]);
        assert_eq!(channels.len(), 4, "a pattern is a name that somebody subscribes to");
        assert_eq!(channels.remove_if_idle(pattern, ALL), Removal::Removed);
        assert!(!channels.has_patterns());
    }

    const ALL: Sequence = Sequence(u64::MAX);

    #[test]
    fn a_channel_without_subscribers_and_events_leaves_the_table_and_its_bytes() {
        let mut channels = Channels::new(10);
        let empty = channels.bytes();
        let id = channels.enter("news");
        channels.retain(id, Sequence(7), 10);
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::NotIdle, "it has an event");
        channels.evict_oldest(id);
        assert_eq!(
            channels.remove_if_idle(id, Sequence(6)),
            Removal::NotYet,
            "a shard has not taken its last event"
        );
        channels.get_mut(id).subscribers = 1;
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::NotIdle, "it has a subscriber");
        channels.get_mut(id).subscribers = 0;
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        assert_eq!((channels.len(), channels.bytes()), (0, empty));
    }

    #[test]
    fn a_channel_that_comes_back_knows_how_far_it_was_evicted() {
        let mut channels = Channels::new(10);
        let id = channels.enter("news");
        channels.retain(id, Sequence(7), 10);
        channels.evict_oldest(id);
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        let back = channels.enter("news");
        assert_eq!(channels.get(back).evicted_through, Sequence(7));
        let other = channels.enter("other");
        assert_eq!(channels.get(other).evicted_through, Sequence::START, "it never had an event");
    }
}
