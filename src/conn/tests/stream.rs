//! Streams: their beginning, their keepalive, their outbox, and their end.

use std::rc::Rc;

use super::*;
use crate::base::limits::SEND_SLICES_MAX;
use crate::frame::chunk::LAST_CHUNK;
use crate::frame::coding::CodedRun;
use crate::frame::notice::{KeepaliveStyle, Notice};
use crate::frame::outbox::{PushLimits, Pushed};
use crate::frame::run::{Run, Source};
use crate::http::stream_head;

const AN_HOUR: Duration = Duration::from_secs(3600);

fn own(text: &str) -> Run {
    Run::own(text.as_bytes().to_vec())
}

fn head(version: Version) -> String {
    let context = ResponseContext { version, persistent: true, head_only: false, date: DATE };
    let mut bytes = Vec::new();
    stream_head(&mut bytes, &context, &[]);
    String::from_utf8(bytes).unwrap()
}

fn ping(coding: Coding) -> String {
    let mut bytes = Vec::new();
    Notice::Ping(KeepaliveStyle::Event).render(&mut bytes, coding);
    String::from_utf8(bytes).unwrap()
}

impl Bench {
    /// A stream on HTTP/1.1 after its head is written. `wire` has the bytes after the head.
    pub(super) fn streaming() -> Bench {
        let mut bench = Bench::new();
        bench.receive(get("/sse").as_bytes());
        assert_eq!(bench.text(), head(Version::Http11));
        bench.wire.clear();
        bench.seen.clear();
        assert!(bench.conn.is_streaming() && bench.is_receiving);
        bench
    }

    fn limits(&self) -> PushLimits {
        PushLimits::of(self.options.outbox)
    }

    /// Pushes an event, which is a chunk if the stream is not on HTTP/1.1.
    pub(super) fn push(&mut self, text: &str) -> Pushed {
        let limits = self.limits();
        let pushed = self.conn.push(&CodedRun::new(own(text)), &limits);
        self.act();
        pushed
    }

    fn push_unbounded(&mut self, text: &str) {
        self.conn.push_unbounded(own(text));
        self.act();
    }
}

#[test]
fn a_stream_begins_as_its_version_and_method_require() {
    let keep = "Connection: keep-alive\r\n";
    for (method, version, header, coding) in [
        (Method::Get, Version::Http11, "", Some(Coding::Chunked)),
        (Method::Get, Version::Http11, "Connection: close\r\n", Some(Coding::Chunked)),
        (Method::Get, Version::Http10, "", Some(Coding::Unframed)),
        (Method::Get, Version::Http10, keep, Some(Coding::Unframed)),
        (Method::Head, Version::Http11, "", None),
        (Method::Head, Version::Http11, "Connection: close\r\n", None),
        (Method::Head, Version::Http10, "", None),
        (Method::Head, Version::Http10, keep, None),
    ] {
        let name = if version == Version::Http11 { "1.1" } else { "1.0" };
        let mut bench = Bench::new();
        let request = format!("{} /sse HTTP/{name}\r\nHost: a\r\n{header}\r\n", method.as_str());
        bench.receive(request.as_bytes());
        assert_eq!(bench.text(), head(version), "{request}: a HEAD gives the very head");
        assert!(bench.text().contains("\r\nConnection: close\r\n"), "it is the last answer, and says so");
        assert_eq!(bench.conn.coding(), coding);
        assert_eq!(bench.conn.is_streaming(), coding.is_some());
        assert!(bench.is_receiving);
        assert_eq!(bench.seen.contains(&Seen::Shutdown), method == Method::Head, "{request}");
    }
}

