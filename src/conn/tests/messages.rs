//! The messages that the tests send and expect, and the options of their connections.

use super::super::BodyPlan;
use super::*;
use crate::auth::{Permission, Rights};
use crate::frame::outbox::OutboxLimits;

pub(super) fn options() -> ConnOptions {
    ConnOptions {
        head_timeout: HEAD_TIMEOUT,
        body_timeout: BODY_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        stall_timeout: Some(STALL_TIMEOUT),
        publish_timeout: PUBLISH_TIMEOUT,
        keepalive: Some(KEEPALIVE),
        body_bytes_max: BODY_BYTES_MAX,
        outbox: OutboxLimits { bytes_max: 10_000, frames_max: 1000 },
        ..ConnOptions::default()
    }
}

/// What every request may do about whose head was decided.
pub(super) fn permission() -> Permission {
    Permission::new(Rights::Only(Vec::new()), Rights::All)
}

/// The decision about a request: `/refused` is refused, and `/lines` has a body of lines.
pub(super) fn decision(head: &RequestHead) -> Decision {
    let admit = |body| Ok(Admission { permission: permission(), body });
    let admission = match head.path_raw() {
        "/lines" => admit(BodyPlan::Lines),
        "/refused" => Err(Problem::not_found("nothing is here")),
        _ => admit(BodyPlan::Whole),
    };
    Decision { admission, is_publish: head.method() == Method::Post }
}

/// A request in two parts. The second part is its last two bytes.
pub(super) fn split(request: &str) -> (&[u8], &[u8]) {
    request.as_bytes().split_at(request.len() - 2)
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub(super) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The head of a request with a chunked body.
pub(super) fn post_chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
}

pub(super) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// The answer with `text` on a persistent connection.
pub(super) fn kept(text: &str) -> String {
    rendered(text, Version::Http11, true, Method::Get)
}

/// The answer with `text` on a connection that ends after it.
pub(super) fn last(text: &str) -> String {
    rendered(text, Version::Http11, false, Method::Get)
}

pub(super) fn rendered(text: &str, version: Version, persistent: bool, method: Method) -> String {
    let context = ResponseContext { version, persistent, head_only: method == Method::Head, date: DATE };
    let mut bytes = Vec::new();
    Response::new(Status::OK, "text/plain", text.as_bytes()).encode(&mut bytes, &context);
    String::from_utf8(bytes).unwrap()
}

pub(super) fn request(text: &str) -> Seen {
    Seen::Request(text.to_owned())
}

pub(super) fn lines(text: &str, first_line: u64, is_end: bool) -> Seen {
    Seen::Lines { text: text.to_owned(), first_line, is_end, failure: None }
}

pub(super) fn broken_lines(text: &str, first_line: u64, status: Status) -> Seen {
    let failure = Some(status.code());
    Seen::Lines { text: text.to_owned(), first_line, is_end: true, failure }
}
