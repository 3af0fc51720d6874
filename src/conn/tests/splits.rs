//! The outcome does not depend on how the network cuts the input, and how the socket accepts the output.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Requests after which the connection continues.
fn good() -> impl Strategy<Value = String> {
    let word = "[a-z]{0,12}";
    let body_lines = vec("[a-z]{0,20}", 0..6).prop_map(|lines| lines.join("\n"));
    let chunks = vec("[a-z\n]{1,20}", 0..5);
    prop_oneof![
        "[a-z]{1,8}".prop_map(|path| get(&format!("/{path}"))),
        Just("\r\n".to_owned() + &get("/blank")),
        Just(get("/head").replace("GET", "HEAD")),
        Just(get("/sse").replace("GET", "HEAD")),
        Just(get("/old").replace("1.1\r\n", "1.0\r\nConnection: keep-alive\r\n")),
        word.prop_map(|body| post("/body", &body)),
        word.prop_map(|body| post("/refused", &body)),
        body_lines.prop_map(|body| post("/lines", &body)),
        (prop::sample::select(vec!["/body", "/refused", "/lines"]), chunks).prop_map(|(path, chunks)| {
            let body: String = chunks.iter().map(|data| chunk(data)).collect();
            post_chunked(path) + &body + "0\r\nTrailer: x\r\n\r\n"
        }),
    ]
}

/// Bytes that end a connection, or none.
fn ends() -> impl Strategy<Value = String> {
    let too_long = "x".repeat(BODY_BYTES_MAX + 1);
    prop::sample::select(vec![
        String::new(),
        get("/close").replace("Host", "Connection: close\r\nHost") + &get("/ignored"),
        get("/old").replace("1.1", "1.0"),
        get("/sse") + "ignored",
        get("/sse").replace("1.1", "1.0"),
        "GET /\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        get("/unfinished").trim_end().to_owned(),
        post("/body", &too_long),
        post_chunked("/body") + "2\r\nabc\r\n",
        post_chunked("/refused") + "2\r\nabc\r\n",
        post("/lines", &format!("a\nb\n{too_long}\nc\n")),
        post_chunked("/lines") + &chunk("a\nb\nc") + "x\r\n",
        post_chunked("/lines") + &chunk("a\nb") + &chunk(&too_long) + "x\r\n",
        post_chunked("/lines") + &chunk("a\nb"),
    ])
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    (vec(good(), 0..8), ends()).prop_map(|(good, end)| (good.concat() + &end).into_bytes())
}

/// How a socket accepts bytes.
#[derive(Clone, Copy, Debug)]
struct Socket {
    room: usize,
    is_ring: bool,
}

const PLAIN: Socket = Socket { room: usize::MAX, is_ring: false };

/// The outcome of `bytes` that are cut at `cuts`: what the shard saw, with lines joined, and the bytes
/// that the peer got.
fn outcome(bytes: &[u8], cuts: &[usize], socket: Socket) -> (Vec<Seen>, String) {
    let Socket { room, is_ring } = socket;
    let mut bench = Bench { room, is_ring, ..Bench::new() };
    let mut from = 0;
    for &to in cuts.iter().chain(&[bytes.len()]) {
        if from < to {
            bench.write_out(room);
            assert!(bench.feed(&bytes[from..to]).is_empty(), "all is written, so that all is read");
            from = to;
        }
    }
    bench.write_out(room);
    if bench.is_receiving {
        bench.end();
        bench.write_out(room);
    }
    assert!(bench.is_closed(), "the peer has ended");
    (joined(bench.seen), String::from_utf8(bench.wire).unwrap())
}

/// Joins lines that were handed over one after the other.
fn joined(seen: Vec<Seen>) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for next in seen {
        if let (Some(Seen::Lines { text, is_end, failure, .. }), Seen::Lines { text: more, first_line, .. }) =
            (all.last_mut(), &next)
            && !*is_end
        {
            assert_eq!(*first_line, text.matches('\n').count() as u64 + 1);
            text.push_str(more);
            if let Seen::Lines { is_end: ends, failure: fails, .. } = next {
                (*is_end, *failure) = (ends, fails);
            }
            continue;
        }
        all.push(next);
    }
    all
}

proptest! {
    #[test]
    fn cuts_do_not_change_the_outcome(
        bytes in streams(),
        places in vec(any::<prop::sample::Index>(), 0..20),
        room in prop_oneof![1_usize..400, Just(usize::MAX)],
        is_ring: bool,
    ) {
        let mut cuts: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(outcome(&bytes, &cuts, Socket { room, is_ring }), outcome(&bytes, &[], PLAIN));
    }

    #[test]
    fn byte_by_byte_is_no_different(bytes in streams()) {
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        prop_assert_eq!(outcome(&bytes, &cuts, PLAIN), outcome(&bytes, &[], PLAIN));
    }

    /// Any inputs in any order pass the checks of the bench.
    #[test]
    fn no_order_of_inputs_breaks_a_connection(
        bytes in streams(),
        steps in vec((0_usize..8, 0_usize..60, 0_u64..8000), 1..60),
        holds: bool,
        is_ring: bool,
        room in 0_usize..300,
    ) {
        let mut bench = Bench { holds, is_ring, room, ..Bench::new() };
        let mut left = bytes.as_slice();
        for (step, count, milliseconds) in steps {
            bench.now += Duration::from_millis(milliseconds);
            match step {
                0 | 1 if bench.is_receiving && !left.is_empty() => {
                    let (read, rest) = left.split_at(count.clamp(1, left.len()));
                    bench.receive(read);
                    left = rest;
                }
                2 if matches!(bench.under_way, UnderWay::Send { .. }) && !bench.is_closed() => bench.complete(),
                2 if !bench.is_closed() => bench.make_room(count),
                3 => bench.answer("answer"),
                4 => bench.handle(Input::DeadlineReached),
                5 if count == 0 => bench.drain(),
                6 if count == 0 && bench.is_receiving => bench.end(),
                7 if count == 0 => {
                    bench.end_stream();
                }
                _ => {}
            }
        }
        prop_assert!(bench.conn.waiting_bytes() < 100_000);
    }
}
