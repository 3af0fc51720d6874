//! What the hub reports to operators: how much it holds, and who subscribes to what.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::base::id::Sequence;
use crate::hub::budget::{CHANNEL_STEPS, steps};
use crate::hub::channels::table::Channels;
use crate::hub::{ChannelId, Hub};
use crate::record::targets::{is_channel, user_of};

/// The number of places of the channel table looked at under one hold of the lock: the names among them
/// are copied.
const PLACES_PER_LOOK_MAX: usize = 128;

/// How much went through the hub, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// The number of applied events.
    pub events: u64,
    /// The bytes that the history holds: segments, entries, names.
    pub held_bytes: usize,
    /// The number of channels with subscribers or retained events.
    pub channels: usize,
}

/// The counts of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Its name.
    pub name: Arc<str>,
    /// The streams of all shards that subscribe to it.
    pub subscribers: u32,
    /// Its events that a stream can still read.
    pub retained: usize,
}

/// A page of the channels with subscribers or retained events, ordered by the bytes of their names,
/// without patterns. A stream that has a channel only by a pattern does not count as its subscriber
/// here.
///
/// The table is searched in parts ([`Hub::look_for_page`]), so channels that come and go meanwhile may
/// be missing. At most one name more than the page has is held meanwhile.
#[derive(Debug)]
pub struct ChannelPage {
    /// The prefix of the names.
    prefix: Box<str>,
    /// The page begins after this name.
    after: Option<Box<str>>,
    len_max: usize,
    /// The next place of the table to look at.
    place: usize,
    found: BTreeMap<Arc<str>, (u32, usize)>,
}

impl ChannelPage {
    /// Creates a page of the first `len_max` channels after `after` whose names begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &str, after: Option<&str>, len_max: usize) -> ChannelPage {
        let (prefix, after) = (prefix.into(), after.map(Box::from));
        ChannelPage { prefix, after, len_max, place: 0, found: BTreeMap::new() }
    }

    /// Returns the channels found, and whether more come after them.
    #[must_use]
    pub fn into_channels(mut self) -> (Vec<ChannelCounts>, bool) {
        let has_more = self.found.len() > self.len_max;
        if has_more {
            self.found.pop_last();
        }
        let counts = |(name, (subscribers, retained))| ChannelCounts { name, subscribers, retained };
        (self.found.into_iter().map(counts).collect(), has_more)
    }

    fn offer(&mut self, channels: &Channels, id: ChannelId) {
        let name = channels.name(id);
        let is_behind = self.after.as_ref().is_none_or(|after| name > &**after);
        if !is_behind
            || !name.starts_with(&*self.prefix)
            || !is_channel(name)
            || channels.prefix(id).is_some()
        {
            return;
        }
        let is_full = self.found.len() > self.len_max;
        if is_full && self.found.range::<str, _>((Excluded(name), Unbounded)).next().is_none() {
            return; // It comes after the page.
        }
        let (subscribers, retained) = (channels.subscribers(id), channels.get(id).readable().len());
        if subscribers == 0 && retained == 0 {
            return;
        }
        self.found.insert(Arc::from(name), (subscribers, retained));
        if self.found.len() > self.len_max + 1 {
            self.found.pop_last();
        }
    }
}

/// Who subscribes to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// The channels with subscribers, in no particular order, each with its streams in all shards.
    pub channels: Vec<(Arc<str>, u32)>,
    /// The number of users with streams.
    pub users: u64,
}

