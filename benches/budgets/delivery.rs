//! CPU for a delivery, against servers that only send.

use crate::contest::{self, Contender, Outcome};
use crate::report::{Figure, Report};
use crate::{Bench, Driver, EPOLL};
use downpour_load::load::{Load, SATURATED, UNBATCHED};

/// Streams and bytes of an event's data.
const UNBATCHED_LOADS: [(usize, usize); 4] = [(1000, 64), (1000, 1024), (10_000, 64), (10_000, 1024)];

const SATURATED_LOAD: (usize, usize) = (2000, 64);

/// Most CPU of each driver, as a multiple of the bare server that sends as it does, and of bare
/// `send()`.
const TO_OWN_MAX: f64 = 1.05;
const URING_TO_SEND_MAX: f64 = 1.10;

/// Each event is published once every stream has the one before.
pub(crate) fn unbatched(bench: &Bench, report: &mut Report) {
    for (streams, event_bytes) in UNBATCHED_LOADS {
        let what = format!("CPU for a delivery of {event_bytes} B to one of {streams} streams, unbatched");
        against_bare(bench, report, &what, &Load::new(streams, event_bytes), UNBATCHED);
    }
}

/// Events are published as fast as they are taken.
pub(crate) fn saturated(bench: &Bench, report: &mut Report) {
    let (streams, event_bytes) = SATURATED_LOAD;
    let what = format!("CPU for a delivery of {event_bytes} B to one of {streams} streams, saturated");
    against_bare(bench, report, &what, &Load::new(streams, event_bytes), SATURATED);
}

/// The bare servers and this one with each driver. A lost event ends the bench.
fn against_bare(bench: &Bench, report: &mut Report, what: &str, load: &Load, pace: usize) {
    let arguments = load.peer_arguments();
    // The bare server of each driver is followed by this server.
    let start = || {
        let started = bench.drivers.iter().flat_map(|driver| {
            [bench.servers.peer(driver.bare, &arguments), bench.servers.own(driver.io, 1, load.streams)]
        });
        started.map(|process| Contender::start(bench, process, load, pace)).collect()
    };
    let mut compared: Vec<(usize, Driver, Driver, f64)> = Vec::new();
    for (at, &driver) in bench.drivers.iter().enumerate() {
        // At saturation a server that joins all it has read is the limit, however it sends.
        if driver == EPOLL || pace == UNBATCHED {
            compared.push((at, driver, driver, TO_OWN_MAX));
        }
        if driver != EPOLL {
            compared.push((
                at,
                driver,
                EPOLL,
                if pace == UNBATCHED { URING_TO_SEND_MAX } else { TO_OWN_MAX },
            ));
        }
    }
    let place = |driver: Driver| bench.drivers.iter().position(|other| *other == driver).unwrap_or(0);
    let pairs: Vec<(usize, usize)> =
        compared.iter().map(|&(at, _, limit, _)| (2 * at + 1, 2 * place(limit))).collect();
    let Outcome { pairs: found, costs } = contest::hold(bench, start, &pairs);
    for (((_, driver, limit, at_most), pairs), (own, bare)) in compared.into_iter().zip(found).zip(pairs) {
        let note = format!("{} to {}", costs[own], costs[bare]);
        let what = format!("{what}, to {}", limit.bare_name);
        report.add(&what, driver, Figure::of_pairs(pairs, at_most, &note));
    }
}
