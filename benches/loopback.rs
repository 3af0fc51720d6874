//! The cost of a delivery over loopback sockets: for this server with each of its drivers, two bare
//! servers that only send, and peers. All run in turns in one process, so that a disturbance affects all
//! of them. Each is compared with the bare `send()` of the same round. All are started several times.
//!
//! Prints a table at the end. Its settings are environment variables: see `docs/benchmarks/benches.md`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use downpour::driver::descriptors::raise_open_files_limit;
use downpour::driver::uring;

use downpour_load::load::{Load, SATURATED, UNBATCHED};
use downpour_load::measuring::{is_asked_to_measure, number};
use downpour_load::process::Pinning;
use downpour_load::readers::Readers;
use downpour_load::server::Server;
use downpour_load::servers::Servers;
use downpour_load::statistics::Interval;
use downpour_load::table::{align_figures, markdown};
use downpour_load::window::{Pairs, STARTS, Window, fitting};

/// Requests of the first run at each pace. It shows how many fill a window.
const WARM_UP_REQUESTS: usize = 8;

const REQUESTS_PER_WINDOW_MAX: usize = 100_000;

/// Most servers: their streams are open files of this process.
const CONTENDERS_MAX: usize = 7;

/// Open files other than streams.
const FILES_RESERVED: usize = 128;

/// The CPUs of readers and servers.
const CPUS: (usize, usize) = (0, 1);

/// The settings from the environment.
#[derive(Clone, Debug)]
struct Settings {
    load: Load,
    rounds: usize,
    window: Duration,
}

/// A server that takes part.
struct Contender {
    name: &'static str,
    server: Server,
    readers: Readers,
    /// For each pace: requests that fill a window, and the result of each round.
    paces: Vec<Measured>,
}

#[derive(Clone, Debug)]
struct Measured {
    requests: usize,
    /// Events of each request.
    events: usize,
    rounds: Vec<Window>,
}

impl Settings {
    fn read() -> Settings {
        let streams = number("DOWNPOUR_BENCH_STREAMS", 1000);
        Settings {
            load: Load::new(streams, number("DOWNPOUR_BENCH_EVENT_BYTES", 64)),
            rounds: number("DOWNPOUR_BENCH_ROUNDS", 15),
            window: Duration::from_millis(number("DOWNPOUR_BENCH_WINDOW_MS", 200) as u64),
        }
    }
}

impl Contender {
    fn start(name: &'static str, server: Server, settings: &Settings) -> Contender {
        let mut readers = Readers::open(server.address, Ipv4Addr::LOCALHOST, &settings.load);
        let paces = settings.load.paces().into_iter().enumerate().map(|(number, pace)| {
            readers.run(number, WARM_UP_REQUESTS); // The first ones are slow.
            let began = Instant::now();
            readers.run(number, WARM_UP_REQUESTS);
            let requests = fitting(settings.window, WARM_UP_REQUESTS, began.elapsed());
            let requests = requests.min(REQUESTS_PER_WINDOW_MAX);
            readers.run(number, requests); // Until the history has grown to its size.
            Measured { requests, events: pace.events, rounds: Vec::new() }
        });
        Contender { name, paces: paces.collect(), server, readers }
    }

    /// One window at this pace.
    fn measure(&mut self, pace: usize, streams: usize) {
        let Contender { server, readers, paces, .. } = self;
        let Measured { requests, events, rounds } = &mut paces[pace];
        rounds.push(Window::of(server, || {
            readers.run(pace, *requests);
            *requests * *events * streams
        }));
    }
}

fn start_all(settings: &Settings, servers: &Servers) -> Vec<Contender> {
    let arguments = settings.load.peer_arguments();
    let peer = |kind: &str| servers.peer(kind, &arguments);
    let own = |io: &str| servers.own(io, 1, settings.load.streams);
    let mut contenders = Vec::new();
    let mut enter = |name, server| contenders.push(Contender::start(name, server, settings));
    enter(BARE_SEND, peer("send"));
    enter("bare sendfile()", peer("sendfile"));
    enter("downpour, epoll", own("epoll"));
    match uring::prove() {
        Ok(_) => {
            enter(BARE_RING, peer("ring"));
            enter("downpour, io_uring", own("uring"));
            enter("tokio-uring", peer("tokio-uring"));
        }
        Err(error) => println!("without io_uring: {error}"),
    }
    enter("axum", peer("axum"));
    contenders
}

