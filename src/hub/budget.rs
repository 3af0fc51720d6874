//! How much work is done under one hold of the hub's lock.
//!
//! Each hold of the lock has a budget of steps. Work that may be long spends steps: evicting, searching,
//! sorting. When the budget is spent the work stops, and keeps where to continue: in the hub, for the
//! next holder of the lock; in the cursor of a stream, for its next slice; or with the caller, who takes
//! the lock again.

use std::cell::Cell;

/// The steps of one hold. A step is about the time of a look at an entry of the history, 35 ns. A hold
/// that takes all its steps must stay far below 100 µs.
pub const HOLD_STEPS: u32 = 1024;

/// The least number of steps of a hold. With these, every kind of pending work makes progress with every
/// hold, since a share of the steps is for each kind.
pub const HOLD_STEPS_MIN: u32 = 64;

/// The cost of adding an event to a channel, or of giving one up, in steps.
pub(super) const EVENT_STEPS: u32 = 8;

/// The cost of a look at a channel of the table, in steps.
pub(super) const CHANNEL_STEPS: u32 = 2;

/// The cost of removing something from a table by its name, in steps.
pub(super) const NAME_STEPS: u32 = 16;

/// The number of names or channels compared in one step.
pub(super) const COMPARISONS_PER_STEP: usize = 8;

/// The number of names looked up under one hold of the lock.
pub(super) const NAMES_PER_HOLD_MAX: usize = 256;

/// The steps of one hold, and how many are spent.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u32,
    spent: Cell<u32>,
    #[cfg(test)]
    longest: u32,
}

impl Budget {
    /// Creates a budget of `steps` for each hold, but at least [`HOLD_STEPS_MIN`].
    pub(super) fn new(steps: u32) -> Budget {
        Budget {
            steps: steps.max(HOLD_STEPS_MIN),
            spent: Cell::new(0),
            #[cfg(test)]
            longest: 0,
        }
    }

    /// Begins a hold.
    pub(super) fn renew(&mut self) {
        #[cfg(test)]
        {
            self.longest = self.longest.max(self.spent.get());
        }
        self.spent.set(0);
    }

    /// Spends steps. Work that cannot stop halfway may spend more than are left.
    #[inline]
    pub(super) fn spend(&self, steps: u32) {
        self.spent.set(self.spent.get().saturating_add(steps));
    }

    /// Returns true if no step is left.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent_to(4)
    }

    /// Returns true if this many quarters of the steps are spent: the rest is for later work in the same
    /// hold.
    #[inline]
    pub(super) fn is_spent_to(&self, quarters: u32) -> bool {
        self.spent.get() >= self.steps / 4 * quarters
    }

    /// Returns how often work of `steps` fits in before `quarters` quarters are spent.
    pub(super) fn times(&self, steps: u32, quarters: u32) -> usize {
        ((self.steps / 4 * quarters).saturating_sub(self.spent.get()) / steps) as usize
    }

    /// The most steps of any finished hold.
    #[cfg(test)]
    pub(super) fn longest(&self) -> u32 {
        self.longest
    }
}

/// Converts a count to steps.
pub(super) fn steps(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
