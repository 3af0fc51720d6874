//! Makes the runs one after the other, each with a server of its own, and a row for each when it ends.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use downpour_load::process::{Process, Waited, command};
use downpour_load::progress;
use downpour_load::units::{BYTES, COUNTS, TIMES, with_unit};
use indicatif::HumanDuration;
use tempfile::TempDir;

use crate::cell::{Contender, Pace, Run};
use crate::rate::Rate;
use crate::result::Report;
use crate::row::{self, Origin, Row};
use crate::server::Installed;

/// What all runs have in common.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) downpour: PathBuf,
    pub(crate) installed: Vec<Installed>,
    pub(crate) commit: String,
    pub(crate) duration: Duration,
    pub(crate) cpu_server: usize,
    pub(crate) cpu_bench: usize,
    /// Set to end the campaign.
    pub(crate) is_stopped: Arc<AtomicBool>,
}

/// The rows so far, and their file.
#[derive(Debug)]
pub(crate) struct Rows {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Rows {
    /// Begins without rows. A file with earlier ones is renamed.
    pub(crate) fn begin(out: &Path) -> anyhow::Result<Rows> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let path = out.join(RUNS);
        let earlier = out.join(EARLIER_RUNS);
        match fs::rename(&path, &earlier) {
            Ok(()) => eprintln!("the rows that were there are now in {}", earlier.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot rename {}", path.display())),
        }
        Ok(Rows { path, rows: Vec::new() })
    }

    /// Reads the existing rows.
    ///
    /// # Errors
    /// Also if they are of other commits than `commit`: medians over both would be of neither.
    pub(crate) fn resume(out: &Path, commit: &str) -> anyhow::Result<Rows> {
        let rows = Rows::read(out)?;
        if let Some(other) = rows.rows.iter().find(|row| row.commit != commit) {
            bail!("{} has rows of commit {}, and this is {commit}", rows.path.display(), other.commit);
        }
        Ok(rows)
    }

    /// Reads the existing rows, of any commit.
    pub(crate) fn read(out: &Path) -> anyhow::Result<Rows> {
        let path = out.join(RUNS);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let rows = row::read(file).with_context(|| path.display().to_string())?;
        Ok(Rows { path, rows })
    }

    pub(crate) fn all(&self) -> &[Row] {
        &self.rows
    }

    fn append(&mut self, row: Row) -> anyhow::Result<()> {
        let mut csv = Vec::new();
        row::write(std::slice::from_ref(&row), self.rows.is_empty(), &mut csv)?;
        let file = File::options().append(true).create(true).open(&self.path);
        // In one piece, so that no row is written in half.
        let written = file.and_then(|mut file| file.write_all(&csv));
        written.with_context(|| format!("cannot write to {}", self.path.display()))?;
        self.rows.push(row);
        Ok(())
    }

    fn saturated_events(&self, run: Run) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.run() == run.saturated())?;
        row.events_per_second.filter(|&events| events > 0.0)
    }
}

impl Setup {
    /// Makes the runs that have no row yet, until all are done or the campaign is stopped.
    ///
    /// # Errors
    /// If rows cannot be written. Failures of a run are in its row.
    pub(crate) fn run_all(&self, runs: &[Run], rows: &mut Rows) -> anyhow::Result<()> {
        let done: HashSet<Run> = rows.rows.iter().map(Row::run).collect();
        let left: Vec<Run> = runs.iter().copied().filter(|run| !done.contains(run)).collect();
        if left.len() < runs.len() {
            eprintln!("{} of {} runs have their rows already", runs.len() - left.len(), runs.len());
        }
        let bar = progress::bar(left.len() as u64);
        for &run in &left {
            let saturated_events = rows.saturated_events(run);
            if run.pace == Pace::Half && saturated_events.is_none() {
                bar.suspend(|| eprintln!("{run}: left out, as nothing was delivered at saturation"));
                bar.inc(1);
                continue;
            }
            let Some(row) = self.run(run, saturated_events.unwrap_or(0.0))? else { return Ok(()) };
            bar.inc(1);
            let (done, all, time_left) = (bar.position(), left.len(), HumanDuration(bar.eta()));
            bar.suspend(|| {
                eprintln!("{done} of {all}, about {time_left} left: repeat={} {}", run.repeat, line(&row));
            });
            rows.append(row)?;
        }
        Ok(())
    }

    /// `None` if the campaign is stopped.
    fn run(&self, run: Run, saturated_events: f64) -> anyhow::Result<Option<Row>> {
        let load = Rate::of(run, saturated_events);
        let installed = self.installed.iter().find(|installed| installed.contender == run.contender);
        let installed = installed.context("runs are of servers that are installed")?;
        let origin = Origin {
            commit: self.commit.clone(),
            server_version: installed.version.clone(),
            duration_seconds: self.duration.as_secs_f64(),
        };
        let row = match self.measure(run, load, installed) {
            Ok(report) => Row::new(run, load, &origin, &report),
            Err(trouble) => Row::failed(run, load, &origin, format!("{trouble:#}")),
        };
        Ok((!self.is_stopped.load(Ordering::Relaxed)).then_some(row))
    }

