//! What is still retained after a step: asked of the hub, and checked against what the bounds allow and demand.

use std::collections::BTreeSet;

use downpour::base::id::Sequence;
use downpour::base::name::Selector;
use downpour::hub::SEGMENT_BYTES_MOST;
use downpour::hub::reading::{Cursor, Slice, SliceLimits};
use downpour::hub::{Begin, ChannelId, TICK};

use crate::records::{EVERYBODY, NAMES, SELECTORS, TARGETS, USERS, client_of, selector_text};
use crate::world::World;

/// What a page holds beside its retained frames at the most: its segment, its large frames, its entries. The page that
/// is being written cannot be given up, and pages are given up whole, so this is the slack of all bounds of bytes.
pub(crate) const PAGE_BYTES_MAX: usize = SEGMENT_BYTES_MOST + 256 * 1024 + 11 * 1024 + 64 * 1024;

/// What the history holds for an event besides its frame, at the most.
const ENTRY_BYTES: usize = 200;

/// Everything, in one slice after the other.
const ALL: SliceLimits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };

/// Which bounds a step enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All of them.
    Enforces,
    /// What a shard's taking makes due; what is too old may wait for the next tick.
    Takes,
    /// None: nothing may be lost.
    Keeps,
}

impl World {
    /// Finds out what is still retained after a step, and checks that what is not was due, and what was due is not.
    pub(crate) fn settle(&mut self, step: Step) {
        let mut step = step;
        while self.hub.is_unfinished() {
            self.hub.tidy(); // As shards do in their turns.
            if step == Step::Keeps {
                step = Step::Takes; // That gives up what is too old, too.
            }
        }
        let held = self.hub.held_bytes();
        let known = self.hub.channels_len();
        self.note_lapses();
        let gone = self.probe();
        let taken = self.taken_by_all();
        let oldest_tick =
            self.options.retention.age_max.and_then(|age| {
                self.now.checked_sub(u32::try_from(age.as_millis() / TICK.as_millis()).ok()?)
            });
        let is_old = |at: u32| oldest_tick.is_some_and(|oldest| at < oldest);
        let mut for_bytes = BTreeSet::new();
        for ((name, channel), gone) in self.targets.iter_mut().enumerate().zip(gone) {
            let name = selector_text(name);
            let is_dropped = |number: u64| number <= channel.dropped;
            let is_kept = gone.iter().all(|&number| is_dropped(number));
            assert!(step != Step::Keeps || is_kept, "{name} lost {gone:?}");
            let held: BTreeSet<u64> = channel.retained().chain(channel.untaken_lapsed(taken)).collect();
            let surplus = held.len().saturating_sub(self.options.retention.events_max);
            let first_kept = held.iter().nth(surplus).copied().unwrap_or(u64::MAX);
            for number in channel.retained() {
                if is_dropped(number) {
                    assert!(gone.contains(&number), "event {number} of {name} was dropped");
                    continue;
                }
                let (is_over, is_old) = (number < first_kept, is_old(self.events[&number].at));
                if gone.contains(&number) {
                    assert!(number <= taken, "event {number} is lost before a shard took it");
                    if !is_over && !is_old {
                        for_bytes.insert(number);
                    }
                } else if number <= taken && step != Step::Keeps {
                    assert!(!is_over, "event {number} is beyond the bound of {name}");
                    assert!(!is_old || step == Step::Takes, "event {number} is too old for {name}");
                }
            }
            channel.evicted.extend(gone);
        }
        if let Some(cut) = for_bytes.last() {
            let oldest = self.targets.iter().filter_map(|target| target.retained().next()).min();
            assert!(oldest.is_none_or(|oldest| oldest > *cut), "{cut} was given up before older events");
            // Too much was held before the last page went, with the few channels that went with it.
            let enough = self.options.retention.bytes_max.saturating_sub(PAGE_BYTES_MAX + 16 * 1024);
            assert!(held > enough, "{for_bytes:?} were given up though only {held} bytes were held");
        }
        if step != Step::Keeps && taken == self.head() {
            let bound = self.options.retention.bytes_max + PAGE_BYTES_MAX;
            assert!(held <= bound, "{held} bytes are held, more than {bound}");
        }
        let subscribed: Vec<bool> =
            (0..SELECTORS).map(|selector| self.subscribers(selector).next().is_some()).collect();
        let (targets, patterns) = subscribed.split_at(TARGETS);
        for (target, (channel, is_subscribed)) in self.targets.iter_mut().zip(targets).enumerate() {
            // What was dropped and not taken by all is still there, though nobody can read it.
            let is_held = channel.retained().chain(channel.untaken_lapsed(taken)).next().is_some();
            channel.is_known &= *is_subscribed || is_held || channel.dropped > taken || target == EVERYBODY;
        }
        for (pattern, is_subscribed) in self.patterns.iter_mut().zip(patterns) {
            // The shards that had its subscribers have yet to take its last event.
            pattern.is_known &= *is_subscribed || pattern.last > taken;
        }
        assert_eq!(known, self.known(), "channels and patterns");
        self.check_clients_gone(step);
    }

