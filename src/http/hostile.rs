//! Malicious and mistaken requests, each with the status of its answer, however the network cuts it.

use super::{BodyDecoder, HeadScanner, Known, RequestError, RequestHead};
use crate::base::limits::{
    CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX, TRAILER_BYTES_MAX,
};

/// Feeds `input` in pieces that end at `cuts`. Returns the requests with their bodies, and the error
/// that ends the connection.
pub(super) fn drive(input: &[u8], cuts: &[usize]) -> (Vec<(RequestHead, Vec<u8>)>, Option<RequestError>) {
    let mut requests = Vec::new();
    let mut peer = Peer::default();
    for &end in cuts.iter().chain([&input.len()]) {
        if let Err(error) = peer.offer(&input[..end], &mut requests) {
            return (requests, Some(error));
        }
    }
    (requests, None)
}

pub(super) const BODY_BYTES_MAX: u64 = 1000;

#[derive(Default)]
struct Peer {
    taken: usize,
    scanner: HeadScanner,
    body: Option<(RequestHead, BodyDecoder, Vec<u8>)>,
}

impl Peer {
    /// Reads as much of `input` as it can. `taken` counts the bytes that are already read.
    fn offer(
        &mut self,
        input: &[u8],
        requests: &mut Vec<(RequestHead, Vec<u8>)>,
    ) -> Result<(), RequestError> {
        loop {
            if self.body.is_none() {
                let Some((head, consumed)) = self.scanner.parse(&input[self.taken..])? else {
                    return Ok(());
                };
                self.taken += consumed;
                let decoder = BodyDecoder::new(head.framing(), BODY_BYTES_MAX)?;
                self.body = Some((head, decoder, Vec::new()));
            }
            let (head, mut decoder, mut data) = self.body.take().unwrap();
            while !decoder.is_done() && self.taken < input.len() {
                let (consumed, part) = decoder.decode(&input[self.taken..])?;
                assert!(consumed > 0, "each call takes something");
                self.taken += consumed;
                data.extend_from_slice(part);
            }
            if decoder.is_done() {
                requests.push((head, data));
            } else {
                self.body = Some((head, decoder, data));
                return Ok(());
            }
        }
    }
}

/// Replaces each `|` by `\r\n`, so that a row fits on a line.
pub(super) fn lines(text: &str) -> Vec<u8> {
    text.replace('|', "\r\n").into_bytes()
}

