//! What the hub tells those who operate it: how much it holds, and who subscribes to what.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::batch::{is_channel, user_of};
use crate::hub::channels::Channels;
use crate::hub::{ChannelId, Hub};

/// Places of the channel table that are looked at under one lock: the names among them are copied.
const PLACES_PER_LOOK_MAX: usize = 256;

/// How much went through the hub, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Events that were applied.
    pub events: u64,
    /// Bytes of the history as held: segments, entries, names.
    pub held_bytes: usize,
    /// Channels that have subscribers or retained events.
    pub channels: usize,
}

/// What is known of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Its name.
    pub name: Arc<str>,
    /// Streams of all shards that subscribe to it.
    pub subscribers: u32,
    /// Its events that a stream can still be told of.
    pub retained: usize,
}

/// Who subscribes to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// The channels with subscribers, in no particular order, each with its streams in all shards.
    pub channels: Vec<(Arc<str>, u32)>,
    /// Users that have streams.
    pub users: u64,
}

impl Hub {
    /// How much went through, and how much is held.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts { events: state.applied, held_bytes: state.held_bytes(), channels: state.channels.len() }
    }

    /// The channels and users with subscribers. Of those that come and go meanwhile some are missing: the lock is taken
    /// for a part of the table at a time.
    #[must_use]
    pub fn subscribed(&self) -> Subscribed {
        let mut subscribed = Subscribed::default();
        self.look_at_all(|channels, id| {
            let (name, subscribers) = (channels.name(id), channels.subscribers(id));
            if subscribers == 0 {
                return;
            }
            if is_channel(name) {
                subscribed.channels.push((Arc::from(name), subscribers));
            } else if user_of(name).is_some() {
                subscribed.users += 1;
            }
        });
        subscribed
    }

    /// The channels with subscribers or retained events, by name, and no patterns: a stream that has a channel by a pattern
    /// alone is none of its subscribers here. Of those that come and go meanwhile some are missing,
    /// as for [`Hub::subscribed`].
    #[must_use]
    pub fn list_channels(&self) -> Vec<ChannelCounts> {
        let mut listed = Vec::new();
        self.look_at_all(|channels, id| {
            let (subscribers, retained) = (channels.subscribers(id), channels.get(id).readable().len());
            if subscribers == 0 && retained == 0 {
                return;
            }
            let name = channels.name(id);
            if is_channel(name) && channels.prefix(id).is_none() {
                listed.push(ChannelCounts { name: Arc::from(name), subscribers, retained });
            }
        });
        listed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        // One that left while the table was looked at, and came back, may have been seen in two places of it.
        listed.dedup_by(|later, earlier| later.name == earlier.name);
        listed
    }

    /// Shows `visit` all channels, a part of the table under one lock.
    fn look_at_all(&self, mut visit: impl FnMut(&Channels, ChannelId)) {
        let mut from = Some(0);
        while let Some(place) = from {
            let state = self.lock();
            let (channels, next) = state.channels.part(place, PLACES_PER_LOOK_MAX);
            channels.for_each(|id| visit(&state.channels, id));
            from = next;
        }
    }

    /// The names of those among `targets` that are channels, and how many retained events after `place` all of them have
    /// together.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names_and_lag(&self, targets: &[ChannelId], place: Sequence) -> (Vec<Arc<str>>, usize) {
        let state = self.lock();
        targets.iter().fold((Vec::new(), 0), |(mut names, lag), &id| {
            let (name, record) = (state.channels.name(id), state.channels.get(id));
            names.extend(is_channel(name).then(|| Arc::from(name)));
            (names, lag + record.retained.len() - record.index_after(place))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::base::name::Selector;
    use crate::frame::batch::{TARGET_ALL, user_target};
    use crate::hub::Begin;
    use crate::hub::tests::{hub, publish_to};

    #[test]
    fn channels_are_listed_by_name_with_what_they_have() {
        let hub = hub(100, usize::MAX);
        for channel in ["b", "a", TARGET_ALL, user_target("ann").as_str(), "b"] {
            publish_to(&hub, channel, "x");
        }
        hub.subscribe(
            0,
            &["a", "c", "b*"].map(|name| Selector::parse(name).unwrap()),
            Some("ann"),
            Begin::AtHead,
        )
        .unwrap();
        let listed: Vec<(String, u32, usize)> = hub
            .list_channels()
            .into_iter()
            .map(|channel| (channel.name.to_string(), channel.subscribers, channel.retained))
            .collect();
        let expected = [("a", 1, 1), ("b", 0, 2), ("c", 1, 0)];
        assert_eq!(
            listed,
            expected.map(|(name, subscribers, retained)| (name.to_owned(), subscribers, retained))
        );
    }
}
