//! Fifteen thousand idle streams in one process, and the cost of each.
//!
//! `cargo test --release --test scale idle_streams -- --nocapture` prints the figures.

use std::fs;
use std::sync::{Mutex, PoisonError};

use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver};
use downpour::driver::descriptors::raise_open_files_limit;

for_each_driver!(
    fifteen_thousand_idle_streams_cost_little_and_get_what_is_published,
    further_channels_of_a_stream_cost_little,
);

const STREAMS: usize = 15_000;

/// The clients of two cases together would exceed the open files of this process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Streams of one client address, well below its number of ports.
const STREAMS_PER_ADDRESS: usize = 5_000;

/// Most bytes of process memory for one idle stream: 256, and a share of the memory that becomes
/// resident with the first streams.
const STREAM_BYTES_MAX: f64 = 280.0;

/// Most bytes for each further channel of a stream with as many channels as measured here. From the
/// third channel on they need an allocation, of which this is a share.
const CHANNEL_BYTES_MAX: f64 = 16.0;

/// Most bytes for a user of its own for each stream.
const USER_BYTES_MAX: f64 = 64.0;

/// The share of each stream, with so few streams, in the memory that becomes resident with the first
/// ones. It is subtracted before a budget counts as missed.
const ONCE_BYTES_MAX: f64 = 6.0;

/// Streams whose further channels and users are measured, and their number of channels.
const STREAMS_OF_MANY: usize = 5_000;
const CHANNELS: usize = 9;

/// Memory of all TCP sockets of this network namespace, including the clients', in bytes
/// (`/proc/net/sockstat`).
fn socket_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let mut words = tcp.split(' ').skip_while(|word| *word != "mem");
    words.nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn fifteen_thousand_idle_streams_cost_little_and_get_what_is_published(io: DriverKind) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let descriptors_max = raise_open_files_limit().unwrap();
    assert!(
        descriptors_max > STREAMS + 100,
        "this process may open {descriptors_max} files, too few for {STREAMS} clients: raise `ulimit -Hn`"
    );
    let server = Server::start(io, &["--keepalive", "0"]);
    let open = |source: [u8; 4]| {
        let client = Client::connect_as(&server, source, None);
        let mut stream = EventStream::over(client, "GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n", "");
        stream.expect("connected");
        stream
    };
    // Memory that does not depend on the number of streams is not counted.
    drop(open([127, 0, 0, 1]));
    let mut publisher = Client::connect(&server);
    publisher.publish_text("a", "first");

    let (before, sockets_before) = (server.memory(), socket_bytes());
    let mut streams: Vec<EventStream> = Vec::with_capacity(STREAMS);
    for at in 0..STREAMS {
        let address = u8::try_from(at / STREAMS_PER_ADDRESS).unwrap();
        streams.push(open([127, 0, 1, 1 + address]));
    }
    let (after, sockets_after) = (server.memory(), socket_bytes());
    let each = |before: u64, after: u64| (after as f64 - before as f64) / STREAMS as f64;
    let (rss, pss) = (each(before.rss, after.rss), each(before.pss, after.pss));
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "{STREAMS} idle streams, {io:?}, {build} build: {rss:.0} B of RSS and {pss:.0} B of PSS for each (process: {} KiB \
         before, {} KiB with them); TCP buffers of both ends: {:.0} B for each",
        before.rss / 1024,
        after.rss / 1024,
        each(sockets_before, sockets_after)
    );
    assert!(rss <= STREAM_BYTES_MAX, "an idle stream costs {rss:.0} B");

    let (id, receivers) = publisher.publish_text("a", "to all");
    assert_eq!(receivers, STREAMS as u64);
    for stream in &mut streams {
        let event = stream.expect("message");
        assert_eq!((event.data, &event.id), ("to all".to_owned(), &id));
    }
    let sent = server.memory();
    println!("after one event to all of them: {:.0} B of RSS for each", each(before.rss, sent.rss));
    assert!(each(before.rss, sent.rss) <= STREAM_BYTES_MAX, "sending leaves nothing behind");
}

/// Bytes of RSS for each of many streams, opened with the target for the number of the stream.
fn bytes_of_streams(io: DriverKind, target: impl Fn(usize) -> String) -> f64 {
    let server = Server::start(io, &["--keepalive", "0"]);
    let open = |at| {
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target(at));
        let mut stream = EventStream::over(Client::connect(&server), &request, "");
        stream.expect("connected");
        stream
    };
    drop(open(0));
    let before = server.memory();
    let _streams: Vec<EventStream> = (0..STREAMS_OF_MANY).map(open).collect();
    (server.memory().rss as f64 - before.rss as f64) / STREAMS_OF_MANY as f64
}

fn further_channels_of_a_stream_cost_little(io: DriverKind) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    raise_open_files_limit().unwrap();
    let one = bytes_of_streams(io, |_| "/sse?channels=c0".to_owned());
    let two = bytes_of_streams(io, |_| "/sse?channels=c0,c1".to_owned());
    let names = (0..CHANNELS).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    let many = bytes_of_streams(io, |_| format!("/sse?channels={names}"));
    let shared_user = bytes_of_streams(io, |_| "/sse?channels=c0&userId=somebody".to_owned());
    let own_user = bytes_of_streams(io, |at| format!("/sse?channels=c0&userId=user-{at}"));
    let (further, user) = ((many - one) / (CHANNELS - 1) as f64, own_user - one);
    let verdict = |bytes: f64, most: f64| if bytes <= most { "holds" } else { "missed" };
    println!(
        "{STREAMS_OF_MANY} idle streams, {io:?}: the second channel costs {:.0} B, each further one of {CHANNELS} {further:.0} B \
         (at most {CHANNEL_BYTES_MAX:.0}: {}); a user of all streams {:.0} B for each, one of each stream {user:.0} B (at most \
         {USER_BYTES_MAX:.0}: {})",
        two - one,
        verdict(further, CHANNEL_BYTES_MAX),
        shared_user - one,
        verdict(user, USER_BYTES_MAX),
    );
    assert!(further <= CHANNEL_BYTES_MAX + ONCE_BYTES_MAX, "a further channel costs {further:.0} B");
    assert!(user <= USER_BYTES_MAX + ONCE_BYTES_MAX, "a user costs {user:.0} B");
}
