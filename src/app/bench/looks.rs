//! When a reader looks for the slowest of its streams, which takes a look at each of them.

use super::board::Clock;

/// The looks of one reader: only after streams have advanced, and so rarely that they cost little.
#[derive(Debug)]
pub(super) struct Looks {
    /// A stream has advanced since the last look.
    has_moved: bool,
    /// The earliest time of the next look, in ns.
    next_ns: u64,
}

impl Looks {
    /// The first look is due at once.
    pub(super) fn new() -> Looks {
        Looks { has_moved: true, next_ns: 0 }
    }

    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Notes that a stream has advanced, or has ended.
    pub(super) fn note_move(&mut self) {
        self.has_moved = true;
    }

    /// The result of `look`; `None` if no look is due.
    pub(super) fn look<T>(&mut self, clock: Clock, look: impl FnOnce() -> T) -> Option<T> {
        let began_ns = clock.ns();
        if !self.has_moved || began_ns < self.next_ns {
            return None;
        }
        self.has_moved = false;
        let found = look();
        let ended_ns = clock.ns();
        self.next_ns = ended_ns + INTERVAL_NS.max(COST_FACTOR * (ended_ns - began_ns));
        Some(found)
    }
}

const INTERVAL_NS: u64 = 250_000;

/// Looks take at most one part in twenty of a reader's time.
const COST_FACTOR: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_once_for_every_move() {
        let (clock, mut looks) = (Clock::start(), Looks::new());
        assert_eq!(looks.look(clock, || 1), Some(1));
        looks.next_ns = 0;
        assert_eq!(looks.look(clock, || 2), None, "nothing has moved");
        looks.note_move();
        assert_eq!(looks.look(clock, || 3), Some(3));
    }

    #[test]
    fn looks_keep_their_distance() {
        let mut looks = Looks::new();
        looks.next_ns = u64::MAX;
        assert_eq!(looks.look(Clock::start(), || ()), None);
        assert!(looks.has_moved(), "the move waits for its look");
    }
}
