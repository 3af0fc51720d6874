//! Subscribing, resuming, and leaving.

use smallvec::SmallVec;

use crate::base::id::{EventId, Sequence};
use crate::base::name::Selector;
use crate::hub::budget::NAMES_PER_HOLD_MAX;
use crate::hub::budget::{CHANNEL_STEPS, NAME_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::reading::Cursor;
use crate::hub::state::State;
use crate::record::targets::{is_client, user_target};

/// Where a stream asks to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the events that are applied after it subscribed.
    AtHead,
    /// With the events after this one. If no epoch has the id's tag, the id may be a publisher's own.
    After(EventId),
    /// With the events after the earliest one that the stream would receive and that has this
    /// publisher's id, which does not have the form of a server's id.
    AfterOwn(Box<str>),
    /// With all retained events.
    AllRetained,
    /// With this many of the newest retained events of its channels, and everything else retained after
    /// the first of them.
    LastRetained(usize),
}

/// Where a stream begins.
#[derive(Debug)]
pub enum Begun {
    /// At the place of its subscription.
    AtHead(Cursor),
    /// After the event it named, or with what is retained.
    After(Cursor),
    /// At the place of its subscription, since no epoch here has the event it named.
    Unknown(Cursor),
}

/// The result of a subscription.
#[derive(Debug)]
pub struct Subscribed {
    /// The channels and patterns in the order they were named, then the user's channel, if there is a
    /// user.
    pub channels: SmallVec<[ChannelId; 4]>,
    /// The number of events of each channel up to the shard's cursor.
    pub counts: SmallVec<[u64; 2]>,
    /// The number of events to all up to the shard's cursor.
    pub all_count: u64,
    /// The place of the subscription, as an id.
    pub id: EventId,
    /// Where to begin reading.
    pub begun: Begun,
    /// The shard's cursor. A stream is live once its place equals this cursor, but not before the place
    /// of its subscription: live runs of events that were applied earlier, and that the shard has not
    /// taken yet, do not know that the stream's patterns match them.
    pub shard_cursor: Sequence,
    /// No event can reach the stream in two ways, so the events it missed can be counted.
    pub is_counting: bool,
}

/// Why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// It would make more channel names than allowed. It may succeed once others go.
    #[error("the server keeps at most {channels_max} channels")]
    TooManyChannels {
        /// The bound.
        channels_max: usize,
    },
}

impl Hub {
    /// Subscribes a stream of `shard` to `names` (channels and patterns, each once), to its `user` and
    /// to the target of all, and finds its place, in one step: every event applied later counts the
    /// stream among its receivers and reaches it.
    ///
    /// # Errors
    /// [`SubscribeError::TooManyChannels`]; then nothing was subscribed to.
    ///
    /// # Panics
    /// If the log has not begun an epoch.
    pub fn subscribe(
        &self,
        shard: usize,
        names: &[Selector],
        user: Option<&str>,
        begin: Begin,
    ) -> Result<Subscribed, SubscribeError> {
        let mut state = self.lock();
        let state = &mut *state;
        // If there is room even for all names as new ones, none is looked up.
        if state.channels.len() + names.len() > self.channels_max {
            let new = names.iter().filter(|name| state.channels.find(name.as_str()).is_none()).count();
            if new > 0 && state.channels.len() + new > self.channels_max {
                return Err(SubscribeError::TooManyChannels { channels_max: self.channels_max });
            }
        }
        let shard_cursor = state.cursors[shard];
        let head = state.epochs.head();
        // Few streams have more channels than fit in place.
        let mut channels = SmallVec::with_capacity(names.len());
        let mut counts = SmallVec::with_capacity(names.len());
        let user = user.map(user_target);
        for name in names.iter().map(Selector::as_str).chain(user.as_deref()) {
            let id = state.enter_subscribed(name);
            counts.push(state.begin_subscription(shard, id));
            channels.push(id);
        }
        let all_count = state.begin_subscription(shard, ChannelId::ALL);
        // A sum of counts is the number of the stream's events only if no event can reach it in two
        // ways.
        let is_counting = matches!(names, [only] if only.prefix().is_none());
        let begun = match begin {
            Begin::AtHead => Begun::AtHead(state.cursor_at(head, &channels, is_counting)),
            Begin::After(id) => match state.epochs.place_of(id) {
                Some(place) => Begun::After(state.cursor_at(place, &channels, is_counting)),
                None => state.begin_after_own(id.to_string().into(), &channels, is_counting),
            },
            Begin::AfterOwn(id) => state.begin_after_own(id, &channels, is_counting),
            Begin::AllRetained => {
                Begun::After(state.cursor_of_retained(state.epochs.start(), &channels, is_counting))
            }
            Begin::LastRetained(count) => {
                Begun::After(state.cursor_before_last(count, &channels, is_counting))
            }
        };
        state.gather_and_sort();
        self.publish_counts(state);
        let id = state.epochs.id_of(head).expect("the log begins an epoch before anyone subscribes");
        Ok(Subscribed { channels, counts, all_count, id, begun, shard_cursor, is_counting })
    }

