//! Runs the whole matrix of load over sockets: servers by streams, sizes, channels and paces (`cell`).
//! Each run is one `downpour bench` (`rate`) against a server of its own (`server`), and makes a row of
//! a CSV (`row`). Medians (`figures`) are drawn (`plot`) and written as Markdown (`summary`).
//!
//! `scripts/bench` builds and runs it; `docs/benchmarks/measuring.md` gives its purpose.

mod campaign;
mod cell;
mod figures;
mod options;
mod plot;
mod rate;
mod result;
mod row;
mod server;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::Parser;
use downpour_load::process::may_run_on;
use signal_hook::consts::{SIGINT, SIGTERM};

use campaign::{Rows, Setup, faults};
use cell::{Contender, Run};
use options::Options;
use server::Installed;

fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let out = options.out();
    if options.draw {
        write_results(&out, &Rows::read(&out)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let downpour = fs::canonicalize(&options.downpour)
        .with_context(|| format!("there is no {}", options.downpour.display()))?;
    let installed = installed(options, &downpour)?;
    let runs = wanted(options, &installed);
    if runs.is_empty() {
        bail!("no run has a name that --only finds; --list says the names");
    }
    if options.list {
        runs.iter().for_each(|run| println!("{run}"));
        return Ok(ExitCode::SUCCESS);
    }
    check_cpus(options)?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_stopped))?;
    }
    let setup = Setup {
        downpour,
        installed,
        commit: commit(),
        duration: options.duration(),
        cpu_server: options.cpu_server,
        cpu_bench: options.cpu_bench,
        is_stopped,
    };
    let mut rows = if options.resume { Rows::resume(&out, &setup.commit)? } else { Rows::begin(&out)? };
    setup.run_all(&runs, &mut rows)?;
    write_results(&out, &rows)?;
    let faults = faults(rows.all());
    faults.iter().for_each(|fault| eprintln!("fault: {fault}"));
    if setup.is_stopped.load(Ordering::Relaxed) {
        bail!("stopped: --resume goes on");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The servers that take part. One that was not named in the options may be missing, unless it is ours.
fn installed(options: &Options, downpour: &Path) -> anyhow::Result<Vec<Installed>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("peers-node");
    let mut installed = Vec::new();
    for contender in Contender::ALL {
        let is_named = options.servers.contains(&contender);
        if !options.servers.is_empty() && !is_named {
            continue;
        }
        match Installed::find(contender, downpour, &peers) {
            Ok(found) => installed.push(found),
            Err(missing) if is_named || !contender.is_peer() => return Err(missing),
            Err(missing) => eprintln!("{} is left out: {missing:#} (--install)", contender.label()),
        }
    }
    Ok(installed)
}

fn wanted(options: &Options, installed: &[Installed]) -> Vec<Run> {
    let contenders: Vec<Contender> = installed.iter().map(|installed| installed.contender).collect();
    let cells = if options.quick { cell::quick_cells() } else { cell::cells() };
    let is_wanted = |run: &Run| options.only.as_ref().is_none_or(|only| only.is_match(&run.to_string()));
    // Repetitions have the same names.
    let repeats = if options.list { 1 } else { options.repeats() };
    cell::runs(&cells, &contenders, repeats, is_wanted)
}

/// With both on one CPU, server and bench would wait for each other, and the wait would be measured.
fn check_cpus(options: &Options) -> anyhow::Result<()> {
    let (server, bench) = (options.cpu_server, options.cpu_bench);
    if server == bench {
        bail!("--cpu-server and --cpu-bench are both {server}: each needs a CPU of its own");
    }
    for (option, cpu) in [("--cpu-server", server), ("--cpu-bench", bench)] {
        if !may_run_on(cpu).context("taskset cannot be run")? {
            bail!("{option} {cpu} is no CPU that a process may run on here");
        }
    }
    Ok(())
}

/// The commit of the sources, marked if they differ from it.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=10", "--exclude", "*"]);
    let output = git.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null()).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|commit| !commit.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// Draws the plots and writes the summary, which it prints too.
fn write_results(out: &Path, rows: &Rows) -> anyhow::Result<()> {
    if rows.all().is_empty() {
        return Ok(());
    }
    let plots = plot::plots(rows.all())?;
    let summary = summary::summary(rows.all(), &plots);
    let plots = plots.iter().map(|drawn| (drawn.file, &drawn.svg));
    let files = plots.chain([("summary.md", &summary)]);
    let mut written: Vec<PathBuf> = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    print!("{summary}");
    eprintln!();
    written.iter().for_each(|path| eprintln!("written: {}", path.display()));
    Ok(())
}
