//! The table of channels: by name, by number, and by what their names begin with.
//!
//! A pattern is an entry of the table too, under its text with the `*`, which no channel's name ends in. It retains
//! nothing: its events are those of the channels that it matches, and what is evicted from them is lost to it.

use std::collections::BTreeMap;

use crate::base::heap::block_bytes;
use crate::base::id::Sequence;
use crate::frame::batch::{TARGET_ALL, is_channel, is_client};
use crate::hub::budget::{Budget, CHANNEL_STEPS, NAME_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::entries::Entries;
use crate::hub::channels::forgotten::{Forgotten, beginning_with};
use crate::hub::channels::names::Names;
use crate::hub::channels::patterns::Patterns;
use crate::hub::channels::record::{Record, pattern_prefix};
use crate::hub::shards::ShardSet;

/// What became of a channel that may be idle.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Removal {
    /// It is out of the table.
    Removed,
    /// It has subscribers or retained events, or went before.
    NotIdle,
    /// It is idle, but a shard has not taken its last event yet, or it stands among those with too many events.
    NotYet,
}

/// The channels in the order of their names, as far as they are put in it.
#[derive(Debug, Default)]
struct Sorted {
    names: BTreeMap<Box<str>, ChannelId>,
    /// Those of lower numbers are in order.
    through: usize,
    is_complete: bool,
}

/// The table of channels.
#[derive(Debug)]
pub(in crate::hub) struct Channels {
    names: Names,
    entries: Entries,
    /// How many are channels by name or patterns, and not a user's or that of all.
    named_len: usize,
    pub(in crate::hub) patterns: Patterns,
    /// The channels in the order of their names, from the first pattern on.
    sorted: Option<Sorted>,
    /// Bytes that their order holds.
    sorted_bytes: usize,
    /// The channels that are in the table no more.
    pub(in crate::hub) forgotten: Forgotten,
}

impl Channels {
    /// An empty table that remembers of up to `forgotten_max` former channels how far they were evicted.
    pub(in crate::hub) fn new(forgotten_max: usize) -> Channels {
        let mut channels = Channels {
            names: Names::new(),
            entries: Entries::new(),
            named_len: 0,
            patterns: Patterns::default(),
            sorted: None,
            sorted_bytes: 0,
            forgotten: Forgotten::new(forgotten_max),
        };
        let all = channels.enter(TARGET_ALL);
        debug_assert_eq!(all, ChannelId::ALL, "it is the first");
        channels
    }

    /// How many channels and patterns there are by name.
    pub(in crate::hub) fn len(&self) -> usize {
        self.named_len
    }

