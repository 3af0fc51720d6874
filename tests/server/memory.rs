//! The memory of a server's process as the kernel counts it: under events of every size, after retained
//! events are dropped, and with streams that do not read.

use std::thread;

use crate::common::{Client, Dice, DriverKind, EventStream, MIB, Server, for_each_driver, number, wait_for};

for_each_driver!(
    events_of_all_sizes_stay_near_the_bound_and_their_memory_goes_back,
    streams_that_do_not_read_a_quiet_channel_keep_nothing_of_a_busy_one,
    streams_that_stop_reading_a_replay_keep_nothing_of_a_busy_channel,
);

/// Memory of a server beside its history.
const BESIDE_MIB: f64 = 24.0;

/// Channels of the events of all sizes.
const CHANNELS: u64 = 200;

fn rss_mib(server: &Server) -> f64 {
    server.memory().rss as f64 / MIB as f64
}

/// Bytes of an event, evenly over orders of magnitude: 64 B to 200 KiB.
fn mixed_bytes(dice: &mut Dice) -> u64 {
    let least = 64 << dice.below(12);
    (least + dice.below(least)).min(200 * 1024)
}

/// Publishes events of all sizes, `bytes` in all, over connections that come and go.
fn publish_mixed(server: &Server, seed: u64, bytes: u64) {
    let (mut dice, mut left) = (Dice(seed), bytes);
    while left > 0 {
        let mut client = Client::connect(server);
        for _ in 0..200 {
            let length = mixed_bytes(&mut dice);
            client.publish_text(
                &format!("room:{}", dice.below(CHANNELS)),
                &"x".repeat(usize::try_from(length).unwrap()),
            );
            left = left.saturating_sub(length);
        }
    }
}

