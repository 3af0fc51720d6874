//! Memory for an idle stream: that of the process, and the kernel's for its socket.

use std::thread;
use std::time::Duration;

use crate::connect::settle;
use crate::holder::Holder;
use crate::report::{Budget, Figure, Report, Unit};
use crate::{Bench, Driver, EPOLL, URING};
use downpour_load::kernel::slab_bytes;
use downpour_load::load::{Load, UNBATCHED};
use downpour_load::server::Server;
use downpour_load::statistics::Interval;

const STREAMS: usize = 15_000;

/// More than the open files of one process: two shards hold them, and two processes of readers.
const MANY: usize = 30_000;

const EVENT_BYTES: usize = 64;

const FURTHER_CHANNELS: usize = 8;

/// Servers of each kind. The figures hardly differ between servers.
const REPEATS_MAX: usize = 3;

const STREAM_MAX: f64 = 256.0;
const FURTHER_CHANNEL_MAX: f64 = 16.0;
const USER_MAX: f64 = 64.0;

/// Most kernel memory for a stream beyond an unused socket: an entry of epoll, or a poll of the ring.
const KERNEL_MAX: [(Driver, f64); 2] = [(EPOLL, 256.0), (URING, 922.0)];

/// How often, and how many times, to check whether the kernel has freed what it is about to. It has if
/// the change is less than the third figure.
const SETTLING_LOOK: Duration = Duration::from_millis(100);
const SETTLING_LOOKS_MAX: usize = 50;
const SETTLED_BYTES: u64 = 64 * 1024;

/// Bytes for each stream.
#[derive(Clone, Copy, Debug)]
struct Grown {
    process: f64,
    kernel: f64,
}

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let plain = Load::new(STREAMS, EVENT_BYTES);
    for &driver in &bench.drivers {
        let further = Load { further_channels: FURTHER_CHANNELS, ..plain.clone() };
        let users = Load { has_users: true, ..plain.clone() };
        let (mut streams, mut channels, mut with_user) = (Vec::new(), Vec::new(), Vec::new());
        let mut kernel = Vec::new();
        for _ in 0..bench.rounds.min(REPEATS_MAX) {
            let own = |load: &Load| grown(&bench.servers.own(driver.io, 1, STREAMS), load, 1);
            let bare = grown(&bench.servers.peer("send", &plain.peer_arguments()), &plain, 1);
            let one = own(&plain);
            streams.push(one.process);
            kernel.push(one.kernel - bare.kernel);
            channels.push((own(&further).process - one.process) / FURTHER_CHANNELS as f64);
            with_user.push(own(&users).process - one.process);
        }
        let mut add = |what: &str, bytes: Vec<f64>, most: f64| {
            let budget = Budget::AtMost(most);
            let figure =
                Figure { interval: Interval::of(bytes), budget, unit: Unit::Bytes, note: String::new() };
            report.add(what, driver, figure);
        };
        add(&format!("memory of the process for an idle stream, {STREAMS} of them"), streams, STREAM_MAX);
        add("the same for each further channel of a stream", channels, FURTHER_CHANNEL_MAX);
        add("the same for a user of its own", with_user, USER_MAX);
        let most = KERNEL_MAX.iter().find(|(of, _)| *of == driver).map_or(0.0, |(_, most)| *most);
        add("memory of the kernel (slab) for an idle stream, above an accepted socket", kernel, most);
        if driver == URING {
            let half = Load::new(MANY / 2, EVENT_BYTES);
            let many = (0..bench.rounds.min(REPEATS_MAX))
                .map(|_| grown(&bench.servers.own(driver.io, 2, MANY), &half, 2).process);
            let what = format!("memory of the process for an idle stream, {MANY} of them, 2 shards");
            add(&what, many.collect(), STREAM_MAX);
        }
    }
}

/// Growth of a server and the kernel for each stream of this load, with `holders` processes of readers.
/// Every stream was sent an event, as were a few before them, so that one-time memory is not counted.
fn grown(server: &Server, load: &Load, holders: usize) -> Grown {
    let few = Load { streams: 16, ..load.clone() };
    let mut first = Holder::open(server.address, &few);
    first.run(UNBATCHED, 1);
    settle(server);
    let (process, kernel) = (server.resident_bytes(), settled_slab_bytes());
    let mut held: Vec<Holder> = (0..holders).map(|_| Holder::open(server.address, load)).collect();
    // With several, the publishing one does not wait for the streams of the others.
    if let Some(last) = held.last_mut() {
        last.run(UNBATCHED, 1);
    }
    settle(server);
    let streams = (load.streams * holders) as f64;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / streams;
    Grown { process: each(process, server.resident_bytes()), kernel: each(kernel, settled_slab_bytes()) }
}

/// [`slab_bytes`] once they no longer shrink: memory of earlier servers' sockets is freed some time
/// after their end.
fn settled_slab_bytes() -> u64 {
    let mut least = slab_bytes().expect("the kernel tells its memory");
    for _ in 0..SETTLING_LOOKS_MAX {
        thread::sleep(SETTLING_LOOK);
        let now = slab_bytes().expect("the kernel tells its memory");
        if now + SETTLED_BYTES > least {
            return now;
        }
        least = now;
    }
    least
}
