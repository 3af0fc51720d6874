//! The lapsed events of a channel. A lapsed event is not lost: a stream that counts what it missed
//! leaves it out.

use std::collections::VecDeque;

use crate::base::id::Sequence;

/// The number of lapsed events whose numbers a channel remembers. From the numbers a stream knows how
/// many of the events it missed had lapsed.
const NUMBERS_MAX: usize = 1024;

/// The lapsed events of a channel since it entered the table.
#[derive(Debug, Default)]
pub(in crate::hub) struct Lapsed {
    /// The number of lapsed events.
    pub(in crate::hub) count: u64,
    /// The numbers of the last of them, in order.
    numbers: VecDeque<Sequence>,
    /// Events that had lapsed when the history was dropped, and that are still retained, in order. The
    /// drop did not lose them, and they are not in `count` yet.
    dropped: VecDeque<Sequence>,
    /// The last lapsed event whose number is no longer remembered.
    forgotten_through: Sequence,
}

impl Lapsed {
    /// Notes an event that has lapsed.
    pub(super) fn note(&mut self, sequence: Sequence) {
        self.count += 1;
        if sequence <= self.forgotten_through {
            return;
        }
        let index = self.numbers.partition_point(|&number| number < sequence);
        self.numbers.insert(index, sequence);
        if self.numbers.len() > NUMBERS_MAX
            && let Some(oldest) = self.numbers.pop_front()
        {
            self.forgotten_through = oldest;
        }
    }

    /// Notes, when a history is dropped, which of its retained events have lapsed, by their numbers in
    /// order.
    pub(super) fn note_dropped(&mut self, lapsed: impl ExactSizeIterator<Item = Sequence>) {
        let surplus = (self.dropped.len() + lapsed.len()).saturating_sub(NUMBERS_MAX);
        self.dropped.extend(lapsed);
        if let Some(last) = self.dropped.drain(..surplus).next_back() {
            self.forgotten_through = self.forgotten_through.max(last);
        }
    }

    /// Notes that an event of a dropped history is given up now. Returns true if the event had lapsed
    /// when the history was dropped; otherwise nothing is noted.
    pub(super) fn note_if_dropped(&mut self, sequence: Sequence) -> bool {
        let Ok(index) = self.dropped.binary_search(&sequence) else { return false };
        self.dropped.remove(index);
        self.note(sequence);
        true
    }

    /// Counts the retained events up to `place` that had lapsed when their history was dropped.
    pub(super) fn count_dropped_through(&self, place: Sequence) -> usize {
        self.dropped.partition_point(|&number| number <= place)
    }

    /// Forgets all numbers, and treats every place before `place` as unknown. The caller knows that no
    /// stream counts from an earlier place.
    pub(super) fn forget_numbers_through(&mut self, place: Sequence) {
        let last = [self.numbers.back(), self.dropped.back(), Some(&place)].into_iter().flatten().max();
        self.forgotten_through = self.forgotten_through.max(*last.unwrap_or(&place));
        self.numbers = VecDeque::new();
        self.dropped = VecDeque::new();
    }

    /// Counts the lapsed events after `place`. Returns `None` if their numbers are not remembered.
    pub(super) fn count_after(&self, place: Sequence) -> Option<u64> {
        let after = || self.numbers.len() - self.numbers.partition_point(|&number| number <= place);
        (place >= self.forgotten_through).then(|| after() as u64)
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        size_of::<Lapsed>() + (self.numbers.capacity() + self.dropped.capacity()) * size_of::<Sequence>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lapsed_events_are_remembered_up_to_a_bound() {
        let mut lapsed = Lapsed::default();
        [5, 3, 9].into_iter().for_each(|number| lapsed.note(Sequence(number)));
        assert_eq!([0, 3, 8, 9].map(|place| lapsed.count_after(Sequence(place))), [3, 2, 1, 0].map(Some));
        (0..NUMBERS_MAX as u64).for_each(|n| lapsed.note(Sequence(100 + n)));
        assert_eq!(lapsed.count_after(Sequence(8)), None);
        assert_eq!(lapsed.count_after(Sequence(9)), Some(NUMBERS_MAX as u64));
        lapsed.forget_numbers_through(Sequence::START);
        assert_eq!((lapsed.count, lapsed.count_after(Sequence(1122))), (NUMBERS_MAX as u64 + 3, None));
        assert_eq!(lapsed.count_after(Sequence(1123)), Some(0));
    }
}
