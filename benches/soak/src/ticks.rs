//! The time of the load in ticks. Rates are counts of ticks, so a machine that is late makes fewer
//! requests and never more.

use std::thread;
use std::time::{Duration, Instant};

/// Counts ticks, and waits from one to the next.
#[derive(Debug)]
pub(crate) struct Ticks {
    tick: u64,
    next: Instant,
}

impl Ticks {
    pub(crate) fn begin() -> Ticks {
        Ticks { tick: 0, next: Instant::now() + TICK }
    }

    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Goes on to the next tick without waiting.
    pub(crate) fn skip(&mut self) {
        self.tick += 1;
        self.next = Instant::now() + TICK;
    }

    /// Waits for the next tick. Missed ticks are not made up for.
    pub(crate) fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        self.tick += 1;
        self.next = (self.next + TICK).max(now);
    }
}

/// `seconds` as ticks.
pub(crate) fn ticks(seconds: f64) -> u64 {
    Duration::from_secs_f64(seconds).div_duration_f64(TICK).round() as u64
}

const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_fifty_ticks() {
        assert_eq!((ticks(1.0), ticks(0.5), ticks(60.0)), (50, 25, 3000));
    }

    #[test]
    fn every_tick_counts_once_waited_for_or_not() {
        let mut pace = Ticks::begin();
        pace.skip();
        pace.wait();
        pace.wait();
        assert_eq!(pace.tick(), 3);
    }
}
