//! What publisher and readers exchange during a run: numbers that each side posts, and a common clock.

use serde::{Deserialize, Serialize};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::Waker;

/// The numbers of one run.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) clock: Clock,
    /// A signal ended the run early. Its figures so far are reported.
    pub(super) is_signalled: AtomicBool,
    /// Some readers ended before their time, so there is no more to measure.
    pub(super) has_failed: AtomicBool,
    /// Readers look for their slowest stream, which costs a look at each.
    pub(super) wants_places: AtomicBool,
    /// Slow streams may not have read everything queued for them.
    pub(super) is_drain_cut: AtomicBool,
    /// Events sent at or after this time, in ns, are measured.
    pub(super) measured_from_ns: AtomicU64,
    /// The place in the run up to which every event was published and answered. Readers check their
    /// streams against it in [`Phase::Over`].
    pub(super) published: AtomicU64,
    pub(super) readers: Vec<ReaderBoard>,
    phase: AtomicU8,
    /// The sum of places by which streams that are not slow have advanced since their first event.
    advanced: AtomicU64,
    /// The sum that the publisher waits for.
    goal: AtomicU64,
    waker: Waker,
}

/// What the readers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(super) enum Phase {
    /// Read everything at full speed.
    AllRead,
    /// Read slow streams slowly.
    SlowRead,
    /// Count missing events, and end.
    Over,
}

/// Numbers of one reader, or of a worker with all of its readers. They have a cache line of their own
/// and are posted once a turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ReaderBoard {
    /// The kernel's id of its thread; 0 before the thread runs, and for a worker.
    pub(super) thread_id: AtomicI32,
    /// Connections attempted.
    pub(super) tried: AtomicU64,
    /// Streams that the server began.
    pub(super) begun: AtomicU64,
    /// Connections that did not become streams.
    pub(super) failed: AtomicU64,
    /// Streams with at least one event.
    pub(super) settled: AtomicU64,
    /// Streams that ended unasked.
    pub(super) ended: AtomicU64,
    /// Measured events received.
    pub(super) deliveries: AtomicU64,
    /// When the last of these came, in ns.
    pub(super) last_delivery_ns: AtomicU64,
    /// Bytes received since measuring began.
    pub(super) received_bytes: AtomicU64,
    /// The place in the run of the first event that a stream which is not slow still waits for.
    pub(super) fast_place: AtomicU64,
    /// The same for slow streams.
    pub(super) slow_place: AtomicU64,
}

