//! Subscribing, health, readiness and options.

use super::{STREAM_HEAD, check, chunk, connected, problem};
use crate::common::{Client, DriverKind, Server, exchange, for_each_driver, masked, wire};

for_each_driver!(
    streams_begin_with_the_place_at_which_they_do,
    a_stream_carries_what_is_published_in_chunks,
    a_stream_over_http_1_0_has_no_framing,
    a_silent_stream_is_kept_alive_by_a_comment_where_that_is_wanted,
    head_gives_the_head_alone,
    health_readiness_and_options_are_answered,
    pipelined_requests_are_answered_in_order,
    a_pattern_is_every_channel_that_begins_so,
);

fn streams_begin_with_the_place_at_which_they_do(io: DriverKind) {
    let server = Server::start(io, &[]);
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"));
    for (target, channels) in [
        ("/sse", r#""global""#),
        ("/events", r#""global""#),
        ("/sse?channels=a,b&channel=c&channel=a", r#""a","b","c""#),
        ("/events?channel=gr%C3%B6%C3%9Fe", r#""größe""#),
        ("/channels/news", r#""news""#),
        ("/channels/chat%2F7", r#""chat/7""#),
        ("/channels/chat/7", r#""chat/7""#),
        ("http://localhost/channels/news?_=1", r#""news""#),
    ] {
        let mut client = Client::connect(&server);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.expect(&format!("{head}{}", chunk(&connected("#0", channels))));
    }
}

fn a_pattern_is_every_channel_that_begins_so(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    for (channel, text) in [("entity:1", "one"), ("other", "no"), ("entity:2", "two")] {
        publisher.publish_text(channel, text);
    }
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"));
    let mut client = Client::connect(&server);
    client.send("GET /sse?channels=entity:*,entity:2&replay=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let connected = chunk(&connected("", r#""entity:*","entity:2""#));
    let events = chunk("id: #1\ndata: one\n\n") + &chunk("id: #3\ndata: two\n\n");
    let caught_up = chunk("event: caught-up\nid: #3\ndata: {\"replayed\":2,\"complete\":true}\n\n");
    client.expect(&format!("{head}{connected}{events}{caught_up}"));

    let mut everything = Client::connect(&server);
    everything.send("GET /channels/* HTTP/1.1\r\nHost: localhost\r\n\r\n");
    everything.expect(&format!("{head}{}", chunk(&self::connected("#3", r#""*""#))));
    let envelopes = [
        (r#"{"channels":["entity:2","entity:3"],"text":"three"}"#, 2),
        (r#"{"channel":"other","text":"four"}"#, 1),
    ];
    for (envelope, receivers) in envelopes {
        let request = format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{envelope}",
            envelope.len()
        );
        let answer = publisher.ask(&wire(&request));
        assert!(answer.text().ends_with(&format!(r#""receivers":{receivers}}}"#)), "{}", answer.text());
    }
    client.expect(&chunk("id: #4\ndata: three\n\n"));
    everything.expect(&format!("{}{}", chunk("id: #4\ndata: three\n\n"), chunk("id: #5\ndata: four\n\n")));
}

fn a_stream_carries_what_is_published_in_chunks(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut client = Client::connect(&server);
    client.send(
        "GET /sse?channels=news,sport HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    );
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"));
    client.expect(&format!("{head}{}", chunk(&connected("#0", r#""news","sport""#))));

    let mut publisher = Client::connect(&server);
    publisher.send(wire("POST /channels/news HTTP/1.1\nHost: localhost\nContent-Length: 5\n\nhello"));
    assert_eq!(
        publisher.answer().text(),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 65\n\n\
              {\"success\":true,\"id\":\"#1\",\"receivers\":1}"
        )
    );
    client.expect(&chunk("id: #1\ndata: hello\n\n"));

    let envelope =
        r#"{"channel":"sport","event":"goal","retry":250,"key":"m7","data":{"a": [1, "x\n"], "b":null}}"#;
    publisher.send(wire(&format!(
        "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {}\n\n{envelope}",
        envelope.len()
    )));
    assert_eq!(publisher.answer().status(), 200);
    client.expect(&chunk("retry: 250\nevent: goal\nid: #2\ndata: {\"a\": [1, \"x\\n\"], \"b\":null}\n\n"));

    let text = r#"{"channels":["news","sport"],"id":"mine","text":"one\r\ntwo\rthree\n"}"#;
    let answer = publisher.ask(&wire(&format!(
        "POST /publish HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{text}",
        text.len()
    )));
    assert!(answer.text().ends_with(r#"{"success":true,"id":"mine","receivers":1}"#), "{}", answer.text());
    client.expect(&chunk("id: mine\ndata: one\ndata: two\ndata: three\ndata:\n\n"));
}

fn a_stream_over_http_1_0_has_no_framing(io: DriverKind) {
    let server = Server::start(io, &["--max-stream-age", "1h"]);
    let mut client = Client::connect(&server);
    client.send("GET /sse?channel=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client.expect(&wire(&format!("{STREAM_HEAD}Connection: close\n\n{}", connected("#0", r#""a""#))));
    let mut publisher = Client::connect(&server);
    publisher.publish_text("a", "hello\nworld");
    client.expect("id: #1\ndata: hello\ndata: world\n\n");
    server.signal("TERM");
    let rest = masked(&String::from_utf8(client.rest()).unwrap());
    let retry = rest.strip_prefix("retry: ").unwrap();
    assert!(retry.ends_with("\n\nevent: shutdown\ndata: {\"reason\":\"drain\"}\n\n"), "{rest:?}");
}

fn a_silent_stream_is_kept_alive_by_a_comment_where_that_is_wanted(io: DriverKind) {
    let server = Server::start(io, &["--keepalive", "100ms", "--keepalive-style", "comment"]);
    let mut client = Client::connect(&server);
    client.send("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.take_through(b"\n\n\r\n");
    for _ in 0..2 {
        assert_eq!(String::from_utf8(client.take_through(b"ping\n\r\n")).unwrap(), "7\r\n: ping\n\r\n");
    }
    let mut client = Client::connect(&server);
    client.send("GET /sse HTTP/1.0\r\n\r\n");
    client.take_through(b"\r\n\r\n");
    client.take_through(b"\n\n");
    assert_eq!(client.take_through(b"ping\n"), b": ping\n");
    assert_eq!(client.take_through(b"ping\n"), b": ping\n", "no blank line follows");
}

fn head_gives_the_head_alone(io: DriverKind) {
    let server = Server::start(io, &[]);
    for target in ["/sse", "/events?channels=a,b", "/channels/news"] {
        check(
            &server,
            &format!("HEAD {target} HTTP/1.1\nHost: localhost\n\n"),
            &format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"),
        );
        check(
            &server,
            &format!("HEAD {target} HTTP/1.0\n\n"),
            &format!("{STREAM_HEAD}Connection: close\n\n"),
        );
    }
    let ready =
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: text/plain\nContent-Length: 6\n\n";
    check(&server, "HEAD /readyz HTTP/1.1\nHost: localhost\n\n", ready);
    let health =
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: text/plain\nContent-Length: 3\n\n";
    check(&server, "HEAD /healthz HTTP/1.1\nHost: localhost\n\n", health);
    // No stream was opened.
    let (_, receivers) = Client::connect(&server).publish_text("news", "x");
    assert_eq!(receivers, 0);
}

fn health_readiness_and_options_are_answered(io: DriverKind) {
    let server = Server::start(io, &[]);
    let text = |length: usize, more: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: text/plain\nContent-Length: {length}\n{more}\n{body}"
        )
    };
    check(&server, "GET /healthz HTTP/1.1\nHost: localhost\n\n", &text(3, "", "ok\n"));
    check(&server, "GET /readyz HTTP/1.1\nHost: localhost\n\n", &text(6, "", "ready\n"));
    check(&server, "GET /healthz HTTP/1.0\n\n", &text(3, "Connection: close\n", "ok\n"));
    let kept = text(3, "Connection: keep-alive\n", "ok\n");
    check(&server, "GET /healthz HTTP/1.0\nConnection: keep-alive\n\n", &kept);
    let closed = text(3, "Connection: close\n", "ok\n");
    check(&server, "GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n", &closed);
    for (target, allow) in [
        ("/sse", "GET, HEAD, OPTIONS"),
        ("/events", "GET, HEAD, OPTIONS"),
        ("/channels", "GET, HEAD, OPTIONS"),
        ("/channels/news", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("/publish", "POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, DELETE, OPTIONS"),
    ] {
        check(
            &server,
            &format!("OPTIONS {target} HTTP/1.1\nHost: localhost\n\n"),
            &format!("HTTP/1.1 204 No Content\nDate: *\nCache-Control: no-store\nAllow: {allow}\n\n"),
        );
    }
}

fn pipelined_requests_are_answered_in_order(io: DriverKind) {
    let server = Server::start(io, &[]);
    let requests = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
        POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n\
        GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n\
        GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let missing = problem("404 Not Found", "", "there is nothing at \"/nothing\"");
    let expected = format!(
        "{}{}{}{}",
        wire(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: text/plain\nContent-Length: 3\n\nok\n"
        ),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 65\n\n\
              {\"success\":true,\"id\":\"#1\",\"receivers\":0}"
        ),
        wire(&missing),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: text/plain\nContent-Length: 6\n\nready\n"
        ),
    );
    assert_eq!(exchange(&server, requests), expected);
}
