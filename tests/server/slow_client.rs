//! Clients that do not read. They cost bounded memory, delay nobody, and get the retained events once
//! they read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::{Client, DriverKind, EventStream, MIB, Server, for_each_driver, number, wait_for};

for_each_driver!(
    a_client_that_reads_late_gets_every_retained_event_in_order,
    a_client_that_reads_too_late_gets_one_gap_of_exact_size_and_the_rest_in_order,
    a_thousand_slow_clients_cost_no_more_than_the_history,
);

/// Bytes of one event's data.
const EVENT_BYTES: usize = 16 * 1024;

/// Events in each published array.
const BATCH_EVENTS: usize = 32;

/// How many events the publisher may be ahead of the reading client: less than any history here holds.
const AHEAD_MAX: usize = 8 * BATCH_EVENTS;

/// The receive buffer of a client that does not read, so that the kernel is known to hold little.
const RECEIVE_BYTES: usize = 8 * 1024;

/// Opens a stream of channel `a` and does not read it.
fn open_unread(server: &Server, source: [u8; 4]) -> Client {
    let mut client = Client::connect_as(server, source, Some(RECEIVE_BYTES));
    client.send("GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client
}

/// Waits until the channel has this many streams.
fn wait_for_streams(server: &Server, channel: &str, streams: u64) {
    let mut client = Client::connect(server);
    wait_for("the streams to be subscribed", || {
        (client.publish_text(channel, "probe").1 == streams).then_some(())
    });
}

fn data_of(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(EVENT_BYTES - 8))
}

/// Publishes `events` events to channel `a` while another client reads them all. Each publish is
/// answered although other subscribers do not read. The publisher keeps to the pace of the reading
/// client.
fn publish_to_a_reader(server: &Server, events: usize) {
    let mut reader = EventStream::open(server, "/channels/a");
    reader.expect("connected");
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = None;
            for at in 0..events {
                let event = reader.expect("message");
                assert_eq!(event.data.get(..8), Some(&*format!("{at:08}")), "the reader misses nothing");
                let number = number(&event.id);
                assert!(last.is_none_or(|last| number == last + 1));
                last = Some(number);
                read.store(at + 1, Ordering::Release);
            }
        });
        let mut publisher = Client::connect(server);
        for first in (0..events).step_by(BATCH_EVENTS) {
            let envelopes: Vec<serde_json::Value> = (first..events.min(first + BATCH_EVENTS))
                .map(|at| serde_json::json!({"channel": "a", "text": data_of(at)}))
                .collect();
            let ids = publisher.publish(&serde_json::to_string(&envelopes).unwrap());
            assert_eq!(ids.len(), envelopes.len());
            wait_for("the reader", || (read.load(Ordering::Acquire) + AHEAD_MAX > first).then_some(()));
        }
    });
    assert_eq!(read.into_inner(), events);
}

/// The events that a slow client saw once it read.
#[derive(Debug, Default)]
struct Account {
    seen: u64,
    missed: u64,
    gaps: usize,
}

/// Reads to event `last`, in order, with at most one gap, whose size must be exact.
fn read_all(client: Client, last: usize) -> Account {
    let mut stream = EventStream::asked(client, "");
    let begin = number(&stream.expect("connected").id);
    let (mut account, mut place) = (Account::default(), begin);
    loop {
        let event = stream.next().unwrap();
        match &*event.kind {
            "message" => {
                account.seen += 1;
                place += 1;
                assert_eq!(number(&event.id), place, "in order, and nothing is missing but what was told");
                if event.data.starts_with(&format!("{last:08}")) {
                    return account;
                }
            }
            "gap" => {
                let gap: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!(gap["reason"], "slow-consumer");
                assert_eq!(number(gap["lastEventId"].as_str().unwrap()), place);
                account.gaps += 1;
                account.missed += gap["missed"].as_u64().expect("exact for a live stream of one channel");
                place += gap["missed"].as_u64().unwrap();
            }
            other => panic!("unexpected {other}: {event:?}"),
        }
    }
}

/// Publishes 200 MB past one client that does not read, and then lets it read.
fn publish_past_one_client(io: DriverKind, history_mib: u64) -> Account {
    let events = 200 * 1000 * 1000 / EVENT_BYTES;
    let history = format!("{history_mib}MiB");
    let server =
        Server::start(io, &["--history-bytes", &history, "--history-events", "1000000", "--keepalive", "0"]);
    let slow = open_unread(&server, [127, 0, 0, 1]);
    wait_for_streams(&server, "a", 1);
    let before = server.memory().rss;
    publish_to_a_reader(&server, events);
    let (after, peak) = (server.memory().rss, server.peak_rss());
    println!(
        "200 MB past a client that does not read, history of {history}: resident {} KiB before, {} KiB after, {} KiB at \
         the most",
        before / 1024,
        after / 1024,
        peak / 1024
    );
    assert!(peak < (history_mib + 64) * MIB, "memory is bounded by the history's");
    let account = read_all(slow, events - 1);
    println!("once it read: {account:?}");
    account
}

fn a_client_that_reads_late_gets_every_retained_event_in_order(io: DriverKind) {
    let account = publish_past_one_client(io, 256);
    assert_eq!((account.gaps, account.missed), (0, 0));
}

fn a_client_that_reads_too_late_gets_one_gap_of_exact_size_and_the_rest_in_order(io: DriverKind) {
    let account = publish_past_one_client(io, 32);
    assert_eq!(account.gaps, 1);
    let retained = account.seen * EVENT_BYTES as u64;
    assert!(retained > 24 * MIB, "most of what the history may hold was still there: {retained} bytes");
}

fn a_thousand_slow_clients_cost_no_more_than_the_history(io: DriverKind) {
    const CLIENTS: usize = 1000;
    /// The number of clients that read in the end.
    const READERS: usize = 40;
    let events = 20 * 1000 * 1000 / EVENT_BYTES;
    let server = Server::start(io, &["--history-bytes", "8MiB", "--keepalive", "0"]);
    let slow: Vec<Client> = (0..CLIENTS).map(|_| open_unread(&server, [127, 0, 0, 2])).collect();
    wait_for_streams(&server, "a", CLIENTS as u64);
    publish_to_a_reader(&server, events);
    let peak = server.peak_rss();
    println!("20 MB past a thousand clients that do not read: resident {} KiB at the most", peak / 1024);
    assert!(peak < (8 + 64) * MIB);
    for client in slow.into_iter().step_by(CLIENTS / READERS) {
        let account = read_all(client, events - 1);
        assert_eq!(account.gaps, 1, "{account:?}");
    }
}
