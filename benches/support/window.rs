//! What a stretch of work costs a server, and which pairs of them may be compared.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::servers::number;

/// Wall time that is more than so many percent of the CPU time tells of a server that waited: for readers, or for a CPU that
/// others had. `DOWNPOUR_BENCH_WALL_PERCENT_MAX` says another bound.
const WALL_PERCENT_MAX: usize = 150;

/// Times that servers are started to be compared: where a process has its memory is worth more of a ratio than differs
/// between rounds, and stays as it is for as long as the process lives.
pub(crate) const STARTS: usize = 5;

/// A stretch of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Packets that the kernel dropped on loopback meanwhile, to be sent again.
    pub(crate) dropped: u64,
    /// What was done: deliveries, connections, events.
    pub(crate) count: usize,
}

impl Window {
    /// Has `work` done, which returns how much that was.
    pub(crate) fn of(process: &Process, work: impl FnOnce() -> usize) -> Window {
        let (cpu, dropped, wall) = (process.cpu_time(), dropped_packets(), Instant::now());
        let count = work();
        let wall = wall.elapsed();
        let (cpu, dropped) = (process.cpu_time() - cpu, dropped_packets() - dropped);
        Window { cpu, wall, dropped, count }
    }

    /// CPU time for each thing done, in ns.
    pub(crate) fn cpu_ns(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.count as f64
    }

    /// Wall time for each thing done, in ns.
    pub(crate) fn wall_ns(&self) -> f64 {
        self.wall.as_secs_f64() * 1e9 / self.count as f64
    }

    /// Returns true if and only if something else than the server's own work shows in this window.
    pub(crate) fn is_disturbed(&self) -> bool {
        let percent_max = number("DOWNPOUR_BENCH_WALL_PERCENT_MAX", WALL_PERCENT_MAX);
        self.dropped > 0 || self.wall.as_secs_f64() * 100.0 > percent_max as f64 * self.cpu.as_secs_f64()
    }
}

/// Ratios of the CPU time of one server to that of another in the same rounds.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    pub(crate) ratios: Vec<f64>,
    /// Pairs that were thrown away, one of the two being disturbed.
    pub(crate) thrown: usize,
}

impl Pairs {
    pub(crate) fn of(windows: &[Window], limits: &[Window]) -> Pairs {
        let pairs = windows.iter().zip(limits);
        let sound = pairs.filter(|(window, limit)| !window.is_disturbed() && !limit.is_disturbed());
        let ratios: Vec<f64> = sound.map(|(window, limit)| window.cpu_ns() / limit.cpu_ns()).collect();
        let thrown = windows.len().min(limits.len()) - ratios.len();
        Pairs { ratios, thrown }
    }
}

/// How many things fill a window, as a few of them took so long.
pub(crate) fn fitting(window: Duration, few: usize, took: Duration) -> usize {
    let fitting = window.as_nanos() * few as u128 / took.as_nanos().max(1);
    usize::try_from(fitting).unwrap_or(usize::MAX).max(1)
}

/// Packets that were dropped so far as the backlog of a CPU was full.
fn dropped_packets() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let second = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    text.lines().filter_map(second).sum()
}
