//! How long a turn of a shard takes in which as many keepalives are due as one turn sends, with sockets.
//!
//! The streams of a shard on this thread opened at the same time. Its clock is an argument, so the bench
//! moves it on, and all keepalives are due at once. Each turn sends some of them. With `--bench` it
//! prints a Markdown table; otherwise it runs once with few streams. See `docs/benchmarks/benches.md`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use downpour::api::ApiOptions;
use downpour::base::id::EpochTag;
use downpour::base::mailbox::{Receiver, Wake};
use downpour::base::random::SplitMix64;
use downpour::conn::ConnOptions;
use downpour::driver::Driver;
use downpour::driver::epoll::EpollDriver;
use downpour::driver::socket::{Listener, SocketOptions, bind};
use downpour::driver::uring::{PreparedUring, prove};
use downpour::frame::outbox::OutboxLimits;
use downpour::http::{HttpDate, http_date};
use downpour::log::memory::MemoryLog;
use downpour::shard::core::{Core, CoreOptions};
use downpour::shard::{Message, Shard, ShardOptions};

use downpour_load::measuring::is_asked_to_measure;
use downpour_load::stopwatch::Stopwatch;

const KEEPALIVE: Duration = Duration::from_secs(15);

/// The streams, and how often the keepalives of all of them are due.
#[derive(Clone, Copy, Debug)]
struct Size {
    streams: usize,
    rounds: u32,
}

/// A shard on this thread, and the clients of its streams.
struct Server<D: Driver> {
    shard: Shard<D>,
    clients: Vec<TcpStream>,
    now: Instant,
    date: HttpDate,
}

impl<D: Driver> Server<D> {
    fn open(driver: D, core: Core, mailbox: Receiver<Message>, address: SocketAddr, size: Size) -> Server<D> {
        let now = Instant::now();
        let random = Box::new(SplitMix64::new(1));
        let shard = Shard::new(options(size.streams), driver, core, mailbox, random, now);
        let date = http_date(SystemTime::UNIX_EPOCH);
        let mut server = Server { shard, clients: Vec::new(), now, date };
        for _ in 0..size.streams {
            let mut client = TcpStream::connect(address).expect("the listener's backlog has room");
            client
                .write_all(b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("a socket has room");
            client.set_nonblocking(true).expect("a socket can be made so");
            server.clients.push(client);
            server.turn();
        }
        // Until each has its head and its first event.
        let mut left: Vec<usize> = (0..size.streams).collect();
        while !left.is_empty() {
            server.turn();
            left.retain(|&client| server.read(client) == 0);
        }
        server
    }

    /// One turn with the wait before it, in which io_uring takes the sends of the turn before. The
    /// bench's time says that something is due, so the wait does not sleep.
    fn turn(&mut self) {
        self.shard.wait(self.now + Duration::from_secs(3600)).expect("a driver can wait");
        self.shard.turn(self.now, self.date);
    }

    /// Lets the keepalives of all streams be due `rounds` times. Returns how long each turn took in
    /// which as many were sent as in any, and their number.
    fn time(&mut self, rounds: u32) -> (usize, Vec<Duration>) {
        let stopwatch = Stopwatch::new();
        let mut turns: Vec<(usize, Duration)> = Vec::new();
        for _ in 0..rounds {
            self.now += KEEPALIVE + Duration::from_secs(1);
            let mut left = self.clients.len();
            while left > 0 {
                let ((), time) = stopwatch.time(|| self.turn());
                let sent = (0..self.clients.len()).filter(|&client| self.read(client) > 0).count();
                left -= sent;
                turns.push((sent, time));
            }
        }
        let most = turns.iter().map(|&(sent, _)| sent).max().unwrap_or(0);
        let mut times: Vec<Duration> =
            turns.into_iter().filter(|&(sent, _)| sent == most).map(|(_, time)| time).collect();
        times.sort_unstable();
        (most, times)
    }

    fn read(&mut self, client: usize) -> usize {
        let mut bytes = [0; 4096];
        self.clients[client].read(&mut bytes).unwrap_or(0)
    }
}

fn options(streams: usize) -> ShardOptions {
    ShardOptions {
        conn: ConnOptions {
            keepalive: Some(KEEPALIVE),
            head_timeout: Duration::from_secs(10),
            outbox: OutboxLimits { bytes_max: 256 * 1024, frames_max: 1024 },
            ..ConnOptions::default()
        },
        api: vec![ApiOptions { stream_channels_max: 16, ..ApiOptions::default() }],
        connections_max: streams,
        retry: Duration::from_secs(3),
        ..ShardOptions::default()
    }
}

/// Opens a shard with the driver that `start` makes, and times it.
fn time<D: Driver>(
    size: Size,
    waker: Arc<dyn Wake>,
    address: SocketAddr,
    start: impl FnOnce() -> D,
) -> (usize, Vec<Duration>) {
    let (core, mut mailboxes) = Core::new(&CoreOptions::default(), [waker], None, |_, sink| {
        Arc::new(MemoryLog::new(EpochTag::from_bits(1), sink))
    });
    let mailbox = mailboxes.pop().expect("there is one shard");
    Server::open(start(), core, mailbox, address, size).time(size.rounds)
}

fn listen() -> (Listener, SocketAddr) {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), &SocketOptions::default()).expect("a free port");
    let address = listener.address().expect("it listens on TCP");
    (listener, address)
}

fn epoll(size: Size) -> (usize, Vec<Duration>) {
    let (listener, address) = listen();
    let driver = EpollDriver::new(vec![listener]).expect("every Linux has epoll");
    time(size, driver.waker(), address, || driver)
}

/// `None` without io_uring.
fn uring(size: Size) -> Option<(usize, Vec<Duration>)> {
    let (listener, address) = listen();
    let files = u32::try_from(2 * size.streams + 1024).expect("streams are few");
    let prepared = PreparedUring::new(vec![listener], files, prove().ok()?).ok()?;
    let waker = prepared.waker();
    Some(time(size, waker, address, || prepared.start().expect("the ring can be enabled")))
}

fn main() {
    let is_measured = is_asked_to_measure("keepalives");
    let size =
        if is_measured { Size { streams: 1024, rounds: 250 } } else { Size { streams: 130, rounds: 2 } };
    println!("| driver | keepalives of a turn | turns | median, µs | p99, µs | longest, µs |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (driver, timed) in [("epoll", Some(epoll(size))), ("io_uring", uring(size))] {
        let Some((sent, times)) = timed else {
            println!("| {driver} | cannot be used here | | | | |");
            continue;
        };
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1e6;
        println!("| {driver} | {sent} | {} | {:.0} | {:.0} | {:.0} |", times.len(), at(50), at(99), at(100));
    }
}
