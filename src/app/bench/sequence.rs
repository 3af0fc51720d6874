//! Checks that a stream got every event of its channel once and in order, and that `gap` events reported
//! the missing ones.

use std::collections::VecDeque;
use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

/// The position of one stream in the numbers of its channel.
///
/// The first event sets the position: the server need not deliver events published before it registered
/// the stream.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The next number; `None` before the first event.
    next: Option<u64>,
    /// The number of events that the last `gap` reported missing at this position.
    told: Option<Told>,
    /// Missing ranges, and whether they were reported. An event that comes late is found here.
    #[expect(clippy::box_collection, reason = "one word in every stream for what hardly any of them needs")]
    missing: Option<Box<VecDeque<Missing>>>,
}

/// The number of missing events in a `gap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This many events.
    Exactly(u64),
    /// Some events.
    Some,
}

#[derive(Debug)]
struct Missing {
    numbers: Range<u64>,
    is_told: bool,
}

/// The fates of events, summed over streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tally {
    /// Events that never came and were reported by a `gap` at their position.
    pub(super) lost_told: u64,
    /// Events that never came and were not reported.
    pub(super) lost_untold: u64,
    /// Repetitions of events.
    pub(super) doubled: u64,
    /// Events that came after a later one.
    pub(super) reordered: u64,
    /// Events that came on a stream of another channel.
    pub(super) misdelivered: u64,
    /// `gap` events.
    pub(super) gaps: u64,
    /// Events that a `gap` reported missing although they were not.
    pub(super) told_in_excess: u64,
}

impl Told {
    /// Reads the data of a `gap` event. Without a number the count is open.
    pub(super) fn by(data: &[u8]) -> Told {
        let missed =
            serde_json::from_slice(data).ok().and_then(|gap: serde_json::Value| gap.get("missed")?.as_u64());
        missed.map_or(Told::Some, Told::Exactly)
    }
}

impl Tally {
    /// Returns true if and only if nothing went wrong unreported.
    pub(super) fn is_honest(&self) -> bool {
        self.lost_untold == 0 && self.doubled == 0 && self.reordered == 0 && self.misdelivered == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.lost_told += other.lost_told;
        self.lost_untold += other.lost_untold;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.misdelivered += other.misdelivered;
        self.gaps += other.gaps;
        self.told_in_excess += other.told_in_excess;
    }
}

impl Sequence {
    /// The next number; `None` before the first event.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Handles an event. Returns by how much the position has advanced: 0 for an event before it.
    #[inline]
    pub(super) fn take(&mut self, number: u64, tally: &mut Tally) -> u64 {
        if self.next == Some(number) && self.told.is_none() {
            self.next = Some(number + 1);
            return 1;
        }
        self.take_unexpected(number, tally)
    }

    /// Handles a `gap` event.
    pub(super) fn take_gap(&mut self, told: Told, tally: &mut Tally) {
        tally.gaps += 1;
        self.told = Some(match (self.told, told) {
            (Some(Told::Exactly(before)), Told::Exactly(more)) => Told::Exactly(before.saturating_add(more)),
            (Some(Told::Some), _) | (_, Told::Some) => Told::Some,
            (None, told) => told,
        });
    }

    /// Counts which of the channel's `published` events are missing, once no more come.
    pub(super) fn end(&mut self, published: u64, tally: &mut Tally) {
        if let Some(next) = self.next.filter(|&next| next < published) {
            self.skip(next..published, tally);
            self.next = Some(published);
        }
        self.excess(tally);
    }

    #[cold]
    fn take_unexpected(&mut self, number: u64, tally: &mut Tally) -> u64 {
        let Some(next) = self.next else {
            self.next = Some(number + 1);
            self.told = None;
            return 0;
        };
        if number < next {
            self.take_late(number, tally);
            return 0;
        }
        if number > next {
            self.skip(next..number, tally);
        }
        self.excess(tally);
        self.next = Some(number + 1);
        number + 1 - next
    }

    /// Counts `numbers` as lost: as many of them as reported as the last `gap` accounts for.
    fn skip(&mut self, numbers: Range<u64>, tally: &mut Tally) {
        let count = numbers.end - numbers.start;
        let told = match self.told {
            None => 0,
            Some(Told::Some) => count,
            Some(Told::Exactly(told)) => {
                self.told = Some(Told::Exactly(told.saturating_sub(count)));
                told.min(count)
            }
        };
        tally.lost_told += told;
        tally.lost_untold += count - told;
        let cut = numbers.start + told;
        self.remember(numbers.start..cut, true);
        self.remember(cut..numbers.end, false);
    }

    fn excess(&mut self, tally: &mut Tally) {
        if let Some(Told::Exactly(count)) = self.told.take() {
            tally.told_in_excess += count;
        }
    }

    fn remember(&mut self, numbers: Range<u64>, is_told: bool) {
        if numbers.is_empty() {
            return;
        }
        let missing = self.missing.get_or_insert_default();
        if missing.len() == MISSING_RANGES_MAX {
            missing.pop_front();
        }
        missing.push_back(Missing { numbers, is_told });
    }

