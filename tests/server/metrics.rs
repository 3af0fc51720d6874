//! `/metrics` and `/sse/stats`: their figures equal what the tests have sent and received, over one
//! shard and over several.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::common::{Answer, Client, DriverKind, Server, for_each_driver, masked, wait_for, wire};
use serde_json::{Value, json};

for_each_driver!(
    counters_equal_what_was_sent_and_received_over_one_shard,
    counters_equal_what_was_sent_and_received_over_two_shards,
    both_endpoints_answer_in_their_form,
    a_draining_server_still_reports,
    slow_streams_are_named_in_the_log_without_their_secret,
);

const GET_METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_STATS: &str = "GET /sse/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A client that counts the bytes it received.
struct Counted {
    client: Client,
    bytes: u64,
}

impl Counted {
    fn connect(server: &Server) -> Counted {
        Counted { client: Client::connect(server), bytes: 0 }
    }

    fn ask(&mut self, request: &str) -> Answer {
        let answer = self.client.ask(request);
        self.bytes += (answer.head.len() + answer.body.len()) as u64;
        answer
    }

    fn post(&mut self, target: &str, content_type: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&wire(&format!(
            "POST {target} HTTP/1.1\nHost: localhost\nContent-Type: {content_type}\nContent-Length: {length}\n\n{body}"
        )))
    }

    fn open(server: &Server, target: &str, version: &str, headers: &str) -> Counted {
        let mut stream = Counted::connect(server);
        stream.client.send(wire(&format!("GET {target} HTTP/{version}\nHost: localhost\n{headers}\n")));
        stream.read_through("event: connected");
        stream.read_through("\n\n");
        stream
    }

    /// Reads up to `mark` and returns the text.
    fn read_through(&mut self, mark: &str) -> String {
        let taken = self.client.take_through(mark.as_bytes());
        self.bytes += taken.len() as u64;
        String::from_utf8(taken).unwrap()
    }

    fn metrics(&mut self) -> BTreeMap<String, f64> {
        samples(&self.ask(GET_METRICS))
    }
}

