//! A list in parts of one length, for millions of values that are found by index alone: a value stays at
//! its place in memory until it is removed.

use std::mem;
use std::ops::{Index, IndexMut};

/// Values by index, in parts of 2^`PART_LOG2`. The list of parts alone is moved as it grows.
#[derive(Debug)]
pub struct Parts<T, const PART_LOG2: u32> {
    /// All but the last two are full. The last may be empty, so that a value that comes and goes does
    /// not take a part along each time.
    parts: Vec<Vec<T>>,
    len: usize,
}

impl<T, const PART_LOG2: u32> Default for Parts<T, PART_LOG2> {
    /// An empty list with the memory of its first part: one that comes among other blocks would leave a
    /// hole.
    fn default() -> Self {
        Parts { parts: vec![Vec::with_capacity(1 << PART_LOG2)], len: 0 }
    }
}

impl<T, const PART_LOG2: u32> Parts<T, PART_LOG2> {
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
    pub fn push(&mut self, value: T) {
        let part = self.len >> PART_LOG2;
        if part == self.parts.len() {
            // Memory that is not written to is address space alone.
            self.parts.push(Vec::with_capacity(1 << PART_LOG2));
        }
        self.parts[part].push(value);
        self.len += 1;
    }

    /// Removes and returns the last value.
    pub fn pop(&mut self) -> Option<T> {
        let part = self.len.checked_sub(1)? >> PART_LOG2;
        let value = self.parts[part].pop()?;
        self.len -= 1;
        self.parts.truncate(part + 2);
        Some(value)
    }

    /// Removes and returns the value at an index. The last value takes its place.
    ///
    /// # Panics
    /// If there is no value at the index.
    pub fn swap_remove(&mut self, index: usize) -> T {
        let last = self.pop().expect("a value that is removed is there");
        if index == self.len { last } else { mem::replace(&mut self[index], last) }
    }

    /// The value at an index, if there is one.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.parts.get(index >> PART_LOG2)?.get(index % (1 << PART_LOG2))
    }
}

impl<T, const PART_LOG2: u32> Index<usize> for Parts<T, PART_LOG2> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.parts[index >> PART_LOG2][index % (1 << PART_LOG2)]
    }
}

impl<T, const PART_LOG2: u32> IndexMut<usize> for Parts<T, PART_LOG2> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.parts[index >> PART_LOG2][index % (1 << PART_LOG2)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    type Small = Parts<u32, 4>;

    #[test]
    fn parts_are_what_a_plain_list_is() {
        let (mut random, mut parts, mut plain) = (SplitMix64::new(4), Small::default(), Vec::new());
        for step in 0..20_000_u32 {
            // The list fills to several parts, and empties.
            let fills = if step / 2500 % 2 == 0 { 7 } else { 2 };
            match random.within(0..=9) {
                action if action < fills => {
                    parts.push(step);
                    plain.push(step);
                }
                8 => assert_eq!(parts.pop(), plain.pop()),
                _ if plain.is_empty() => {}
                _ => {
                    let index = random.within(0..=plain.len() - 1);
                    assert_eq!(parts.swap_remove(index), plain.swap_remove(index));
                }
            }
            assert_eq!((parts.len(), parts.is_empty()), (plain.len(), plain.is_empty()));
            let index = random.within(0..=plain.len());
            assert_eq!(parts.get(index), plain.get(index));
            if let Some(value) = plain.get_mut(index) {
                (*value, parts[index]) = (step, step);
                assert_eq!(parts[index], step);
            }
            assert!(parts.parts.len() <= parts.len() / 16 + 2, "a part or two have room");
        }
    }

    #[test]
    fn no_call_moves_another_value_than_the_last() {
        let mut parts = Small::default();
        let places = |parts: &Small| -> Vec<*const u32> {
            (0..parts.len()).map(|index| std::ptr::from_ref(&parts[index])).collect()
        };
        for value in 0..5000 {
            let before = (value % 50 == 0).then(|| places(&parts));
            parts.push(value);
            if let Some(before) = before {
                assert!(places(&parts).starts_with(&before));
            }
        }
        while parts.len() > 1 {
            let (index, last) = (parts.len() / 3, parts[parts.len() - 1]);
            let before = places(&parts);
            parts.swap_remove(index);
            assert!(before.starts_with(&places(&parts)) && parts[index] == last);
            if parts.len() % 16 != 0 {
                parts.pop();
            }
        }
    }
}
