//! How the targets of a live stream change: a channel is added or removed, and the client itself becomes
//! a target.
//!
//! The target of a client is an entry of the channel table under a reserved name, like a user's. It is
//! entered only when the first event goes to the client, and keeps events only while the stream lives.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::id::{ClientId, Sequence};
use crate::base::name::Selector;
use crate::hub::budget::EVENT_STEPS;
use crate::hub::budget::NAMES_PER_HOLD_MAX;
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::state::State;
use crate::hub::subscribe::SubscribeError;
use crate::record::Addressed;
use crate::record::targets::{client_target, is_channel, is_client, user_of};

/// The result of adding a channel to a live stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The channel.
    pub channel: ChannelId,
    /// The number of its events up to the shard's cursor.
    pub count: u64,
    /// The place of the subscription: the stream gets the events after it.
    pub at: Sequence,
    /// The shard's cursor, at or before that place.
    pub shard_cursor: Sequence,
}

impl Hub {
    /// Subscribes a stream of `shard` to one more channel or pattern. Every event applied later counts
    /// the stream among its receivers, and its shard delivers the event. The caller must know that the
    /// stream does not have the channel yet ([`Hub::find`]).
    ///
    /// # Errors
    /// [`SubscribeError::TooManyChannels`]; then nothing was subscribed to.
    pub fn add(&self, shard: usize, name: &Selector) -> Result<Added, SubscribeError> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.channels.find(name.as_str()).is_none() && state.channels.len() >= self.channels_max {
            return Err(SubscribeError::TooManyChannels { channels_max: self.channels_max });
        }
        let added = state.add(shard, name.as_str());
        state.gather_and_sort();
        self.publish_counts(state);
        Ok(added)
    }

    /// Subscribes the stream of a client, of `shard`, to the events for this client alone; once for a
    /// stream. It cannot have missed any of them so far.
    pub fn add_client(&self, shard: usize, client: ClientId) -> Added {
        self.lock().add(shard, &client_target(client))
    }

    /// Ends one subscription of a live stream that stays with other channels. It stays among the
    /// receivers of events that its shard has not taken yet, as with [`Hub::unsubscribe`].
    ///
    /// # Panics
    /// If no stream of the shard subscribes to the channel.
    pub fn remove(
        &self,
        shard: usize,
        channel: ChannelId,
        staying: &[ChannelId],
        had: impl Fn(ChannelId, Sequence) -> bool,
    ) {
        let mut counted = Sequence::START;
        let mut state = self.lock();
        while !state.count_leaver(shard, &[channel], staying, &had, &mut counted) {
            drop(state);
            self.yield_to_waiting();
            state = self.lock();
        }
        let state = &mut *state;
        state.end_subscription(shard, channel);
        state.tidy_table();
        self.publish_counts(state);
    }

    /// Finds the channel of a name, if it has subscribers or retained events, or the pattern of a text,
    /// if it has subscribers.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ChannelId> {
        self.lock().channels.find(name)
    }

    /// Returns the events whose clients have no target now, only the first event of each client.
    #[must_use]
    pub fn without_target(&self, events: impl IntoIterator<Item = Addressed>) -> Vec<Addressed> {
        let mut seen = HashSet::new();
        let mut firsts: Vec<Addressed> =
            events.into_iter().filter(|event| seen.insert(event.client)).collect();
        let targets: Vec<String> = firsts.iter().map(|event| client_target(event.client)).collect();
        let mut is_missing = Vec::with_capacity(firsts.len());
        for part in targets.chunks(NAMES_PER_HOLD_MAX) {
            let state = self.lock();
            is_missing.extend(part.iter().map(|target| state.find_client(target).is_none()));
        }
        let mut is_missing = is_missing.into_iter();
        firsts.retain(|_| is_missing.next().unwrap_or(false));
        firsts
    }

    /// Returns true if an event to this client can be applied now.
    #[must_use]
    pub fn has_target(&self, client: ClientId) -> bool {
        self.lock().find_client(&client_target(client)).is_some()
    }

    /// Returns the names of the channels among a stream's `targets`, in their order, and the user among
    /// them.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names(&self, targets: &[ChannelId]) -> (Vec<Arc<str>>, Option<Arc<str>>) {
        let state = self.lock();
        let (mut names, mut user) = (Vec::new(), None);
        for &id in targets {
            let name = state.channels.name(id);
            if is_channel(name) {
                names.push(Arc::from(name));
            } else if let Some(text) = user_of(name) {
                user = Some(Arc::from(text));
            }
        }
        (names, user)
    }
}

