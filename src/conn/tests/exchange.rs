//! Requests and their answers: order, persistence, refusals, and backpressure.

use super::super::exchange::{ANSWER_BYTES_MAX, DISCARD_BYTES_MAX, IDLE_BUFFER_BYTES_MAX};
use super::*;
use crate::http::CONTINUE;

#[test]
fn a_request_is_answered_and_the_connection_is_kept() {
    let mut bench = Bench::new();
    for round in 0..3 {
        assert!(bench.is_receiving);
        bench.receive(get("/a").as_bytes());
        assert_eq!(bench.text(), kept("GET /a ").repeat(round + 1));
    }
    assert_eq!(bench.seen, vec![request("GET /a "); 3]);
}

#[test]
fn a_thousand_requests_in_one_read_are_answered_in_order() {
    let requests: String = (0..1000).map(|number| get(&format!("/{number}"))).collect();
    let answers: String = (0..1000).map(|number| kept(&format!("GET /{number} "))).collect();
    for is_ring in [false, true] {
        for room in [1000, usize::MAX] {
            let mut bench = Bench { is_ring, room, ..Bench::new() };
            bench.receive(requests.as_bytes());
            bench.write_out(room);
            assert_eq!(bench.text(), answers);
            assert!(bench.is_receiving && bench.input_capacity() <= IDLE_BUFFER_BYTES_MAX);
        }
    }
}

#[test]
fn a_request_waits_for_the_answer_to_the_one_before() {
    let mut bench = Bench::holding();
    bench.receive(format!("{}{}", get("/1"), get("/2")).as_bytes());
    assert_eq!(bench.seen, [request("GET /1 ")]);
    assert!(bench.conn.awaits_answer() && !bench.is_receiving);
    bench.answer("one");
    assert_eq!(bench.seen, [request("GET /1 "), request("GET /2 ")]);
    assert!(bench.conn.awaits_answer() && !bench.is_receiving);
    bench.answer("two");
    assert!(!bench.conn.awaits_answer() && bench.is_receiving);
    assert_eq!(bench.text(), kept("one") + &kept("two"));
}

