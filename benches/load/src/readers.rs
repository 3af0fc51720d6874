//! The other side of a server: one thread that reads streams as fast as they come, and publishes to
//! them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use downpour::driver::source::leave_port_to_connect;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::load::{Load, MARK, Publishing, UNBATCHED};

/// How long nothing may come before a server is given up.
const PATIENCE: Duration = Duration::from_secs(30);

const READ_BYTES: usize = 256 * 1024;

/// Streams of one server, and publishers to it, one for each pace.
pub struct Readers {
    address: SocketAddr,
    paces: Vec<Publishing>,
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    publishers: Vec<Option<PacedPublisher>>,
    buffer: Vec<u8>,
}

struct Stream {
    socket: TcpStream,
    /// Events of the current run that it has received.
    received: usize,
}

struct PacedPublisher {
    socket: TcpStream,
    pace: Publishing,
    /// As many requests as may be under way, one after the other.
    requests: Vec<u8>,
    /// Bytes of requests still to be written.
    unwritten: usize,
}

/// The deliveries of a run.
struct Run {
    /// Requests that all streams have received.
    delivered: usize,
    /// For each request under way, by its number modulo their maximum: the streams that have received
    /// it.
    receivers: Vec<usize>,
    /// When the only request under way was due, if latencies are taken, and those so far.
    due: Option<Instant>,
    latencies: Vec<Duration>,
}

impl Readers {
    /// Opens the streams from this address.
    pub fn open(address: SocketAddr, source: Ipv4Addr, load: &Load) -> Readers {
        let poll = Poll::new().expect("epoll is there");
        let opened = (0..load.streams).map(|token| {
            let request = load.stream_request(token);
            let socket = open_stream(address, source, &request).expect("the server takes a stream");
            let mut socket = TcpStream::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(token), Interest::READABLE)
                .expect("there is room for a socket");
            Stream { socket, received: 0 }
        });
        let streams = opened.collect::<Vec<_>>();
        let paces = load.paces();
        let publishers = paces.iter().map(|_| None).collect();
        Readers {
            address,
            paces,
            poll,
            events: Events::with_capacity(1024),
            streams,
            publishers,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Connects the publisher of this pace, if there is none yet: a server does not wait long for a
    /// first request.
    fn connect_publisher(&mut self, number: usize) {
        if self.publishers[number].is_some() {
            return;
        }
        let pace = self.paces[number].clone();
        let socket = connect(self.address).expect("the server takes a publisher");
        let mut socket = TcpStream::from_std(socket);
        let (token, interest) = (Token(self.streams.len() + number), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut socket, token, interest).expect("there is room for a socket");
        let requests = pace.request.repeat(pace.under_way_max);
        self.publishers[number] = Some(PacedPublisher { socket, pace, requests, unwritten: 0 });
    }

    /// Publishes `requests` requests at the pace of this number. Returns when all streams have received
    /// all of them.
    ///
    /// # Panics
    /// If nothing comes for 30 seconds, or a connection ends.
    pub fn run(&mut self, pace: usize, requests: usize) {
        let mut run = self.begin(pace);
        let under_way_max = self.paces[pace].under_way_max;
        let mut published = 0;
        while run.delivered < requests {
            let room = (run.delivered + under_way_max).min(requests) - published;
            if room > 0 {
                published += room;
                self.publish(pace, room);
            }
            self.wait(pace, &mut run);
        }
    }

    /// Publishes `events` events, one every `interval` unless a stream has yet to receive the one before.
    /// Returns the latency of each delivery: from when its event was due until its stream was read.
    ///
    /// # Panics
    /// As [`run`](Readers::run).
    pub fn run_at(&mut self, interval: Duration, events: usize) -> Vec<Duration> {
        let mut run = self.begin(UNBATCHED);
        run.latencies.reserve(events * self.streams.len());
        let mut due = Instant::now();
        for event in 0..events {
            due += interval;
            while Instant::now() < due {
                thread::yield_now(); // For servers and readers on one CPU.
            }
            run.due = Some(due);
            self.publish(UNBATCHED, 1);
            while run.delivered <= event {
                self.wait(UNBATCHED, &mut run);
            }
        }
        run.latencies
    }

    fn begin(&mut self, pace: usize) -> Run {
        self.streams.iter_mut().for_each(|stream| stream.received = 0);
        self.connect_publisher(pace);
        let receivers = vec![0; self.paces[pace].under_way_max];
        Run { delivered: 0, receivers, due: None, latencies: Vec::new() }
    }

    fn publish(&mut self, pace: usize, requests: usize) {
        let publisher = self.publishers[pace].as_mut().expect("it was connected");
        publisher.publish(requests).expect("the server reads requests");
    }

    /// Never sleeps. Waking a reader costs a server half as much again as a send. Whether readers fall
    /// asleep between two sends depends on very little, so only some starts of a server would pay for
    /// it.
    fn wait(&mut self, pace: usize, run: &mut Run) {
        let began = Instant::now();
        loop {
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => polled.expect("epoll waits"),
            }
            if !self.events.is_empty() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "nothing came for {PATIENCE:?}: events were lost");
            thread::yield_now(); // For servers and readers on one CPU.
        }
        let count = self.streams.len();
        for event in &self.events {
            let token = event.token().0;
            let Some(stream) = self.streams.get_mut(token) else {
                let publisher =
                    self.publishers[token - count].as_mut().expect("it has events as it is there");
                publisher.go_on(&mut self.buffer).expect("the server answers");
                continue;
            };
            let marks = stream.read(&mut self.buffer).expect("the server keeps its streams");
            let events = self.paces[pace].events;
            let before = stream.received / events;
            stream.received += marks;
            run.note(before..stream.received / events, count);
        }
    }
}