    /// Ends all subscriptions of a stream. It stays among the receivers of events that its shard has not
    /// taken yet, if it `had` one of their channels when they were applied.
    ///
    /// # Panics
    /// If no stream of the shard subscribes to one of `channels`.
    pub fn unsubscribe(
        &self,
        shard: usize,
        channels: impl IntoIterator<Item = ChannelId>,
        had: impl Fn(ChannelId, Sequence) -> bool,
    ) {
        let channels: SmallVec<[ChannelId; 8]> = channels.into_iter().chain([ChannelId::ALL]).collect();
        let mut counted = Sequence::START;
        let mut state = self.lock();
        while !state.count_leaver(shard, &channels, &[], &had, &mut counted) {
            drop(state);
            self.yield_to_waiting();
            state = self.lock();
        }
        let state = &mut *state;
        state.budget.spend(CHANNEL_STEPS * steps(channels.len()));
        for id in channels {
            state.end_subscription(shard, id);
        }
        state.tidy_table();
        self.publish_counts(state);
    }

    /// Ends all subscriptions of a shard that has lost its streams, and moves its cursor to the head.
    ///
    /// Returns the shards, or other appenders, that wait for receiver counts that this completes.
    pub fn forget_shard(&self, shard: usize) -> Vec<usize> {
        let mut from = Some(0);
        while let Some(place) = from {
            let mut state = self.lock();
            let state = &mut *state;
            let (channels, next) = state.channels.part(place, NAMES_PER_HOLD_MAX);
            let subscribed = channels.map(|id| (id, state.channels.subscribers_of(id, shard)));
            for (id, streams) in subscribed.filter(|&(_, streams)| streams > 0).collect::<Vec<_>>() {
                state.end_subscriptions(shard, id, streams);
            }
            state.tidy_table();
            from = next;
        }
        let (mut waiting, mut counted) = (Vec::new(), Sequence::START);
        let mut state = self.lock();
        while !state.count_none(shard, &mut counted, &mut waiting) {
            drop(state);
            self.yield_to_waiting();
            state = self.lock();
        }
        let state = &mut *state;
        state.cursors[shard] = state.epochs.head();
        state.forget_tallies();
        state.enforce_retention();
        self.publish_counts(state);
        waiting
    }
}

impl State {
    /// Finds the channel or pattern of a name, and enters it if it is not in the table.
    pub(super) fn enter_subscribed(&mut self, name: &str) -> ChannelId {
        let id = self.channels.enter(name);
        self.channels.patterns.gather_until(id, self.epochs.head());
        self.budget.spend(NAME_STEPS);
        id
    }

    /// Continues gathering the earlier losses of new patterns, and sorting the channels that their
    /// streams read.
    pub(super) fn gather_and_sort(&mut self) {
        while !self.budget.is_spent()
            && let Some(pattern) = self.channels.patterns.first_gathering()
        {
            self.channels.gather(pattern, &self.budget);
        }
        self.channels.continue_sorting(&self.budget);
        self.is_unfinished |=
            self.channels.is_unsorted() || self.channels.patterns.first_gathering().is_some();
    }

    /// Adds a stream of a shard to a channel's subscribers. Returns the number of the channel's events
    /// up to the shard's cursor.
    pub(super) fn begin_subscription(&mut self, shard: usize, id: ChannelId) -> u64 {
        self.channels.add_subscriber(id, shard);
        self.channels.get(id).count_taken(self.cursors[shard])
    }

    /// Removes streams of a shard from a channel's subscribers.
    pub(super) fn end_subscriptions(&mut self, shard: usize, id: ChannelId, streams: u32) {
        self.channels.remove_subscribers(id, shard, streams);
        if self.channels.subscribers(id) > 0 {
            return;
        }
        let is_client = is_client(self.channels.name(id));
        let is_empty = self.channels.get(id).retained.is_empty();
        self.channels.forget_lapsed(id);
        if is_client {
            self.give_up_events(id);
        } else if is_empty {
            self.idle.push(id);
        }
    }
}
