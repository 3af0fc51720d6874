//! Batches of the application under way: their waiters, their outcomes, and the thread that runs
//! callbacks.
//!
//! The log and the shards report outcomes here and go on. A thread that waits for its batch is unparked.
//! A callback is queued for the *caller*, a thread of its own, so that code of the application never
//! runs under the log's lock or on a shard. A panic in a callback ends nothing else.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::batch::Batch;
use super::handle::{PublishError, Published};
use super::waiting::{Callback, Closed, Known, Outcome, UnderWay, Waiter};
use crate::base::id::EventId;
use crate::hub::{Receivers, Tally};
use crate::record::Events;
use crate::shard::publishing::publishers::Application;

/// Most batches of the application under way, including those whose callback has not returned.
const BATCHES_UNDER_WAY_MAX: usize = 8192;

/// The desk of one server.
pub(super) struct Desk {
    state: Mutex<State>,
    /// Wakes the caller for an entry of `calls`, or for the end.
    called: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    under_way: HashMap<u64, UnderWay>,
    /// Batches that were applied and whose receivers are being counted.
    counting: VecDeque<(u64, EventId, Arc<Tally>)>,
    /// Callbacks to run, in order.
    calls: VecDeque<(Callback, Outcome)>,
    /// A callback is running.
    is_calling: bool,
    is_draining: bool,
    /// No batch can have an outcome any more.
    has_ended: bool,
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { state: Mutex::default(), called: Condvar::new() }
    }

    /// Enters a batch of `events` events. Returns the serial number of its ticket.
    ///
    /// # Errors
    /// If the batch must not be appended. It is not entered then.
    pub(super) fn enter(&self, waiter: Waiter, events: usize) -> Result<u64, Closed> {
        let mut state = self.lock();
        state.check()?;
        let serial = state.next;
        state.next += 1;
        state.under_way.insert(serial, UnderWay { waiter, events, known: Known::Nothing });
        Ok(serial)
    }

    /// Checks whether a batch may be appended now.
    pub(super) fn check(&self) -> Result<(), Closed> {
        self.lock().check()
    }

    /// Waits for the outcome of a batch that this thread has entered. If it is unknown at `deadline`, it
    /// is [`PublishError::Uncertain`]. If only its receivers are unknown, they are left out.
    pub(super) fn wait(&self, serial: u64, deadline: Option<Instant>) -> Outcome {
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            let Some(under_way) = state.under_way.remove(&serial) else {
                return Err(PublishError::Uncertain);
            };
            let is_over = deadline.is_some_and(|deadline| now >= deadline);
            if is_over || matches!(under_way.known, Known::Outcome(_)) {
                return under_way.known.into_outcome(under_way.events);
            }
            state.under_way.insert(serial, under_way);
            drop(state);
            match deadline {
                Some(deadline) => thread::park_timeout(deadline - now),
                None => thread::park(),
            }
        }
    }

    /// Refuses new batches from now on. Returns false if they were refused already.
    pub(super) fn begin_drain(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_draining, true)
    }

    /// Ends all waits with what is known: nothing more becomes known.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_draining = true;
        state.has_ended = true;
        state.counting.clear();
        for serial in state.under_way.keys().copied().collect::<Vec<_>>() {
            if let Some(UnderWay { known, events, .. }) = state.under_way.get_mut(&serial) {
                let outcome = std::mem::replace(known, Known::Nothing).into_outcome(*events);
                self.settle(&mut state, serial, outcome);
            }
        }
        self.called.notify_all();
    }

    /// Runs callbacks until the desk is closed and none is left.
    pub(super) fn call_back(&self) {
        let mut state = self.lock();
        loop {
            if let Some((callback, outcome)) = state.calls.pop_front() {
                state.is_calling = true;
                drop(state);
                if catch_unwind(AssertUnwindSafe(|| callback(outcome))).is_err() {
                    tracing::error!("a callback of a publish has panicked; its events are not concerned");
                }
                state = self.lock();
                state.is_calling = false;
            } else if state.has_ended {
                return;
            } else {
                state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn settle(&self, state: &mut State, serial: u64, outcome: Outcome) {
        let Some(under_way) = state.under_way.remove(&serial) else { return }; // It timed out.
        match under_way.waiter {
            Waiter::Callback(callback) => {
                state.calls.push_back((callback, outcome));
                self.called.notify_one();
            }
            Waiter::Thread(waiting) => {
                // A log that commits at once reports to the very thread that is about to wait.
                if waiting.id() != thread::current().id() {
                    waiting.unpark();
                }
                let known = Known::Outcome(outcome);
                state
                    .under_way
                    .insert(serial, UnderWay { waiter: Waiter::Thread(waiting), known, ..under_way });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only code of this module runs under the lock, so the state is whole after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<(), Closed> {
        if self.is_draining {
            return Err(Closed::Draining);
        }
        let batches = self.under_way.len() + self.calls.len() + usize::from(self.is_calling);
        if batches < BATCHES_UNDER_WAY_MAX { Ok(()) } else { Err(Closed::Full) }
    }
}

impl Application for Desk {
    fn committed(&self, serial: u64, first: EventId, receivers: Receivers) {
        let mut state = self.lock();
        let Some(under_way) = state.under_way.get_mut(&serial) else { return };
        let events = under_way.events;
        let receivers = match receivers {
            Receivers::Exactly(receivers) => Some(receivers),
            Receivers::Counting(tally) => match tally.total() {
                Some(receivers) => Some(receivers),
                None => {
                    under_way.known = Known::Applied(first);
                    state.counting.push_back((serial, first, tally));
                    return;
                }
            },
        };
        let receivers = receivers.filter(|_| events == 1);
        self.settle(&mut state, serial, Ok(Published { id: first, events, receivers }));
    }

    fn refused(&self, serial: u64, events: Events, reason: String) {
        let error = PublishError::Refused { reason, batch: Batch::returned(events) };
        self.settle(&mut self.lock(), serial, Err(error));
    }

    fn uncertain(&self, serial: u64) {
        self.settle(&mut self.lock(), serial, Err(PublishError::Uncertain));
    }

    fn counted(&self) {
        // Each finished count calls this once, so each call settles exactly one waiter: the oldest with
        // a finished count.
        let mut state = self.lock();
        let Some(at) = state.counting.iter().position(|(_, _, tally)| tally.total().is_some()) else {
            return;
        };
        let Some((serial, id, tally)) = state.counting.remove(at) else { return };
        self.settle(&mut state, serial, Ok(Published { id, events: 1, receivers: tally.total() }));
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Desk")
            .field("under_way", &state.under_way.len())
            .field("calls", &state.calls.len())
            .field("is_draining", &state.is_draining)
            .finish_non_exhaustive()
    }
}

/// Closes the desk once no log or shard can report outcomes any more.
#[derive(Debug)]
pub(super) struct OpenDesk(pub(super) Arc<Desk>);

impl Drop for OpenDesk {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::base::id::{EpochTag, Sequence};
    use crate::base::name::Selector;
    use crate::hub::Retention;
    use crate::hub::{Backlog, Begin, HOLD_STEPS, Hub, HubOptions};
    use crate::sse::event::Event;

    const ID: Sequence = Sequence(7);

    fn id() -> EventId {
        EventId { tag: EpochTag::from_bits(1), sequence: ID }
    }

    fn published(receivers: Option<u64>) -> Outcome {
        Ok(Published { id: id(), events: 1, receivers })
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    fn callback() -> (Waiter, mpsc::Receiver<Outcome>) {
        let (sender, heard) = mpsc::channel();
        (Waiter::Callback(Box::new(move |outcome| sender.send(outcome).unwrap())), heard)
    }

    fn enter_this_thread(desk: &Desk) -> u64 {
        desk.enter(Waiter::Thread(thread::current()), 1).unwrap()
    }

    /// A count that one shard has yet to make.
    fn tally() -> Arc<Tally> {
        let retention = Retention { events_max: 10, bytes_max: 1 << 20, age_max: None };
        let hub = Hub::new(HubOptions {
            retention,
            channels_max: 10,
            backlog: Backlog::default(),
            shards: 1,
            hold_steps: HOLD_STEPS,
        });
        hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
        let names = ["a", "b"].map(|name| Selector::parse(name).unwrap());
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let mut batch = Events::new();
        batch.push(&["a", "b"], &Event::new("x"));
        match hub.apply(Sequence(1), &batch, Some(64)).receivers {
            Receivers::Counting(tally) => tally,
            Receivers::Exactly(count) => panic!("{count}"),
        }
    }

    #[test]
    fn an_outcome_known_before_the_wait_is_returned_at_once() {
        let desk = Desk::new();
        let serial = enter_this_thread(&desk);
        desk.committed(serial, id(), Receivers::Exactly(3));
        assert_eq!(desk.wait(serial, None), published(Some(3)));
        assert_eq!(desk.lock().under_way.len(), 0);
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        let desk = Desk::new();
        let (entered, serials) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let serial = enter_this_thread(&desk);
                entered.send(serial).unwrap();
                desk.wait(serial, None)
            });
            let serial = serials.recv().unwrap();
            let mut batch = Events::new();
            batch.push(&["a"], &Event::new("x"));
            desk.refused(serial, batch.clone(), "full".to_owned());
            let refused = PublishError::Refused { reason: "full".to_owned(), batch: Batch::returned(batch) };
            assert_eq!(waiting.join().unwrap(), Err(refused));
        });
    }

    #[test]
    fn a_wait_ends_in_time_and_a_later_outcome_is_dropped() {
        let desk = Desk::new();
        let serial = enter_this_thread(&desk);
        assert_eq!(desk.wait(serial, soon()), Err(PublishError::Uncertain));
        desk.committed(serial, id(), Receivers::Exactly(0));
        assert_eq!(desk.lock().under_way.len(), 0);

        let serial = enter_this_thread(&desk);
        let tally = tally();
        desk.committed(serial, id(), Receivers::Counting(Arc::clone(&tally)));
        assert_eq!(desk.wait(serial, soon()), published(None), "it is published, counted or not");
        assert!(tally.add(0, 1));
        desk.counted();
        assert_eq!(desk.lock().counting.len(), 0);
    }

    #[test]
    fn counts_are_reported_whichever_is_finished_first() {
        let desk = Desk::new();
        let tallies: Vec<Arc<Tally>> = (0..3).map(|_| tally()).collect();
        let heard: Vec<_> = tallies
            .iter()
            .map(|tally| {
                let (waiter, heard) = callback();
                let serial = desk.enter(waiter, 1).unwrap();
                desk.committed(serial, id(), Receivers::Counting(Arc::clone(tally)));
                heard
            })
            .collect();
        // Two are finished before either is reported, not in the order of their entries.
        assert!(tallies[2].add(0, 2) && tallies[1].add(0, 1));
        desk.counted();
        desk.counted();
        assert!(tallies[0].add(0, 0));
        desk.counted();
        desk.close();
        desk.call_back();
        for (receivers, heard) in (0..).zip(heard) {
            assert_eq!(heard.try_recv(), Ok(published(Some(receivers))));
        }
    }

    #[test]
    fn at_the_end_every_waiter_gets_what_is_known() {
        let desk = Desk::new();
        let (waiter, unknown) = callback();
        desk.enter(waiter, 1).unwrap();
        let (waiter, applied) = callback();
        let serial = desk.enter(waiter, 1).unwrap();
        desk.committed(serial, id(), Receivers::Counting(tally()));
        desk.close();
        desk.call_back();
        assert_eq!(unknown.try_recv(), Ok(Err(PublishError::Uncertain)));
        assert_eq!(applied.try_recv(), Ok(published(None)));
        assert_eq!(desk.enter(callback().0, 1), Err(Closed::Draining));
    }

    #[test]
    fn batches_under_way_are_bounded() {
        let desk = Desk::new();
        let serials: Vec<u64> =
            (0..BATCHES_UNDER_WAY_MAX).map(|_| desk.enter(callback().0, 1).unwrap()).collect();
        assert_eq!(desk.check(), Err(Closed::Full));
        desk.committed(serials[0], id(), Receivers::Exactly(0));
        assert_eq!(desk.check(), Err(Closed::Full), "its callback has not been called");
    }
}
