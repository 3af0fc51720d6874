//! Runs a server under a steady, mixed load for a long time (`publishers`, `readers`, `errands`).
//! Samples its memory and gauges (`sample`), and reports what grew and which streams got wrong events
//! (`verdict`, `tracker`).
//!
//! `scripts/soak` builds and runs it; `docs/testing.md` describes the load.

mod chunks;
mod errands;
mod mark;
mod names;
mod options;
mod publishers;
mod readers;
mod sample;
mod shared;
mod stream;
mod ticks;
mod tracker;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use downpour_load::http::Connection;
use downpour_load::metrics::Metrics;
use downpour_load::process::{PATIENCE, command};
use downpour_load::progress;
use downpour_load::server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};

use options::Options;
use sample::{Csv, Sample, Usage};
use shared::{Count, Shared};
use verdict::Comparison;

fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_stopped))?;
    }
    let mut server = Server::start(command(None, &options.downpour).args(options.server()))?;
    let shared = Shared::new(progress::bar(options.duration().as_secs()).with_message(" s"));
    let measured = thread::scope(|scope| {
        let measured = measure(options, &server, &shared, &is_stopped, scope);
        shared.end();
        measured
    });
    let samples = measured?;
    match server.process.end(PATIENCE) {
        Some(status) if status.success() => {}
        Some(status) => shared.fault(format!("the server ended with {status}")),
        None => bail!("the server has not ended {} s after SIGTERM", PATIENCE.as_secs()),
    }
    let has_failed = report(options, &samples, &shared);
    if is_stopped.load(Ordering::Relaxed) {
        bail!("stopped after {:.0} s", samples.last().map_or(0.0, |sample| sample.at.as_secs_f64()));
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Fills the server, then samples it under the whole load.
fn measure<'scope>(
    options: &'scope Options,
    server: &'scope Server,
    shared: &'scope Shared,
    is_stopped: &AtomicBool,
    scope: &'scope thread::Scope<'scope, '_>,
) -> anyhow::Result<Vec<Sample>> {
    let (address, seed) = (server.address, options.seed);
    let is_over = || shared.is_over() || is_stopped.load(Ordering::Relaxed);
    let mut connection = Connection::open(address)?;
    scope.spawn(move || readers::run(shared, address, seed + 1));
    // The lasting channels are subscribed to before there are too many channels.
    let all = names::kept().len() as f64;
    wait_until(&mut connection, &is_over, |metrics| metrics.gauge("downpour_channels") >= all)?;
    scope.spawn(move || publishers::run(shared, address, seed));
    wait_until(&mut connection, &is_over, |metrics| is_full(metrics, options))?;
    shared.is_full.store(true, Ordering::Relaxed);
    scope.spawn(move || errands::run(shared, address, seed + 2));

    let mut csv = Csv::create(&options.out())?;
    let (began, mut samples) = (Instant::now(), Vec::new());
    shared.bar.reset();
    let mut next = began;
    let is_done = || shared.never_done().is_empty() || !options.quick || began.elapsed() > QUICK_MOST;
    while (began.elapsed() < options.duration() || !is_done()) && !is_over() {
        thread::sleep(next.saturating_duration_since(Instant::now()).min(LOOK));
        if Instant::now() < next {
            continue;
        }
        next += options.sample_interval();
        let sample = Sample::new(began.elapsed(), Usage::of(server.id())?, ask(&mut connection)?);
        csv.write(&sample, shared)?;
        shared.bar.set_position(sample.at.as_secs());
        samples.push(sample);
    }
    shared.bar.finish_and_clear();
    Ok(samples)
}

/// Polls the metrics until they are as wanted, or the run is over.
fn wait_until(
    connection: &mut Connection,
    is_over: &impl Fn() -> bool,
    is_wanted: impl Fn(&Metrics) -> bool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_over() && !is_wanted(&ask(connection)?) {
        ensure!(began.elapsed() < FILL_TIME, "the server is not full after {} s", FILL_TIME.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn ask(connection: &mut Connection) -> anyhow::Result<Metrics> {
    let answer = connection.ask("GET", "/metrics").context("the server does not say its metrics")?;
    Ok(Metrics::read(&answer.body))
}

/// Returns true if and only if both are nearly at their bounds, so that from here on old entries go as
/// new ones come.
fn is_full(metrics: &Metrics, options: &Options) -> bool {
    metrics.gauge("downpour_history_bytes") >= options.history_bytes() * 0.9
        && metrics.gauge("downpour_idempotency_keys") >= f64::from(options.keys())
}

/// Prints the table and what was done. Returns true if and only if something is wrong.
fn report(options: &Options, samples: &[Sample], shared: &Shared) -> bool {
    let comparison = Comparison::of(samples);
    println!("{}", comparison.render());
    let counts = Count::ALL.map(|count| format!("{} {}", count.column(), shared.counted(count)));
    println!("\n{}", counts.join(", "));
    if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
        let cpu = (last.usage.cpu_time - first.usage.cpu_time).as_secs_f64();
        let seconds = (last.at - first.at).as_secs_f64().max(f64::MIN_POSITIVE);
        println!("{seconds:.0} s with {} samples, {:.2} CPUs of the server", samples.len(), cpu / seconds);
    }
    let restarts = samples.last().and_then(|sample| sample.counters.get("downpour_shard_restarts_total"));
    if restarts.is_none_or(|&restarts| restarts > 0.0) {
        shared.fault("an event loop began anew after a panic, or nobody counts them".to_owned());
    }
    let never = shared.never_done();
    if !never.is_empty() {
        shared.fault(format!("the load never came to {}", never.join(", ")));
    }
    let grown: Vec<&str> =
        comparison.lines.iter().filter(|line| line.has_grown).map(|line| line.name.as_str()).collect();
    let is_judged = !options.quick;
    if is_judged && !grown.is_empty() {
        eprintln!("grown by more than 5 %: {}", grown.join(", "));
    }
    println!("{} faults; samples in {}", shared.faults(), options.out().display());
    shared.faults() > 0 || (is_judged && !grown.is_empty())
}

/// Far more than it takes.
const FILL_TIME: Duration = Duration::from_secs(600);

/// How long a quick run waits for parts of the load that are late on a busy machine.
const QUICK_MOST: Duration = Duration::from_secs(120);

/// How soon a signal is noticed.
const LOOK: Duration = Duration::from_millis(200);
