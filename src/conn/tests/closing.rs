//! Ends: those that the server begins, those that the peer causes, and those of a drain.

use super::super::closing::{LINGER, LINGER_BRIEFLY_BYTES_MAX, LINGER_BYTES_MAX, PAUSE};
use super::super::stream::RECEIVED_BYTES_MAX;
use super::*;

const BAD: &[u8] = b"nonsense\r\n\r\n";

/// A connection in every state in which it can rest, by name.
fn states() -> Vec<(&'static str, Bench)> {
    let with = |name, bytes: &[u8]| {
        let mut bench = Bench::holding();
        bench.receive(bytes);
        (name, bench)
    };
    let head = get("/1");
    let (idle, mut answered) = (("idle", Bench::new()), ("answered", Bench::new()));
    answered.1.receive(head.as_bytes());
    let mut unread = ("unread", Bench { room: 5, ..Bench::new() });
    unread.1.receive(head.as_bytes());
    let mut undecided = ("undecided", Bench { holds_heads: true, ..Bench::holding() });
    undecided.1.receive(post("/1", "").as_bytes());
    let mut streaming = ("streaming", Bench::new());
    streaming.1.receive(get("/sse").as_bytes());
    let mut ending = ("ending", Bench::new());
    ending.1.receive(get("/sse").as_bytes());
    ending.1.room = 0;
    ending.1.end_stream();
    vec![
        idle,
        answered,
        with("in a head", &head.as_bytes()[..head.len() - 1]),
        undecided,
        with("in a body", split(&post("/1", "body")).0),
        with("asked", head.as_bytes()),
        with("in lines", post_chunked("/lines").as_bytes()),
        with("in lines, asked", (post_chunked("/lines") + &chunk("a\n")).as_bytes()),
        with("discarding", split(&post("/refused", "body")).0),
        unread,
        streaming,
        ending,
        with("lingering", BAD),
    ]
}

#[test]
fn an_error_is_sent_then_the_end_and_then_the_connection_lingers() {
    let mut bench = Bench::new();
    bench.receive(BAD);
    assert_eq!(bench.statuses(), [400]);
    assert_eq!(bench.seen, [Seen::Shutdown]);
    assert!(bench.is_receiving);
    bench.receive(get("/late").as_bytes());
    bench.receive(get("/later").as_bytes());
    assert_eq!((bench.statuses(), bench.seen.len()), (vec![400], 1), "nobody answers any more");
    bench.end();
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn the_end_is_sent_only_when_all_is_written() {
    for length in 1..100 {
        let mut bench = Bench { room: length, ..Bench::new() };
        bench.receive(BAD);
        assert!(bench.seen.is_empty() && !bench.is_receiving);
        bench.write_out(length);
        assert_eq!(bench.seen, [Seen::Shutdown]);
        assert!(bench.is_receiving);
    }
}

#[test]
fn a_connection_lingers_for_a_bounded_time() {
    let mut bench = Bench::new();
    bench.at(Duration::from_secs(3));
    bench.receive(BAD);
    bench.at(Duration::from_secs(4));
    bench.receive(b"more");
    bench.expire(Duration::from_secs(4) + PAUSE);
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
    assert_eq!(bench.deadline(), None);
}

#[test]
fn a_connection_whose_peer_never_pauses_lingers_for_a_bounded_time() {
    let mut bench = Bench::new();
    bench.receive(BAD);
    for second in 1..30 {
        bench.at(Duration::from_secs(second));
        bench.receive(b"more");
        assert_eq!(bench.deadline(), Some(LINGER.min(Duration::from_secs(second) + PAUSE)));
    }
    bench.expire(LINGER);
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

/// Feeds bytes up to the limit of a lingering connection, and one byte more.
fn hear_out(bench: &mut Bench, bytes_max: usize) {
    assert_eq!(bench.seen.last(), Some(&Seen::Shutdown));
    assert!(bench.feed(&vec![0; bytes_max - 1]).is_empty());
    assert!(!bench.is_closed() && bench.is_receiving);
    bench.receive(b"x");
}

#[test]
fn a_connection_that_was_turned_away_lingers_briefly() {
    let mut bench = Bench::new();
    bench.conn.turn_away();
    bench.receive(BAD);
    hear_out(&mut bench, LINGER_BRIEFLY_BYTES_MAX);
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn a_stream_whose_client_sends_too_much_ends_and_lingers_briefly() {
    let mut bench = Bench::new();
    bench.receive(get("/sse").as_bytes());
    bench.wire.clear();
    bench.seen.clear();
    assert!(bench.feed(&vec![b'x'; RECEIVED_BYTES_MAX as usize]).is_empty());
    assert!(bench.conn.is_streaming() && bench.wire.is_empty(), "so much is thrown away");
    bench.receive(b"x");
    assert_eq!(bench.text(), "0\r\n\r\n", "its stream is whole");
    hear_out(&mut bench, LINGER_BRIEFLY_BYTES_MAX);
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::SentTooMuch)]);
}

#[test]
fn only_a_lingering_connection_stops_lingering() {
    for (name, mut bench) in states() {
        let seen = bench.seen.clone();
        let lingers = bench.conn.has_lingered();
        assert_eq!(lingers, name == "lingering", "{name}");
        bench.conn.stop_lingering();
        bench.act();
        let closed = lingers.then_some(Seen::Close(CloseReason::Finished));
        assert_eq!(bench.seen[seen.len()..], closed.into_iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(bench.conn.has_lingered(), lingers, "{name}: also when it is closed");
    }
}

#[test]
fn a_stream_whose_client_ends_its_side_ends_with_its_last_chunk() {
    for room in [usize::MAX, 0] {
        let mut bench = Bench::new();
        bench.receive(get("/sse").as_bytes());
        bench.wire.clear();
        bench.seen.clear();
        bench.make_room(room);
        bench.conn.push_unbounded(Run::own(b"waiting".to_vec()));
        bench.end();
        assert!(!bench.conn.is_streaming());
        bench.make_room(usize::MAX);
        assert_eq!(bench.text(), "waiting0\r\n\r\n");
        assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Peer)]);
    }
    // A peer that has gone altogether answers with a reset.
    let mut bench = Bench { room: 0, ..Bench::new() };
    bench.receive(get("/sse").as_bytes());
    bench.end();
    bench.handle(Input::Failed);
    assert_eq!(bench.seen.last(), Some(&Seen::Close(CloseReason::Peer)));
}

