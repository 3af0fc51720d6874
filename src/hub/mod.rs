//! Floor 3: who gets what. The hub applies what the log commits, keeps the history, and knows which channels are
//! subscribed to; it knows neither sockets nor streams.
//!
//! One hub serves all shards behind one lock, taken once for a small batch, a subscribe, or a slice of at most
//! [`reader::SLICE_FRAMES_MAX`] frames. Each hold has a `budget` of steps; what takes more is done in several. Nothing under
//! the lock renders, waits, or calls out. A panic under it would leave an order that nobody can vouch for: the process ends.
//!
//! Each shard is a cursor on the order: it takes what lies after its cursor in [`live`] runs. A stream that resumes, or
//! that fell behind, has a cursor of its own and reads slices of the history with a [`reader`] up to its shard's cursor,
//! where it turns live: no event lies between the two, and none is seen by both.

mod audience;
mod budget;
mod channel;
mod channels;
mod compaction;
pub mod counts;
mod dropping;
mod entries;
mod epochs;
mod forgotten;
mod history;
#[cfg(test)]
mod hold_tests;
pub mod live;
mod lookout;
mod lost;
mod membership;
mod names;
mod numbers;
mod own_ids;
mod page;
mod patterns;
pub mod reader;
mod receivers;
pub mod retention;
mod seek;
mod shards;
mod subscribe;
mod targets;
#[cfg(test)]
mod tests;
mod ttl;
mod walk;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

pub use budget::{HOLD_STEPS, HOLD_STEPS_MIN};
pub use channel::ChannelId;
pub use membership::Added;
pub use receivers::{Receivers, Tally};
pub use shards::{SHARDS_MAX, ShardSet};
pub use subscribe::{Begin, Begun, SubscribeError, Subscribed};
pub use targets::TargetId;

use crate::base::id::{EpochTag, EventId, Sequence};
use crate::frame::batch::{Batch, DraftRef, is_channel};
use budget::{Budget, EVENT_STEPS};
use channels::Channels;
use epochs::Epochs;
use history::History;
use lookout::Lookout;
use own_ids::OwnIds;
use retention::Retention;
use targets::Targets;

/// The step of the hub's clock, by which the age of events is counted.
pub const TICK: Duration = Duration::from_millis(100);

/// Names that are looked up under one hold of the lock.
const NAMES_PER_HOLD_MAX: usize = 256;

/// How often the processor is given up for those who wait for the lock: about as long as it takes to wake one.
const YIELDS_MAX: usize = 256;

/// How far a shard may be behind the head before those who publish wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Events.
    pub events_max: u64,
    /// Bytes, counted by whole pages.
    pub bytes_max: usize,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { events_max: 8192, bytes_max: 8 * 1024 * 1024 }
    }
}

/// How the hub is set up.
#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    /// How much history is kept.
    pub retention: Retention,
    /// Names that may have subscribers or history at the same time.
    pub channels_max: usize,
    /// How far a shard may be behind.
    pub backlog: Backlog,
    /// How many shards read from it, at most [`SHARDS_MAX`].
    pub shards: usize,
    /// Steps that each hold of the lock may take, about: [`HOLD_STEPS`], or fewer, to see that what is cut up comes to the
    /// same. Fewer than [`HOLD_STEPS_MIN`] are as many.
    pub hold_steps: u32,
}

impl Default for HubOptions {
    /// The bounds of a server that was told none, with one shard.
    fn default() -> HubOptions {
        HubOptions {
            retention: Retention::default(),
            channels_max: 100_000,
            backlog: Backlog::default(),
            shards: 1,
            hold_steps: HOLD_STEPS,
        }
    }
}

/// What applying a batch came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The id of the first event; the others follow it without a hole.
    pub first: EventId,
    /// How many streams received the batch's last event.
    pub receivers: Receivers,
    /// The shards that have something to take.
    pub interested: ShardSet,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// The last applied number, readable without the lock.
    head: AtomicU64,
    /// The clock, in [`TICK`]s.
    now: AtomicU32,
    channels_max: usize,
    backlog: Backlog,
    /// How many channels there are, readable without the lock.
    channels_len: AtomicU32,
    /// A shard is further behind than it should be, readable without the lock.
    is_behind: AtomicBool,
    /// Something is left to be given up or put in order, readable without the lock.
    is_unfinished: AtomicBool,
    /// Threads that wait for the lock.
    waiting: AtomicU32,
    /// How often the lock was taken.
    #[cfg(test)]
    locks: AtomicU64,
    /// How often the processor was given up for those who wait for it.
    #[cfg(test)]
    yields: AtomicU64,
}

