//! The output of `downpour bench --json`, as far as it is used here.

use serde::Deserialize;

/// The result of one run. Optional fields are missing if the run ended early.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) findings: Vec<String>,
    pub(crate) remarks: Vec<String>,
    pub(crate) connect: Option<Connect>,
    pub(crate) run: Option<Measured>,
    pub(crate) losses: Option<Losses>,
    pub(crate) server: Option<Server>,
    pub(crate) kernel: Option<Kernel>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Connect {
    pub(crate) per_second: f64,
    pub(crate) latency: Option<Latency>,
    pub(crate) fast_ended: u64,
    pub(crate) slow_ended: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latency {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

/// The measured part.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) events: u64,
    pub(crate) events_per_second: f64,
    pub(crate) deliveries: u64,
    pub(crate) expected_deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) latency: Option<Latency>,
    pub(crate) readers: Vec<Busy>,
    pub(crate) publisher: Busy,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Busy {
    pub(crate) running: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Losses {
    pub(crate) fast: Tally,
    pub(crate) slow: Tally,
    pub(crate) unread: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    pub(crate) lost_untold: u64,
    pub(crate) lost_told: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) misdelivered: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Server {
    pub(crate) cpu_share: f64,
    pub(crate) cpu_ns_per_delivery: Option<f64>,
    pub(crate) rss_bytes_per_stream: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kernel {
    pub(crate) dropped_packets: Option<u64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// In the form that `downpour bench` writes, with some of the fields that are not used.
    pub(crate) const REPORT: &str = r#"{
        "version": "0.1.0", "date": "Sun, 06 Nov 1994 08:49:37 GMT",
        "machine": { "kernel": "Linux 6.18", "cpu": "A CPU", "cpus": 2, "memoryBytes": 25276514304 },
        "serverHeader": null, "findings": ["a finding"], "remarks": ["a note", "another"],
        "connect": { "streams": 1000, "seconds": 0.2, "perSecond": 8809.5, "fastEnded": 1, "slowEnded": 2,
                     "latency": { "samples": 1000, "p50Ns": 15, "p90Ns": 23, "p99Ns": 41, "p999Ns": 54, "maxNs": 75 } },
        "run": { "seconds": 2.5, "events": 10, "eventsPerSecond": 4.0, "requests": 10, "deliveries": 9999,
                 "deliveriesPerSecond": 4000.0, "lateDeliveries": 0, "expectedDeliveries": 10000,
                 "latency": { "samples": 1, "p50Ns": 3437232, "p90Ns": 6002049, "p99Ns": 6220152, "maxNs": 6270484 },
                 "readers": [{ "running": 0.9, "waitingForCpu": 0.07 }],
                 "publisher": { "running": 0.06, "waitingForCpu": 0.08 } },
        "losses": {
            "fast": { "lostTold": 0, "lostUntold": 1, "doubled": 0, "reordered": 0, "misdelivered": 0, "gaps": 0 },
            "slow": { "lostTold": 7, "lostUntold": 0, "doubled": 0, "reordered": 0, "misdelivered": 0, "gaps": 1 },
            "unread": 3 },
        "server": { "cpuSeconds": 1.0, "cpuShare": 0.4, "cpuNsPerDelivery": 4810.5, "rssBytesPerStream": 254.0 },
        "kernel": { "tcpBytesBefore": 0, "tcpBytesRamped": 1, "tcpBytesEnd": null, "droppedPackets": 9 }
    }"#;

    #[test]
    fn a_run_that_came_to_nothing_has_no_figures() {
        let text = r#"{ "findings": ["480 of 10000 streams were not begun"], "connect": null, "run": null }"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert!(report.connect.is_none() && report.run.is_none() && report.losses.is_none());
        assert_eq!(report.findings.len(), 1);
    }
}
