//! What a delivery costs a server over loopback sockets: this one with each of its drivers, two bare servers that do
//! nothing but send, and peers. All run in one go and take turns, so that what disturbs one disturbs the others too;
//! each is compared with the bare `send()` of the same round.
//!
//! Prints a table at its end. Settings are variables of the environment: see `docs/benchmarks.md`.

#[path = "support/process.rs"]
mod process;
#[path = "support/quartiles.rs"]
mod quartiles;
#[path = "support/readers.rs"]
mod readers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use downpour::Event;
use downpour::driver::descriptors::raise_open_files_limit;
use downpour::driver::uring;
use downpour::frame::render::render;

use process::{Pinning, Process};
use quartiles::Quartiles;
use readers::{MARK, Pace, Readers};

const DOWNPOUR: &str = env!("CARGO_BIN_EXE_downpour");

/// Events of one request at saturation, and requests under way.
const SEVERAL_EVENTS: usize = 64;
const SEVERAL_UNDER_WAY: usize = 8;

/// Requests of the first run at each pace, from which it is told how many fill a window.
const WARM_UP_REQUESTS: usize = 8;

const REQUESTS_PER_WINDOW_MAX: usize = 100_000;

/// Servers that there are at the most: their streams are open files of this process.
const CONTENDERS_MAX: usize = 7;

/// Open files that are no streams.
const FILES_RESERVED: usize = 128;

/// Where readers and servers run.
const CPUS: (usize, usize) = (0, 1);

const UNBATCHED: usize = 0;
const SATURATED: usize = 1;

/// What the environment may change.
#[derive(Clone, Copy, Debug)]
struct Settings {
    streams: usize,
    event_bytes: usize,
    rounds: usize,
    window: Duration,
}

/// A server that takes part.
struct Contender {
    name: &'static str,
    process: Process,
    readers: Readers,
    /// For each pace: requests that fill a window, and what each round came to.
    paces: [Measured; 2],
}

#[derive(Clone, Debug, Default)]
struct Measured {
    requests: usize,
    rounds: Vec<Cost>,
}

/// Nanoseconds for each delivery.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: f64,
    wall: f64,
}

impl Settings {
    fn read() -> Settings {
        Settings {
            streams: number("DOWNPOUR_BENCH_STREAMS", 1000),
            event_bytes: number("DOWNPOUR_BENCH_EVENT_BYTES", 64),
            rounds: number("DOWNPOUR_BENCH_ROUNDS", 15),
            window: Duration::from_millis(number("DOWNPOUR_BENCH_WINDOW_MS", 200) as u64),
        }
    }

    /// The data of every event.
    fn data(self) -> String {
        format!("{}{}", "x".repeat(self.event_bytes - 1), char::from(MARK))
    }

    fn paces(self) -> [Pace; 2] {
        let envelope = format!("{{\"channel\":\"a\",\"data\":\"{}\"}}", self.data());
        let request = |kind: &str, body: &str| {
            let length = body.len();
            format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/{kind}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes()
        };
        let single = Pace { request: request("json", &envelope), events: 1, under_way_max: 1 };
        let several = Pace {
            request: request("x-ndjson", &format!("{envelope}\n").repeat(SEVERAL_EVENTS)),
            events: SEVERAL_EVENTS,
            under_way_max: SEVERAL_UNDER_WAY,
        };
        [single, several]
    }
}

/// A positive number from the environment.
fn number(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return default };
    match text.parse() {
        Ok(number) if number > 0 => number,
        _ => panic!("{name} is {text:?}: a number from 1 on was expected"),
    }
}

/// Builds the peers as the server was built, beside it.
fn build_peers() -> PathBuf {
    let target = Path::new(DOWNPOUR).ancestors().nth(2).expect("binaries stand in a folder of the target's");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "downpour-peers", "--target-dir"]).arg(target);
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "the peers cannot be built");
    target.join("release/downpour-peers")
}

impl Contender {
    fn start(name: &'static str, process: Process, settings: Settings) -> Contender {
        let mut readers = Readers::open(process.address, settings.streams, &settings.paces());
        let paces = [UNBATCHED, SATURATED].map(|pace| {
            readers.run(pace, WARM_UP_REQUESTS); // The first ones are slow: nothing is warm.
            let began = Instant::now();
            readers.run(pace, WARM_UP_REQUESTS);
            let fitting =
                settings.window.as_nanos() * WARM_UP_REQUESTS as u128 / began.elapsed().as_nanos().max(1);
            let requests = usize::try_from(fitting).unwrap_or(REQUESTS_PER_WINDOW_MAX);
            Measured { requests: requests.clamp(1, REQUESTS_PER_WINDOW_MAX), rounds: Vec::new() }
        });
        Contender { name, process, readers, paces }
    }