#[derive(Debug)]
struct State {
    epochs: Epochs,
    channels: Channels,
    targets: Targets,
    history: History,
    own_ids: OwnIds,
    retention: Retention,
    /// How many events were applied.
    applied: u64,
    /// How far each shard has taken the order.
    cursors: Vec<Sequence>,
    /// What may still be done under this hold of the lock.
    budget: Budget,
    /// Channels that may have become idle.
    idle: Lookout,
    /// Channels with more events than they may have.
    over: Lookout,
    /// Channels of clients that are gone, of whose events some are yet to be given up.
    leaving: VecDeque<ChannelId>,
    /// How far the events of the oldest page were given up for want of room.
    evicted_through: Sequence,
    /// The budget did not suffice for all that was to be given up or put in order.
    is_unfinished: bool,
    /// Counts of receivers that shards have yet to make, in order.
    tallies: VecDeque<(Sequence, Arc<Tally>)>,
    /// How far events were given up for their age.
    expired_through: Sequence,
    /// The clock as of the last call, in [`TICK`]s.
    now: u32,
}

impl Hub {
    /// An empty hub.
    ///
    /// # Panics
    /// If there are no shards, or more than [`SHARDS_MAX`].
    #[must_use]
    pub fn new(options: HubOptions) -> Hub {
        assert!((1..=SHARDS_MAX).contains(&options.shards), "1 to {SHARDS_MAX} shards");
        Hub {
            state: Mutex::new(State {
                epochs: Epochs::default(),
                channels: Channels::new(options.channels_max),
                targets: Targets::new(),
                history: History::new(options.retention.segment_bytes()),
                own_ids: OwnIds::default(),
                retention: options.retention,
                applied: 0,
                cursors: vec![Sequence::START; options.shards],
                budget: Budget::new(options.hold_steps),
                idle: Lookout::default(),
                over: Lookout::default(),
                leaving: VecDeque::new(),
                evicted_through: Sequence::START,
                is_unfinished: false,
                tallies: VecDeque::new(),
                expired_through: Sequence::START,
                now: 0,
            }),
            head: AtomicU64::new(0),
            now: AtomicU32::new(0),
            channels_max: options.channels_max,
            backlog: options.backlog,
            channels_len: AtomicU32::new(0),
            is_behind: AtomicBool::new(false),
            is_unfinished: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            #[cfg(test)]
            locks: AtomicU64::new(0),
            #[cfg(test)]
            yields: AtomicU64::new(0),
        }
    }

    /// Opens an epoch whose first event will be `first`.
    ///
    /// # Panics
    /// If `first` does not lie behind everything applied.
    pub fn begin_epoch(&self, tag: EpochTag, first: Sequence) {
        let mut state = self.lock();
        let state = &mut *state;
        let head = state.epochs.head();
        state.epochs.begin(tag, first);
        // Nothing lies between the old head and the new epoch's first event: whoever is at the one is at the other.
        let opened = state.epochs.head();
        state.cursors.iter_mut().filter(|cursor| **cursor == head).for_each(|cursor| *cursor = opened);
        self.head.store(opened.0, Ordering::Release);
    }

    /// Applies what the log has committed as the events from `first` on: they are in the history and visible to shards. Of a
    /// large batch that holds a part at a time; between two, others may have the lock.
    ///
    /// # Panics
    /// If `first` does not continue the order.
    ///
    /// Where a shard waits for it, the receivers of the batch's last event are counted: the distinct streams that were
    /// subscribed when it was applied, in whatever state. Who waits but is no shard has a number from [`SHARDS_MAX`] on.
    pub fn apply(&self, first: Sequence, batch: &Batch, waiting_shard: Option<usize>) -> Applied {
        let mut drafts = batch.iter();
        let (mut next, mut parts) = (first, 0);
        let mut applied = Applied {
            first: EventId { tag: EpochTag::from_bits(0), sequence: first },
            receivers: Receivers::Exactly(0),
            interested: ShardSet::default(),
        };
        let mut lacks_room = false;
        while parts == 0 || drafts.len() > 0 {
            if parts > 0 {
                self.let_others();
            }
            parts += 1;
            let mut state = self.lock();
            let state = &mut *state;
            state.apply_part(&mut drafts, &mut next, waiting_shard, &mut applied);
            state.enforce_retention();
            lacks_room = state.is_unfinished && state.lacks_room();
            self.publish_counts(state);
            self.head.store(next.0 - 1, Ordering::Release);
        }
        if lacks_room {
            self.make_room();
        }
        applied
    }

