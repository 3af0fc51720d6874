//! A log for tests that behaves like a disk or a broker. It commits late and in other groups than were
//! appended, refuses batches, leaves tickets without an answer for long, and loses its tail in a crash.
//!
//! It moves only in [`SimLog::step`], by a seeded generator. The same seed and calls give the same run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::id::{EpochTag, Sequence};
use crate::base::random::SplitMix64;
use crate::frame::batch::Batch;
use crate::log::{Log, Refusal, Sink, Ticket};

/// How often the log misbehaves.
#[derive(Clone, Copy, Debug)]
pub struct SimLogOptions {
    /// The probability that a step commits nothing although a batch waits.
    pub delay_probability: f64,
    /// The probability that a batch is refused.
    pub refuse_probability: f64,
    /// The probability that nobody learns what becomes of a batch. It is then lost, or committed later.
    pub uncertain_probability: f64,
    /// Most batches that one step commits, at least 1.
    pub group_max: usize,
}

/// The medium that a log writes to. It survives a crash.
#[derive(Clone, Debug, Default)]
pub struct SimMedium(Arc<Mutex<Vec<Kept>>>);

#[derive(Clone, Debug)]
enum Kept {
    Epoch(EpochTag, Sequence),
    Batch(Sequence, Arc<Batch>),
}

impl SimMedium {
    /// Loses the last `batches` committed batches, as a crash before their flush would.
    pub fn lose_tail(&self, batches: usize) {
        let mut kept = self.kept();
        for _ in 0..batches {
            if matches!(kept.last(), Some(Kept::Batch(..))) {
                kept.pop();
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The simulated log.
pub struct SimLog {
    sink: Arc<dyn Sink>,
    options: SimLogOptions,
    medium: SimMedium,
    state: Mutex<SimState>,
}

struct SimState {
    random: SplitMix64,
    next: Sequence,
    /// `None` instead of a ticket that was already given up.
    waiting: Vec<(Batch, Option<Ticket>)>,
}

impl SimLog {
    /// Opens the log on a medium. It commits what the medium holds again, then begins a new epoch.
    #[must_use]
    pub fn open(medium: &SimMedium, seed: u64, options: SimLogOptions, sink: Arc<dyn Sink>) -> SimLog {
        let mut random = SplitMix64::new(seed);
        let mut next = Sequence::START.next();
        let kept = medium.kept().clone();
        for record in kept {
            match record {
                Kept::Epoch(tag, first) => sink.epoch_began(tag, first),
                Kept::Batch(first, batch) => {
                    sink.committed(first, &batch, None);
                    next = first.plus(batch.len() as u64);
                }
            }
        }
        let tag = EpochTag::from_bits(random.bits());
        sink.epoch_began(tag, next);
        medium.kept().push(Kept::Epoch(tag, next));
        let state = Mutex::new(SimState { random, next, waiting: Vec::new() });
        SimLog { sink, options, medium: medium.clone(), state }
    }

    /// Takes one step: commits some of the waiting batches, refuses one, or does nothing.
    pub fn step(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() || state.random.chance(self.options.delay_probability) {
            return;
        }
        let most = state.waiting.len().min(self.options.group_max);
        let group = state.random.within(1..=most);
        for _ in 0..group {
            let (batch, ticket) = state.waiting.remove(0);
            if let Some(ticket) = ticket
                && state.random.chance(self.options.uncertain_probability)
            {
                if state.random.chance(0.5) {
                    state.waiting.push((batch.clone(), None));
                }
                self.sink.refused(ticket, batch, Refusal::Uncertain);
                continue;
            }
            if let Some(ticket) = ticket
                && state.random.chance(self.options.refuse_probability)
            {
                self.sink.refused(ticket, batch, Refusal::Refused { reason: "simulated".to_owned() });
                continue;
            }
            let first = state.next;
            state.next = first.plus(batch.len() as u64);
            let batch = Arc::new(batch);
            self.medium.kept().push(Kept::Batch(first, Arc::clone(&batch)));
            self.sink.committed(first, &batch, ticket);
        }
    }

    /// The number of batches that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.len()
    }
}

impl Log for SimLog {
    fn append(&self, batch: Batch, ticket: Ticket) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.push((batch, Some(ticket)));
    }
}

impl std::fmt::Debug for SimLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimLog").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
