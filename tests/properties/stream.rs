//! A stream of the model: where it is, and which losses were reported to it.

use std::collections::{BTreeSet, VecDeque};

use downpour::base::id::Sequence;
use downpour::base::name::Selector;
use downpour::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use downpour::hub::{Begin, Begun, ChannelId, SubscribeError};

use crate::records::{EVERYBODY, NAMES, USERS, is_named, selector_text, targets_of};
use crate::reported::Reported;
use crate::retained::Step;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) shard: usize,
    /// The channels and patterns that it names, behind them its user and its client, if it has them, and then all.
    pub(crate) selectors: Vec<usize>,
    /// The last event before it had each of them.
    pub(crate) had_from: Vec<u64>,
    /// What the hub knows them by, but for the last.
    pub(crate) ids: Vec<ChannelId>,
    /// Those that it has only from places that it has not reached, and these places, in order.
    pub(crate) joins: VecDeque<(usize, u64)>,
    /// It has other channels than when it began.
    pub(crate) has_changed: bool,
    pub(crate) is_live: bool,
    pub(crate) cursor: Cursor,
    place: u64,
    /// The last event before it subscribed. It is not live before its shard has taken that.
    pub(crate) subscribed_at: u64,
    pub(crate) reported: Reported,
    /// Slices in a row that got nowhere, as a hold of the lock had too few steps.
    fruitless: usize,
}

/// Slices that may get nowhere in a row, where a hold has fewer steps than by default.
const FRUITLESS_MAX: usize = 1000;

impl Stream {
    /// Everything up to here was delivered, or reported as lost.
    pub(crate) fn place(&self) -> u64 {
        self.place
    }

    /// Returns true if and only if it has one of these.
    pub(crate) fn has_any(&self, selectors: &[usize]) -> bool {
        self.selectors.iter().any(|selector| selectors.contains(selector))
    }

    /// Returns true if and only if it has one of these, and had that when event `number` was applied.
    pub(crate) fn had_any(&self, selectors: &[usize], number: u64) -> bool {
        let mut had = self.selectors.iter().zip(&self.had_from);
        had.any(|(selector, &from)| selectors.contains(selector) && from < number)
    }

    /// When it was given what has this id: events behind that one it had.
    pub(crate) fn had_from(&self, id: ChannelId) -> u64 {
        let index = self.ids.iter().position(|&known| known == id);
        index.map_or(self.subscribed_at, |index| self.had_from[index])
    }

    /// Returns true if and only if it has this only from a place that it has not reached.
    pub(crate) fn has_yet_to_join(&self, selector: usize) -> bool {
        self.joins.iter().any(|join| join.0 == selector)
    }

    /// What it has at its place.
    pub(crate) fn selectors_now(&self) -> Vec<usize> {
        self.selectors.iter().copied().filter(|&selector| !self.has_yet_to_join(selector)).collect()
    }

    /// What the hub knows that by, but for the last.
    fn ids_now(&self) -> Vec<ChannelId> {
        let named = self.selectors.iter().zip(&self.ids);
        named.filter(|(selector, _)| !self.has_yet_to_join(**selector)).map(|(_, &id)| id).collect()
    }

    /// Has it from now on whatever it has from its place on, and stops it before the next.
    pub(crate) fn join(&mut self) {
        while self.joins.front().is_some_and(|join| self.place >= join.1) {
            self.joins.pop_front();
            self.has_changed = true;
            self.cursor.stop_counting(); // From here on events may reach it in two ways.
        }
        self.cursor.stop_at(self.joins.front().map(|join| Sequence(join.1)));
    }

    /// The targets that reach it.
    pub(crate) fn targets(&self) -> Vec<usize> {
        self.selectors_now().into_iter().flat_map(targets_of).collect()
    }

    /// What it is to read up to `end`.
    fn due(&self, world: &World, end: u64) -> Vec<u64> {
        let numbers = self.targets().into_iter().flat_map(|target| world.targets[target].retained());
        let numbers: BTreeSet<u64> = numbers.filter(|&number| number > self.place && number <= end).collect();
        numbers.into_iter().collect()
    }

    /// Returns true if and only if no event can reach it in two ways: it knows how many it has seen.
    pub(crate) fn is_counting(&self) -> bool {
        let mut named = self.selectors_now().into_iter().filter(|&selector| is_named(selector));
        let is_one = matches!((named.next(), named.next()), (Some(only), None) if only < NAMES.len());
        is_one && !self.has_changed
    }

    /// Its targets' events up to its place and, where `and_lost`, up to the last one that each has lost.
    fn count(&self, world: &World, and_lost: bool) -> Option<u64> {
        let count = |target: usize| {
            let target = &world.targets[target];
            let lost = target.lost().last().copied().filter(|_| and_lost).unwrap_or(0);
            target.count(self.place.max(lost))
        };
        self.is_counting().then(|| self.targets().into_iter().map(count).sum())
    }

