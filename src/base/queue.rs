//! A queue in parts of a fixed length, so that no call moves the whole queue.

use std::collections::VecDeque;

/// The capacity of a part.
const PART_LEN: usize = 512;

/// The capacity that an empty queue keeps.
const ROOM_KEPT: usize = 64;

/// Values in the order of arrival.
///
/// All parts but the first and the last are full, so an index finds its value at once.
#[derive(Debug)]
pub struct Queue<T> {
    parts: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { parts: VecDeque::new(), len: 0 }
    }
}

impl<T> Queue<T> {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if and only if there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a value.
    pub fn push_back(&mut self, value: T) {
        self.len += 1;
        match self.parts.back_mut() {
            Some(part) if part.len() < PART_LEN => part.push_back(value),
            last => {
                // A second part is hardly ever the last, so it gets its full capacity at once.
                let mut part = VecDeque::with_capacity(if last.is_some() { PART_LEN } else { 0 });
                part.push_back(value);
                self.parts.push_back(part);
            }
        }
    }

    /// Removes and returns the first value.
    pub fn pop_front(&mut self) -> Option<T> {
        let is_only = self.parts.len() == 1;
        let first = self.parts.front_mut()?;
        let value = first.pop_front()?;
        self.len -= 1;
        if first.is_empty() {
            if !is_only {
                self.parts.pop_front();
            } else if first.capacity() > ROOM_KEPT {
                first.shrink_to(ROOM_KEPT); // Large bursts are rare.
                self.parts.shrink_to(1);
            }
        }
        Some(value)
    }

    /// The value at an index, counted from the first.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        let (part, index) = self.place(index);
        self.parts.get(part)?.get(index)
    }

    /// The same, mutably.
    #[must_use]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (part, index) = self.place(index);
        self.parts.get_mut(part)?.get_mut(index)
    }

    fn place(&self, index: usize) -> (usize, usize) {
        match index.checked_sub(self.parts.front().map_or(0, VecDeque::len)) {
            None => (0, index),
            Some(behind) => (1 + behind / PART_LEN, behind % PART_LEN),
        }
    }

    /// The number of first values that satisfy `predicate`. No value behind them may satisfy it.
    #[must_use]
    pub fn partition_point(&self, mut predicate: impl FnMut(&T) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.get(middle).is_some_and(&mut predicate) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    #[test]
    fn a_queue_is_what_a_plain_one_is() {
        let (mut random, mut queue, mut plain) = (SplitMix64::new(3), Queue::default(), VecDeque::new());
        for step in 0..30_000_u32 {
            // The queue fills to several parts, and empties.
            if random.within(0..=9) < if step / 5000 % 2 == 0 { 8 } else { 1 } {
                queue.push_back(step);
                plain.push_back(step);
            } else {
                assert_eq!(queue.pop_front(), plain.pop_front());
            }
            assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
            let index = random.within(0..=plain.len());
            assert_eq!(queue.get(index), plain.get(index));
            assert_eq!(queue.get_mut(index), plain.get_mut(index));
            let bound = plain.get(index).copied().unwrap_or(0);
            assert_eq!(
                queue.partition_point(|value| *value < bound),
                plain.partition_point(|value| *value < bound)
            );
        }
    }

    #[test]
    fn no_part_is_longer_than_another_and_an_empty_queue_has_one() {
        let mut queue = Queue::default();
        (0..20 * PART_LEN).for_each(|value| queue.push_back(value));
        assert!(queue.parts.len() == 20 && queue.parts.iter().all(|part| part.capacity() <= PART_LEN));
        while queue.pop_front().is_some() {}
        assert!(queue.parts.len() == 1 && queue.parts[0].capacity() <= ROOM_KEPT);
    }
}
