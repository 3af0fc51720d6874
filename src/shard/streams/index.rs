//! The subscriptions of one shard: which of its streams a run goes to.
//!
//! Streams are identified by the slot of their connection. A stream keeps its position in the list of
//! each of its channels, so that leaving needs no search.
//!
//! If there are very many channels, most are those of users, with one stream and without any event. For
//! such a channel the table holds the stream itself. For others it holds the place of a list.

use crate::base::hashed::Hashed;
use crate::hub::ChannelId;

use super::stream_list::{StreamList, StreamSlots};

/// One subscription, as the stream keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Subscription {
    /// The channel.
    pub(in crate::shard) channel: ChannelId,
    /// The stream's position in the channel's list.
    pub(in crate::shard) position: u32,
}

/// A shard's channels and their streams.
#[derive(Debug, Default)]
pub(in crate::shard) struct Index {
    /// By the channel's hash: the slot of its only stream or, marked by [`LISTED`], the place of its
    /// list.
    channels: Hashed,
    lists: Vec<Subscribers>,
    /// Unused places in `lists`.
    free: Vec<u32>,
}

/// The streams of a channel.
#[derive(Debug)]
struct Subscribers {
    streams: StreamList,
    /// The number of the channel's events up to the shard's cursor.
    count: u64,
}

/// The bit of a table entry that is the place of a list.
const LISTED: u32 = 1 << 31;

impl Index {
    /// An index with room for `count` channels, as [`Hashed::with_room_for`].
    #[must_use]
    pub(in crate::shard) fn with_room_for(count: usize) -> Index {
        Index { channels: Hashed::with_room_for(count), ..Index::default() }
    }

    /// Adds a stream to a channel that had `count` events up to the shard's cursor.
    ///
    /// # Panics
    /// If the slot is not below 2^31.
    pub(in crate::shard) fn insert(&mut self, channel: ChannelId, slot: u32, count: u64) -> Subscription {
        assert!(slot & LISTED == 0, "a shard has below 2^31 streams");
        if count == 0 && self.channels.get(channel.hash(), |_| true).is_none() {
            self.channels.insert(channel.hash(), slot);
            return Subscription { channel, position: 0 };
        }
        let subscribers = self.make_list(channel);
        let position = subscribers.streams.push(slot);
        subscribers.count = count;
        Subscription { channel, position: u32::try_from(position).expect("slots are below 2^31") }
    }

    /// Removes a stream from a channel. Calls `moved` with the slot of the stream that took its
    /// position, if any.
    ///
    /// # Panics
    /// If there is no such subscription.
    pub(in crate::shard) fn remove(&mut self, subscription: Subscription, moved: impl FnOnce(u32)) {
        let Subscription { channel, position } = subscription;
        let found = self.channels.get(channel.hash(), |_| true);
        let &found = found.expect("a subscription stands in its channel's list");
        if found & LISTED != 0 {
            let place = found & !LISTED;
            let streams = &mut self.lists[place as usize].streams;
            if let Some(slot) = streams.swap_remove(position as usize) {
                moved(slot);
            }
            if !streams.slots().is_empty() {
                return;
            }
            self.free.push(place);
        }
        self.channels.remove(channel.hash(), |_| true);
    }

