//! The ids that publishers gave their events, and the place to which a client resumes that names one.
//!
//! An id is known for each channel of its event, until as many events have come to the channel as would
//! have driven the event out, whatever became of it meanwhile. So an id is known by the channel's name,
//! and outlives the channel's entry in the table. Texts are compared whole: no id is ever taken for
//! another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::heap::shared_text_bytes;
use crate::base::id::Sequence;
use crate::base::queue::Queue;
use crate::hub::budget::{Budget, NAME_STEPS};
use crate::hub::channels::forgotten::beginning_with;
use crate::record::targets::is_channel;

/// The ids of all channels.
#[derive(Debug, Default)]
pub(in crate::hub) struct OwnIds {
    by_channel: BTreeMap<Arc<str>, ChannelIds>,
    /// Each channel's oldest id, by the place of its event.
    oldest: BTreeSet<(Sequence, Arc<str>)>,
    /// Channels with ids that are passed and not forgotten yet.
    unfinished: Queue<Arc<str>>,
    /// The bytes held, by its own estimate.
    bytes: usize,
}

/// The ids of one channel.
#[derive(Debug, Default)]
struct ChannelIds {
    /// The number of events since the channel has ids.
    events: u64,
    /// Its ids, in the order of their events.
    ids: Queue<OwnId>,
    /// The number of ids removed from the front of `ids`.
    forgotten: u64,
    /// The number of ids that no longer name a place, both removed and still in `ids`.
    passed: u64,
    by_text: BTreeMap<Arc<str>, Uses>,
}

/// One use of an id.
#[derive(Debug)]
struct OwnId {
    text: Arc<str>,
    sequence: Sequence,
    /// The count of the channel's events when it came, as in [`ChannelIds::events`].
    nth: u64,
    /// The next use of the same text, as a place in the order of ids, if there is one.
    next: Option<u64>,
}

/// The first and the last use of an id, as places in the order of the channel's ids.
#[derive(Clone, Copy, Debug)]
struct Uses {
    first: u64,
    last: u64,
}

/// The cost of a channel beside its name in bytes: its entries in both orders, and its maps.
const CHANNEL_BYTES: usize =
    size_of::<(Arc<str>, ChannelIds)>() * 2 + size_of::<(Sequence, Arc<str>)>() * 2 + 128;

/// The cost of an id beside its text in bytes: itself, an entry in the map of texts, and the text's
/// allocation.
const ID_BYTES: usize = size_of::<OwnId>() * 2 + size_of::<(Arc<str>, Uses)>() * 2 + 32;

impl OwnIds {
    /// Returns true if no channel has ids.
    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.by_channel.is_empty()
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the place of the event with the oldest known id.
    pub(in crate::hub) fn oldest(&self) -> Option<Sequence> {
        self.oldest.first().map(|&(sequence, _)| sequence)
    }

    /// Notes an event of a channel, with its publisher's id if it has one.
    pub(super) fn note_event(&mut self, channel: &str, sequence: Sequence, id: Option<&str>) {
        let Some(text) = id else {
            if let Some(ids) = self.by_channel.get_mut(channel) {
                ids.events += 1;
            }
            return;
        };
        let ids = match self.by_channel.get_mut(channel) {
            Some(ids) => ids,
            None => {
                let channel: Arc<str> = channel.into();
                self.bytes += CHANNEL_BYTES + shared_text_bytes(channel.len());
                self.oldest.insert((sequence, Arc::clone(&channel)));
                self.by_channel.entry(channel).or_default()
            }
        };
        ids.events += 1;
        self.bytes += ID_BYTES + text.len();
        ids.push(text, sequence);
    }

