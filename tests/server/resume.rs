//! Resuming over real sockets. Nothing is lost, doubled or reordered where the history meets live
//! events, and missing events are reported.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::common::{Client, Dice, DriverKind, EventStream, Seen, Server, for_each_driver, number};

for_each_driver!(
    the_last_event_id_is_taken_from_the_header_or_the_query,
    a_resume_with_nothing_missed_is_caught_up_at_once,
    the_place_at_connect_can_be_resumed_from,
    one_id_resumes_several_channels_in_their_common_order,
    what_the_history_has_given_up_is_reported_as_one_gap,
    a_gap_of_one_of_several_channels_is_of_unknown_size,
    an_id_from_before_a_restart_is_known_to_be_unknown,
    http_1_0_resumes_as_well,
    random_reconnects_under_full_publishing_lose_double_and_reorder_nothing,
    a_stream_may_begin_with_what_is_retained,
);

/// Publishes `count` texts to `channel`, each with the number of the event. Returns their ids.
fn publish_numbers(client: &mut Client, channel: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| client.publish_text(channel, &at.to_string()).0).collect()
}

fn messages(stream: &mut EventStream, count: usize) -> Vec<String> {
    (0..count).map(|_| stream.message()).collect()
}

fn the_last_event_id_is_taken_from_the_header_or_the_query(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let ids = publish_numbers(&mut publisher, "a", 5);
    let cases = [
        ("/channels/a".to_owned(), Some(&ids[2])),
        (format!("/channels/a?lastEventId={}", ids[2]), None),
        (format!("/sse?channel=a&last_event_id={}", ids[2]), None),
        (format!("/events?channel=a&last_event_id={}", ids[0]), Some(&ids[2])),
    ];
    for (target, header) in &cases {
        let mut stream = match header {
            Some(id) => EventStream::resume(&server, target, id),
            None => EventStream::open(&server, target),
        };
        assert_eq!(stream.expect("connected").id, ids[2], "a stream that resumes is given its id back");
        assert_eq!(messages(&mut stream, 2), ["3", "4"], "{target}");
        assert_eq!(stream.expect("caught-up").data, r#"{"replayed":2,"complete":true}"#);
    }
}

fn a_resume_with_nothing_missed_is_caught_up_at_once(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let ids = publish_numbers(&mut publisher, "a", 3);
    let mut stream = EventStream::resume(&server, "/channels/a", &ids[2]);
    stream.expect("connected");
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":0,"complete":true}"#);
    publisher.publish_text("a", "live");
    assert_eq!(stream.message(), "live");
}

fn the_place_at_connect_can_be_resumed_from(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    let place = stream.expect("connected").id;
    assert_eq!(number(&place), 0);
    drop(stream);
    let mut publisher = Client::connect(&server);
    publish_numbers(&mut publisher, "a", 2);
    let mut stream = EventStream::resume(&server, "/channels/a", &place);
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 2), ["0", "1"]);
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":2,"complete":true}"#);
}

fn one_id_resumes_several_channels_in_their_common_order(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let ids = publisher.publish(
        r#"[{"channel":"a","data":0},{"channel":"b","data":1},{"channel":"c","data":2},
            {"channels":["b","a"],"data":3},{"channel":"b","data":4},{"channel":"a","data":5}]"#,
    );
    let mut stream = EventStream::resume(&server, "/sse?channels=a,b", &ids[0]);
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 4), ["1", "3", "4", "5"]);
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":4,"complete":true}"#);
    assert_eq!(stream.last_event_id(), ids[5]);
    // The id of an event on another channel is a valid place too.
    let mut stream = EventStream::resume(&server, "/channels/a", &ids[2]);
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 2), ["3", "5"]);
}

