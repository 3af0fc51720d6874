//! Loads of every kind on a server of ours. Nothing may go wrong.

use std::process::Command;

use serde_json::Value;

use super::{assert_all_delivered, bench_ours};
use crate::common::{DriverKind, Server};

#[test]
fn every_event_at_a_rate_is_delivered_and_the_result_is_complete() {
    let json = bench_ours(&["--subscribers", "20", "--events", "200", "--threads", "2"]);
    assert_all_delivered(&json, 200, 20);
    assert_eq!(json["run"]["latency"]["samples"], 4000, "every delivery has its latency");
    assert_eq!(json["run"]["requests"], 200);
    assert_eq!(json["connect"]["streams"], 20);
    assert_eq!(json["connect"]["latency"]["samples"], 20);
    assert_eq!(json["run"]["readers"].as_array().unwrap().len(), 2);
    assert_eq!(json["parameters"]["subscribers"], 20);
    assert_eq!(json["parameters"]["mode"], "rate");
    for (part, fields) in [
        ("machine", &["kernel", "cpu", "cpus"][..]),
        ("server", &["cpuNsPerDelivery", "voluntarySwitches", "memoryBefore", "memoryRamped", "memoryEnd"]),
        ("kernel", &["tcpBytesBefore", "tcpBytesRamped", "tcpBytesEnd", "droppedPackets"]),
        ("run", &["seconds", "eventsPerSecond", "deliveriesPerSecond", "publishLatency", "publishLateness"]),
    ] {
        fields.iter().for_each(|field| assert!(!json[part][field].is_null(), "{part}.{field}: {json:#}"));
    }
    assert!(json["server"]["cpuNsPerDelivery"].as_f64().unwrap() > 0.0);
    assert!(!json["version"].is_null() && !json["date"].is_null());
}

#[test]
fn events_of_many_channels_go_to_their_own_streams() {
    let load = ["--subscribers", "30", "--channels", "3", "--events", "90"];
    let json = bench_ours(&[&load[..], &["--sources", "2", "--publishers", "2"]].concat());
    assert_eq!(json["run"]["deliveries"], 900, "{json:#}");
    assert_eq!(json["losses"]["fast"]["misdelivered"], 0);
}

#[test]
fn batches_go_as_fast_as_the_window_lets_them() {
    for format in ["ndjson", "array"] {
        let load =
            ["--subscribers", "10", "--channels", "2", "--rate", "0", "--window", "64", "--batch", "16"];
        let json = bench_ours(&[&load[..], &["--events", "1000", "--batch-format", format]].concat());
        assert_eq!(json["run"]["deliveries"], 5000, "{format}: {json:#}");
        assert_eq!(json["parameters"]["latencySample"], 64);
        assert!(json["run"]["latency"]["samples"].as_u64().unwrap() < 1000);
    }
}

#[test]
fn unbatched_events_wait_for_every_stream() {
    let json = bench_ours(&["--subscribers", "10", "--unbatched", "--events", "100"]);
    assert_all_delivered(&json, 100, 10);
    assert_eq!(json["parameters"]["mode"], "unbatched");
}

#[test]
fn readers_and_publisher_run_on_the_cpus_they_are_given() {
    let cpu = downpour::driver::affinity::allowed_cpus().unwrap()[0].to_string();
    let load = ["--subscribers", "4", "--threads", "2", "--events", "50", "--cpus-publisher", &cpu];
    let json = bench_ours(&[&load[..], &["--cpus-readers", &cpu]].concat());
    assert_all_delivered(&json, 50, 4);
    assert_eq!(json["parameters"]["cpusReaders"][0].to_string(), cpu);
}

#[test]
fn streams_without_chunked_coding_are_read_too() {
    let json = bench_ours(&["--subscribers", "10", "--http1.0", "--events", "100", "--size", "2000"]);
    assert_all_delivered(&json, 100, 10);
    assert!(json["run"]["receivedBytesPerDelivery"].as_f64().unwrap() > 2000.0);
}

#[test]
fn slow_streams_are_counted_apart_and_read_the_rest_in_the_end() {
    let load = ["--subscribers", "10", "--slow", "20%", "--slow-rate", "100", "--events", "200"];
    let json = bench_ours(&[&load[..], &["--size", "1000"]].concat());
    let run = &json["run"];
    let (deliveries, late) = (run["deliveries"].as_u64().unwrap(), run["lateDeliveries"].as_u64().unwrap());
    assert!(deliveries >= 1600 && late > 0, "{json:#}");
    assert_eq!(deliveries + late, 2000);
    assert_eq!((&json["losses"]["slow"]["lostUntold"], &json["losses"]["unread"]), (&0.into(), &0.into()));
    assert_eq!(run["latency"]["samples"], 1600);
}

#[test]
fn publishing_alone_is_measured_without_streams() {
    let json = bench_ours(&["--subscribers", "0", "--rate", "0", "--pipeline", "8", "--events", "500"]);
    assert_eq!((&json["run"]["events"], &json["run"]["deliveries"]), (&500.into(), &0.into()));
    assert!(json["server"]["cpuNsPerEvent"].as_f64().unwrap() > 0.0);
    assert_eq!(json["run"]["publishLatency"]["samples"], 500);
}

#[test]
fn a_ramp_may_take_longer_than_the_server_keeps_a_connection_that_asks_for_nothing() {
    // The publisher's connection is idle while streams are opened, and between rare events.
    let patience = ["--idle-timeout", "500ms", "--head-timeout", "2s"];
    let server = Server::start(DriverKind::Epoll, &patience);
    let url = format!("http://{}", server.address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.args(["bench", "--url", &url, "--subscribers", "20", "--ramp", "5", "--warm-up", "0"]);
    command.args(["--rate", "1", "--events", "3", "--publishers", "2", "--channels", "2", "--json", "-"]);
    let (code, json, told) = super::result(command.env_clear().output().unwrap());
    assert_eq!(code, Some(0), "{told}{json:#}");
    assert_eq!(json["run"]["events"], 3);
    assert_eq!(json["run"]["deliveries"], 30, "{json:#}");
}

#[test]
fn a_table_for_people_is_printed_where_no_json_is_asked_for_there() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let (url, path) = (format!("http://{}", server.address()), file.path().to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.args(["bench", "--url", &url, "--subscribers", "5", "--events", "50", "--warm-up", "0"]);
    let output = command.args(["--json", path]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("250 of 250") && table.contains("0 untold") && table.contains("p99.9"), "{table}");
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_all_delivered(&json, 50, 5);
}
