//! The cost of a stretch of work to a server, and which pairs of stretches may be compared.

use std::time::{Duration, Instant};

use crate::kernel::dropped_packets;
use crate::measuring::number;
use crate::server::Server;

/// Wall time above this percentage of the CPU time means that the server waited: for readers, or for a
/// CPU used by others. `DOWNPOUR_BENCH_WALL_PERCENT_MAX` sets another bound.
const WALL_PERCENT_MAX: usize = 150;

/// How often servers are started for a comparison. The addresses of a process's memory change a ratio
/// more than rounds differ, and stay the same for the life of the process.
pub const STARTS: usize = 5;

/// A stretch of work.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// CPU time of the server.
    pub cpu: Duration,
    /// Time that passed.
    pub wall: Duration,
    /// Packets that the kernel dropped on loopback meanwhile, and that were sent again.
    pub dropped: u64,
    /// Units of work: deliveries, connections, or events.
    pub count: usize,
    /// The server waits for its publisher after each unit, so its wall time says nothing.
    pub has_pauses: bool,
}

impl Window {
    /// Measures `work`, which returns its units.
    pub fn of(server: &Server, work: impl FnOnce() -> usize) -> Window {
        let (cpu, dropped, wall) = (server.cpu_time(), dropped_packets(), Instant::now());
        let count = work();
        let wall = wall.elapsed();
        let (cpu, dropped) = (server.cpu_time() - cpu, dropped_packets() - dropped);
        Window { cpu, wall, dropped, count, has_pauses: false }
    }

    /// CPU time for each unit, in ns.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.count as f64
    }

    /// Wall time for each unit, in ns.
    pub fn wall_ns(&self) -> f64 {
        self.wall.as_secs_f64() * 1e9 / self.count as f64
    }

    /// Returns true if and only if more than the server's own work shows in this window.
    pub fn is_disturbed(&self) -> bool {
        let percent_max = number("DOWNPOUR_BENCH_WALL_PERCENT_MAX", WALL_PERCENT_MAX);
        let has_waited = self.wall.as_secs_f64() * 100.0 > percent_max as f64 * self.cpu.as_secs_f64();
        self.dropped > 0 || (has_waited && !self.has_pauses)
    }
}

/// Ratios of the CPU time of one server to that of another in the same rounds.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// One for each pair that was not discarded.
    pub ratios: Vec<f64>,
    /// Pairs that were discarded because one of the two was disturbed.
    pub thrown: usize,
}

impl Pairs {
    /// Those of the windows of one server to the windows of the other, round by round.
    pub fn of(windows: &[Window], limits: &[Window]) -> Pairs {
        let pairs = windows.iter().zip(limits);
        let sound = pairs.filter(|(window, limit)| !window.is_disturbed() && !limit.is_disturbed());
        let ratios: Vec<f64> = sound.map(|(window, limit)| window.cpu_ns() / limit.cpu_ns()).collect();
        let thrown = windows.len().min(limits.len()) - ratios.len();
        Pairs { ratios, thrown }
    }
}

/// The units that fill a window, given that `few` of them took this long.
pub fn fitting(window: Duration, few: usize, took: Duration) -> usize {
    let fitting = window.as_nanos() * few as u128 / took.as_nanos().max(1);
    usize::try_from(fitting).unwrap_or(usize::MAX).max(1)
}
