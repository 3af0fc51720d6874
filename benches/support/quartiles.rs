//! Medians and quartiles.

use std::fmt;

/// The quartiles of a set of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quartiles {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Quartiles {
    /// For these numbers, at least one.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Quartiles {
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
