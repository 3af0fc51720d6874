//! CPU for an event alone to the only reader of its channel, against a server that does nothing but
//! receive the request, answer it and send once.

use downpour_load::load::{Load, UNBATCHED};

use crate::Bench;
use crate::contest::{self, Contender, Outcome};
use crate::report::{Figure, Report};

const EVENT_BYTES: usize = 64;

const TO_BARE_MAX: f64 = 1.3;

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let load = Load::new(1, EVENT_BYTES);
    let start = || {
        let bare = bench.servers.peer("single", &load.peer_arguments());
        let own = bench.drivers.iter().map(|driver| bench.servers.own(driver.io, 1, 1));
        let servers = [bare].into_iter().chain(own);
        servers.map(|server| Contender::start(bench, server, &load, UNBATCHED)).collect()
    };
    let compared: Vec<(usize, usize)> = (1..=bench.drivers.len()).map(|own| (own, 0)).collect();
    let Outcome { pairs: found, costs } = contest::hold(bench, start, &compared);
    for ((pairs, &driver), (own, bare)) in found.into_iter().zip(&bench.drivers).zip(compared) {
        let note = format!("{} to {}", costs[own], costs[bare]);
        let what = format!(
            "CPU for an event of {EVENT_BYTES} B alone to one reader, to a bare receive and two sends"
        );
        report.add(&what, driver, Figure::of_pairs(pairs, TO_BARE_MAX, &note));
    }
}
