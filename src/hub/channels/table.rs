//! The channel table: channels by name, by number, and in the order of their names.
//!
//! A pattern is an entry too, under its text with the `*`; no channel's name ends in `*`. It retains
//! nothing: its events are those of the channels it matches, and it loses what they lose.

use std::collections::BTreeMap;

use crate::base::heap::block_bytes;
use crate::base::id::Sequence;
use crate::hub::budget::{Budget, CHANNEL_STEPS, NAME_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::entries::Entries;
use crate::hub::channels::forgotten::{Forgotten, beginning_with};
use crate::hub::channels::ledger::{Ledger, pattern_prefix};
use crate::hub::channels::names::Names;
use crate::hub::channels::patterns::Patterns;
use crate::hub::shards::ShardSet;
use crate::record::targets::{TARGET_ALL, is_channel, is_client};

/// What became of a channel that may be idle.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Removal {
    /// It left the table.
    Removed,
    /// It has subscribers or retained events, or it left the table before.
    NotIdle,
    /// It is idle, but a shard has not taken its last event yet, or it is still in the list of channels
    /// with too many events.
    NotYet,
}

/// The channels in the order of their names, as far as they are sorted.
#[derive(Debug, Default)]
struct Sorted {
    names: BTreeMap<Box<str>, ChannelId>,
    /// Channels with lower numbers are sorted.
    through: usize,
    is_complete: bool,
}

/// The least and the most names for which address space is reserved at the start: a table that grows
/// from a small size is moved, and leaves holes in the heap.
const ROOM_MIN: usize = 1 << 16;
const ROOM_MAX: usize = 1 << 24;

/// The table of channels.
#[derive(Debug)]
pub(in crate::hub) struct Channels {
    names: Names,
    entries: Entries,
    /// The number of channels and patterns, without users, clients and the target of all.
    named_len: usize,
    pub(in crate::hub) patterns: Patterns,
    /// The channels in the order of their names. `None` until the first pattern is entered.
    sorted: Option<Sorted>,
    /// The bytes that `sorted` holds.
    sorted_bytes: usize,
    /// The channels that left the table.
    pub(in crate::hub) forgotten: Forgotten,
}

impl Channels {
    /// Creates an empty table for up to `channels_max` channels and as many targets of other kinds. It
    /// remembers as many former channels.
    pub(in crate::hub) fn new(channels_max: usize) -> Channels {
        let room = channels_max.saturating_mul(2).clamp(ROOM_MIN, ROOM_MAX);
        let mut channels = Channels {
            names: Names::with_room_for(room),
            entries: Entries::with_room_for(room),
            named_len: 0,
            patterns: Patterns::default(),
            sorted: None,
            sorted_bytes: 0,
            forgotten: Forgotten::new(channels_max),
        };
        let all = channels.enter(TARGET_ALL);
        debug_assert_eq!(all, ChannelId::ALL, "it is the first");
        channels
    }

    /// Counts the channels and patterns.
    pub(in crate::hub) fn len(&self) -> usize {
        self.named_len
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.names.bytes()
            + self.entries.bytes(self.names.len())
            + self.sorted_bytes
            + self.patterns.bytes()
            + self.forgotten.bytes()
    }

    /// The channels among `places_max` places of the table from `from` on, and the next place, or `None`
    /// at the end.
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

