//! The limits of section "Errors" over real sockets. A request beyond one is answered as the contract
//! says, and no other client is affected.

use std::time::{Duration, Instant};

use crate::common::{
    Client, DriverKind, EventStream, Server, exchange, for_each_driver, masked, wait_for, wire,
};

for_each_driver!(
    connections_over_the_limit_are_asked_to_come_again,
    channels_over_the_limit_are_refused,
    a_channel_that_nobody_uses_makes_room,
    bodies_are_bounded_however_they_come,
    heads_bodies_and_idle_connections_have_their_time,
    a_head_that_trickles_has_no_more_time_than_another,
    running_out_of_descriptors_stops_newcomers_alone,
);

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn open(server: &Server, target: &str) -> EventStream {
    let mut stream = EventStream::open(server, target);
    stream.expect("connected");
    stream
}

/// A stream that only says that the server takes no more, and ends.
fn expect_overloaded(mut stream: EventStream) {
    let event = stream.expect("overloaded");
    let retry_ms = stream.retry_ms().unwrap();
    assert_eq!(event.data, format!(r#"{{"retryAfter":{retry_ms}}}"#));
    assert!((3000..=6000).contains(&retry_ms), "spread at random: {retry_ms}");
    stream.expect_end();
    assert_eq!(stream.into_client().rest(), b"");
}

fn detail_of(answer: &str) -> String {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_else(|| panic!("{answer:?} has no body"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["detail"].as_str().unwrap().to_owned()
}

fn connections_over_the_limit_are_asked_to_come_again(io: DriverKind) {
    let server = Server::start(io, &["--max-connections", "3"]);
    let mut streams: Vec<EventStream> = (0..3).map(|_| open(&server, "/channels/a")).collect();

    expect_overloaded(EventStream::open(&server, "/channels/a"));
    let old = Client::connect(&server);
    expect_overloaded(EventStream::over(old, "GET /channels/a HTTP/1.0\r\n\r\n", ""));

    let detail = "the server has as many connections as it takes";
    let body =
        format!(r#"{{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"{detail}"}}"#);
    let refused = wire(&format!(
        "HTTP/1.1 429 Too Many Requests\nDate: *\nCache-Control: no-store\nContent-Type: application/problem+json\nContent-Length: {}\n\
         Retry-After: 3\nConnection: close\n\n{body}",
        body.len()
    ));
    let publish = wire("POST /channels/a HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx");
    assert_eq!(exchange(&server, &publish), refused);
    let lines = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
        Content-Length: 24\r\n\r\n{\"channel\":\"a\",\"data\":1}";
    assert_eq!(exchange(&server, lines), refused);
    // An error that waiting does not cure keeps its status, and health is still answered.
    let bad = exchange(&server, "GET /sse?channel= HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(bad.starts_with("HTTP/1.1 400 "), "{bad}");
    assert!(exchange(&server, HEALTHZ).starts_with("HTTP/1.1 200 "));

    // A place that becomes free is taken by the next stream.
    drop(streams.pop());
    let taken = wait_for("a place", || {
        let mut stream = EventStream::open(&server, "/channels/a");
        (stream.next().unwrap().kind == "connected").then_some(stream)
    });
    expect_overloaded(EventStream::open(&server, "/channels/a"));
    drop((taken, streams.pop()));
    let mut publisher = wait_for("a place", || {
        let mut client = Client::connect(&server);
        (client.ask(&publish).status() == 200).then_some(client)
    });
    publisher.publish_text("a", "to the one that is left");
    while streams[0].message() != "to the one that is left" {}
}

fn channels_over_the_limit_are_refused(io: DriverKind) {
    let server = Server::start(io, &["--max-channels", "2", "--max-channels-per-stream", "2"]);
    let mut stream = open(&server, "/channels/a");
    let mut publisher = Client::connect(&server);
    publisher.publish_text("b", "retained");
    let answer = publisher.ask(&wire("POST /channels/c HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx"));
    assert_eq!(answer.status(), 429);
    assert!(answer.head.contains("\r\nRetry-After: 3\r\n"), "{}", answer.head);
    expect_overloaded(EventStream::open(&server, "/channels/c"));
    assert_eq!(publisher.publish_text("a", "x").1, 1);
    assert_eq!(stream.message(), "x");
    drop(open(&server, "/sse?channels=a,b"));

    let answer = exchange(&server, "GET /sse?channels=a,b,c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert_eq!(detail_of(&answer), "a stream has at most 2 channels");
}

fn a_channel_that_nobody_uses_makes_room(io: DriverKind) {
    let server = Server::start(io, &["--max-channels", "1", "--max-channels-per-stream", "1"]);
    let stream = open(&server, "/channels/a");
    expect_overloaded(EventStream::open(&server, "/channels/b"));
    drop(stream);
    wait_for("the channel to go", || {
        let mut stream = EventStream::open(&server, "/channels/b");
        (stream.next().unwrap().kind == "connected").then_some(())
    });
}

fn bodies_are_bounded_however_they_come(io: DriverKind) {
    let server = Server::start(io, &["--max-body", "1KiB"]);
    let mut stream = open(&server, "/channels/a");
    let mut client = Client::connect(&server);
    client.publish_text("a", &"x".repeat(1024));
    assert_eq!(stream.message().len(), 1024);
    let head = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\n";
    let line = format!("{{\"channel\":\"a\",\"data\":\"{}\"}}\n", "x".repeat(1200));
    for request in [
        format!("{head}Content-Length: 1025\r\n\r\n"),
        format!("{head}Content-Length: 99999999999\r\n\r\n{}", "x".repeat(4096)),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n400\r\n{}\r\n1\r\n", "x".repeat(1024)),
        format!("{head}Content-Length: 1025\r\nExpect: 100-continue\r\n\r\n"),
        format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{{\"channel\":\"a\",\"data\":1}}\n{line}",
            line.len() + 25
        ),
    ] {
        let answer = exchange(&server, &request);
        assert!(answer.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(detail_of(&answer).contains("longer than 1024 bytes"), "{answer}");
    }
    assert_eq!(stream.message(), "1", "the line before the long one");
    client.publish_text("a", "end");
    assert_eq!(stream.message(), "end");
}

/// A client that has sent `bytes` within `time` of its connect, so that no deadline of the server after
/// `time` can have come first. Tries again if the machine is too busy.
fn sent_within(server: &Server, bytes: &str, time: Duration) -> Client {
    wait_for("bytes to be sent in time", || {
        let begin = Instant::now();
        let mut client = Client::connect(server);
        client.try_send(bytes).ok()?;
        (begin.elapsed() < time).then_some(client)
    })
}

fn heads_bodies_and_idle_connections_have_their_time(io: DriverKind) {
    let timeouts = ["--head-timeout", "200ms", "--body-timeout", "300ms", "--idle-timeout", "400ms"];
    let server = Server::start(io, &timeouts);
    let mut stream = open(&server, "/channels/a");
    let begin = Instant::now();
    let timed = |bytes: &str| sent_within(&server, bytes, Duration::from_millis(150));
    let mut silent = timed("");
    let mut half_a_head = timed("GET /sse HTTP/1.1\r\nHost: local");
    let mut blank_line = timed("\r\n");
    let mut half_a_body =
        timed("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe");
    let mut half_of_lines = timed(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n19\r\n{\"channel\":\"a\",\"data\":1}\n\r\n5\r\n{\"cha",
    );
    let mut idle = timed(HEALTHZ);
    assert_eq!(idle.answer().status(), 200);

    let rest = |client: &mut Client| masked(&String::from_utf8(client.rest()).unwrap());
    assert_eq!(rest(&mut silent), "", "nobody asked for anything");
    let answer = rest(&mut half_a_head);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(detail_of(&answer), "the request's head did not come whole within 200ms");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    let answer = rest(&mut blank_line);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = rest(&mut half_a_body);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(detail_of(&answer), "the request's body did not come on within 300ms");
    let answer = rest(&mut half_of_lines);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with(r#""published":1}"#), "{answer}");
    assert_eq!(rest(&mut idle), "", "an idle connection ends without a word");
    assert!(begin.elapsed() >= Duration::from_millis(400));
    // The stream lives on, however idle it is.
    assert_eq!(stream.message(), "1");
    Client::connect(&server).publish_text("a", "still here");
    assert_eq!(stream.message(), "still here");
}

fn a_head_that_trickles_has_no_more_time_than_another(io: DriverKind) {
    let server = Server::start(io, &["--head-timeout", "200ms"]);
    let begin = Instant::now();
    let mut client = sent_within(&server, "GET /healthz HTTP/1.1\r\n", Duration::from_millis(150));
    let rest = format!("Host: localhost\r\nX: {}\r\n\r\n", "y".repeat(5000));
    for byte in rest.bytes() {
        if begin.elapsed() > Duration::from_millis(250) || client.try_send([byte]).is_err() {
            break; // The server shuts its side down long before the head is complete.
        }
        std::thread::sleep(Duration::from_millis(5)); // The client is slow on purpose.
    }
    let answer = String::from_utf8(client.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}

fn running_out_of_descriptors_stops_newcomers_alone(io: DriverKind) {
    const DESCRIPTORS: u32 = 80;
    let server = Server::start_with_descriptors(io, DESCRIPTORS, &["--shards", "1"]);
    let mut stream = open(&server, "/channels/a");
    let mut publisher = Client::connect(&server);
    assert_eq!(publisher.publish_text("a", "before").1, 1);
    assert_eq!(stream.message(), "before");

    let crowd: Vec<Client> = (0..DESCRIPTORS + 20).map(|_| Client::connect(&server)).collect();
    wait_for("the descriptors to run out", || server.log().contains("cannot accept").then_some(()));
    for at in 0..100 {
        publisher.publish_text("a", &at.to_string());
        assert_eq!(stream.message(), at.to_string());
    }
    drop(crowd);
    let mut late = wait_for("a place", || {
        let mut stream = EventStream::open(&server, "/channels/a");
        (stream.next().unwrap().kind == "connected").then_some(stream)
    });
    assert_eq!(publisher.publish_text("a", "after").1, 2);
    assert_eq!((stream.message(), late.message()), ("after".to_owned(), "after".to_owned()));
    let complaints = server.log().matches("cannot accept").count();
    println!("{complaints} complaints about descriptors");
}
