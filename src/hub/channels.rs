//! The channels: their names, who subscribes to them, and which retained events are theirs.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::batch::{TARGET_ALL, is_channel, is_client};
use crate::hub::ShardSet;

/// A channel's place in the table; it names the same channel as long as that has subscribers or retained events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(super) u32);

impl ChannelId {
    /// Where events to all streams are kept. Every stream gets them, and none names it.
    pub const ALL: ChannelId = ChannelId(0);
}

/// Makes maps by channel ids.
pub(super) type ChannelHasherBuilder = BuildHasherDefault<ChannelHasher>;

/// Spreads channel ids, small numbers that no peer chooses.
#[derive(Debug, Default)]
pub(super) struct ChannelHasher(u64);

impl Hasher for ChannelHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    /// The numbers of its retained events, in order.
    pub(super) retained: VecDeque<Sequence>,
    /// The last of its events that is no longer retained.
    pub(super) evicted_through: Sequence,
    /// How many of its events are no longer retained, since it has been in the table.
    pub(super) evicted_count: u64,
    /// Its last event, retained or not.
    last: Sequence,
    /// Streams of all shards that subscribe to it.
    pub(super) subscribers: u32,
    /// The shards that have such a stream.
    pub(super) shards: ShardSet,
    /// It waits for its oldest events to be given up.
    pub(super) is_over: bool,
}

impl Channel {
    /// How many events it had up to `place`, since it has been in the table; exact where none after `place` was
    /// evicted, which holds for every shard's cursor.
    pub(super) fn count_through(&self, place: Sequence) -> u64 {
        self.evicted_count + self.retained.partition_point(|&sequence| sequence <= place) as u64
    }
}

/// What a channel costs beside its name and its events: the entry, its slot in the map of names, and an allocation each
/// for the name and the queue, in bytes.
const CHANNEL_BYTES: usize = size_of::<Option<Channel>>() + 2 * size_of::<(Arc<str>, ChannelId)>() + 32;

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
    by_name: HashMap<Arc<str>, ChannelId>,
    /// How many are channels by name, and not a user's or that of all.
    named_len: usize,
    hasher: RandomState,
    /// How far channels were evicted that are in the table no more, by the hash of their name, so that a resume is
    /// told of a gap if and only if there is one. Bounded: `forgotten_order` has the oldest first.
    forgotten: HashMap<u64, Sequence>,
    forgotten_order: VecDeque<u64>,
    forgotten_max: usize,
    /// What a channel may have lost of which nothing at all is remembered any more.
    forgotten_through: Sequence,
    /// Bytes that the table holds, by its own account.
    bytes: usize,
}

impl Channels {
    /// An empty table that remembers of up to `forgotten_max` former channels how far they were evicted.
    pub(super) fn new(forgotten_max: usize) -> Channels {
        let mut channels = Channels {
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            named_len: 0,
            hasher: RandomState::new(),
            forgotten: HashMap::new(),
            forgotten_order: VecDeque::new(),
            forgotten_max,
            forgotten_through: Sequence::START,
            bytes: 0,
        };
        let all = channels.enter(TARGET_ALL);
        debug_assert_eq!(all, ChannelId::ALL, "it is the first");
        channels
    }

    /// How many channels there are by name.
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
        self.by_name.get(name).copied()
    }

    /// The channel of that name, put into the table where it is not yet there.
    pub(super) fn enter(&mut self, name: &str) -> ChannelId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let name: Arc<str> = Arc::from(name);
        let evicted_through = if is_client(&name) {
            Sequence::START // It is entered once, for a stream that lives, and had nothing before.
        } else if self.forgotten.is_empty() {
            self.forgotten_through
        } else {
            let hash = self.hasher.hash_one(&*name);
            self.forgotten.get(&hash).copied().unwrap_or(self.forgotten_through)
        };
        let channel = Channel {
            name: Arc::clone(&name),
            retained: VecDeque::new(),
            evicted_through,
            evicted_count: 0,
            last: evicted_through,
            subscribers: 0,
            shards: ShardSet::default(),
            is_over: false,
        };
        self.bytes += CHANNEL_BYTES + name.len();
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
        self.by_name.insert(name, ChannelId(slot));
        ChannelId(slot)
    }

    pub(super) fn get(&self, id: ChannelId) -> &Channel {
        self.slots[id.0 as usize].as_ref().expect("a channel that is referred to is in the table")
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> &mut Channel {
        self.slots[id.0 as usize].as_mut().expect("a channel that is referred to is in the table")
    }

    /// Retains `sequence` as the channel's newest event.
    pub(super) fn retain(&mut self, id: ChannelId, sequence: Sequence) {
        let channel =
            self.slots[id.0 as usize].as_mut().expect("a channel that is published to is in the table");
        let before = channel.retained.capacity();
        channel.retained.push_back(sequence);
        channel.last = sequence;
        self.bytes += (channel.retained.capacity() - before) * size_of::<Sequence>();
    }

    /// Gives up the channel's oldest event and returns its number.
    pub(super) fn evict_oldest(&mut self, id: ChannelId) -> Option<Sequence> {
        let channel = self.slots[id.0 as usize].as_mut()?;
        let sequence = channel.retained.pop_front()?;
        channel.evicted_through = sequence;
        channel.evicted_count += 1;
        let capacity = channel.retained.capacity();
        if capacity > 64 && channel.retained.len() < capacity / 4 {
            channel.retained.shrink_to(capacity / 2);
            self.bytes -= (capacity - channel.retained.capacity()) * size_of::<Sequence>();
        }
        Some(sequence)
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
        self.by_name.remove(&channel.name);
        self.named_len -= usize::from(is_channel(&channel.name));
        self.bytes -=
            CHANNEL_BYTES + channel.name.len() + channel.retained.capacity() * size_of::<Sequence>();
        if channel.evicted_through > self.forgotten_through && !is_client(&channel.name) {
            self.remember(&channel.name, channel.evicted_through);
        }
        Removal::Removed
    }

    fn remember(&mut self, name: &str, evicted_through: Sequence) {
        let hash = self.hasher.hash_one(name);
        if self.forgotten.insert(hash, evicted_through).is_none() {
            self.forgotten_order.push_back(hash);
        }
        if self.forgotten_order.len() > self.forgotten_max
            && let Some(oldest) = self.forgotten_order.pop_front()
            && let Some(through) = self.forgotten.remove(&oldest)
        {
            self.forgotten_through = self.forgotten_through.max(through);
        }
    }
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
        channels.retain(id, Sequence(7));
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
        channels.retain(id, Sequence(7));
        channels.evict_oldest(id);
        assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        let back = channels.enter("news");
        assert_eq!(channels.get(back).evicted_through, Sequence(7));
        let other = channels.enter("other");
        assert_eq!(channels.get(other).evicted_through, Sequence::START, "it never had an event");
    }

    #[test]
    fn what_is_forgotten_altogether_counts_as_lost_for_every_unknown_channel() {
        let mut channels = Channels::new(1);
        for (name, number) in [("a", 5), ("b", 8)] {
            let id = channels.enter(name);
            channels.retain(id, Sequence(number));
            channels.evict_oldest(id);
            assert_eq!(channels.remove_if_idle(id, ALL), Removal::Removed);
        }
        let a = channels.enter("a");
        assert_eq!(
            channels.get(a).evicted_through,
            Sequence(5),
            "a was forgotten, so 5 is all that is known"
        );
        let b = channels.enter("b");
        assert_eq!(channels.get(b).evicted_through, Sequence(8));
    }
}