/// Heads that are refused at their end or before it.
pub(super) const HEADS: &[(u16, &str)] = &[
    // Not HTTP, or almost HTTP.
    (400, "\u{16}\u{3}\u{1}"),
    (400, " GET / HTTP/1.1|Host: a||"),
    (400, "GET|Host: a||"),
    (400, "GET /||"),
    (400, "GET  / HTTP/1.1|Host: a||"),
    (400, "GET /a b HTTP/1.1|Host: a||"),
    (400, "GET / HTTP/1.1 |Host: a||"),
    (400, "GET / http/1.1|Host: a||"),
    (400, "GET / HTTP/1.11|Host: a||"),
    (400, "GET / HTTP/1.12|Host: a||"),
    (400, "GET / HTTP/1|Host: a||"),
    (400, "GET / HTTP/1.2 x|Host: a||"),
    (400, "GET / HTTP/1.2 |Host: a||"),
    (400, "GET / HTTP/1.x|Host: a||"),
    (400, "GET / FTP/1.1|Host: a||"),
    (400, "G@T / HTTP/1.1|Host: a||"),
    (400, "GET /\u{7f} HTTP/1.1|Host: a||"),
    (400, "GET /\0 HTTP/1.1|Host: a||"),
    (505, "GET / HTTP/2.0|Host: a||"),
    (505, "GET / HTTP/0.9|Host: a||"),
    (505, "PRI * HTTP/2.0||SM||"),
    // Line ends other than CR LF; folded, empty and spaced fields.
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1|Host: a\n|"),
    (400, "GET / HTTP/1.1|Host: a|\n"),
    (400, "GET / HTTP/1.1|Host: a\rX: b||"),
    (400, "GET / HTTP/1.1\r|Host: a||"),
    (400, "\nGET / HTTP/1.1|Host: a||"),
    (400, "|||||GET / HTTP/1.1|Host: a||"),
    (400, "GET / HTTP/1.1|Host: a|X: b| folded||"),
    (400, "GET / HTTP/1.1| X: folded|Host: a||"),
    (400, "GET / HTTP/1.1|Host : a||"),
    (400, "GET / HTTP/1.1|Host\t: a||"),
    (400, "GET / HTTP/1.1|Host: a|: b||"),
    (400, "GET / HTTP/1.1|Host: a|no colon||"),
    (400, "GET / HTTP/1.1|Host: a|X\u{1}: b||"),
    (400, "GET / HTTP/1.1|Host: a|X: \0|\u{b}folded||"),
    (400, "GET / HTTP/1.1|Host: a|X: \0\rY: b||"),
    (400, "GET / HTTP/1.2|Host: a|no colon||"),
    (400, "GET / HTTP/1.1|Host: a|\u{fc}: b||"),
    // Targets.
    (400, "GET sse HTTP/1.1|Host: a||"),
    (400, "GET * HTTP/1.1|Host: a||"),
    (400, "GET /#x HTTP/1.1|Host: a||"),
    (400, "CONNECT a:b HTTP/1.1|Host: a||"),
    (400, "GET a:80 HTTP/1.1|Host: a||"),
    (400, "GET ftp://a/ HTTP/1.1|Host: a||"),
    (400, "GET http:///x HTTP/1.1|Host: a||"),
    (400, "GET http://user@a/ HTTP/1.1|Host: a||"),
    // Hosts and other headers with a single value.
    (400, "GET / HTTP/1.1||"),
    (400, "GET http://a/ HTTP/1.1||"),
    (400, "GET / HTTP/1.1|Host: a|Host: b||"),
    (400, "GET / HTTP/1.1|Host: a|host: a||"),
    (400, "GET / HTTP/1.0|Host: a|Host: b||"),
    (400, "GET / HTTP/1.1|Host: a, b||"),
    (400, "GET / HTTP/1.1|Host: a/b||"),
    (400, "GET / HTTP/1.1|Host: a:b||"),
    (400, "GET / HTTP/1.1|Host: a\0||"),
    (400, "GET / HTTP/1.1|Host: \u{e9}||"),
    (400, "GET / HTTP/1.1|Host: [zz]||"),
    (400, "GET / HTTP/1.1|Host: [1::2::3]||"),
    (400, "GET / HTTP/1.1|Host: a%zz||"),
    (400, "GET http://[1::2::3]/ HTTP/1.1|Host: a||"),
    (400, "GET http://a%zz/ HTTP/1.1|Host: a||"),
    // Framing.
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 1|Content-Length: 2||xx"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 1, 2||xx"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: +1||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: -1||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 1 1||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: \u{c}1||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 1\0||x"),
    (400, "POST / HTTP/1.0||x"),
    (400, "PUT / HTTP/1.0|Content-Type: text/plain||x"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: \u{b}chunked||0||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked\u{c}||0||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked\0||0||"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 0x1||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length:||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 1,||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551616||x"),
    (400, "POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||"),
    (400, "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip|Content-Length: 5||0||"),
    (400, "POST / HTTP/1.1|Host: a|Transfer-Encoding:||0||"),
    (400, "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||"),
    (400, "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: gzip||0||"),
    (400, "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked,||0||"),
    (400, "POST / HTTP/1.0|Transfer-Encoding: chunked||0||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: identity||"),
    (501, "POST / HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||"),
    (413, "POST / HTTP/1.1|Host: a|Content-Length: 1001||x"),
    (413, "POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551615||x"),
    (417, "POST / HTTP/1.1|Host: a|Expect: coffee|Content-Length: 1||x"),
    (417, "POST / HTTP/1.1|Host: a|Expect: 100-continue, coffee|Content-Length: 1||x"),
];

