//! The course of a run: connections, a first event on every stream, warm-up, the measured part, and the
//! end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use mio::{Poll, Waker};

use super::BenchError;
use super::board::{Board, Clock, Phase, as_ns};
use super::connect::Connector;
use super::course::{Course, Measured, Snapshot};
use super::crew::Crew;
use super::endpoints::UrlTemplate;
use super::parameters::Parameters;
use super::plan::{Extent, Pace, Plan};
use super::process::{Kernel, Memory, ThreadTime, Usage, thread_id};
use super::progress::Notices;
use super::publisher::{Progress, Publisher, Until, WAKER};
use super::readers::Readers;
use super::report::Report;
use crate::app::signals::SignalWatch;
use crate::driver::affinity::pin_to_cpu;

/// Runs the load of `plan`.
///
/// # Errors
/// If it cannot be set up. Later failures are in the report.
pub(super) fn conduct(
    plan: Plan,
    parameters: Parameters,
    notices: &mut impl Write,
) -> Result<Report, BenchError> {
    let began = SystemTime::now();
    let plan = Arc::new(plan);
    let subscribe_address = resolve(&plan.endpoints.subscribe_url)?;
    let publish_address = resolve(&plan.endpoints.publish_url)?;
    let connector = Connector::new(&plan, FIRST, subscribe_address).map_err(BenchError::Usage)?;
    let poll = Poll::new().map_err(BenchError::Setup)?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(BenchError::Setup)?;
    let board = Arc::new(Board::new(Clock::start(), plan.threads + plan.processes - 1, waker));
    let signalled = Arc::clone(&board);
    let watch = SignalWatch::start(move |_| {
        signalled.is_signalled.store(true, Ordering::Relaxed);
        true
    });
    let _watch = watch.map_err(BenchError::Setup)?;
    let crew = Crew::start(&plan, subscribe_address, &board)?;
    let publisher = Publisher::new(Arc::clone(&plan), Arc::clone(&board), poll, publish_address);
    let mut conductor = Conductor {
        notices: Notices::new(notices),
        course: Course { began, ..Course::default() },
        readers: Readers::default(),
        crew,
        connector,
        publisher,
        plan,
        board,
    };
    if let Err(trouble) = conductor.run() {
        conductor.course.troubles.push(trouble);
    }
    conductor.finish(parameters)
}

fn resolve(url: &UrlTemplate) -> Result<SocketAddr, BenchError> {
    url.resolve().map_err(|source| BenchError::NoAddress { url: url.to_string(), source })
}

struct Conductor<'a> {
    plan: Arc<Plan>,
    board: Arc<Board>,
    connector: Connector,
    publisher: Publisher,
    readers: Readers,
    /// The worker processes.
    crew: Crew,
    notices: Notices<'a>,
    course: Course,
}

/// Why the run cannot go on, for people.
type Trouble = String;