fn what_the_history_has_given_up_is_reported_as_one_gap(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "10"]);
    let mut publisher = Client::connect(&server);
    let ids = publish_numbers(&mut publisher, "a", 30);
    let mut stream = EventStream::resume(&server, "/channels/a", &ids[4]);
    stream.expect("connected");
    let gap: serde_json::Value = serde_json::from_str(&stream.expect("gap").data).unwrap();
    assert_eq!(gap["reason"], "history-expired");
    assert_eq!(gap["lastEventId"], *ids[4]);
    assert!(gap["missed"].is_null() || gap["missed"] == 15, "exact or unknown: {gap}");
    assert_eq!(stream.last_event_id(), ids[4], "a gap leaves the place alone");
    assert_eq!(messages(&mut stream, 10), (20..30).map(|at| at.to_string()).collect::<Vec<_>>());
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":10,"complete":false}"#);
    publisher.publish_text("a", "live");
    assert_eq!(stream.message(), "live");

    // The oldest retained event comes right after the place: nothing is missing.
    let mut stream = EventStream::resume(&server, "/channels/a", &ids[20]);
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 10).last().unwrap(), "live");
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":10,"complete":true}"#);
}

fn a_gap_of_one_of_several_channels_is_of_unknown_size(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "10"]);
    let mut publisher = Client::connect(&server);
    let quiet = publish_numbers(&mut publisher, "quiet", 3);
    publish_numbers(&mut publisher, "busy", 30);
    let mut stream = EventStream::resume(&server, "/sse?channels=quiet,busy", &quiet[0]);
    stream.expect("connected");
    let gap = format!(r#"{{"reason":"history-expired","missed":null,"lastEventId":"{}"}}"#, quiet[0]);
    assert_eq!(stream.expect("gap").data, gap);
    let expected: Vec<String> = (1..3).chain(20..30).map(|at| at.to_string()).collect();
    assert_eq!(messages(&mut stream, 12), expected);
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":12,"complete":false}"#);
    // The quiet channel alone has lost nothing.
    let mut stream = EventStream::resume(&server, "/channels/quiet", &quiet[0]);
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 2), ["1", "2"]);
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":2,"complete":true}"#);
}

fn an_id_from_before_a_restart_is_known_to_be_unknown(io: DriverKind) {
    let before = {
        let server = Server::start(io, &[]);
        publish_numbers(&mut Client::connect(&server), "a", 3).pop().unwrap()
    };
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let ids = publish_numbers(&mut publisher, "a", 5);
    for unknown in [&*before, "mine", "0", "\u{fc}"] {
        let mut stream = EventStream::resume(&server, "/channels/a", unknown);
        assert_eq!(stream.expect("connected").id, unknown);
        let gap = stream.expect("gap");
        let data: serde_json::Value = serde_json::from_str(&gap.data).unwrap();
        assert_eq!(data, serde_json::json!({"reason": "unknown-id", "missed": null, "lastEventId": unknown}));
        assert_eq!(gap.id, *ids.last().unwrap(), "it goes on from the place at connect");
        assert_eq!(stream.expect("caught-up").data, r#"{"replayed":0,"complete":false}"#);
    }
    let mut stream = EventStream::resume(&server, "/channels/a", &before);
    stream.expect("connected");
    let place = stream.expect("gap").id;
    publisher.publish_text("a", "live");
    stream.expect("caught-up");
    assert_eq!(stream.message(), "live");
    // The place that the gap gave is one to resume from.
    let mut stream = EventStream::resume(&server, "/channels/a", &place);
    stream.expect("connected");
    assert_eq!(stream.message(), "live");
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":1,"complete":true}"#);
}

fn http_1_0_resumes_as_well(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "10"]);
    let mut publisher = Client::connect(&server);
    let ids = publish_numbers(&mut publisher, "a", 200);
    let request = format!("GET /channels/a HTTP/1.0\r\nLast-Event-ID: {}\r\n\r\n", ids[195]);
    let mut stream = EventStream::over(Client::connect(&server), &request, &ids[195]);
    assert!(stream.head().ends_with("\r\nConnection: close\r\n\r\n"), "{}", stream.head());
    stream.expect("connected");
    assert_eq!(messages(&mut stream, 4), ["196", "197", "198", "199"]);
    assert_eq!(stream.expect("caught-up").data, r#"{"replayed":4,"complete":true}"#);
    publisher.publish_text("a", "live");
    assert_eq!(stream.message(), "live");
    server.signal("TERM");
    stream.expect("shutdown");
    stream.expect_end();
}

