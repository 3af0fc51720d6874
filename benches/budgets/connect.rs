//! CPU for a connect: from the accept until the `connected` event is sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Bench;
use crate::load::Load;
use crate::process::Process;
use crate::report::{Figure, Report};
use crate::window::{Pairs, Window, fitting};

/// Connections that are begun before the first of them is answered.
const LOT: usize = 64;

/// Connections of a window at the most: those of one source address, and open files of each side.
const CONNECTIONS_MAX: usize = 10_000;

const WARM_UP_CONNECTIONS: usize = 10 * LOT;

/// A window is short, as its connections are open at its end: more of them make up for that.
const ROUNDS_TIMES: usize = 2;

const TO_BARE_MAX: f64 = 1.3;

/// What ends an answer: the chunk of the `connected` event, which is the first.
const END: &[u8] = b"\n\n\r\n";

/// How long a server that has nothing left to do uses no CPU time.
const QUIET: Duration = Duration::from_millis(10);

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let own = bench.drivers.iter().map(|driver| bench.servers.own(driver.io, 1, CONNECTIONS_MAX));
    let mut servers: Vec<Process> = own.collect();
    let answer_bytes = open(servers[0].address, 1).1;
    servers.push(bench.servers.peer("accept", &[answer_bytes.to_string()]));
    let connections = servers.iter().map(|server| {
        connect(server, WARM_UP_CONNECTIONS);
        let began = Instant::now();
        connect(server, WARM_UP_CONNECTIONS);
        fitting(bench.window, WARM_UP_CONNECTIONS, began.elapsed()).min(CONNECTIONS_MAX)
    });
    let connections = connections.min().unwrap_or(WARM_UP_CONNECTIONS);
    let mut windows = vec![Vec::new(); servers.len()];
    for round in 0..ROUNDS_TIMES * bench.rounds {
        for place in 0..servers.len() {
            let next = (place + round) % servers.len();
            windows[next].push(connect(&servers[next], connections));
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

/// A window of so many connections. It ends when all are answered; their ends are no part of it.
fn connect(server: &Process, count: usize) -> Window {
    let mut opened = Vec::new();
    let window = Window::of(server, || {
        opened = open(server.address, count).0;
        count
    });
    drop(opened);
    // The bare server closes its streams when it is told to; for the others that is a health check gone wrong.
    let mut closing = TcpStream::connect(server.address).expect("the server takes connections");
    closing.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").expect("and reads");
    drop(closing);
    settle(server);
    window
}

/// Returns when the server has nothing left to do, as far as its CPU time tells.
pub(crate) fn settle(server: &Process) {
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

/// So many streams, and the bytes of the last answer.
fn open(address: SocketAddr, count: usize) -> (Vec<TcpStream>, usize) {
    let request = Load::new(1, 1).stream_request(0);
    let (mut opened, mut answer_bytes) = (Vec::with_capacity(count), 0);
    while opened.len() < count {
        let begun = opened.len();
        for _ in begun..count.min(begun + LOT) {
            let mut stream =
                TcpStream::connect_timeout(&address, PATIENCE).expect("the server takes a stream");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
            // Its end is a reset, so that no port waits for a peer that is gone.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket may end by a reset");
            stream.write_all(request.as_bytes()).expect("a request fits the socket");
            opened.push(stream);
        }
        for stream in &mut opened[begun..] {
            answer_bytes = read_answer(stream);
        }
    }
    (opened, answer_bytes)
}

/// Reads until the `connected` event has come whole, and returns how many bytes came.
fn read_answer(stream: &mut TcpStream) -> usize {
    let (mut answer, mut bytes) = ([0; 4096], 0);
    while !answer[..bytes].ends_with(END) {
        let more = stream.read(&mut answer[bytes..]).expect("the server answers");
        assert!(more > 0, "the server ended a stream: {}", String::from_utf8_lossy(&answer[..bytes]));
        bytes += more;
    }
    bytes
}
