//! CPU for a connect: from the accept until the `connected` event is sent, with the work that the server
//! delays until then.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Bench;
use crate::report::{Figure, Report};
use downpour_load::load::Load;
use downpour_load::server::Server;
use downpour_load::window::{Pairs, Window};

/// Connections that wait, with their requests sent, when the server resumes: as many as any listener's
/// backlog holds. So the server's work is measured, and not how often it falls asleep and is woken.
const LOT: usize = 100;

/// Lots of a window, and of the warm-up.
const LOTS: usize = 20;

const TO_BARE_MAX: f64 = 1.3;

/// The end of an answer: that of the first chunk, with the `connected` event.
const END: &[u8] = b"\n\n\r\n";

/// How long a server without work uses no CPU time.
const QUIET: Duration = Duration::from_millis(10);

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let own = bench.drivers.iter().map(|driver| bench.servers.own(driver.io, 1, 2 * LOTS * LOT));
    let mut servers: Vec<Server> = own.collect();
    let answer_bytes = begin(servers[0].address, 1).iter_mut().map(read_answer).sum::<usize>();
    servers.push(bench.servers.peer("accept", &[answer_bytes.to_string()]));
    for server in &servers {
        connect(server);
    }
    let mut windows = vec![Vec::new(); servers.len()];
    for round in 0..2 * bench.rounds {
        for place in 0..servers.len() {
            let next = (place + round) % servers.len();
            windows[next].push(connect(&servers[next]));
        }
    }
    let limit = windows.pop().expect("the bare server is the last");
    let micros = |windows: &[Window]| {
        let sum: f64 = windows.iter().map(Window::cpu_ns).sum();
        sum / windows.len() as f64 / 1000.0
    };
    for (&driver, windows) in bench.drivers.iter().zip(windows) {
        let note = format!("{:.1} µs to {:.1} µs", micros(&windows), micros(&limit));
        let figure = Figure::of_pairs(Pairs::of(&windows, &limit), TO_BARE_MAX, &note);
        report.add("CPU for a connect, to a bare accept, receive and send", driver, figure);
    }
}

/// A window. It ends when all are answered; the ends of the connections are not in it.
fn connect(server: &Server) -> Window {
    let mut opened = Vec::with_capacity(LOTS * LOT);
    let lots = (0..LOTS).map(|_| {
        signal(server, "-STOP");
        let mut begun = begin(server.address, LOT);
        let mut wall = Duration::ZERO;
        let window = Window::of(server, || {
            signal(server, "-CONT"); // That time is not in the wall time.
            let began = Instant::now();
            for stream in &mut begun {
                read_answer(stream);
            }
            wall = began.elapsed();
            // The kernel counts a running thread's time only up to its last tick.
            settle(server);
            begun.len()
        });
        opened.append(&mut begun);
        Window { wall, ..window }
    });
    let window = lots.reduce(both).expect("there are lots");
    drop(opened);
    // A `POST` makes the bare server close its streams. For the others it is a failed health check.
    let mut closing = TcpStream::connect(server.address).expect("the server takes connections");
    closing.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").expect("and reads");
    drop(closing);
    settle(server);
    window
}

/// Both windows together.
fn both(one: Window, other: Window) -> Window {
    Window {
        cpu: one.cpu + other.cpu,
        wall: one.wall + other.wall,
        dropped: one.dropped + other.dropped,
        count: one.count + other.count,
        ..one
    }
}

/// Stops or resumes the server.
fn signal(server: &Server, name: &str) {
    let status = Command::new("kill").args([name, &server.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name} reaches the server");
}

/// Returns when the server has no work left, judging by its CPU time.
pub(crate) fn settle(server: &Server) {
    let mut before = server.cpu_time();
    loop {
        thread::sleep(QUIET);
        let now = server.cpu_time();
        if now == before {
            return;
        }
        before = now;
    }
}

/// `count` connections that have each asked for a stream.
fn begin(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let request = Load::new(1, 1).stream_request(0);
    let begun = (0..count).map(|_| {
        let mut stream =
            TcpStream::connect_timeout(&address, PATIENCE).expect("the kernel takes a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        // It ends with a reset, so that no port waits for a peer that is gone.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket may end by a reset");
        stream.write_all(request.as_bytes()).expect("a request fits the socket");
        stream
    });
    begun.collect()
}

/// Reads until the `connected` event is complete. Returns the number of bytes.
fn read_answer(stream: &mut TcpStream) -> usize {
    let (mut answer, mut bytes) = ([0; 4096], 0);
    while !answer[..bytes].ends_with(END) {
        let more = stream.read(&mut answer[bytes..]).expect("the server answers");
        assert!(more > 0, "the server ended a stream: {}", String::from_utf8_lossy(&answer[..bytes]));
        bytes += more;
    }
    bytes
}