impl Board {
    /// A board for `readers` readers. `waker` ends the wait of the publisher, or of a worker.
    pub(super) fn new(clock: Clock, readers: usize, waker: Waker) -> Board {
        Board {
            clock,
            is_signalled: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            wants_places: AtomicBool::new(true),
            is_drain_cut: AtomicBool::new(false),
            measured_from_ns: AtomicU64::new(u64::MAX),
            published: AtomicU64::new(0),
            readers: (0..readers).map(|_| ReaderBoard::default()).collect(),
            phase: AtomicU8::new(Phase::AllRead as u8),
            advanced: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            waker,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::AllRead,
            1 => Phase::SlowRead,
            _ => Phase::Over,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Returns true if and only if the run ends early.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_signalled.load(Ordering::Relaxed) || self.has_failed()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Ends the wait of the publisher, or of a worker.
    pub(super) fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }

    /// The sum of one number over all readers.
    pub(super) fn sum(&self, number: impl Fn(&ReaderBoard) -> &AtomicU64) -> u64 {
        self.readers.iter().map(|reader| number(reader).load(Ordering::Acquire)).sum()
    }

    /// The first place that a stream which is not slow still waits for; `u64::MAX` if there is none.
    pub(super) fn fast_place(&self) -> u64 {
        self.least(|reader| &reader.fast_place)
    }

    /// The same for slow streams.
    pub(super) fn slow_place(&self) -> u64 {
        self.least(|reader| &reader.slow_place)
    }

    /// When the last measured event came, in ns.
    pub(super) fn last_delivery_ns(&self) -> u64 {
        self.readers.iter().map(|reader| reader.last_delivery_ns.load(Ordering::Acquire)).max().unwrap_or(0)
    }

    pub(super) fn advanced(&self) -> u64 {
        self.advanced.load(Ordering::SeqCst)
    }

    /// Adds the advance of a reader's streams, and wakes the publisher if it waits for that.
    pub(super) fn advance(&self, by: u64) -> io::Result<()> {
        if by == 0 {
            return Ok(());
        }
        let before = self.advanced.fetch_add(by, Ordering::SeqCst);
        let goal = self.goal.load(Ordering::SeqCst);
        if before < goal && goal <= before + by { self.waker.wake() } else { Ok(()) }
    }

    /// Has the publisher woken once the streams have advanced this far.
    pub(super) fn set_goal(&self, goal: u64) {
        self.goal.store(goal, Ordering::SeqCst);
    }

    fn least(&self, place: impl Fn(&ReaderBoard) -> &AtomicU64) -> u64 {
        self.readers.iter().map(|reader| place(reader).load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }
}

/// Reports on drop that the run has failed, and that a reader's streams will not advance, unless it was
/// disarmed before. So a panic of a thread is reported too.
#[derive(Debug)]
pub(super) struct Alarm {
    board: Arc<Board>,
    /// The index of the reader on the board.
    reader: usize,
    is_armed: bool,
}

impl Alarm {
    pub(super) fn new(board: Arc<Board>, reader: usize) -> Alarm {
        Alarm { board, reader, is_armed: true }
    }

    pub(super) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.is_armed {
            let reader = &self.board.readers[self.reader];
            reader.fast_place.store(u64::MAX, Ordering::Release);
            reader.slow_place.store(u64::MAX, Ordering::Release);
            self.board.has_failed.store(true, Ordering::Release);
        }
    }
}

/// Time since the run began, the same in all of its processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The clock of a run that another process began, from [`Clock::origin_ns`] of its clock.
    ///
    /// If the machine's clock is set in between, the result is off by that step. It then shows times
    /// before or after what was waited for.
    pub(super) fn of_origin(origin_ns: u64) -> Clock {
        let (instant, unix_ns) = both_clocks();
        let passed = Duration::from_nanos(unix_ns.saturating_sub(origin_ns));
        Clock(instant.checked_sub(passed).unwrap_or(instant))
    }

    /// When the run began, in ns since 1970: other processes cannot use an `Instant` of this one.
    pub(super) fn origin_ns(self) -> u64 {
        let (instant, unix_ns) = both_clocks();
        unix_ns.saturating_sub(as_ns(instant.saturating_duration_since(self.0)))
    }

    pub(super) fn ns(self) -> u64 {
        as_ns(self.0.elapsed())
    }
}

/// One moment on both clocks of the machine, the second in ns since 1970, to within some 100 ns. It is
/// the closest pair of a few tries, as a thread may lose its CPU in between.
fn both_clocks() -> (Instant, u64) {
    let tries = (0..CLOCK_TRIES).map(|_| {
        let (before, now, after) = (Instant::now(), SystemTime::now(), Instant::now());
        let took = after.saturating_duration_since(before);
        let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (took, before + took / 2, as_ns(unix))
    });
    let (_, instant, unix_ns) = tries.min_by_key(|(took, ..)| *took).expect("there are some tries");
    (instant, unix_ns)
}

/// A duration in ns, saturating at 584 years.
pub(super) fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const CLOCK_TRIES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_by_another_agrees_with_it() {
        let clock = Clock::start();
        let other = Clock::of_origin(clock.origin_ns());
        let (before, between, after) = (clock.ns(), other.ns(), clock.ns());
        let slack = 100_000;
        assert!(before <= between + slack && between <= after + slack, "{before} {between} {after}");
    }

    #[test]
    fn an_alarm_goes_off_where_a_thread_ends_without_a_word() {
        let poll = mio::Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let board = Arc::new(Board::new(Clock::start(), 1, waker));
        Alarm::new(Arc::clone(&board), 0).disarm();
        assert!(!board.is_stopped());
        let alarm = Alarm::new(Arc::clone(&board), 0);
        let thread = std::thread::spawn(move || {
            let _alarm = alarm;
            std::panic::resume_unwind(Box::new("it ends"));
        });
        assert!(thread.join().is_err() && board.is_stopped() && board.has_failed());
        assert_eq!((board.fast_place(), board.slow_place()), (u64::MAX, u64::MAX));
    }
}
