//! Starting and ending. A drain notifies all clients, a second signal waits for none, and an address in
//! use is named. Also notices about a stream's age, and pings.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::common::{
    Client, DriverKind, EventStream, Server, exchange, for_each_driver, masked, serve_command, wait_for, wire,
};

for_each_driver!(
    a_drain_tells_everybody_and_ends_well,
    the_last_bytes_of_a_stream_are_its_shutdown_and_the_last_chunk,
    a_drain_waits_no_longer_than_it_may,
    a_second_signal_ends_at_once,
    a_server_that_was_killed_is_started_again_at_once,
    silent_streams_are_pinged,
    a_stream_that_is_old_enough_ends_and_may_be_resumed,
);

/// An unfinished request: a drain waits for it.
fn begin_publish(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.send(
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("h");
    client
}

/// As [`begin_publish`], with a body of lines of which none has come.
fn begin_lines(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.send(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Expect: 100-continue\r\nContent-Length: 24\r\n\r\n",
    );
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client
}

const READYZ: &str = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn wait_until_draining(server: &Server) {
    wait_for("the drain", || exchange(server, READYZ).starts_with("HTTP/1.1 503 ").then_some(()));
}

fn a_drain_tells_everybody_and_ends_well(io: DriverKind) {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(io, &["--drain", "30s"]);
        let mut streams: Vec<EventStream> = ["/sse", "/channels/a", "/sse?channels=a,b"]
            .iter()
            .map(|target| EventStream::open(&server, target))
            .collect();
        for stream in &mut streams {
            stream.expect("connected");
        }
        let mut idle = Client::connect(&server);
        assert_eq!(idle.ask(READYZ).status(), 200);
        let (mut held, mut held_lines) = (begin_publish(&server), begin_lines(&server));
        server.signal(signal);
        wait_until_draining(&server);

        for stream in &mut streams {
            assert_eq!(stream.expect("shutdown").data, r#"{"reason":"drain"}"#);
            let retry = stream.retry_ms().unwrap();
            assert!((1..=30_000).contains(&retry), "spread over the drain's time: {retry}");
            stream.expect_end();
        }
        assert_eq!(idle.rest(), b"", "an idle connection ends without a word");

        // New clients get the same answer.
        let detail = "the server is draining";
        let body = format!(
            r#"{{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"{detail}"}}"#
        );
        let unavailable = wire(&format!(
            "HTTP/1.1 503 Service Unavailable\nDate: *\nCache-Control: no-store\nContent-Type: application/problem+json\n\
             Content-Length: {}\nRetry-After: 1\nConnection: close\n\n{body}",
            body.len()
        ));
        assert_eq!(exchange(&server, READYZ), unavailable);
        let publish = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(exchange(&server, publish), unavailable);
        let lines = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
            Content-Length: 24\r\n\r\n{\"channel\":\"a\",\"data\":1}";
        assert_eq!(exchange(&server, lines), unavailable);
        let health = exchange(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
        let mut late = EventStream::open(&server, "/channels/a");
        assert_eq!(late.expect("shutdown").data, r#"{"reason":"drain"}"#, "and no `connected`");
        assert!(late.retry_ms().is_some());
        late.expect_end();
        assert_eq!(late.into_client().rest(), b"");

        assert!(server.is_running(), "it waits for the request that was begun");
        held.send("i");
        let answer = held.answer();
        assert_eq!(answer.text(), unavailable);
        held_lines.send("{\"channel\":\"a\",\"data\":1}");
        assert_eq!(held_lines.answer().text(), unavailable);
        drop((held, held_lines, idle, streams));
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(server.log().contains("drained"), "{}", server.log());
    }
}

fn the_last_bytes_of_a_stream_are_its_shutdown_and_the_last_chunk(io: DriverKind) {
    let mut server = Server::start(io, &[]);
    let mut client = Client::connect(&server);
    client.send("GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.take_through(b"\n\n\r\n");
    server.signal("TERM");
    let rest = String::from_utf8(client.rest()).unwrap();
    let retry = rest.split("retry: ").nth(1).unwrap().split('\n').next().unwrap();
    let text = format!("retry: {retry}\n\nevent: shutdown\ndata: {{\"reason\":\"drain\"}}\n\n");
    assert_eq!(rest, format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()));
    drop(client);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// The drain that began later ends first: each takes its own time.
fn a_drain_waits_no_longer_than_it_may(io: DriverKind) {
    let mut patient = Server::start(io, &["--drain", "1h"]);
    let mut waited_for = begin_publish(&patient);
    let mut server = Server::start(io, &["--drain", "300ms", "--history-events", "100000"]);
    let mut slow = Client::connect_as(&server, [127, 0, 0, 1], Some(8 * 1024));
    slow.send("GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut publisher = Client::connect(&server);
    wait_for("the stream", || (publisher.publish_text("a", "x").1 == 1).then_some(()));
    for _ in 0..32 {
        publisher.publish_text("a", &"x".repeat(64 * 1024)); // More than the kernel holds for it.
    }
    let held = begin_publish(&server);
    patient.signal("TERM");
    wait_until_draining(&patient);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0), "neither a slow client nor half a request keeps it");
    drop((slow, held));

    assert!(patient.is_running(), "it has an hour");
    waited_for.send("i");
    assert_eq!(waited_for.answer().status(), 503);
    drop(waited_for);
    assert_eq!(patient.wait_for_exit().code(), Some(0));
}

fn a_second_signal_ends_at_once(io: DriverKind) {
    let mut server = Server::start(io, &["--drain", "1h"]);
    let _held = begin_publish(&server);
    server.signal("TERM");
    wait_until_draining(&server);
    assert!(server.is_running());
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().signal(), Some(15));
}

/// With io_uring the kernel closes the listeners of a killed process some time after its end.
fn a_server_that_was_killed_is_started_again_at_once(io: DriverKind) {
    let mut server = Server::start(io, &[]);
    let address = server.address();
    let streams: Vec<EventStream> = (0..20).map(|_| EventStream::open(&server, "/sse")).collect();
    server.signal("KILL");
    assert_eq!(server.wait_for_exit().signal(), Some(9));
    let server = Server::launch(serve_command(&["--listen", &address.to_string(), "--io", io.word()]));
    assert_eq!(server.address(), address);
    assert_eq!(Client::connect(&server).ask(READYZ).status(), 200);
    drop(streams);
}

#[test]
fn an_address_in_use_is_named() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let address = server.address().to_string();
    let output = serve_command(&["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert!(!said.contains("listening on"), "{said}");
    assert_eq!(Client::connect(&server).ask(READYZ).status(), 200);
}

fn silent_streams_are_pinged(io: DriverKind) {
    let server = Server::start(io, &["--keepalive", "100ms"]);
    let begin = Instant::now();
    let mut client = Client::connect(&server);
    client.send("GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.take_through(b"\n\n\r\n");
    let ping = "16\r\nevent: ping\ndata: {}\n\n\r\n";
    for _ in 0..3 {
        assert_eq!(String::from_utf8(client.take_through(b"\n\n\r\n")).unwrap(), ping);
    }
    assert!(begin.elapsed() >= Duration::from_millis(300), "not before the interval has passed");
    Client::connect(&server).publish_text("a", "x");
    let next = loop {
        let bytes = client.take_through(b"\n\n\r\n");
        if bytes != ping.as_bytes() {
            break masked(&String::from_utf8(bytes).unwrap());
        }
    };
    assert_eq!(next, "29\r\nid: #1\ndata: x\n\n\r\n");

    let mut old = EventStream::over(Client::connect(&server), "GET /channels/a HTTP/1.0\r\n\r\n", "");
    old.expect("connected");
    assert_eq!(old.expect("ping").data, "{}");
}

fn a_stream_that_is_old_enough_ends_and_may_be_resumed(io: DriverKind) {
    let server = Server::start(io, &["--max-stream-age", "500ms", "--retry", "1234ms"]);
    let begin = Instant::now();
    let mut stream = EventStream::open(&server, "/channels/a");
    let last = stream.expect("connected").id;
    assert_eq!(stream.expect("shutdown").data, r#"{"reason":"age"}"#);
    assert!(begin.elapsed() >= Duration::from_millis(400), "a fifth earlier at the most");
    assert_eq!(stream.retry_ms(), Some(1234));
    stream.expect_end();
    Client::connect(&server).publish_text("a", "meanwhile");
    let mut stream = EventStream::resume(&server, "/channels/a", &last);
    stream.expect("connected");
    assert_eq!(stream.message(), "meanwhile");
}
