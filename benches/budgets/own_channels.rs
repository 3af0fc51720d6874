//! The latency of very many channels with a reader each, at a given rate. `downpour bench` makes the load.

use downpour_load::statistics::Interval;

use crate::Bench;
use crate::bench_command::{number, run};
use crate::report::{Budget, Figure, Report, Unit};

const CHANNELS: usize = 10_000;
const EVENT_BYTES: usize = 512;

/// Events a second, and events of a request.
const RATE: usize = 40_000;
const BATCH: usize = 100;

const P99_MS_MAX: f64 = 2.0;

const ROUNDS_MAX: usize = 9;

/// A run whose publisher was later than this at p99 had another rate, and is thrown away.
const LATE_MS_MAX: f64 = 0.5;

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let (channels, size, batch) = (CHANNELS.to_string(), EVENT_BYTES.to_string(), BATCH.to_string());
    let rate = format!("{RATE}/s");
    let load = ["--subscribers", &channels, "--channels", &channels, "--size", &size, "--rate", &rate];
    let options = [&load[..], &["--batch", &batch, "--duration", "3s"]].concat();
    for &driver in &bench.drivers {
        let (mut p99, mut busy, mut thrown) = (Vec::new(), Vec::new(), 0);
        for _ in 0..bench.rounds.min(ROUNDS_MAX) {
            let result = run(&bench.servers.own(driver.io, 1, CHANNELS), &options);
            if number(&result, "/run/publishLateness/p99Ns") > 1e6 * LATE_MS_MAX {
                thrown += 1;
                continue;
            }
            p99.push(number(&result, "/run/latency/p99Ns") / 1e6);
            busy.push(100.0 * number(&result, "/server/cpuShare"));
        }
        let busy = Interval::of(busy).map_or("–".to_owned(), |of| format!("{:.0} %", of.median));
        let note = format!("server at {busy} of a CPU, {thrown} runs thrown away");
        let what = format!(
            "p99 latency of {CHANNELS} channels with a reader each, {EVENT_BYTES} B, {RATE} events/s in batches of {BATCH}"
        );
        let budget = Budget::AtMost(P99_MS_MAX);
        let figure = Figure { interval: Interval::of(p99), budget, unit: Unit::Milliseconds, note };
        report.add(&what, driver, figure);
    }
}
