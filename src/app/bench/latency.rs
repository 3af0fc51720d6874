//! Histograms of times in ns, and the choice of deliveries that they sample.

use hdrhistogram::Histogram;
use serde::Serialize;

/// An empty histogram of times up to an hour, to three digits; longer ones count as an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HOUR_NS, DIGITS).expect("these are bounds that it takes")
}

/// A histogram as counts by value. Each value is the greatest of those that the histogram does not
/// distinguish, so that what is read equals what was written.
pub(super) mod counts {
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Histogram;

    pub(in super::super) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut pairs = serializer.serialize_seq(None)?;
        for value in histogram.iter_recorded() {
            pairs.serialize_element(&(value.value_iterated_to(), value.count_at_value()))?;
        }
        pairs.end()
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let mut histogram = super::histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.saturating_record_n(value, count);
        }
        Ok(histogram)
    }
}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) samples: u64,
    pub(super) p50_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
}

impl Summary {
    /// `None` for a histogram without any values.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Summary> {
        (!histogram.is_empty()).then(|| Summary {
            samples: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        })
    }
}

/// Samples one event in `every` by a hash of its number: a regular choice could always hit the same
/// place of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    hash_max: u32,
}

impl Sample {
    /// One in `every`, which is at least 1.
    pub(super) fn new(every: u64) -> Sample {
        Sample { hash_max: u32::try_from(u64::from(u32::MAX) / every).unwrap_or(u32::MAX) }
    }

    #[inline]
    pub(super) fn takes(self, number: u64) -> bool {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) <= u64::from(self.hash_max)
    }
}

const HOUR_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_right_to_three_digits() {
        let mut times = histogram();
        assert_eq!(Summary::of(&times), None);
        (1..=1000).for_each(|ms| times.saturating_record(ms * 1_000_000));
        times.saturating_record(u64::MAX);
        let summary = Summary::of(&times).unwrap();
        assert_eq!(summary.samples, 1001);
        assert!(summary.p50_ns.abs_diff(501_000_000) < 1_000_000, "{summary:?}");
        assert!(summary.p99_ns.abs_diff(991_000_000) < 1_000_000, "{summary:?}");
        assert!(summary.max_ns >= HOUR_NS);
    }

    #[test]
    fn a_sample_is_of_the_size_that_was_asked_for_in_every_place_of_a_batch() {
        assert!((0..1000).all(|number| Sample::new(1).takes(number)));
        let sample = Sample::new(64);
        for place in 0..64 {
            let taken = (0..64_000).filter(|batch| sample.takes(batch * 64 + place)).count();
            assert!((900..1100).contains(&taken), "{taken} of 64000 at place {place}");
        }
    }
}
