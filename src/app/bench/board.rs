//! What the publisher and the readers know of each other while a run is under way: numbers that each side puts up, and the
//! clock that both read.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::Waker;

/// The numbers of one run.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) clock: Clock,
    /// Whether the run is to end early, with the figures so far.
    pub(super) is_stopped: AtomicBool,
    /// Whether readers look for their slowest stream, which costs them a look at each.
    pub(super) wants_places: AtomicBool,
    /// Whether slow streams may not have read all that waited for them.
    pub(super) is_drain_cut: AtomicBool,
    /// Events sent at or after this time, in ns, are measured.
    pub(super) measured_from_ns: AtomicU64,
    /// The place in the run up to which every event was published and answered for; what readers hold their streams
    /// against when the phase is [`Phase::Over`].
    pub(super) published: AtomicU64,
    pub(super) readers: Vec<ReaderBoard>,
    phase: AtomicU8,
    /// Places that streams which are not slow have moved on by, since the first event of each.
    advanced: AtomicU64,
    /// The sum that the publisher waits for.
    goal: AtomicU64,
    waker: Waker,
}

/// What the readers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Read everything at full speed.
    AllRead,
    /// Read slow streams slowly.
    SlowRead,
    /// Count what is missing, and end.
    Over,
}

/// What one reader puts up, on a cache line of its own, once a turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ReaderBoard {
    /// The kernel's id of its thread; 0 before it runs.
    pub(super) thread_id: AtomicU64,
    /// Connections that were tried.
    pub(super) tried: AtomicU64,
    /// Streams that the server has begun.
    pub(super) begun: AtomicU64,
    /// Connections that came to no stream.
    pub(super) failed: AtomicU64,
    /// Streams that had at least one event.
    pub(super) settled: AtomicU64,
    /// Streams that ended though nobody asked for it.
    pub(super) ended: AtomicU64,
    /// Measured events received.
    pub(super) deliveries: AtomicU64,
    /// When the last of them came, in ns.
    pub(super) last_delivery_ns: AtomicU64,
    /// Bytes received since measuring began.
    pub(super) received_bytes: AtomicU64,
    /// The place in the run of the first event that some stream which is not slow still waits for.
    pub(super) fast_place: AtomicU64,
    /// The same for streams that are slow.
    pub(super) slow_place: AtomicU64,
}

impl Board {
    /// `waker` ends the publisher's wait.
    pub(super) fn new(threads: usize, waker: Waker) -> Board {
        Board {
            clock: Clock::start(),
            is_stopped: AtomicBool::new(false),
            wants_places: AtomicBool::new(true),
            is_drain_cut: AtomicBool::new(false),
            measured_from_ns: AtomicU64::new(u64::MAX),
            published: AtomicU64::new(0),
            readers: (0..threads).map(|_| ReaderBoard::default()).collect(),
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

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// The sum of one number over all readers.
    pub(super) fn sum(&self, number: impl Fn(&ReaderBoard) -> &AtomicU64) -> u64 {
        self.readers.iter().map(|reader| number(reader).load(Ordering::Acquire)).sum()
    }

    /// The first place that some stream which is not slow still waits for; `u64::MAX` where there is none.
    pub(super) fn fast_place(&self) -> u64 {
        self.least(|reader| &reader.fast_place)
    }

    /// The same for streams that are slow.
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

    /// Adds what a reader's streams have moved on by, and wakes the publisher where it waits for that.
    pub(super) fn advance(&self, by: u64) -> io::Result<()> {
        if by == 0 {
            return Ok(());
        }
        let before = self.advanced.fetch_add(by, Ordering::SeqCst);
        let goal = self.goal.load(Ordering::SeqCst);
        if before < goal && goal <= before + by { self.waker.wake() } else { Ok(()) }
    }

    /// Has the publisher woken when the streams have moved on so far.
    pub(super) fn set_goal(&self, goal: u64) {
        self.goal.store(goal, Ordering::SeqCst);
    }

    fn least(&self, place: impl Fn(&ReaderBoard) -> &AtomicU64) -> u64 {
        self.readers.iter().map(|reader| place(reader).load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }
}

/// Time since the run began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn ns(self) -> u64 {
        as_ns(self.0.elapsed())
    }
}

/// A duration in ns, as far as 64 bits go: for 584 years.
pub(super) fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
