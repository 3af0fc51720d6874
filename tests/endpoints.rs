//! Every endpoint over real sockets: the exact bytes of request and answer. Only dates, ids and names of clients are
//! masked.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod common;

use std::fmt::Write;
use std::thread;

use common::{Client, EventStream, Server, exchange, masked, number, wire};

/// Sends a request over a connection of its own, and compares all that comes back.
#[track_caller]
fn check(server: &Server, request: &str, answer: &str) {
    assert_eq!(exchange(server, &wire(request)), wire(answer), "answer to {request:?}");
}

/// The answer of an error, from its status line, its further headers and its detail, which may contain no quotes.
fn problem(status: &str, headers: &str, detail: &str) -> String {
    let (code, title) = status.split_once(' ').unwrap();
    let detail = detail.replace('"', "\\\"");
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#);
    format!(
        "HTTP/1.1 {status}\nDate: *\nContent-Type: application/problem+json\nContent-Length: {}\n{headers}\n{body}",
        body.len()
    )
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\nDate: *\nContent-Type: text/event-stream\n\
    Cache-Control: no-cache, no-transform\nX-Accel-Buffering: no\n";

/// One chunk of a body, whose size line counts what was masked in `text`.
fn chunk(text: &str) -> String {
    let unmasked =
        text.replace("<client>", &"c".repeat(36)).replace("#", &"#".repeat(27)).len() - id_digits(text);
    format!("{unmasked:x}\r\n{text}\r\n")
}

/// Digits of masked ids, which stand for a part of the id.
fn id_digits(text: &str) -> usize {
    text.split('#').skip(1).map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count()).sum()
}

fn connected(id: &str, channels: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
    format!(
        "retry: 3000\nevent: connected\n{id}data: {{\"connected\":true,\"clientId\":\"<client>\",\
         \"client_id\":\"<client>\",\"userId\":null,\"channels\":[{channels}]}}\n\n"
    )
}

