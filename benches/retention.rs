//! The memory of the history: for each retained event, for each channel, and of a whole server after ten
//! million events. Each case has a process of its own, as resident memory hardly ever shrinks.
//!
//! Prints a Markdown table, and exits with an error if a budget is missed: see `docs/benchmarks/benches.md`.

use std::fmt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use downpour::Event;
use downpour::base::id::{EpochTag, Sequence};
use downpour::base::random::SplitMix64;
use downpour::hub::Retention;
use downpour::hub::counts::{ChannelCounts, ChannelPage};
use downpour::hub::{Backlog, HOLD_STEPS, Hub, HubOptions};
use downpour::record::Events;

use downpour_load::kernel::{peak_resident_bytes, resident_bytes};
use downpour_load::measuring::is_asked_to_measure;
use downpour_load::process::command;
use downpour_load::publisher::Publisher;
use downpour_load::server::Server;
use downpour_load::verdicts::Verdicts;

const DOWNPOUR: &str = env!("CARGO_BIN_EXE_downpour");

/// Most bytes of an event beside its data.
const EVENT_BYTES_MAX: f64 = 96.0;

/// Most bytes of a channel with one event beside that event's data.
const CHANNEL_BYTES_MAX: f64 = 256.0;

/// Most memory of a whole process, as a multiple of the bound of its history.
const PROCESS_SHARE_MAX: f64 = 1.25;

/// Events that a case retains.
const RETAINED: usize = 1_000_000;

/// Events of one batch.
const BATCH_EVENTS: usize = 100;

/// Events of one request.
const REQUEST_EVENTS: usize = 1000;

/// Events published before the measurement.
const WARM_UP_EVENTS: usize = 10_000;

/// Channels with one event each.
const CHANNELS: usize = 200_000;

/// One case, in a process of its own.
#[derive(Clone, Copy, Debug)]
enum Case {
    Events(Retained),
    /// Each of very many channels has one event.
    Channels {
        data_bytes: usize,
    },
    /// A server after ten million events.
    Server(Bounds),
    /// A server under events of all sizes from several connections, or after all of them were dropped.
    Mixed {
        is_dropped: bool,
    },
}

/// Events of one size, retained.
#[derive(Clone, Copy, Debug)]
struct Retained {
    data_bytes: usize,
    channels: usize,
    /// The number of retained events.
    retained: usize,
    /// How many times as many were published.
    rounds: usize,
}

/// The bounds of the history of a loaded server.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    history_events: usize,
    history_bytes: usize,
}

/// The result of a case.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Memory by the kernel's account, in bytes for each event or channel, or as a multiple of the
    /// bound.
    measured: f64,
    /// The same by the history's own account.
    counted: f64,
}

const EVENTS: Retained = Retained { data_bytes: 64, channels: 1, retained: RETAINED, rounds: 1 };

const CASES: [Case; 13] = [
    Case::Events(EVENTS),
    Case::Events(Retained { data_bytes: 1024, ..EVENTS }),
    Case::Events(Retained { channels: 1000, ..EVENTS }),
    Case::Events(Retained { data_bytes: 1024, channels: 1000, ..EVENTS }),
    // The worst numbers for indexes that double, after they have wrapped around.
    Case::Events(Retained { retained: 530_000, rounds: 3, ..EVENTS }),
    Case::Events(Retained { channels: 1000, retained: 530_000, rounds: 3, ..EVENTS }),
    Case::Events(Retained { data_bytes: 1024, channels: 1000, retained: 530_000, rounds: 3 }),
    Case::Channels { data_bytes: 64 },
    Case::Channels { data_bytes: 1024 },
    Case::Server(Bounds { history_events: 10_000, history_bytes: 256 << 20 }),
    Case::Server(Bounds { history_events: 100, history_bytes: 256 << 20 }),
    Case::Mixed { is_dropped: false },
    Case::Mixed { is_dropped: true },
];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Case::Events(Retained { data_bytes, channels, retained, rounds }) => {
                write!(
                    f,
                    "a retained event of {data_bytes} B beside its data, {retained} in {channels} channel"
                )?;
                f.write_str(if channels == 1 { "" } else { "s" })?;
                if rounds > 1 { write!(f, ", after {rounds} times as many") } else { Ok(()) }
            }
            Case::Channels { data_bytes } => {
                write!(f, "a channel with one event, beside the event's {data_bytes} B of data")
            }
            Case::Server(Bounds { history_events, history_bytes }) => write!(
                f,
                "a server's process after {SERVER_EVENTS} events over {SERVER_CHANNELS} channels, \
                 `--history-events {history_events} --history-bytes {}MiB`",
                history_bytes >> 20
            ),
            Case::Mixed { is_dropped } => {
                write!(
                    f,
                    "the most that a server's process held under {MIXED_ROUNDS} times as many bytes as \
                     `--history-bytes {MIXED_HISTORY_MIB}MiB` in events of 64 B to 200 KiB, {MIXED_SHARDS} shards"
                )?;
                f.write_str(if is_dropped { "; what it held a minute after all were dropped" } else { "" })
            }
        }
    }
}

