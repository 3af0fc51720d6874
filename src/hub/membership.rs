//! How the channels of a live stream change: one more, one less, and the target that the stream itself is.
//!
//! The target of one client is an entry of the channel table under a reserved name, as users are, but entered only when
//! the first event goes there, and with its events only for as long as the stream lives.

use std::sync::Arc;

use crate::base::id::{ClientId, Sequence};
use crate::base::name::Selector;
use crate::frame::batch::{client_target, is_channel, is_client, user_of};
use crate::hub::channels::ChannelId;
use crate::hub::{Hub, State, SubscribeError};

/// What a subscription of a stream that lives already came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The channel.
    pub channel: ChannelId,
    /// How many events it had up to the shard's cursor.
    pub count: u64,
    /// The place of the subscription: events behind it are the stream's.
    pub at: Sequence,
    /// The shard's cursor, at or before that place.
    pub shard_cursor: Sequence,
}

impl Hub {
    /// Subscribes a stream of `shard` to one more channel or pattern: every event applied later counts the stream among its
    /// receivers, and is its shard's to deliver. That it has the channel already is for the caller to know
    /// ([`Hub::find`]).
    ///
    /// # Errors
    /// [`SubscribeError::TooManyChannels`]; nothing was subscribed to then.
    pub fn add(&self, shard: usize, name: &Selector) -> Result<Added, SubscribeError> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.channels.find(name.as_str()).is_none() && state.channels.len() >= self.channels_max {
            return Err(SubscribeError::TooManyChannels { channels_max: self.channels_max });
        }
        let added = state.add(shard, name.as_str());
        self.publish_counts(state);
        Ok(added)
    }

    /// Subscribes the stream of this name, of `shard`, to what goes to it alone; once for a stream. There is nothing that
    /// it could have missed so far.
    pub fn add_client(&self, shard: usize, client: ClientId) -> Added {
        self.lock().add(shard, &client_target(client))
    }

    /// Ends one subscription of a stream that lives on.
    ///
    /// # Panics
    /// If no stream of the shard subscribes to the channel.
    pub fn remove(&self, shard: usize, channel: ChannelId) {
        let mut state = self.lock();
        let state = &mut *state;
        state.end_subscription(shard, channel);
        let taken = state.taken_by_all();
        state.remove_idle_channels(taken);
        self.publish_counts(state);
    }

    /// The channel of this name, if it has subscribers or retained events, or the pattern of this text, if it has subscribers.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ChannelId> {
        self.lock().channels.find(name)
    }

    /// Those of `clients` that no event could be applied for now, each once, at its first place.
    #[must_use]
    pub fn without_target(&self, clients: &[(usize, ClientId)]) -> Vec<(usize, ClientId)> {
        let state = self.lock();
        let mut missing: Vec<(usize, ClientId)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for &(place, client) in clients {
            if seen.insert(client) && state.find_client(&client_target(client)).is_none() {
                missing.push((place, client));
            }
        }
        missing
    }

    /// The names of those among a stream's `targets` that are channels, in their order, and the user that one of them is.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names(&self, targets: &[ChannelId]) -> (Vec<Arc<str>>, Option<Arc<str>>) {
        let state = self.lock();
        let (mut names, mut user) = (Vec::new(), None);
        for &id in targets {
            let name = &state.channels.get(id).name;
            if is_channel(name) {
                names.push(Arc::clone(name));
            } else if let Some(text) = user_of(name) {
                user = Some(Arc::from(text));
            }
        }
        (names, user)
    }
}

impl State {
    fn add(&mut self, shard: usize, name: &str) -> Added {
        let channel = self.channels.enter(name);
        let count = self.begin_subscription(shard, channel);
        Added { channel, count, at: self.epochs.head(), shard_cursor: self.cursors[shard] }
    }

    /// The channel that an event to this target goes to; `None` for a client that is gone: nothing is kept for it.
    pub(super) fn enter_target(&mut self, name: &str) -> Option<ChannelId> {
        if is_client(name) {
            return self.find_client(name);
        }
        Some(self.channels.enter(name))
    }

    /// The channel of a client that lives. One that is gone may have its own until every shard has taken its last event.
    fn find_client(&self, target: &str) -> Option<ChannelId> {
        self.channels.find(target).filter(|&id| self.channels.get(id).subscribers > 0)
    }

    /// Takes one stream of a shard off a channel's subscribers.
    pub(super) fn end_subscription(&mut self, shard: usize, id: ChannelId) {
        let streams = self.subscribed[shard].get_mut(&id).expect("what is left was subscribed to");
        *streams -= 1;
        let is_last = *streams == 0;
        self.end_subscriptions(shard, id, 1, is_last);
    }

    /// Gives up all that is retained of a channel without subscribers. Shards that have yet to take an event of it find
    /// that it concerns nobody.
    pub(super) fn drop_events(&mut self, id: ChannelId) {
        while let Some(sequence) = self.channels.evict_oldest(id) {
            self.history.release(sequence);
        }
        self.idle.push(id);
    }
}