#[test]
fn a_connection_lingers_for_a_bounded_number_of_bytes() {
    let mut bench = Bench::new();
    bench.receive(BAD);
    let most = vec![0; LINGER_BYTES_MAX - 1];
    assert!(bench.feed(&most).is_empty());
    assert!(!bench.is_closed() && bench.is_receiving);
    bench.receive(b"x");
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn an_input_after_the_time_is_over_closes_too() {
    let mut bench = Bench::new();
    bench.receive(BAD);
    bench.at(LINGER);
    bench.receive(b"x");
    assert_eq!(bench.seen, [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn a_connection_that_failed_is_closed_at_once_in_every_state() {
    for (name, mut bench) in states() {
        bench.handle(Input::Failed);
        assert_eq!(bench.seen.last(), Some(&Seen::Close(CloseReason::Failed)), "{name}");
        assert_eq!((bench.conn.waiting_bytes(), bench.deadline()), (0, None), "{name}");
        let seen = bench.seen.clone();
        bench.handle(Input::Failed);
        bench.handle(Input::Writable);
        bench.handle(Input::DeadlineReached);
        bench.answer("late");
        bench.conn.abort();
        bench.drain();
        assert_eq!(bench.seen, seen, "{name}: closed once");
    }
}

#[test]
fn an_aborted_connection_is_closed_at_once_in_every_state() {
    for (name, mut bench) in states() {
        bench.conn.abort();
        bench.act();
        assert_eq!(bench.seen.last(), Some(&Seen::Close(CloseReason::Aborted)), "{name}");
    }
}

#[test]
fn the_connection_ends_with_its_peer_once_nothing_is_due() {
    let finished: &[Seen] = &[Seen::Shutdown, Seen::Close(CloseReason::Finished)];
    let gone: &[Seen] = &[Seen::Close(CloseReason::Peer)];
    let ended: &[Seen] = &[Seen::Shutdown, Seen::Close(CloseReason::Peer)];
    let broken_off: &[Seen] = &[broken_lines("", 1, Status::BAD_REQUEST)];
    for (name, mut bench) in states() {
        if !bench.is_receiving {
            continue; // It notices the end at its next receive.
        }
        let before = bench.seen.len();
        bench.end();
        let expected = match name {
            "idle" | "in a head" => gone,
            "streaming" => ended,
            "lingering" => &finished[1..],
            "in lines" => broken_off,   // The answer says how many were published.
            "unread" | "ending" => &[], // The peer may still read the waiting bytes.
            _ => finished,
        };
        assert_eq!(&bench.seen[before..], expected, "{name}");
        if name == "in a body" {
            assert_eq!(bench.statuses(), [400]);
        }
        if name == "unread" {
            bench.make_room(usize::MAX);
            assert_eq!(bench.text(), kept("GET /1 "));
            assert_eq!(&bench.seen[before..], finished);
        }
    }
}

#[test]
fn a_peer_that_ends_its_side_after_a_request_gets_its_answer() {
    let mut bench = Bench::holding();
    bench.receive(get("/1").as_bytes());
    bench.answer("one");
    bench.end();
    assert_eq!(bench.text(), kept("one"));
    assert_eq!(bench.seen[1..], [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn a_drain_finishes_the_current_request_and_no_more() {
    for (name, mut bench) in states() {
        let before = bench.seen.len();
        bench.drain();
        let ends_now = name == "answered";
        assert_eq!(bench.seen[before..].contains(&Seen::Shutdown), ends_now, "{name}");
        match name {
            "idle" => bench.receive(get("/1").as_bytes()),
            "in a head" => bench.receive(b"\n"),
            "in a body" | "discarding" => bench.receive(b"dy"),
            "in lines" => bench.receive((chunk("a\n") + "0\r\n\r\n").as_bytes()),
            "in lines, asked" => {
                bench.take_more_lines();
                bench.receive(b"0\r\n\r\n");
            }
            "unread" => bench.make_room(usize::MAX),
            "undecided" => bench.decide(),
            _ => {}
        }
        while bench.conn.awaits_answer() {
            if bench.seen.last().is_some_and(|seen| matches!(seen, Seen::Lines { is_end: false, .. })) {
                bench.take_more_lines();
                bench.receive(b"0\r\n\r\n");
            }
            bench.answer("last");
            assert_eq!(bench.text(), last("last"), "{name}");
        }
        let is_stream = ["streaming", "ending"].contains(&name);
        assert_eq!(bench.seen.last() == Some(&Seen::Shutdown), !is_stream, "{name}: {:?}", bench.seen);
        assert!(!is_stream || bench.seen.len() == 1, "a stream is ended by the shard");
    }
}

#[test]
fn a_drain_drops_requests_after_the_current_one() {
    let mut bench = Bench::holding();
    bench.receive((get("/1") + &get("/2")).as_bytes());
    bench.drain();
    bench.answer("last");
    assert_eq!(bench.text(), last("last"));
    assert_eq!(bench.seen, [request("GET /1 "), Seen::Shutdown]);
}
