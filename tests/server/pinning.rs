//! The processors that the event loops of a server run on, with `--pin-shards` and without.

use std::thread;
use std::time::Instant;

use crate::common::{DriverKind, PATIENCE, Server, for_each_driver, process};

for_each_driver!(shards_stay_where_they_are_pinned);

/// Processors, as first and last of each range (`proc_pid_status(5)`).
type Ranges = Vec<(u32, u32)>;

/// The processors that each thread may run on, with the thread's name.
fn cpus_of_threads(pid: u32) -> Vec<(String, Ranges)> {
    let threads = process(pid).unwrap().tasks().unwrap().flatten().filter_map(|task| {
        let status = task.status().ok()?;
        Some((status.name, status.cpus_allowed_list?))
    });
    let mut threads: Vec<_> = threads.filter(|(name, _)| name.starts_with("shard-")).collect();
    threads.sort();
    threads
}

/// Waits until the threads of three shards run where they `should`.
fn wait_for_threads(server: &Server, should: impl Fn(&Ranges, usize) -> bool) {
    let begin = Instant::now();
    loop {
        let threads = cpus_of_threads(server.pid());
        let is_there = |(index, (_, list)): (usize, &(String, Ranges))| should(list, index);
        if threads.len() == 3 && threads.iter().enumerate().all(is_there) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{threads:?}");
        thread::yield_now();
    }
}

fn cpus(ranges: &Ranges) -> Vec<u32> {
    ranges.iter().flat_map(|&(first, last)| first..=last).collect()
}

fn shards_stay_where_they_are_pinned(io: DriverKind) {
    let ours = process(std::process::id()).unwrap().status().unwrap().cpus_allowed_list.unwrap();
    let server = Server::start(io, &["--shards", "3"]);
    wait_for_threads(&server, |ranges, _| *ranges == ours);

    let server = Server::start(io, &["--shards", "3", "--pin-shards"]);
    let in_turn: Vec<u32> = cpus(&ours).into_iter().cycle().take(3).collect();
    wait_for_threads(&server, |ranges, shard| cpus(ranges) == [in_turn[shard]]);
}