impl Run {
    /// Notes that one of `streams` has received these requests.
    fn note(&mut self, requests: std::ops::Range<usize>, streams: usize) {
        let places = self.receivers.len();
        for request in requests {
            self.latencies.extend(self.due.map(|due| due.elapsed()));
            assert!(request < self.delivered + places, "an event came that was not published");
            self.receivers[request % places] += 1;
        }
        while self.receivers[self.delivered % places] == streams {
            self.receivers[self.delivered % places] = 0;
            self.delivered += 1;
        }
    }
}

impl Stream {
    /// Reads available bytes. Returns how many events end in them.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut marks = 0;
        loop {
            let bytes = match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(marks),
                Err(error) => return Err(error),
            };
            marks += memchr::memchr_iter(MARK, &buffer[..bytes]).count();
            if bytes < buffer.len() {
                return Ok(marks); // A short read has emptied the socket (epoll(7)).
            }
        }
    }
}

impl PacedPublisher {
    fn publish(&mut self, requests: usize) -> io::Result<()> {
        self.unwritten += requests * self.pace.request.len();
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let len = self.pace.request.len();
        while self.unwritten > 0 {
            // All requests are the same. The rest of a partly written one comes first.
            let from = len - 1 - (self.unwritten - 1) % len;
            let to = self.requests.len().min(from + self.unwritten);
            match self.socket.write(&self.requests[from..to]) {
                Ok(bytes) => self.unwritten -= bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes on, and reads answers.
    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.write()?;
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    let refused = [b"HTTP/1.1 4", b"HTTP/1.1 5"]
                        .iter()
                        .any(|refused| buffer[..bytes].starts_with(*refused));
                    if refused {
                        return Err(io::Error::other(String::from_utf8_lossy(&buffer[..bytes])));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let socket = std::net::TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a stream, and waits until its response has begun: it receives all later events. It ends with a
/// reset, so that no port waits for a peer that is gone.
fn open_stream(address: SocketAddr, source: Ipv4Addr, request: &str) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    leave_port_to_connect(&socket)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    let mut socket = std::net::TcpStream::from(socket);
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    let mut head = [0; 4096];
    let bytes = socket.read(&mut head)?;
    if !head[..bytes].starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head[..bytes])));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const STREAMS: usize = 3;
    const DELAY: Duration = Duration::from_millis(5);

    /// Takes streams and one publisher, and sends each event to all streams `DELAY` after its request.
    fn serve(listener: &TcpListener) {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            streams.push(stream);
        }
        let (mut publisher, _) = listener.accept().unwrap();
        // Requests come one by one, each in one write.
        while publisher.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {
            publisher.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            thread::sleep(DELAY);
            streams.iter_mut().for_each(|stream| stream.write_all(&[b'x', MARK]).unwrap());
        }
    }

    #[test]
    fn every_delivery_of_a_run_at_a_rate_has_its_latency() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(&listener));
        let mut readers = Readers::open(address, Ipv4Addr::LOCALHOST, &Load::new(STREAMS, 2));
        readers.run(UNBATCHED, 2);
        let latencies = readers.run_at(Duration::from_millis(1), 4);
        assert_eq!(latencies.len(), 4 * STREAMS);
        // Events are due every ms, and each waits for the one before.
        for (event, latencies) in latencies.chunks(STREAMS).enumerate() {
            let least = DELAY * (event as u32 + 1) - Duration::from_millis(event as u64);
            assert!(latencies.iter().all(|latency| *latency >= least), "event {event}: {latencies:?}");
        }
        drop(readers);
        assert!(server.join().is_ok());
    }
}