    /// Gives up what has to go for what was applied, in as many holds of the lock as it takes: whoever publishes a large
    /// event pays for the many small ones that go for it.
    fn make_room(&self) {
        loop {
            self.let_others();
            let mut state = self.lock();
            let state = &mut *state;
            let before = (state.held_bytes(), state.evicted_through);
            state.enforce_retention();
            let has_got_on =
                state.budget.is_spent_to(3) || before != (state.held_bytes(), state.evicted_through);
            self.publish_counts(state);
            if !state.is_unfinished || !state.lacks_room() || !has_got_on {
                return;
            }
        }
    }

    /// Returns true if and only if something waits for [`Hub::tidy`].
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished.load(Ordering::Relaxed)
    }

    /// Goes on with what one hold of the lock did not suffice for, if there is any: giving up what is to go, and putting in order
    /// what patterns ask for. It is for shards to do, a little in each turn.
    pub fn tidy(&self) {
        if self.is_unfinished() {
            let mut state = self.lock();
            let state = &mut *state;
            state.enforce_retention();
            self.publish_counts(state);
        }
    }

    /// Returns true if and only if `id` has the form of those that a server gives, and the tag of an epoch of this history:
    /// it is not a publisher's to use. That of an epoch to come is random, so nobody will have used it before.
    #[must_use]
    pub fn is_of_server(&self, id: &str) -> bool {
        EventId::parse(id.as_bytes()).is_some_and(|id| self.lock().epochs.knows(id.tag))
    }

    /// The id of a place of the order, if an epoch has it.
    #[must_use]
    pub fn id_of(&self, place: Sequence) -> Option<EventId> {
        self.lock().epochs.id_of(place)
    }

    /// The last applied number.
    #[must_use]
    pub fn head(&self) -> Sequence {
        Sequence(self.head.load(Ordering::Acquire))
    }

    /// Returns true if and only if `additional` more channel names may be more than are allowed.
    #[must_use]
    pub fn is_near_channels_max(&self, additional: usize) -> bool {
        self.channels_len.load(Ordering::Relaxed) as usize + additional > self.channels_max
    }

    /// Returns true if and only if applying `batch` now would make more channel names than are allowed.
    #[must_use]
    pub fn exceeds_channels_max(&self, batch: &Batch) -> bool {
        if !self.is_near_channels_max(batch.len()) && batch.iter().all(|draft| draft.targets().count() == 1) {
            return false;
        }
        let mut names: Vec<&str> =
            batch.iter().flat_map(|draft| draft.targets()).filter(|name| is_channel(name)).collect();
        names.sort_unstable();
        names.dedup();
        let mut new = 0;
        for part in names.chunks(NAMES_PER_HOLD_MAX) {
            let state = self.lock();
            new += part.iter().filter(|name| state.channels.find(name).is_none()).count();
        }
        new > 0 && self.channels_len() + new > self.channels_max
    }

    /// Sets the clock, by which the age of events is counted, to this long after the hub's start. It never goes back: each of
    /// those that set it may have looked at its own clock a while ago.
    pub fn set_now(&self, since_start: Duration) {
        let ticks = u32::try_from(since_start.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
        if self.now.fetch_max(ticks, Ordering::Relaxed) < ticks {
            let mut state = self.lock();
            let state = &mut *state;
            state.enforce_retention();
            self.publish_counts(state);
        }
    }

    /// Returns true if and only if a shard is further behind the head than it should be: who publishes is to wait.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// Bytes that the history holds: segments, entries, names.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.lock().held_bytes()
    }

    /// How many channels have subscribers or retained events.
    #[must_use]
    pub fn channels_len(&self) -> usize {
        self.lock().channels.len()
    }

    /// How many streams subscribe to a target, in whatever state: a channel, a user's, or all.
    #[must_use]
    pub fn subscribers(&self, target: &str) -> u32 {
        let state = self.lock();
        state.channels.find(target).map_or(0, |id| state.channels.subscribers(id))
    }

    /// Keeps the counts that are read without the lock.
    fn publish_counts(&self, state: &State) {
        let len = u32::try_from(state.channels.len()).expect("channels are bounded far below 2^32");
        self.channels_len.store(len, Ordering::Relaxed);
        self.is_behind.store(state.is_behind(self.backlog), Ordering::Release);
        self.is_unfinished.store(state.is_unfinished, Ordering::Relaxed);
    }

    /// How often the lock was taken.
    #[cfg(test)]
    pub(crate) fn locks(&self) -> u64 {
        self.locks.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locks.fetch_add(1, Ordering::Relaxed);
        let locked = match self.state.try_lock() {
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let locked = self.state.lock();
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                locked
            }
            Err(TryLockError::Poisoned(error)) => Err(error),
            Ok(state) => Ok(state),
        };
        match locked {
            Ok(mut state) => {
                state.now = self.now.load(Ordering::Relaxed);
                state.budget.renew();
                state
            }
            Err(_) => {
                tracing::error!(
                    "a panic under the hub's lock: the order of events can no longer be vouched for"
                );
                std::thread::sleep(LAST_WORDS_WAIT);
                std::process::abort();
            }
        }
    }

    /// Lets those have the lock who wait for it, before the same thread takes it again: it would mostly be the first.
    fn let_others(&self) {
        for _ in 0..YIELDS_MAX {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            #[cfg(test)]
            self.yields.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
    }
}

