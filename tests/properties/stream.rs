//! A stream of the model: where it is, and what it was told to be lost.

use std::collections::BTreeSet;

use downpour::base::id::Sequence;
use downpour::base::name::Selector;
use downpour::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use downpour::hub::{Begin, Begun, ChannelId, SubscribeError};

use crate::records::{NAMES, channels_of, selector_text};
use crate::retained::Step;
use crate::world::World;

pub(crate) struct Stream {
    pub(crate) shard: usize,
    /// The channels and patterns that it names.
    pub(crate) selectors: Vec<usize>,
    /// The channels that these come to.
    pub(crate) channels: Vec<usize>,
    pub(crate) ids: Vec<ChannelId>,
    pub(crate) is_live: bool,
    cursor: Cursor,
    place: u64,
    /// It is not live before its shard has taken the events up to here, which its patterns may not know of.
    live_from: u64,
    /// The last event before it subscribed.
    pub(crate) subscribed_at: u64,
    /// Losses that it was told of, by channel and number.
    told: BTreeSet<(usize, u64)>,
    /// Slices in a row that got nowhere, as a hold of the lock had too few steps.
    fruitless: usize,
}

/// Slices that may get nowhere in a row, where a hold has fewer steps than by default.
const FRUITLESS_MAX: usize = 1000;

impl Stream {
    /// Everything up to here was delivered, or told as lost.
    pub(crate) fn place(&self) -> u64 {
        self.place
    }

    /// Returns true if and only if it names one of these.
    pub(crate) fn names_any(&self, selectors: &[usize]) -> bool {
        self.selectors.iter().any(|selector| selectors.contains(selector))
    }

    /// Events after its place that were lost to what it names, and not told. To a pattern an event is lost if none of its
    /// channels retains it.
    fn lost(&self, world: &World) -> BTreeSet<(usize, u64)> {
        let lost_to = |selector: usize| {
            let channels: Vec<_> =
                channels_of(selector).into_iter().map(|channel| &world.channels[channel]).collect();
            let retained: BTreeSet<u64> = channels.iter().flat_map(|c| c.retained()).collect();
            let lapsed: BTreeSet<u64> = channels.iter().flat_map(|c| c.lapsed.iter()).copied().collect();
            let lost = channels.into_iter().flat_map(|channel| channel.lost().iter().copied());
            let is_kept = move |number: &u64| retained.contains(number) || lapsed.contains(number);
            lost.filter(move |number| !is_kept(number)).map(move |number| (selector, number))
        };
        let all = self.selectors.iter().flat_map(|&selector| lost_to(selector));
        all.filter(|loss| loss.1 > self.place && !self.told.contains(loss)).collect()
    }

    /// Returns true if and only if an event after its place was lost by one channel of a pattern and is retained by another.
    /// A pattern that is new to the hub does not know of that.
    fn may_have_lost(&self, world: &World) -> bool {
        let patterns = self.selectors.iter().copied().filter(|&selector| selector >= NAMES.len());
        let mut channels = patterns.flat_map(channels_of).map(|channel| &world.channels[channel]);
        channels.any(|channel| channel.lost().last() > Some(&self.place))
    }

    /// What it is to read up to `end`.
    fn due(&self, world: &World, end: u64) -> Vec<u64> {
        let numbers = self.channels.iter().flat_map(|&channel| world.channels[channel].retained());
        let numbers: BTreeSet<u64> = numbers.filter(|&number| number > self.place && number <= end).collect();
        numbers.into_iter().collect()
    }

    /// The only channel that it names, if it names no other and no pattern.
    fn only(&self) -> Option<usize> {
        matches!(self.selectors[..], [only] if only < NAMES.len()).then(|| self.selectors[0])
    }

    /// The only channel's events up to its place.
    fn count(&self, world: &World) -> Option<u64> {
        self.only().map(|only| world.channels[only].count(self.place))
    }

    /// What is told by a gap, and what it might be told for where the hub assumes the worst of forgotten channels.
    fn told_with(&self, world: &World, lost: BTreeSet<(usize, u64)>) -> BTreeSet<(usize, u64)> {
        if !world.may_overstate_losses() {
            return lost;
        }
        let patterns = self.selectors.iter().copied().filter(|&selector| selector >= NAMES.len());
        let events = patterns.flat_map(|pattern| {
            let events =
                channels_of(pattern).into_iter().flat_map(|channel| world.channels[channel].events.iter());
            events.map(move |&number| (pattern, number))
        });
        events.chain(lost.iter().copied()).collect()
    }