    /// Returns true if and only if it may not be known how many of its events have lapsed after its place: they had before it was
    /// subscribed, or are very many.
    fn may_not_count_lapsed(&self, world: &World) -> bool {
        self.targets().into_iter().map(|target| &world.targets[target].lapsed).any(|lapsed| {
            lapsed.len() > 1024 || (lapsed.last() > Some(&self.place) && self.place < self.subscribed_at)
        })
    }

    /// A live stream is at its shard's cursor, which moves on where nothing concerns it.
    pub(crate) fn fall_behind(&mut self, world: &World, shard_cursor: u64) {
        self.meet(world, shard_cursor);
        self.cursor = Cursor::behind(Sequence(self.place), self.count(world, false));
        self.is_live = false;
    }

    /// What its shard took of its channels is delivered, also where that was dropped meanwhile.
    pub(crate) fn deliver_live(&mut self, world: &World, taken: &[u64], reached: u64) {
        let targets = self.targets();
        let concerns =
            |number: &u64| world.events[number].targets.iter().any(|target| targets.contains(target));
        let delivered: Vec<u64> =
            taken.iter().copied().filter(concerns).filter(|&number| number > self.place).collect();
        let numbers = targets.iter().flat_map(|&target| &world.targets[target].events);
        let due: BTreeSet<u64> =
            numbers.copied().filter(|&number| number > self.place && number <= reached).collect();
        assert_eq!(delivered, due.into_iter().collect::<Vec<_>>(), "what a live stream gets");
        self.place = reached;
    }

    /// Where a live stream is.
    pub(crate) fn meet(&mut self, world: &World, shard_cursor: u64) {
        assert!(self.place <= shard_cursor);
        assert!(self.due(world, shard_cursor).is_empty(), "a live stream has all up to its shard's cursor");
        self.place = shard_cursor;
    }

    /// Reads one slice and checks it against the model.
    pub(crate) fn read(&mut self, world: &mut World, limits: SliceLimits) {
        let end = world.cursors[self.shard];
        if self.is_live {
            return; // It gets what its shard takes.
        }
        let mut slice = Slice::default();
        let before = self.cursor.clone();
        world.hub.read(self.shard, &self.ids_now(), &mut self.cursor, limits, &mut slice);
        if self.place > end || world.is_waiting(self) {
            assert!(slice.gap.is_none() && slice.frames == 0 && slice.runs.is_empty() && !slice.is_live);
            assert_eq!(self.cursor, before, "its shard has yet to get there");
            self.join();
            return;
        }
        let is_empty = slice.gap.is_none() && slice.frames == 0 && !slice.is_live;
        let has_stopped = self.joins.front().is_some_and(|join| self.place >= join.1);
        if world.is_cut_up() && is_empty && self.cursor.place == before.place && !has_stopped {
            self.fruitless += 1;
            assert!(self.fruitless < FRUITLESS_MAX, "it gets on");
            return;
        }
        self.fruitless = 0;
        self.check_gap(world, &slice, before.seen.is_some());
        self.check_frames(world, &slice, limits, end);
        let (seen, count) = (self.cursor.seen, self.count(world, true));
        let is_known = seen == count || (seen.is_none() && self.may_not_count_lapsed(world));
        assert!(is_known, "{seen:?} of {count:?} events were seen");
        self.reported.pass(self.place);
        self.join();
        self.is_live &= self.joins.is_empty();
    }

    fn check_gap(&mut self, world: &World, slice: &Slice, counts: bool) {
        let lost = self.lost(world);
        let missing = self.missing(world, &lost);
        let is_due = self.must_report(world, &missing);
        let Some(gap) = slice.gap else {
            assert!(!is_due, "{lost:?} are lost and not reported: {self:?}");
            self.reported.take_in(lost, self.place);
            return;
        };
        let is_lost = self.must_report(world, &lost);
        let is_allowed = is_lost || world.may_overstate_losses() || self.may_report_too_much(world);
        assert!(is_allowed, "a gap is reported for {lost:?}: {self:?}");
        assert_eq!(gap.after, world.id_of(self.place));
        assert_eq!(world.place_of(gap.after), Some(self.place), "the id before a gap is known");
        let numbers: BTreeSet<u64> = lost.iter().map(|loss| loss.1).collect();
        if let Some(missed) = gap.missed {
            assert_eq!(missed, numbers.len() as u64, "{lost:?} are lost after {}", self.place);
        }
        let is_counted = gap.missed.is_some() || !counts || self.may_not_count_lapsed(world);
        assert!(is_counted || !self.is_counting(), "it is known how many are missing");
        self.reported.take_in(lost, self.place);
    }

