//! The latency of a channel with many readers at a rate far below saturation, against a bare loop.

use std::time::Duration;

use downpour_load::load::Load;
use downpour_load::server::Server;
use downpour_load::statistics::Interval;
use downpour_load::window::STARTS;

use crate::holder::{Holder, Latency};
use crate::report::{Budget, Figure, Report, Unit};
use crate::{Bench, Driver};

const STREAMS: usize = 1000;
const EVENT_BYTES: usize = 256;

/// Time between two events, and events of a round.
const INTERVAL: Duration = Duration::from_millis(20);
const EVENTS: usize = 50;

const TO_BARE_MAX: f64 = 1.15;

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    for &driver in &bench.drivers {
        let rounds = rounds(bench, driver);
        for (name, of) in
            [("p50", (|latency| latency.p50) as fn(&Latency) -> Duration), ("p99", |latency| latency.p99)]
        {
            let ratios = rounds.iter().map(|(bare, own)| of(own).div_duration_f64(of(bare)));
            let median = |of: &mut dyn Iterator<Item = Duration>| {
                Interval::of(of.map(|latency| 1e3 * latency.as_secs_f64()))
                    .map_or(0.0, |interval| interval.median)
            };
            let own = median(&mut rounds.iter().map(|(_, own)| of(own)));
            let bare = median(&mut rounds.iter().map(|(bare, _)| of(bare)));
            let figure = Figure {
                interval: Interval::of(ratios),
                budget: Budget::AtMost(TO_BARE_MAX),
                unit: Unit::Times,
                note: format!("{own:.2} ms to {bare:.2} ms"),
            };
            let rate = 1.0 / INTERVAL.as_secs_f64();
            let what = format!(
                "{name} latency of {STREAMS} streams at {rate:.0} events/s of {EVENT_BYTES} B, to {}",
                driver.bare_name
            );
            report.add(&what, driver, figure);
        }
    }
}

/// The latencies of the bare server and of this one, round by round.
fn rounds(bench: &Bench, driver: Driver) -> Vec<(Latency, Latency)> {
    let load = Load::new(STREAMS, EVENT_BYTES);
    let mut rounds = Vec::new();
    for _ in 0..STARTS {
        let bare = bench.servers.peer(driver.bare, &load.peer_arguments());
        let own = bench.servers.own(driver.io, 1, STREAMS);
        let holder = |server: &Server| {
            let mut holder = Holder::open(server.address, &load);
            holder.run_at(INTERVAL, EVENTS); // Until the server is warm.
            holder
        };
        let (mut to_bare, mut to_own) = (holder(&bare), holder(&own));
        for round in 0..bench.rounds.div_ceil(STARTS) {
            let measure = |holder: &mut Holder| holder.run_at(INTERVAL, EVENTS);
            // The first one changes, so that no server always follows the other.
            rounds.push(if round % 2 == 0 {
                let bare = measure(&mut to_bare);
                (bare, measure(&mut to_own))
            } else {
                let own = measure(&mut to_own);
                (measure(&mut to_bare), own)
            });
        }
    }
    rounds
}
