//! What the hub tells those who operate it: how much it holds, and who subscribes to what.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::batch::{is_channel, user_of};
use crate::hub::{ChannelId, Hub};

/// Places of the channel table that are looked at under one lock.
const PLACES_PER_LOOK_MAX: usize = 1024;

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
        let mut from = Some(0);
        while let Some(place) = from {
            let state = self.lock();
            let (channels, next) = state.channels.part(place, PLACES_PER_LOOK_MAX);
            for channel in channels.filter(|channel| channel.subscribers > 0) {
                if is_channel(&channel.name) {
                    subscribed.channels.push((Arc::clone(&channel.name), channel.subscribers));
                } else if user_of(&channel.name).is_some() {
                    subscribed.users += 1;
                }
            }
            from = next;
        }
        subscribed
    }

    /// The names of those among `targets` that are channels, and how many retained events after `place` all of them have
    /// together.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names_and_lag(&self, targets: &[ChannelId], place: Sequence) -> (Vec<Arc<str>>, usize) {
        let state = self.lock();
        let channels = targets.iter().map(|&id| state.channels.get(id));
        let after = |retained: &std::collections::VecDeque<Sequence>| {
            retained.len() - retained.partition_point(|&sequence| sequence <= place)
        };
        channels.fold((Vec::new(), 0), |(mut names, lag), channel| {
            names.extend(is_channel(&channel.name).then(|| Arc::clone(&channel.name)));
            (names, lag + after(&channel.retained))
        })
    }
}