/// Bodies of chunked requests.
pub(super) const CHUNKED_BODIES: &[(u16, &str)] = &[
    (400, "|"),
    (400, ";x|"),
    (400, "x|"),
    (400, "-1|a|0||"),
    (400, "+1|a|0||"),
    (400, "0x1|a|0||"),
    (400, " 1|a|0||"),
    (400, "1 |a|0||"),
    (400, "1 1|a|0||"),
    (400, "1\na|0||"),
    (400, "1\r\ra|0||"),
    (400, "1;x\ny|a|0||"),
    (400, "1;x\0|a|0||"),
    (400, "1;|a|0||"),
    (400, "1; |a|0||"),
    (400, "1;;x|a|0||"),
    (400, "1;x |a|0||"),
    (400, "1;x y|a|0||"),
    (400, "1;x=|a|0||"),
    (400, "1;=y|a|0||"),
    (400, "1;x=y=z|a|0||"),
    (400, "1;x=y |a|0||"),
    (400, "1;bad[=x|a|0||"),
    (400, "1;x=[|a|0||"),
    (400, "1;x=\"y|a|0||"),
    (400, "1;x=\"y\\|a|0||"),
    (400, "1;x=\"y\"z|a|0||"),
    (400, "1;x=\"\u{7f}\"|a|0||"),
    (400, "1;x=\"\\\0\"|a|0||"),
    (400, "0;|"),
    (400, "1|ab|0||"),
    (400, "1|a\n0||"),
    (400, "1|a0||"),
    (400, "10000000000000000|a"),
    (400, "00000000000000001|a|0||"),
    (400, "0|no colon||"),
    (400, "0| folded: x||"),
    (400, "0|: x||"),
    (400, "0|X : y||"),
    (400, "0|X: y\nZ: a||"),
    (400, "0|X: \0||"),
    (400, "0|\n"),
    (413, "3e9|"),
    (413, "3e8|{1000}|1|"),
    (413, "FFFFFFFFFFFFFFFF|"),
];

/// Requests that look odd but are correct.
pub(super) const TAKEN: &[&str] = &[
    "||||GET / HTTP/1.1|Host: a||",
    "get / HTTP/1.1|Host:||",
    "GET / HTTP/1.2|Host: a||",
    "POST / HTTP/1.9|Host: a|X: \u{7}|Transfer-Encoding: chunked||0||",
    "GET / HTTP/1.0|Content-Length: 0||",
    "CONNECT a:80 HTTP/1.1|Host: a:80||",
    "CONNECT [::1]:80 HTTP/1.1|Host: a:80||",
    "GET / HTTP/1.1|Host: a|X: b\0c||",
    "GET / HTTP/1.1|Host: a|X: b\u{1b}c|Cookie:\u{1}\u{b}\u{c}\u{1f}\u{7f}|Y:\0||",
    "GET / HTTP/1.1|Host: a|Last-Event-ID: \u{1}|Last-Event-ID: \u{2}||",
    "GET / HTTP/1.1|Host: a|Origin: b|Origin: c|Authorization: b|Authorization: c||",
    "GET / HTTP/1.1|Host: a|Idempotency-Key: b|Idempotency-Key: c|Content-Type: b|Content-Type: c||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||1\t ; a\t=\t\"b\\\"\u{e9};\"\t;c;d=e|x|0;x=y||",
    "GET / HTTP/1.0||",
    "GET /\u{fc}?a=%zz HTTP/1.1|Host: a||",
    "OPTIONS * HTTP/1.1|Host: a||",
    "GET http://b HTTP/1.1|Host: a||",
    "GET / HTTP/1.1|Host: [::1]:8080|X:\t \t||",
    "GET / HTTP/1.0|Expect: 100-continue||",
    "POST / HTTP/1.1|Host: a|Content-Length: 1|Content-Length: 1, 01||x",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding:\tChunked ||1;a=\"b\"|x|000|T: u||",
    "POST / HTTP/1.1|Host: a|Content-Length: 1||xGET / HTTP/1.1|Host: a||",
];

