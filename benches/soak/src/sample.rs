//! Samples, and the CSV that they are written to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use downpour_load::kernel;
use downpour_load::metrics::Metrics;

use crate::shared::{Count, Shared};

/// The resources of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) files: usize,
    pub(crate) cpu_time: Duration,
}

impl Usage {
    /// # Errors
    /// The process is gone.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Usage> {
        Ok(Usage {
            resident_bytes: kernel::resident_bytes(pid).context("the server is gone")?,
            files: kernel::open_files(pid)?,
            cpu_time: kernel::cpu_time(pid)?,
        })
    }
}

/// The readings of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Time since the measurement began.
    pub(crate) at: Duration,
    pub(crate) usage: Usage,
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) counters: BTreeMap<String, f64>,
}

impl Sample {
    pub(crate) fn new(at: Duration, usage: Usage, metrics: Metrics) -> Sample {
        Sample { at, usage, gauges: metrics.gauges, counters: metrics.counters }
    }

    /// Values that must not grow, by name.
    pub(crate) fn steady(&self) -> impl Iterator<Item = (&str, f64)> {
        let process = [(RESIDENT, self.usage.resident_bytes as f64), ("open_files", self.usage.files as f64)];
        process.into_iter().chain(self.gauges.iter().map(|(name, value)| (name.as_str(), *value)))
    }
}

/// A CSV that gets a line for each sample.
#[derive(Debug)]
pub(crate) struct Csv {
    writer: csv::Writer<File>,
    /// The gauges and counters of the first sample.
    columns: Option<(Vec<String>, Vec<String>)>,
}

impl Csv {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Csv> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let writer =
            csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Csv { writer, columns: None })
    }

    pub(crate) fn write(&mut self, sample: &Sample, shared: &Shared) -> anyhow::Result<()> {
        if self.columns.is_none() {
            let gauges: Vec<String> = sample.gauges.keys().cloned().collect();
            let counters: Vec<String> = sample.counters.keys().cloned().collect();
            let own = ["seconds", RESIDENT, "open_files", "cpu_seconds", "faults"].map(str::to_owned);
            let counts = Count::ALL.map(|count| format!("load_{}", count.column()));
            self.writer.write_record(own.iter().chain(&gauges).chain(&counters).chain(&counts))?;
            self.columns = Some((gauges, counters));
        }
        let Some((gauges, counters)) = &self.columns else { return Ok(()) };
        let Usage { resident_bytes, files, cpu_time } = sample.usage;
        let mut row = vec![
            format!("{:.1}", sample.at.as_secs_f64()),
            resident_bytes.to_string(),
            files.to_string(),
            format!("{:.2}", cpu_time.as_secs_f64()),
            shared.faults().to_string(),
        ];
        let value = |values: &BTreeMap<String, f64>, name: &String| {
            values.get(name).map(f64::to_string).unwrap_or_default()
        };
        row.extend(gauges.iter().map(|name| value(&sample.gauges, name)));
        row.extend(counters.iter().map(|name| value(&sample.counters, name)));
        row.extend(Count::ALL.map(|count| shared.counted(count).to_string()));
        self.writer.write_record(&row)?;
        Ok(self.writer.flush()?)
    }
}

/// The name of resident memory.
pub(crate) const RESIDENT: &str = "resident_bytes";
