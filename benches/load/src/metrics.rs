//! Gauges and counters of `/metrics`.

use std::collections::BTreeMap;

/// The server's metrics, from OpenMetrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// By name and labels; those that differ only in their shard are summed.
    pub gauges: BTreeMap<String, f64>,
    /// The same of counters.
    pub counters: BTreeMap<String, f64>,
}

impl Metrics {
    /// A gauge by its name; 0 if there is none.
    pub fn gauge(&self, name: &str) -> f64 {
        self.gauges.get(name).copied().unwrap_or_default()
    }

    /// Reads the text of the endpoint. Histograms are skipped.
    pub fn read(text: &str) -> Metrics {
        let mut metrics = Metrics::default();
        let (mut name, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                (name, kind) = told.split_once(' ').unwrap_or((told, ""));
                continue;
            }
            let Some((sample, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else { continue };
            let values = match kind {
                "gauge" => &mut metrics.gauges,
                "counter" => &mut metrics.counters,
                _ => continue,
            };
            if sample.starts_with(name) {
                *values.entry(without_shard(sample)).or_default() += value;
            }
        }
        metrics
    }
}

fn without_shard(sample: &str) -> String {
    match sample.split_once('{') {
        Some((name, labels)) if labels.starts_with("shard=") => name.to_owned(),
        _ => sample.replace('"', ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_and_counters_are_read_and_shards_summed() {
        let text = "# HELP d_connections Open.\n# TYPE d_connections gauge\nd_connections{shard=\"0\"} 3\n\
                    d_connections{shard=\"1\"} 4\n# TYPE d_streams gauge\nd_streams{state=\"live\"} 2\n\
                    # TYPE d_gaps counter\nd_gaps_total{reason=\"x\"} 5\n# TYPE d_lag histogram\n\
                    d_lag_sum 1.5\n# EOF\n";
        let metrics = Metrics::read(text);
        let gauges: Vec<_> = metrics.gauges.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(gauges, [("d_connections", 7.0), ("d_streams{state=live}", 2.0)]);
        assert_eq!(metrics.counters.len(), 1);
        assert!((metrics.counters["d_gaps_total{reason=x}"] - 5.0).abs() < f64::EPSILON);
    }
}
