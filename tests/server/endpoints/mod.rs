//! Every endpoint over real sockets, with the exact bytes of request and answer. Only dates, ids and
//! client ids are masked.

mod access;
mod clients;
mod fixed;
mod managing;
mod problems;
mod publishing;
mod retries;
mod rights;
mod streams;

use crate::common::{Client, EventStream, Server, exchange, wire};

/// A stream of channel `a`, and a client that has begun to publish lines, in chunks.
pub(crate) fn begin_lines(server: &Server) -> (EventStream, Client) {
    let mut stream = EventStream::open(server, "/channels/a");
    stream.expect("connected");
    let mut client = Client::connect(server);
    client.send(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    (stream, client)
}

/// Sends a request over a connection of its own, and compares all that comes back.
#[track_caller]
pub(crate) fn check(server: &Server, request: &str, answer: &str) {
    assert_eq!(exchange(server, &wire(request)), wire(answer), "answer to {request:?}");
}

/// The answer of an error, from its status line, its further headers and its detail. The detail has no
/// quotes.
pub(crate) fn problem(status: &str, headers: &str, detail: &str) -> String {
    let (code, title) = status.split_once(' ').unwrap();
    let detail = detail.replace('"', "\\\"");
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#);
    format!(
        "HTTP/1.1 {status}\nDate: *\nCache-Control: no-store\nContent-Type: application/problem+json\nContent-Length: {}\n{headers}\n{body}",
        body.len()
    )
}

pub(crate) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\nDate: *\nContent-Type: text/event-stream\n\
    Cache-Control: no-cache, no-transform\nX-Accel-Buffering: no\n";

/// One chunk of a body. Its size counts the masked characters of `text`.
pub(crate) fn chunk(text: &str) -> String {
    let unmasked =
        text.replace("<client>", &"c".repeat(36)).replace("#", &"#".repeat(27)).len() - id_digits(text);
    format!("{unmasked:x}\r\n{text}\r\n")
}

/// Digits of masked ids; they are a part of the id.
fn id_digits(text: &str) -> usize {
    text.split('#').skip(1).map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count()).sum()
}

pub(crate) fn connected(id: &str, channels: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
    format!(
        "retry: 3000\nevent: connected\n{id}data: {{\"connected\":true,\"clientId\":\"<client>\",\
         \"client_id\":\"<client>\",\"userId\":null,\"channels\":[{channels}]}}\n\n"
    )
}
