//! Headers over real sockets. Unknown headers are never a reason to refuse, and every answer has its
//! own.

use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver};

for_each_driver!(
    a_header_that_nobody_reads_refuses_nothing,
    a_header_that_is_read_is_refused_where_it_is,
    a_last_event_id_of_any_bytes_resumes_or_is_unknown,
    an_id_comes_back_in_latin_1_too,
    every_answer_that_is_no_stream_may_not_be_stored,
    a_stream_and_a_last_answer_say_that_the_connection_closes,
    an_empty_host_is_refused,
);

/// Every byte that a header value may have.
fn every_byte() -> Vec<u8> {
    (0..=255).filter(|byte| !b"\r\n".contains(byte)).collect()
}

/// A request with a header of any bytes.
fn with_header(line: &str, name: &str, value: &[u8], body: &str) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{name}: ", body.len());
    [head.as_bytes(), value, b"\r\n\r\n", body.as_bytes()].concat()
}

fn status(server: &Server, request: Vec<u8>) -> u16 {
    let mut client = Client::connect(server);
    client.send(request);
    client.head().split(' ').nth(1).unwrap().parse().unwrap()
}

const ENVELOPE: &str = r#"{"channel":"a","data":1}"#;

fn a_header_that_nobody_reads_refuses_nothing(io: DriverKind) {
    let server = Server::start(io, &[]);
    let everywhere = ["Cookie", "Accept-Encoding", "User-Agent", "Referer", "X-City", "Sec-Fetch-Site"];
    let requests = [
        ("GET /sse", "", ["Content-Type", "Idempotency-Key", "Origin"].as_slice()),
        ("GET /healthz", "", &["Accept", "Last-Event-ID", "Content-Type", "Idempotency-Key", "Origin"]),
        ("POST /publish", ENVELOPE, &["Accept", "Last-Event-ID"]),
        ("POST /channels/a", "x", &["Accept", "Last-Event-ID", "Content-Type"]),
    ];
    for (line, body, unread) in requests {
        for name in everywhere.iter().chain(unread) {
            for value in [b"caf\xe9".as_slice(), &every_byte()] {
                let request = with_header(line, name, value, body);
                assert_eq!(status(&server, request), 200, "{line} {name}");
            }
            let twice = [b"a\r\n".as_slice(), name.as_bytes(), b": b"].concat();
            assert_eq!(status(&server, with_header(line, name, &twice, body)), 200, "{line} {name} twice");
        }
    }
}

fn a_header_that_is_read_is_refused_where_it_is(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (line, name, value, expected) in [
        ("POST /publish", "Content-Type", "caf\u{e9}", 415),
        ("POST /publish", "Content-Type", "application/json\r\nContent-Type: text/html", 400),
        ("POST /publish", "Idempotency-Key", "caf\u{e9}", 400),
        ("POST /publish", "Idempotency-Key", "a\r\nIdempotency-Key: b", 400),
        ("POST /publish", "Origin", "\u{e9}", 403),
        ("POST /publish", "Origin", "http://localhost\r\nOrigin: http://evil", 400),
        ("GET /sse", "Accept", "\u{e9}", 406),
    ] {
        let request =
            with_header(line, name, value.as_bytes(), if line == "GET /sse" { "" } else { ENVELOPE });
        assert_eq!(status(&server, request), expected, "{line} {name}");
    }
}

/// Asks for a stream with this last event id. Returns it after its `connected`.
fn resume(server: &Server, id: &[u8]) -> EventStream {
    let mut client = Client::connect(server);
    client.send(with_header("GET /channels/a", "Last-Event-ID", id, ""));
    let mut stream = EventStream::asked(client, "");
    stream.expect("connected");
    stream
}

fn a_last_event_id_of_any_bytes_resumes_or_is_unknown(io: DriverKind) {
    let server = Server::start(io, &[]);
    let singles = every_byte().into_iter().filter(|byte| !b" \t".contains(byte)).map(|byte| vec![byte]);
    let others =
        [every_byte(), b"x".repeat(10_000), b"\xff".repeat(10_000), b"a\r\nLast-Event-ID: \x01".to_vec()];
    for id in singles.chain(others) {
        let event = resume(&server, &id).expect("gap");
        assert!(event.data.contains(r#""reason":"unknown-id""#), "{id:?}: {}", event.data);
    }
}

fn an_id_comes_back_in_latin_1_too(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    publisher.publish(r#"[{"channel":"a","text":"1","id":"caf\u00e9"},{"channel":"a","text":"2"}]"#);
    for id in [b"caf\xe9".as_slice(), "caf\u{e9}".as_bytes()] {
        assert_eq!(resume(&server, id).message(), "2");
    }
}

fn every_answer_that_is_no_stream_may_not_be_stored(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut statuses = Vec::new();
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "HEAD /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /sse/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /channels HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "OPTIONS /sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
        "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PUT /sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
        "GET /sse HTTP/2.0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = Client::connect(&server);
        client.send(request);
        let head = client.head();
        assert_eq!(head.matches("\r\nCache-Control: no-store\r\n").count(), 1, "{request}: {head}");
        assert_eq!(head.matches("Cache-Control").count(), 1, "{request}: {head}");
        statuses.push(head.split(' ').nth(1).unwrap().to_owned());
    }
    statuses.sort();
    statuses.dedup();
    assert_eq!(statuses.join(" "), "200 204 400 404 405 406 413 505");
    let stream = EventStream::open(&server, "/sse");
    assert!(stream.head().contains("\r\nCache-Control: no-cache, no-transform\r\n"), "{}", stream.head());
}

fn a_stream_and_a_last_answer_say_that_the_connection_closes(io: DriverKind) {
    let server = Server::start(io, &["--max-connections", "20"]);
    for (method, last) in [("GET", true), ("HEAD", true), ("POST", false)] {
        for target in ["/sse", "/channels/a"].into_iter().take(if last { 2 } else { 0 }) {
            let mut client = Client::connect(&server);
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let head = client.head();
            assert!(head.contains("\r\nConnection: close\r\n"), "{method} {target}: {head}");
            if method == "HEAD" {
                assert_eq!(client.rest(), b"", "and it does");
            }
        }
    }
    let mut client = Client::connect(&server);
    let answer = client.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!answer.head.contains("Connection"), "it is kept: {}", answer.head);
    let streams: Vec<EventStream> = (0..19).map(|_| EventStream::open(&server, "/sse")).collect();
    let refused = EventStream::open(&server, "/sse");
    assert!(refused.head().contains("\r\nConnection: close\r\n"), "{}", refused.head());
    drop(streams);
}

fn an_empty_host_is_refused(io: DriverKind) {
    let request = |line: &str| format!("{line}\r\nHost:\r\n\r\n").into_bytes();
    for (options, expected) in [([].as_slice(), 403), (&["--host", "*", "--insecure"], 400)] {
        let server = Server::start(io, options);
        for line in ["GET /sse HTTP/1.1", "GET /healthz HTTP/1.0", "GET /metrics HTTP/1.1"] {
            assert_eq!(status(&server, request(line)), expected, "{line} {options:?}");
        }
        // The target's host takes precedence (RFC 9112 3.2.2), and HTTP/1.0 clients send no `Host`.
        assert_eq!(status(&server, request("GET http://localhost/healthz HTTP/1.1")), 200);
        assert_eq!(status(&server, b"GET /healthz HTTP/1.0\r\n\r\n".to_vec()), 200);
    }
}
