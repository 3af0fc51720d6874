//! Medians, and between what they lie.

use std::fmt;

/// The median of a set of numbers, and the interval that holds the median of whatever they were drawn from, 95 times of a
/// hundred: between two of the numbers themselves (order statistics), so that nothing is supposed of how they lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Interval {
    /// Of these numbers; `None` where there are none. Fewer than six are all within their interval, which then says less.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Interval> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let outside = outside(sorted.len());
        let median = f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2]);
        Some(Interval { lower: sorted[outside], median, upper: sorted[last - outside] })
    }
}

/// How many of so many sorted numbers may be left out on each side, so that the median is among those no more than 2.5 times
/// of a hundred. Each number is below it as a coin falls: it is among the first `n` where at most `n` are.
fn outside(count: usize) -> usize {
    let (mut outside, mut at_most) = (0_usize, 0.0);
    let mut exactly = 0.5_f64.powf(count as f64);
    loop {
        at_most += exactly;
        if at_most > 0.025 {
            return outside.saturating_sub(1);
        }
        exactly *= (count - outside) as f64 / (outside + 1) as f64;
        outside += 1;
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3} {:.3}]", self.median, self.lower, self.upper)
    }
}
