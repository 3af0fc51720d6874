//! Time limits, and the answers when they pass.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_connection_without_a_request_is_closed_without_an_answer() {
    let mut bench = Bench::new();
    bench.expire(HEAD_TIMEOUT);
    assert_eq!(bench.seen, [Seen::Close(CloseReason::Idle)]);
    assert!(bench.wire.is_empty());
}

#[test]
fn an_idle_connection_is_closed_without_an_answer() {
    let mut bench = Bench::new();
    bench.at(3 * SECOND);
    bench.receive(get("/1").as_bytes());
    bench.expire(3 * SECOND + IDLE_TIMEOUT);
    assert_eq!(bench.seen[1..], [Seen::Close(CloseReason::Idle)]);
    assert_eq!(bench.text(), kept("GET /1 "));
}

#[test]
fn blank_lines_are_no_request() {
    let mut bench = Bench::new();
    bench.receive(get("/1").as_bytes());
    bench.at(SECOND);
    bench.receive(b"\r\n");
    bench.expire(SECOND + IDLE_TIMEOUT);
    assert_eq!(bench.seen[1..], [Seen::Close(CloseReason::Idle)]);
}

#[test]
fn a_head_is_timed_from_its_first_byte() {
    for before in ["", &get("/0")] {
        let mut bench = Bench::new();
        if !before.is_empty() {
            bench.receive(before.as_bytes());
        }
        bench.at(5 * SECOND);
        bench.receive(b"G");
        bench.at(14 * SECOND);
        bench.receive(b"ET / HTTP/1.1\r\n");
        bench.expire(5 * SECOND + HEAD_TIMEOUT);
        assert_eq!(bench.statuses().last(), Some(&408));
        assert!(bench.text().contains("Connection: close\r\n"));
        assert_eq!(bench.seen.last(), Some(&Seen::Shutdown));
        bench.receive(b"Host: a\r\n\r\n");
        assert_eq!(bench.statuses().last(), Some(&408), "it comes too late");
    }
}

#[test]
fn a_head_that_was_sent_ahead_is_timed_from_the_answer_before_it() {
    let mut bench = Bench::holding();
    bench.receive((get("/1") + "GET ").as_bytes());
    bench.at(4 * SECOND);
    bench.answer("one");
    bench.expire(4 * SECOND + HEAD_TIMEOUT);
    assert_eq!(bench.statuses(), [200, 408]);
}

#[test]
fn a_body_is_timed_from_its_head_however_it_trickles() {
    for body_head in [post("/1", "body").replace("body", ""), post_chunked("/1") + "4\r\n"] {
        let mut bench = Bench::new();
        bench.receive(b"POST ");
        bench.at(5 * SECOND);
        bench.receive(&body_head.as_bytes()[5..]);
        bench.at(15 * SECOND);
        bench.receive(b"b");
        bench.at(24 * SECOND);
        bench.receive(b"o");
        bench.expire(5 * SECOND + BODY_TIMEOUT);
        assert_eq!(bench.statuses(), [408]);
        assert!(bench.text().contains("Connection: close\r\n"));
        assert_eq!(bench.seen, [Seen::Shutdown]);
    }
}

#[test]
fn the_body_of_a_refused_request_that_does_not_come_ends_the_connection_without_another_answer() {
    let mut bench = Bench::new();
    let request = post("/refused", "body");
    bench.receive(&request.as_bytes()[..request.len() - 1]);
    bench.expire(BODY_TIMEOUT);
    assert_eq!(bench.statuses(), [404]);
    assert_eq!(bench.seen, [Seen::Shutdown]);
}

#[test]
fn an_answer_that_is_not_there_in_time_is_given_up_and_ignored_when_it_comes() {
    let mut bench = Bench::holding();
    bench.receive(post("/1", "event").as_bytes());
    bench.expire(PUBLISH_TIMEOUT);
    assert_eq!(bench.statuses(), [503]);
    assert!(bench.text().contains("Retry-After: 1\r\n") && !bench.text().contains("Connection"));
    bench.answer("late");
    assert_eq!(bench.statuses(), [503]);
    assert!(bench.is_receiving, "the connection is kept");
    bench.receive(get("/2").as_bytes());
    bench.answer("two");
    assert_eq!(bench.statuses(), [503, 200]);
}