impl Hub {
    /// Returns how much went through the hub, and how much it holds.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts { events: state.applied, held_bytes: state.held_bytes(), channels: state.channels.len() }
    }

    /// Returns the channels and users with subscribers. The lock is taken for one part of the table at a
    /// time, so names that come and go meanwhile may be missing.
    #[must_use]
    pub fn subscribed(&self) -> Subscribed {
        let mut subscribed = Subscribed::default();
        let mut from = Some(0);
        while let Some(place) = from {
            subscribed.channels.reserve(PLACES_PER_LOOK_MAX); // Grows outside the lock: a list that grows is moved.
            let state = self.lock();
            let (channels, next) = state.channels.part(place, PLACES_PER_LOOK_MAX);
            state.budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK_MAX));
            for id in channels {
                let (name, subscribers) = (state.channels.name(id), state.channels.subscribers(id));
                if subscribers > 0 && is_channel(name) {
                    state.budget.spend(CHANNEL_STEPS);
                    subscribed.channels.push((Arc::from(name), subscribers));
                } else if subscribers > 0 && user_of(name).is_some() {
                    subscribed.users += 1;
                }
            }
            from = next;
        }
        subscribed
    }

    /// Looks for the channels of a page in one more part of the table. Returns true if that was the last
    /// part.
    pub fn look_for_page(&self, page: &mut ChannelPage) -> bool {
        let state = self.lock();
        let (channels, next) = state.channels.part(page.place, PLACES_PER_LOOK_MAX);
        state.budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK_MAX));
        for id in channels {
            page.offer(&state.channels, id);
        }
        page.place = next.unwrap_or(usize::MAX);
        next.is_none()
    }

    /// Returns the names of the channels among `targets`, and the number of retained events after
    /// `place` of all targets together, including those that patterns match. If the patterns match too
    /// many channels to merge, one hold of the lock looks at as many events of the order as its budget
    /// allows, and counts every event beyond those.
    ///
    /// # Panics
    /// If nobody subscribes to one of them.
    #[must_use]
    pub fn names_and_lag(&self, targets: &[ChannelId], place: Sequence) -> (Vec<Arc<str>>, usize) {
        let state = self.lock();
        state.budget.spend(CHANNEL_STEPS * 2 * steps(targets.len()));
        let names = targets.iter().map(|&id| state.channels.name(id)).filter(|name| is_channel(name));
        let names = names.map(Arc::from).collect();
        let lag = match state.merged(targets) {
            Some(merged) => {
                state.budget.spend(CHANNEL_STEPS * 2 * steps(merged.len()));
                let ledgers = merged.iter().map(|&id| state.channels.get(id));
                ledgers.map(|ledger| ledger.retained.len() - ledger.index_after(place)).sum()
            }
            None => state.count_walked(targets, place),
        };
        (names, lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Selector;
    use crate::hub::tests::{hub, publish, publish_to};
    use crate::hub::{Begin, HOLD_STEPS};
    use crate::record::targets::{TARGET_ALL, user_target};

    /// The pages of `len_max` names, and how many parts of the table were looked at for the first page.
    fn pages(hub: &Hub, prefix: &str, len_max: usize) -> (Vec<Vec<ChannelCounts>>, usize) {
        let (mut pages, mut after, mut parts) = (Vec::new(), None, 0);
        loop {
            let mut page = ChannelPage::new(prefix, after.as_deref(), len_max);
            while !hub.look_for_page(&mut page) {
                assert!(page.found.len() <= len_max + 1, "it holds no more than it needs");
                parts += usize::from(pages.is_empty());
            }
            let (channels, has_more) = page.into_channels();
            after = channels.last().map(|channel| channel.name.to_string());
            pages.push(channels);
            if !has_more {
                return (pages, parts + 1);
            }
        }
    }

    #[test]
    fn the_lag_of_a_pattern_is_the_same_whether_it_is_merged_or_walked() {
        for (channels, len) in [(3_u64, 3), (100, 100)] {
            let hub = hub(1000, usize::MAX);
            let names = ["x*", "b"].map(|name| Selector::parse(name).unwrap());
            let ids = hub.subscribe(0, &names, None, Begin::AtHead).unwrap().channels;
            for n in 0..channels {
                publish_to(&hub, &format!("x{n}"), "x");
                publish_to(&hub, "other", "x");
            }
            publish_to(&hub, "b", "x");
            let lag = |place| hub.names_and_lag(&ids, Sequence(place)).1;
            assert_eq!([0, 2, 2 * channels].map(lag), [len + 1, len, 1]);
            assert_eq!(lag(2 * channels + 1), 0);
            if channels == 100 {
                let bounded = |most: u32| {
                    let state = hub.lock();
                    state.budget.spend(HOLD_STEPS - most);
                    state.count_walked(&ids, Sequence(0))
                };
                assert_eq!([201, 200, 2].map(bounded), [101, 101, 1 + 199], "what lies beyond counts");
            }
        }
    }

    #[test]
    fn channels_are_listed_by_name_with_their_counts() {
        let hub = hub(100, usize::MAX);
        for channel in ["b", "a", TARGET_ALL, user_target("ann").as_str(), "b"] {
            publish_to(&hub, channel, "x");
        }
        let names = ["a", "c", "b*"].map(|name| Selector::parse(name).unwrap());
        hub.subscribe(0, &names, Some("ann"), Begin::AtHead).unwrap();
        let (pages, _) = pages(&hub, "", 10);
        let listed =
            |channel: &ChannelCounts| (channel.name.to_string(), channel.subscribers, channel.retained);
        let listed: Vec<_> = pages.iter().flatten().map(listed).collect();
        let expected = [("a", 1, 1), ("b", 0, 2), ("c", 1, 0)];
        assert_eq!(
            listed,
            expected.map(|(name, subscribers, retained)| (name.to_owned(), subscribers, retained))
        );
    }

    #[test]
    fn pages_of_channels_are_the_sorted_list_of_all_cut_up() {
        let hub = hub(100, usize::MAX);
        let name = |n: usize| format!("{}{n}", ["room:", "Raum:", "größe/", "room"][n % 4]);
        publish(&hub, (0..3000).map(|n| (name(n * 7919 % 3000), "x".to_owned())));
        for prefix in ["", "room", "room:", "gr", "none", "Raum:2"] {
            let mut expected: Vec<String> =
                (0..3000).map(name).filter(|name| name.starts_with(prefix)).collect();
            expected.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
            for len_max in [1, 7, 750, 3000] {
                if len_max == 1 && expected.len() > 100 {
                    continue; // So many pages of one show nothing more.
                }
                let (pages, parts) = pages(&hub, prefix, len_max);
                assert!(parts >= 3000 / PLACES_PER_LOOK_MAX, "{parts} parts of the table");
                let (last, full) = pages.split_last().unwrap();
                assert!(full.iter().all(|page| page.len() == len_max) && last.len() <= len_max);
                assert_eq!(last.is_empty(), expected.is_empty(), "a page that follows has something");
                let names: Vec<&str> = pages.iter().flatten().map(|channel| &*channel.name).collect();
                assert_eq!(names, expected, "{prefix:?} by {len_max}");
            }
        }
    }
}
