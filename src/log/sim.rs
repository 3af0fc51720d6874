//! A log for tests that behaves like a disk or a broker. It opens late, commits late and in other groups
//! than were appended, acknowledges later than it commits or never, refuses records, leaves tickets
//! without an answer for long, and loses its tail in a crash.
//!
//! It moves only in [`SimLog::step`], by a seeded generator. The same seed and calls give the same run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::id::{EpochTag, Sequence};
use crate::base::random::SplitMix64;
use crate::log::{Acknowledgement, Append, Committed, Log, Origin, Refusal, Sink, Ticket};
use crate::record::Record;

/// How often the log misbehaves.
#[derive(Clone, Copy, Debug)]
pub struct SimLogOptions {
    /// The probability that a step commits nothing although a record waits.
    pub delay_probability: f64,
    /// The probability that a record is refused.
    pub refuse_probability: f64,
    /// The probability that nobody learns what becomes of a record. It is then lost, or committed later.
    pub uncertain_probability: f64,
    /// The probability that a record is acknowledged in a later step than it is committed in.
    pub late_probability: f64,
    /// The probability that nobody learns whether a record that is acknowledged late is safe.
    pub unsafe_probability: f64,
    /// Most records that one step commits, at least 1.
    pub group_max: usize,
    /// The bytes of waiting records above which the log is behind.
    pub backlog_bytes_max: usize,
}

impl Default for SimLogOptions {
    /// A log that commits and acknowledges one record a step.
    fn default() -> SimLogOptions {
        SimLogOptions {
            delay_probability: 0.0,
            refuse_probability: 0.0,
            uncertain_probability: 0.0,
            late_probability: 0.0,
            unsafe_probability: 0.0,
            group_max: 1,
            backlog_bytes_max: usize::MAX,
        }
    }
}

/// The medium that a log writes to. It survives a crash.
#[derive(Clone, Debug, Default)]
pub struct SimMedium(Arc<Mutex<Vec<Kept>>>);

#[derive(Clone, Debug)]
enum Kept {
    Epoch(EpochTag, Sequence),
    Record(KeptRecord),
}

#[derive(Clone, Debug)]
struct KeptRecord {
    first: Sequence,
    record: Arc<Record>,
    /// The wall time of the append.
    appended_at: Duration,
}

