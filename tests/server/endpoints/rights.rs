//! Refusals by a request's head alone: they come before the body, and instead of `100 Continue`.

use std::fmt::Write;

use super::problem;
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, wire};

for_each_driver!(
    a_refused_request_is_answered_before_its_body_is_sent,
    a_refused_request_gets_no_100_continue,
    a_permitted_request_still_gets_100_continue,
    requests_behind_a_refused_one_are_answered_as_behind_any_other,
    a_publish_over_the_limit_of_connections_is_refused_before_its_body,
);

/// Requests that are refused for their heads: the status, the request line, and headers.
const REFUSED: [(u16, &str, &str); 16] = [
    (403, "POST /publish", "Host: evil.example\n"),
    (403, "POST /publish", "Host: localhost\nX-Forwarded-For: 203.0.113.9\n"),
    (403, "POST /publish", "Host: localhost\nOrigin: http://evil.example\n"),
    (403, "POST /publish", "Host: localhost\nVia: 1.1 a\nContent-Type: application/x-ndjson\n"),
    (403, "POST /channels/a", "Host: localhost\nOrigin: null\n"),
    (403, "POST /progress", "Host: localhost\nForwarded: for=a\n"),
    (403, "POST /events/subscribe", "Host: localhost\nOrigin: http://evil.example\n"),
    (403, "DELETE /channels/a", "Host: localhost\nOrigin: http://evil.example\n"),
    (403, "GET /metrics", "Host: localhost\nX-Real-IP: 203.0.113.9\n"),
    (404, "POST /nothing", "Host: localhost\n"),
    (405, "POST /sse", "Host: localhost\n"),
    (415, "POST /publish", "Host: localhost\nContent-Type: text/plain\n"),
    (415, "POST /events/unsubscribe", "Host: localhost\nContent-Type: text/plain\n"),
    (400, "POST /publish?channel=a", "Host: localhost\n"),
    (400, "POST /channels/a*", "Host: localhost\n"),
    (417, "POST /publish", "Host: localhost\nExpect: coffee\n"),
];

/// Bytes of a body that is too long to be skipped, and not too long for a publish.
const LONG: usize = 1024 * 1024;

fn head(line: &str, headers: &str, framing: &str) -> String {
    wire(&format!("{line} HTTP/1.1\n{headers}{framing}\n\n"))
}

fn a_refused_request_is_answered_before_its_body_is_sent(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (status, line, headers) in REFUSED {
        let mut client = Client::connect(&server);
        client.send(head(line, headers, &format!("Content-Length: {LONG}")));
        client.send(vec![b'x'; 100]);
        let answer = client.answer();
        assert_eq!(answer.status(), status, "{line} {headers}");
        assert!(answer.head.contains("\r\nConnection: close\r\n"), "{}", answer.head);
        assert_eq!(answer.head.contains("\r\nAllow: "), status == 405, "{}", answer.head);
        // It may send its body all the same: the connection ends, and is not reset.
        client.send(vec![b'x'; LONG - 100]);
        assert_eq!(client.rest(), b"", "{line} {headers}");
    }
}

fn a_refused_request_gets_no_100_continue(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (status, line, headers) in REFUSED {
        if headers.contains("Expect") {
            continue;
        }
        for framing in ["Content-Length: 5", "Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(&server);
            client.send(head(line, headers, &format!("Expect: 100-continue\n{framing}")));
            assert_eq!(client.answer().status(), status, "{line} {headers}{framing}");
            assert_eq!(client.rest(), b"", "{line} {headers}{framing}");
        }
    }
}

fn a_permitted_request_still_gets_100_continue(io: DriverKind) {
    let server = Server::start(io, &[]);
    let envelope = r#"{"channel":"a","data":1}"#;
    let lines = "Content-Type: application/x-ndjson\n";
    for (line, headers, body, status) in [
        ("POST /publish", "", envelope, 200),
        ("POST /publish", lines, envelope, 200),
        ("POST /channels/a", "Content-Type: text/plain\n", "x", 200),
        ("POST /sse/broadcast?channel=a", "", "1", 200),
        ("POST /events/subscribe", "", r#"{"clientId":"x","channel":"a"}"#, 404),
        ("DELETE /channels/a", "", "x", 200),
        ("GET /healthz", "Origin: http://evil.example\n", "x", 200),
    ] {
        let mut client = Client::connect(&server);
        let framing = format!("Expect: 100-continue\nContent-Length: {}", body.len());
        client.send(head(line, &format!("Host: localhost\n{headers}"), &framing));
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n", "{line}");
        client.send(body);
        assert_eq!(client.answer().status(), status, "{line}");
    }
}

fn requests_behind_a_refused_one_are_answered_as_behind_any_other(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let publish = |text: &str| head("POST /channels/a", "Host: localhost\n", "Content-Length: 3") + text;
    let mut all = String::new();
    let mut expected = Vec::new();
    for (number, (status, line, headers)) in REFUSED.iter().enumerate() {
        if headers.contains("Expect") {
            continue; // It closes the connection.
        }
        all += &publish(&format!("{number:03}"));
        write!(all, "{}xyz", head(line, headers, "Content-Length: 3")).unwrap();
        all += &(head(line, headers, "Transfer-Encoding: chunked") + "3\r\nxyz\r\n0\r\n\r\n");
        expected.extend([200, *status, *status]);
    }
    // A long body ends the connection, and what is behind it is not a request.
    all += &head("POST /nothing", "Host: localhost\n", &format!("Content-Length: {LONG}"));
    all += &publish("not");
    expected.push(404);
    let mut client = Client::connect(&server);
    client.send(&all);
    let found: Vec<u16> = expected.iter().map(|_| client.answer().status()).collect();
    assert_eq!(found, expected);
    assert_eq!(client.rest(), b"");
    for number in 0..REFUSED.len() - 1 {
        assert_eq!(stream.message(), format!("{number:03}"));
    }
    Client::connect(&server).publish_text("a", "the next");
    assert_eq!(stream.message(), "the next", "nothing of a refused request is published");
}

fn a_publish_over_the_limit_of_connections_is_refused_before_its_body(io: DriverKind) {
    let server = Server::start(io, &["--max-connections", "1"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let detail = "the server has as many connections as it takes";
    let refusal = problem("429 Too Many Requests", "Retry-After: 3\nConnection: close\n", detail);
    for headers in ["", "Content-Type: application/x-ndjson\n", "Expect: 100-continue\n"] {
        let mut client = Client::connect(&server);
        let framing = format!("{headers}Content-Length: 100000");
        client.send(head("POST /publish", "Host: localhost\n", &framing));
        assert_eq!(client.answer().text(), wire(&refusal));
        assert_eq!(client.rest(), b"");
    }
}