/// Drops the histories of the channels for which `is_dropped` returns true.
fn drop_channels(server: &Server, is_dropped: impl Fn(u64) -> bool) {
    let mut client = Client::connect(server);
    for channel in (0..CHANNELS).filter(|&channel| is_dropped(channel)) {
        let answer =
            client.ask(&format!("DELETE /channels/room:{channel} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        // A channel may have no retained events any more.
        assert!([200, 404].contains(&answer.status()), "{}", answer.text());
    }
}

/// Waits, without any traffic, until resident memory is at most `most_mib`.
fn wait_for_rss(server: &Server, what: &str, most_mib: f64) {
    let mut least = f64::MAX;
    println!("{what}: {:.1} MiB before, at most {most_mib:.1}", rss_mib(server));
    wait_for(&format!("{what} to leave at most {most_mib:.1} MiB"), || {
        let rss = rss_mib(server);
        if rss < least {
            println!("{what}: {rss:.1} MiB");
        }
        least = least.min(rss);
        (least <= most_mib).then_some(())
    });
}

fn events_of_all_sizes_stay_near_the_bound_and_their_memory_goes_back(io: DriverKind) {
    const HISTORY_MIB: u32 = 64;
    const PUBLISHERS: u64 = 8;
    let server = Server::start(io, &["--history-bytes", "64MiB", "--shards", "4"]);
    thread::scope(|scope| {
        for seed in 0..PUBLISHERS {
            let bytes = 6 * u64::from(HISTORY_MIB) * MIB / PUBLISHERS;
            let server = &server;
            scope.spawn(move || publish_mixed(server, seed, bytes));
        }
    });
    let peak_mib = server.peak_rss() as f64 / MIB as f64;
    println!("at most {peak_mib:.1} MiB were resident, {:.1} at the end", rss_mib(&server));
    let history_mib = f64::from(HISTORY_MIB);
    assert!(peak_mib <= 1.25 * history_mib + BESIDE_MIB, "{peak_mib:.1} MiB with a history of {history_mib}");

    drop_channels(&server, |channel| channel % 2 == 0);
    wait_for_rss(&server, "every second channel that was dropped", 1.5 * history_mib / 2.0 + BESIDE_MIB);
    drop_channels(&server, |channel| channel % 2 == 1);
    wait_for_rss(&server, "all channels that were dropped", BESIDE_MIB);
}

/// Bytes of the text of one event of the busy channel. Such an event shares its segment with others.
const BUSY_BYTES: usize = 3900;

/// Publishes about one segment to the busy channel. The streams do not read.
fn publish_busy(publisher: &mut Client) {
    let busy = serde_json::json!({"channel": "busy", "text": "x".repeat(BUSY_BYTES)});
    publisher.publish(&serde_json::to_string(&vec![busy; 70]).unwrap());
}

fn quiet(stream: usize) -> String {
    format!("quiet{stream}")
}

/// A stream of `target` that does not read. The kernel holds little for it.
fn open_unread(server: &Server, target: &str) -> Client {
    let mut client = Client::connect_as(server, [127, 0, 0, 1], Some(8 * 1024));
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client
}

/// Reads a stream up to its event `last`: in order, each once, with a gap where events are missing.
fn read_to(client: Client, last: &str) {
    let mut stream = EventStream::asked(client, "");
    stream.expect("connected");
    let (mut place, mut seen, mut gaps) = (0, 0, 0);
    loop {
        let event = stream.next().unwrap();
        match &*event.kind {
            "message" => {
                assert!(number(&event.id) > place, "in order, each once");
                (place, seen) = (number(&event.id), seen + 1);
                if event.data == last {
                    println!("{seen} events and {gaps} gaps were read in the end");
                    return;
                }
            }
            "gap" => gaps += 1,
            "caught-up" => {}
            other => panic!("unexpected {other}: {event:?}"),
        }
    }
}

fn streams_that_do_not_read_a_quiet_channel_keep_nothing_of_a_busy_one(io: DriverKind) {
    const STREAMS: usize = 4;
    let server = Server::start(io, &["--history-bytes", "16MiB", "--shards", "1", "--keepalive", "0"]);
    let mut publisher = Client::connect(&server);
    (0..100).for_each(|_| publish_busy(&mut publisher));
    let slow: Vec<Client> =
        (0..STREAMS).map(|stream| open_unread(&server, &format!("/channels/{}", quiet(stream)))).collect();
    for stream in 0..STREAMS {
        wait_for("the stream", || (publisher.publish_text(&quiet(stream), "probe").1 == 1).then_some(()));
        // More than the socket takes, and less than the queue.
        (0..45).for_each(|_| drop(publisher.publish_text(&quiet(stream), &"x".repeat(BUSY_BYTES))));
    }
    let before = rss_mib(&server);
    for round in 0..240 {
        publish_busy(&mut publisher);
        publisher.publish_text(&quiet(round % STREAMS), "quiet");
    }
    let after = rss_mib(&server);
    println!(
        "{before:.1} MiB before {STREAMS} streams waited for an event of each of 60 segments, {after:.1} after"
    );
    // For each stream a queue of 256 KiB with an event, and as much again for malloc's holes.
    assert!(after - before <= 2.0 * STREAMS as f64 * 0.26 + 4.0, "{:.1} MiB more", after - before);
    for (stream, client) in slow.into_iter().enumerate() {
        publisher.publish_text(&quiet(stream), "last");
        read_to(client, "last");
    }
}

fn streams_that_stop_reading_a_replay_keep_nothing_of_a_busy_channel(io: DriverKind) {
    let server = Server::start(io, &["--history-bytes", "32MiB", "--shards", "1", "--keepalive", "0"]);
    let mut publisher = Client::connect(&server);
    let publish = |publisher: &mut Client| {
        publish_busy(publisher);
        publisher.publish_text("quiet", &"x".repeat(BUSY_BYTES));
    };
    (0..240).for_each(|_| publish(&mut publisher));
    // Each begins at another part of the history.
    let slow: Vec<Client> = ["all", "55"]
        .iter()
        .map(|replay| open_unread(&server, &format!("/channels/quiet?replay={replay}")))
        .collect();
    wait_for("the streams", || (publisher.publish_text("quiet", "probe").1 == 2).then_some(()));
    let before = rss_mib(&server);
    (0..160).for_each(|_| publish(&mut publisher));
    let after = rss_mib(&server);
    println!("{before:.1} MiB before the segments of two slices that wait were given up, {after:.1} after");
    assert!(after - before <= 2.0 * 2.0 * 0.26 + 4.0, "{:.1} MiB more", after - before);
    publisher.publish_text("quiet", "last");
    for client in slow {
        read_to(client, "last");
    }
}
