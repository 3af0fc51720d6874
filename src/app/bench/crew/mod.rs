//! The further processes of a run, which open and read their share of the streams: a process may have only so many open
//! files.
//!
//! The first process starts them, of its own binary, and tells them by [`lines`] what its board says; what they put up
//! stands on that board as if each were one more reader. So publishing and the course of the run know nothing of
//! processes. A worker ends with its standard input, and with it when the first process ends in whatever way.

mod hand;
mod lines;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;

pub(super) use self::work::work;

use self::hand::Hand;
use self::lines::{Job, Orders};
use super::BenchError;
use super::board::Board;
use super::found::Found;
use super::plan::Plan;
use super::process::ThreadTime;

/// The workers of a run; none where it has one process. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Crew {
    board: Arc<Board>,
    hands: Vec<Hand>,
    /// The number of the last orders.
    number: u64,
}

impl Crew {
    /// Starts the workers, which read from `address`, and waits until each has taken its job.
    ///
    /// # Errors
    /// Where one cannot be started, or ends.
    pub(super) fn start(plan: &Plan, address: SocketAddr, board: &Arc<Board>) -> Result<Crew, BenchError> {
        let mut crew = Crew { board: Arc::clone(board), hands: Vec::new(), number: 0 };
        for process in 1..plan.processes {
            crew.hands.push(Hand::start(process, plan, board).map_err(BenchError::NoWorker)?);
        }
        let began_ns = board.clock.ns();
        for (hand, process) in crew.hands.iter_mut().zip(1..) {
            let clock_origin_ns = board.clock.origin_ns();
            hand.tell(&Job { plan: plan.clone(), process, address, clock_origin_ns });
        }
        for hand in &mut crew.hands {
            let clock_ns = hand.answer(0).map_err(BenchError::Worker)?.clock_ns;
            if !(began_ns..=board.clock.ns()).contains(&clock_ns) {
                return Err(BenchError::Clocks);
            }
        }
        Ok(crew)
    }

    /// Has the workers do what the board says, and waits until they do; the first time they begin to open streams. What
    /// they have put up until then stands on the board. Returns the time of their readers. `unbatched_from` is the place
    /// in the run of the next event, with `--unbatched`.
    ///
    /// # Errors
    /// What became of a worker that does not do so, for people. It is none any more.
    pub(super) fn order(&mut self, unbatched_from: Option<u64>) -> Result<Vec<ThreadTime>, String> {
        self.number += 1;
        let orders = Orders::of(&self.board, self.number, unbatched_from);
        self.hands.iter_mut().for_each(|hand| hand.tell(&orders));
        let mut times = Vec::new();
        for at in 0..self.hands.len() {
            match self.hands[at].answer(self.number) {
                Ok(answer) => times.extend(answer.readers),
                Err(trouble) => {
                    drop(self.hands.remove(at));
                    return Err(trouble);
                }
            }
        }
        Ok(times)
    }

    /// What became of a worker that has ended before its time, for people; `None` where none has. It is none any more.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        let at = self.hands.iter().position(Hand::has_ended)?;
        self.hands.remove(at).finish().err()
    }

    /// Has the workers end, as the board says that the run is over: what they have found, and what became of those that
    /// do not tell.
    pub(super) fn finish(mut self) -> (Found, Vec<String>) {
        let orders = Orders::of(&self.board, self.number + 1, None);
        self.hands.iter_mut().for_each(|hand| hand.tell(&orders));
        let (mut found, mut troubles) = (Found::default(), Vec::new());
        for hand in self.hands.drain(..) {
            match hand.finish() {
                Ok(of_worker) => found += of_worker,
                Err(trouble) => troubles.push(trouble),
            }
        }
        (found, troubles)
    }
}