    /// A live stream is at its shard's cursor, which moves on where nothing concerns it.
    pub(crate) fn fall_behind(&mut self, world: &World, shard_cursor: u64) {
        self.meet(world, shard_cursor);
        self.cursor = Cursor::behind(Sequence(self.place), self.count(world));
        self.is_live = false;
    }

    /// What its shard took of its channels is delivered, also where that was dropped meanwhile.
    pub(crate) fn deliver_live(&mut self, world: &World, taken: &[u64], reached: u64) {
        let concerns = |number: &u64| {
            world.events[number].channels.iter().any(|channel| self.channels.contains(channel))
        };
        let delivered: Vec<u64> =
            taken.iter().copied().filter(concerns).filter(|&number| number > self.place).collect();
        let numbers = self.channels.iter().flat_map(|&channel| &world.channels[channel].events);
        let due: BTreeSet<u64> =
            numbers.copied().filter(|&number| number > self.place && number <= reached).collect();
        assert_eq!(delivered, due.into_iter().collect::<Vec<_>>(), "what a live stream gets");
        self.place = reached;
    }

    fn meet(&mut self, world: &World, shard_cursor: u64) {
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
        world.hub.read(self.shard, &self.ids, &mut self.cursor, limits, &mut slice);
        if self.place > end || world.is_waiting(self) {
            assert!(slice.gap.is_none() && slice.frames == 0 && slice.runs.is_empty() && !slice.is_live);
            assert_eq!(self.cursor, before, "its shard has yet to get there");
            return;
        }
        let is_empty = slice.gap.is_none() && slice.frames == 0 && !slice.is_live;
        if world.is_cut_up() && is_empty && self.cursor.place == before.place {
            self.fruitless += 1;
            assert!(self.fruitless < FRUITLESS_MAX, "it gets on");
            return;
        }
        self.fruitless = 0;
        self.check_gap(world, &slice, before.seen.is_some());
        self.check_frames(world, &slice, limits, end);
        if let Some(only) = self.only() {
            let may_forget = world.channels[only].lapsed.last() > Some(&self.place);
            let (seen, count) = (self.cursor.seen, self.count(world));
            assert!(
                seen == count || (seen.is_none() && may_forget),
                "{seen:?} of {count:?} events were seen"
            );
        }
    }

    fn check_gap(&mut self, world: &World, slice: &Slice, counts: bool) {
        let lost = self.lost(world);
        let Some(gap) = slice.gap else {
            assert!(lost.is_empty(), "{lost:?} after {} are lost and not told", self.place);
            return;
        };
        let is_due = !lost.is_empty() || world.may_overstate_losses() || self.may_have_lost(world);
        assert!(is_due, "a gap is told after {}", self.place);
        assert_eq!(gap.after, world.id_of(self.place));
        assert_eq!(world.place_of(gap.after), Some(self.place), "the id before a gap is known");
        let numbers: BTreeSet<u64> = lost.iter().map(|loss| loss.1).collect();
        if let Some(missed) = gap.missed {
            assert_eq!(missed, numbers.len() as u64, "{lost:?} are lost after {}", self.place);
        }
        let Some(only) = self.only() else {
            let told = self.told_with(world, lost);
            self.told.extend(told);
            return;
        };
        let channel = &world.channels[only];
        let may_forget = channel.lapsed.len() > 1024;
        assert!(gap.missed.is_some() || !counts || may_forget, "it is known how many are missing");
        let behind = lost.last().map_or(self.place, |loss| loss.1);
        if world.may_overstate_losses() {
            let skipped = self.due(world, u64::MAX);
            let to = self.cursor.place.0.min(world.cursors[self.shard]);
            self.place = skipped.first().map_or(to, |first| to.min(first - 1)).max(behind);
        } else {
            self.place = behind;
        }
    }

    fn check_frames(&mut self, world: &mut World, slice: &Slice, limits: SliceLimits, end: u64) {
        let due = self.due(world, end);
        let (mut got, mut bytes) = (Vec::new(), 0);
        for run in &slice.runs {
            let numbers = world.identify(run.segment.bytes(run.from as usize, run.to as usize));
            assert_eq!(numbers.len(), run.frames as usize);
            bytes += (run.to - run.from) as usize;
            got.extend(numbers);
        }
        assert_eq!(got.len(), slice.frames as usize);
        assert_eq!(got, due[..got.len().min(due.len())], "what is retained after {} to {end}", self.place);
        let frames_max = limits.frames_max.min(SLICE_FRAMES_MAX) as usize;
        assert!(got.len() <= frames_max);
        assert!(bytes <= limits.bytes_max || got.len() == 1, "{bytes} bytes in {} frames", got.len());
        let is_read = got.len() == due.len();
        assert!(slice.is_live == is_read || world.is_cut_up() && is_read, "live if and only if all is read");
        assert!(slice.is_live || !got.is_empty() || world.is_cut_up(), "it gets on");
        self.is_live = slice.is_live && end >= self.live_from;
        // What has lapsed is passed over.
        let to = due.get(got.len()).map_or(end, |next| next - 1);
        let from = if slice.is_live { end } else { got.last().copied().unwrap_or(self.place) };
        self.place = self.cursor.place.0;
        assert!((from..=to).contains(&self.place), "its place {} is not in {from} to {to}", self.place);
    }
}