impl State {
    fn add(&mut self, shard: usize, name: &str) -> Added {
        let channel = self.enter_subscribed(name);
        let count = self.begin_subscription(shard, channel);
        Added { channel, count, at: self.epochs.head(), shard_cursor: self.cursors[shard] }
    }

    /// Returns the channel of a target, or `None` for a client that left: nothing is kept for it.
    pub(super) fn enter_target(&mut self, name: &str) -> Option<ChannelId> {
        if is_client(name) {
            return self.find_client(name);
        }
        Some(self.channels.enter(name))
    }

    /// Finds the channel of a live client. A client that left may still have its channel until every
    /// shard has taken its last event.
    fn find_client(&self, target: &str) -> Option<ChannelId> {
        self.channels.find(target).filter(|&id| self.channels.subscribers(id) > 0)
    }

    /// Removes one stream of a shard from a channel's subscribers.
    pub(super) fn end_subscription(&mut self, shard: usize, id: ChannelId) {
        self.end_subscriptions(shard, id, 1);
    }

    /// Gives up all retained events of a channel without subscribers, at once or as the budget allows. A
    /// shard that has not taken an event of it finds that the event concerns nobody.
    pub(super) fn give_up_events(&mut self, id: ChannelId) {
        let taken = self.taken_by_all();
        while !self.budget.is_spent_to(3) {
            let Some(sequence) = self.channels.evict_oldest(id) else { return self.idle.push(id) };
            self.history.release(sequence, taken);
            self.budget.spend(EVENT_STEPS);
        }
        self.leaving.push_back(id);
        self.is_unfinished = true;
    }