    /// The bytes that the hub holds at most, without streams and when it has tidied up: a page that holds four times as
    /// much as it retains is compacted, once such pages hold a sixteenth of all.
    pub(crate) fn tidied_bytes_max(&self) -> usize {
        let retained: BTreeSet<u64> = self.targets.iter().flat_map(|target| target.retained()).collect();
        let frame_bytes = |number: &u64| self.events[number].frame_bytes_max() + ENTRY_BYTES;
        let retained_bytes: usize = retained.iter().map(frame_bytes).sum();
        // Besides, the page that is written, and the segment that is kept for the next one.
        retained_bytes * 4 * 16 / 15 + PAGE_BYTES_MAX + SEGMENT_BYTES_MOST + self.own_ids() * 500
    }

    /// What is retained and whose time has passed has lapsed.
    fn note_lapses(&mut self) {
        let (now, events) = (self.now, &self.events);
        for channel in &mut self.targets {
            let lapsed: Vec<u64> = channel.retained().filter(|number| events[number].lapses <= now).collect();
            channel.lapsed.extend(lapsed);
        }
    }

    /// The events that each target has given up since it was last asked.
    fn probe(&mut self) -> [Vec<u64>; TARGETS] {
        std::array::from_fn(|name| {
            let channel = &self.targets[name];
            if !channel.is_known || channel.retained().next().is_none() {
                return Vec::new();
            }
            let shard = 0;
            if channel.dropped > self.cursors[shard] {
                return channel.retained().filter(|&number| number <= channel.dropped).collect();
            }
            let begin = Begin::After(self.id_of(self.epochs[0].first - 1));
            let client = client_of(name).map(|place| self.clients.last_in(place));
            let names: Vec<Selector> = NAMES
                .get(name)
                .map(|name| Selector::parse(name).expect("it is a name"))
                .into_iter()
                .collect();
            let user = name.checked_sub(NAMES.len()).and_then(|user| USERS.get(user)).copied();
            let mut subscribed = self.hub.subscribe(shard, &names, user, begin).expect("it is in the table");
            subscribed.channels.extend(client.map(|client| self.hub.add_client(shard, client).channel));
            let mut cursor = Cursor::behind(Sequence(self.epochs[0].first - 1), None);
            let mut retained = self.read_all(shard, &subscribed.channels, &mut cursor);
            retained.retain(|number| self.events[number].targets.contains(&name)); // What goes to all came too.
            self.hub.unsubscribe(shard, subscribed.channels, |_, _| false);
            let cursor = self.cursors[shard];
            let mut gone: Vec<u64> =
                self.targets[name].retained().filter(|&number| number <= cursor).collect();
            let newest = gone.split_off(gone.len().saturating_sub(retained.len()));
            assert_eq!(retained, newest, "the newest of {}", selector_text(name));
            gone
        })
    }

    fn read_all(&mut self, shard: usize, ids: &[ChannelId], cursor: &mut Cursor) -> Vec<u64> {
        let (mut numbers, mut slice) = (Vec::new(), Slice::default());
        while !slice.is_live {
            self.hub.read(shard, ids, cursor, ALL, &mut slice);
            for run in &slice.runs {
                numbers.extend(self.identify(run.segment.bytes(run.from as usize, run.to as usize)));
            }
            assert!(slice.is_live || slice.frames > 0, "a slice that is not the last has frames");
        }
        numbers
    }
}