impl Conductor<'_> {
    fn run(&mut self) -> Result<(), Trouble> {
        self.publisher.check().map_err(|error| error.to_string())?;
        self.course.memory_before = self.memory()?;
        self.course.kernel_before = Kernel::now();
        self.ramp()?;
        self.course.memory_ramped = self.memory()?;
        self.course.kernel_ramped = Kernel::now();
        self.settle()?;
        if self.plan.slow_subscribers > 0 {
            self.board.set_phase(Phase::SlowRead);
        }
        self.warm_up()?;
        let measured = self.measure();
        self.course.memory_end = self.memory()?;
        let drained = self.drain_slow();
        measured.and(drained)
    }

    /// Opens the streams.
    fn ramp(&mut self) -> Result<(), Trouble> {
        self.course.ramp_began_ns = self.board.clock.ns();
        let readers = Readers::start(&self.plan, &self.board, FIRST, &self.connector);
        self.readers = readers.map_err(|error| error.to_string())?;
        self.order()?;
        // After the threads are started, because they inherit the CPUs of their parent.
        if let Some(cpu) = self.plan.publisher_cpu {
            pin_to_cpu(cpu).map_err(|error| format!("the publisher cannot run on CPU {cpu}: {error}"))?;
        }
        let subscribers = self.plan.subscribers as u64;
        let between = self.plan.ramp.map_or(Duration::ZERO, |ramp| Duration::from_secs_f64(2.0 / ramp));
        self.notices.begin(self.course.ramp_began_ns, (0, 0));
        let mut stall = Progress::new(self.course.ramp_began_ns, as_ns(self.plan.stall.max(between)));
        loop {
            self.check_readers()?;
            let [tried, begun, failed] =
                [self.board.sum(|r| &r.tried), self.board.sum(|r| &r.begun), self.board.sum(|r| &r.failed)];
            let now = self.board.clock.ns();
            if failed > 0 {
                return Err(format!("{failed} of {tried} connections came to no stream"));
            }
            if begun == subscribers || self.board.is_stopped() {
                return Ok(());
            }
            if stall.has_stalled((tried, begun), now) {
                let missing = subscribers - begun;
                return Err(format!(
                    "{missing} of {subscribers} streams were not begun within {:?} (--stall)",
                    self.plan.stall
                ));
            }
            self.notices.show(now, (begun, subscribers), (begun, 0), |rate, _| {
                format!("connecting: {begun} of {subscribers} streams, {rate}/s")
            });
            thread::sleep(LOOK);
        }
    }

    /// Publishes to every channel until every stream has had an event. Only then has the server
    /// registered all streams, and from then on each must get every event.
    fn settle(&mut self) -> Result<(), Trouble> {
        let deadline_ns = self.board.clock.ns() + as_ns(SETTLE_TIME);
        let begun = self.board.sum(|reader| &reader.begun);
        while self.board.sum(|reader| &reader.settled) < begun && !self.board.is_stopped() {
            self.check_readers()?;
            if self.board.clock.ns() > deadline_ns {
                let missing = begun - self.board.sum(|reader| &reader.settled);
                return Err(format!(
                    "{missing} of {begun} streams did not get any event that was published to their channel: do the \
                     subscribe and the publish URL name the same channels?"
                ));
            }
            self.publisher.probe().map_err(|error| error.to_string())?;
            let round_end_ns = self.board.clock.ns() + as_ns(SETTLE_ROUND);
            while self.board.sum(|reader| &reader.settled) < begun && self.board.clock.ns() < round_end_ns {
                thread::sleep(LOOK);
            }
        }
        self.await_fast()
    }

    fn warm_up(&mut self) -> Result<(), Trouble> {
        self.board.wants_places.store(matches!(self.plan.pace, Pace::Window(_)), Ordering::Release);
        let until = Until::Time(self.board.clock.ns() + as_ns(self.plan.warm_up));
        self.order()?;
        self.publish(until, "warming up")?;
        self.await_fast()
    }

    fn measure(&mut self) -> Result<(), Trouble> {
        drop(self.publisher.take_published());
        self.board.wants_places.store(matches!(self.plan.pace, Pace::Window(_)), Ordering::Release);
        let first = self.publisher.answered_place();
        self.board.measured_from_ns.store(self.board.clock.ns(), Ordering::Release);
        let start = self.snapshot()?;
        let until = match self.plan.extent {
            Extent::Time(time) => Until::Time(self.board.clock.ns() + as_ns(time)),
            Extent::Events(events) => Until::Place(first + events),
        };
        let published = self.publish(until, "measuring");
        let published_ns = self.board.clock.ns();
        self.await_fast()?;
        self.course.measured = Some(Measured {
            end: self.snapshot()?,
            start,
            places: first..self.publisher.answered_place(),
            published_ns,
            last_delivery_ns: self.board.last_delivery_ns(),
            deliveries: self.board.sum(|reader| &reader.deliveries),
            received_bytes: self.board.sum(|reader| &reader.received_bytes),
            published: self.publisher.take_published(),
        });
        published
    }

    fn publish(&mut self, until: Until, what: &str) -> Result<(), Trouble> {
        let counts =
            |board: &Board| (board.published.load(Ordering::Relaxed), board.sum(|reader| &reader.deliveries));
        let (board, notices) = (Arc::clone(&self.board), &mut self.notices);
        let (began_ns, first) = (board.clock.ns(), board.published.load(Ordering::Relaxed));
        notices.begin(began_ns, counts(&board));
        let mut watch = |now: u64| {
            let counts = counts(&board);
            let done = match until {
                Until::Time(end_ns) => (now.saturating_sub(began_ns), end_ns.saturating_sub(began_ns)),
                Until::Place(place) => (counts.0.saturating_sub(first), place.saturating_sub(first)),
            };
            notices.show(now, done, counts, |events, deliveries| match deliveries {
                0 => format!("{what}: {events} events/s"),
                _ => format!("{what}: {events} events/s, {deliveries} deliveries/s"),
            });
        };
        self.publisher.publish(until, &mut watch).map_err(|error| error.to_string())
    }

    /// Waits until every stream that is not slow has all published events, or until a stall. Missing
    /// events are counted at the end.
    fn await_fast(&mut self) -> Result<(), Trouble> {
        self.await_place(self.plan.stall, |board| board.fast_place())
    }

    fn await_place(&mut self, stall: Duration, place: impl Fn(&Board) -> u64) -> Result<(), Trouble> {
        self.board.wants_places.store(true, Ordering::Release);
        self.order()?;
        let published = self.publisher.answered_place();
        let mut progress = Progress::new(self.board.clock.ns(), as_ns(stall));
        while self.plan.subscribers > 0 && place(&self.board) < published {
            let marks = (self.board.advanced(), self.board.sum(|reader| &reader.received_bytes));
            if progress.has_stalled(marks, self.board.clock.ns()) {
                break;
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets slow streams read what is queued for them.
    fn drain_slow(&mut self) -> Result<(), Trouble> {
        if self.plan.slow_subscribers == 0 {
            return Ok(());
        }
        self.board.set_phase(Phase::AllRead);
        let deadline_ns = self.board.clock.ns() + as_ns(self.plan.drain);
        let is_late = |board: &Board| board.clock.ns() >= deadline_ns || board.is_stopped();
        self.await_place(
            self.plan.stall,
            |board| if is_late(board) { u64::MAX } else { board.slow_place() },
        )?;
        self.board.is_drain_cut.store(is_late(&self.board), Ordering::Release);
        Ok(())
    }

    /// Ends the readers, and makes the report.
    fn finish(mut self, parameters: Parameters) -> Result<Report, BenchError> {
        self.notices.end();
        if self.board.has_failed() {
            // Events under way to the other streams are not lost.
            let waited = self.await_fast();
            self.course.troubles.extend(waited.err());
        }
        self.course.is_signalled = self.board.is_signalled.load(Ordering::Relaxed);
        self.board.published.store(self.publisher.answered_place(), Ordering::Release);
        self.board.set_phase(Phase::Over);
        let (mut found, troubles) = self.readers.join();
        self.course.troubles.extend(troubles);
        let (of_workers, troubles) = self.crew.finish();
        found += of_workers;
        self.course.troubles.extend(troubles);
        self.course.deliveries_in_all = self.board.sum(|reader| &reader.deliveries);
        Ok(Report::new(&self.plan, parameters, self.course, found))
    }

    fn memory(&self) -> Result<Option<Memory>, Trouble> {
        if self.plan.pids.is_empty() {
            return Ok(None);
        }
        Memory::of(&self.plan.pids)
            .map(Some)
            .map_err(|error| format!("cannot measure the server any more: {error}"))
    }

    /// Sends the board's state to the worker processes. Returns the time of their readers.
    fn order(&mut self) -> Result<Vec<ThreadTime>, Trouble> {
        let unbatched_from = (self.plan.pace == Pace::Unbatched).then(|| self.publisher.answered_place());
        self.crew.order(unbatched_from)
    }

    fn snapshot(&mut self) -> Result<Snapshot, Trouble> {
        let of_workers = self.order()?;
        let usage = Usage::of(&self.plan.pids);
        let own = &self.board.readers[..self.plan.threads];
        let own = own.iter().map(|reader| ThreadTime::of(reader.thread_id.load(Ordering::Acquire)));
        Ok(Snapshot {
            usage: usage.map_err(|error| format!("cannot measure the server any more: {error}"))?,
            kernel: Kernel::now(),
            publisher: ThreadTime::of(thread_id()),
            readers: own.chain(of_workers).collect(),
            at_ns: self.board.clock.ns(),
        })
    }

    /// A reader ends by itself only if it cannot go on.
    fn check_readers(&mut self) -> Result<(), Trouble> {
        if self.readers.has_ended() {
            return Err("a reader has ended before its time".to_owned());
        }
        self.crew.take_failure().map_or(Ok(()), Err)
    }
}

/// The process that conducts the run, among those that read.
const FIRST: usize = 0;

/// How often conditions are checked while nothing is measured.
const LOOK: Duration = Duration::from_millis(1);

/// Longest time for the server to register all streams.
const SETTLE_TIME: Duration = Duration::from_secs(30);

/// Longest time for one event before another is tried.
const SETTLE_ROUND: Duration = Duration::from_millis(500);