impl Case {
    fn measure(self) -> Outcome {
        match self {
            Case::Events(events) => events.measure(),
            Case::Channels { data_bytes } => measure_channels(data_bytes),
            Case::Server(load) => load.measure(),
            Case::Mixed { is_dropped } => measure_mixed(is_dropped),
        }
    }

    fn budget(self) -> f64 {
        match self {
            Case::Events(_) => EVENT_BYTES_MAX,
            Case::Channels { .. } => CHANNEL_BYTES_MAX,
            Case::Server(_) => PROCESS_SHARE_MAX,
            Case::Mixed { is_dropped: false } => {
                PROCESS_SHARE_MAX * MIXED_HISTORY_MIB as f64 + BESIDE_MIB_MAX
            }
            Case::Mixed { is_dropped: true } => BESIDE_MIB_MAX,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Case::Events(_) | Case::Channels { .. } => "B",
            Case::Server(_) => "× `--history-bytes`",
            Case::Mixed { .. } => "MiB",
        }
    }

    /// Returns true if and only if the budget is met, and the history does not underestimate. A server
    /// has more than a history.
    fn is_met(self, outcome: Outcome) -> bool {
        let is_server = matches!(self, Case::Server(_) | Case::Mixed { .. });
        let is_counted = is_server || outcome.counted >= outcome.measured;
        outcome.measured <= self.budget() && is_counted
    }
}

fn hub(events_max: usize) -> Hub {
    let retention = Retention { events_max, bytes_max: usize::MAX, age_max: None };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 1_000_000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence::START.next());
    hub
}

/// Applies `events` events of this data; `name` gives the channel of each.
fn apply(hub: &Hub, events: usize, data: &str, name: impl Fn(usize) -> String) {
    for from in (0..events).step_by(BATCH_EVENTS) {
        let mut batch = Events::new();
        for at in from..events.min(from + BATCH_EVENTS) {
            batch.push(&[&name(at)], &Event::new(data));
        }
        hub.apply(hub.head().next(), &batch, None);
    }
}

/// The growth of this process's memory and of the history's account by `fill`, in bytes for each unit
/// that it adds to `count`.
fn growth(hub: &Hub, count: impl Fn() -> usize, fill: impl FnOnce()) -> Outcome {
    let own = std::process::id();
    let resident = || resident_bytes(own).expect("it runs") as f64;
    let held = || hub.held_bytes() as f64;
    let (resident_before, held_before, counted) = (resident(), held(), count());
    fill();
    let added = (count() - counted) as f64;
    let for_each = |before: f64, after: f64| (after - before) / added;
    Outcome { measured: for_each(resident_before, resident()), counted: for_each(held_before, held()) }
}

/// The overhead beside `data_bytes` bytes of data.
fn beside(outcome: Outcome, data_bytes: usize) -> Outcome {
    let Outcome { measured, counted } = outcome;
    Outcome { measured: measured - data_bytes as f64, counted: counted - data_bytes as f64 }
}

/// All channels, as one page.
fn all_channels(hub: &Hub) -> Vec<ChannelCounts> {
    let mut page = ChannelPage::new("", None, usize::MAX - 1);
    while !hub.look_for_page(&mut page) {}
    page.into_channels().0
}

impl Retained {
    fn measure(self) -> Outcome {
        let Retained { data_bytes, channels, retained, rounds } = self;
        let hub = hub(retained / channels);
        let data = "x".repeat(data_bytes);
        let name = |at: usize| format!("room:{}", at % channels);
        let count = || all_channels(&hub).iter().map(|channel| channel.retained).sum::<usize>();
        // The channels exist before, and so does the memory that publishing needs.
        apply(&hub, WARM_UP_EVENTS, &data, name);
        let outcome = growth(&hub, count, || apply(&hub, retained * rounds - WARM_UP_EVENTS, &data, name));
        assert_eq!(count(), retained);
        beside(outcome, data_bytes)
    }
}

fn measure_channels(data_bytes: usize) -> Outcome {
    let hub = hub(100);
    let data = "x".repeat(data_bytes);
    apply(&hub, WARM_UP_EVENTS, &data, |at| format!("room:warm-up-{at:08}"));
    let name = |at: usize| format!("room:of-user-{at:08}");
    let outcome = growth(&hub, || hub.channels_len(), || apply(&hub, CHANNELS, &data, name));
    assert_eq!(hub.channels_len(), CHANNELS + WARM_UP_EVENTS);
    beside(outcome, data_bytes)
}

/// Events that a server takes in, and their number of channels.
const SERVER_EVENTS: usize = 10_000_000;
const SERVER_CHANNELS: usize = 10_000;