    fn check_frames(&mut self, world: &mut World, slice: &Slice, limits: SliceLimits, end: u64) {
        // It reads no further than where it has more channels.
        let stop = self.joins.front().map_or(end, |join| join.1);
        let until = stop.min(end);
        let due = self.due(world, until);
        let (mut got, mut bytes) = (Vec::new(), 0);
        for run in &slice.runs {
            let numbers = world.identify(run.segment.bytes(run.from as usize, run.to as usize));
            assert_eq!(numbers.len(), run.frames as usize);
            bytes += (run.to - run.from) as usize;
            got.extend(numbers);
        }
        assert_eq!(got.len(), slice.frames as usize);
        assert_eq!(got, due[..got.len().min(due.len())], "what is retained after {} to {until}", self.place);
        let frames_max = limits.frames_max.min(SLICE_FRAMES_MAX) as usize;
        assert!(got.len() <= frames_max);
        assert!(bytes <= limits.bytes_max || got.len() == 1, "{bytes} bytes in {} frames", got.len());
        let is_read = got.len() == due.len();
        let has_all = is_read && stop == end;
        assert!(slice.is_live == has_all || world.is_cut_up() && has_all, "live if and only if all is read");
        let gets_on = is_read || !got.is_empty() || world.is_cut_up();
        assert!(gets_on, "it gets on");
        self.is_live = slice.is_live && end >= self.subscribed_at;
        // What has lapsed is passed over.
        let to = due.get(got.len()).map_or(until, |next| next - 1);
        let is_through = slice.is_live || is_read && !world.is_cut_up();
        let from = if is_through { until } else { got.last().copied().unwrap_or(self.place) };
        self.place = self.cursor.place.0;
        assert!((from..=to).contains(&self.place), "its place {} is not in {from} to {to}", self.place);
    }
}

/// So many events are looked through in one hold of the lock for a stream that asks for the last ones.
const SOUGHT_AT_ONCE: usize = 200;

impl World {
    /// Returns true if and only if of the channels' events that can be read the last `count` lie behind `place`, and no others.
    fn begins_before_last(&self, count: usize, named: &[usize], place: u64) -> bool {
        let channels = named.iter().flat_map(|&selector| targets_of(selector));
        let retained: BTreeSet<u64> = channels.flat_map(|channel| self.targets[channel].retained()).collect();
        retained.range(place + 1..).count() == count.min(retained.len())
    }

    /// Takes in what the hub has counted of each target that a stream was given, up to its shard's cursor, and checks it.
    pub(crate) fn check_counts(&mut self, selectors: &[usize], counts: &[u64], shard_cursor: u64) {
        assert_eq!(selectors.len(), counts.len());
        for (&selector, &counted) in selectors.iter().zip(counts) {
            let Some(target) = self.targets.get_mut(selector) else {
                assert_eq!(counted, 0, "a pattern has no events of its own");
                continue;
            };
            target.note_count(counted, shard_cursor);
            assert_eq!(counted, target.count(shard_cursor), "events up to the shard's cursor");
        }
    }

