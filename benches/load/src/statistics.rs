//! Medians, with their confidence intervals or with quartiles.

use std::fmt;

/// The median of a sample, and an interval that contains the population's median with 95 % confidence.
/// Its ends are values of the sample (order statistics), so it assumes no distribution.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The median of the sample.
    pub median: f64,
    /// The upper end.
    pub upper: f64,
}

impl Interval {
    /// For these numbers; `None` if there are none. With fewer than six the interval has all of them,
    /// and a lower confidence.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Interval> {
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

/// The quartiles of a set of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Quartiles {
    /// The first quartile.
    pub lower: f64,
    /// The second quartile.
    pub median: f64,
    /// The third quartile.
    pub upper: f64,
}

impl Quartiles {
    /// For these numbers, at least one.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Quartiles {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        // Interpolated between the two numbers beside the position.
        let at = |quarters: usize| {
            let (place, part) = (quarters * (sorted.len() - 1) / 4, quarters * (sorted.len() - 1) % 4);
            let next = sorted[(place + 1).min(sorted.len() - 1)];
            sorted[place] + (next - sorted[place]) * part as f64 / 4.0
        };
        Quartiles { lower: at(1), median: at(2), upper: at(3) }
    }
}

impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3} {:.3}]", self.median, self.lower, self.upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u32) -> (f64, f64, f64) {
        // In no order.
        let numbers = (0..count).map(|number| f64::from((number * 7) % count + 1));
        let Interval { lower, median, upper } = Interval::of(numbers).expect("there are numbers");
        (lower, median, upper)
    }

    #[test]
    fn an_interval_leaves_out_as_many_numbers_as_a_table_of_the_sign_test_says() {
        for (count, expected) in [
            (1, (1.0, 1.0, 1.0)),
            (5, (1.0, 3.0, 5.0)),
            (6, (1.0, 3.5, 6.0)),
            (9, (2.0, 5.0, 8.0)),
            (15, (4.0, 8.0, 12.0)),
            (31, (10.0, 16.0, 22.0)),
        ] {
            assert_eq!(of(count), expected, "{count}");
        }
    }

    #[test]
    fn without_numbers_there_is_no_interval() {
        assert!(Interval::of([]).is_none());
    }

    #[test]
    fn it_is_written_with_its_median_first() {
        let interval = Interval::of([1.0, 2.0, 3.0]).unwrap();
        assert_eq!(interval.to_string(), "2.000 [1.000 3.000]");
    }
}