    /// Forgets the ids of a channel whose events were followed by `events_max` further events. Ids from
    /// the place `retained_from` on stay, since the channel still retains its events from there. The ids
    /// name no place from now on; if the budget does not suffice, they are removed later.
    pub(super) fn forget_passed(
        &mut self,
        channel: &str,
        events_max: usize,
        retained_from: Option<Sequence>,
        budget: &Budget,
    ) {
        let Some(ids) = self.by_channel.get_mut(channel) else { return };
        let events = ids.events;
        let is_passed = |id: &OwnId| {
            events - id.nth >= events_max as u64 && retained_from.is_none_or(|from| from > id.sequence)
        };
        if !ids.ids.get(0).is_some_and(is_passed) {
            return; // This is nearly always so.
        }
        let was_finished = ids.passed <= ids.forgotten;
        ids.passed = ids.forgotten + ids.ids.partition_point(is_passed) as u64;
        let Some((channel, _)) = self.by_channel.get_key_value(channel) else { return };
        let channel = Arc::clone(channel);
        if was_finished && !self.give_up_passed(&channel, budget) {
            self.unfinished.push_back(channel);
        }
    }

    /// Removes ids of a channel that no longer name a place. Returns true if none is left.
    fn give_up_passed(&mut self, channel: &Arc<str>, budget: &Budget) -> bool {
        while self.by_channel.get(channel).is_some_and(|ids| ids.forgotten < ids.passed) {
            if budget.is_spent_to(3) {
                return false;
            }
            budget.spend(NAME_STEPS);
            self.forget_first(channel);
        }
        true
    }

    /// Continues removing ids that no longer name a place, as the budget allows.
    pub(super) fn continue_giving_up(&mut self, budget: &Budget) {
        while !budget.is_spent_to(3)
            && let Some(channel) = self.unfinished.pop_front()
        {
            if !self.give_up_passed(&channel, budget) {
                self.unfinished.push_back(channel);
            }
        }
    }

    /// Forgets the oldest id of all channels. Returns false if there is none.
    pub(in crate::hub) fn forget_oldest(&mut self) -> bool {
        let Some((_, channel)) = self.oldest.first().cloned() else { return false };
        self.forget_first(&channel);
        true
    }

    /// Returns the place of the earliest event with this id on the channel.
    pub(in crate::hub) fn place_on(&self, channel: &str, text: &str) -> Option<Sequence> {
        self.by_channel.get(channel)?.place_of(text)
    }

    /// Looks at up to `names_max` channels whose names begin with `prefix` and come after `after`.
    /// Returns the place of the earliest event with this id up to `until`, and the last name it looked
    /// at if there may be more names.
    pub(in crate::hub) fn place_on_any(
        &self,
        prefix: &str,
        after: Option<&str>,
        text: &str,
        until: Sequence,
        names_max: usize,
    ) -> (Option<Sequence>, Option<Arc<str>>) {
        let (mut least, mut looked_at) = (None, 0);
        for (name, ids) in beginning_with(&self.by_channel, prefix, after) {
            looked_at += 1;
            let place = ids.place_of(text).filter(|&place| is_channel(name) && place <= until);
            least = least.into_iter().chain(place).min();
            if looked_at == names_max {
                return (least, Some(Arc::clone(name)));
            }
        }
        (least, None)
    }

    fn forget_first(&mut self, channel: &Arc<str>) {
        let Some(ids) = self.by_channel.get_mut(channel) else { return };
        let Some(id) = ids.pop() else { return };
        self.bytes -= ID_BYTES + id.text.len();
        self.oldest.remove(&(id.sequence, Arc::clone(channel)));
        if let Some(next) = ids.ids.get(0) {
            self.oldest.insert((next.sequence, Arc::clone(channel)));
        } else {
            self.by_channel.remove(channel);
            self.bytes -= CHANNEL_BYTES + shared_text_bytes(channel.len());
        }
    }
}

impl ChannelIds {
    fn push(&mut self, text: &str, sequence: Sequence) {
        let place = self.forgotten + self.ids.len() as u64;
        let text = match self.by_text.get_mut(text) {
            Some(uses) => {
                let before = std::mem::replace(&mut uses.last, place);
                let index = usize::try_from(before - self.forgotten).expect("it is one of the ids");
                let last = self.ids.get_mut(index).expect("it is one of the ids");
                last.next = Some(place);
                Arc::clone(&last.text)
            }
            None => {
                let text: Arc<str> = text.into();
                self.by_text.insert(Arc::clone(&text), Uses { first: place, last: place });
                text
            }
        };
        self.ids.push_back(OwnId { text, sequence, nth: self.events, next: None });
    }

