//! Publishing without subscribers: events of NDJSON, and requests of one event each, one after the
//! other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::report::{Budget, Figure, Report, Unit};
use crate::{Bench, Driver};
use downpour_load::load::post;
use downpour_load::server::Server;
use downpour_load::statistics::Interval;
use downpour_load::window::{Window, fitting};

const EVENT_BYTES: usize = 64;

/// Events of one request of NDJSON.
const BATCHES: [usize; 2] = [64, 1000];

const LINES_MIN: f64 = 400_000.0;
const REQUESTS_MIN: f64 = 250_000.0;

const WARM_UP_EVENTS: usize = 64_000;

/// Bytes of requests written at a time.
const WRITE_BYTES: usize = 64 * 1024;

const PATIENCE: Duration = Duration::from_secs(30);

/// The beginning of every answer to a publish.
const PUBLISHED: &[u8] = b"HTTP/1.1 200 OK";

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let data = "x".repeat(EVENT_BYTES);
    let envelope = format!("{{\"channel\":\"a\",\"data\":\"{data}\"}}");
    for batch in BATCHES {
        let request = post("x-ndjson", &format!("{envelope}\n").repeat(batch));
        let what = format!("events published as NDJSON, {batch} a request, for each second of CPU");
        for &driver in &bench.drivers {
            rate(bench, report, &what, driver, &request, batch, Window::cpu_ns, LINES_MIN);
        }
    }
    let request = post("json", &envelope);
    for &driver in &bench.drivers {
        let what = "requests of one event each, pipelined, a second";
        rate(bench, report, what, driver, &request, 1, Window::wall_ns, REQUESTS_MIN);
    }
}

/// One row: the time for each event.
#[expect(
    clippy::too_many_arguments,
    reason = "a row has as many sides, and no two rows share a part of them"
)]
fn rate(
    bench: &Bench,
    report: &mut Report,
    what: &str,
    driver: Driver,
    request: &[u8],
    events: usize,
    ns: fn(&Window) -> f64,
    at_least: f64,
) {
    let server = bench.servers.own(driver.io, 1, 1);
    let few = WARM_UP_EVENTS / events;
    publish(&server, request, few);
    let began = Instant::now();
    publish(&server, request, few);
    let requests = fitting(bench.window, few, began.elapsed());
    let windows = (0..bench.rounds).map(|_| {
        Window::of(&server, || {
            publish(&server, request, requests);
            requests * events
        })
    });
    let windows: Vec<Window> = windows.collect();
    let sound = || windows.iter().filter(|window| !window.is_disturbed());
    let thrown = windows.len() - sound().count();
    let median = |ns: fn(&Window) -> f64| {
        Interval::of(windows.iter().map(|window| 1e9 / ns(window))).map_or(0.0, |rates| rates.median)
    };
    let mut note = format!("{:.0} of CPU, {:.0} of wall", median(Window::cpu_ns), median(Window::wall_ns));
    if thrown > 0 {
        note += &format!(", {thrown} windows thrown away");
    }
    let interval = Interval::of(sound().map(|window| 1e9 / ns(window)));
    report.add(
        what,
        driver,
        Figure { interval, budget: Budget::AtLeast(at_least), unit: Unit::PerSecond, note },
    );
}

/// Publishes `requests` times over one connection. Returns when all are answered.
fn publish(server: &Server, request: &[u8], requests: usize) {
    let mut reader = connect(server.address);
    let mut writer = reader.try_clone().expect("a socket may have two descriptors");
    let at_once = (WRITE_BYTES / request.len()).max(1);
    let several = request.repeat(at_once);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = requests;
            while left > 0 {
                let next = left.min(at_once);
                writer.write_all(&several[..next * request.len()]).expect("the server reads requests");
                left -= next;
            }
        });
        read_answers(&mut reader, requests);
    });
}

/// Counts answers until there are `requests`.
fn read_answers(reader: &mut TcpStream, requests: usize) {
    let finder = memmem::Finder::new(PUBLISHED);
    let (mut buffer, mut kept, mut answers) = (vec![0; 256 * 1024], 0, 0);
    while answers < requests {
        let more = reader.read(&mut buffer[kept..]).expect("the server answers");
        assert!(more > 0, "the server ended the publisher's connection");
        let filled = kept + more;
        answers += finder.find_iter(&buffer[..filled]).count();
        // The beginning of an answer may be cut in two. Bytes that cannot be a counted one are kept.
        kept = filled.min(PUBLISHED.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("the server takes a publisher");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
    socket.set_nodelay(true).expect("a socket may send at once");
    socket
}