/// Every sample, by its name and labels.
fn samples(answer: &Answer) -> BTreeMap<String, f64> {
    let text = std::str::from_utf8(&answer.body).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

/// A count as an integer. All are whole, and far below what an `f64` holds exactly.
#[expect(clippy::cast_possible_truncation, reason = "a count is whole")]
fn whole(value: f64) -> u64 {
    assert_eq!(value.fract(), 0.0);
    value as u64
}

/// The sum of a metric over its labels.
fn sum(samples: &BTreeMap<String, f64>, name: &str) -> u64 {
    let of_name = samples.iter().filter(|(sample, _)| sample.split('{').next() == Some(name));
    of_name.map(|(_, value)| whole(*value)).sum()
}

#[track_caller]
fn check(samples: &BTreeMap<String, f64>, name: &str, expected: u64) {
    let found = samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"));
    assert_eq!(whole(*found), expected, "{name} in {samples:#?}");
}

/// Events in the bytes of a stream.
fn events(text: &str) -> u64 {
    text.matches("payload").count() as u64
}

fn everything_adds_up(io: DriverKind, shards: &str) {
    let server = Server::start(io, &["--shards", shards, "--max-body", "10KiB"]);
    let mut streams: Vec<Counted> = ["a", "a", "a", "b", "b", "a,b"]
        .iter()
        .map(|channels| Counted::open(&server, &format!("/sse?channels={channels}"), "1.1", ""))
        .collect();
    streams.push(Counted::open(&server, "/sse?channels=a", "1.0", "")); // HTTP/1.0: without chunks.

    let mut control = Counted::connect(&server);
    let to = |target: &str, count: usize| {
        let item = format!(r#"{{{target},"text":"payload"}}"#);
        vec![item; count]
    };
    let batch =
        [to(r#""channel":"a""#, 50), to(r#""channel":"b""#, 20), to(r#""channels":["a","b"]"#, 10)].concat();
    let published = control.post("/publish", "application/json", &format!("[{}]", batch.join(",")));
    let ids: Value = serde_json::from_slice(&published.body).unwrap();
    let lines = to(r#""channel":"a""#, 7).join("\n");
    assert_eq!(control.post("/publish", "application/x-ndjson", &lines).status(), 200);
    for channel in ["a", "b"] {
        assert_eq!(
            control.post(&format!("/channels/{channel}"), "text/plain", "payload\nlast").status(),
            200
        );
    }

    // Each got the events of its channels, and no byte more.
    let mut received = 0;
    for (at, stream) in streams.iter_mut().enumerate() {
        let is_chunked = at < 6;
        let end = if is_chunked { "last\n\n\r\n" } else { "last\n\n" };
        let mut text = stream.read_through(end);
        if at == 5 {
            text += &stream.read_through(end);
        }
        let expected = match at {
            3 | 4 => 20 + 10 + 1,
            5 => 50 + 20 + 10 + 7 + 2,
            _ => 50 + 10 + 7 + 1,
        };
        assert_eq!(events(&text), expected, "stream {at}");
        assert_eq!(stream.client.received(), b"", "stream {at}");
        received += events(&text);
    }

    // One resumes after the thirtieth event of channel a, one from an unknown id.
    let after = format!("Last-Event-ID: {}\n", ids["ids"][29].as_str().unwrap());
    let mut resumed = Counted::open(&server, "/sse?channels=a", "1.1", &after);
    let text = resumed.read_through("event: caught-up");
    resumed.read_through("\n\n\r\n");
    assert_eq!(events(&text), 20 + 10 + 7 + 1);
    received += events(&text);
    streams.push(resumed);
    let mut lost = Counted::open(&server, "/sse?channels=a", "1.1", "Last-Event-ID: whatever\n");
    assert!(lost.read_through("event: caught-up").contains("unknown-id"));
    lost.read_through("\n\n\r\n");
    streams.push(lost);

    // Refused by the API, by the head alone, and by the connection.
    assert_eq!(control.post("/publish", "application/json", "nonsense").status(), 400);
    assert_eq!(control.post("/publish", "application/x-ndjson", "nonsense").status(), 400);
    assert_eq!(control.post("/publish", "text/plain", "{}").status(), 415);
    let mut too_long = Counted::connect(&server);
    assert_eq!(too_long.post("/channels/a", "text/plain", &"x".repeat(10_241)).status(), 413);
    assert_eq!(too_long.client.rest(), b"");
    assert_eq!(control.ask("POST /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").status(), 404);

    // One client leaves.
    let mut left = streams.remove(0);
    left.client.shutdown_write();
    assert_eq!(left.client.rest(), b"0\r\n\r\n", "its stream is whole");
    let of_the_gone = left.bytes + "0\r\n\r\n".len() as u64 + too_long.bytes;
    drop(left);
    drop(too_long);
    wait_for("the two to be gone", || {
        let samples = control.metrics();
        (sum(&samples, "downpour_connections_closed_total") == 2).then_some(())
    });

    let sent_so_far = |control: &Counted| {
        of_the_gone + control.bytes + streams.iter().map(|stream| stream.bytes).sum::<u64>()
    };
    // A report has earlier figures for an event loop that was late.
    let (sent, samples) = wait_for("a report of every event loop", || {
        let sent = sent_so_far(&control);
        let samples = control.metrics();
        (sum(&samples, "downpour_shards_late") == 0).then_some((sent, samples))
    });
    check(&samples, "downpour_shards", shards.parse().unwrap());
    check(&samples, "downpour_shards_late", 0);
    check(&samples, "downpour_deliveries_total", received);
    check(&samples, "downpour_frames_per_send_sum", received);
    check(&samples, "downpour_sent_bytes_total", sent);
    check(&samples, "downpour_events_published_total", 89);
    check(&samples, "downpour_streams_begun_total", 9);
    check(&samples, "downpour_streams{state=\"live\"}", 8);
    check(&samples, "downpour_streams{state=\"catching-up\"}", 0);
    check(&samples, "downpour_replays_total", 2);
    check(&samples, "downpour_history_events_read_total", 38);
    check(&samples, "downpour_gaps_total{reason=\"unknown-id\"}", 1);
    check(&samples, "downpour_gaps_total{reason=\"history-expired\"}", 0);
    check(&samples, "downpour_publishes_refused_total{status=\"400\"}", 2);
    check(&samples, "downpour_publishes_refused_total{status=\"413\"}", 1);
    check(&samples, "downpour_publishes_refused_total{status=\"415\"}", 1);
    assert_eq!(sum(&samples, "downpour_publishes_refused_total"), 4, "{samples:#?}");
    check(&samples, "downpour_connections_accepted_total", 11);
    assert_eq!(sum(&samples, "downpour_connections"), 9, "{samples:#?}");
    check(&samples, "downpour_connections_closed_total{reason=\"peer\"}", 1);
    check(&samples, "downpour_connections_closed_total{reason=\"finished\"}", 1);
    check(&samples, "downpour_channels", 2);
    assert!(samples["downpour_history_bytes"] > 64.0 * 1024.0);
    let fan_outs = sum(&samples, "downpour_fan_out_duration_seconds_count");
    let turns = sum(&samples, "downpour_loop_lag_seconds_count");
    assert!((1..=89 * 2).contains(&fan_outs) && turns >= fan_outs, "{samples:#?}");
    let sends = samples["downpour_frames_per_send_count"];
    assert!(sends >= 9.0 && sends < samples["downpour_sends_total"], "{samples:#?}");
    assert_eq!(samples["downpour_frames_per_send_bucket{le=\"+Inf\"}"], sends);

    // The same as JSON. It includes the bytes of the metrics.
    let (sent, stats) = wait_for("a report of every event loop", || {
        let sent = sent_so_far(&control);
        let stats: Value = serde_json::from_slice(&control.ask(GET_STATS).body).unwrap();
        (stats["shards_late"] == 0).then_some((sent, stats))
    });
    for (name, expected) in [
        ("total_clients", json!(8)),
        ("global_channel", json!(0)),
        ("channels", json!({"a": 6, "b": 3})),
        ("users", json!(0)),
        ("shards", json!(shards.parse::<u64>().unwrap())),
        ("connections", json!(9)),
        ("streams_begun", json!(9)),
        ("replays", json!(2)),
        ("gaps", json!({"history-expired": 0, "slow-consumer": 0, "unknown-id": 1})),
        ("events_published", json!(89)),
        ("publishes_refused", json!({"400": 2, "413": 1, "415": 1})),
        ("deliveries", json!(received)),
        ("sent_bytes", json!(sent)),
        ("history_channels", json!(2)),
    ] {
        assert_eq!(stats[name], expected, "{name} in {stats}");
    }
}

fn counters_equal_what_was_sent_and_received_over_one_shard(io: DriverKind) {
    everything_adds_up(io, "1");
}

fn counters_equal_what_was_sent_and_received_over_two_shards(io: DriverKind) {
    everything_adds_up(io, "2");
}

fn both_endpoints_answer_in_their_form(io: DriverKind) {
    let server = Server::start(io, &["--shards", "1"]);
    let mut client = Client::connect(&server);
    let stats = client.ask(GET_STATS);
    let held = &serde_json::from_slice::<Value>(&stats.body).unwrap()["history_bytes"]; // Its tables.
    assert!(held.as_u64().unwrap() < 4096, "{held}");
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "{{\"total_clients\":0,\"global_channel\":0,\"channels\":{{}},\"users\":0,\"version\":\"{version}\",\"shards\":1,\
         \"shards_late\":0,\"connections\":1,\"connections_accepted\":1,\"connections_closed\":{{\"aborted\":0,\
         \"failed\":0,\"finished\":0,\"idle\":0,\"panic\":0,\"peer\":0,\"sent-too-much\":0,\"stalled\":0,\"too-slow\":0}},\"streams_catching_up\":0,\
         \"streams_begun\":0,\"replays\":0,\"gaps\":{{\"history-expired\":0,\"slow-consumer\":0,\"unknown-id\":0}},\
         \"events_published\":0,\"publishes_refused\":{{}},\"publish_pauses\":0,\"publish_duplicates\":0,\
         \"idempotency_keys\":0,\"deliveries\":0,\"sends\":0,\"sent_bytes\":0,\"history_bytes\":{held},\"history_channels\":0,\"shard_restarts\":0}}"
    );
    let length = expected.len();
    let head = wire(&format!(
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: {length}\n\n"
    ));
    assert_eq!(masked(&stats.head) + std::str::from_utf8(&stats.body).unwrap(), head + &expected);

    let metrics = client.ask(GET_METRICS);
    let length = metrics.body.len();
    assert_eq!(
        masked(&metrics.head),
        wire(&format!(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\n\
             Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\nContent-Length: {length}\n\n"
        ))
    );
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(
        text.starts_with("# HELP downpour_build The version of the server.\n# TYPE downpour_build info\n"),
        "{text}"
    );
    assert!(text.contains(&format!("\ndownpour_build_info{{version=\"{version}\"}} 1\n")), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");

    for target in ["/metrics", "/sse/stats"] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: "), "{head}");
        let refused = client.ask(&format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(refused.status(), 405);
        assert!(refused.head.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{}", refused.head);
    }
    let foreign = client.ask("GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert_eq!(foreign.status(), 403, "a web page of another name sees no metrics");
}

#[test]
fn every_metric_is_in_the_table_of_the_operations_manual() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let answer = Client::connect(&server).ask(GET_METRICS);
    let text = String::from_utf8(answer.body).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            format!("{name}{suffix}")
        })
        .collect();
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `downpour_"));
    let listed: BTreeSet<String> =
        rows.map(|row| format!("downpour_{}", row.split(['`', '{']).next().unwrap())).collect();
    assert_eq!(served, listed);
}

fn a_draining_server_still_reports(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2", "--drain", "30s"]);
    // Within its request, so that the drain waits for it.
    let mut waiting = Client::connect(&server);
    waiting.send(wire(
        "POST /channels/a HTTP/1.1\nHost: localhost\nContent-Length: 4\nExpect: 100-continue\n\n",
    ));
    assert_eq!(waiting.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM");
    // A connection without any request ends as the drain begins. Then another one is tried.
    let answer = wait_for("an answer that ends its connection", || {
        let mut client = Client::connect(&server);
        client.try_send(GET_METRICS).ok()?;
        while client.receive().unwrap_or(false) {}
        let text = String::from_utf8(client.take(client.received().len())).unwrap();
        text.contains("\r\nConnection: close\r\n").then_some(text)
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\ndownpour_shards 2\n"), "{answer}");
    assert!(answer.ends_with("\n# EOF\n"), "{answer}");
}

fn slow_streams_are_named_in_the_log_without_their_secret(io: DriverKind) {
    let begin = Instant::now();
    let server = Server::start(io, &["--shards", "1", "--queue-bytes", "16KiB"]);
    let mut slow = Client::connect_as(&server, [127, 0, 0, 1], Some(8 * 1024));
    slow.send("GET /sse?channels=news,sport HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let connected = String::from_utf8(slow.take_through(b"\n\n")).unwrap();
    let id = connected.split("\"clientId\":\"").nth(1).unwrap().split('"').next().unwrap();
    let (secret, place) = id.split_once('-').unwrap();

    let mut publisher = Client::connect(&server);
    for _ in 0..200 {
        publisher.publish_text("news", &"x".repeat(8 * 1024));
    }
    let line = wait_for("the line in the log", || {
        server.log().lines().find(|line| line.contains("a stream reads slowly")).map(str::to_owned)
    });
    assert!(line.contains(&format!("ClientId(…-{place})")), "{line}");
    assert!(line.contains(r#"channels=["news", "sport"]"#), "{line}");
    let lag = line.split("lag_events=").nth(1).unwrap().split(' ').next().unwrap();
    assert!((1..=200).contains(&lag.parse::<u64>().unwrap()), "{line}");
    let samples = samples(&publisher.ask(GET_METRICS));
    check(&samples, "downpour_streams{state=\"catching-up\"}", 1);
    assert!(sum(&samples, "downpour_streams_fallen_behind_total") >= 1, "{samples:#?}");
    assert!(!server.log().contains(secret), "the secret is its client's alone");
    let count = server.log().matches("a stream reads slowly").count() as u64;
    assert!(count <= 1 + begin.elapsed().as_secs() / 10, "once in ten seconds: {count} times");
}
