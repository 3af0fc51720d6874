//! Decisions about requests by their heads alone.

use super::*;
use crate::http::CONTINUE;

/// A connection whose heads wait for the test's decisions.
fn undecided(bytes: &str) -> Bench {
    let mut bench = Bench { holds_heads: true, ..Bench::new() };
    bench.receive(bytes.as_bytes());
    bench
}

fn expecting(path: &str) -> String {
    post(path, "").replace("Length: 0\r\n", "Length: 3\r\nExpect: 100-continue\r\n")
}

#[test]
fn nothing_behind_a_head_is_read_before_the_decision() {
    for (request, seen) in [
        (post("/a", "body"), request("POST /a body")),
        (post_chunked("/a") + &chunk("body") + "0\r\n\r\n", request("POST /a body")),
        (post("/lines", "body"), lines("body", 1, true)),
    ] {
        let (most, rest) = split(&request);
        let mut bench = undecided(str::from_utf8(most).unwrap());
        assert!(bench.conn.undecided().is_some() && bench.seen.is_empty() && !bench.is_receiving);
        assert_eq!((bench.conn.take_lines(bench.now), bench.deadline()), (None, None));
        bench.decide();
        assert!(bench.conn.undecided().is_none() && bench.seen.is_empty() && bench.is_receiving);
        bench.receive(rest);
        assert_eq!(bench.seen, [seen]);
        assert_eq!(bench.statuses(), [200]);
    }
}

#[test]
fn a_decision_comes_before_100_continue() {
    for path in ["/a", "/lines"] {
        let mut bench = undecided(&expecting(path));
        assert!(bench.wire.is_empty() && !bench.is_receiving);
        bench.decide();
        assert!(bench.is_receiving);
        assert_eq!(bench.wire, CONTINUE);
    }
    let mut bench = undecided(&expecting("/refused"));
    assert!(bench.wire.is_empty());
    bench.decide();
    assert_eq!(bench.statuses(), [404]);
    assert_eq!(bench.seen, [Seen::Shutdown]);
}

#[test]
fn every_request_but_a_plain_get_or_head_is_decided_on() {
    let bare = |method: &str, headers: &str| format!("{method} /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    for (request, is_decided) in [
        (bare("GET", ""), false),
        (bare("HEAD", ""), false),
        (bare("GET", "Content-Length: 0\r\n"), false),
        (bare("GET", "Content-Length: 1\r\n"), true),
        (bare("HEAD", "Transfer-Encoding: chunked\r\n"), true),
        (bare("POST", ""), true),
        (bare("POST", "Content-Length: 0\r\n"), true),
        (bare("PUT", ""), true),
        (bare("DELETE", ""), true),
        (bare("OPTIONS", ""), true),
        (bare("PATCH", ""), true),
        (bare("TRACE", ""), true),
    ] {
        let bench = undecided(&request);
        assert_eq!(bench.conn.undecided().is_some(), is_decided, "{request}");
        assert_eq!(bench.seen.is_empty(), is_decided, "{request}");
    }
}

#[test]
fn requests_behind_one_that_is_refused_are_read_as_those_behind_any_other() {
    let mut bench = undecided(&[post("/refused", "x"), post("/a", "y"), get("/b")].concat());
    bench.decide();
    assert!(bench.conn.undecided().is_some(), "the next head");
    bench.decide();
    assert_eq!(bench.statuses(), [404, 200, 200]);
    assert_eq!(bench.seen, [request("POST /a y"), request("GET /b ")]);
}

#[test]
fn a_decision_that_is_not_due_is_ignored() {
    let mut bench = Bench::holding();
    let late = decision(&crate::http::parse(post("/refused", "").as_bytes()).unwrap().unwrap().0);
    bench.with(|conn, context| conn.decide(context, late.clone()));
    bench.receive(get("/1").as_bytes());
    bench.with(|conn, context| conn.decide(context, late.clone()));
    bench.answer("one");
    assert_eq!(bench.text(), kept("one"));
    bench.receive(get("/sse").as_bytes());
    bench.begin_stream(&[], &[]);
    bench.act();
    let before = bench.wire.len();
    bench.with(|conn, context| conn.decide(context, late));
    bench.act();
    assert_eq!((bench.wire.len() - before, bench.conn.is_streaming()), (0, true));
}

#[test]
fn a_refusal_while_the_server_drains_ends_the_connection_at_once() {
    let mut bench = undecided(&split_off_body(&post("/refused", "body")));
    bench.drain();
    bench.decide();
    assert_eq!(bench.statuses(), [404]);
    assert!(bench.text().contains("Connection: close\r\n"));
    assert_eq!(bench.seen, [Seen::Shutdown]);
}

fn split_off_body(request: &str) -> String {
    request.split_inclusive("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn the_time_of_a_body_begins_with_the_decision() {
    let mut bench = undecided(&split_off_body(&post("/a", "body")));
    bench.at(Duration::from_secs(3));
    bench.decide();
    bench.expire(Duration::from_secs(3) + BODY_TIMEOUT);
    assert_eq!(bench.statuses(), [408]);
}