const CHANNELS: [&str; 6] = ["x/a", "x/b", "x/c", "y/d", "y/e", "z"];
/// Names and patterns of the clients that subscribe to patterns.
const NAMED: [&str; 6] = ["x/*", "y/*,z", "*", "y/d,x/*", "*,x/a,y/*", "x/b*,z*"];
const PUBLISHERS: u64 = 4;
const CLIENTS: u64 = 12;
const RECONNECTS_PER_CLIENT: usize = 80;
/// How far publishers may be ahead of the clients' reconnects. This makes reconnects meet publishing,
/// however fast either side is: this many events of each publisher at the start, and this many for each
/// reconnect. A client needs fewer.
const EVENTS_AHEAD: usize = 2000;
const EVENTS_PER_RECONNECT: usize = 100;

/// The published events: by number, the channels (as bits) and the text.
type Published = Mutex<BTreeMap<u64, (u32, String)>>;

/// The progress of the clients.
#[derive(Default)]
struct Progress {
    reconnects: AtomicUsize,
    has_failed: AtomicBool,
}

impl Progress {
    fn reconnects(&self) -> usize {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Returns true if and only if every client has made its reconnects, or one has failed.
    fn is_over(&self) -> bool {
        let target = usize::try_from(CLIENTS).unwrap() * RECONNECTS_PER_CLIENT;
        self.reconnects() == target || self.has_failed.load(Ordering::Relaxed)
    }
}

/// Notes on a panic that a client has failed, so that the publishers end too.
struct Failing<'a>(&'a Progress);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.has_failed.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

/// Publishes arrays of events to random channels until the clients are done.
fn publish_all_the_time(
    server: &Server,
    publisher: u64,
    seed: u64,
    progress: &Progress,
    published: &Published,
) {
    let mut dice = Dice(seed);
    let mut client = Client::connect(server);
    let mut count = 0;
    while !progress.is_over() {
        if count > EVENTS_AHEAD + EVENTS_PER_RECONNECT * progress.reconnects() {
            thread::yield_now();
            continue;
        }
        let mut events = Vec::new();
        for _ in 0..=dice.below(40) {
            let bits = match dice.below(4) {
                0 => 1 + dice.below((1 << CHANNELS.len()) - 1),
                _ => 1 << dice.below(CHANNELS.len() as u64),
            };
            let bits = u32::try_from(bits).unwrap();
            let text =
                format!("{publisher}-{count}-{}", "x".repeat(usize::try_from(dice.below(200)).unwrap()));
            count += 1;
            events.push((bits, text));
        }
        let envelopes: Vec<serde_json::Value> = events
            .iter()
            .map(|(bits, text)| {
                let names: Vec<&str> = CHANNELS
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| bits & (1 << at) != 0)
                    .map(|(_, name)| *name)
                    .collect();
                serde_json::json!({"channels": names, "text": text})
            })
            .collect();
        let ids = client.publish(&serde_json::to_string(&envelopes).unwrap());
        assert_eq!(ids.len(), events.len());
        let mut published = published.lock().unwrap();
        published.extend(ids.iter().map(|id| number(id)).zip(events));
    }
}

/// The channels, as bits, that a list of names and patterns matches.
fn bits_of(named: &str) -> u32 {
    let is_named = |channel: &str| {
        named.split(',').any(|name| match name.strip_suffix('*') {
            Some(prefix) => channel.starts_with(prefix),
            None => channel == name,
        })
    };
    CHANNELS.iter().enumerate().fold(0, |bits, (at, channel)| bits | u32::from(is_named(channel)) << at)
}

/// Asks for a stream in a random one of all ways.
fn reconnect(server: &Server, dice: &mut Dice, channels: &str, last_event_id: &str) -> EventStream {
    let client = Client::connect(server);
    let (mut target, mut header) = (format!("/sse?channels={channels}"), String::new());
    if !last_event_id.is_empty() {
        match dice.below(3) {
            0 => header = format!("Last-Event-ID: {last_event_id}\r\n"),
            1 => target += &format!("&lastEventId={last_event_id}"),
            _ => target += &format!("&last_event_id={last_event_id}"),
        }
    }
    let version = if dice.below(5) == 0 { "1.0" } else { "1.1" };
    let request = format!("GET {target} HTTP/{version}\r\nHost: localhost\r\n{header}\r\n");
    EventStream::over(client, &request, last_event_id)
}

