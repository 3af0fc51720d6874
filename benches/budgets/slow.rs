//! Clients that hardly read, beside others: the latency of the others, and the memory of the slow ones.
//! `downpour bench` makes the load.

use serde_json::Value;

use crate::Bench;
use crate::bench_command::{number, run};
use crate::report::{Budget, Figure, Report, Unit};
use downpour_load::server::Server;
use downpour_load::statistics::Interval;

const STREAMS: usize = 10_000;
const SLOW: usize = 1000;

/// Events of a request. Half of what a server can take one by one would not fill any socket in the time.
const BATCH: usize = 64;

/// p99 latencies that are compared, in turns.
const ROUNDS_MAX: usize = 9;

const LATENCY_MAX: f64 = 1.2;

/// Most memory of the server: `--history-bytes`, and `--queue-bytes` for each slow client.
const HISTORY_BYTES: f64 = 256.0 * 1024.0 * 1024.0;
const QUEUE_BYTES: f64 = 256.0 * 1024.0;

/// Most kernel memory for a slow client: `SO_SNDBUF` of the server, and `SO_RCVBUF` of a slow reader of
/// the load. The kernel doubles both for its own overhead.
const SOCKET_BYTES: f64 = 2.0 * (64.0 + 16.0) * 1024.0;

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    for &driver in &bench.drivers {
        let start = || bench.servers.own(driver.io, 1, STREAMS);
        let server = start();
        // The rate of such batches that one core takes, each published once all streams have the one
        // before.
        let capacity = load(
            &server,
            &["--rate", "0", "--window", &BATCH.to_string(), "--duration", "1s", "--slow", "0%"],
        );
        let ns = number(&capacity, "/server/cpuNsPerDelivery") * STREAMS as f64;
        let rate = format!("{:.1}/s", 0.5e9 / ns);
        let share = format!("{}%", 100 * SLOW / STREAMS);
        let (mut ratios, mut grown, mut of_kernel) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..bench.rounds.min(ROUNDS_MAX) {
            let measured = |slow: &str| {
                // A server of its own: it may keep memory that it once needed for slow streams.
                let server = start();
                load(&server, &["--rate", &rate, "--duration", "2s", "--slow", slow, "--slow-rate", "1"])
            };
            let (with, without) = if round % 2 == 0 {
                let with = measured(&share);
                (with, measured("0%"))
            } else {
                let without = measured("0%");
                (measured(&share), without)
            };
            let p99 = |of: &Value| number(of, "/run/latency/p99Ns");
            ratios.push(p99(&with) / p99(&without));
            let more = |name: &str| number(&with, name) - number(&without, name);
            grown.push(more("/server/memoryEnd/rssBytes"));
            of_kernel.push(more("/kernel/tcpBytesEnd") / SLOW as f64);
        }
        let at = format!("at {rate} events");
        let mut add = |what: String, values: Vec<f64>, most: f64, unit: Unit| {
            let figure = Figure {
                interval: Interval::of(values),
                budget: Budget::AtMost(most),
                unit,
                note: at.clone(),
            };
            report.add(&what, driver, figure);
        };
        let others = STREAMS - SLOW;
        let what = format!("p99 latency of {others} streams beside {SLOW} slow ones, to none slow");
        add(what, ratios, LATENCY_MAX, Unit::Times);
        let most = HISTORY_BYTES + QUEUE_BYTES * SLOW as f64;
        add(format!("memory of the process that comes with {SLOW} slow clients"), grown, most, Unit::Bytes);
        let what = "memory of the kernel (TCP, both ends) for each slow client".to_owned();
        add(what, of_kernel, SOCKET_BYTES, Unit::Bytes);
    }
}

/// A run of `downpour bench` with these streams and further options, and its result.
fn load(server: &Server, options: &[&str]) -> Value {
    let (streams, batch) = (STREAMS.to_string(), BATCH.to_string());
    run(server, &[&["--subscribers", &streams, "--batch", &batch], options].concat())
}