    /// Handles an event before the position: it was missing and comes late, or it has come before.
    fn take_late(&mut self, number: u64, tally: &mut Tally) {
        let late = self.missing.as_mut().and_then(|missing| {
            let at = missing.iter().position(|missing| missing.numbers.contains(&number))?;
            let Missing { numbers, is_told } = missing.remove(at)?;
            let parts = [numbers.start..number, number + 1..numbers.end];
            for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
                missing.insert(at, Missing { numbers: part, is_told });
            }
            Some(is_told)
        });
        match late {
            None => tally.doubled += 1,
            Some(true) => (tally.lost_told, tally.reordered) = (tally.lost_told - 1, tally.reordered + 1),
            Some(false) => {
                (tally.lost_untold, tally.reordered) = (tally.lost_untold - 1, tally.reordered + 1)
            }
        }
    }
}

/// Beyond this the oldest ranges are forgotten. They stay lost, and one of their events that comes after
/// all counts as doubled.
const MISSING_RANGES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: impl IntoIterator<Item = u64>) -> (Sequence, Tally) {
        let (mut sequence, mut tally) = (Sequence::default(), Tally::default());
        for number in numbers {
            sequence.take(number, &mut tally);
        }
        (sequence, tally)
    }

    #[test]
    fn a_whole_stream_has_nothing_to_tell() {
        let (mut sequence, mut tally) = after(5..100);
        sequence.end(100, &mut tally);
        assert_eq!((tally, sequence.next()), (Tally::default(), Some(100)));
    }

    #[test]
    fn what_is_skipped_and_what_is_cut_off_is_lost() {
        let (mut sequence, mut tally) = after([0, 1, 4]);
        assert_eq!(tally, Tally { lost_untold: 2, ..Tally::default() });
        sequence.end(8, &mut tally);
        assert_eq!(tally, Tally { lost_untold: 5, ..Tally::default() });
        assert!(!tally.is_honest());
    }

    #[test]
    fn what_comes_again_is_doubled_and_what_comes_late_is_reordered() {
        assert_eq!(after([0, 1, 1]).1, Tally { doubled: 1, ..Tally::default() });
        assert_eq!(after([0, 3, 2, 1, 4]).1, Tally { reordered: 2, ..Tally::default() });
        let tally = after([0, 4, 2, 2]).1;
        assert_eq!(tally, Tally { lost_untold: 2, reordered: 1, doubled: 1, ..Tally::default() });
    }

    #[test]
    fn a_gap_accounts_for_what_is_missing_in_its_place_alone() {
        let (mut sequence, mut tally) = after([0]);
        sequence.take_gap(Told::Exactly(2), &mut tally);
        assert_eq!(sequence.take(4, &mut tally), 4);
        assert_eq!(sequence.take(6, &mut tally), 2);
        assert_eq!(tally, Tally { lost_told: 2, lost_untold: 2, gaps: 1, ..Tally::default() });
    }

    #[test]
    fn a_gap_without_a_count_accounts_for_whatever_is_missing() {
        let (mut sequence, mut tally) = after([0]);
        sequence.take_gap(Told::Some, &mut tally);
        sequence.take(10, &mut tally);
        assert_eq!(tally, Tally { lost_told: 9, gaps: 1, ..Tally::default() });
        assert!(tally.is_honest());
    }

    #[test]
    fn a_gap_that_says_too_much_is_found_out() {
        let (mut sequence, mut tally) = after([0]);
        sequence.take_gap(Told::Exactly(3), &mut tally);
        sequence.take(2, &mut tally);
        assert_eq!(tally, Tally { lost_told: 1, told_in_excess: 2, gaps: 1, ..Tally::default() });
        sequence.take_gap(Told::Exactly(1), &mut tally);
        sequence.take(3, &mut tally);
        assert_eq!((tally.told_in_excess, tally.lost_told), (3, 1));
    }

    #[test]
    fn two_gaps_in_one_place_add_up_also_at_the_end() {
        let (mut sequence, mut tally) = after([0]);
        sequence.take_gap(Told::Exactly(1), &mut tally);
        sequence.take_gap(Told::Exactly(2), &mut tally);
        sequence.end(4, &mut tally);
        assert_eq!(tally, Tally { lost_told: 3, gaps: 2, ..Tally::default() });
    }

    #[test]
    fn more_gaps_than_are_remembered_stay_lost() {
        let count = MISSING_RANGES_MAX as u64 + 1;
        let (mut sequence, mut tally) = after((0..=count).map(|at| 2 * at));
        assert_eq!(tally.lost_untold, count);
        sequence.take(1, &mut tally);
        sequence.take(3, &mut tally);
        assert_eq!((tally.doubled, tally.reordered, tally.lost_untold), (1, 1, count - 1));
    }

    #[test]
    fn a_gap_says_how_much_is_missing_or_leaves_it_open() {
        assert_eq!(
            Told::by(br#"{"reason":"slow-consumer","missed":12,"lastEventId":null}"#),
            Told::Exactly(12)
        );
        for data in [&br#"{"missed":null}"#[..], b"{}", b"", b"x", br#"{"missed":-1}"#] {
            assert_eq!(Told::by(data), Told::Some);
        }
    }
}