#[test]
fn a_stream_follows_the_answers_before_it_and_requests_after_it_are_not_read() {
    for room in [1, 7, usize::MAX] {
        let mut bench = Bench { room, ..Bench::new() };
        bench.receive([get("/1"), get("/2"), get("/sse"), get("/4")].concat().as_bytes());
        assert_eq!(bench.push("event"), Pushed::Queued);
        bench.write_out(room);
        let answers = [kept("GET /1 "), kept("GET /2 "), head(Version::Http11)].concat();
        assert_eq!(bench.text(), answers + "event");
        bench.receive(get("/5").as_bytes());
        assert_eq!(bench.seen.len(), 3);
        assert!(bench.is_receiving, "a receive notices that the client goes");
    }
}

#[test]
fn the_first_notices_follow_the_head() {
    let mut bench = Bench::holding();
    bench.receive(get("/sse").as_bytes());
    assert_eq!(bench.begin_stream(&[("Vary", "Origin")], &[]), Some(Coding::Chunked));
    bench.push_unbounded("connected");
    assert!(bench.text().contains("Vary: Origin\r\n") && bench.text().ends_with("\r\n\r\nconnected"));
}

#[test]
fn a_head_and_the_first_notices_are_one_slice() {
    for (version, coding) in [("1.1", Coding::Chunked), ("1.0", Coding::Unframed)] {
        let mut bench = Bench::holding();
        bench.receive(get("/sse").replace("HTTP/1.1", &format!("HTTP/{version}")).as_bytes());
        let notices =
            [Notice::Ping(KeepaliveStyle::Event), Notice::CaughtUp { replayed: 1, complete: true, id: None }];
        assert_eq!(bench.begin_stream(&[], &notices), Some(coding));
        assert_eq!(bench.conn.offer(|offer| offer.slices().len()), 1);
        let mut expected = Vec::new();
        notices.iter().for_each(|notice| notice.render(&mut expected, coding));
        bench.act();
        let (head, body) = bench.text().split_once("\r\n\r\n").unwrap();
        assert!(head.contains("text/event-stream"));
        assert_eq!(body.as_bytes(), expected);
    }
}

#[test]
fn an_opening_whose_request_ran_out_of_time_begins_no_stream() {
    let mut bench = Bench::holding();
    bench.receive(get("/sse").as_bytes());
    let opening = bench.with(|conn, context| conn.open_stream(context, &[])).unwrap();
    bench.answer("late");
    bench.with(|conn, context| conn.begin_stream(context, opening));
    assert!(!bench.conn.is_streaming());
    assert_eq!(bench.statuses(), [200]);
}

#[test]
fn events_are_bounded_and_notices_are_not() {
    let mut bench = Bench::streaming();
    bench.make_room(0);
    assert_eq!(bench.push(&"x".repeat(9_999)), Pushed::Queued);
    assert_eq!(bench.push("yz"), Pushed::Full);
    assert_eq!(bench.push("y"), Pushed::Queued);
    bench.push_unbounded("note");
    assert_eq!(bench.conn.waiting_bytes(), 10_004);
    bench.make_room(usize::MAX);
    assert!(bench.text().ends_with("xynote"));
}

#[test]
fn more_runs_than_one_send_takes_go_in_several() {
    for is_ring in [false, true] {
        for room in [1, 100, usize::MAX] {
            let mut bench = Bench { is_ring, ..Bench::streaming() };
            bench.make_room(0);
            let count = 3 * SEND_SLICES_MAX;
            let texts: Vec<String> = (0..count).map(|number| format!("{number},")).collect();
            for text in &texts {
                assert_eq!(bench.push(text), Pushed::Queued);
            }
            bench.room = room;
            bench.write_out(room);
            assert_eq!(bench.text(), texts.concat());
            assert_eq!(bench.conn.waiting_bytes(), 0);
        }
    }
}

#[test]
fn events_during_a_send_are_sent_after_it() {
    let mut bench = Bench { is_ring: true, ..Bench::streaming() };
    assert_eq!(bench.push("1"), Pushed::Queued);
    assert_eq!(bench.push("2"), Pushed::Queued);
    bench.complete();
    assert_eq!(bench.text(), "1");
    assert_eq!(bench.push("3"), Pushed::Queued);
    bench.complete();
    bench.complete();
    assert_eq!((bench.text(), &bench.under_way), ("123", &UnderWay::Nothing));
}