    /// Finds a channel by its name. Enters the name if it is not in the table.
    pub(in crate::hub) fn enter(&mut self, name: &str) -> ChannelId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let prefix = pattern_prefix(name);
        let evicted_through = match prefix {
            // Its channels' earlier losses are gathered from now on.
            Some(_) => Sequence::START,
            // A client is entered once, while its stream lives, and had no events before.
            None if is_client(name) => Sequence::START,
            None => self.forgotten.evicted_through(name),
        };
        let id = self.names.insert(name);
        self.entries.insert(id);
        if evicted_through > Sequence::START {
            self.entries.change(id, |ledger| ledger.evicted_through = evicted_through);
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

    /// Returns true if the order of names is needed and unfinished.
    pub(in crate::hub) fn is_unsorted(&self) -> bool {
        self.sorted.as_ref().is_some_and(|sorted| !sorted.is_complete)
    }

    /// Continues sorting the channels by name, if a pattern was entered, as the budget allows.
    pub(in crate::hub) fn continue_sorting(&mut self, budget: &Budget) {
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

    /// The channels whose names begin with `prefix`, in order, or `None` while they are not all sorted.
    pub(in crate::hub) fn beginning_with(&self, prefix: &str) -> Option<impl Iterator<Item = ChannelId>> {
        let sorted = self.sorted.as_ref().filter(|sorted| sorted.is_complete)?;
        Some(beginning_with(&sorted.names, prefix, None).map(|(_, &id)| id))
    }

    /// Returns the name of a channel in the table.
    #[inline]
    pub(in crate::hub) fn name(&self, id: ChannelId) -> &str {
        self.names.name(id).expect("a channel that is referred to is in the table")
    }

    /// Returns what the names of a pattern's channels begin with, or `None` if `id` is not a pattern.
    pub(in crate::hub) fn prefix(&self, id: ChannelId) -> Option<&str> {
        if self.patterns.is_empty() { None } else { pattern_prefix(self.name(id)) }
    }

    /// Returns the ledger of a channel in the table.
    #[inline]
    pub(in crate::hub) fn get(&self, id: ChannelId) -> &Ledger {
        self.entries.ledger(id)
    }

    /// Returns the ledger of the channel that has this id now. An event's target is kept while any
    /// channel retains the event; meanwhile another channel of the target may have left the table, and
    /// its id may belong to a different channel.
    pub(in crate::hub) fn peek(&self, id: ChannelId) -> Option<&Ledger> {
        self.names.has(id).then(|| self.entries.ledger(id))
    }

    /// Returns true if the entry belongs to a client that left.
    pub(in crate::hub) fn is_left(&self, id: ChannelId) -> bool {
        self.names.name(id).is_some_and(is_client) && self.subscribers(id) == 0
    }

    pub(in crate::hub) fn change<T>(&mut self, id: ChannelId, change: impl FnOnce(&mut Ledger) -> T) -> T {
        self.entries.change(id, change)
    }

    /// Counts the streams of all shards that subscribe to a channel.
    #[inline]
    pub(in crate::hub) fn subscribers(&self, id: ChannelId) -> u32 {
        self.entries.streams(id)
    }

    /// The shards with streams that subscribe to a channel.
    #[inline]
    pub(in crate::hub) fn shards(&self, id: ChannelId) -> ShardSet {
        self.entries.shards(id)
    }

    /// Counts the streams of one shard that subscribe to a channel.
    pub(in crate::hub) fn subscribers_of(&self, id: ChannelId, shard: usize) -> u32 {
        self.entries.streams_of(id, shard)
    }

    /// Adds a stream of a shard to a channel's subscribers.
    pub(in crate::hub) fn add_subscriber(&mut self, id: ChannelId, shard: usize) {
        self.entries.add_stream(id, shard);
    }

    /// Removes `streams` streams of a shard from a channel's subscribers.
    ///
    /// # Panics
    /// If the shard has fewer than `streams`.
    pub(in crate::hub) fn remove_subscribers(&mut self, id: ChannelId, shard: usize, streams: u32) {
        self.entries.remove_streams(id, shard, streams);
    }

    /// Retains `sequence` as the channel's newest event. Returns true if the channel has more than
    /// `events_max` events now and was not yet marked `is_over`; it is marked from now on.
    pub(in crate::hub) fn retain(&mut self, id: ChannelId, sequence: Sequence, events_max: usize) -> bool {
        self.entries.change(id, |ledger| {
            // A channel rarely has more than one surplus event.
            ledger.retained.push(sequence, events_max.saturating_add(1));
            ledger.last = sequence;
            let is_over = ledger.retained.len() > events_max;
            is_over && !std::mem::replace(&mut ledger.is_over, true)
        })
    }

    /// Notes that an event went to a channel that the pattern matches.
    pub(in crate::hub) fn pass(&mut self, pattern: ChannelId, sequence: Sequence) {
        self.entries.change(pattern, |ledger| ledger.last = sequence);
    }

    /// Gives up the channel's oldest event, and returns its number.
    pub(in crate::hub) fn evict_oldest(&mut self, id: ChannelId) -> Option<Sequence> {
        let evict = |ledger: &mut Ledger| {
            let sequence = ledger.retained.pop_first()?;
            // A later one may have gone before: dropped, and lapsed since.
            ledger.evicted_through = sequence.max(ledger.evicted_through);
            ledger.evicted_count += 1;
            Some(sequence)
        };
        self.entries.change_if_detailed(id, evict)?
    }

    /// Gives up an event that has lapsed, which loses nothing. Returns true if the channel retained it.
    pub(in crate::hub) fn lapse(&mut self, id: ChannelId, sequence: Sequence) -> bool {
        let Some(index) = self.peek(id).and_then(|ledger| ledger.retained.index_of(sequence)) else {
            return false;
        };
        let has_subscribers = self.subscribers(id) > 0;
        self.entries.change(id, |ledger| {
            ledger.retained.remove(index);
            if sequence <= ledger.dropped_through {
                if ledger.lapsed.as_mut().is_some_and(|lapsed| lapsed.note_if_dropped(sequence)) {
                    return;
                }
                // The drop lost it: it had not lapsed then.
                ledger.evicted_through = sequence.max(ledger.evicted_through);
                ledger.evicted_count += 1;
                return;
            }
            let lapsed = ledger.lapsed.get_or_insert_default();
            lapsed.note(sequence);
            if !has_subscribers {
                lapsed.forget_numbers_through(sequence);
            }
        });
        true
    }

    /// Forgets which events have lapsed, for a channel without subscribers.
    pub(in crate::hub) fn forget_lapsed(&mut self, id: ChannelId) {
        if self.get(id).lapsed.is_some() {
            self.entries.change(id, |ledger| {
                ledger.lapsed.get_or_insert_default().forget_numbers_through(Sequence::START);
            });
        }
    }

    /// Removes a channel from the table if and only if it has no subscribers and no retained events,
    /// every shard has taken its last event, and it is not marked `is_over`.
    pub(in crate::hub) fn remove_if_idle(&mut self, id: ChannelId, taken_by_all: Sequence) -> Removal {
        let Some(name) = self.names.name(id).filter(|_| id != ChannelId::ALL) else {
            return Removal::NotIdle;
        };
        let ledger = self.entries.ledger(id);
        if self.entries.streams(id) > 0 || !ledger.retained.is_empty() {
            return Removal::NotIdle;
        }
        // A channel that has nothing left to give up must be off the list of those over their bounds
        // before it leaves: nothing else would look at it again.
        if ledger.last > taken_by_all || ledger.is_over {
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
                self.forgotten.remember(name, ledger.evicted_through);
            }
        }
        self.entries.remove(id);
        self.names.remove(id);
        Removal::Removed
    }
}

/// The number of places looked at between two checks of the budget.
pub(super) const PLACES_PER_LOOK: usize = 64;

/// The cost of a channel in the order of names in bytes: its entry, a B-tree's free room, and the name.
fn sorted_bytes(name: &str) -> usize {
    size_of::<(Box<str>, ChannelId)>() * 3 / 2 + block_bytes(name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sequence = Sequence(u64::MAX);

    #[test]
    fn a_dropped_event_that_lapses_stays_lost_although_older_ones_are_given_up_after_it() {
        let mut channels = Channels::new(10);
        let id = channels.enter("news");
        (1..=3).for_each(|n| assert!(!channels.retain(id, Sequence(n), 10)));
        channels.drop_through(id, Sequence(3), [].into_iter());
        assert!(channels.lapse(id, Sequence(3)), "it had not lapsed when it was dropped");
        while channels.evict_oldest(id).is_some() {}
        assert_eq!(channels.get(id).evicted_through, Sequence(3));
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        assert_eq!(channels.forgotten.evicted_through("news"), Sequence(3), "a resume after 2 gets a gap");
    }

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
