//! The hub: its state behind one lock, and a few values that are readable without it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::options::{Backlog, HubOptions, START_TICK, ticks};
use super::shards::SHARDS_MAX;
use super::state::State;
use crate::base::id::{EpochTag, EventId, Sequence};

/// The most times that the processor is yielded to threads that wait for the lock: about as long as it
/// takes to wake one.
pub(super) const YIELDS_MAX: usize = 256;

/// Leaves time for a log writer on another thread to write the last message.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// The hub.
#[derive(Debug)]
pub struct Hub {
    pub(super) state: Mutex<State>,
    /// The number of the last applied event, readable without the lock.
    pub(super) head: AtomicU64,
    /// The clock, in [`TICK`](super::options::TICK)s, from [`START_TICK`] on.
    pub(super) now: AtomicU32,
    pub(super) channels_max: usize,
    pub(super) backlog: Backlog,
    /// The number of channels, readable without the lock.
    pub(super) channels_len: AtomicU32,
    /// A shard is further behind than the backlog allows; readable without the lock.
    pub(super) is_behind: AtomicBool,
    /// Work is left for [`Hub::tidy`]; readable without the lock.
    pub(super) is_unfinished: AtomicBool,
    /// The number of threads that wait for the lock.
    pub(super) waiting: AtomicU32,
    /// How often the lock was taken.
    #[cfg(test)]
    pub(super) locks: AtomicU64,
    /// How often the processor was yielded to waiting threads.
    #[cfg(test)]
    pub(super) yields: AtomicU64,
}

impl Hub {
    /// Creates an empty hub.
    ///
    /// # Panics
    /// If there are no shards, or more than [`SHARDS_MAX`].
    #[must_use]
    pub fn new(options: HubOptions) -> Hub {
        assert!((1..=SHARDS_MAX).contains(&options.shards), "1 to {SHARDS_MAX} shards");
        Hub {
            state: Mutex::new(State::new(&options)),
            head: AtomicU64::new(0),
            now: AtomicU32::new(START_TICK),
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
    /// If `first` does not come after every applied event.
    pub fn begin_epoch(&self, tag: EpochTag, first: Sequence) {
        let mut state = self.lock();
        let state = &mut *state;
        let head = state.epochs.head();
        state.epochs.begin(tag, first);
        // Nothing lies between the old head and the new epoch's first event: a cursor at the old head
        // moves to the new one.
        let opened = state.epochs.head();
        state.cursors.iter_mut().filter(|cursor| **cursor == head).for_each(|cursor| *cursor = opened);
        self.head.store(opened.0, Ordering::Release);
    }

    /// Returns true if work is left for [`Hub::tidy`].
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished.load(Ordering::Relaxed)
    }

    /// Continues work that one hold of the lock did not suffice for: giving up events, and gathering and
    /// sorting for patterns. Shards call this, a little in each turn.
    pub fn tidy(&self) {
        if self.is_unfinished() {
            let mut state = self.lock();
            let state = &mut *state;
            state.enforce_retention();
            self.publish_counts(state);
        }
    }

    /// Returns true if and only if `id` has the form of a server's id and the tag of an epoch of this
    /// history: then a publisher may not use it. The tag of a future epoch is random, so no publisher
    /// will have used it before.
    #[must_use]
    pub fn is_of_server(&self, id: &str) -> bool {
        EventId::parse(id.as_bytes()).is_some_and(|id| self.lock().epochs.knows(id.tag))
    }

    /// Returns the id of a place, if it lies in an epoch.
    #[must_use]
    pub fn id_of(&self, place: Sequence) -> Option<EventId> {
        self.lock().epochs.id_of(place)
    }

    /// Returns the number of the last applied event.
    #[must_use]
    pub fn head(&self) -> Sequence {
        Sequence(self.head.load(Ordering::Acquire))
    }

    /// Returns true if `additional` more channel names may exceed the limit.
    #[must_use]
    pub fn is_near_channels_max(&self, additional: usize) -> bool {
        self.channels_len.load(Ordering::Relaxed) as usize + additional > self.channels_max
    }

    /// Sets the clock that measures the age of events to the time since the hub's start. The clock never
    /// goes back: a caller may have read its own clock a while ago.
    pub fn set_now(&self, since_start: Duration) {
        let ticks = START_TICK.saturating_add(ticks(since_start));
        if self.now.fetch_max(ticks, Ordering::Relaxed) < ticks {
            let mut state = self.lock();
            let state = &mut *state;
            state.enforce_retention();
            self.publish_counts(state);
        }
    }

    /// Returns true if a shard is further behind the head than the backlog allows: publishers must wait.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// Returns the bytes that the history holds: segments, entries, names.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.lock().held_bytes()
    }

    /// Counts the channels with subscribers or retained events.
    #[must_use]
    pub fn channels_len(&self) -> usize {
        self.lock().channels.len()
    }

    /// Counts the streams that subscribe to a target, in whatever state: a channel, a user, or all.
    #[must_use]
    pub fn subscribers(&self, target: &str) -> u32 {
        let state = self.lock();
        state.channels.find(target).map_or(0, |id| state.channels.subscribers(id))
    }

    /// Updates the values that are readable without the lock.
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

    /// Lets waiting threads have the lock before this thread takes it again: otherwise this thread would
    /// mostly be the first.
    pub(super) fn yield_to_waiting(&self) {
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
