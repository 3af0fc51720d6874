//! Bodies of lines: whole lines are handed over as they arrive, up to the place where the body breaks
//! off.

use super::super::exchange::LINES_BYTES_MAX;
use super::*;
use crate::http::CONTINUE;

#[test]
fn whole_lines_are_handed_over_as_they_come() {
    let mut bench = Bench::new();
    bench.receive(post_chunked("/lines").as_bytes());
    bench.receive(chunk("a\nb\nc").as_bytes());
    bench.receive(chunk("c").as_bytes());
    bench.receive(chunk("\n\nd\ne").as_bytes());
    assert!(bench.wire.is_empty() && bench.is_receiving);
    bench.receive(("0\r\n\r\n".to_owned() + &get("/next")).as_bytes());
    let expected = [
        lines("a\nb\n", 1, false),
        lines("cc\n\nd\n", 3, false),
        lines("e", 6, true), // The last line may lack its line feed.
        request("GET /next "),
    ];
    assert_eq!(bench.seen, expected);
    assert_eq!(bench.text(), kept("a\nb\ncc\n\nd\ne") + &kept("GET /next "));
}

#[test]
fn a_body_that_is_there_at_once_is_handed_over_at_once() {
    for (body, text) in [("a\nb\n", "a\nb\n"), ("a\nb", "a\nb"), ("", ""), ("\n", "\n")] {
        let mut bench = Bench::new();
        bench.receive((post("/lines", body) + &get("/next")).as_bytes());
        assert_eq!(bench.seen, [lines(text, 1, true), request("GET /next ")]);
        assert_eq!(bench.text(), kept(text) + &kept("GET /next "));
    }
    let mut bench = Bench::new();
    bench.receive(b"POST /lines HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(bench.seen, [lines("", 1, true), Seen::Shutdown], "a request without a body has no lines");
}

#[test]
fn nothing_is_read_while_lines_are_dealt_with() {
    let mut bench = Bench::holding();
    bench.receive((post_chunked("/lines") + &chunk("a\nb")).as_bytes());
    assert_eq!(bench.seen, [lines("a\n", 1, false)]);
    assert!(bench.conn.awaits_answer() && !bench.is_receiving);
    bench.take_more_lines();
    assert!(!bench.conn.awaits_answer() && bench.is_receiving);
    bench.take_more_lines();
    bench.answer("nothing was handed over");
    assert!(bench.is_receiving && bench.wire.is_empty());
    bench.receive(("0\r\n\r\n".to_owned() + &get("/next")).as_bytes());
    assert_eq!(bench.seen[1..], [lines("b", 2, true)]);
    assert!(bench.conn.awaits_answer() && !bench.is_receiving);
    bench.answer("all");
    assert_eq!(bench.text(), kept("all"));
    assert_eq!(bench.seen[2..], [request("GET /next ")]);
}

#[test]
fn good_lines_are_handed_over_before_a_bad_chunk() {
    for bad in ["nonsense\r\n", "5\r\nd\nefg!!"] {
        let mut bench = Bench::new();
        bench.receive((post_chunked("/lines") + &chunk("a\nb\nc") + bad).as_bytes());
        let text = if bad.starts_with('5') { "a\nb\ncd\n" } else { "a\nb\n" };
        assert_eq!(bench.seen, [broken_lines(text, 1, Status::BAD_REQUEST), Seen::Shutdown]);
        assert_eq!(bench.statuses(), [400]);
        assert!(bench.text().contains("Connection: close\r\n"));
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_wherever_it_is_cut() {
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    let fits = &long[..BODY_BYTES_MAX];
    for tail in ["\nafter\n", ""] {
        let body = format!("a\n{fits}\n{long}{tail}");
        let request = post("/lines", &body);
        let body_at = request.len() - body.len();
        for cut in body_at..=request.len() {
            let mut bench = Bench::new();
            bench.feed(&request.as_bytes()[..cut]);
            bench.feed(&request.as_bytes()[cut..]);
            let good: String = bench.seen.iter().map(text_of).collect();
            assert_eq!(good, format!("a\n{fits}\n"), "cut at {cut}");
            assert_eq!(bench.statuses(), [413]);
            assert!(bench.text().contains("line 3 is longer than 1000 bytes"), "{}", bench.text());
            assert_eq!(bench.seen.last(), Some(&Seen::Shutdown));
        }
    }
}

fn text_of(seen: &Seen) -> &str {
    match seen {
        Seen::Lines { text, .. } => text,
        Seen::Request(_) | Seen::Shutdown | Seen::Close(_) => "",
    }
}

#[test]
fn a_body_that_pauses_too_long_is_handed_over_as_far_as_it_came() {
    let mut bench = Bench::new();
    bench.receive(post_chunked("/lines").as_bytes());
    bench.at(Duration::from_secs(19));
    bench.receive(chunk("a\nb").as_bytes());
    bench.at(Duration::from_secs(38));
    bench.receive(chunk("c").as_bytes());
    bench.expire(Duration::from_secs(38) + BODY_TIMEOUT);
    let end = [broken_lines("", 2, Status::REQUEST_TIMEOUT), Seen::Shutdown];
    assert_eq!(bench.seen, [&[lines("a\n", 1, false)][..], &end].concat());
    assert_eq!(bench.statuses(), [408]);
}

#[test]
fn a_body_does_not_pause_while_its_lines_are_dealt_with() {
    let mut bench = Bench::holding();
    bench.receive((post_chunked("/lines") + &chunk("a\n")).as_bytes());
    bench.at(Duration::from_secs(4));
    bench.take_more_lines();
    bench.expire(Duration::from_secs(4) + BODY_TIMEOUT);
    assert_eq!(bench.seen[1..], [broken_lines("", 2, Status::REQUEST_TIMEOUT)]);
}

#[test]
fn lines_that_are_not_committed_in_time_get_an_error() {
    let mut bench = Bench::holding();
    bench.receive((post_chunked("/lines") + &chunk("a\n")).as_bytes());
    bench.expire(PUBLISH_TIMEOUT);
    assert_eq!(bench.statuses(), [503]);
    assert_eq!(bench.seen[1..], [Seen::Shutdown], "the rest of the body is not read");
    bench.take_more_lines();
    bench.answer("late");
    assert_eq!(bench.statuses(), [503]);
}

#[test]
fn an_answer_before_the_end_ends_the_connection() {
    let mut bench = Bench::holding();
    bench.receive((post_chunked("/lines") + &chunk("a\n")).as_bytes());
    bench.answer("no more of that");
    assert_eq!(bench.text(), last("no more of that"));
    assert_eq!(bench.seen[1..], [Seen::Shutdown]);
    bench.receive(chunk("b\n").as_bytes());
    assert_eq!(bench.seen.len(), 2);
}

#[test]
fn a_body_of_any_length_is_held_in_bounded_pieces() {
    let line = "x".repeat(99) + "\n";
    let piece = chunk(&line.repeat(10));
    let mut bench = Bench::holding();
    bench.receive(post_chunked("/lines").as_bytes());
    // More than one read of a driver, so that the bound takes effect.
    bench.receive(piece.repeat(1000).as_bytes());
    let mut total = 0;
    while !bench.is_receiving {
        let Some(Seen::Lines { text, first_line, .. }) = bench.seen.last() else { panic!("lines are due") };
        assert_eq!(*first_line, total / 100 + 1);
        assert!(text.len() < LINES_BYTES_MAX + 1000, "{}", text.len());
        total += text.len() as u64;
        bench.take_more_lines();
    }
    assert_eq!(total, 1_000_000);
    assert_eq!(bench.seen.len(), 1_000_000_usize.div_ceil(LINES_BYTES_MAX));
}

#[test]
fn a_line_may_be_longer_than_the_collected_bytes() {
    let mut bench = Bench::new();
    bench.options.body_bytes_max = 3 * LINES_BYTES_MAX;
    let next = request("GET /next ");
    let line = "x".repeat(3 * LINES_BYTES_MAX) + "\n";
    let body = format!("a\n{line}b\n");
    let chunks: String =
        body.as_bytes().chunks(100).map(|data| chunk(str::from_utf8(data).unwrap())).collect();
    for request in [post("/lines", &body), post_chunked("/lines") + &chunks + "0\r\n\r\n"] {
        bench.seen.clear();
        assert!(bench.feed((request + &get("/next")).as_bytes()).is_empty());
        let text: String = bench.seen.iter().map(text_of).collect();
        assert_eq!(text, body);
        assert_eq!(bench.seen.last(), Some(&next));
    }
}

#[test]
fn a_client_that_waits_to_send_lines_gets_100_continue() {
    let mut bench = Bench::new();
    let head = post_chunked("/lines").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    bench.receive(head.as_bytes());
    assert_eq!(bench.wire, CONTINUE);
    bench.receive((chunk("a\n") + "0\r\n\r\n").as_bytes());
    assert_eq!(bench.statuses(), [100, 200]);
}

#[test]
fn a_body_whose_peer_ends_its_side_too_early_is_answered_behind_its_whole_lines() {
    let mut bench = Bench::new();
    bench.receive((post_chunked("/lines") + &chunk("a\nb")).as_bytes());
    bench.end();
    assert_eq!(bench.seen[..2], [lines("a\n", 1, false), broken_lines("", 2, Status::BAD_REQUEST)]);
    assert!(bench.text().contains("ended its side before the request's body was whole"), "{}", bench.text());
    assert_eq!(bench.seen[2..], [Seen::Shutdown, Seen::Close(CloseReason::Finished)]);
}

#[test]
fn a_whole_body_whose_peer_has_ended_its_side_is_answered() {
    for body in ["a\nb\n", "a\nb"] {
        let mut bench = Bench::holding();
        bench.receive((post_chunked("/lines") + &chunk(body)).as_bytes());
        bench.take_more_lines();
        bench.receive(b"0\r\n\r\n");
        if bench.is_receiving {
            bench.end();
        }
        while bench.conn.awaits_answer()
            && matches!(bench.seen.last(), Some(Seen::Lines { is_end: false, .. }))
        {
            bench.take_more_lines();
        }
        bench.answer("all");
        assert_eq!(bench.text(), kept("all"));
    }
}
