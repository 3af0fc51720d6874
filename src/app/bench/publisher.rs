//! The publisher: sends marked events at the pace of the plan, on the thread that also conducts the run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::board::{Board, as_ns};
use super::connect::seconds_to_ns;
use super::latency;
use super::link::{Link, LinkError, Request};
use super::mark::Mark;
use super::plan::{Pace, Plan};
use super::template::Values;

/// Publishes the events of a run.
pub(super) struct Publisher {
    plan: Arc<Plan>,
    board: Arc<Board>,
    poll: Poll,
    events: Events,
    links: Vec<Link>,
    /// The place in the run of the next event.
    next: u64,
    /// Events with an answer.
    answered: u64,
    /// How far the streams must have advanced before an unbatched event may go.
    expected: u64,
    requests: u64,
    /// From before a request is written until its answer was read.
    answer_latency: Histogram<u64>,
    /// How much later than planned requests were sent.
    lateness: Histogram<u64>,
    data: Vec<u8>,
    body: Vec<u8>,
    buffer: Vec<u8>,
}

/// The figures of publishing in one part of a run.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) requests: u64,
    pub(super) answer_latency: Histogram<u64>,
    pub(super) lateness: Histogram<u64>,
}

/// When a part of the run is over: at a place or at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Place(u64),
    Time(u64),
}

/// Why publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("nothing moved for {stall:?} (--stall): {waited_for}")]
    Stalled { stall: Duration, waited_for: &'static str },
    #[error("cannot wait for sockets: {0}")]
    Wait(#[from] io::Error),
}

/// Whether the next event may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Not before this time.
    At(u64),
    /// Not before streams or answers have advanced.
    Blocked(&'static str),
}

impl Publisher {
    /// `poll` is the one whose waker the board has.
    pub(super) fn new(
        plan: Arc<Plan>,
        board: Arc<Board>,
        poll: Poll,
        address: std::net::SocketAddr,
    ) -> Publisher {
        Publisher {
            links: (0..plan.publishers).map(|at| Link::new(address, Token(at))).collect(),
            plan,
            board,
            poll,
            events: Events::with_capacity(256),
            next: 0,
            answered: 0,
            expected: 0,
            requests: 0,
            answer_latency: latency::histogram(),
            lateness: latency::histogram(),
            data: Vec::new(),
            body: Vec::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Checks that the server can be reached, so that a failure is found before all streams are open.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        self.links.first().map_or(Ok(()), Link::check).map_err(PublishError::Link)
    }

    /// Opens the connections to publish over, so that no event waits for one: new ones, and those that
    /// the server ended while they were idle.
    fn connect(&mut self) -> Result<(), PublishError> {
        self.wait(Some(Duration::ZERO))?; // Finds the ones that have ended.
        let registry = self.poll.registry();
        let mut missing = self.links.iter_mut().filter(|link| !link.is_open());
        missing.try_for_each(|link| link.connect(registry)).map_err(PublishError::Link)
    }

    /// The place in the run up to which the server has answered. It must deliver the events before it.
    pub(super) fn answered_place(&self) -> u64 {
        self.links.iter().filter_map(Link::first_place).min().unwrap_or(self.next)
    }

    /// Publishes to every channel once, at any pace, and waits for the answers.
    pub(super) fn probe(&mut self) -> Result<(), PublishError> {
        let end = self.plan.spread.round_end(self.next + 1);
        self.run(Until::Place(end), Pace::Window(u64::MAX), &mut |_| ())
    }

    /// Publishes at the plan's pace, and waits for the answers. `watch` is called now and then.
    pub(super) fn publish(&mut self, until: Until, watch: &mut impl FnMut(u64)) -> Result<(), PublishError> {
        self.run(until, self.plan.pace, watch)
    }

    /// Returns the figures of publishing since the last call.
    pub(super) fn take_published(&mut self) -> Published {
        Published {
            requests: std::mem::take(&mut self.requests),
            answer_latency: std::mem::replace(&mut self.answer_latency, latency::histogram()),
            lateness: std::mem::replace(&mut self.lateness, latency::histogram()),
        }
    }

    fn run(&mut self, until: Until, pace: Pace, watch: &mut impl FnMut(u64)) -> Result<(), PublishError> {
        self.connect()?;
        let began = (self.board.clock.ns(), self.next);
        self.expected = self.board.advanced();
        let mut progress = Progress::new(began.0, as_ns(self.plan.stall));
        loop {
            let now = self.board.clock.ns();
            watch(now);
            let is_over = self.board.is_stopped()
                || match until {
                    Until::Place(place) => self.next >= place,
                    Until::Time(time_ns) => now >= time_ns,
                };
            let gate = if is_over {
                if self.links.iter().all(|link| link.under_way() == 0) {
                    return Ok(());
                }
                Gate::Blocked("the server did not answer a publish")
            } else {
                self.gate(pace, began, now)
            };
            match gate {
                Gate::Open => self.send(until, pace, began, now)?,
                Gate::At(due_ns) => self.wait_until(due_ns, until)?,
                Gate::Blocked(waited_for) => {
                    self.wait(Some(TICK))?;
                    let marks = (self.answered, self.board.advanced(), self.next);
                    if progress.has_stalled(marks, now) {
                        return Err(PublishError::Stalled { stall: self.plan.stall, waited_for });
                    }
                }
            }
        }
    }

    fn gate(&self, pace: Pace, began: (u64, u64), now: u64) -> Gate {
        let (channel, _) = self.plan.spread.event(self.next);
        if self.links[self.link_of(channel)].under_way() >= self.plan.pipeline {
            return Gate::Blocked("the server did not answer a publish");
        }
        match pace {
            Pace::Rate(_) => match self.due_ns(pace, began) {
                due_ns if due_ns <= now => Gate::Open,
                due_ns => Gate::At(due_ns),
            },
            Pace::Window(window) => {
                let received = self.board.fast_place().min(self.answered);
                let in_flight = self.next.saturating_sub(received) + u64::from(self.plan.batch);
                if in_flight <= window {
                    Gate::Open
                } else {
                    Gate::Blocked("a stream did not get its events")
                }
            }
            Pace::Unbatched if self.board.advanced() >= self.expected => Gate::Open,
            Pace::Unbatched => Gate::Blocked("a stream did not get its event"),
        }
    }

    /// When the next event is due; `began` has the time and place of the first event of this part.
    fn due_ns(&self, pace: Pace, began: (u64, u64)) -> u64 {
        match pace {
            Pace::Rate(rate) => began.0 + seconds_to_ns((self.next - began.1) as f64 / rate),
            Pace::Window(_) | Pace::Unbatched => began.0,
        }
    }

    fn link_of(&self, channel: u32) -> usize {
        channel as usize % self.links.len()
    }

    /// Sends one request.
    fn send(&mut self, until: Until, pace: Pace, began: (u64, u64), now: u64) -> Result<(), PublishError> {
        let (plan, board) = (Arc::clone(&self.plan), Arc::clone(&self.board));
        let (first_channel, _) = plan.spread.event(self.next);
        let at = self.link_of(first_channel);
        let left = if let Until::Place(place) = until { place - self.next } else { u64::MAX };
        let count = plan.spread.left_of_turn(self.next, plan.batch).min(left);
        if let Pace::Rate(_) = pace {
            self.lateness.saturating_record(now.saturating_sub(self.due_ns(pace, began)));
        }
        self.body.clear();
        let sent_ns = board.clock.ns();
        for place in self.next..self.next + count {
            let (channel, number) = plan.spread.event(place);
            self.data.clear();
            Mark { channel, number, sent_ns }.write(&plan.intro, plan.size, &mut self.data);
            let values = Values { channel: &plan.channels[channel as usize], client: at, data: &self.data };
            plan.endpoints.push_event(&values, &mut self.body);
        }
        plan.endpoints.end_body(&mut self.body);
        if pace == Pace::Unbatched {
            self.expected += plan.fast_subscribers_of(first_channel);
            board.set_goal(self.expected);
        }
        self.requests += 1;
        let link = &mut self.links[at];
        let values = Values { channel: &plan.channels[first_channel as usize], client: at, data: b"" };
        plan.endpoints.publish_head(&values, self.body.len(), link.out());
        link.out().extend_from_slice(&self.body);
        let events = u32::try_from(count).expect("a request has no more events than --batch");
        let place = self.next;
        self.next += count;
        link.send(Request { events, place, sent_ns }, self.poll.registry())?;
        Ok(())
    }

    /// Waits for a time. Epoll counts in ms, which is far too coarse for a pace. So the rest is slept,
    /// in short pieces while an answer is awaited, whose time matters.
    fn wait_until(&mut self, due_ns: u64, until: Until) -> Result<(), PublishError> {
        let due_ns = if let Until::Time(end_ns) = until { due_ns.min(end_ns) } else { due_ns };
        let left = Duration::from_nanos(due_ns.saturating_sub(self.board.clock.ns()));
        if left > 2 * TICK {
            return self.wait(Some((left - TICK).min(WATCH_INTERVAL)));
        }
        let is_answer_due = self.links.iter().any(|link| link.under_way() > 0);
        thread::sleep(if is_answer_due { left.min(NAP) } else { left });
        if is_answer_due { self.wait(Some(Duration::ZERO)) } else { Ok(()) }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), PublishError> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            let Some(link) = self.links.get_mut(event.token().0) else { continue }; // An event of the waker.
            link.flush()?;
            let (answered, latency, clock) = (&mut self.answered, &mut self.answer_latency, self.board.clock);
            link.receive(&mut self.buffer, &mut |request| {
                *answered += u64::from(request.events);
                latency.saturating_record(clock.ns().saturating_sub(request.sent_ns));
            })?;
        }
        self.board.published.store(self.answered_place(), Ordering::Release);
        Ok(())
    }
}