    /// Subscribes a stream where the hub takes it, and checks where it begins.
    pub(crate) fn subscribe(&mut self, shard: usize, named: &[usize], user: Option<usize>, begin: Begin) {
        let names: Vec<Selector> = named
            .iter()
            .map(|&selector| Selector::parse(&selector_text(selector)).expect("it is a name"))
            .collect();
        let channels_max = self.options.channels_max;
        let result = self.hub.subscribe(shard, &names, user.map(|user| USERS[user]), begin.clone());
        let user = user.map(|user| NAMES.len() + user);
        let selectors: Vec<usize> = named.iter().copied().chain(user).chain([EVERYBODY]).collect();
        if self.enter(&selectors).is_none() {
            assert_eq!(result.err(), Some(SubscribeError::TooManyChannels { channels_max }));
            return;
        }
        let subscribed = result.expect("the channels are not too many");
        let shard_cursor = self.cursors[shard];
        assert_eq!(subscribed.shard_cursor.0, shard_cursor);
        assert_eq!(subscribed.id, self.id_of(self.head()));
        let counts = [&subscribed.counts[..], &[subscribed.all_count]].concat();
        self.check_counts(&selectors, &counts, shard_cursor);
        let channels: Vec<usize> = selectors.iter().flat_map(|&selector| targets_of(selector)).collect();
        let (begun, found) = self.placed(shard, &subscribed.channels, subscribed.begun);
        let own_places = |id: &str| self.places_of_own_id(id, &channels);
        let known = match &begin {
            Begin::After(id) => self.place_of(*id).or_else(|| own_places(&id.to_string()).first().copied()),
            Begin::AfterOwn(id) => match (&begun, own_places(id)) {
                (Begun::Unknown(_), _) if self.may_forget_own_ids() => None,
                (Begun::After(cursor), places) if self.may_forget_own_ids() => {
                    places.contains(&cursor.place.0).then_some(cursor.place.0)
                }
                (_, places) => places.first().copied(),
            },
            Begin::AtHead | Begin::AllRetained | Begin::LastRetained(_) => None,
        };
        let (cursor, place) = match (&begin, known, begun) {
            (Begin::AllRetained, _, Begun::After(cursor)) => (cursor, self.epochs[0].first - 1),
            (Begin::LastRetained(count), _, Begun::After(cursor)) => {
                let place = cursor.place.0;
                let is_right = self.begins_before_last(*count, named, place);
                assert!(is_right, "it begins at {place} with the last {count} of {named:?}");
                (cursor, place)
            }
            (Begin::AtHead, _, Begun::AtHead(cursor)) => (cursor, self.head()),
            (Begin::After(_) | Begin::AfterOwn(_), Some(place), Begun::After(cursor)) => (cursor, place),
            (Begin::After(_) | Begin::AfterOwn(_), None, Begun::Unknown(cursor)) => (cursor, self.head()),
            (_, _, begun) => panic!("{begin:?} begins at {begun:?}, not at {known:?}"),
        };
        assert_eq!(cursor.place.0, place);
        let had_from = vec![self.head(); selectors.len()];
        let mut stream = Stream {
            shard,
            selectors,
            had_from,
            ids: subscribed.channels.to_vec(),
            joins: VecDeque::new(),
            has_changed: false,
            is_live: place == shard_cursor && place == self.head(),
            cursor,
            place,
            subscribed_at: self.head(),
            reported: Reported::default(),
            fruitless: 0,
        };
        let is_retained_only = matches!(begin, Begin::AllRetained | Begin::LastRetained(_));
        if is_retained_only {
            let lost = stream.lost(self);
            stream.reported.take_in_all(lost, &stream.selectors, self.head());
            stream.reported.pass(place);
        }
        assert_eq!(subscribed.is_counting, stream.is_counting());
        if stream.is_counting() {
            let is_known = stream.targets().into_iter().map(|target| &self.targets[target]).all(|target| {
                let gone = target.lost().last().max(target.lapsed.last());
                gone.is_none_or(|&gone| place >= gone)
            });
            if !self.may_overstate_losses() && !is_retained_only {
                assert!(stream.cursor.seen.is_some() || !is_known, "what it has seen is known");
            }
            assert!(stream.cursor.seen.is_none() || stream.cursor.seen == stream.count(self, false));
        }
        if found.gap.is_some() {
            stream.check_gap(self, &found, false);
        }
        self.streams.push(stream);
    }

    /// Where a stream begins, when that is found. By default it is so as it subscribes: there are few names here. Where a hold
    /// has fewer steps, slices look for it, and the last one may report a gap.
    fn placed(&self, shard: usize, ids: &[ChannelId], begun: Begun) -> (Begun, Slice) {
        let mut cursor = match begun {
            Begun::After(cursor) if !cursor.has_place() => cursor,
            known @ (Begun::AtHead(_) | Begun::After(_) | Begun::Unknown(_)) => {
                return (known, Slice::default());
            }
        };
        let is_long = self.is_cut_up() || self.events.len() > SOUGHT_AT_ONCE;
        assert!(is_long, "a place is found as the stream subscribes");
        cursor.stop_at(Some(Sequence(0))); // It is to be found, and nothing to be read.
        let (mut slice, limits) = (Slice::default(), SliceLimits { frames_max: 1, bytes_max: 1 });
        let mut slices = 0;
        while !cursor.has_place() {
            self.hub.read(shard, ids, &mut cursor, limits, &mut slice);
            assert_eq!(slice.frames, 0);
            slices += 1;
            assert!(slices < FRUITLESS_MAX, "a place is found");
        }
        cursor.stop_at(None);
        match slice.unknown {
            Some(_) => (Begun::Unknown(cursor), slice),
            None => (Begun::After(cursor), slice),
        }
    }

    /// Lets one stream read.
    pub(crate) fn read(&mut self, index: usize, limits: SliceLimits) {
        let mut stream = self.streams.remove(index);
        stream.read(self, limits);
        self.streams.insert(index, stream);
    }

    /// Ends one stream.
    pub(crate) fn unsubscribe(&mut self, index: usize) {
        let stream = self.streams.remove(index);
        let had = |channel, event: Sequence| stream.had_from(channel) < event.0;
        self.hub.unsubscribe(stream.shard, stream.ids.iter().copied(), had);
        self.forget_client_of(&stream);
        self.settle(Step::Keeps);
    }
}
