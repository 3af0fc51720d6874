//! `downpour bench`: puts load on any server of event streams, and measures it.
//!
//! A few threads open and read the streams (`reader`). The thread that conducts the run publishes the
//! events (`conduct`, `publisher`). Worker processes may read a share of the streams (`crew`). Every
//! event has a number and its send time (`mark`), so each stream is checked against the events of its
//! channel (`sequence`), and every delivery has a latency. One part of the run is measured, between
//! snapshots of the server's processes (`process`); the rest prepares it.

mod answer;
mod board;
mod conduct;
mod connect;
mod connection;
mod course;
mod crew;
mod endpoints;
mod found;
mod latency;
mod link;
mod looks;
mod mark;
mod options;
mod parameters;
mod plan;
mod process;
mod progress;
mod publisher;
mod reader;
mod readers;
mod report;
mod scan;
mod sequence;
mod slow;
mod spread;
mod stream;
mod table;
mod template;
mod verdict;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub use self::options::BenchOptions;

use self::conduct::conduct;
use self::parameters::Parameters;
use self::plan::Plan;
use self::process::Usage;
use self::report::Report;
use crate::driver::affinity::allowed_cpus;
use crate::driver::descriptors::raise_open_files_limit;

/// Runs the load, writes the result to `out` and to the file of the options, and its progress to
/// `notices`.
///
/// # Errors
/// [`BenchError`], also if the run ended but found the server, or itself, at fault. Then the result was
/// written before.
pub fn run(options: &BenchOptions, out: &mut impl Write, notices: &mut impl Write) -> Result<(), BenchError> {
    let seed = getrandom::u64().map_err(|error| BenchError::Setup(io::Error::other(error)))?;
    let plan = Plan::new(options, seed).map_err(BenchError::Usage)?;
    check_cpus(&plan)?;
    check_descriptors(&plan)?;
    Usage::of(&plan.pids).map_err(|source| BenchError::NoProcess { pids: plan.pids.clone(), source })?;
    let json = &options.json;
    let json_file = match json {
        Some(path) if path != Path::new("-") => Some((path, create(path)?)),
        _ => None,
    };
    let parameters = Parameters::of(options, &plan);
    let report = conduct(plan, parameters, notices)?;
    match json_file {
        Some((path, mut file)) => {
            let written = write_json(&report, &mut file);
            written.map_err(|source| BenchError::File { path: path.clone(), source })?;
            table::write(&report, out).map_err(BenchError::Output)?;
        }
        None if json.is_some() => write_json(&report, out).map_err(BenchError::Output)?,
        None => table::write(&report, out).map_err(BenchError::Output)?,
    }
    if report.findings.is_empty() { Ok(()) } else { Err(BenchError::Found(report.findings.join("; "))) }
}

/// Reads a share of the streams of a run that another process conducts. Orders come from `input`,
/// findings go to `out`. Ends with `input`.
///
/// # Errors
/// [`BenchError`] if it cannot.
pub fn work(input: impl Read + Send + 'static, out: &mut impl Write) -> Result<(), BenchError> {
    crew::work(input, out)
}

fn check_cpus(plan: &Plan) -> Result<(), BenchError> {
    let options =
        [("--cpus-readers", &plan.reader_cpus[..]), ("--cpus-publisher", plan.publisher_cpu.as_slice())];
    if options.iter().all(|(_, cpus)| cpus.is_empty()) {
        return Ok(());
    }
    let allowed = allowed_cpus().map_err(BenchError::Setup)?;
    for (option, cpus) in options {
        if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            let problem =
                format!("{option} {cpu} is no CPU that this process may run on, which are {allowed:?}");
            return Err(BenchError::Usage(problem));
        }
    }
    Ok(())
}

fn check_descriptors(plan: &Plan) -> Result<(), BenchError> {
    let limit = raise_open_files_limit().map_err(BenchError::Setup)?;
    let needed = plan.descriptors();
    if needed <= limit {
        return Ok(());
    }
    let each =
        if plan.processes == 1 { "".to_owned() } else { format!(" in each of {} processes", plan.processes) };
    let more = match plan.processes_within(limit) {
        Some(processes) => format!(", lower --subscribers, or take --processes {processes}"),
        None => " or lower --subscribers".to_owned(),
    };
    Err(BenchError::TooFewDescriptors { needed, each, limit, more })
}

fn create(path: &Path) -> Result<File, BenchError> {
    File::create(path).map_err(|source| BenchError::File { path: path.to_owned(), source })
}

fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}

/// Why the load was not as asked, or what was found wrong.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Options conflict.
    #[error("{0}")]
    Usage(String),
    /// The load needs more open files than the process may have.
    #[error(
        "this load needs {needed} open files{each}, and the limit is {limit}: raise it (ulimit -n {needed}){more}"
    )]
    TooFewDescriptors {
        /// Open files that one process needs.
        needed: usize,
        /// The number of processes, as text; empty for one.
        each: String,
        /// The hard limit.
        limit: usize,
        /// The alternative, as text.
        more: String,
    },
    /// A further process cannot be started.
    #[error("cannot start a further process (--processes)")]
    NoWorker(#[source] io::Error),
    /// A worker process ended before it began, and why.
    #[error("{0}")]
    Worker(String),
    /// The processes disagree on the time, from which latencies are computed.
    #[error("the machine's clock was set while the processes were started (--processes): try again")]
    Clocks,
    /// In a worker: standard input has no orders of the first process.
    #[error(
        "a worker of `downpour bench --processes N` got no orders that it understands: it is started by that command"
    )]
    Orders(#[source] io::Error),
    /// A process cannot be measured.
    #[error("cannot measure the processes {pids:?} (--pid)")]
    NoProcess {
        /// All that were named.
        pids: Vec<u32>,
        /// The cause.
        source: io::Error,
    },
    /// The host of a URL has no address.
    #[error("cannot find the address of {url}")]
    NoAddress {
        /// The template.
        url: String,
        /// The cause.
        source: io::Error,
    },
    /// The process lacks a resource that the load needs.
    #[error("cannot set up the load")]
    Setup(#[source] io::Error),
    /// The result file could not be written.
    #[error("cannot write the result to {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The load did not run as asked, or events were lost without a `gap`, doubled or reordered.
    #[error("{0}")]
    Found(String),
}

impl BenchError {
    /// Returns true if and only if the options are at fault.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        matches!(self, BenchError::Usage(_))
    }
}