#[test]
fn an_answer_that_nobody_reads_is_given_up_after_the_idle_time() {
    for request in [get("/1"), get("/1").replace("1.1", "1.0")] {
        let mut bench = Bench { room: 0, ..Bench::new() };
        bench.receive(request.as_bytes());
        bench.at(50 * SECOND);
        bench.make_room(1);
        bench.expire(50 * SECOND + IDLE_TIMEOUT);
        assert_eq!(bench.seen[1..], [Seen::Close(CloseReason::TooSlow)]);
    }
}

#[test]
fn the_time_of_an_answer_begins_with_it() {
    let mut bench = Bench::new();
    bench.receive(get("/1").as_bytes());
    bench.room = 0;
    bench.at(50 * SECOND);
    bench.receive(get("/2").as_bytes());
    bench.expire(50 * SECOND + IDLE_TIMEOUT);
    assert_eq!(bench.seen[2..], [Seen::Close(CloseReason::TooSlow)]);

    let mut bench = Bench { room: 0, ..Bench::holding() };
    bench.receive(get("/sse").replace("GET", "HEAD").as_bytes());
    bench.at(4 * SECOND);
    assert_eq!(bench.begin_stream(&[], &[]), None);
    bench.act();
    bench.expire(4 * SECOND + IDLE_TIMEOUT);
    assert_eq!(bench.seen[1..], [Seen::Close(CloseReason::TooSlow)]);
}

#[test]
fn a_connection_is_idle_from_the_end_of_a_refused_body() {
    let mut bench = Bench::new();
    let request = post("/refused", "body");
    let (most, rest) = split(&request);
    bench.receive(most);
    bench.at(7 * SECOND);
    bench.receive(rest);
    bench.expire(7 * SECOND + IDLE_TIMEOUT);
    assert_eq!(bench.seen, [Seen::Close(CloseReason::Idle)]);
}

/// The connection is not idle while its answer is being written.
#[test]
fn an_answer_that_is_read_slowly_is_read_to_its_end() {
    let mut bench = Bench { room: 0, ..Bench::new() };
    bench.receive(get("/1").as_bytes());
    let answer = kept("GET /1 ");
    let mut moment = Duration::ZERO;
    for _ in 0..answer.len() {
        moment += 50 * SECOND;
        bench.at(moment);
        bench.handle(Input::DeadlineReached);
        bench.make_room(1);
    }
    assert_eq!(bench.text(), answer);
    bench.expire(moment + IDLE_TIMEOUT);
    assert_eq!(bench.seen[1..], [Seen::Close(CloseReason::Idle)]);
}

#[test]
fn a_drained_connection_keeps_its_deadlines() {
    let mut bench = Bench::new();
    bench.receive(b"GET ");
    bench.drain();
    bench.expire(HEAD_TIMEOUT);
    assert_eq!(bench.statuses(), [408]);
    assert_eq!(bench.seen, [Seen::Shutdown]);
}

/// Its request may already be in the socket when the drain begins. A connection without a request must
/// not delay the drain.
#[test]
fn a_newcomer_is_heard_for_a_moment_when_the_server_drains() {
    let mut bench = Bench::new();
    bench.at(HEAD_TIMEOUT / 2);
    bench.drain();
    assert_eq!(bench.seen, []);
    bench.expire(HEAD_TIMEOUT / 2 + Duration::from_secs(1));
    assert_eq!(bench.seen, [Seen::Close(CloseReason::Idle)]);
}

#[test]
fn a_deadline_that_has_not_come_changes_nothing() {
    let mut bench = Bench::holding();
    for bytes in ["", "GET", " /1 HTTP/1.1\r\nHost: a\r\n\r\n"] {
        if !bytes.is_empty() {
            bench.receive(bytes.as_bytes());
        }
        let deadline = bench.deadline();
        bench.handle(Input::DeadlineReached);
        assert_eq!(bench.deadline(), deadline);
    }
    assert_eq!((bench.seen.len(), bench.wire.len()), (1, 0));
}
