//! `downpour bench` as a process: against a server of ours, and against one that plays tricks.

mod honesty;
mod loads;
mod processes;
mod refusals;
mod trickster;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{DriverKind, Server};

/// Options of every load here: small, short, with JSON as output.
const BRIEF: [&str; 5] = ["--warm-up", "0", "--ramp", "0", "--json"];

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.arg("bench").args(BRIEF).arg("-").args(arguments).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a load to its end. Returns exit code, result, and standard error.
pub(crate) fn bench(arguments: &[&str]) -> (Option<i32>, Value, String) {
    result(command(arguments).output().unwrap())
}

pub(crate) fn result(output: Output) -> (Option<i32>, Value, String) {
    let told = String::from_utf8(output.stderr).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, told)
}

/// Runs a load on a server of ours. Nothing may go wrong.
pub(crate) fn bench_ours(arguments: &[&str]) -> Value {
    let server = Server::start(DriverKind::Epoll, &[]);
    let (url, pid) = (format!("http://{}", server.address()), server.pid().to_string());
    let ours = ["--url", &url, "--pid", &pid];
    let (code, json, told) = bench(&[&ours[..], arguments].concat());
    assert_eq!(code, Some(0), "{told}{json:#}");
    assert_eq!(json["findings"], serde_json::json!([]));
    json
}

pub(crate) fn assert_all_delivered(json: &Value, events: u64, subscribers: u64) {
    let run = &json["run"];
    assert_eq!(run["events"], events, "{json:#}");
    assert_eq!(run["deliveries"], events * subscribers, "{json:#}");
    assert_eq!(run["expectedDeliveries"], events * subscribers);
    for kind in ["lostUntold", "lostTold", "doubled", "reordered", "misdelivered", "gaps"] {
        assert_eq!(json["losses"]["fast"][kind], 0, "{kind}");
    }
}

/// Sends a signal to a process, or to a process group by its negated id.
pub(crate) fn signal(signal: &str, target: i64) {
    let kill = format!("kill -s {signal} -- {target}");
    assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
}