/// Detects a stall.
#[derive(Debug)]
pub(super) struct Progress<T> {
    last: Option<T>,
    changed_ns: u64,
    stall_ns: u64,
}

impl<T: PartialEq> Progress<T> {
    pub(super) fn new(now: u64, stall_ns: u64) -> Progress<T> {
        Progress { last: None, changed_ns: now, stall_ns }
    }

    /// Returns true if and only if `marks` have been the same for a whole stall time.
    pub(super) fn has_stalled(&mut self, marks: T, now: u64) -> bool {
        if self.last.as_ref() != Some(&marks) {
            (self.last, self.changed_ns) = (Some(marks), now);
        }
        now.saturating_sub(self.changed_ns) >= self.stall_ns
    }
}

/// The token of the board's waker. No link has it.
pub(super) const WAKER: Token = Token(usize::MAX);

const READ_BYTES: usize = 64 * 1024;

/// The shortest timeout of epoll.
const TICK: Duration = Duration::from_millis(1);

const NAP: Duration = Duration::from_micros(50);

/// Longest time between two calls of `watch`.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_a_time_without_any_change() {
        let mut progress = Progress::new(0, 100);
        assert!(!progress.has_stalled(1, 0));
        assert!(!progress.has_stalled(1, 99));
        assert!(!progress.has_stalled(2, 150));
        assert!(!progress.has_stalled(2, 249));
        assert!(progress.has_stalled(2, 250));
    }
}
