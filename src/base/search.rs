//! Binary search in ordered data from a good guess.

/// Returns how many of `len` places come first in the order: `is_before` holds for these and for none
/// after them.
///
/// The search starts at `guess` and doubles its steps. Its cost is logarithmic in the distance from
/// `guess`, and does not depend on `len`.
#[must_use]
#[inline]
pub fn partition_point_near(len: usize, guess: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let guess = guess.min(len);
    // `is_before` holds for all places below `low`, and for none from `high` on.
    let (mut low, mut high) = (0, len);
    let mut step = 1;
    if guess > 0 && !is_before(guess - 1) {
        high = guess - 1;
        while high > 0 {
            let probe = high.saturating_sub(step);
            if is_before(probe) {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
    } else {
        low = guess;
        while low < len {
            let probe = (low + step - 1).min(len - 1);
            if !is_before(probe) {
                high = probe;
                break;
            }
            low = probe + 1;
            step *= 2;
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_place_is_found_from_every_guess() {
        for len in 0..40 {
            for sought in 0..=len {
                for guess in 0..=len + 2 {
                    let found = partition_point_near(len, guess, |place| place < sought);
                    assert_eq!(found, sought, "of {len} from {guess}");
                }
            }
        }
    }

    #[test]
    fn a_good_guess_costs_the_same_however_many_places_there_are() {
        let looks = |len: usize, sought: usize, guess: usize| {
            let count = Cell::new(0);
            let is_before = |place: usize| {
                count.set(count.get() + 1);
                place < sought
            };
            assert_eq!(partition_point_near(len, guess, is_before), sought);
            count.get()
        };
        for (few, many) in [(1000, 1_000_000), (1 << 10, 1 << 40)] {
            for off in [0, 1, 9, 500] {
                assert_eq!(looks(few, few - off, few), looks(many, many - off, many), "{off} before the end");
            }
        }
    }
}
