//! Streams whose client reads nothing.

use super::*;
use crate::frame::outbox::Pushed;

const AN_HOUR: Duration = Duration::from_secs(3600);
const A_WHILE: Duration = Duration::from_secs(40);
const FIRST_TRY: Duration = Duration::from_secs(1);

/// A stream whose socket is full from `silence` after its beginning on.
fn full(is_ring: bool, silence: Duration) -> Bench {
    let mut bench = Bench { is_ring, ..Bench::streaming() };
    bench.options.keepalive = None;
    bench.at(silence);
    bench.make_room(0);
    assert_eq!(bench.push("waiting"), Pushed::Queued);
    if is_ring {
        bench.complete();
    }
    assert_eq!(bench.under_way, UnderWay::Room);
    bench
}

/// Moves the time to the deadline, and completes the try.
fn try_at(bench: &mut Bench, expected: Duration) {
    bench.expire(expected);
    if bench.is_ring {
        assert_eq!(bench.deadline(), None, "it is being tried");
        bench.complete();
    }
}

/// Makes both tries of a socket that has been full since `since` and accepts nothing.
fn expire(bench: &mut Bench, since: Duration) {
    try_at(bench, since + FIRST_TRY);
    assert_eq!(bench.seen, []);
    try_at(bench, since + STALL_TIMEOUT);
    assert_eq!(bench.seen, [Seen::Close(CloseReason::Stalled)]);
}

#[test]
fn a_full_socket_that_takes_nothing_is_tried_once_more_and_closed() {
    for (is_ring, silence) in [(false, INSTANT), (true, INSTANT), (false, AN_HOUR), (true, AN_HOUR)] {
        let mut bench = full(is_ring, silence);
        expire(&mut bench, silence);
    }
}

#[test]
fn a_full_socket_that_accepts_a_byte_gets_its_full_time_again() {
    for is_ring in [false, true] {
        let mut bench = full(is_ring, INSTANT);
        bench.at(A_WHILE);
        bench.make_room(1);
        if is_ring {
            bench.complete();
        }
        assert_eq!(bench.under_way, UnderWay::Room);
        expire(&mut bench, A_WHILE);
    }
}

#[test]
fn reported_room_that_accepts_nothing_does_not_count_as_progress() {
    let mut bench = full(false, INSTANT);
    bench.at(2 * INSTANT);
    bench.make_room(0);
    expire(&mut bench, INSTANT);
}

#[test]
fn either_try_finds_room_that_was_not_reported() {
    for (is_ring, is_first) in [(false, false), (false, true), (true, false), (true, true)] {
        for room in [1, usize::MAX] {
            let mut bench = full(is_ring, INSTANT);
            let mut at = INSTANT + FIRST_TRY;
            if !is_first {
                try_at(&mut bench, at);
                at = INSTANT + STALL_TIMEOUT;
            }
            bench.room = room;
            try_at(&mut bench, at);
            if room == 1 {
                expire(&mut bench, at); // The byte has restarted its time.
            } else {
                assert_eq!((bench.seen.len(), bench.deadline()), (0, None), "all is written");
                assert!(bench.conn.is_idle_stream());
            }
        }
    }
}

#[test]
fn room_that_is_reported_during_a_try_begins_no_second_send() {
    let mut bench = full(true, INSTANT);
    bench.room = 1;
    bench.expire(INSTANT + FIRST_TRY);
    assert!(matches!(bench.under_way, UnderWay::Send { .. }));
    bench.handle(Input::Writable);
    bench.complete();
    assert_eq!(bench.under_way, UnderWay::Room);
}

#[test]
fn a_stream_that_ends_is_not_waited_for_longer_than_one_that_goes_on() {
    let mut bench = full(false, INSTANT);
    bench.options.idle_timeout = 2 * STALL_TIMEOUT;
    try_at(&mut bench, INSTANT + FIRST_TRY);
    bench.at(A_WHILE);
    bench.end_stream();
    try_at(&mut bench, A_WHILE + STALL_TIMEOUT);
    assert_eq!(bench.seen, [Seen::Close(CloseReason::Stalled)]);
}

#[test]
fn without_a_limit_a_stream_waits_for_ever() {
    let mut bench = full(false, INSTANT);
    bench.options.stall_timeout = None;
    assert_eq!(bench.deadline(), None);
    bench.at(AN_HOUR);
    bench.handle(Input::DeadlineReached);
    assert_eq!(bench.seen, []);
}