    /// Continues giving up the events of clients that left.
    pub(super) fn continue_giving_up_events(&mut self) {
        while !self.budget.is_spent_to(3)
            && let Some(id) = self.leaving.pop_front()
        {
            // The channel may have left the table meanwhile, and its place may be another channel's.
            if self.channels.is_left(id) {
                self.give_up_events(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;
    use crate::hub::SEGMENT_BYTES_MOST;
    use crate::hub::reading::TakeLimits;
    use crate::hub::reading::{Cursor, Slice, SliceLimits};
    use crate::hub::tests::{hub, publish, take_all};
    use crate::hub::{Begin, Receivers};
    use crate::record::Events;
    use crate::sse::event::Event;

    const CLIENT: ClientId = ClientId { secret: 7, node: NodeId::ALONE, shard: 0, slot: 3 };

    fn publish_to_client(hub: &Hub, data: &str) -> Receivers {
        let mut batch = Events::new();
        batch.push_to_client(CLIENT, 0, &Event::new(data));
        let applied = hub.apply(hub.head().next(), &batch, Some(0));
        take_all(hub);
        applied.receivers
    }

    #[test]
    fn events_to_one_client_are_kept_while_its_stream_lives_and_no_longer() {
        let hub = hub(100, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let mut subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let before = hub.counts();
        let addressed = |place| Addressed { place, client: CLIENT, part: 0 };
        assert_eq!(hub.without_target([addressed(4), addressed(9)]), [addressed(4)]);
        assert!(matches!(publish_to_client(&hub, "too early"), Receivers::Exactly(0)));

        let added = hub.add_client(0, CLIENT);
        subscribed.channels.push(added.channel);
        assert!(hub.without_target([addressed(4)]).is_empty() && hub.has_target(CLIENT));
        let mut cursor = Cursor::behind(Sequence(0), Some(0));
        for n in 0..3 {
            assert!(matches!(publish_to_client(&hub, &format!("{n}")), Receivers::Exactly(1)));
        }
        let mut slice = Slice::default();
        let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!(
            (slice.frames, slice.gap, cursor.seen),
            (3, None, Some(3)),
            "there was nothing for it before"
        );
        assert_eq!((hub.counts().channels, hub.subscribed().users), (before.channels, 0), "it is no channel");

        hub.unsubscribe(0, subscribed.channels, |_, _| true);
        assert!(matches!(publish_to_client(&hub, "too late"), Receivers::Exactly(0)));
        assert!(!hub.has_target(CLIENT));
        let state = hub.lock();
        let holders = state.history.pages().iter().flat_map(|page| &page.entries).map(|entry| entry.holders);
        assert_eq!(holders.sum::<u32>(), 0, "nothing of it is retained");
    }

    #[test]
    fn a_client_that_left_before_a_shard_took_its_events_holds_nothing_up() {
        let hub = hub(100, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let added = hub.add_client(0, CLIENT);
        let mut batch = Events::new();
        batch.push_to_client(CLIENT, 0, &Event::new("x"));
        batch.push(&["a"], &Event::new("y"));
        hub.apply(hub.head().next(), &batch, None);
        hub.unsubscribe(0, subscribed.channels.iter().copied().chain([added.channel]), |_, _| true);
        let mut runs = Vec::new();
        hub.take(0, TakeLimits { frames_max: 100, large_frames_max: 100, bytes_max: usize::MAX }, &mut runs);
        assert!(runs.is_empty() && hub.cursor(0) == hub.head());
        assert_eq!(hub.lock().channels.find(&client_target(CLIENT)), None);
    }

    #[test]
    fn a_client_that_left_over_its_bound_leaves_the_table() {
        let hub = hub(2, usize::MAX);
        let names = [Selector::parse("a").unwrap()];
        let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let added = hub.add_client(0, CLIENT);
        let mut batch = Events::new();
        (0..5).for_each(|part| batch.push_to_client(CLIENT, part, &Event::new("x")));
        hub.apply(hub.head().next(), &batch, None);
        assert!(hub.lock().channels.get(added.channel).is_over, "its shard has taken none of them");
        hub.unsubscribe(0, subscribed.channels.iter().copied().chain([added.channel]), |_, _| true);
        take_all(&hub);
        assert_eq!(hub.lock().channels.find(&client_target(CLIENT)), None);
    }

    #[test]
    fn many_clients_that_come_and_go_leave_nothing_behind() {
        let hub = hub(100, usize::MAX);
        let held_after = |rounds: u64| {
            for round in 0..rounds {
                let client = ClientId { secret: u128::from(round), node: NodeId::ALONE, shard: 0, slot: 0 };
                let names = [Selector::parse("a").unwrap()];
                let mut subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
                subscribed.channels.push(hub.add_client(0, client).channel);
                let mut batch = Events::new();
                batch.push_to_client(client, 0, &Event::new(&"x".repeat(1000)));
                hub.apply(hub.head().next(), &batch, None);
                hub.unsubscribe(0, subscribed.channels, |_, _| true);
                take_all(&hub);
            }
            hub.held_bytes()
        };
        let few = held_after(200);
        let many = held_after(2000);
        assert!(many <= few + 2 * SEGMENT_BYTES_MOST, "{few} bytes after 200 clients, {many} after 2200");
    }

    #[test]
    fn one_subscription_of_several_begins_and_ends_by_itself() {
        let hub = hub(100, usize::MAX);
        let selector = |text: &str| Selector::parse(text).unwrap();
        let subscribed = hub.subscribe(0, &[selector("a")], Some("ann"), Begin::AtHead).unwrap();
        publish(&hub, [("b".to_owned(), "1".to_owned())]);
        let added = hub.add(0, &selector("b")).unwrap();
        // The shard had passed over events that did not concern it.
        assert_eq!((added.count, added.at, added.shard_cursor), (1, Sequence(1), Sequence(1)));
        publish(&hub, [("a".to_owned(), "2".to_owned())]);
        let pattern = hub.add(0, &selector("b*")).unwrap();
        assert_eq!((pattern.at, pattern.shard_cursor), (Sequence(2), Sequence(1)));
        let mut targets = subscribed.channels.clone();
        targets.extend([added.channel, pattern.channel]);
        let (names, user) = hub.names(&targets);
        assert_eq!(
            (names.iter().map(|name| &**name).collect::<Vec<_>>(), user.as_deref()),
            (vec!["a", "b", "b*"], Some("ann"))
        );
        assert_eq!((hub.find("b"), hub.find("c")), (Some(added.channel), None));
        hub.remove(0, added.channel, &[], |_, _| true);
        assert_eq!((hub.subscribers("b"), hub.subscribers("b*"), hub.subscribers("a")), (0, 1, 1));
        hub.remove(0, pattern.channel, &[], |_, _| true);
        take_all(&hub);
        assert_eq!(hub.channels_len(), 2, "`b` has an event");
    }

    /// Reads the place of the next gap, and the number of the event after it.
    fn read_one(hub: &Hub, channels: &[ChannelId], cursor: &mut Cursor) -> (Option<u64>, u64) {
        let mut slice = Slice::default();
        hub.read(0, channels, cursor, SliceLimits { frames_max: 1, bytes_max: usize::MAX }, &mut slice);
        (slice.gap.map(|gap| gap.after.sequence.0), cursor.place.0)
    }

    fn publish_each(hub: &Hub, names: &[&str]) {
        publish(hub, names.iter().map(|&name| (name.to_owned(), "x".to_owned())));
        take_all(hub);
    }

    #[test]
    fn a_pattern_that_is_added_does_not_report_losses_of_its_channels_again() {
        let selector = |text: &str| Selector::parse(text).unwrap();
        let lose_present = |hub: &Hub| publish_each(hub, &["b", "b"]);
        let lose_former = |hub: &Hub| {
            publish_each(hub, &["former"]);
            hub.drop_history("former");
            take_all(hub);
            assert_eq!(hub.find("former"), None);
        };
        for lose_of_another in [&lose_present as &dyn Fn(&Hub), &lose_former] {
            let hub = hub(2, usize::MAX);
            let subscribed = hub.subscribe(0, &[selector("a"), selector("c")], None, Begin::AtHead).unwrap();
            let mut channels = subscribed.channels;
            let mut cursor = Cursor::behind(Sequence(0), None);
            publish_each(&hub, &["c", "a", "a", "c", "a", "a", "b"]);
            assert_eq!(read_one(&hub, &channels, &mut cursor), (Some(0), 1), "`a` has lost 2 and 3");
            channels.push(hub.add(0, &selector("*")).unwrap().channel);
            assert_eq!(read_one(&hub, &channels, &mut cursor.clone()), (None, 4));
            // A loss of another channel of the pattern is reported once.
            lose_of_another(&hub);
            assert_eq!(read_one(&hub, &channels, &mut cursor), (Some(1), 4));
            assert_eq!(read_one(&hub, &channels, &mut cursor), (None, 5));
        }
    }

    #[test]
    fn a_wider_pattern_that_is_added_does_not_report_losses_of_the_narrower_again() {
        let hub = hub(2, usize::MAX);
        let selector = |text: &str| Selector::parse(text).unwrap();
        let names = [selector("a*"), selector("c")];
        let mut channels = hub.subscribe(0, &names, None, Begin::AtHead).unwrap().channels;
        let mut cursor = Cursor::behind(Sequence(0), None);
        publish_each(&hub, &["c", "a1", "a1", "c", "a1", "a1", "b"]);
        assert_eq!(read_one(&hub, &channels, &mut cursor), (Some(0), 1), "`a1` has lost 2 and 3");
        channels.push(hub.add(0, &selector("*")).unwrap().channel);
        assert_eq!(read_one(&hub, &channels, &mut cursor.clone()), (None, 4));
        // When the narrower pattern is removed, the wider one knows what was reported.
        let mut notified = cursor.clone();
        let mut slice = Slice::default();
        hub.read(
            0,
            &channels,
            &mut notified,
            SliceLimits { frames_max: 0, bytes_max: usize::MAX },
            &mut slice,
        );
        let narrower = channels.remove(0);
        notified.part(narrower);
        hub.remove(0, narrower, &channels, |_, _| true);
        assert_eq!(read_one(&hub, &channels, &mut notified.clone()), (None, 4));
        publish_each(&hub, &["b", "b"]);
        assert_eq!(read_one(&hub, &channels, &mut notified), (Some(1), 4), "`b` has lost 7");
    }

    #[test]
    fn a_channel_that_is_added_does_not_report_losses_of_its_pattern_again() {
        let hub = hub(2, usize::MAX);
        let selector = |text: &str| Selector::parse(text).unwrap();
        let mut channels = hub.subscribe(0, &[selector("*")], None, Begin::AtHead).unwrap().channels;
        let mut cursor = Cursor::behind(Sequence(0), None);
        publish_each(&hub, &["b", "b", "a", "a", "a", "a"]);
        assert_eq!(read_one(&hub, &channels, &mut cursor), (Some(0), 1), "`a` has lost 3 and 4");
        // The pattern's later loss lies at the cursor's place, not after it.
        publish_each(&hub, &["b"]);
        for text in ["a*", "a"] {
            channels.push(hub.add(0, &selector(text)).unwrap().channel);
            assert_eq!(read_one(&hub, &channels, &mut cursor.clone()), (None, 2), "{text}");
        }
        publish_each(&hub, &["b"]);
        assert_eq!(read_one(&hub, &channels, &mut cursor), (Some(1), 5), "`b` has lost 2");
    }

    #[test]
    fn a_channel_in_the_place_of_a_client_that_left_keeps_its_events() {
        let hub = hub(100, usize::MAX);
        publish(&hub, [("a".to_owned(), "1".to_owned())]);
        let living = hub.add_client(0, CLIENT).channel;
        publish_to_client(&hub, "2");
        let named = hub.find("a").unwrap();
        for id in [named, living, ChannelId(7)] {
            hub.lock().leaving.push_back(id); // As if a client that left had used this id.
        }
        hub.lock().enforce_retention();
        let state = hub.lock();
        assert!(state.leaving.is_empty());
        assert_eq!([named, living].map(|id| state.channels.get(id).retained.len()), [1, 1]);
    }
}
