//! What the hub tells those who operate it: how much it holds, and who subscribes to what.

use std::sync::Arc;

use crate::base::id::Sequence;
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

/// A channel with subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelCount {
    /// Its name.
    pub name: Arc<str>,
    /// Streams of all shards that subscribe to it.
    pub subscribers: u32,
}

impl Hub {
    /// How much went through, and how much is held.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts { events: state.applied, held_bytes: state.held_bytes(), channels: state.channels.len() }
    }

    /// The channels with subscribers, in no particular order. Of those that come and go meanwhile some are missing: the
    /// lock is taken for a part of the table at a time.
    #[must_use]
    pub fn subscribed_channels(&self) -> Vec<ChannelCount> {
        let mut counts = Vec::new();
        let mut from = Some(0);
        while let Some(place) = from {
            let state = self.lock();
            let (channels, next) = state.channels.part(place, PLACES_PER_LOOK_MAX);
            let subscribed = channels.filter(|channel| channel.subscribers > 0);
            counts.extend(subscribed.map(|channel| ChannelCount {
                name: Arc::clone(&channel.name),
                subscribers: channel.subscribers,
            }));
            from = next;
        }
        counts
    }

    /// The names of channels that somebody subscribes to, and how many retained events after `place` they have together.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names_and_lag(&self, channels: &[ChannelId], place: Sequence) -> (Vec<Arc<str>>, usize) {
        let state = self.lock();
        let channels = channels.iter().map(|&id| state.channels.get(id));
        let after = |retained: &std::collections::VecDeque<Sequence>| {
            retained.len() - retained.partition_point(|&sequence| sequence <= place)
        };
        channels.fold((Vec::new(), 0), |(mut names, lag), channel| {
            names.push(Arc::clone(&channel.name));
            (names, lag + after(&channel.retained))
        })
    }
}
