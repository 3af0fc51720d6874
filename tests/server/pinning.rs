//! The processors that the event loops of a server run on, with `--pin-shards` and without.

use std::fs;
use std::thread;
use std::time::Instant;

use crate::common::{DriverKind, PATIENCE, Server, for_each_driver};

for_each_driver!(shards_stay_where_they_are_pinned);

/// The processors that each thread may run on, as the kernel lists them (`proc_pid_status(5)`), with the
/// thread's name.
fn cpus_of_threads(process: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads = tasks.filter_map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line: &str| line.strip_prefix(name).map(str::trim));
        Some((field("Name:")?.to_owned(), field("Cpus_allowed_list:")?.to_owned()))
    });
    let mut threads: Vec<_> = threads.filter(|(name, _)| name.starts_with("shard-")).collect();
    threads.sort();
    threads
}

/// Waits until the threads of three shards run where they `should`.
fn wait_for_threads(server: &Server, should: impl Fn(&str, usize) -> bool) {
    let begin = Instant::now();
    loop {
        let threads = cpus_of_threads(&server.pid().to_string());
        let is_there = |(index, (_, list)): (usize, &(String, String))| should(list, index);
        if threads.len() == 3 && threads.iter().enumerate().all(is_there) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{threads:?}");
        thread::yield_now();
    }
}

/// The processors of a list such as `0-3,8`.
fn cpus(list: &str) -> Vec<usize> {
    let ranges = list.split(',').map(|range| match range.split_once('-') {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None => range.parse().unwrap()..=range.parse().unwrap(),
    });
    ranges.flatten().collect()
}

fn shards_stay_where_they_are_pinned(io: DriverKind) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let server = Server::start(io, &["--shards", "3"]);
    wait_for_threads(&server, |list, _| list == ours);

    let server = Server::start(io, &["--shards", "3", "--pin-shards"]);
    let in_turn: Vec<usize> = cpus(ours).into_iter().cycle().take(3).collect();
    wait_for_threads(&server, |list, shard| cpus(list) == [in_turn[shard]]);
}
