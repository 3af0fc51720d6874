//! Medians and their confidence intervals.

use std::fmt;

/// The median of a sample, and an interval that contains the population's median with 95 % confidence.
/// Its ends are values of the sample (order statistics), so it assumes no distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Interval {
    /// For these numbers; `None` if there are none. With fewer than six the interval has all of them,
    /// and a lower confidence.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Interval> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let outside = outside(sorted.len());
        let median = f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2]);
        Some(Interval { lower: sorted[outside], median, upper: sorted[last - outside] })
    }
}

/// How many of `count` sorted numbers may be left out on each side, so that the median is among them
/// with at most 2.5 % probability. Each number is below the median with probability 1/2. The median is
/// among the first `n` if at most `n` numbers are below it.
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
