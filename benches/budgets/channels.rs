//! CPU for a delivery with streams, and events as NDJSON, spread over many channels.

use crate::Bench;
use crate::contest::{self, Contender, Outcome};
use crate::report::{Figure, Report};
use downpour_load::load::{Load, UNBATCHED};

/// As many as the open files of one process of readers, and of this server with epoll, allow.
const STREAMS: usize = 10_000;
const EVENT_BYTES: usize = 64;

/// Channels that the streams are spread over.
const CHANNELS: [usize; 2] = [1000, 10_000];

const TO_ONE_CHANNEL_MAX: f64 = 1.2;

/// Each request publishes one event for each stream once every stream has the one before. So the rate of
/// deliveries is that of one channel, and each delivery is a send.
pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    for &driver in &bench.drivers {
        let one = Load::new(STREAMS, EVENT_BYTES);
        let many = CHANNELS.map(|channels| Load { channels, ..one.clone() });
        let start = |load: &Load| {
            let process = bench.servers.own(driver.io, 1, STREAMS);
            Contender::start(bench, process, load, UNBATCHED)
        };
        let start_all = || [&one].into_iter().chain(&many).map(start).collect();
        let Outcome { pairs: found, costs } = contest::hold(bench, start_all, &[(1, 0), (2, 0)]);
        for (at, pairs) in found.into_iter().enumerate() {
            let (channels, each) = (CHANNELS[at], STREAMS / CHANNELS[at]);
            let note = format!("{} to {}", costs[at + 1], costs[0]);
            let what = format!("CPU for a delivery, {channels} channels × {each} streams, to one channel");
            report.add(&what, driver, Figure::of_pairs(pairs, TO_ONE_CHANNEL_MAX, &note));
        }
    }
}
