//! The servers that the benches `loopback` and `budgets` compare downpour with. Each listens on a free
//! port of 127.0.0.1, prints it on standard error, and is ended by a signal.
//!
//! `axum` is a whole application. The others do little but send: a connection with `GET` is a stream,
//! one with `POST` is a publisher. All requests of a publisher have the same length and the same number
//! of events.

mod accepting;
mod axum_app;
mod bare;
mod ring;
mod sendfile;
mod tasks;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

/// The lengths by which a server that parses nothing knows frames and requests.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// Bytes of a frame.
    frame_bytes: usize,
    /// Bytes of a request with one event.
    single_bytes: usize,
    /// Bytes of a request with several events.
    several_bytes: usize,
    /// The number of its events.
    several_events: usize,
}

/// The first bytes of a stream.
const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The answer to a publisher.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Most bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// The end of every event's data, and only there: readers count it.
const MARK: u8 = b'|';

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const USAGE: &str = "usage: downpour-peers send|single|sendfile|ring|tokio-uring|axum \
                     FRAME_BYTES SINGLE_BYTES SEVERAL_BYTES SEVERAL_EVENTS | accept ANSWER_BYTES";

impl Lengths {
    fn parse(words: &[String]) -> Option<Lengths> {
        let numbers: Option<Vec<usize>> = words.iter().map(|word| usize::from_str(word).ok()).collect();
        let &[frame_bytes, single_bytes, several_bytes, several_events] = numbers?.as_slice() else {
            return None;
        };
        let is_sound = [frame_bytes, single_bytes, several_events].iter().all(|&number| number > 0);
        (is_sound && several_bytes > 0).then_some(Lengths {
            frame_bytes,
            single_bytes,
            several_bytes,
            several_events,
        })
    }

    /// `count` frames, one after the other.
    fn frames(&self, count: usize) -> Vec<u8> {
        let mut frame = vec![b'x'; self.frame_bytes];
        if let Some(last) = frame.last_mut() {
            *last = MARK;
        }
        frame.repeat(count)
    }
}

/// Counts the requests of one publisher, by their length alone.
#[derive(Debug)]
struct Requests {
    /// Bytes of each.
    bytes: usize,
    /// Events of each.
    events: usize,
    /// Bytes of an incomplete request.
    rest: usize,
}

/// Complete requests.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    requests: usize,
    events: usize,
}

impl Requests {
    /// The requests of a publisher that begins with these bytes. Those with several events have bodies
    /// of lines.
    fn of(first: &[u8], load: &Lengths) -> Requests {
        let has_several = first.windows(6).any(|bytes| bytes == b"ndjson");
        let (bytes, events) =
            if has_several { (load.several_bytes, load.several_events) } else { (load.single_bytes, 1) };
        Requests { bytes, events, rest: 0 }
    }

    /// Counts `bytes` more bytes.
    fn take(&mut self, bytes: usize) -> Published {
        let requests = (self.rest + bytes) / self.bytes;
        self.rest = (self.rest + bytes) % self.bytes;
        Published { requests, events: requests * self.events }
    }
}

fn say_address(address: SocketAddr) {
    eprintln!("listening on {address}");
}

/// Runs the server that these words name; `None` if they name none.
fn serve(words: &[String]) -> Option<io::Result<()>> {
    let (kind, rest) = words.split_first()?;
    if kind == "accept" {
        let [answer_bytes] = rest else { return None };
        return Some(accepting::serve(answer_bytes.parse().ok()?));
    }
    let load = Lengths::parse(rest)?;
    Some(match kind.as_str() {
        "send" => bare::serve(load, false, &mut bare::send_loop),
        "single" => bare::serve(load, true, &mut bare::send_loop),
        "sendfile" => sendfile::MemoryFile::new()
            .and_then(|mut file| bare::serve(load, false, &mut |s, f| file.send_all(s, f))),
        "ring" => {
            ring::Ring::new().and_then(|mut ring| bare::serve(load, false, &mut |s, f| ring.send_all(s, f)))
        }
        "tokio-uring" => tasks::serve(load),
        "axum" => axum_app::serve(),
        _ => return None,
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match serve(&words) {
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("downpour-peers {}: {error}", words[0]);
            ExitCode::FAILURE
        }
    }
}