    /// Bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.names.bytes()
            + self.entries.bytes(self.names.len())
            + self.sorted_bytes
            + self.patterns.bytes()
            + self.forgotten.bytes()
    }

    /// Channels from a place in the table on, at most `places_max` places further, and where to go on; `None` at its end.
    pub(in crate::hub) fn part(
        &self,
        from: usize,
        places_max: usize,
    ) -> (impl Iterator<Item = ChannelId>, Option<usize>) {
        let len = self.names.numbers_len();
        let to = from.saturating_add(places_max).min(len);
        (self.names.numbers(from.min(to)..to), (to < len).then_some(to))
    }

    #[inline]
    pub(in crate::hub) fn find(&self, name: &str) -> Option<ChannelId> {
        self.names.find(name)
    }

    /// The channel of that name, put into the table where it is not yet there.
    pub(in crate::hub) fn enter(&mut self, name: &str) -> ChannelId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let prefix = pattern_prefix(name);
        let evicted_through = match prefix {
            // What its channels have lost is gathered from now on.
            Some(_) => Sequence::START,
            // It is entered once, for a stream that lives, and had nothing before.
            None if is_client(name) => Sequence::START,
            None => self.forgotten.evicted_through(name),
        };
        let id = self.names.insert(name);
        self.entries.insert(id);
        if evicted_through > Sequence::START {
            self.entries.change(id, |record| record.evicted_through = evicted_through);
            if is_channel(name) {
                self.patterns.note_former(name, evicted_through);
            }
        }
        self.named_len += usize::from(is_channel(name));
        if let Some(prefix) = prefix {
            self.sorted.get_or_insert_default();
            self.patterns.insert(prefix, id);
        } else if let Some(sorted) = &mut self.sorted
            && is_channel(name)
            && (sorted.is_complete || (id.0 as usize) < sorted.through)
        {
            sorted.names.insert(Box::from(name), id);
            self.sorted_bytes += sorted_bytes(name);
        }
        id
    }

    /// Returns true if and only if the channels are to be put in the order of their names and are not yet.
    pub(in crate::hub) fn is_unsorted(&self) -> bool {
        self.sorted.as_ref().is_some_and(|sorted| !sorted.is_complete)
    }

    /// Goes on putting the channels in the order of their names, if anybody asked for that, as the budget allows.
    pub(in crate::hub) fn sort_on(&mut self, budget: &Budget) {
        let Some(Sorted { mut names, mut through, is_complete: false }) =
            self.sorted.take_if(|sorted| !sorted.is_complete)
        else {
            return;
        };
        let (mut is_complete, mut bytes) = (false, 0);
        while !is_complete && !budget.is_spent() {
            let (channels, next) = self.part(through, PLACES_PER_LOOK);
            for id in channels {
                let name = self.name(id);
                if is_channel(name) && pattern_prefix(name).is_none() {
                    bytes += sorted_bytes(name);
                    names.insert(Box::from(name), id);
                    budget.spend(NAME_STEPS);
                }
            }
            budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK));
            is_complete = next.is_none();
            through = next.unwrap_or(usize::MAX);
        }
        self.sorted_bytes += bytes;
        self.sorted = Some(Sorted { names, through, is_complete });
    }

    /// The channels whose names begin with a prefix, in the order of their names; `None` where they are not in order yet.
    pub(in crate::hub) fn beginning_with(&self, prefix: &str) -> Option<impl Iterator<Item = ChannelId>> {
        let sorted = self.sorted.as_ref().filter(|sorted| sorted.is_complete)?;
        Some(beginning_with(&sorted.names, prefix, None).map(|(_, &id)| id))
    }

    /// The name of a channel that is in the table.
    #[inline]
    pub(in crate::hub) fn name(&self, id: ChannelId) -> &str {
        self.names.name(id).expect("a channel that is referred to is in the table")
    }

    /// What the names of a pattern's channels begin with; `None` if and only if it is no pattern.
    pub(in crate::hub) fn prefix(&self, id: ChannelId) -> Option<&str> {
        if self.patterns.is_empty() { None } else { pattern_prefix(self.name(id)) }
    }

    /// The record of the events of a channel that is in the table.
    #[inline]
    pub(in crate::hub) fn get(&self, id: ChannelId) -> &Record {
        self.entries.record(id)
    }

    /// The record of what has this id now. The history remembers of an event where it went as long as anything retains it:
    /// of several channels one may have gone, and another may have its id.
    pub(in crate::hub) fn peek(&self, id: ChannelId) -> Option<&Record> {
        self.names.has(id).then(|| self.entries.record(id))
    }

    /// Returns true if and only if this is what a client that is gone has left.
    pub(in crate::hub) fn is_left(&self, id: ChannelId) -> bool {
        self.names.name(id).is_some_and(is_client) && self.subscribers(id) == 0
    }

    /// Changes the record of a channel's events.
    pub(in crate::hub) fn change<T>(&mut self, id: ChannelId, change: impl FnOnce(&mut Record) -> T) -> T {
        self.entries.change(id, change)
    }

    /// Streams of all shards that subscribe to a channel.
    #[inline]
    pub(in crate::hub) fn subscribers(&self, id: ChannelId) -> u32 {
        self.entries.streams(id)
    }

    /// The shards that have such a stream.
    #[inline]
    pub(in crate::hub) fn shards(&self, id: ChannelId) -> ShardSet {
        self.entries.shards(id)
    }

    /// Streams of one shard that subscribe to a channel.
    pub(in crate::hub) fn subscribers_of(&self, id: ChannelId, shard: usize) -> u32 {
        self.entries.streams_of(id, shard)
    }

    /// Adds a stream of a shard to a channel's subscribers.
    pub(in crate::hub) fn add_subscriber(&mut self, id: ChannelId, shard: usize) {
        self.entries.add_stream(id, shard);
    }

    /// Takes so many streams of a shard off a channel's subscribers.
    ///
    /// # Panics
    /// If the shard has fewer.
    pub(in crate::hub) fn remove_subscribers(&mut self, id: ChannelId, shard: usize, streams: u32) {
        self.entries.remove_streams(id, shard, streams);
    }

    /// Retains `sequence` as the channel's newest event. Returns true if and only if it has more than `events_max` by that,
    /// and did not wait for its oldest to be given up yet; it does from now on.
    pub(in crate::hub) fn retain(&mut self, id: ChannelId, sequence: Sequence, events_max: usize) -> bool {
        self.entries.change(id, |record| {
            // It will hardly ever have more than one that is to go.
            record.retained.push(sequence, events_max.saturating_add(1));
            record.last = sequence;
            let is_over = record.retained.len() > events_max;
            is_over && !std::mem::replace(&mut record.is_over, true)
        })
    }

    /// Notes an event of a channel that a pattern matches.
    pub(in crate::hub) fn pass(&mut self, pattern: ChannelId, sequence: Sequence) {
        self.entries.change(pattern, |record| record.last = sequence);
    }

    /// Gives up the channel's oldest event and returns its number.
    pub(in crate::hub) fn evict_oldest(&mut self, id: ChannelId) -> Option<Sequence> {
        if self.get(id).retained.is_empty() {
            return None;
        }
        self.entries.change(id, |record| {
            let sequence = record.retained.pop_first()?;
            record.evicted_through = sequence;
            record.evicted_count += 1;
            Some(sequence)
        })
    }

    /// Gives up an event that has lapsed: nothing is lost by it. Returns true if and only if the channel retained it.
    pub(in crate::hub) fn lapse(&mut self, id: ChannelId, sequence: Sequence) -> bool {
        let Some(index) = self.peek(id).and_then(|record| record.retained.index_of(sequence)) else {
            return false;
        };
        let has_subscribers = self.subscribers(id) > 0;
        self.entries.change(id, |record| {
            record.retained.remove(index);
            if sequence <= record.dropped_through {
                if record.lapsed.as_mut().is_some_and(|lapsed| lapsed.note_if_dropped(sequence)) {
                    return;
                }
                // It was lost when it was dropped, whether or not it has lapsed since.
                record.evicted_through = sequence.max(record.evicted_through);
                record.evicted_count += 1;
                return;
            }
            let lapsed = record.lapsed.get_or_insert_default();
            lapsed.note(sequence);
            if !has_subscribers {
                lapsed.forget_numbers_through(sequence);
            }
        });
        true
    }

    /// Forgets which events of a channel have lapsed that nobody subscribes to any more.
    pub(in crate::hub) fn forget_lapsed(&mut self, id: ChannelId) {
        if self.get(id).lapsed.is_some() {
            self.entries.change(id, |record| {
                record.lapsed.get_or_insert_default().forget_numbers_through(Sequence::START);
            });
        }
    }

    /// Takes a channel out of the table if and only if nobody subscribes to it, none of its events is retained, every
    /// shard has taken its last one, and it does not wait for its oldest events to be given up.
    pub(in crate::hub) fn remove_if_idle(&mut self, id: ChannelId, taken_by_all: Sequence) -> Removal {
        let Some(name) = self.names.name(id).filter(|_| id != ChannelId::ALL) else {
            return Removal::NotIdle;
        };
        let record = self.entries.record(id);
        if self.entries.streams(id) > 0 || !record.retained.is_empty() {
            return Removal::NotIdle;
        }
        // Nobody names a channel again that has nothing left to give up: it waits until it is off the list of those over
        // their bounds.
        if record.last > taken_by_all || record.is_over {
            return Removal::NotYet;
        }
        self.named_len -= usize::from(is_channel(name));
        if let Some(prefix) = pattern_prefix(name) {
            self.patterns.remove(prefix);
        } else {
            if self.sorted.as_mut().is_some_and(|sorted| sorted.names.remove(name).is_some()) {
                self.sorted_bytes -= sorted_bytes(name);
            }
            if !is_client(name) {
                self.forgotten.remember(name, record.evicted_through);
            }
        }
        self.entries.remove(id);
        self.names.remove(id);
        Removal::Removed
    }
}

/// Places of the table that are looked at before the budget is.
pub(super) const PLACES_PER_LOOK: usize = 64;

/// What a channel costs in the order of names: its entry, what a B-tree has of free room, and the name, in bytes.
fn sorted_bytes(name: &str) -> usize {
    size_of::<(Box<str>, ChannelId)>() * 3 / 2 + block_bytes(name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        channels.add_subscriber(id, 0);
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::NotIdle, "it has a subscriber");
        channels.remove_subscribers(id, 0, 1);
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        assert!(channels.bytes() > empty, "its name is remembered");
        assert!(channels.forgotten.forget_oldest());
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