/// For whoever writes the log on a thread of its own.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

impl State {
    /// Applies events of a batch, one at the least, until half of the budget is spent: the other half is for what they
    /// drive out.
    fn apply_part<'b>(
        &mut self,
        drafts: &mut impl ExactSizeIterator<Item = DraftRef<'b>>,
        next: &mut Sequence,
        waiting_shard: Option<usize>,
        applied: &mut Applied,
    ) {
        let before = self.epochs.head();
        let mut interested = ShardSet::default();
        let mut channels = Vec::new();
        while let Some(draft) = drafts.next() {
            let sequence = *next;
            *next = sequence.next();
            let tag = self.epochs.extend(sequence, sequence);
            applied.first.tag = tag;
            channels.clear();
            channels.extend(draft.targets().filter_map(|name| self.enter_target(name)));
            let retaining = channels.len();
            self.add_patterns(draft.targets(), &mut channels);
            let target = self.targets.enter(&channels);
            let holders = u32::try_from(retaining).expect("an event's channels are bounded by its body");
            self.history.append(EventId { tag, sequence }, draft, target, self.now, holders);
            if let Some(shard) = waiting_shard.filter(|_| drafts.len() == 0) {
                applied.receivers = self.count_receivers(&channels, sequence, shard);
            }
            for (index, &channel) in channels.iter().enumerate() {
                interested.union(self.channels.shards(channel));
                if index < retaining {
                    self.retain(channel, sequence, draft.own_id);
                } else {
                    self.channels.pass(channel, sequence);
                }
            }
            self.applied += 1;
            self.budget.spend(2 * EVENT_STEPS + EVENT_STEPS * budget::steps(channels.len()));
            if self.budget.is_spent_to(2) {
                break;
            }
        }
        let head = self.epochs.head();
        for (shard, cursor) in self.cursors.iter_mut().enumerate() {
            // A shard that nothing of this concerns, and that is behind with nothing, needs not look at it.
            if *cursor == before && !interested.contains(shard) {
                *cursor = head;
            }
        }
        applied.interested.union(interested);
    }

    /// Adds the patterns with subscribers that any of `names` matches to its channels, each once.
    fn add_patterns<'n>(&self, names: impl Iterator<Item = &'n str>, channels: &mut Vec<ChannelId>) {
        if !self.channels.has_patterns() {
            return;
        }
        for pattern in names.filter(|name| is_channel(name)).flat_map(|name| self.channels.patterns_of(name))
        {
            if !channels.contains(&pattern) {
                channels.push(pattern);
            }
        }
    }

    /// Returns true if and only if a shard is further behind the head than `backlog` allows.
    fn is_behind(&self, backlog: Backlog) -> bool {
        let (slowest, head) = (self.taken_by_all(), self.epochs.head());
        slowest < head
            && (head.0 - slowest.0 > backlog.events_max
                || self.history.bytes_of_pages_after(slowest) > backlog.bytes_max)
    }

    /// How far every shard has taken the order.
    fn taken_by_all(&self) -> Sequence {
        self.cursors.iter().copied().min().unwrap_or(Sequence::START)
    }
}