#[test]
fn streams_begin_with_the_place_at_which_they_do() {
    let server = Server::start(&[]);
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\n\n"));
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

#[test]
fn a_stream_carries_what_is_published_in_chunks() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    client.send(
        "GET /sse?channels=news,sport HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    );
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\n\n"));
    client.expect(&format!("{head}{}", chunk(&connected("#0", r#""news","sport""#))));

    let mut publisher = Client::connect(&server);
    publisher.send(wire("POST /channels/news HTTP/1.1\nHost: localhost\nContent-Length: 5\n\nhello"));
    assert_eq!(
        publisher.answer().text(),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 65\n\n\
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

#[test]
fn a_stream_over_http_1_0_has_no_framing() {
    let server = Server::start(&["--max-stream-age", "1h"]);
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

#[test]
fn head_gives_the_head_alone() {
    let server = Server::start(&[]);
    for target in ["/sse", "/events?channels=a,b", "/channels/news"] {
        check(
            &server,
            &format!("HEAD {target} HTTP/1.1\nHost: localhost\n\n"),
            &format!("{STREAM_HEAD}Transfer-Encoding: chunked\n\n"),
        );
        check(
            &server,
            &format!("HEAD {target} HTTP/1.0\n\n"),
            &format!("{STREAM_HEAD}Connection: close\n\n"),
        );
    }
    let ready = "HTTP/1.1 200 OK\nDate: *\nContent-Type: text/plain\nContent-Length: 6\n\n";
    check(&server, "HEAD /readyz HTTP/1.1\nHost: localhost\n\n", ready);
    let health = "HTTP/1.1 200 OK\nDate: *\nContent-Type: text/plain\nContent-Length: 3\n\n";
    check(&server, "HEAD /healthz HTTP/1.1\nHost: localhost\n\n", health);
    // No stream was opened.
    let (_, receivers) = Client::connect(&server).publish_text("news", "x");
    assert_eq!(receivers, 0);
}

#[test]
fn health_readiness_and_options_are_told() {
    let server = Server::start(&[]);
    let text = |length: usize, more: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\nDate: *\nContent-Type: text/plain\nContent-Length: {length}\n{more}\n{body}"
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
        ("/channels/news", "GET, HEAD, POST, OPTIONS"),
        ("/publish", "POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ] {
        check(
            &server,
            &format!("OPTIONS {target} HTTP/1.1\nHost: localhost\n\n"),
            &format!("HTTP/1.1 204 No Content\nDate: *\nAllow: {allow}\n\n"),
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let requests = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
        POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n\
        GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n\
        GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let missing = problem("404 Not Found", "", "there is nothing at \"/nothing\"");
    let expected = format!(
        "{}{}{}{}",
        wire("HTTP/1.1 200 OK\nDate: *\nContent-Type: text/plain\nContent-Length: 3\n\nok\n"),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 65\n\n\
              {\"success\":true,\"id\":\"#1\",\"receivers\":0}"
        ),
        wire(&missing),
        wire("HTTP/1.1 200 OK\nDate: *\nContent-Type: text/plain\nContent-Length: 6\n\nready\n"),
    );
    assert_eq!(exchange(&server, requests), expected);
}

#[test]
fn a_publish_tells_how_many_streams_receive_it() {
    let server = Server::start(&[]);
    let mut publisher = Client::connect(&server);
    let mut receivers = |target: &str| {
        let body = format!("{{{target},\"data\":1}}");
        let request = wire(&format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{body}",
            body.len()
        ));
        let answer = publisher.ask(&request);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["receivers"].as_u64().unwrap()
    };
    assert_eq!(receivers(r#""channel":"a""#), 0);
    assert_eq!(receivers(r#""channels":["a","b","c"]"#), 0);
    let open = |target: &str| {
        let mut stream = EventStream::open(&server, target);
        stream.expect("connected");
        stream
    };
    let mut first = open("/sse?channels=a,b");
    assert_eq!(receivers(r#""channel":"a""#), 1);
    assert_eq!(receivers(r#""channels":["a","b","c"]"#), 1);
    let mut second = open("/channels/a");
    let mut third = open("/sse?channels=b,c,a");
    assert_eq!(receivers(r#""channel":"a""#), 3);
    assert_eq!(receivers(r#""channel":"b""#), 2);
    assert_eq!(receivers(r#""channel":"c""#), 1);
    assert_eq!(receivers(r#""channels":["c","b"]"#), 2);
    assert_eq!(receivers(r#""channels":["a","b","c","d"]"#), 3);
    assert_eq!(receivers(r#""channels":["d","d"]"#), 0);

    // Each saw each of its events once.
    let numbers = |stream: &mut EventStream, count: usize| -> Vec<u64> {
        (0..count).map(|_| number(&stream.expect("message").id)).collect()
    };
    assert_eq!(numbers(&mut first, 6), [3, 4, 5, 6, 8, 9]);
    assert_eq!(numbers(&mut second, 2), [5, 9]);
    assert_eq!(numbers(&mut third, 5), [5, 6, 7, 8, 9]);
    drop(second);
    common::wait_for("the stream to be missed", || (receivers(r#""channel":"a""#) == 2).then_some(()));
}

#[test]
fn an_array_is_published_whole_or_not_at_all() {
    let server = Server::start(&[]);
    let mut stream = EventStream::open(&server, "/sse?channels=a,b");
    stream.expect("connected");
    let good = r#"[{"channel":"a","data":1},{"channels":["b","a"],"text":"two","id":"own"},{"channel":"c","data":3}]"#;
    let post = |body: &str| {
        format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/json; charset=utf-8\n\
             Content-Length: {}\n\n{body}",
            body.len()
        )
    };
    check(
        &server,
        &post(good),
        "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 104\n\n\
         {\"success\":true,\"published\":3,\"ids\":[\"#1\",\"own\",\"#3\"]}",
    );
    check(
        &server,
        &post("[]"),
        "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 39\n\n\
         {\"success\":true,\"published\":0,\"ids\":[]}",
    );
    let bad = r#"[{"channel":"a","data":1},{"channel":"a"}]"#;
    let detail =
        "item 1: no data; expected `data` (any JSON value) or `text` (a string that is sent as it is)";
    check(&server, &post(bad), &problem("400 Bad Request", "", detail));
    let (last, _) = Client::connect(&server).publish_text("b", "end");
    assert_eq!(number(&last), 4);
    assert_eq!([stream.message(), stream.message(), stream.message()], ["1", "two", "end"]);
}

#[test]
fn events_that_are_not_adjacent_come_all_the_same() {
    let server = Server::start(&[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    // More stretches of bytes than one send takes.
    let events: Vec<String> = (0..400)
        .map(|at| format!(r#"{{"channel":"{}","data":{at}}}"#, if at % 2 == 0 { "a" } else { "b" }))
        .collect();
    Client::connect(&server).publish(&format!("[{}]", events.join(",")));
    for at in (0..400).step_by(2) {
        assert_eq!(stream.message(), at.to_string());
    }
}

#[test]
fn a_body_that_is_the_event_takes_its_fields_from_the_query() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    client.send("GET /channels/news HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\n\n"));
    client.expect(&format!("{head}{}", chunk(&connected("#0", r#""news""#))));
    check(
        &server,
        "POST /channels/news?event=greet+ing&id=my%20id&retry=1500&key=k HTTP/1.1\nHost: localhost\n\
         Content-Type: application/x-www-form-urlencoded\nContent-Length: 12\n\nhe=llo\n\nwör",
        "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 43\n\n\
         {\"success\":true,\"id\":\"my id\",\"receivers\":1}",
    );
    client.expect(&chunk("retry: 1500\nevent: greet ing\nid: my id\ndata: he=llo\ndata:\ndata: wör\n\n"));
    check(
        &server,
        "POST /channels/news HTTP/1.0\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 65\nConnection: close\n\n\
         {\"success\":true,\"id\":\"#2\",\"receivers\":1}",
    );
    client.expect(&chunk("id: #2\ndata:\n\n"));
}

#[test]
fn a_client_that_asks_is_invited_to_send_its_body() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    client.send(wire(
        "POST /channels/a HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 5\n\n",
    ));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.answer().status(), 200);
    // Uninvited, where the answer is known without it.
    client.send(wire("POST /nothing HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 5\n\n"));
    let expected = problem("404 Not Found", "Connection: close\n", "there is nothing at \"/nothing\"");
    assert_eq!(client.answer().text(), wire(&expected));
    assert_eq!(client.rest(), b"");
}

#[test]
fn lines_are_published_while_they_come() {
    let server = Server::start(&[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let mut client = Client::connect(&server);
    client.send(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    client.send("1d\r\n{\"channel\":\"a\",\"data\":\"one\"}\n\r\n");
    assert_eq!(stream.message(), "\"one\"", "published before the body's end");
    for piece in ["5\r\n\r\n\n{\"\r\n", "18\r\nchannel\":\"a\",\"text\":\"two\r\n", "3\r\n\"}\n\r\n"] {
        client.send(piece);
    }
    assert_eq!(stream.message(), "two");
    // The last line needs no line end.
    client.send("18\r\n{\"channel\":\"a\",\"data\":3}\r\n0\r\n\r\n");
    assert_eq!(stream.message(), "3");
    assert_eq!(
        client.answer().text(),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nContent-Type: application/json\nContent-Length: 128\n\n\
             {\"success\":true,\"published\":3,\"ids\":[\"#1\",\"#2\",\"#3\"]}"
        )
    );
    assert_eq!(client.ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").status(), 200);
}

#[test]
fn lines_stop_at_the_first_bad_one() {
    let server = Server::start(&[]);
    let body = "{\"channel\":\"a\",\"data\":1}\r\n\n{\"channel\":\"a\",\"data\":2}\n{\"channel\":\"a\"}\n{\"channel\":\"a\",\"data\":4}\n";
    let body_of_answer = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\
        \"line 4: no data; expected `data` (any JSON value) or `text` (a string that is sent as it is)\",\
        \"published\":2,\"line\":4}";
    check(
        &server,
        &format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/x-ndjson\nContent-Length: {}\n\n{body}",
            body.len()
        ),
        &format!(
            "HTTP/1.1 400 Bad Request\nDate: *\nContent-Type: application/problem+json\nContent-Length: {}\n\n{body_of_answer}",
            body_of_answer.len()
        ),
    );
    let (id, _) = Client::connect(&server).publish_text("a", "x");
    assert_eq!(number(&id), 3);
}

#[test]
fn a_body_of_two_hundred_thousand_lines_is_taken() {
    const LINES: u64 = 200_000;
    let server = Server::start(&["--history-events", "200001"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let reader = thread::spawn(move || {
        for line in 0..LINES {
            let event = stream.expect("message");
            assert_eq!((event.data, number(&event.id)), (line.to_string(), line + 1));
        }
    });
    let mut client = Client::connect(&server);
    client.send(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    let mut text = String::new();
    for line in 0..LINES {
        writeln!(text, "{{\"channel\":\"a\",\"data\":{line}}}").unwrap();
    }
    // Chunks of many sizes, which end anywhere in a line.
    let mut rest = text.as_str();
    for size in [1, 13, 4096, 70_000, 999].into_iter().cycle() {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        rest = behind;
        if piece.is_empty() {
            break; // It was the last chunk, which is empty.
        }
    }
    let answer = client.answer();
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["published"], LINES);
    let ids: Vec<u64> =
        body["ids"].as_array().unwrap().iter().map(|id| number(id.as_str().unwrap())).collect();
    assert!(ids.iter().copied().eq(1..=LINES));
    reader.join().unwrap();
}

#[test]
fn what_is_wrong_is_told_as_a_problem() {
    let server = Server::start(&["--max-body", "100"]);
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\nHost: localhost\n{headers}\n");
    let post = |target: &str, headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\nHost: localhost\n{headers}Content-Length: {}\n\n{body}", body.len())
    };
    let close = "Connection: close\n";
    let too_long = format!("/sse?{}", "x".repeat(8200));
    for (request, status, headers, detail) in [
        (get("/", ""), "404 Not Found", "", "there is nothing at \"/\""),
        (
            post("/sse", "", ""),
            "405 Method Not Allowed",
            "Allow: GET, HEAD, OPTIONS\n",
            "POST is not allowed here; expected GET, HEAD, OPTIONS",
        ),
        (
            get("/publish", ""),
            "405 Method Not Allowed",
            "Allow: POST, OPTIONS\n",
            "GET is not allowed here; expected POST, OPTIONS",
        ),
        (
            "DELETE /channels/a HTTP/1.1\nHost: localhost\n\n".to_owned(),
            "405 Method Not Allowed",
            "Allow: GET, HEAD, POST, OPTIONS\n",
            "DELETE is not allowed here; expected GET, HEAD, POST, OPTIONS",
        ),
        (
            get("/sse", "Accept: application/json, text/event-stream;q=0\n"),
            "406 Not Acceptable",
            "",
            "the only answer here is text/event-stream, which Accept: \"application/json, \
             text/event-stream;q=0\" excludes",
        ),
        (
            post("/publish", "Content-Type: text/plain\n", "{}"),
            "415 Unsupported Media Type",
            "",
            "Content-Type: found \"text/plain\", expected application/json or application/x-ndjson",
        ),
        (
            post("/channels/a", "", &"x".repeat(101)),
            "413 Content Too Large",
            close,
            "the request body is longer than 100 bytes",
        ),
        (
            "POST /publish HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n65\r\n".to_owned(),
            "413 Content Too Large",
            close,
            "the request body is longer than 100 bytes",
        ),
        (get(&too_long, ""), "414 URI Too Long", close, "the request target is longer than 8192 bytes"),
        (
            get("/sse", &format!("X: {}\n", "y".repeat(16_384))),
            "431 Request Header Fields Too Large",
            close,
            "the request head is longer than 16384 bytes",
        ),
        (
            get("/sse", &"X: y\n".repeat(100)),
            "431 Request Header Fields Too Large",
            close,
            "the request has more than 100 header fields",
        ),
        (
            post("/publish", "Expect: tea\n", "{}"),
            "417 Expectation Failed",
            close,
            "the expectation \"tea\" cannot be met; only 100-continue can",
        ),
        (
            "POST /publish HTTP/1.1\nHost: localhost\nTransfer-Encoding: gzip, chunked\n\n0\r\n\r\n"
                .to_owned(),
            "501 Not Implemented",
            close,
            "the transfer coding \"gzip\" is not supported; only chunked is",
        ),
        (
            get("/sse?userId=u", ""),
            "501 Not Implemented",
            "",
            "the parameter `userId` is not part of this version of the server",
        ),
        (
            "GET / HTTP/2.0\nHost: localhost\n\n".to_owned(),
            "505 HTTP Version Not Supported",
            close,
            "HTTP/2.0 is not supported; this server speaks HTTP/1.1 and HTTP/1.0",
        ),
        (
            "GET / HTTP/1.1\n\n".to_owned(),
            "400 Bad Request",
            close,
            "the request has no Host header, which HTTP/1.1 demands",
        ),
        (
            get("/sse?channel=a%2", ""),
            "400 Bad Request",
            "",
            "bad percent-encoding in the query: two hex digits must follow the % at byte 9",
        ),
        (
            post("/publish", "", "{}"),
            "400 Bad Request",
            "",
            "no target; expected exactly one of `channel`, `channels`, `userId`, `clientId` and `all`",
        ),
        (
            post("/publish", "", ""),
            "400 Bad Request",
            "",
            "the body is empty; expected a JSON object or an array of them",
        ),
        (
            post("/channels/a?event=x%0Ay", "", "x"),
            "400 Bad Request",
            "",
            "`event` must not contain CR, LF or NUL; found one at byte 1",
        ),
        (
            "GET /sse HTTP/1.1\nHost: evil.example\n\n".to_owned(),
            "403 Forbidden",
            "",
            "this listener is reached by loopback names and addresses alone, not by \"evil.example\"; allow a \
             name with --host NAME",
        ),
        (
            post("/channels/a", "Origin: http://evil.example\n", "x"),
            "403 Forbidden",
            "",
            "web pages of the origin \"http://evil.example\" may not publish; only the server's own may, and \
             those whose host is named with --host NAME",
        ),
    ] {
        check(&server, &request, &problem(status, headers, detail));
    }
}
