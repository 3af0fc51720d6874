//! The worker processes of a run. They open and read their share of the streams: the open files of one
//! process are limited.
//!
//! The first process starts them from its own binary, and sends them the state of its board in
//! [`lines`]. Their numbers are on that board as if each were one more reader. So publishing and the
//! course of the run do not depend on processes. A worker ends with its standard input, and so with the
//! first process, however that ends.

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

/// The workers of a run; none if it has one process. Dropping this ends them.
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
    /// If one cannot be started, or ends.
    pub(super) fn start(plan: &Plan, address: SocketAddr, board: &Arc<Board>) -> Result<Crew, BenchError> {
        let mut crew = Crew { board: Arc::clone(board), hands: Vec::new(), number: 0 };
        for process in 1..plan.processes {
            crew.hands.push(Hand::start(process, plan, board).map_err(BenchError::NoWorker)?);
        }
        let began_ns = board.clock.ns();
        for (hand, process) in crew.hands.iter_mut().zip(1..) {
            let clock_origin_ns = board.clock.origin_ns();
            hand.send(&Job { plan: plan.clone(), process, address, clock_origin_ns });
        }
        for hand in &mut crew.hands {
            let clock_ns = hand.answer(0).map_err(BenchError::Worker)?.clock_ns;
            if !(began_ns..=board.clock.ns()).contains(&clock_ns) {
                return Err(BenchError::Clocks);
            }
        }
        Ok(crew)
    }

    /// Sends the board's state to the workers, and waits until they have carried it out. The first
    /// orders begin to open streams. After this the board has all numbers that they had posted. Returns
    /// the time of their readers. `unbatched_from` is the place in the run of the next event, with
    /// `--unbatched`.
    ///
    /// # Errors
    /// Why a worker failed, for people. It is removed from the crew.
    pub(super) fn order(&mut self, unbatched_from: Option<u64>) -> Result<Vec<ThreadTime>, String> {
        self.number += 1;
        let orders = Orders::of(&self.board, self.number, unbatched_from);
        self.hands.iter_mut().for_each(|hand| hand.send(&orders));
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

    /// Why a worker ended before its time, for people; `None` if none has. It is removed from the crew.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        let at = self.hands.iter().position(Hand::has_ended)?;
        self.hands.remove(at).finish().err()
    }

    /// Ends the workers, as the run is over. Returns their findings, and the failures of workers without
    /// findings.
    pub(super) fn finish(mut self) -> (Found, Vec<String>) {
        let orders = Orders::of(&self.board, self.number + 1, None);
        self.hands.iter_mut().for_each(|hand| hand.send(&orders));
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
