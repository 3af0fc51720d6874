//! The budgets of `docs/benchmarks/benches.md` that need sockets. Each is measured with both drivers,
//! with the verdict whether it is met. A word after `--` selects the rows whose names contain it.
//!
//! Each row is printed when it is known, and all of them at the end, as the table of that document.

mod alone;
mod bench_command;
mod channels;
mod connect;
mod contest;
mod delivery;
mod holder;
mod http10;
mod memory;
mod own_channels;
mod publish;
mod report;
mod slow;
mod steady;

use std::path::Path;
use std::time::{Duration, Instant};

use downpour::driver::descriptors::raise_open_files_limit;
use downpour::driver::uring;
use downpour_load::measuring::{is_asked_to_measure, number};
use downpour_load::process::Pinning;
use downpour_load::servers::Servers;

use report::Report;

/// The settings of every row.
#[derive(Debug)]
struct Bench {
    servers: Servers,
    /// Sound windows, or pairs of windows, for a row.
    rounds: usize,
    /// Approximate length of a window.
    window: Duration,
    drivers: Vec<Driver>,
}

/// A driver of this server, and the bare server that sends as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Driver {
    io: &'static str,
    name: &'static str,
    bare: &'static str,
    bare_name: &'static str,
}

const EPOLL: Driver = Driver { io: "epoll", name: "epoll", bare: "send", bare_name: "bare send()" };
const URING: Driver = Driver { io: "uring", name: "io_uring", bare: "ring", bare_name: "bare io_uring" };

/// A group of rows, by the word that selects it.
type Rows = (&'static str, fn(&Bench, &mut Report));

const ROWS: [Rows; 11] = [
    ("delivery", delivery::unbatched),
    ("saturated", delivery::saturated),
    ("memory", memory::measure),
    ("connect", connect::measure),
    ("publish", publish::measure),
    ("slow", slow::measure),
    ("channels", channels::measure),
    ("http1.0", http10::measure),
    ("alone", alone::measure),
    ("own-channels", own_channels::measure),
    ("steady", steady::measure),
];

const DOWNPOUR: &str = env!("CARGO_BIN_EXE_downpour");

/// The CPUs of readers and servers.
const CPUS: (usize, usize) = (0, 1);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    raise_open_files_limit().expect("the limit on open files can be raised to what is allowed");
    if let Some((holder::WORD, rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return holder::hold(rest);
    }
    if !is_asked_to_measure("budgets") {
        return;
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let is_selected = |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(*word));
    if !ROWS.iter().any(|(name, _)| is_selected(name)) {
        let names = ROWS.map(|(name, _)| name).join(", ");
        return println!("no rows of budgets are named so: there are {names}");
    }
    let pinning = Pinning::of(CPUS.0, CPUS.1);
    let mut drivers = vec![EPOLL];
    match uring::prove() {
        Ok(_) => drivers.push(URING),
        Err(error) => println!("without io_uring: {error}"),
    }
    let bench = Bench {
        servers: Servers::build(Path::new(DOWNPOUR), pinning),
        rounds: number("DOWNPOUR_BENCH_ROUNDS", 15),
        window: Duration::from_millis(number("DOWNPOUR_BENCH_WINDOW_MS", 200) as u64),
        drivers,
    };
    let (began, mut report) = (Instant::now(), Report::new());
    for (_, measure) in ROWS.iter().filter(|(name, _)| is_selected(name)) {
        measure(&bench, &mut report);
    }
    report.print_table();
    println!("\nmeasured for {:.0} s", began.elapsed().as_secs_f64());
}
