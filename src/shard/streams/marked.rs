//! The list of streams with queued frames.

/// Slots of streams, in the order in which they are sent to. Slots taken from the front are removed once
/// they are half of all, so that each costs at most one copy.
#[derive(Debug, Default)]
pub(super) struct Marked {
    slots: Vec<u32>,
    /// Slots before this index were taken.
    next: usize,
    /// The number of slots removed from the front.
    gone: u64,
    /// The total number of slots, with those removed, when the last round ended: see
    /// [`Marked::end_round`].
    round_end: u64,
}

impl Marked {
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.next == self.slots.len()
    }

    #[inline]
    pub(in crate::shard) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// Takes up to `max` slots from the front.
    pub(in crate::shard) fn take(&mut self, max: usize) -> &[u32] {
        if self.next * 2 >= self.slots.len() {
            self.slots.drain(..self.next);
            self.gone += self.next as u64;
            self.next = 0;
        }
        let from = self.next;
        self.next = self.slots.len().min(from + max);
        &self.slots[from..self.next]
    }

    /// Ends a round: the slots now in the list are those of one fan-out.
    pub(super) fn end_round(&mut self) {
        self.round_end = self.gone + self.slots.len() as u64;
    }

    /// Returns true if and only if all slots of the last round were taken. Slots marked since do not
    /// matter.
    pub(in crate::shard) fn is_round_over(&self) -> bool {
        self.gone + self.next as u64 >= self.round_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_in_the_order_they_were_marked_in_each_once() {
        let mut marked = Marked::default();
        (0..5).for_each(|slot| marked.push(slot));
        assert_eq!(marked.take(3), [0, 1, 2]);
        marked.push(9);
        assert_eq!(marked.take(8), [3, 4, 9]);
        assert!(marked.is_empty());
        assert!(marked.take(8).is_empty());
        marked.push(7);
        assert_eq!(marked.take(8), [7]);
        assert_eq!(marked.slots.len(), 1, "what was taken off is given up");
    }

    #[test]
    fn a_round_is_over_although_more_streams_are_marked_after_it() {
        let mut marked = Marked::default();
        assert!(marked.is_round_over());
        let mut before = 0;
        for _ in 0..3 {
            (0..5).for_each(|slot| marked.push(slot));
            marked.end_round();
            for _ in 0..before + 5 {
                assert!(!marked.is_round_over());
                marked.push(9);
                marked.take(1);
            }
            before += 5;
            assert!(marked.is_round_over() && !marked.is_empty());
        }
    }
}