/// Rows that are too long to write out.
pub(super) fn long_requests() -> Vec<(u16, Vec<u8>)> {
    let with_target = |bytes| lines(&format!("GET /{} HTTP/1.1|Host: a||", "x".repeat(bytes - 1)));
    let with_fields = |count| lines(&format!("GET / HTTP/1.1|Host: a|{}|", "X: y|".repeat(count - 1)));
    let with_head = |bytes: usize| {
        let (before, after) = ("GET / HTTP/1.1|Host: a|X: ", "||");
        let rest = bytes - lines(before).len() - lines(after).len();
        lines(&format!("{before}{}{after}", "y".repeat(rest)))
    };
    let chunked = |body: String| lines(&format!("{CHUNKED_HEAD}{body}"));
    vec![
        (0, with_target(TARGET_BYTES_MAX)),
        (414, with_target(TARGET_BYTES_MAX + 1)),
        (414, with_target(2 * HEAD_BYTES_MAX)),
        (501, vec![b'G'; HEAD_BYTES_MAX]),
        (501, lines(&format!("{} / HTTP/1.1|Host: a||", "M".repeat(9 * 1024)))),
        (0, lines(&format!("{} / HTTP/1.1|Host: a||", "M".repeat(33)))),
        (0, with_fields(HEADERS_MAX)),
        (431, with_fields(HEADERS_MAX + 1)),
        (431, with_fields(2000)),
        (0, with_head(HEAD_BYTES_MAX)),
        (0, [b"\r\n".as_slice(), &with_head(HEAD_BYTES_MAX)].concat()),
        (431, with_head(HEAD_BYTES_MAX + 1)),
        (431, with_head(5 * HEAD_BYTES_MAX)),
        (0, chunked(format!("1;{}|x|0||", "e".repeat(CHUNK_LINE_BYTES_MAX - 4)))),
        (400, chunked(format!("1;{}|x|0||", "e".repeat(CHUNK_LINE_BYTES_MAX - 3)))),
        (0, chunked(format!("0|{}|", "X: 3456789012345|".repeat(TRAILER_BYTES_MAX / 18 - 1)))),
        (400, chunked(format!("0|{}|", "X: 3456789012345|".repeat(TRAILER_BYTES_MAX / 18 + 1)))),
        (400, [lines("GET / HTTP/1.1|Host: "), vec![0xff], lines("||")].concat()),
    ]
    .into_iter()
    .chain(unread_values())
    .collect()
}

/// Headers that a `GET` of no endpoint ignores, with every byte that a value can contain.
fn unread_values() -> impl Iterator<Item = (u16, Vec<u8>)> {
    let value: Vec<u8> = (0..=255).filter(|byte| !b"\r\n".contains(byte)).collect();
    let others = ["X-City", "User-Agent", "Referer", "Connection", "Via"].into_iter();
    let names = Known::ALL.into_iter().filter(|known| *known != Known::Host).map(Known::name).chain(others);
    names.map(move |name| {
        let head = lines(&format!("GET / HTTP/1.1|Host: a|{name}: "));
        (0, [head, value.clone(), lines("||")].concat())
    })
}

const CHUNKED_HEAD: &str = "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||";

/// Every row of every table, as bytes.
pub(super) fn all_requests() -> Vec<(u16, Vec<u8>)> {
    let heads = HEADS.iter().map(|&(status, text)| (status, lines(text)));
    let bodies = CHUNKED_BODIES.iter().map(|&(status, body)| {
        let body = body.replace("{1000}", &"x".repeat(1000));
        (status, lines(&format!("{CHUNKED_HEAD}{body}")))
    });
    let taken = TAKEN.iter().map(|text| (0, lines(text)));
    heads.chain(bodies).chain(taken).chain(long_requests()).collect()
}

#[test]
fn every_hostile_request_meets_its_status() {
    for (status, input) in all_requests() {
        let shown = String::from_utf8_lossy(&input[..input.len().min(120)]).into_owned();
        let (requests, error) = drive(&input, &[]);
        let met = error.as_ref().map_or(0, |error| error.status().code());
        assert_eq!(met, status, "{shown:?} met {error:?}");
        assert_eq!(requests.is_empty(), status != 0, "{shown:?}");
    }
}

#[test]
fn a_hostile_request_meets_its_status_byte_by_byte_too() {
    for (_, input) in all_requests().into_iter().filter(|(_, input)| input.len() < 2000) {
        let cuts: Vec<usize> = (0..input.len()).collect();
        assert_eq!(drive(&input, &cuts), drive(&input, &[]), "{:?}", String::from_utf8_lossy(&input));
    }
}