    /// One window at this pace.
    fn measure(&mut self, pace: usize, settings: Settings) {
        let requests = self.paces[pace].requests;
        let deliveries = requests * settings.paces()[pace].events * settings.streams;
        let (cpu, wall) = (self.process.cpu_time(), Instant::now());
        self.readers.run(pace, requests);
        let wall = wall.elapsed();
        let cpu = self.process.cpu_time() - cpu;
        let for_each = |time: Duration| time.as_secs_f64() * 1e9 / deliveries as f64;
        self.paces[pace].rounds.push(Cost { cpu: for_each(cpu), wall: for_each(wall) });
    }
}

fn start_all(settings: Settings, pinning: Option<Pinning>, peers: &Path) -> Vec<Contender> {
    let data = settings.data();
    let frame = render(&mut Vec::new(), &Event::new(&data));
    let [single, several] = settings.paces().map(|pace| pace.request.len());
    let load = [frame.to - frame.from, single, several, SEVERAL_EVENTS].map(|number| number.to_string());
    let connections = (settings.streams + 16).to_string();
    let peer = |kind: &str| {
        let arguments: Vec<String> = [kind.to_owned()].into_iter().chain(load.clone()).collect();
        Process::start(pinning, peers, &arguments)
    };
    let own = |io: &str| {
        let options = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--keepalive", "0"];
        let options = options.into_iter().chain(["--io", io, "--max-connections", &connections]);
        Process::start(pinning, Path::new(DOWNPOUR), &options.map(String::from).collect::<Vec<_>>())
    };
    let mut contenders = Vec::new();
    let mut enter = |name, process| contenders.push(Contender::start(name, process, settings));
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

/// The table of one pace.
fn print_table(title: &str, pace: usize, contenders: &[Contender]) {
    let cpu_of = |name: &str| {
        let named = contenders.iter().find(|contender| contender.name == name);
        named.map(|contender| contender.paces[pace].rounds.iter().map(|cost| cost.cpu).collect::<Vec<_>>())
    };
    let limits = [cpu_of(BARE_SEND), cpu_of(BARE_RING)];
    println!("\n{title}: ns for each delivery, and CPU against the bare servers (median [quartiles])\n");
    println!(
        "{:20} {:>9} {:>9}   {:24} {:24}",
        "server", "CPU", "wall", "to bare send()", "to bare io_uring"
    );
    for contender in contenders {
        let rounds = &contender.paces[pace].rounds;
        let cpu = Quartiles::of(rounds.iter().map(|cost| cost.cpu)).median;
        let wall = Quartiles::of(rounds.iter().map(|cost| cost.wall)).median;
        let ratios = limits.each_ref().map(|limit| {
            let Some(limit) = limit else { return "-".to_owned() };
            Quartiles::of(rounds.iter().zip(limit).map(|(cost, limit)| cost.cpu / limit)).to_string()
        });
        println!("{:20} {cpu:9.1} {wall:9.1}   {:24} {:24}", contender.name, ratios[0], ratios[1]);
    }
}

fn main() {
    // `cargo test --all-targets` runs this too, without saying that it is to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("loopback measures under `cargo bench` alone");
        return;
    }
    let settings = Settings::read();
    let peers = build_peers();
    let files = raise_open_files_limit().expect("the limit on open files can be raised to what is allowed");
    let streams_max = files.saturating_sub(FILES_RESERVED) / CONTENDERS_MAX;
    assert!(
        settings.streams <= streams_max,
        "DOWNPOUR_BENCH_STREAMS is {}: the limit on open files ({files}) allows {streams_max} streams of each server",
        settings.streams
    );
    let pinning = Pinning::of(CPUS.0, CPUS.1);
    let Settings { streams, event_bytes, rounds, window } = settings;
    println!(
        "{streams} streams, events of {event_bytes} bytes, {rounds} rounds of {window:?} for each server and pace"
    );
    match pinning {
        Some(_) => println!("readers on CPU {}, servers on CPU {}", CPUS.0, CPUS.1),
        None => println!("without two CPUs and taskset: readers and servers are not kept apart"),
    }
    let mut contenders = start_all(settings, pinning, &peers);
    for round in 0..rounds {
        for pace in [UNBATCHED, SATURATED] {
            // Who comes first changes, so that no server always follows the same other one.
            for place in 0..contenders.len() {
                let next = (place + round) % contenders.len();
                contenders[next].measure(pace, settings);
            }
        }
    }
    print_table("unbatched", UNBATCHED, &contenders);
    print_table("saturated", SATURATED, &contenders);
}
