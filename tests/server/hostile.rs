//! Hostile clients over real sockets. Each gets the status for its request, and no other client is
//! affected.

use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver};

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

for_each_driver!(hostile_clients_meet_their_status_and_touch_nobody_else);

fn open(server: &Server, target: &str) -> EventStream {
    let mut stream = EventStream::open(server, target);
    stream.expect("connected");
    stream
}

/// Requests that get a status and a closed connection. `|` is CR LF.
const CLOSING: &[(u16, &str)] = &[
    (400, "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}||"),
    (400, "SSH-2.0-OpenSSH_9.9||"),
    (400, " GET / HTTP/1.1|Host: a||"),
    (400, "GET /||"),
    (400, "GET  / HTTP/1.1|Host: a||"),
    (400, "GET /a b HTTP/1.1|Host: a||"),
    (400, "GET / http/1.1|Host: a||"),
    (400, "GET / HTTP/1.x|Host: a||"),
    (400, "GET / RTSP/1.0|Host: a||"),
    (400, "G@T / HTTP/1.1|Host: a||"),
    (400, "GET /\0 HTTP/1.1|Host: a||"),
    (505, "PRI * HTTP/2.0||SM||"),
    (505, "GET / HTTP/3.0|Host: a||"),
    (400, "GET / HTTP/1.11|Host: a||"),
    (400, "POST /publish HTTP/1.0|Host: localhost||{\"channel\":\"a\",\"data\":1}"),
    (400, "GET /sse HTTP/1.1|Host: [zz]||"),
    (400, "GET /sse HTTP/1.1|Host: [1::2::3]||"),
    (400, "GET /sse HTTP/1.1|Host: a%zz||"),
    (400, "GET http://a%zz/sse HTTP/1.1|Host: a||"),
    (400, "POST /channels/a HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||5;|hello|0||"),
    (400, "POST /channels/a HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||5;bad[=x|hello|0||"),
    (400, "POST /channels/a HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||5;x=\"y|hello|0||"),
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1|Host: a|X: b\rY: c||"),
    (400, "GET / HTTP/1.1|Host: a|X: b| folded||"),
    (400, "GET / HTTP/1.1|Host : a||"),
    (400, "GET / HTTP/1.1|Host: a|: b||"),
    (400, "GET / HTTP/1.1|Host: a|no colon||"),
    (400, "GET sse HTTP/1.1|Host: a||"),
    (400, "GET * HTTP/1.1|Host: a||"),
    (400, "GET http://user@a/ HTTP/1.1|Host: a||"),
    (400, "GET /sse HTTP/1.1||"),
    (400, "GET /sse HTTP/1.1|Host: a|Host: b||"),
    (400, "GET /sse HTTP/1.1|Host: a, b||"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 1|Content-Length: 2||xx"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 1, 2||xx"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: -1||x"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 0x1||x"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 18446744073709551616||x"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 5|Transfer-Encoding: chunked||0||"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked, chunked||0||"),
    (400, "POST /publish HTTP/1.0|Transfer-Encoding: chunked||0||"),
    (501, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: gzip, chunked||0||"),
    (501, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: identity||"),
    (417, "POST /publish HTTP/1.1|Host: localhost|Expect: coffee|Content-Length: 1||x"),
    (413, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 18446744073709551615||x"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||x|"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||-1|a|0||"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||1|ab|0||"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||10000000000000000|a"),
    (413, "POST /publish HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||FFFFFFFFFFFFFFFF|"),
    (400, "POST /channels/a HTTP/1.1|Host: localhost|Transfer-Encoding: chunked||1\na|0||"),
];

/// Requests that get a status on a connection that stays open.
const KEPT: &[(u16, &str)] = &[
    (400, "GET /sse?channel=%zz HTTP/1.1|Host: localhost||"),
    (400, "GET /sse?channel=%ff HTTP/1.1|Host: localhost||"),
    (400, "GET /sse?channel=a%0d%0aX:%20y HTTP/1.1|Host: localhost||"),
    (400, "GET /channels/ HTTP/1.1|Host: localhost||"),
    (400, "GET /channels/a%2 HTTP/1.1|Host: localhost||"),
    (404, "GET /../../etc/passwd HTTP/1.1|Host: localhost||"),
    (404, "GET //sse HTTP/1.1|Host: localhost||"),
    (403, "GET /sse HTTP/1.1|Host: evil.example||"),
    (405, "TRACE /sse HTTP/1.1|Host: localhost||"),
    (405, "CONNECT a:80 HTTP/1.1|Host: a||"),
    (405, "CONNECT /sse HTTP/1.1|Host: localhost||"),
    (403, "GET /sse HTTP/1.1|Host:||"),
    (404, "GET / HTTP/1.1|Host: localhost|X: b\0c\u{1b}||"),
    (404, "GET / HTTP/1.9|Host: localhost||"),
    (405, "PUT /channels/a HTTP/1.1|Host: localhost|Content-Length: 1||x"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 1||{"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 2||\u{e9}"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 4||null"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 24||{\"channel\":\"*\",\"data\":1}"),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 26||{\"channel\":\"a,b\",\"data\":1}"),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 34||{\"channel\":\"a\",\"data\":1,\"id\":\"\\n\"}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 32||{\"channel\":\"a\",\"data\":1,\"x\":\"y\"}",
    ),
    (415, "POST /publish HTTP/1.1|Host: localhost|Content-Type: text/html|Content-Length: 2||{}"),
    (400, "POST /channels/a?retry=0 HTTP/1.1|Host: localhost|Content-Length: 1||x"),
    (400, "POST /channels/a?id=%0a HTTP/1.1|Host: localhost|Content-Length: 1||x"),
    (404, "GET /clients/x HTTP/1.1|Host: localhost||"),
    (404, "GET /clients/00000000000000000000000000000000-0-0 HTTP/1.1|Host: localhost||"),
    (404, "GET /clients/00000000000000000000000000000000-ffff-ffffffff HTTP/1.1|Host: localhost||"),
    (404, "DELETE /clients/00000000000000000000000000000000-3f-0 HTTP/1.1|Host: localhost||"),
    (405, "PATCH /clients/x HTTP/1.1|Host: localhost||"),
    (404, "DELETE /channels/nobody HTTP/1.1|Host: localhost||"),
    (400, "DELETE /channels/a* HTTP/1.1|Host: localhost||"),
    (405, "POST /channels HTTP/1.1|Host: localhost|Content-Length: 0||"),
    (
        404,
        "POST /events/subscribe HTTP/1.1|Host: localhost|Content-Length: 30||{\"clientId\":\"x\",\"channel\":\"a\"}",
    ),
    (
        400,
        "POST /events/subscribe HTTP/1.1|Host: localhost|Content-Length: 28||{\"clientId\":7,\"channel\":\"a\"}",
    ),
    (400, "POST /events/subscribe HTTP/1.1|Host: localhost|Content-Length: 15||{\"channel\":\"a\"}"),
    (400, "POST /events/unsubscribe HTTP/1.1|Host: localhost|Content-Length: 2||[]"),
    (404, "POST /sse/subscribe?client_id=x&channel=a HTTP/1.1|Host: localhost|Content-Length: 0||"),
    (400, "POST /sse/unsubscribe?client_id=x HTTP/1.1|Host: localhost|Content-Length: 0||"),
    (404, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 25||{\"clientId\":\"x\",\"data\":1}"),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 32||{\"channel\":\"a\",\"data\":1,\"ttl\":0}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 35||{\"channel\":\"a\",\"data\":1,\"ttl\":1e99}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 44||{\"channel\":\"a\",\"data\":1,\"idempotencyKey\":\"\"}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Idempotency-Key: k|Content-Length: 45||{\"channel\":\"a\",\"data\":1,\"idempotencyKey\":\"k\"}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Type: application/x-ndjson|Idempotency-Key: k|Content-Length: 24||{\"channel\":\"a\",\"data\":1}",
    ),
    (
        400,
        "POST /publish HTTP/1.1|Host: localhost|Content-Length: 41||{\"channel\":\"a\",\"channels\":[\"b\"],\"data\":1}",
    ),
    (400, "POST /publish HTTP/1.1|Host: localhost|Content-Length: 28||[{\"channel\":\"a\",\"data\":1},7]"),
    (
        400,
        "POST /notify HTTP/1.1|Host: localhost|Content-Length: 72||{\"channel\":\"a\",\"notification\":{\"type\":\"loud\",\"title\":\"t\",\"message\":\"m\"}}",
    ),
    (
        400,
        "POST /progress HTTP/1.1|Host: localhost|Content-Length: 74||{\"userId\":\"u\",\"progress\":{\"taskId\":\"t\",\"progress\":101,\"status\":\"running\"}}",
    ),
    (400, "GET /sse?channel=a%20* HTTP/1.1|Host: localhost||"),
    (400, "GET /sse?replay=-1 HTTP/1.1|Host: localhost||"),
];

fn lines(text: &str) -> String {
    text.replace('|', "\r\n")
}

/// Requests too long to be written out.
fn long_requests() -> Vec<(u16, Vec<u8>)> {
    let line = |length| format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(length));
    vec![
        (414, line(9_000).into_bytes()),
        (501, vec![b'G'; 2 * 1024 * 1024]),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(2 * 1024 * 1024)).into_bytes()),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(2000)).into_bytes()),
        (
            413,
            format!(
                "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n{}",
                "x".repeat(2_000_000)
            )
            .into_bytes(),
        ),
        (400, b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec()),
        (400, [&[0xff; 64], b"\r\n\r\n".as_slice()].concat()),
        (400, vec![0; 4096]),
    ]
}

fn status_of(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
}

fn hostile_clients_meet_their_status_and_touch_nobody_else(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = open(&server, "/channels/a");
    let mut neighbour = Client::connect(&server);
    let mut count = 0;
    let mut serving = |stream: &mut EventStream| {
        count += 1;
        let (text, (_, receivers)) = (count.to_string(), neighbour.publish_text("a", &count.to_string()));
        assert_eq!(receivers, 1);
        assert_eq!(stream.message(), text);
        count
    };
    for (status, request) in CLOSING {
        let mut client = Client::connect(&server);
        client.send(lines(request));
        let answer = client.rest();
        assert_eq!(status_of(&answer), *status, "{request:?}: {}", String::from_utf8_lossy(&answer));
        assert!(answer.windows(21).any(|part| part == b"\r\nConnection: close\r\n"), "{request:?}");
        serving(&mut stream);
    }
    for (status, request) in KEPT {
        let mut client = Client::connect(&server);
        let answer = client.ask(&lines(request));
        assert_eq!(answer.status(), *status, "{request:?}: {}", answer.text());
        assert!(answer.head.contains("\r\nContent-Type: application/problem+json\r\n"), "{}", answer.head);
        assert_eq!(client.ask(HEALTHZ).status(), 200, "{request:?}");
        serving(&mut stream);
    }
    for (status, request) in long_requests() {
        let mut client = Client::connect(&server);
        // The server answers before the whole request has come, and does not read on for ever.
        drop(client.try_send(&request));
        assert_eq!(client.answer().status(), status, "{:?}…", String::from_utf8_lossy(&request[..60]));
        serving(&mut stream);
    }
    // Clients that break off anywhere, and clients that send into a stream.
    for cut in [1, 5, 20, 40, 60, 70] {
        let request = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nhello";
        let mut client = Client::connect(&server);
        client.send(&request[..cut]);
        client.shutdown_write();
        drop(client);
        serving(&mut stream);
    }
    let mut client = Client::connect(&server);
    client.send("GET /channels/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.head();
    // More than the server reads: the client is cut off, perhaps in the middle of this.
    for _ in 0..100 {
        drop(client.try_send("x".repeat(10_000)));
    }
    let served = serving(&mut stream);
    println!("{served} hostile clients, the server serving on after each");
}
