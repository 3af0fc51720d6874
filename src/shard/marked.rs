//! The list of streams that have something to say.

/// Slots of streams, in the order they are to be sent to. What was taken off at the front goes once it is half of all, so
/// that each costs a copy at the most.
#[derive(Debug, Default)]
pub(super) struct Marked {
    slots: Vec<u32>,
    /// Those before this place were taken off.
    next: usize,
}

impl Marked {
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.slots.len()
    }

    #[inline]
    pub(super) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// Takes off the first ones, at most so many.
    pub(super) fn take(&mut self, max: usize) -> &[u32] {
        if self.next * 2 >= self.slots.len() {
            self.slots.drain(..self.next);
            self.next = 0;
        }
        let from = self.next;
        self.next = self.slots.len().min(from + max);
        &self.slots[from..self.next]
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.next = 0;
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
}
