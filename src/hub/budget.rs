//! How much is done under one hold of the hub's lock.
//!
//! Whoever takes the lock has a budget of steps for that hold. Whatever may be long spends it: what is evicted, searched
//! or put in order. When it is spent the work leaves off, and keeps where to go on: in the hub, for whoever has the lock
//! next; in the cursor of a stream, for its next slice; or with the caller, who takes the lock again.

use std::cell::Cell;

/// Steps of one hold. One is about what it takes to look at an entry of the history, 35 ns: a hold that takes all of its steps
/// is to be far below 100 µs.
pub const HOLD_STEPS: u32 = 1024;

/// The least steps of a hold. With so many whatever is left to be done gets on with every hold, as a share of them is for each.
pub const HOLD_STEPS_MIN: u32 = 64;

/// What it takes to put an event into a channel, or to give one up there, in steps.
pub(super) const EVENT_STEPS: u32 = 8;

/// What it takes to look at a channel of the table, in steps.
pub(super) const CHANNEL_STEPS: u32 = 2;

/// What it takes to take something out of a table by its name, in steps.
pub(super) const NAME_STEPS: u32 = 16;

/// Names and channels that are compared in one step.
pub(super) const COMPARISONS_PER_STEP: usize = 8;

/// Names that are looked up under one hold of the lock.
pub(super) const NAMES_PER_HOLD_MAX: usize = 256;

/// The steps of one hold, and how many of them were taken.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u32,
    spent: Cell<u32>,
    #[cfg(test)]
    longest: u32,
}

impl Budget {
    /// A budget of so many steps for each hold, or of [`HOLD_STEPS_MIN`].
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

    /// Takes so many steps. What cannot be left half done may take more than there are.
    #[inline]
    pub(super) fn spend(&self, steps: u32) {
        self.spent.set(self.spent.get().saturating_add(steps));
    }

    /// Returns true if and only if no step is left.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent_to(4)
    }

    /// Returns true if and only if so many quarters are spent: the rest is for others who come after in the same hold.
    #[inline]
    pub(super) fn is_spent_to(&self, quarters: u32) -> bool {
        self.spent.get() >= self.steps / 4 * quarters
    }

    /// How often something of so many steps may be done before so many quarters are spent.
    pub(super) fn times(&self, steps: u32, quarters: u32) -> usize {
        ((self.steps / 4 * quarters).saturating_sub(self.spent.get()) / steps) as usize
    }

    /// The most steps that any hold took which has ended.
    #[cfg(test)]
    pub(super) fn longest(&self) -> u32 {
        self.longest
    }
}

/// So many of something, as steps.
pub(super) fn steps(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
