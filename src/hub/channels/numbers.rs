//! The numbers of a channel's retained events, in order.

use crate::base::id::Sequence;
use crate::base::queue::Queue;
use crate::base::search::partition_point_near;

/// The room of a list of two numbers.
const ROOM_MIN: usize = 3;

/// Sequence numbers in order. A single number needs no heap memory: most of very many channels have no
/// more than one.
#[derive(Debug, Default)]
pub(in crate::hub) enum Numbers {
    #[default]
    None,
    One(Sequence),
    Many(Queue<Sequence>),
}

impl Numbers {
    pub(in crate::hub) fn len(&self) -> usize {
        match self {
            Numbers::None => 0,
            Numbers::One(_) => 1,
            Numbers::Many(numbers) => numbers.len(),
        }
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number at `index`, counted from the oldest.
    #[inline]
    pub(in crate::hub) fn get(&self, index: usize) -> Option<Sequence> {
        match self {
            Numbers::None => None,
            Numbers::One(only) => (index == 0).then_some(*only),
            Numbers::Many(numbers) => numbers.get(index).copied(),
        }
    }

    /// The numbers from `index` on that lie together: at least one, if there is one.
    pub(in crate::hub) fn together_from(&self, index: usize) -> &[Sequence] {
        match self {
            Numbers::None => &[],
            Numbers::One(only) => std::slice::from_ref(only).get(index..).unwrap_or_default(),
            Numbers::Many(numbers) => numbers.together_from(index),
        }
    }

    /// The oldest number.
    pub(in crate::hub) fn first(&self) -> Option<Sequence> {
        self.get(0)
    }

    /// The numbers from `index` on.
    pub(in crate::hub) fn from(
        &self,
        index: usize,
    ) -> impl DoubleEndedIterator<Item = Sequence> + ExactSizeIterator {
        (index..self.len()).map(|index| self.get(index).expect("it lies below the length"))
    }

    /// Counts the numbers up to `place`. Callers mostly ask for a place among the newest, so the search
    /// starts there, and its cost does not grow with the length.
    #[inline]
    pub(in crate::hub) fn count_through(&self, place: Sequence) -> usize {
        let is_through = |index| self.get(index).is_some_and(|number| number <= place);
        partition_point_near(self.len(), self.len(), is_through)
    }

    /// Finds the index of a number.
    pub(in crate::hub) fn index_of(&self, number: Sequence) -> Option<usize> {
        let index = self.count_through(number).checked_sub(1)?;
        (self.get(index) == Some(number)).then_some(index)
    }

    /// Adds the newest number. `len_max` is about the greatest length expected, and bounds the room made
    /// at once.
    pub(in crate::hub) fn push(&mut self, number: Sequence, len_max: usize) {
        match self {
            Numbers::None => *self = Numbers::One(number),
            Numbers::One(only) => {
                let mut numbers = Queue::with_room_for(ROOM_MIN);
                numbers.push_back(*only);
                numbers.push_back(number);
                *self = Numbers::Many(numbers);
            }
            Numbers::Many(numbers) => numbers.push_back_within(number, len_max),
        }
    }

    /// Removes the oldest number.
    #[inline]
    pub(in crate::hub) fn pop_first(&mut self) -> Option<Sequence> {
        let Numbers::Many(numbers) = self else {
            let first = self.first();
            *self = Numbers::None;
            return first;
        };
        let first = numbers.pop_front();
        if numbers.is_empty() {
            *self = Numbers::None;
        }
        first
    }

    /// Removes the number at `index`, and gives back room that the others do not need.
    pub(in crate::hub) fn remove(&mut self, index: usize) {
        if self.len() <= 1 {
            *self = Numbers::None;
        } else if let Numbers::Many(numbers) = self {
            numbers.remove(index);
        }
    }

    /// The bytes held on the heap.
    pub(in crate::hub) fn bytes(&self) -> usize {
        match self {
            Numbers::None | Numbers::One(_) => 0,
            Numbers::Many(numbers) => numbers.bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    impl Numbers {
        /// The most places that lie together.
        pub(in crate::hub) fn longest_part(&self) -> usize {
            match self {
                Numbers::None | Numbers::One(_) => 0,
                Numbers::Many(numbers) => numbers.longest_part(),
            }
        }
    }

    /// The numbers, and a plain list as their model.
    #[derive(Default)]
    struct Both {
        numbers: Numbers,
        plain: Vec<u64>,
    }

    impl Both {
        fn push(&mut self, number: u64) {
            self.numbers.push(Sequence(number), 50);
            self.plain.push(number);
        }

        fn check(&self) {
            let read: Vec<u64> = self.numbers.from(0).map(|number| number.0).collect();
            assert_eq!((read, self.numbers.len()), (self.plain.clone(), self.plain.len()));
            assert_eq!(self.numbers.first().map(|number| number.0), self.plain.first().copied());
            for place in 0..=self.plain.last().copied().unwrap_or(0) + 2 {
                let through = self.plain.partition_point(|&number| number <= place);
                assert_eq!(self.numbers.count_through(Sequence(place)), through, "{place}");
                let index = self.plain.iter().position(|&number| number == place);
                assert_eq!(self.numbers.index_of(Sequence(place)), index, "{place}");
            }
        }
    }

    #[test]
    fn numbers_agree_with_a_plain_list() {
        let (mut both, mut random, mut next) = (Both::default(), SplitMix64::new(3), 1);
        for _ in 0..600 {
            match random.within(0..=9) {
                0..=5 => {
                    both.push(next);
                    next += random.within(1..=3) as u64;
                }
                6..=8 => {
                    let first = (!both.plain.is_empty()).then(|| both.plain.remove(0));
                    assert_eq!(both.numbers.pop_first().map(|number| number.0), first);
                }
                _ if !both.plain.is_empty() => {
                    let index = random.within(0..=both.plain.len() - 1);
                    both.plain.remove(index);
                    both.numbers.remove(index);
                }
                _ => {}
            }
            both.check();
        }
    }

    #[test]
    fn one_number_needs_no_memory_of_its_own_and_many_little_more_than_they_are() {
        assert_eq!(size_of::<Numbers>(), size_of::<std::collections::VecDeque<Sequence>>());
        let mut numbers = Numbers::default();
        for number in 1..=100_000 {
            numbers.push(Sequence(number), 1000);
            if numbers.len() > 1000 {
                numbers.pop_first();
            }
            let bytes_max = if numbers.len() == 1 { 0 } else { numbers.len() * 12 + 64 };
            assert!(numbers.bytes() <= bytes_max, "{} bytes for {}", numbers.bytes(), numbers.len());
        }
        assert!(numbers.bytes() <= 1004 * 9 + 16, "{} bytes for a full channel", numbers.bytes());
        while numbers.len() > 1 {
            numbers.pop_first();
        }
        assert!(numbers.bytes() <= 64 * 9 + 16, "{} bytes for one that was full", numbers.bytes());
        numbers.pop_first();
        assert_eq!(numbers.bytes(), 0);
    }
}
