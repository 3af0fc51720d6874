//! The memory held for incomplete requests and unread answers, and what happens without room.

use super::*;

const SMALL: usize = 100;

impl Bench {
    fn held(&self) -> usize {
        self.conn.held_bytes(SMALL)
    }

    fn refuse_held(&mut self) -> bool {
        let problem = Problem::unavailable("no room", Duration::from_secs(1));
        let changed = self.with(|conn, context| conn.refuse_held(context, &problem));
        self.act();
        changed
    }
}

#[test]
fn received_bytes_are_held_and_announced_ones_are_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.held(), 0);
    bench.receive(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n");
    assert_eq!(bench.held(), 0, "none of 900 bytes has come");
    bench.receive(&[b'x'; 300]);
    assert_eq!(bench.held(), 300);
    bench.receive(&[b'x'; 600]);
    assert_eq!(bench.held(), 0, "it was handed over and answered");
    bench.receive((post_chunked("/lines") + &chunk("a\nbcd")).as_bytes());
    assert_eq!(bench.held(), 3, "of lines what is no line yet");
}

#[test]
fn an_answer_is_held_where_it_is_large_or_the_socket_is_full() {
    let mut bench = Bench { room: 1, is_ring: true, ..Bench::holding() };
    bench.receive(get("/1").as_bytes());
    bench.answer("small");
    let small = rendered("small", Version::Http11, true, Method::Get).len();
    assert_eq!(bench.conn.held_bytes(small), 0, "it is under way");
    assert_eq!(bench.conn.held_bytes(small - 1), small);
    bench.complete();
    assert_eq!(bench.conn.held_bytes(small), small - 1, "nobody reads it");
    bench.make_room(usize::MAX);
    bench.complete();
    assert_eq!(bench.held(), 0);
}

#[test]
fn an_incomplete_request_without_room_is_refused() {
    let head = &get("/1").into_bytes()[..20];
    for (request, lines_seen) in [
        (head, 0),
        (b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nx", 0),
        ((post_chunked("/lines") + &chunk("a\nb")).as_bytes(), 2),
    ] {
        let mut bench = Bench::new();
        bench.receive(request);
        assert!(bench.held() > 0 && bench.refuse_held());
        assert_eq!(bench.statuses(), [503]);
        assert!(bench.text().contains("\r\nConnection: close\r\n"));
        assert_eq!(bench.seen.len(), lines_seen + 1);
        assert_eq!(bench.seen.last(), Some(&Seen::Shutdown));
        assert!(bench.held() == 0 && !bench.refuse_held(), "once");
    }
}

#[test]
fn an_unread_answer_without_room_closes_and_a_request_that_waits_for_the_log_stays() {
    let mut bench = Bench { room: 0, ..Bench::new() };
    bench.receive(get("/1").as_bytes());
    assert!(bench.held() > 0 && bench.refuse_held());
    assert_eq!(bench.seen.last(), Some(&Seen::Close(CloseReason::TooSlow)));
    let mut bench = Bench::holding();
    bench.receive((get("/1") + &get("/2")).as_bytes());
    assert!(bench.held() > 0, "the second waits");
    assert!(!bench.refuse_held(), "and is bounded by what one receive brings");
    bench.answer("one");
    bench.answer("two");
    assert_eq!(bench.text(), kept("one") + &kept("two"));
}
