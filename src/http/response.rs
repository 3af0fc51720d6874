//! Responses as bytes: heads, bodies of known length, and the head of a stream (RFC 9112 4, 6, 9.6).

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::request::Version;
use super::status::Status;
use crate::base::decimal::push_decimal;

/// The response that asks a waiting client to send its body (RFC 9110 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A date in the format of the `Date` header (RFC 9110 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type HttpDate = [u8; 29];

/// Renders a time. The result changes once a second, so a caller may cache it until then.
#[must_use]
pub fn http_date(at: SystemTime) -> HttpDate {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let moment = SystemTime::UNIX_EPOCH + since_epoch.min(LAST_DATE);
    let mut date = [b' '; 29];
    let text = httpdate::fmt_http_date(moment);
    date.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    date
}

/// The last second of the year 9999. The format has no digits for later dates.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// The properties of its request and its connection that a response depends on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext {
    /// The request's version; [`Version::Http11`] if no request line was read.
    pub version: Version,
    /// Whether the connection stays open after this response. Client and server must both want that.
    pub persistent: bool,
    /// Whether the request was `HEAD`, so that the response has no body.
    pub head_only: bool,
    /// The current second.
    pub date: HttpDate,
}

/// A response with a complete body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    status: Status,
    content_type: Option<&'static str>,
    body: Cow<'a, [u8]>,
    headers: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Response<'a> {
    /// A response without a body.
    #[must_use]
    pub fn empty(status: Status) -> Response<'a> {
        Response { status, content_type: None, body: Cow::Borrowed(&[]), headers: Vec::new() }
    }

    /// A response with a body of the given type.
    #[must_use]
    pub fn new(status: Status, content_type: &'static str, body: impl Into<Cow<'a, [u8]>>) -> Response<'a> {
        Response { status, content_type: Some(content_type), body: body.into(), headers: Vec::new() }
    }

    /// A response with a JSON text as its body.
    #[must_use]
    pub fn json(status: Status, body: impl Into<Cow<'a, [u8]>>) -> Response<'a> {
        Response::new(status, "application/json", body)
    }

    /// Adds a header. The response itself sets `Date`, `Cache-Control`, `Content-Type`, `Content-Length`
    /// and `Connection`.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Response<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Appends the whole response to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, context: &ResponseContext) {
        out.reserve(HEAD_BYTES_USUAL + self.body.len());
        begin(out, self.status, context);
        out.extend_from_slice(b"Cache-Control: no-store\r\n"); // The answer is valid only now.
        if let Some(content_type) = self.content_type {
            push_header(out, "Content-Type", content_type);
        }
        if !self.status.is_bodiless() {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, self.body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &self.headers {
            push_header(out, name, value);
        }
        push_connection(out, context.version, context.persistent);
        out.extend_from_slice(b"\r\n");
        if !context.head_only && !self.status.is_bodiless() {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Appends the head of a stream's 200, with `headers` (`Vary`, CORS) after the common ones. On HTTP/1.1
/// the stream is chunked; on HTTP/1.0 it ends with the connection. A stream is the last response of its
/// connection, and its head says `Connection: close`. Otherwise a client that reuses connections would
/// send its next request after the end of the stream and get a reset.
pub fn stream_head(out: &mut Vec<u8>, context: &ResponseContext, headers: &[(&str, &str)]) {
    out.reserve(HEAD_BYTES_USUAL);
    begin(out, Status::OK, context);
    out.extend_from_slice(
        b"Content-Type: text/event-stream\r\n\
          Cache-Control: no-cache, no-transform\r\n\
          X-Accel-Buffering: no\r\n",
    );
    for (name, value) in headers {
        push_header(out, name, value);
    }
    out.extend_from_slice(match context.version {
        Version::Http11 => b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        Version::Http10 => b"Connection: close\r\n\r\n",
    });
}

fn begin(out: &mut Vec<u8>, status: Status, context: &ResponseContext) {
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(&context.date);
    out.extend_from_slice(b"\r\n");
}

/// Adds `Connection` if the version does not imply it (RFC 9112 9.3).
fn push_connection(out: &mut Vec<u8>, version: Version, persistent: bool) {
    out.extend_from_slice(match (version, persistent) {
        (Version::Http11, true) => b"",
        (Version::Http10, true) => b"Connection: keep-alive\r\n",
        (Version::Http11 | Version::Http10, false) => b"Connection: close\r\n",
    });
}

/// A control character in a value becomes a space, so that a value can never start a line (RFC 9110
/// 5.5).
fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_from = out.len();
    out.extend_from_slice(value.as_bytes());
    for byte in &mut out[value_from..] {
        if byte.is_ascii_control() {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Most heads fit in this many bytes.
const HEAD_BYTES_USUAL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn context(version: Version, persistent: bool, head_only: bool) -> ResponseContext {
        let date = http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        ResponseContext { version, persistent, head_only, date }
    }

    fn encode(response: &Response<'_>, context: &ResponseContext) -> String {
        let mut out = Vec::new();
        response.encode(&mut out, context);
        String::from_utf8(out).unwrap()
    }

    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const NO_STORE: &str = "Cache-Control: no-store\r\n";

    #[test]
    fn a_response_has_its_length_and_its_headers() {
        let response = Response::json(Status::OK, b"{\"a\":1}".as_slice()).with_header("Vary", "Origin");
        assert_eq!(
            encode(&response, &context(Version::Http11, true, false)),
            format!(
                "HTTP/1.1 200 OK\r\n{DATE}{NO_STORE}Content-Type: application/json\r\nContent-Length: 7\r\nVary: Origin\r\n\r\n{{\"a\":1}}"
            )
        );
    }

    #[test]
    fn head_gives_the_length_without_the_body() {
        let response = Response::new(Status::OK, "text/plain", vec![b'x'; 1234]);
        let text = encode(&response, &context(Version::Http11, true, true));
        assert!(text.contains("Content-Length: 1234\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_status_without_a_body_has_no_length() {
        let text = encode(&Response::empty(Status::NO_CONTENT), &context(Version::Http11, true, false));
        assert_eq!(text, format!("HTTP/1.1 204 No Content\r\n{DATE}{NO_STORE}\r\n"));
        let text = encode(&Response::empty(Status::OK), &context(Version::Http11, true, false));
        assert!(text.contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn connection_is_sent_unless_the_version_implies_it() {
        for (version, persistent, expected) in [
            (Version::Http11, true, None),
            (Version::Http11, false, Some("Connection: close\r\n")),
            (Version::Http10, true, Some("Connection: keep-alive\r\n")),
            (Version::Http10, false, Some("Connection: close\r\n")),
        ] {
            let text = encode(&Response::empty(Status::OK), &context(version, persistent, false));
            match expected {
                Some(line) => assert!(text.contains(line), "{text}"),
                None => assert!(!text.contains("Connection"), "{text}"),
            }
        }
    }

    #[test]
    fn a_value_never_starts_a_line() {
        let response = Response::empty(Status::OK).with_header("X", "a\r\nSet-Cookie: b");
        let text = encode(&response, &context(Version::Http11, true, false));
        assert!(text.contains("X: a  Set-Cookie: b\r\n"));
    }

    #[test]
    fn a_stream_is_chunked_on_1_1_and_ends_with_the_connection_on_1_0() {
        let common = format!(
            "HTTP/1.1 200 OK\r\n{DATE}Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
        );
        let mut out = Vec::new();
        stream_head(&mut out, &context(Version::Http11, true, false), &[("Vary", "Origin")]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("{common}Vary: Origin\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        );
        let mut out = Vec::new();
        stream_head(&mut out, &context(Version::Http10, true, false), &[]);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{common}Connection: close\r\n\r\n"));
    }

    #[test]
    fn dates_out_of_range_are_clamped() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(&http_date(before), b"Thu, 01 Jan 1970 00:00:00 GMT");
        let after = SystemTime::UNIX_EPOCH + LAST_DATE + Duration::from_secs(1);
        assert_eq!(&http_date(after), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