    fn measure(&self, run: Run, load: Rate, installed: &Installed) -> anyhow::Result<Report> {
        let folder = TempDir::new()?;
        let [json, said] = ["result.json", "stderr"].map(|name| folder.path().join(name));
        let server = installed.start(self.cpu_server)?;
        let cpu = self.cpu_bench.to_string();
        let mut command = command(Some(self.cpu_bench), &self.downpour);
        command.arg("bench").args(server.arguments()).args(load.arguments(run, WARM_UP, self.duration));
        command.args(["--cpus-readers", &cpu, "--cpus-publisher", &cpu, "--json"]).arg(&json);
        command.stderr(Stdio::from(File::create(&said)?));
        let timeout = TIMEOUT + 2 * self.duration;
        let waited = Process::start(&mut command)?.wait(timeout, &self.is_stopped)?;
        let text = fs::read_to_string(&json).unwrap_or_default();
        let mut report: Report = match serde_json::from_str(&text) {
            Ok(report) => report,
            Err(_) => {
                let said = fs::read_to_string(&said).unwrap_or_default();
                bail!("the bench has no result: {}", said.lines().last().unwrap_or("it said nothing"));
            }
        };
        if waited == Waited::TimedOut {
            report.findings.push(format!("the run was ended as it took longer than {} s", timeout.as_secs()));
        }
        Ok(report)
    }
}

/// The result of a run, for people.
fn line(row: &Row) -> String {
    let figures = [
        (row.deliveries_per_second, &COUNTS[..], "/s"),
        (row.cpu_ns_per_delivery, &TIMES[..], " CPU"),
        (row.latency_p99_ns.map(|ns| ns as f64), &TIMES[..], " p99"),
        (row.rss_bytes_per_stream, &BYTES[..], "/stream"),
    ];
    let figures = figures.into_iter().filter_map(|(figure, units, of)| Some(with_unit(figure?, units) + of));
    let figures: Vec<String> = figures.collect();
    let findings = if row.findings.is_empty() { String::new() } else { format!(" ({})", row.findings) };
    format!("{}: {}{findings}", row.run(), figures.join(", ").replace('\u{a0}', " "))
}

/// Faults of our own server, a line for each run.
pub(crate) fn faults(rows: &[Row]) -> Vec<String> {
    let is_fault =
        |row: &&Row| matches!(row.server, Contender::Epoll | Contender::Uring) && !row.findings.is_empty();
    rows.iter().filter(is_fault).map(|row| format!("{}: {}", row.run(), row.findings)).collect()
}

const RUNS: &str = "runs.csv";
const EARLIER_RUNS: &str = "runs.before.csv";

/// Time of publishing before the measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long a run may take beyond its measured time.
const TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::{row, run};

    #[test]
    fn rows_are_found_again_by_the_same_commit_alone() {
        let folder = TempDir::new().unwrap();
        let mut rows = Rows::begin(folder.path()).unwrap();
        let [first, second] = [1, 2].map(|repeat| row(run(Contender::Epoll, Pace::Saturated, repeat)));
        rows.append(first.clone()).unwrap();
        let mut rows = Rows::resume(folder.path(), "abc").unwrap();
        rows.append(second.clone()).unwrap();
        assert_eq!(Rows::resume(folder.path(), "abc").unwrap().all(), [first.clone(), second]);
        assert_eq!(rows.saturated_events(run(Contender::Epoll, Pace::Half, 1)), Some(4.0));
        assert_eq!(rows.saturated_events(run(Contender::Uring, Pace::Half, 1)), None);
        let error = Rows::resume(folder.path(), "def").unwrap_err().to_string();
        assert!(error.ends_with("has rows of commit abc, and this is def"), "{error}");
    }

    #[test]
    fn beginning_anew_keeps_the_rows_that_were_there() {
        let folder = TempDir::new().unwrap();
        let missing = Rows::read(folder.path()).unwrap_err().to_string();
        assert!(missing.starts_with("cannot open ") && missing.ends_with("runs.csv"), "{missing}");
        let mut rows = Rows::begin(folder.path()).unwrap();
        rows.append(row(run(Contender::Epoll, Pace::Saturated, 1))).unwrap();
        assert!(Rows::begin(folder.path()).unwrap().all().is_empty());
        assert!(!folder.path().join(RUNS).exists());
        assert_eq!(row::read(File::open(folder.path().join(EARLIER_RUNS)).unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn only_findings_about_our_own_server_are_faults() {
        let rows = [Contender::Epoll, Contender::Nchan].map(|contender| row(run(contender, Pace::Half, 1)));
        let expected = "server=epoll streams=1000 size=64 channels=1 variant=plain pace=half: a finding";
        assert_eq!(faults(&rows), [expected]);
    }
}