/// One channel in this many is quiet: it gets one early event and no more.
const QUIET_SHARE: usize = 100;

impl Bounds {
    fn measure(self) -> Outcome {
        let options = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--history-events"];
        let bounds =
            [self.history_events.to_string(), "--history-bytes".to_owned(), self.history_bytes.to_string()];
        let options = options.into_iter().map(String::from).chain(bounds);
        let server = start(options);
        let mut publisher = Publisher::connect(server.address);
        let data = "x".repeat(64);
        for from in (0..SERVER_EVENTS).step_by(REQUEST_EVENTS) {
            let names = (from..from + REQUEST_EVENTS).map(|at| format!("room:{}", channel_of(at)));
            publisher.publish(names.map(|name| (name, &*data)));
        }
        let share = |bytes: f64| bytes / self.history_bytes as f64;
        Outcome { measured: share(server.resident_bytes() as f64), counted: share(publisher.history_bytes()) }
    }
}

fn start(options: impl Iterator<Item = String>) -> Server {
    Server::start(command(None, DOWNPOUR).args(options)).expect("the program was built")
}

/// The channel of an event. Quiet channels get theirs one by one over the first tenth, so that each
/// would keep a segment.
fn channel_of(at: usize) -> usize {
    let quiet = SERVER_CHANNELS / QUIET_SHARE;
    let step = SERVER_EVENTS / 10 / quiet;
    if at.is_multiple_of(step) && at / step < quiet {
        at / step
    } else {
        quiet + at % (SERVER_CHANNELS - quiet)
    }
}

/// A load of events of all sizes: MiB of history, channels, connections and shards.
const MIXED_HISTORY_MIB: usize = 64;
const MIXED_ROUNDS: usize = 12;
const MIXED_CHANNELS: usize = 200;
const MIXED_PUBLISHERS: usize = 12;
const MIXED_SHARDS: usize = 8;

/// Most memory of a process beside its history, in MiB.
const BESIDE_MIB_MAX: f64 = 24.0;

fn measure_mixed(is_dropped: bool) -> Outcome {
    let options = format!(
        "serve --listen 127.0.0.1:0 --shards {MIXED_SHARDS} --history-bytes {MIXED_HISTORY_MIB}MiB --log-level error"
    );
    let server = start(options.split(' ').map(String::from));
    thread::scope(|scope| {
        for seed in 0..MIXED_PUBLISHERS {
            let address = server.address;
            scope.spawn(move || {
                let mut random = SplitMix64::new(seed as u64);
                let mut left = MIXED_ROUNDS * (MIXED_HISTORY_MIB << 20) / MIXED_PUBLISHERS;
                while left > 0 {
                    let mut publisher = Publisher::connect(address);
                    for _ in 0..200 {
                        // Evenly over orders of magnitude.
                        let least = 64 << random.within(0..=11);
                        let length = (least + random.within(0..=least - 1)).min(200 * 1024);
                        let channel = random.within(0..=MIXED_CHANNELS - 1);
                        publisher.publish([(format!("room:{channel}"), &*"x".repeat(length))].into_iter());
                        left = left.saturating_sub(length);
                    }
                }
            });
        }
    });
    let mut publisher = Publisher::connect(server.address);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    if is_dropped {
        (0..MIXED_CHANNELS).for_each(|channel| publisher.drop_history(&format!("room:{channel}")));
        let counted = mib(publisher.history_bytes());
        thread::sleep(Duration::from_secs(60));
        return Outcome { measured: mib(server.resident_bytes() as f64), counted };
    }
    let counted = mib(publisher.history_bytes());
    let peak = peak_resident_bytes(server.id()).expect("the server runs");
    Outcome { measured: mib(peak as f64), counted }
}

/// Measures a case in a process of its own.
fn measure_apart(number: usize) -> Outcome {
    let own = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(own).args(["--case", &number.to_string()]).output().expect("it runs again");
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [measured, counted] if output.status.success() => Outcome { measured, counted },
        _ => panic!("case {number} failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, number] = &arguments[..]
        && flag == "--case"
    {
        let case =
            number.parse().ok().and_then(|number: usize| CASES.get(number)).expect("it is a case's number");
        let Outcome { measured, counted } = case.measure();
        println!("{measured} {counted}");
        return ExitCode::SUCCESS;
    }
    if !is_asked_to_measure("retention") {
        return ExitCode::SUCCESS;
    }
    let mut verdicts = Verdicts::begin(&["what", "budget", "measured", "by the history's account"]);
    for (number, case) in CASES.into_iter().enumerate() {
        let outcome = measure_apart(number);
        let budget = format!("≤ {} {}", case.budget(), case.unit());
        let Outcome { measured, counted } = outcome;
        let fields: [&dyn fmt::Display; 4] =
            [&case, &budget, &format!("{measured:.2}"), &format!("{counted:.2}")];
        verdicts.push(&fields, case.is_met(outcome));
    }
    verdicts.finish()
}
