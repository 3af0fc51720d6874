//! How a stream finds its place: subscribing, resuming, and leaving.

use smallvec::SmallVec;

use crate::base::id::{EventId, Sequence};
use crate::base::name::Selector;
use crate::frame::batch::{is_client, user_target};
use crate::hub::budget::NAMES_PER_HOLD_MAX;
use crate::hub::budget::{CHANNEL_STEPS, NAME_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::reading::Cursor;
use crate::hub::state::State;

/// Where a stream is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the events that are applied after it subscribed.
    AtHead,
    /// With the events after this one. Where no epoch has the id's tag, it may be a publisher's own.
    After(EventId),
    /// With the events after the earliest one that the stream would receive and whose publisher gave it this id, which
    /// has not the form of those that the server gives.
    AfterOwn(Box<str>),
    /// With all retained events.
    AllRetained,
    /// With the newest retained events of its channels, so many of them, and whatever else is retained after the first
    /// of those.
    LastRetained(usize),
}

/// Where a stream does begin.
#[derive(Debug)]
pub enum Begun {
    /// At the place of its subscription.
    AtHead(Cursor),
    /// After the event it named, or with what is retained.
    After(Cursor),
    /// At the place of its subscription, since no history here vouches for the event it named.
    Unknown(Cursor),
}

/// What a subscription came to.
#[derive(Debug)]
pub struct Subscribed {
    /// The channels and patterns, in the order they were named, and behind them that of the user, if there is one.
    pub channels: SmallVec<[ChannelId; 4]>,
    /// How many events each of them had up to the shard's cursor.
    pub counts: SmallVec<[u64; 2]>,
    /// How many events to all there were up to the shard's cursor.
    pub all_count: u64,
    /// The place of the subscription as an id.
    pub id: EventId,
    /// Where to begin reading.
    pub begun: Begun,
    /// The shard's cursor. A stream is live from where its place equals it, but not before the place of its subscription:
    /// of what was applied earlier and is not yet taken by the shard, live runs do not know that its patterns match it.
    pub shard_cursor: Sequence,
    /// No event can reach the stream in two ways, so that it can be counted how many it has missed.
    pub is_counting: bool,
}

/// Why a subscription was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// It would make more channel names than are allowed; passes when others go.
    #[error("the server keeps at most {channels_max} channels")]
    TooManyChannels {
        /// The bound.
        channels_max: usize,
    },
}

impl Hub {
    /// Subscribes a stream of `shard` to `names`, channels and patterns, each once, to what goes to its `user` and to what goes to all, and finds
    /// its place, in one step: every event applied later counts it among its receivers and reaches it.
    ///
    /// # Errors
    /// [`SubscribeError::TooManyChannels`]; nothing was subscribed to then.
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
        // Where all of them might be new, nobody asks which are.
        if state.channels.len() + names.len() > self.channels_max {
            let new = names.iter().filter(|name| state.channels.find(name.as_str()).is_none()).count();
            if new > 0 && state.channels.len() + new > self.channels_max {
                return Err(SubscribeError::TooManyChannels { channels_max: self.channels_max });
            }
        }
        let shard_cursor = state.cursors[shard];
        let head = state.epochs.head();
        // Few streams have more channels than there is room for in place.
        let mut channels = SmallVec::with_capacity(names.len());
        let mut counts = SmallVec::with_capacity(names.len());
        let user = user.map(user_target);
        for name in names.iter().map(Selector::as_str).chain(user.as_deref()) {
            let id = state.enter_subscribed(name);
            counts.push(state.begin_subscription(shard, id));
            channels.push(id);
        }
        let all_count = state.begin_subscription(shard, ChannelId::ALL);
        // Only where no event can reach the stream in two ways does a sum of counts count its events.
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

    /// Ends all subscriptions of a stream. It is among the receivers of events that its shard has yet to take, if it `had` one
    /// of their channels when they were applied.
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
            self.let_others();
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

    /// Ends all subscriptions of a shard that has lost its streams, and takes for it whatever it has not taken.
    ///
    /// Returns who waits for counts of receivers that are complete now that this one will add nothing.
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
        let mut state = self.lock();
        let state = &mut *state;
        let complete = state.tallies.iter().filter(|(_, tally)| tally.add(shard, 0));
        let waiting = complete.map(|(_, tally)| tally.waiting_shard).collect();
        state.cursors[shard] = state.epochs.head();
        state.forget_tallies();
        state.enforce_retention();
        self.publish_counts(state);
        waiting
    }
}

impl State {
    /// The channel or pattern of that name, put into the table where it is not yet there.
    pub(super) fn enter_subscribed(&mut self, name: &str) -> ChannelId {
        let id = self.channels.enter(name);
        self.channels.patterns.gather_until(id, self.epochs.head());
        self.budget.spend(NAME_STEPS);
        id
    }

    /// Goes on gathering what patterns have to know, and putting in order what their streams read by.
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

    /// Adds a stream of a shard to a channel's subscribers; returns how many events that had up to the shard's cursor.
    pub(super) fn begin_subscription(&mut self, shard: usize, id: ChannelId) -> u64 {
        self.channels.add_subscriber(id, shard);
        self.channels.get(id).count_taken(self.cursors[shard])
    }

    /// Takes streams of a shard off a channel's subscribers.
    pub(super) fn end_subscriptions(&mut self, shard: usize, id: ChannelId, streams: u32) {
        self.channels.remove_subscribers(id, shard, streams);
        if self.channels.subscribers(id) > 0 {
            return;
        }
        let is_client = is_client(self.channels.name(id));
        let is_empty = self.channels.get(id).retained.is_empty();
        self.channels.forget_lapsed(id);
        if is_client {
            self.drop_events(id);
        } else if is_empty {
            self.idle.push(id);
        }
    }
}