    /// The streams of a channel.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn streams(&self, channel: ChannelId) -> StreamSlots<'_> {
        match self.channels.get(channel.hash(), |_| true) {
            None => StreamSlots::default(),
            Some(found) if found & LISTED != 0 => self.lists[(found & !LISTED) as usize].streams.slots(),
            Some(slot) => StreamSlots::of(std::slice::from_ref(slot)),
        }
    }

    /// The number of a channel's events up to the shard's cursor; 0 if it has no streams.
    #[must_use]
    pub(in crate::shard) fn count(&self, channel: ChannelId) -> u64 {
        match self.channels.get(channel.hash(), |_| true) {
            Some(found) if found & LISTED != 0 => self.lists[(found & !LISTED) as usize].count,
            Some(_) | None => 0,
        }
    }

    /// Counts events of a channel that the shard's cursor has passed. A channel without streams has no
    /// count.
    pub(super) fn note_events(&mut self, channel: ChannelId, events: u32) {
        if let Some(found) = self.channels.get(channel.hash(), |_| true) {
            let subscribers = match found & LISTED {
                0 => self.make_list(channel),
                _ => &mut self.lists[(found & !LISTED) as usize],
            };
            subscribers.count += u64::from(events);
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(in crate::shard) fn bytes(&self) -> usize {
        let lists = self.lists.iter().map(|list| size_of::<Subscribers>() + list.streams.heap_bytes());
        self.channels.bytes() + lists.sum::<usize>()
    }

    /// The list of a channel. Makes one if there is none.
    fn make_list(&mut self, channel: ChannelId) -> &mut Subscribers {
        let found = self.channels.get(channel.hash(), |_| true).copied();
        if let Some(found) = found.filter(|found| found & LISTED != 0) {
            return &mut self.lists[(found & !LISTED) as usize];
        }
        let streams = found.map_or(StreamList::EMPTY, StreamList::One);
        let subscribers = Subscribers { streams, count: 0 };
        let place = match self.free.pop() {
            Some(place) => {
                self.lists[place as usize] = subscribers;
                place
            }
            None => {
                self.lists.push(subscribers);
                u32::try_from(self.lists.len() - 1).expect("channels are bounded far below 2^31")
            }
        };
        if self.channels.replace(channel.hash(), |_| true, LISTED | place).is_none() {
            self.channels.insert(channel.hash(), LISTED | place);
        }
        &mut self.lists[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::random::SplitMix64;

    fn slots(index: &Index, channel: ChannelId) -> Vec<u32> {
        index.streams(channel).parts().flatten().copied().collect()
    }

    #[test]
    fn leaving_moves_the_last_stream_into_the_place() {
        let mut index = Index::default();
        let channel = ChannelId::numbered(7);
        let subscriptions: Vec<_> = (10..13).map(|slot| index.insert(channel, slot, 0)).collect();
        let mut moved = None;
        index.remove(subscriptions[0], |slot| moved = Some(slot));
        assert_eq!(moved, Some(12));
        assert_eq!(slots(&index, channel), [12, 11]);
        index.remove(subscriptions[1], |_| panic!("nothing moves"));
        index.remove(subscriptions[0], |_| panic!("nothing moves"));
        assert!(index.streams(channel).is_empty());
    }

    #[test]
    fn a_channel_of_one_stream_without_events_costs_its_place_in_the_table_alone() {
        let mut index = Index::with_room_for(15_000);
        let insert = |index: &mut Index, number| index.insert(ChannelId::numbered(number), number, 0);
        let subscriptions: Vec<_> = (0..15_000).map(|number| insert(&mut index, number)).collect();
        let each = index.bytes() as f64 / 15_000.0;
        assert!(each <= 10.5, "{each:.1} bytes");
        index.note_events(ChannelId::numbered(3), 2);
        assert_eq!([3, 4, 15_000].map(|number| index.count(ChannelId::numbered(number))), [2, 0, 0]);
        subscriptions
            .into_iter()
            .for_each(|subscription| index.remove(subscription, |_| panic!("it is alone")));
        assert!(index.channels.is_empty() && index.free.len() == index.lists.len());
    }

    #[test]
    fn streams_and_counts_are_what_a_plain_map_has() {
        let (mut random, mut index) = (SplitMix64::new(6), Index::default());
        let mut plain: HashMap<u32, (Vec<u32>, u64)> = HashMap::new();
        for step in 0..40_000_u32 {
            // Most channels have few streams, some have many.
            let number = random.within(0..=if step % 2 == 0 { 3 } else { 500 });
            let number = u32::try_from(number).unwrap();
            let channel = ChannelId::numbered(number);
            let fills = if step / 10_000 % 2 == 0 { 7 } else { 3 };
            match random.within(0..=12) {
                10..=12 => {
                    index.note_events(channel, step % 5);
                    if let Some((_, count)) = plain.get_mut(&number) {
                        *count += u64::from(step % 5);
                    }
                }
                kind if kind < fills => {
                    let (streams, count) = plain.entry(number).or_insert((Vec::new(), u64::from(step % 2)));
                    let subscription = index.insert(channel, step, *count);
                    assert_eq!(
                        (subscription.channel, subscription.position as usize),
                        (channel, streams.len())
                    );
                    streams.push(step);
                }
                _ => {
                    let Some((streams, _)) = plain.get_mut(&number) else { continue };
                    let position = random.within(0..=streams.len() - 1);
                    streams.swap_remove(position);
                    let (expected, mut moved) = (streams.get(position).copied(), None);
                    if streams.is_empty() {
                        plain.remove(&number);
                    }
                    let subscription = Subscription { channel, position: u32::try_from(position).unwrap() };
                    index.remove(subscription, |slot| moved = Some(slot));
                    assert_eq!(moved, expected);
                }
            }
            let expected = plain.get(&number).map_or((Vec::new(), 0), Clone::clone);
            assert_eq!((slots(&index, channel), index.count(channel)), expected);
        }
    }
}