    fn pop(&mut self) -> Option<OwnId> {
        let id = self.ids.pop_front()?;
        self.forgotten += 1;
        match id.next {
            Some(next) => {
                if let Some(uses) = self.by_text.get_mut(&id.text) {
                    uses.first = next;
                }
            }
            None => drop(self.by_text.remove(&id.text)),
        }
        Some(id)
    }

    fn place_of(&self, text: &str) -> Option<Sequence> {
        let mut place = self.by_text.get(text)?.first;
        loop {
            let id = self.ids.get(usize::try_from(place - self.forgotten).ok()?)?;
            if place >= self.passed {
                return Some(id.sequence);
            }
            place = id.next?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Selector;
    use crate::hub::RETENTION_BYTES_MIN;
    use crate::hub::tests::{hub, take_all};
    use crate::hub::{Begin, Begun, Hub};
    use crate::record::Events;
    use crate::record::targets::{TARGET_ALL, user_target};
    use crate::sse::event::Event;

    fn publish(hub: &Hub, targets: &[&str], id: Option<&str>, data: &str) {
        let event = Event::new(data);
        let mut batch = Events::new();
        batch.push(targets, &id.map_or(Ok(event), |id| event.with_id(id)).unwrap());
        hub.apply(hub.head().next(), &batch, None);
        take_all(hub);
    }

    /// The place where a stream begins that names an id, or `None` if the id is unknown.
    fn place(hub: &Hub, selectors: &[&str], user: Option<&str>, id: &str) -> Option<u64> {
        let names: Vec<_> = selectors.iter().map(|text| Selector::parse(text).unwrap()).collect();
        let subscribed = hub.subscribe(0, &names, user, Begin::AfterOwn(id.into())).unwrap();
        hub.unsubscribe(0, subscribed.channels, |_, _| true);
        match subscribed.begun {
            Begun::After(cursor) => Some(cursor.place.0),
            Begun::Unknown(_) => None,
            Begun::AtHead(_) => panic!("an id was named"),
        }
    }

    #[test]
    fn an_id_is_looked_up_among_the_events_that_the_stream_would_receive() {
        let hub = hub(10, usize::MAX);
        let user = user_target("ann");
        for targets in [&["a"][..], &["chat/1", "b"], &["a"], &[&user], &[TARGET_ALL], &["chat/2"]] {
            publish(&hub, targets, Some("mine"), "x");
        }
        for (selectors, user, expected) in [
            (&["a"][..], None, 1),
            (&["b"], None, 2),
            (&["chat/2"], None, 5),
            (&["chat/*"], None, 2),
            (&["chat/2", "b"], None, 2),
            (&["*"], None, 1),
            (&["c"], Some("ann"), 4),
            (&["c"], Some("bob"), 5),
            (&["none*"], None, 5),
        ] {
            assert_eq!(place(&hub, selectors, user, "mine"), Some(expected), "{selectors:?} of {user:?}");
            assert_eq!(place(&hub, selectors, user, "min"), None);
        }
    }

    #[test]
    fn an_id_is_known_until_as_many_events_came_as_the_channel_keeps() {
        let hub = hub(3, usize::MAX);
        publish(&hub, &["a", "b"], Some("mine"), "1");
        publish(&hub, &["a"], Some("mine"), "2");
        publish(&hub, &["a"], None, "3");
        assert_eq!(place(&hub, &["a"], None, "mine"), Some(1));
        publish(&hub, &["a"], None, "4");
        assert_eq!(place(&hub, &["a"], None, "mine"), Some(2), "the next use of it");
        publish(&hub, &["a"], None, "5");
        assert_eq!(place(&hub, &["a"], None, "mine"), None);
        assert_eq!(place(&hub, &["a", "b"], None, "mine"), Some(1), "the other channel has had no more");
        (0..3).for_each(|_| publish(&hub, &["b"], None, "x"));
        assert_eq!(place(&hub, &["a", "b"], None, "mine"), None);
        assert_eq!(hub.lock().own_ids.bytes(), 0);
    }

    #[test]
    fn an_id_outlives_its_event_and_its_channels_entry() {
        let hub = hub(1000, RETENTION_BYTES_MIN);
        publish(&hub, &["quiet"], Some("mine"), "x");
        (0..1000).for_each(|_| publish(&hub, &["busy"], None, &"b".repeat(4000)));
        assert_eq!(hub.channels_len(), 1, "the quiet channel is gone");
        assert_eq!(place(&hub, &["quiet"], None, "mine"), Some(1));
        (0..999).for_each(|_| publish(&hub, &["quiet"], None, "x"));
        assert_eq!(place(&hub, &["quiet"], None, "mine"), Some(1));
        publish(&hub, &["quiet"], None, "x");
        assert_eq!(place(&hub, &["quiet"], None, "mine"), None);
    }

    #[test]
    fn ids_of_channels_that_are_gone_hold_no_more_than_their_share() {
        let bytes_max = 2 * RETENTION_BYTES_MIN;
        let hub = hub(10, bytes_max);
        for n in 0..20_000 {
            publish(&hub, &[&format!("once:{n}")], Some(&format!("id of {n}")), &"x".repeat(300));
        }
        let held = hub.lock().own_ids.bytes();
        assert!(hub.held_bytes() <= bytes_max, "{} bytes are held", hub.held_bytes());
        assert!(held > bytes_max / 5 && held < bytes_max * 3 / 5, "ids hold {held} bytes of {bytes_max}");
        let is_known = |n: u64| place(&hub, &[&format!("once:{n}")], None, &format!("id of {n}")).is_some();
        let known = (0..20_000).map(is_known).collect::<Vec<_>>();
        let first = known.iter().position(|&is_known| is_known).unwrap();
        assert!(known[first..].iter().all(|&is_known| is_known), "the oldest ids went first");
        let first_page = hub.lock().history.first().unwrap();
        assert!(first as u64 <= first_page.0, "ids of retained events stay");
    }

    #[test]
    fn an_id_that_is_used_for_every_event_names_the_earliest_one() {
        let mut ids = OwnIds::default();
        let channel: Arc<str> = "a".into();
        for number in 1..=1000 {
            ids.note_event(&channel, Sequence(number), Some("same"));
            ids.forget_passed(
                &channel,
                100,
                Some(Sequence(number.saturating_sub(99).max(1))),
                &Budget::new(1024),
            );
            let expected = number.saturating_sub(99).max(1);
            assert_eq!(ids.place_on("a", "same"), Some(Sequence(expected)));
        }
        assert_eq!(ids.oldest(), Some(Sequence(901)));
        while ids.forget_oldest() {}
        assert_eq!((ids.bytes(), ids.by_channel.len(), ids.oldest.len()), (0, 0, 0));
    }

    #[test]
    fn ids_that_are_passed_name_no_place_and_are_given_up_in_parts() {
        let mut ids = OwnIds::default();
        for number in 1..=1000 {
            // Each is used twice: once in the first half and once in the second.
            ids.note_event("a", Sequence(number), Some(&format!("{}", number % 500)));
            ids.forget_passed("a", 100, Some(Sequence(1)), &Budget::new(64));
        }
        assert_eq!((ids.place_on("a", "7"), ids.oldest()), (Some(Sequence(7)), Some(Sequence(1))));
        ids.forget_passed("a", 100, Some(Sequence(901)), &Budget::new(64));
        let held = ids.bytes();
        assert_eq!(
            [7, 400, 401].map(|n| ids.place_on("a", &n.to_string()).map(|place| place.0)),
            [None, None, Some(901)]
        );
        assert!(ids.oldest() < Some(Sequence(20)), "most of them are yet to be given up");
        let mut holds = 0;
        while !ids.unfinished.is_empty() {
            ids.continue_giving_up(&Budget::new(64));
            holds += 1;
        }
        assert!(holds > 200 && ids.bytes() < held / 5, "{holds} holds");
        assert_eq!((ids.oldest(), ids.place_on("a", "499")), (Some(Sequence(901)), Some(Sequence(999))));
    }
}
