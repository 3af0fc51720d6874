//! A load of several processes: one result, as of one process. No process outlives the first.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::trickster::{Trick, Trickster};
use super::{assert_all_delivered, bench_ours, result, signal};
use crate::common::{DriverKind, Server, process, wait_for};

#[test]
fn processes_share_the_streams_and_tell_one_result() {
    let load = ["--subscribers", "21", "--events", "200", "--threads", "2"];
    let one = bench_ours(&load);
    for processes in ["2", "3"] {
        let json = bench_ours(&[&load[..], &["--processes", processes]].concat());
        assert_all_delivered(&json, 200, 21);
        assert_eq!(json["run"]["latency"]["samples"], 4200, "every delivery has its latency");
        assert_eq!(
            (&json["connect"]["streams"], &json["connect"]["latency"]["samples"]),
            (&21.into(), &21.into())
        );
        assert_eq!(json["parameters"]["processes"].to_string(), processes);
        let readers = json["run"]["readers"].as_array().unwrap();
        assert_eq!(readers.len(), 2 * processes.parse::<usize>().unwrap(), "each thread of each process");
        let latency = &json["run"]["latency"];
        assert!(latency["p50Ns"].as_u64().unwrap() > 0, "their clocks agree: {latency}");
        assert!(latency["maxNs"].as_u64().unwrap() < 60_000_000_000, "their clocks agree: {latency}");
        assert_eq!(structure(&json), structure(&one));
    }
}

/// The paths of all fields of a result. Lists are left out: their length is, for example, the number of
/// threads.
fn structure(json: &Value) -> Vec<String> {
    fn walk(json: &Value, path: &str, paths: &mut Vec<String>) {
        paths.push(path.to_owned());
        for (name, part) in json.as_object().into_iter().flatten() {
            walk(part, &format!("{path}.{name}"), paths);
        }
    }
    let mut paths = Vec::new();
    walk(json, "", &mut paths);
    paths
}

#[test]
fn processes_share_every_kind_of_load() {
    let channels = ["--subscribers", "31", "--channels", "4", "--processes", "3", "--events", "120"];
    let json = bench_ours(&channels);
    // The channels have 8, 8, 8 and 7 streams.
    assert_eq!(
        (&json["run"]["deliveries"], &json["losses"]["fast"]["misdelivered"]),
        (&930.into(), &0.into())
    );
    let load = ["--subscribers", "10", "--processes", "2"];
    let unbatched = bench_ours(&[&load[..], &["--unbatched", "--channels", "3", "--events", "99"]].concat());
    assert_eq!(unbatched["run"]["deliveries"], 33 * 10);
    let window = ["--rate", "0", "--window", "64", "--batch", "16", "--events", "960"];
    let json = bench_ours(&[&load[..], &window].concat());
    assert_all_delivered(&json, 960, 10);
    let slow = ["--slow", "20%", "--slow-rate", "100", "--size", "1000", "--events", "200"];
    let run = &bench_ours(&[&load[..], &slow].concat())["run"];
    assert_eq!(run["deliveries"].as_u64().unwrap() + run["lateDeliveries"].as_u64().unwrap(), 2000);
    assert_eq!(run["latency"]["samples"], 1600);
}

#[test]
fn an_event_that_only_a_further_process_misses_is_reported() {
    let child = Trickster::start(Trick::LoseOfAnother).bench(&["--processes", "2", "--events", "100"]);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &2.into()), "{told}");
    assert!(told.contains("2 lost untold"), "{told}");
    assert_eq!(json["run"]["deliveries"], 398);
}

#[test]
fn with_processes_an_unbatched_event_that_is_lost_stalls_the_run_which_ends_by_itself() {
    let arguments = ["--processes", "2", "--unbatched", "--events", "100", "--stall", "300ms"];
    let child = Trickster::start(Trick::LoseOfAnother).bench(&arguments);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &2.into()), "{told}");
    assert!(told.contains("nothing moved for 300ms (--stall): a stream did not get its event"), "{told}");
}

/// The children of `parent`, once there are `count`.
fn children(parent: u32, count: usize) -> Vec<u32> {
    wait_for("processes", || {
        let stats = procfs::process::all_processes().unwrap().filter_map(|process| process.ok()?.stat().ok());
        let children = stats.filter(|stat| u32::try_from(stat.ppid) == Ok(parent));
        let pids: Vec<u32> = children.map(|stat| stat.pid.try_into().unwrap()).collect();
        (pids.len() == count).then_some(pids)
    })
}

fn is_running(pid: u32) -> bool {
    process(pid).is_ok_and(|process| process.is_alive())
}

#[test]
fn a_further_process_that_is_killed_ends_the_run_with_what_became_of_it() {
    for load in [
        &["--duration", "1h"][..],
        &["--duration", "1h", "--unbatched"],
        &["--duration", "1h", "--rate", "0"],
    ] {
        let server = Trickster::start(Trick::None);
        let child = server.bench(&[&["--processes", "3"], load].concat());
        let pids = children(child.id(), 2);
        server.await_events();
        signal("KILL", pids[0].into());
        let (code, json, told) = result(child.wait_with_output().unwrap());
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(" of 3 ended before its time (signal: 9 (SIGKILL))"), "{told}");
        assert_eq!(json["findings"].as_array().unwrap().len(), 1, "{json:#}");
        wait_for("the other one's end", || (!pids.iter().any(|&pid| is_running(pid))).then_some(()));
    }
}

#[test]
fn further_processes_end_with_the_first_one() {
    let server = Trickster::start(Trick::None);
    let mut child = server.bench(&["--processes", "3", "--duration", "1h"]);
    let pids = children(child.id(), 2);
    server.await_events();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("their end", || (!pids.iter().any(|&pid| is_running(pid))).then_some(()));
}

#[test]
fn a_signal_ends_all_processes_with_the_figures_so_far() {
    let server = Trickster::start(Trick::None);
    let child = server.bench(&["--processes", "2", "--duration", "1h"]);
    let pids = children(child.id(), 1);
    server.interrupt(child);
    assert!(!is_running(pids[0]));
}

#[test]
fn a_worker_that_nobody_gives_orders_to_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    let output = command.arg("bench-worker").env_clear().stdin(Stdio::null()).output().unwrap();
    let (code, _, told) = result(output);
    assert_eq!(code, Some(1));
    assert!(told.contains("a worker of `downpour bench --processes N` got no orders"), "{told}");
}

#[test]
fn with_processes_there_are_more_streams_than_one_may_have() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let mut command = Command::new("/bin/sh");
    let load = "--subscribers 120 --events 20 --warm-up 0 --processes 3 --json -";
    let run = format!("ulimit -n 100 && exec \"$0\" bench --url http://{} {load}", server.address());
    let command = command.args(["-c", &run]).arg(env!("CARGO_BIN_EXE_downpour")).env_clear();
    let (code, json, told) = result(command.output().unwrap());
    assert_eq!(code, Some(0), "{told}");
    assert_all_delivered(&json, 20, 120);
}
