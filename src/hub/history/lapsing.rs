//! When the events of a page lapse.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use crate::hub::options::TICK;

/// The tick of an event that never lapses.
const NEVER: u32 = u32::MAX;

/// Returns the tick in which an event that is applied in the tick `now` has lapsed; `ttl` is in seconds.
/// The event may be replayed for up to a tick less than its `ttl`, and never longer.
pub(super) fn lapses_at(now: u32, ttl: Option<NonZeroU32>) -> u32 {
    let ticks_per_second = 1000 / u32::try_from(TICK.as_millis()).expect("a tick is less than a second");
    ttl.map_or(NEVER, |ttl| now.saturating_add(ttl.get().saturating_mul(ticks_per_second)))
}

/// The events of a page that will lapse, in the order in which they lapse.
#[derive(Debug, Default)]
pub(in crate::hub) struct Lapsing(BinaryHeap<Reverse<(u32, u32)>>);

impl Lapsing {
    /// Adds an event by its place in the page.
    pub(in crate::hub) fn push(&mut self, lapses: u32, delta: u32) {
        if lapses != NEVER {
            self.0.push(Reverse((lapses, delta)));
        }
    }

    /// Returns the tick in which the next event lapses.
    pub(in crate::hub) fn next(&self) -> Option<u32> {
        self.0.peek().map(|&Reverse((lapses, _))| lapses)
    }

    /// Removes the event that lapses next, and returns its tick and its place in the page.
    pub(in crate::hub) fn pop(&mut self) -> Option<(u32, u32)> {
        self.0.pop().map(|Reverse(next)| next)
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u32, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_very_long_ttl_never_lapses() {
        assert_eq!(lapses_at(7, None), NEVER);
        assert_eq!(lapses_at(7, NonZeroU32::new(2)), 27);
        assert_eq!(lapses_at(7, NonZeroU32::new(u32::MAX)), NEVER);
    }
}
