//! A naive model of the hub beside the hub: every event ever applied, and what of it each target still retains.
//!
//! What the bound of bytes gives up depends on how bytes are laid out, which a model should not know. So what is
//! retained is asked of the hub itself, after each step, and the model checks that each loss was due.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::time::Duration;

use downpour::base::id::{EpochTag, EventId, Sequence};
use downpour::hub::reading::{LiveRun, TakeLimits};
use downpour::hub::{HOLD_STEPS, Hub, HubOptions, Receivers, ShardSet, TICK, Tally};
use downpour::record::Events;
use downpour::sse::event::Event;

use crate::clients::Clients;
use crate::records::{
    Draft, EVERYBODY, Epoch, NAMES, OWN_IDS, PATTERNS, Pattern, Published, SELECTORS, TARGETS, Target,
    client_of, is_named, pattern_of, selector_text, targets_of,
};
use crate::retained::Step;
use crate::stream::Stream;
use crate::wire::{chunks, decode};

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) options: HubOptions,
    pub(crate) events: BTreeMap<u64, Published>,
    pub(crate) targets: [Target; TARGETS],
    pub(crate) patterns: [Pattern; PATTERNS.len()],
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) cursors: Vec<u64>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) clients: Clients,
    pub(crate) now: u32,
    /// Counts of receivers that shards have yet to make: of which event, and what they must come to.
    tallies: Vec<(u64, Arc<Tally>, u64)>,
}

impl World {
    /// Returns true if and only if a hold of the lock has fewer steps than by default: what takes one then may take several.
    pub(crate) fn is_cut_up(&self) -> bool {
        self.options.hold_steps < HOLD_STEPS
    }

    pub(crate) fn new(options: HubOptions) -> World {
        let mut world = World {
            hub: Hub::new(options),
            options,
            events: BTreeMap::new(),
            targets: Default::default(),
            patterns: Default::default(),
            epochs: Vec::new(),
            cursors: vec![0; options.shards],
            streams: Vec::new(),
            clients: Clients::new(),
            now: 0,
            tallies: Vec::new(),
        };
        world.targets[EVERYBODY].is_known = true;
        world.begin_epoch(0);
        world
    }

    pub(crate) fn head(&self) -> u64 {
        self.epochs.last().map_or(0, |epoch| epoch.last)
    }

    pub(crate) fn taken_by_all(&self) -> u64 {
        self.cursors.iter().copied().min().unwrap_or(0)
    }

    /// The place that an id names, if an epoch vouches for it.
    pub(crate) fn place_of(&self, id: EventId) -> Option<u64> {
        let place = id.sequence.0;
        let epoch = self.epochs.iter().find(|epoch| epoch.tag == id.tag)?;
        (epoch.first - 1..=epoch.last).contains(&place).then_some(place)
    }

    /// The id of a place: that of the newest epoch that has it.
    pub(crate) fn id_of(&self, place: u64) -> EventId {
        let epoch = self.epochs.iter().rev().find(|epoch| (epoch.first - 1..=epoch.last).contains(&place));
        let epoch = epoch.unwrap_or_else(|| panic!("place {place} is in no epoch of {:?}", self.epochs));
        EventId { tag: epoch.tag, sequence: Sequence(place) }
    }

    /// The place of the earliest event with this id of its publisher's among those that go to `targets`, where it is known
    /// still; and all later ones.
    pub(crate) fn places_of_own_id(&self, id: &str, targets: &[usize]) -> Vec<u64> {
        let used = self.events.iter().filter(|(_, event)| event.event_id == id);
        let is_known = |number: u64, target: &Target| {
            let later = target.events.iter().filter(|&&other| other > number).count();
            let is_passed = later >= self.options.retention.events_max;
            let taken = self.taken_by_all();
            let dropped = target.events.iter().copied().filter(|&number| number <= target.dropped);
            let untaken_dropped = dropped.filter(|&number| number > taken);
            let held = target.retained().chain(target.untaken_lapsed(taken)).chain(untaken_dropped).min();
            !is_passed || held.is_some_and(|first| first <= number)
        };
        let is_known = |used: &(&u64, &Published)| {
            let (&number, event) = *used;
            let mut common = event.targets.iter().filter(|target| targets.contains(target));
            common.any(|&target| is_known(number, &self.targets[target]))
        };
        used.filter(is_known).map(|(&number, _)| number).collect()
    }