impl World {
    /// Subscribes a stream where the hub takes it, and checks where it begins.
    pub(crate) fn subscribe(&mut self, shard: usize, selectors: &[usize], begin: Begin) {
        let names: Vec<Selector> = selectors
            .iter()
            .map(|&selector| Selector::parse(selector_text(selector)).expect("it is a name"))
            .collect();
        let channels_max = self.options.channels_max;
        let result = self.hub.subscribe(shard, &names, None, begin.clone());
        if self.enter(selectors).is_none() {
            assert_eq!(result.err(), Some(SubscribeError::TooManyChannels { channels_max }));
            return;
        }
        let subscribed = result.expect("the channels are not too many");
        let shard_cursor = self.cursors[shard];
        assert_eq!(subscribed.shard_cursor.0, shard_cursor);
        assert_eq!(subscribed.id, self.id_of(self.head()));
        let count = |&selector: &usize| self.channels.get(selector).map_or(0, |c| c.count(shard_cursor));
        let counts: Vec<u64> = selectors.iter().map(count).collect();
        assert_eq!(subscribed.counts.to_vec(), counts, "events up to the shard's cursor");
        let channels: Vec<usize> = selectors.iter().flat_map(|&selector| channels_of(selector)).collect();
        let (begun, told) = self.placed(shard, &subscribed.channels, subscribed.begun);
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
            (Begin::AtHead, _, Begun::AtHead(cursor)) => (cursor, self.head()),
            (Begin::After(_) | Begin::AfterOwn(_), Some(place), Begun::After(cursor)) => (cursor, place),
            (Begin::After(_) | Begin::AfterOwn(_), None, Begun::Unknown(cursor)) => (cursor, self.head()),
            (_, _, begun) => panic!("{begin:?} begins at {begun:?}, not at {known:?}"),
        };
        assert_eq!(cursor.place.0, place);
        let has_patterns = selectors.iter().any(|&selector| selector >= NAMES.len());
        let live_from = if has_patterns { self.head() } else { 0 };
        let stream = Stream {
            shard,
            selectors: selectors.to_vec(),
            channels,
            ids: subscribed.channels.to_vec(),
            is_live: place == shard_cursor && place >= live_from,
            cursor,
            place,
            live_from,
            subscribed_at: self.head(),
            told: BTreeSet::new(),
            fruitless: 0,
        };
        assert_eq!(subscribed.is_counting, stream.only().is_some());
        if let Some(only) = stream.only() {
            let is_known = self.channels[only].lost().last().is_none_or(|&lost| place >= lost)
                && self.channels[only].lapsed.last().is_none_or(|&lapsed| place >= lapsed);
            if !self.may_overstate_losses() {
                assert!(stream.cursor.seen.is_some() || !is_known, "what it has seen is known");
            }
            assert!(stream.cursor.seen.is_none() || stream.cursor.seen == stream.count(self));
        }
        let mut stream = stream;
        if told.gap.is_some() {
            stream.check_gap(self, &told, false);
        }
        self.streams.push(stream);
    }

    /// Where a stream begins, when that is found. By default it is so as it subscribes: there are few names here. Where a hold
    /// has fewer steps, slices look for it, of which the last may tell of a gap.
    fn placed(&self, shard: usize, ids: &[ChannelId], begun: Begun) -> (Begun, Slice) {
        let mut cursor = match begun {
            Begun::After(cursor) if !cursor.has_place() => cursor,
            known @ (Begun::AtHead(_) | Begun::After(_) | Begun::Unknown(_)) => {
                return (known, Slice::default());
            }
        };
        assert!(self.is_cut_up(), "a place is found as the stream subscribes");
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
        self.hub
            .unsubscribe(stream.shard, stream.ids.iter().copied(), |_, event| stream.subscribed_at < event.0);
        self.settle(Step::Keeps);
    }
}
