//! Runs of `downpour bench`, for rows whose load it makes.

use std::process::{Command, Stdio};

use downpour_load::server::Server;
use serde_json::Value;

use crate::{CPUS, DOWNPOUR};

/// A run with these options against this server, and its result.
///
/// # Panics
/// The load did not run as asked, or events were lost.
pub(crate) fn run(server: &Server, options: &[&str]) -> Value {
    let (url, pid, cpu) = (format!("http://{}", server.address), server.id().to_string(), CPUS.0.to_string());
    let mut command = Command::new(DOWNPOUR);
    command.args(["bench", "--url", &url, "--pid", &pid, "--cpus-readers", &cpu, "--cpus-publisher", &cpu]);
    command.args(["--ramp", "20000/s", "--warm-up", "1s", "--drain", "0s", "--stall", "30s", "--json", "-"]);
    let output = command.args(options).stderr(Stdio::piped()).output().expect("the program was built");
    let result: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    match result {
        Some(result) if output.status.success() => result,
        _ => panic!(
            "the load did not run as asked: {}{}",
            String::from_utf8_lossy(&output.stderr),
            result.map_or(String::new(), |result| result["findings"].to_string())
        ),
    }
}

/// A figure of a result.
pub(crate) fn number(result: &Value, pointer: &str) -> f64 {
    result.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("the result has no {pointer}"))
}