impl SimMedium {
    /// Loses the last `records` committed records, as a crash before their flush would.
    pub fn lose_tail(&self, records: usize) {
        let mut kept = self.kept();
        for _ in 0..records {
            if matches!(kept.last(), Some(Kept::Record(_))) {
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
    /// Bytes of waiting records.
    backlog_bytes: AtomicUsize,
    is_ready: AtomicBool,
    state: Mutex<SimState>,
}

struct SimState {
    random: SplitMix64,
    /// The wall time, since an arbitrary instant.
    now: Duration,
    next: Sequence,
    /// What earlier processes left and was not reported yet.
    restored: VecDeque<Kept>,
    waiting: VecDeque<Waiting>,
    /// Committed and not acknowledged, in order.
    unacknowledged: Vec<Ticket>,
    is_closed: bool,
}

struct Waiting {
    record: Record,
    /// `None` instead of a ticket that was already given up.
    ticket: Option<Ticket>,
    appended_at: Duration,
}

impl SimLog {
    /// Opens the log on a medium at the wall time `now`. It reports what the medium holds, then begins a
    /// new epoch and is ready.
    #[must_use]
    pub fn open(
        medium: &SimMedium,
        seed: u64,
        options: SimLogOptions,
        now: Duration,
        sink: Arc<dyn Sink>,
    ) -> SimLog {
        let log = SimLog::begin_to_open(medium, seed, options, now, sink);
        while !log.is_ready() {
            log.step();
        }
        log
    }

    /// The same, but each [`SimLog::step`] reports one entry of the medium until the log is ready.
    #[must_use]
    pub fn begin_to_open(
        medium: &SimMedium,
        seed: u64,
        options: SimLogOptions,
        now: Duration,
        sink: Arc<dyn Sink>,
    ) -> SimLog {
        let state = SimState {
            random: SplitMix64::new(seed),
            now,
            next: Sequence::START.next(),
            restored: medium.kept().iter().cloned().collect(),
            waiting: VecDeque::new(),
            unacknowledged: Vec::new(),
            is_closed: false,
        };
        SimLog {
            sink,
            options,
            medium: medium.clone(),
            backlog_bytes: AtomicUsize::new(0),
            is_ready: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Sets the wall time. It may go back, as wall time does.
    pub fn set_now(&self, now: Duration) {
        self.state().now = now;
    }

    /// Takes one step: reports one entry of the medium, or acknowledges some records, commits some of
    /// those that wait, refuses some, or does nothing.
    pub fn step(&self) {
        let mut state = self.state();
        if !self.is_ready() {
            return self.restore(&mut state);
        }
        self.acknowledge(&mut state);
        if state.waiting.is_empty() || state.random.chance(self.options.delay_probability) {
            return;
        }
        let most = state.waiting.len().min(self.options.group_max);
        let group = state.random.within(1..=most);
        self.commit(&mut state, group);
    }

    /// The number of records that wait to be committed or acknowledged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let state = self.state();
        state.waiting.len() + state.unacknowledged.len()
    }

    fn restore(&self, state: &mut SimState) {
        match state.restored.pop_front() {
            Some(Kept::Epoch(tag, first)) => self.sink.epoch_began(tag, first),
            Some(Kept::Record(KeptRecord { first, record, appended_at })) => {
                let age = state.now.saturating_sub(appended_at);
                state.next = first.plus(record.numbers());
                let origin = Origin::Elsewhere { age };
                self.sink.committed(&[Committed { first, record: &record, origin }]);
            }
            None => {
                let tag = EpochTag::from_bits(state.random.bits());
                self.sink.epoch_began(tag, state.next);
                self.medium.kept().push(Kept::Epoch(tag, state.next));
                self.is_ready.store(true, Ordering::Release);
            }
        }
    }

    /// Acknowledges some of the oldest records, or reports that nobody knows whether they are safe.
    fn acknowledge(&self, state: &mut SimState) {
        if state.unacknowledged.is_empty() || state.random.chance(self.options.delay_probability) {
            return;
        }
        let most = state.unacknowledged.len();
        let count = state.random.within(1..=most);
        let tickets: Vec<Ticket> = state.unacknowledged.drain(..count).collect();
        let is_unsafe = state.random.chance(self.options.unsafe_probability);
        let outcome = if is_unsafe { Acknowledgement::Uncertain } else { Acknowledgement::Safe };
        self.sink.acknowledged(&tickets, outcome);
    }

    /// Decides on the `count` oldest records that wait. What it commits, it commits as one group.
    fn commit(&self, state: &mut SimState, count: usize) {
        let mut group = Vec::new();
        for _ in 0..count {
            let Some(Waiting { record, ticket, appended_at }) = state.waiting.pop_front() else { break };
            let bytes = record.bytes();
            self.backlog_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(ticket) = ticket
                && state.random.chance(self.options.uncertain_probability)
            {
                if state.random.chance(0.5) {
                    self.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
                    state.waiting.push_back(Waiting { record: record.clone(), ticket: None, appended_at });
                }
                self.report(&mut group);
                self.sink.refused(ticket, record, Refusal::Uncertain);
                continue;
            }
            if let Some(ticket) = ticket
                && state.random.chance(self.options.refuse_probability)
            {
                self.report(&mut group);
                self.sink.refused(ticket, record, Refusal::Refused { reason: "simulated".to_owned() });
                continue;
            }
            let first = state.next;
            state.next = first.plus(record.numbers());
            let kept = KeptRecord { first, record: Arc::new(record), appended_at };
            self.medium.kept().push(Kept::Record(kept.clone()));
            let origin = match ticket {
                None => Origin::Elsewhere { age: state.now.saturating_sub(appended_at) },
                Some(ticket) => {
                    let is_late = state.random.chance(self.options.late_probability);
                    if is_late {
                        state.unacknowledged.push(ticket);
                    }
                    Origin::Here { ticket, is_acknowledged: !is_late }
                }
            };
            group.push((kept, origin));
        }
        self.report(&mut group);
    }

    fn report(&self, group: &mut Vec<(KeptRecord, Origin)>) {
        if group.is_empty() {
            return;
        }
        let committed: Vec<Committed<'_>> = group
            .iter()
            .map(|(kept, origin)| Committed { first: kept.first, record: &kept.record, origin: *origin })
            .collect();
        self.sink.committed(&committed);
        group.clear();
    }

    fn state(&self) -> MutexGuard<'_, SimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for SimLog {
    fn append(&self, group: &mut Vec<Append>) {
        let mut state = self.state();
        let is_open = self.is_ready() && !state.is_closed;
        for (ticket, record) in group.drain(..) {
            if is_open {
                self.backlog_bytes.fetch_add(record.bytes(), Ordering::Relaxed);
                let appended_at = state.now;
                state.waiting.push_back(Waiting { record, ticket: Some(ticket), appended_at });
            } else {
                self.sink.refused(ticket, record, Refusal::not_open());
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    fn is_behind(&self) -> bool {
        self.backlog_bytes.load(Ordering::Relaxed) > self.options.backlog_bytes_max
    }

    fn flush(&self) {
        let mut state = self.state();
        let count = state.waiting.len();
        self.commit(&mut state, count);
        let tickets = std::mem::take(&mut state.unacknowledged);
        if !tickets.is_empty() {
            self.sink.acknowledged(&tickets, Acknowledgement::Safe);
        }
    }

    fn close(&self) {
        while self.waiting() > 0 {
            self.flush(); // A record may be put back once.
        }
        self.state().is_closed = true;
    }
}

impl std::fmt::Debug for SimLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimLog").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