const BARE_SEND: &str = "bare send()";
const BARE_RING: &str = "bare io_uring";

/// The results of one server over all starts: for each pace its windows.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    paces: Vec<Vec<Window>>,
}

/// Starts all servers and lets them take turns, several times.
fn measure(settings: &Settings, servers: &Servers) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for _ in 0..STARTS {
        let mut contenders = start_all(settings, servers);
        for round in 0..settings.rounds.div_ceil(STARTS) {
            for pace in [UNBATCHED, SATURATED] {
                // The first one changes, so that no server always follows the same other one.
                for place in 0..contenders.len() {
                    let next = (place + round) % contenders.len();
                    contenders[next].measure(pace, settings.load.streams);
                }
            }
        }
        if outcomes.is_empty() {
            let empty = |contender: &Contender| Outcome {
                name: contender.name,
                paces: vec![Vec::new(); contender.paces.len()],
            };
            outcomes = contenders.iter().map(empty).collect();
        }
        for (outcome, contender) in outcomes.iter_mut().zip(contenders) {
            for (windows, measured) in outcome.paces.iter_mut().zip(contender.paces) {
                windows.extend(measured.rounds);
            }
        }
    }
    outcomes
}

/// The table of one pace.
fn print_table(title: &str, pace: usize, outcomes: &[Outcome]) {
    let windows_of = |name: &str| {
        let named = outcomes.iter().find(|outcome| outcome.name == name);
        named.map(|outcome| outcome.paces[pace].clone())
    };
    let limits = [windows_of(BARE_SEND), windows_of(BARE_RING)];
    println!(
        "\n{title}: ns for each delivery, and CPU against the bare servers (median [95 % interval] -thrown away)\n"
    );
    let mut table = markdown(["server", "CPU", "wall", "to bare send()", "to bare io_uring"]);
    for Outcome { name, paces } in outcomes {
        let rounds = &paces[pace];
        let median =
            |of: fn(&Window) -> f64| Interval::of(rounds.iter().map(of)).map_or(f64::NAN, |of| of.median);
        let (cpu, wall) = (median(Window::cpu_ns), median(Window::wall_ns));
        let ratios = limits.each_ref().map(|limit| {
            let Some(limit) = limit else { return "-".to_owned() };
            let Pairs { ratios, thrown } = Pairs::of(rounds, limit);
            let interval = Interval::of(ratios).map_or("-".to_owned(), |interval| interval.to_string());
            if thrown > 0 { format!("{interval} -{thrown}") } else { interval }
        });
        let [to_send, to_ring] = ratios;
        table.add_row([(*name).to_owned(), format!("{cpu:.1}"), format!("{wall:.1}"), to_send, to_ring]);
    }
    align_figures(&mut table);
    println!("{table}");
}

fn main() {
    if !is_asked_to_measure("loopback") {
        return;
    }
    let settings = Settings::read();
    let files = raise_open_files_limit().expect("the limit on open files can be raised to what is allowed");
    let streams_max = files.saturating_sub(FILES_RESERVED) / CONTENDERS_MAX;
    assert!(
        settings.load.streams <= streams_max,
        "DOWNPOUR_BENCH_STREAMS is {}: the limit on open files ({files}) allows {streams_max} streams of each server",
        settings.load.streams
    );
    let pinning = Pinning::of(CPUS.0, CPUS.1);
    let servers = Servers::build(Path::new(env!("CARGO_BIN_EXE_downpour")), pinning);
    let Settings { load: Load { streams, event_bytes, .. }, rounds, window } = settings;
    println!(
        "{streams} streams, events of {event_bytes} bytes, {rounds} rounds of {window:?} for each server and pace"
    );
    let outcomes = measure(&settings, &servers);
    print_table("unbatched", UNBATCHED, &outcomes);
    print_table("saturated", SATURATED, &outcomes);
}