/// Reads streams of the `named` channels and patterns, and leaves each after a random number of events,
/// until it has seen the last event. Returns the sequence number of the first `connected`, and the events.
fn read_with_reconnects(server: &Server, named: &str, seed: u64, progress: &Progress) -> (u64, Vec<Seen>) {
    let _failing = Failing(progress);
    let mut dice = Dice(seed);
    let mut seen = Vec::new();
    let mut stream = reconnect(server, &mut dice, named, "");
    let begin = number(&stream.expect("connected").id);
    let mut left = RECONNECTS_PER_CLIENT;
    loop {
        let events = if left == 0 { u64::MAX } else { dice.below(300) };
        for _ in 0..events {
            let event = stream.next().expect("nobody ends the stream");
            match &*event.kind {
                "message" => {
                    let is_last = event.data == "the end";
                    seen.push(event);
                    if is_last {
                        return (begin, seen);
                    }
                }
                "connected" => {}
                "caught-up" => assert!(event.data.ends_with(r#""complete":true}"#), "{event:?}"),
                other => panic!("unexpected {other}: {event:?}"),
            }
        }
        left -= 1;
        let last_event_id = stream.last_event_id().to_owned();
        drop(stream);
        stream = reconnect(server, &mut dice, named, &last_event_id);
        progress.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}

fn random_reconnects_under_full_publishing_lose_double_and_reorder_nothing(io: DriverKind) {
    let seed = 20_260_401;
    let server = Server::start(io, &["--history-events", "1000000", "--history-bytes", "1GiB"]);
    let (published, progress) = (Published::default(), Progress::default());

    let results: Vec<(u32, u64, Vec<Seen>)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let named = match NAMED.get(usize::try_from(client / 2).unwrap()) {
                    Some(named) if client % 2 == 1 => (*named).to_owned(),
                    _ => {
                        let bits = 1 + Dice(seed + client).below((1 << CHANNELS.len()) - 1);
                        let names = CHANNELS.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                        names.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
                    }
                };
                let (server, progress) = (&server, &progress);
                scope.spawn(move || {
                    let (begin, seen) = read_with_reconnects(server, &named, seed + 100 + client, progress);
                    (bits_of(&named), begin, seen)
                })
            })
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (server, published, progress) = (&server, &published, &progress);
                scope.spawn(move || {
                    publish_all_the_time(server, publisher, seed + 200 + publisher, progress, published)
                })
            })
            .collect();
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        let end = serde_json::json!([{"channels": CHANNELS, "text": "the end"}]).to_string();
        let id = Client::connect(&server).publish(&end).pop().unwrap();
        published.lock().unwrap().insert(number(&id), (u32::MAX, "the end".to_owned()));
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });

    let published = published.into_inner().unwrap();
    let mut delivered = 0;
    for (bits, begin, seen) in &results {
        let expected = published.range(begin + 1..).filter(|(_, (channels, _))| channels & bits != 0);
        let mut seen = seen.iter();
        for (&at, (_, text)) in expected {
            let event = seen.next().unwrap_or_else(|| panic!("{at} is missing at the end"));
            assert_eq!((number(&event.id), &event.data), (at, text), "seed {seed}, channels {bits:b}");
            delivered += 1;
        }
        assert_eq!(seen.next(), None);
    }
    println!(
        "{} events by {PUBLISHERS} publishers, {delivered} deliveries to {CLIENTS} clients, {} reconnects while all \
         published",
        published.len(),
        progress.reconnects()
    );
}

fn a_stream_may_begin_with_what_is_retained(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "5"]);
    let mut publisher = Client::connect(&server);
    publish_numbers(&mut publisher, "a", 8);
    for (replay, expected) in
        [("all", vec!["3", "4", "5", "6", "7"]), ("2", vec!["6", "7"]), ("99", vec!["3", "4", "5", "6", "7"])]
    {
        let mut stream = EventStream::open(&server, &format!("/channels/a?replay={replay}"));
        assert_eq!(stream.expect("connected").id, "", "the events that follow have ids of their own");
        assert_eq!(messages(&mut stream, expected.len()), expected);
        let caught_up = format!(r#"{{"replayed":{},"complete":true}}"#, expected.len());
        assert_eq!(stream.expect("caught-up").data, caught_up);
    }
    let mut stream = EventStream::open(&server, "/channels/a?replay=0");
    stream.expect("connected");
    publisher.publish_text("a", "live");
    assert_eq!(stream.message(), "live");
}