#[test]
fn an_answer_that_is_not_due_is_ignored() {
    let mut bench = Bench::holding();
    bench.answer("nobody asked");
    bench.receive(get("/1").as_bytes());
    bench.answer("one");
    bench.answer("again");
    assert!(bench.with(|conn, context| conn.open_stream(context, &[])).is_none());
    bench.take_more_lines();
    assert_eq!(bench.text(), kept("one"));
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn answers_that_nobody_reads_hold_back_requests() {
    let requests = get("/1").repeat(10_000);
    let mut bench = Bench { room: 0, ..Bench::new() };
    let left = bench.feed(requests.as_bytes());
    assert!(!left.is_empty() && !bench.is_receiving);
    let answer = kept("GET /1 ").len();
    let waiting = bench.conn.waiting_bytes();
    assert!(waiting > ANSWER_BYTES_MAX && waiting <= ANSWER_BYTES_MAX + answer, "{waiting}");
    bench.make_room(usize::MAX);
    assert!(bench.feed(left).is_empty());
    assert_eq!(bench.wire.len(), 10_000 * answer);
}

/// A peer that reads a little at a time must not make the server read much each time.
#[test]
fn input_stays_bounded_however_slowly_answers_are_read() {
    let requests = get("/1").repeat(50_000);
    let mut bench = Bench { room: 0, ..Bench::new() };
    let mut left = bench.feed(requests.as_bytes());
    for _ in 0..500 {
        bench.make_room(200);
        left = bench.feed(left);
        let most = 4 * READ_BUFFER_BYTES;
        assert!(bench.input_capacity() <= most, "{} bytes are held", bench.input_capacity());
    }
    assert!(!left.is_empty());
}

#[test]
fn requests_before_the_peers_end_are_answered_however_slowly_it_reads() {
    let requests: String = (0..1000).map(|number| get(&format!("/{number}"))).collect();
    let answers: String = (0..1000).map(|number| kept(&format!("GET /{number} "))).collect();
    let mut bench = Bench { room: 0, ..Bench::new() };
    bench.receive(requests.as_bytes());
    for _ in 0..answers.len() / 100 + 1 {
        if bench.is_receiving {
            bench.end();
        }
        bench.make_room(100);
    }
    if bench.is_receiving {
        bench.end();
    }
    assert_eq!(bench.text(), answers);
    assert_eq!(bench.seen[1000..], [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn short_sends_of_every_length_lose_nothing() {
    let requests = [get("/1"), post("/2", "body"), get("/3")].concat();
    let answers = [kept("GET /1 "), kept("POST /2 body"), kept("GET /3 ")].concat();
    for length in 1..=answers.len() {
        for is_ring in [false, true] {
            let mut bench = Bench { room: length, is_ring, ..Bench::new() };
            bench.receive(requests.as_bytes());
            bench.write_out(length);
            assert_eq!(bench.text(), answers);
            assert_eq!(bench.conn.waiting_bytes(), 0);
        }
    }
}

#[test]
fn an_answer_that_comes_while_another_is_sent_follows_it() {
    let mut bench = Bench { is_ring: true, ..Bench::holding() };
    bench.receive([get("/1"), get("/2"), get("/3")].concat().as_bytes());
    bench.answer("one");
    assert!(matches!(bench.under_way, UnderWay::Send { .. }));
    bench.answer("two");
    bench.complete();
    assert_eq!(bench.text(), kept("one"));
    assert!(matches!(bench.under_way, UnderWay::Send { .. }), "the socket is not full, so it goes on");
    bench.answer("three");
    bench.write_out(usize::MAX);
    assert_eq!(bench.text(), [kept("one"), kept("two"), kept("three")].concat());
}

#[test]
fn the_version_and_the_client_decide_whether_the_connection_is_kept() {
    for (version, header, is_kept) in [
        (Version::Http11, "", true),
        (Version::Http11, "Connection: close\r\n", false),
        (Version::Http10, "", false),
        (Version::Http10, "Connection: keep-alive\r\n", true),
    ] {
        let name = if version == Version::Http11 { "1.1" } else { "1.0" };
        for method in [Method::Get, Method::Head] {
            let word = method.as_str();
            let request = format!("{word} /a HTTP/{name}\r\nHost: a\r\n{header}\r\n");
            let mut bench = Bench::new();
            bench.receive(request.repeat(2).as_bytes());
            let count = if is_kept { 2 } else { 1 };
            let answer = rendered(&format!("{word} /a "), version, is_kept, method);
            assert_eq!(bench.text(), answer.repeat(count));
            assert_eq!(bench.seen.contains(&Seen::Shutdown), !is_kept);
            assert!(bench.is_receiving, "for the next request, or for the peer's end");
        }
    }
}

#[test]
fn a_body_comes_whole_whatever_its_framing() {
    let chunked =
        [post_chunked("/b"), chunk("ab"), chunk("c"), "0\r\nTrailer: x\r\n\r\n".to_owned()].concat();
    for request in [post("/b", "abc"), chunked] {
        let mut bench = Bench::new();
        let (most, rest) = request.split_at(request.len() - 1);
        bench.receive(most.as_bytes());
        assert!(bench.seen.is_empty() && bench.is_receiving);
        bench.receive(format!("{rest}{}", get("/next")).as_bytes());
        assert_eq!(bench.text(), kept("POST /b abc") + &kept("GET /next "));
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let expecting = "Expect: 100-continue\r\n\r\n";
    for head in [post("/a", "xyz"), post_chunked("/a") + "xyz"] {
        let head = head.replace("\r\n\r\nxyz", "\r\n") + expecting;
        let body = if head.contains("chunked") { chunk("xyz") + "0\r\n\r\n" } else { "xyz".to_owned() };
        let mut bench = Bench::new();
        bench.receive(head.as_bytes());
        assert_eq!(bench.wire, CONTINUE);
        bench.receive(body.as_bytes());
        assert_eq!(bench.wire, [CONTINUE, kept("POST /a xyz").as_bytes()].concat());

        let mut bench = Bench::new();
        bench.receive((head + &body).as_bytes());
        assert_eq!(bench.text(), kept("POST /a xyz"), "the body was already there");
    }
}

#[test]
fn a_refusal_replaces_100_continue() {
    let refused = |path: &str, length: usize| {
        let mut bench = Bench::new();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
        bench.receive((head + "Expect: 100-continue\r\n\r\n").as_bytes());
        assert!(bench.text().contains("Connection: close\r\n"));
        assert_eq!(bench.seen, [Seen::Shutdown]);
        bench.statuses()
    };
    assert_eq!(refused("/refused", 1), [404]);
    assert_eq!(refused("/a", BODY_BYTES_MAX + 1), [413]);
    assert_eq!(refused("/refused", 10_000_000), [404]);
}

#[test]
fn the_small_body_of_a_refused_request_is_thrown_away() {
    let chunked = post_chunked("/refused") + &chunk("ab") + "0\r\n\r\n";
    let long = "x".repeat(usize::try_from(DISCARD_BYTES_MAX).unwrap());
    for request in [post("/refused", ""), post("/refused", "abc"), chunked, post("/refused", &long)] {
        let mut bench = Bench::new();
        assert!(bench.feed((request + &get("/next")).as_bytes()).is_empty());
        assert_eq!(bench.statuses(), [404, 200]);
        assert!(!bench.text().contains("Connection: close") && bench.text().ends_with("GET /next "));
        assert!(bench.is_receiving && bench.input_capacity() <= IDLE_BUFFER_BYTES_MAX);
    }
}

#[test]
fn a_refused_request_is_answered_before_its_body_comes() {
    let mut bench = Bench::new();
    let request = post("/refused", "abc");
    bench.receive(&request.as_bytes()[..request.len() - 2]);
    assert_eq!(bench.statuses(), [404]);
    assert!(bench.is_receiving);
    bench.receive(b"c");
    bench.receive(("!".to_owned() + &get("/next")).as_bytes());
    assert_eq!(bench.statuses(), [404, 200]);
}

#[test]
fn the_large_body_of_a_refused_request_ends_the_connection() {
    let head =
        format!("POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", DISCARD_BYTES_MAX + 1);
    let mut bench = Bench::new();
    bench.receive(head.as_bytes());
    assert_eq!(bench.statuses(), [404]);
    assert!(bench.text().contains("Connection: close\r\n"));
    assert_eq!(bench.seen, [Seen::Shutdown]);

    let data = chunk(&"x".repeat(1000));
    let mut bench = Bench::new();
    bench.feed((post_chunked("/refused") + &data.repeat(100)).as_bytes());
    assert_eq!(bench.statuses(), [404]);
    assert_eq!(bench.seen, [Seen::Shutdown], "its length is known only on the way");
}

#[test]
fn errors_are_answered_behind_the_answers_before_them_and_end_the_connection() {
    let too_long = "x".repeat(BODY_BYTES_MAX + 1);
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (post("/a", &too_long), 413),
        (post_chunked("/a") + &chunk(&too_long), 413),
        (post_chunked("/a") + "nonsense\r\n", 400),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), 414),
    ] {
        let mut bench = Bench::new();
        bench.feed([get("/1"), bad, get("/3")].concat().as_bytes());
        assert_eq!(bench.statuses(), [200, status]);
        assert!(bench.text().starts_with(&kept("GET /1 ")) && bench.text().contains("Connection: close"));
        assert_eq!(bench.seen, [request("GET /1 "), Seen::Shutdown]);
    }
}

#[test]
fn an_idle_connection_gives_its_buffers_back() {
    let mut bench = Bench::new();
    bench.options.body_bytes_max = 10_000_000;
    assert_eq!(bench.input_capacity(), 0);
    assert!(bench.feed(post("/a", &"x".repeat(1_000_000)).as_bytes()).is_empty());
    assert_eq!(bench.statuses(), [200]);
    assert!(bench.input_capacity() <= IDLE_BUFFER_BYTES_MAX);
    assert_eq!(bench.conn.waiting_bytes(), 0);
}
