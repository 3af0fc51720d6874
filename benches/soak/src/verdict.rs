//! The verdict on every steady value: at the base, at the end, and whether it grew.

use std::time::Duration;

use downpour_load::statistics::Quartiles;
use downpour_load::table::{align_figures, markdown};

use crate::sample::Sample;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Medians of the samples around the base and before the end.
    base: f64,
    end: f64,
    pub(crate) has_grown: bool,
}

/// The steady values of a run at two times; `base` is the time of its first figures.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) base: Duration,
    pub(crate) lines: Vec<Line>,
}

impl Comparison {
    /// Compares the samples around the base, minute five or half of a shorter run, with those before the
    /// end.
    pub(crate) fn of(samples: &[Sample]) -> Comparison {
        let end = samples.last().map(|sample| sample.at).unwrap_or_default();
        let base = BASE.min(end / 2);
        let window = WINDOW.min(end / 8);
        let names: Vec<&str> =
            samples.first().into_iter().flat_map(|sample| sample.steady()).map(|(name, _)| name).collect();
        let lines = names.into_iter().map(|name| {
            let median_of = |from: Duration, until: Duration| {
                let within = samples.iter().filter(|sample| sample.at >= from && sample.at <= until);
                let values = within.filter_map(|sample| sample.steady().find(|(found, _)| *found == name));
                median(values.map(|(_, value)| value).collect())
            };
            let base = median_of(base.saturating_sub(window), base + window);
            let end = median_of(end.saturating_sub(window * 2), end);
            Line { name: name.to_owned(), base, end, has_grown: has_grown(name, base, end) }
        });
        Comparison { base, lines: lines.collect() }
    }

    pub(crate) fn render(&self) -> String {
        let base = format!("at {:.1} min", self.base.as_secs_f64() / 60.0);
        let mut table = markdown(["what", &base, "at the end", "ratio", ""]);
        for Line { name, base, end, has_grown } in &self.lines {
            let ratio = if *base > 0.0 { format!("{:.2}", end / base) } else { "-".to_owned() };
            let grown = if *has_grown { "grown" } else { "" };
            table.add_row([name.clone(), format!("{base:.0}"), format!("{end:.0}"), ratio, grown.to_owned()]);
        }
        align_figures(&mut table);
        table.to_string()
    }
}

/// Returns true if and only if `end` is more than 5 % above `base`. Counts may differ by a few.
fn has_grown(name: &str, base: f64, end: f64) -> bool {
    let allowance = match name {
        "downpour_body_memory_bytes" => UNFINISHED_BYTES,
        name if name.ends_with("_bytes") => 0.0,
        _ => COUNT_ALLOWANCE,
    };
    end > base * 1.05 + allowance
}

/// 0 without values.
fn median(values: Vec<f64>) -> f64 {
    if values.is_empty() { 0.0 } else { Quartiles::of(values).median }
}

/// The time by which everything has its full size: idempotency keys are remembered for this long.
const BASE: Duration = Duration::from_secs(300);

/// The samples on either side of the base, and over twice this time before the end.
const WINDOW: Duration = Duration::from_secs(30);

/// Streams that catch up and connections that are closing come and go: a median of samples may be off by
/// this many.
const COUNT_ALLOWANCE: f64 = 16.0;

/// Bodies and answers under way: their number differs from sample to sample.
const UNFINISHED_BYTES: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Usage;

    /// An hour of samples with the memory and a gauge as functions of the second.
    fn hour(memory: impl Fn(u64) -> u64, gauge: impl Fn(u64) -> f64) -> Comparison {
        let samples: Vec<Sample> = (0..=3600)
            .step_by(5)
            .map(|second| Sample {
                at: Duration::from_secs(second),
                usage: Usage { resident_bytes: memory(second), files: 20, ..Usage::default() },
                gauges: [("timer_entries".to_owned(), gauge(second))].into(),
                ..Sample::default()
            })
            .collect();
        Comparison::of(&samples)
    }

    fn grown(comparison: &Comparison) -> Vec<&str> {
        comparison.lines.iter().filter(|line| line.has_grown).map(|line| line.name.as_str()).collect()
    }

    #[test]
    fn what_is_steady_after_its_start_has_not_grown() {
        let comparison =
            hour(|second| 60_000_000 + second.min(280) * 100_000 + second % 7, |second| (second % 50) as f64);
        assert_eq!(comparison.base, Duration::from_secs(300));
        assert!(grown(&comparison).is_empty(), "{}", comparison.render());
    }

    #[test]
    fn what_leaks_slowly_has_grown() {
        let comparison = hour(|second| 60_000_000 + second * 2000, |second| 700.0 + second as f64 / 10.0);
        assert_eq!(grown(&comparison), ["resident_bytes", "timer_entries"], "{}", comparison.render());
        assert!(comparison.render().contains("1.11"), "{}", comparison.render());
    }

    #[test]
    fn a_single_sample_that_is_far_off_decides_nothing() {
        let comparison = hour(|second| if second == 3600 { 900_000_000 } else { 60_000_000 }, |_| 0.0);
        assert!(grown(&comparison).is_empty(), "{}", comparison.render());
    }

    #[test]
    fn small_counts_may_differ_by_a_few() {
        assert!(!has_grown("downpour_streams{state=catching-up}", 2.0, 9.0));
        assert!(has_grown("downpour_streams{state=catching-up}", 2.0, 60.0));
        assert!(has_grown("downpour_history_bytes", 1000.0, 1051.0));
        assert!(!has_grown("downpour_history_bytes", 1000.0, 1050.0));
        assert!(!has_grown("downpour_body_memory_bytes", 0.0, 1_000_000.0));
        assert!(has_grown("downpour_body_memory_bytes", 0.0, 2_000_000.0));
    }
}
