//! The subscriptions of one shard: which of its streams a run goes to.
//!
//! Streams are known by the slot of their connection. A stream keeps, for each of its channels, its position in that
//! channel's list, so that leaving costs no search.

use std::collections::HashMap;

use crate::hub::channel::{ChannelHasherBuilder, ChannelId};

/// One subscription, as the stream keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The channel.
    pub channel: ChannelId,
    /// The stream's position in the channel's list.
    pub position: u32,
}

/// The streams of one channel.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Slots of the streams, in no particular order.
    pub slots: Vec<u32>,
    /// How many events the channel had up to the shard's cursor.
    pub count: u64,
}

/// A shard's channels and their streams.
#[derive(Debug, Default)]
pub struct Index {
    channels: HashMap<ChannelId, Subscribers, ChannelHasherBuilder>,
}

impl Index {
    /// Adds a stream to a channel; `count` is how many events that had up to the shard's cursor.
    pub fn insert(&mut self, channel: ChannelId, slot: u32, count: u64) -> Subscription {
        let subscribers = self.channels.entry(channel).or_default();
        let position = u32::try_from(subscribers.slots.len()).expect("a shard has below 2^32 streams");
        subscribers.slots.push(slot);
        subscribers.count = count;
        Subscription { channel, position }
    }

    /// Removes a stream from a channel. `moved` is told the slot of the stream that took its position, if any did.
    ///
    /// # Panics
    /// If there is no such subscription.
    pub fn remove(&mut self, subscription: Subscription, moved: impl FnOnce(u32)) {
        let subscribers = self
            .channels
            .get_mut(&subscription.channel)
            .expect("a subscription stands in its channel's list");
        let slots = &mut subscribers.slots;
        slots.swap_remove(subscription.position as usize);
        if let Some(&slot) = slots.get(subscription.position as usize) {
            moved(slot);
        }
        if slots.is_empty() {
            self.channels.remove(&subscription.channel);
        } else if slots.capacity() > 64 && slots.len() < slots.capacity() / 4 {
            slots.shrink_to(slots.len() * 2);
        }
    }

    /// The streams of a channel.
    #[must_use]
    pub fn get(&self, channel: ChannelId) -> Option<&Subscribers> {
        self.channels.get(&channel)
    }

    /// The streams of a channel, to count a run.
    #[must_use]
    pub fn get_mut(&mut self, channel: ChannelId) -> Option<&mut Subscribers> {
        self.channels.get_mut(&channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_moves_the_last_stream_into_the_place() {
        let mut index = Index::default();
        let channel = ChannelId(7);
        let subscriptions: Vec<_> = (10..13).map(|slot| index.insert(channel, slot, 0)).collect();
        let mut moved = None;
        index.remove(subscriptions[0], |slot| moved = Some(slot));
        assert_eq!(moved, Some(12));
        assert_eq!(index.get(channel).unwrap().slots, [12, 11]);
        index.remove(subscriptions[1], |_| panic!("nothing moves"));
        index.remove(subscriptions[0], |_| panic!("nothing moves"));
        assert!(index.get(channel).is_none());
    }
}