    /// How many ids publishers have given, in all targets.
    pub(crate) fn own_ids(&self) -> usize {
        let own = self.events.values().filter(|event| OWN_IDS.contains(&&*event.event_id));
        own.flat_map(|event| &event.targets).filter(|&&target| client_of(target).is_none()).count()
    }

    /// True where the hub may have given up ids of publishers to keep to its bound of bytes.
    pub(crate) fn may_forget_own_ids(&self) -> bool {
        self.own_ids() * 250 > self.options.retention.bytes_max / 4
    }

    /// True where the hub may have forgotten how far a former channel was evicted, and assumes the worst.
    pub(crate) fn may_overstate_losses(&self) -> bool {
        self.options.channels_max < NAMES.len()
    }

    /// The streams that have a target or a pattern.
    pub(crate) fn subscribers(&self, selector: usize) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |stream| stream.selectors.contains(&selector))
    }

    /// Returns true if and only if a stream of the shard has one of these.
    fn concerns(&self, selectors: &[usize], shard: usize) -> bool {
        selectors.iter().any(|&selector| self.subscribers(selector).any(|stream| stream.shard == shard))
    }

    /// The targets, and the patterns with subscribers that match one of them.
    fn selectors_of(&self, targets: &[usize]) -> Vec<usize> {
        let matches = |pattern: &usize| {
            self.subscribers(*pattern).next().is_some()
                && targets_of(*pattern).iter().any(|target| targets.contains(target))
        };
        targets.iter().copied().chain((TARGETS..SELECTORS).filter(matches)).collect()
    }

    /// How many channels and patterns are in the table.
    pub(crate) fn known(&self) -> usize {
        let patterns = self.patterns.iter().filter(|pattern| pattern.is_known).count();
        patterns + self.targets[..NAMES.len()].iter().filter(|channel| channel.is_known).count()
    }

    fn is_known(&self, selector: usize) -> bool {
        match pattern_of(selector) {
            None => self.targets[selector].is_known,
            Some(pattern) => self.patterns[pattern].is_known,
        }
    }

    /// Puts targets and patterns in the model's table; `None` if the channels and patterns are too many.
    pub(crate) fn enter(&mut self, selectors: &[usize]) -> Option<()> {
        let new: BTreeSet<usize> =
            selectors.iter().copied().filter(|&selector| !self.is_known(selector)).collect();
        let new_named = new.iter().filter(|&&selector| is_named(selector)).count();
        if new_named > 0 && self.known() + new_named > self.options.channels_max {
            return None;
        }
        for selector in new {
            if let Some(pattern) = pattern_of(selector) {
                self.patterns[pattern] = Pattern { last: 0, is_known: true };
                continue;
            }
            let target = &mut self.targets[selector];
            assert_eq!(target.retained().next(), None, "a target with events is in the table");
            target.before = target.events.len();
            target.before_again.clear();
            target.is_known = true;
        }
        Some(())
    }

    pub(crate) fn begin_epoch(&mut self, skipped: u64) {
        let (old_head, first) = (self.head(), self.head() + 1 + skipped);
        let tag = EpochTag::from_bits(self.epochs.len() as u64 + 1);
        self.hub.begin_epoch(tag, Sequence(first));
        self.epochs.push(Epoch { tag, first, last: first - 1 });
        self.cursors.iter_mut().filter(|cursor| **cursor == old_head).for_each(|cursor| *cursor = first - 1);
        self.settle(Step::Keeps);
    }

    pub(crate) fn publish(&mut self, drafts: &[Draft]) {
        let first = self.head() + 1;
        let tag = self.epochs[self.epochs.len() - 1].tag;
        let mut batch = Events::new();
        let mut published = Vec::new();
        for (draft, number) in drafts.iter().zip(first..) {
            let data = format!("{number} {}", filler(draft.filler, number));
            let event = Event::new(&data).with_type("tick").expect("it is a type");
            let own = draft.own_id.map(|own| OWN_IDS[own]);
            let event = own.map_or(Ok(event), |own| event.with_id(own)).expect("it is an id");
            let targets = self.push(&mut batch, &draft.targets, &event);
            batch.set_ttl(draft.ttl);
            let lapses = draft.ttl.map_or(u32::MAX, |ttl| self.now + ttl.get() * 10);
            let id = EventId { tag, sequence: Sequence(number) }.to_string();
            let event_id = own.map_or(id, str::to_owned);
            let selectors = self.selectors_of(&targets);
            let at = self.now;
            published
                .push((number, Published { targets, selectors, data, event_id, at, lapses, frame: None }));
        }
        self.check_addressed(batch.addressed().collect());
        let all: Vec<usize> = published.iter().flat_map(|(_, event)| event.targets.iter().copied()).collect();
        let entered = self.enter(&all);
        assert_eq!(self.hub.exceeds_channels_max(&batch), entered.is_none(), "whether channels are too many");
        if entered.is_none() {
            return;
        }
        let applied = self.hub.apply(Sequence(first), &batch, Some(0));
        let last = first + drafts.len() as u64 - 1;
        let before = self.head();
        self.epochs.last_mut().expect("an epoch is open").last = last;
        assert_eq!(applied.first, EventId { tag, sequence: Sequence(first) });
        let last_selectors = published[published.len() - 1].1.selectors.clone();
        let subscribers = last_selectors.iter().map(|&selector| self.subscribers(selector).count() as u64);
        let subscribers: Vec<u64> = subscribers.filter(|&streams| streams > 0).collect();
        match (applied.receivers, &subscribers[..]) {
            (Receivers::Exactly(receivers), &[]) => assert_eq!(receivers, 0),
            (Receivers::Exactly(receivers), &[streams]) => assert_eq!(receivers, streams),
            (Receivers::Counting(tally), &[_, _, ..]) => {
                assert_eq!(tally.total(), None, "no shard has taken the event yet");
                let reached = self.streams.iter().filter(|stream| stream.has_any(&last_selectors)).count();
                self.tallies.push((last, tally, reached as u64));
            }
            (receivers, _) => panic!("{receivers:?} of {subscribers:?}"),
        }
        let mut interested = ShardSet::default();
        for shard in 0..self.options.shards {
            let concerns = |(_, event): &&(u64, Published)| self.concerns(&event.selectors, shard);
            let first_concern = published.iter().find(concerns).map(|(number, _)| *number);
            if first_concern.is_some() {
                interested.insert(shard);
            }
            if self.cursors[shard] == before {
                // A batch is applied in parts, and a shard passes those that do not concern it.
                let cursor = self.hub.cursor(shard).0;
                let passed = first_concern.map_or(last..=last, |first| before..=first - 1);
                assert!(
                    passed.contains(&cursor),
                    "shard {shard} passes events up to {cursor}, not {passed:?}"
                );
                self.cursors[shard] = cursor;
            }
        }
        assert_eq!(applied.interested, interested);
        for (number, event) in published {
            for pattern in event.selectors.iter().filter_map(|&selector| pattern_of(selector)) {
                self.patterns[pattern].last = number;
            }
            event.targets.iter().for_each(|&target| self.targets[target].events.push(number));
            self.events.insert(number, event);
        }
        self.settle(Step::Enforces);
        self.note_parts(before);
    }

    /// Adds an event to a batch. Returns the targets that it goes to: an event to a client without a stream goes to nobody.
    fn push(&self, batch: &mut Events, targets: &[usize], event: &Event<'_>) -> Vec<usize> {
        if let Some(place) = targets.iter().find_map(|&target| client_of(target)) {
            batch.push_to_client(self.clients.last_in(place), batch.len() as u64, event);
            return if self.has_client(place) { targets.to_vec() } else { Vec::new() };
        }
        let names: Vec<String> = targets.iter().map(|&target| selector_text(target)).collect();
        batch.push(&names.iter().map(String::as_str).collect::<Vec<_>>(), event);
        targets.to_vec()
    }

    /// A batch that is applied in parts gives up events between them. So a target that nobody subscribes to may leave the table and
    /// enter it again.
    fn note_parts(&mut self, head: u64) {
        if !self.is_cut_up() {
            return;
        }
        let taken = self.taken_by_all();
        let is_subscribed: [bool; EVERYBODY] =
            std::array::from_fn(|target| self.subscribers(target).next().is_some());
        for (target, _) in
            self.targets.iter_mut().zip(is_subscribed).filter(|(_, is_subscribed)| !is_subscribed)
        {
            target.note_parts(head, taken);
        }
    }

    pub(crate) fn advance(&mut self, ticks: u32) {
        self.now += ticks;
        self.hub.set_now(TICK * self.now + Duration::from_millis(u64::from(ticks % 100)));
        self.settle(if ticks > 0 { Step::Enforces } else { Step::Keeps });
    }

    /// Drops the history of a channel.
    pub(crate) fn drop_history(&mut self, name: usize) {
        let is_subscribed = self.subscribers(name).next().is_some();
        let channel = &mut self.targets[name];
        let retained: Vec<u64> = channel.retained().collect();
        let expected = (is_subscribed || !retained.is_empty()).then_some(retained.len());
        channel.dropped = retained.last().copied().unwrap_or(channel.dropped);
        assert_eq!(self.hub.drop_history(NAMES[name]), expected, "what is dropped of {}", NAMES[name]);
        self.settle(if expected.is_some_and(|dropped| dropped > 0) { Step::Takes } else { Step::Keeps });
    }

    /// Returns true if and only if a stream's shard has yet to pass what was dropped of one of its channels.
    pub(crate) fn is_waiting(&self, stream: &Stream) -> bool {
        let end = self.cursors[stream.shard];
        stream.targets().into_iter().any(|target| self.targets[target].dropped > end)
    }

    /// Lets a shard take, checks what it got, and hands it to its live streams, but for those that `falls_behind` names.
    pub(crate) fn take(&mut self, shard: usize, limits: TakeLimits, falls_behind: impl Fn(usize) -> bool) {
        let cursor = self.cursors[shard];
        let mut runs = Vec::new();
        let reached = self.hub.take(shard, limits, &mut runs).0;
        let passed: Vec<u64> =
            self.events.range((Excluded(cursor), Included(reached))).map(|(&number, _)| number).collect();
        let due: Vec<u64> = passed
            .iter()
            .copied()
            .filter(|number| self.concerns(&self.events[number].selectors, shard))
            .collect();
        let mut taken = Vec::new();
        for run in &runs {
            let numbers = self.identify(run.segment.bytes(run.from as usize, run.to as usize));
            assert_eq!((numbers.len(), numbers[0]), (run.frames as usize, run.first.0));
            if let Some(tally) = &run.tally {
                assert_eq!(run.frames, 1, "an event whose receivers are counted stands alone");
                let event = &self.events[&numbers[0]];
                let is_found =
                    |stream: &&Stream| stream.shard == shard && stream.had_any(&event.selectors, numbers[0]);
                tally.add(shard, self.streams.iter().filter(is_found).count() as u64);
            }
            if run.tally.is_some() && !self.concerns(&self.events[&numbers[0]].selectors, shard) {
                continue; // Its subscribers have left: the shard is only to say that it counts none.
            }
            self.check_run_channels(run, &numbers, shard);
            taken.extend(numbers);
        }
        self.tallies.retain(|(number, tally, reached)| {
            let total = tally.total();
            assert!(total.is_none_or(|total| total == *reached), "{total:?} of {reached} got {number}");
            total.is_none()
        });
        assert_eq!(taken, due, "what concerns shard {shard} from {cursor} to {reached}");
        let bytes: usize = runs.iter().map(|run| (run.to - run.from) as usize).sum();
        let frames: u32 = runs.iter().map(|run| run.frames).sum();
        assert!(passed.len() <= limits.frames_max as usize, "{} frames were passed", passed.len());
        assert!(bytes <= limits.bytes_max || frames == 1, "{bytes} bytes in {frames} frames");
        assert!(reached > cursor || cursor == self.head(), "shard {shard} gets on");
        self.check_stop(shard, limits, reached, passed.len(), bytes);
        self.cursors[shard] = reached;
        for (index, mut stream) in std::mem::take(&mut self.streams).into_iter().enumerate() {
            if stream.shard == shard && stream.is_live {
                if falls_behind(index) {
                    stream.fall_behind(self, cursor);
                } else {
                    stream.deliver_live(self, &taken, reached);
                }
            }
            self.streams.push(stream);
        }
        self.settle(Step::Takes);
        self.check_cursors();
    }

    /// Checks that a shard has not stopped before the head for nothing, where the budget of a hold was not spent: the next event
    /// concerns the shard, and does not fit.
    fn check_stop(&self, shard: usize, limits: TakeLimits, reached: u64, passed: usize, bytes: usize) {
        let is_one_large = bytes > limits.bytes_max;
        let is_at_limit = is_one_large || passed >= PASSED_AT_ONCE.min(limits.frames_max as usize);
        let next = self.events.range(reached + 1..).next().filter(|_| !is_at_limit && !self.is_cut_up());
        let Some((&number, event)) = next else { return };
        let is_counted = self.tallies.iter().any(|tally| tally.0 == number);
        assert!(is_counted || self.concerns(&event.selectors, shard), "shard {shard} stops before {number}");
        let fits = bytes + event.frame_bytes_max() <= limits.bytes_max;
        assert!(!fits, "shard {shard} stops before {number} after {bytes} of {} bytes", limits.bytes_max);
    }

    fn check_run_channels(&self, run: &LiveRun, numbers: &[u64], shard: usize) {
        let ids = run.channels.as_slice();
        let streams = self.streams.iter().filter(|stream| stream.shard == shard);
        for (&selector, id) in streams.flat_map(|stream| stream.selectors.iter().zip(&stream.ids)) {
            for number in numbers {
                let selectors = &self.events[number].selectors;
                assert_eq!(ids.len(), selectors.len(), "channels of event {number}");
                let name = selector_text(selector);
                assert_eq!(ids.contains(id), selectors.contains(&selector), "{name} of {number}");
            }
        }
    }

    /// The numbers of the events whose frames `bytes` are. Each frame is decoded when it is seen first, and has to stay
    /// the same from then on.
    pub(crate) fn identify(&mut self, bytes: &[u8]) -> Vec<u64> {
        let mut numbers = Vec::new();
        for chunk in chunks(bytes) {
            let number = number_in(chunk);
            let event = self.events.get_mut(&number).expect("only what was published is read");
            match &event.frame {
                Some(frame) => assert_eq!(frame, chunk, "the frame of event {number} has changed"),
                None => {
                    let expected = ("tick".to_owned(), event.data.clone(), event.event_id.clone());
                    assert_eq!(decode(chunk), expected);
                    event.frame = Some(chunk.to_vec());
                }
            }
            numbers.push(number);
        }
        numbers
    }

    fn check_cursors(&self) {
        for (shard, &cursor) in self.cursors.iter().enumerate() {
            assert_eq!(self.hub.cursor(shard).0, cursor, "cursor of shard {shard}");
        }
        assert_eq!(self.hub.head().0, self.head());
    }
}

/// So many events are passed in one hold of the lock.
const PASSED_AT_ONCE: usize = 200;

/// Data of several lines that differs from event to event.
fn filler(len: usize, number: u64) -> String {
    let mut text = format!("{number:x}-").repeat(len / 2 + 1);
    text.truncate(len);
    text.replace("0-", "\n-")
}

fn number_in(chunk: &[u8]) -> u64 {
    let at = chunk.windows(6).position(|bytes| bytes == b"data: ").expect("an event has data") + 6;
    let digits = chunk[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}
