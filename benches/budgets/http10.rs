//! CPU for a delivery to HTTP/1.0 readers, whose streams have no chunks, against that to others.

use crate::Bench;
use crate::contest::{self, Contender, Outcome};
use crate::report::{Figure, Report};
use downpour_load::load::{Load, SATURATED, UNBATCHED};

const STREAMS: usize = 1000;
const EVENT_BYTES: usize = 64;

const TO_CHUNKED_MAX: f64 = 1.1;

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    for (pace, name) in [(UNBATCHED, "unbatched"), (SATURATED, "saturated")] {
        for &driver in &bench.drivers {
            let chunked = Load::new(STREAMS, EVENT_BYTES);
            let http10 = Load { is_http10: true, ..chunked.clone() };
            let start = || {
                let started = [&chunked, &http10].into_iter().map(|load| {
                    let process = bench.servers.own(driver.io, 1, STREAMS);
                    Contender::start(bench, process, load, pace)
                });
                started.collect()
            };
            let Outcome { pairs: found, costs } = contest::hold(bench, start, &[(1, 0)]);
            let note = format!("{} to {}", costs[1], costs[0]);
            let what =
                format!("CPU for a delivery to one of {STREAMS} HTTP/1.0 readers, {name}, to chunked ones");
            for pairs in found {
                report.add(&what, driver, Figure::of_pairs(pairs, TO_CHUNKED_MAX, &note));
            }
        }
    }
}
