//! The hub: its state behind one lock, and what is known of it without.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::options::{Backlog, HubOptions, TICK};
use super::shards::SHARDS_MAX;
use super::state::State;
use crate::base::id::{EpochTag, EventId, Sequence};

/// How often the processor is given up for those who wait for the lock: about as long as it takes to wake one.
pub(super) const YIELDS_MAX: usize = 256;

/// For whoever writes the log on a thread of its own.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// The hub.
#[derive(Debug)]
pub struct Hub {
    pub(super) state: Mutex<State>,
    /// The last applied number, readable without the lock.
    pub(super) head: AtomicU64,
    /// The clock, in [`TICK`]s.
    pub(super) now: AtomicU32,
    pub(super) channels_max: usize,
    pub(super) backlog: Backlog,
    /// How many channels there are, readable without the lock.
    pub(super) channels_len: AtomicU32,
    /// A shard is further behind than it should be, readable without the lock.
    pub(super) is_behind: AtomicBool,
    /// Something is left to be given up or put in order, readable without the lock.
    pub(super) is_unfinished: AtomicBool,
    /// Threads that wait for the lock.
    pub(super) waiting: AtomicU32,
    /// How often the lock was taken.
    #[cfg(test)]
    pub(super) locks: AtomicU64,
    /// How often the processor was given up for those who wait for it.
    #[cfg(test)]
    pub(super) yields: AtomicU64,
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
            state: Mutex::new(State::new(&options)),
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
    pub(super) fn publish_counts(&self, state: &State) {
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
    pub(super) fn let_others(&self) {
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