#[test]
fn a_ping_comes_exactly_when_nothing_was_written_for_the_interval() {
    for (version, coding) in [("1.1", Coding::Chunked), ("1.0", Coding::Unframed)] {
        let mut bench = Bench::new();
        bench.receive(format!("GET /sse HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        bench.wire.clear();
        bench.expire(KEEPALIVE);
        assert_eq!(bench.text(), ping(coding));
        bench.at(KEEPALIVE + Duration::from_secs(14));
        assert_eq!(bench.push("5\r\nevent\r\n"), Pushed::Queued);
        bench.wire.clear();
        bench.expire(2 * KEEPALIVE + Duration::from_secs(14));
        assert_eq!(bench.text(), ping(coding), "what is written counts, not who wrote it");
    }
}

#[test]
fn a_ping_is_a_comment_where_that_is_its_style() {
    for (version, expected) in [("1.1", "7\r\n: ping\n\r\n"), ("1.0", ": ping\n")] {
        let mut bench = Bench::new();
        bench.common = Common::new(KeepaliveStyle::Comment);
        bench.receive(format!("GET /sse HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        bench.wire.clear();
        bench.expire(KEEPALIVE);
        assert_eq!(bench.text(), expected);
        bench.expire(2 * KEEPALIVE);
        assert_eq!(bench.text(), expected.repeat(2), "it counts as written like any other");
    }
}

#[test]
fn no_ping_comes_while_bytes_wait_or_keepalive_is_off() {
    let mut bench = Bench::streaming();
    bench.options.stall_timeout = None;
    bench.make_room(0);
    assert_eq!(bench.push("waiting"), Pushed::Queued);
    assert_eq!(bench.deadline(), None);
    bench.at(AN_HOUR);
    bench.handle(Input::DeadlineReached);
    assert_eq!(bench.conn.waiting_bytes(), "waiting".len());
    bench.make_room(usize::MAX);
    assert_eq!(bench.deadline(), Some(AN_HOUR + KEEPALIVE), "counted from the write");

    let mut bench = Bench::streaming();
    bench.options.keepalive = None;
    assert_eq!(bench.deadline(), None);
    bench.at(AN_HOUR);
    bench.handle(Input::DeadlineReached);
    assert!(bench.wire.is_empty() && bench.seen.is_empty());
}

#[test]
fn a_ping_that_waits_is_not_followed_by_another() {
    let mut bench = Bench::streaming();
    bench.options.stall_timeout = None;
    bench.make_room(0);
    bench.expire(KEEPALIVE);
    assert_eq!(bench.deadline(), None);
    bench.at(AN_HOUR);
    bench.handle(Input::DeadlineReached);
    bench.make_room(usize::MAX);
    assert_eq!(bench.text(), ping(Coding::Chunked));
}

#[test]
fn a_stream_ends_with_its_last_chunk_on_1_1_alone() {
    let chunk = "5\r\nevent\r\n";
    for (version, event, end) in [("1.1", chunk, LAST_CHUNK), ("1.0", "event", b"".as_slice())] {
        let mut bench = Bench::new();
        bench.receive(format!("GET /sse HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        bench.wire.clear();
        bench.make_room(0);
        assert_eq!(bench.push(chunk), Pushed::Queued);
        bench.end_stream();
        bench.end_stream();
        assert!(!bench.conn.is_streaming());
        assert_eq!(bench.conn.coding(), None);
        assert_eq!(bench.push("after"), Pushed::Queued, "which nobody misses");
        bench.push_unbounded("after");
        assert_eq!(bench.seen, [request("GET /sse ")], "what waits goes first");
        bench.make_room(usize::MAX);
        assert_eq!(bench.wire, [event.as_bytes(), end].concat());
        assert_eq!(bench.seen[1..], [Seen::Shutdown]);
        bench.end();
        assert_eq!(bench.seen[2..], [Seen::Close(CloseReason::Finished)]);
    }
}

#[test]
fn a_client_that_never_reads_the_end_is_too_slow_after_the_idle_time() {
    for keepalive in [None, Some(KEEPALIVE)] {
        let mut bench = Bench::streaming();
        bench.options.keepalive = keepalive;
        bench.options.stall_timeout = None;
        bench.make_room(0);
        assert_eq!(bench.push("waiting"), Pushed::Queued);
        bench.at(AN_HOUR);
        bench.end_stream();
        assert_eq!(bench.deadline(), Some(AN_HOUR + IDLE_TIMEOUT), "its patience begins with the end");
        bench.at(AN_HOUR + Duration::from_secs(50));
        bench.make_room(1);
        bench.expire(AN_HOUR + Duration::from_secs(50) + IDLE_TIMEOUT);
        assert_eq!(bench.seen, [Seen::Close(CloseReason::TooSlow)]);
    }
}

#[test]
fn the_end_of_a_quiet_stream_has_its_time_to_be_written() {
    let mut bench = Bench { is_ring: true, ..Bench::streaming() };
    bench.options.keepalive = None;
    bench.at(AN_HOUR);
    bench.end_stream();
    assert_eq!(bench.deadline(), Some(AN_HOUR + IDLE_TIMEOUT));
    bench.handle(Input::DeadlineReached);
    bench.complete();
    assert_eq!((bench.wire.as_slice(), bench.seen.as_slice()), (LAST_CHUNK, &[Seen::Shutdown][..]));
}

#[test]
fn a_stream_is_overdue_from_its_maximal_age_until_it_ends() {
    let mut bench = Bench::streaming();
    bench.options.keepalive = None;
    bench.conn.set_stream_end(bench.start + AN_HOUR);
    assert_eq!(bench.deadline(), Some(AN_HOUR));
    assert!(!bench.conn.is_overdue(bench.start + AN_HOUR - INSTANT));
    assert!(bench.conn.is_overdue(bench.start + AN_HOUR));
    bench.options.keepalive = Some(KEEPALIVE);
    assert_eq!(bench.deadline(), Some(KEEPALIVE), "whichever comes first");
    bench.at(AN_HOUR);
    bench.end_stream();
    assert!(!bench.conn.is_overdue(bench.now));
    assert_eq!(bench.wire, LAST_CHUNK);
}

#[test]
fn other_connections_ignore_calls_for_streams() {
    let mut bench = Bench::holding();
    assert_eq!(bench.push("event"), Pushed::Queued);
    bench.push_unbounded("note");
    bench.end_stream();
    bench.conn.set_stream_end(bench.now);
    assert!(!bench.conn.is_overdue(bench.now) && !bench.conn.is_streaming());
    assert_eq!((bench.conn.waiting_bytes(), bench.conn.coding()), (0, None));
    assert!(bench.is_receiving && bench.wire.is_empty());
}

/// A million idle streams take this many megabytes here, and the shard keeps more for each. An idle
/// stream uses no heap: its exchange is freed, and an empty outbox has none.
#[test]
fn a_stream_takes_little_memory() {
    assert!(size_of::<Connection>() <= 96, "{} bytes", size_of::<Connection>());
}

/// An idle connection that exchanges requests has this on the heap, and the buffer that it may keep.
#[test]
fn an_exchange_takes_little_memory() {
    let bytes = size_of::<super::super::exchange::Exchange>();
    assert!(bytes <= 304, "{bytes} bytes");
}

#[test]
fn a_flush_processes_the_result_of_its_send() {
    let mut bench = Bench::streaming();
    let context = |bench: &Bench| (bench.now, bench.options, bench.common.clone());
    let flush = |bench: &mut Bench, taken: Taken| {
        let (now, options, common) = context(bench);
        let context = Context { now, date: &DATE, options: &options, common: &common };
        let mut offered = None;
        let flushed = bench.conn.flush(&context, |offer| {
            offered = Some(offer.bytes());
            taken
        });
        (flushed, offered)
    };
    assert_eq!(flush(&mut bench, Taken::Bytes(0)), (Flushed::NotNow, None), "nothing waits");
    assert!(bench.conn.is_idle_stream());

    assert_eq!(bench.conn.push(&CodedRun::new(own("12345")), &bench.limits()), Pushed::Queued);
    assert!(!bench.conn.is_idle_stream());
    bench.now += KEEPALIVE / 2;
    let whole = Flushed::Whole { bytes: 5, events: 0 };
    assert_eq!(flush(&mut bench, Taken::Bytes(5)), (whole, Some(5)));
    assert!(bench.conn.is_idle_stream());
    assert_eq!(bench.conn.deadline(&bench.options), Some(bench.now + KEEPALIVE), "it was written to");

    assert_eq!(bench.conn.push(&CodedRun::new(own("12345")), &bench.limits()), Pushed::Queued);
    let partly = Flushed::Partly { bytes: 3, events: Some(0) };
    assert_eq!(flush(&mut bench, Taken::Bytes(3)), (partly, Some(5)));
    assert_eq!(flush(&mut bench, Taken::Bytes(2)), (Flushed::NotNow, None), "the socket is full");
    assert_eq!(bench.with(|conn, context| conn.poll_action(context)), None);
    bench.with(|conn, context| conn.handle(context, Input::Writable));
    assert_eq!(flush(&mut bench, Taken::Later), (Flushed::Pending, Some(2)));
    assert_eq!(flush(&mut bench, Taken::Bytes(2)), (Flushed::NotNow, None), "an offer is under way");
    assert_eq!(bench.with(|conn, context| conn.sent(context, 2)), Some(0));
    assert!(bench.conn.is_idle_stream());

    assert_eq!(bench.conn.push(&CodedRun::new(own("6")), &bench.limits()), Pushed::Queued);
    assert_eq!(flush(&mut bench, Taken::Broken), (Flushed::NotNow, Some(1)));
    let closed = bench.with(|conn, context| conn.poll_action(context));
    assert_eq!(closed, Some(Action::Close(CloseReason::Failed)));
}

#[test]
fn a_stream_that_ends_is_not_flushed() {
    let mut bench = Bench::streaming();
    bench.with(|conn, context| conn.end_stream(context.now));
    let flushed = bench.with(|conn, context| conn.flush(context, |_| Taken::Bytes(0)));
    assert_eq!(flushed, Flushed::NotNow);
    assert!(!bench.conn.is_idle_stream());
}

#[test]
fn a_stream_that_waits_for_nothing_takes_four_times_the_frames() {
    let frames = |number| {
        let source = Rc::new(Source::Own(vec![b'x'; number as usize]));
        Run::new(source, 0, number, number)
    };
    let mut bench = Bench::streaming();
    let most = bench.options.outbox.frames_max;
    assert_eq!(bench.conn.push(&CodedRun::new(frames(4 * most)), &bench.limits()), Pushed::Queued);
    assert_eq!(bench.conn.push(&CodedRun::new(frames(1)), &bench.limits()), Pushed::Full);
    bench.room = 4 * most as usize - 1;
    bench.act();
    assert_eq!(bench.conn.waiting_bytes(), 1);
    assert_eq!(
        bench.conn.push(&CodedRun::new(frames(most)), &bench.limits()),
        Pushed::Full,
        "its socket is full"
    );
    assert_eq!(bench.conn.push(&CodedRun::new(frames(most - 1)), &bench.limits()), Pushed::Queued);
}
