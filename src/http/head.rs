//! The incremental request head: finds its end in bytes that arrive in pieces, and reads it once it is
//! whole (RFC 9112 2, 3, 5).
//!
//! `httparse` splits the head. This module and `fields` refuse what `httparse` accepts and the contract
//! does not: bare LF, versions, forms of the target, framing. The connection decides how long a head may
//! take.
//!
//! Every check looks at a prefix of the bytes only, in the order in which they arrive. So the outcome
//! never depends on how the network cut them.

use std::mem::MaybeUninit;

use super::error::{RequestError, quote};
use super::fields::Fields;
use super::request::{BodyFraming, Known, Method, RequestHead, Span, Version, narrow};
use super::target::Target;
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// Reads the head of a request that has arrived whole: [`HeadScanner::parse`] without a scanner.
///
/// # Errors
/// See [`HeadScanner::parse`].
pub fn parse(buf: &[u8]) -> Result<Option<(RequestHead, usize)>, RequestError> {
    HeadScanner::default().parse(buf)
}

/// Looks for the end of a head and remembers how far it got, so that each byte of a slow head is scanned
/// once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Bytes that are already scanned.
    scanned: u16,
    /// Where the request line begins, after ignored blank lines.
    head_start: u16,
    /// Where the current line begins.
    line_start: u16,
    /// Complete lines of the head, without blank ones.
    lines: u8,
}

impl HeadScanner {
    /// Reads the head that begins at `buf[0]`. `None` means that more bytes are needed. The next call
    /// must pass the same bytes, followed by more. `Some` contains the length of the head in bytes. Its
    /// body or the next request follows in `buf`. Any result other than `None` resets the scanner.
    ///
    /// # Errors
    /// Any [`RequestError`] except the errors of bodies, as soon as the bytes show it.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Option<(RequestHead, usize)>, RequestError> {
        let found = match self.find_end(buf) {
            Ok(None) => return Ok(None),
            Ok(Some(end)) => read(&buf[usize::from(self.head_start)..end]).map(|head| Some((head, end))),
            Err(error) => Err(error),
        };
        *self = HeadScanner::default();
        found
    }

    /// Returns true if the bytes of the last call hold the start of a request, not only blank lines. A
    /// connection without one is idle.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.scanned > self.line_start || self.lines > 0
    }

    /// Finds the end of the head, once its blank line has arrived.
    fn find_end(&mut self, buf: &[u8]) -> Result<Option<usize>, RequestError> {
        // Blank lines before the head do not count towards its length, so the bound leaves room for
        // them.
        let window = &buf[..buf.len().min(HEAD_BYTES_MAX + LEADING_BYTES_MAX)];
        let from = usize::from(self.scanned);
        self.check_first_byte(window)?;
        for offset in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
            let at = from + offset;
            self.check_lengths(window, at)?;
            let start = usize::from(self.line_start);
            if at == start || window[at - 1] != b'\r' {
                return Err(RequestError::BareLineFeed { at });
            }
            let is_blank = at - start == 1;
            if is_blank && self.lines > 0 {
                return Ok(Some(at + 1));
            }
            self.line_start = narrow(at + 1);
            if is_blank {
                self.head_start = self.line_start;
                if self.line_start > narrow(LEADING_BYTES_MAX) {
                    return Err(RequestError::LeadingBlankLines { limit: LEADING_LINES_MAX });
                }
                self.check_first_byte(window)?;
            } else if usize::from(self.lines) > HEADERS_MAX {
                return Err(RequestError::TooManyHeaders { limit: HEADERS_MAX });
            } else {
                self.lines += 1;
            }
        }
        self.check_lengths(window, window.len())?;
        self.scanned = narrow(window.len());
        Ok(None)
    }

    /// Refuses bytes that are not HTTP (a TLS hello on a plain port) at once, without waiting for the
    /// end of a line.
    fn check_first_byte(&self, window: &[u8]) -> Result<(), RequestError> {
        if self.lines > 0 {
            return Ok(());
        }
        match window.get(usize::from(self.head_start)) {
            Some(0x21..=0x7e | b'\r' | b'\n') | None => Ok(()),
            Some(_) => Err(RequestError::Malformed(httparse::Error::Token)),
        }
    }

    /// Refuses a line or a head that cannot end before `end` if it is too long by then.
    fn check_lengths(&self, window: &[u8], end: usize) -> Result<(), RequestError> {
        let head_bytes = end - usize::from(self.head_start);
        if self.lines == 0 && head_bytes >= REQUEST_LINE_BYTES_MAX {
            let method = &window[usize::from(self.head_start)..][..=METHOD_BYTES_MAX];
            return Err(if memchr::memchr(b' ', method).is_none() {
                RequestError::MethodTooLong { limit_bytes: METHOD_BYTES_MAX }
            } else {
                RequestError::TargetTooLong { limit_bytes: TARGET_BYTES_MAX }
            });
        }
        if head_bytes >= HEAD_BYTES_MAX {
            return Err(RequestError::HeadTooLong { limit_bytes: HEAD_BYTES_MAX });
        }
        Ok(())
    }
}

/// Reads a whole head, from its first byte to the end of its blank line.
fn read(head: &[u8]) -> Result<RequestHead, RequestError> {
    match split(head, head) {
        Err(RequestError::Malformed(
            httparse::Error::HeaderValue | httparse::Error::Version | httparse::Error::NewLine,
        )) => {
            let version = check_version(head)?;
            split(&tame(head, version), head)
        }
        outcome => outcome,
    }
}

/// Reads `head` as `httparse` splits `tamed`. `tamed` has the same length and differs only in control
/// characters of values and in the minor version.
fn split(tamed: &[u8], head: &[u8]) -> Result<RequestHead, RequestError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(tamed, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(RequestError::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(RequestError::TooManyHeaders { limit: HEADERS_MAX });
        }
        Err(error) => return Err(RequestError::Malformed(error)),
    }
    if !std::ptr::eq(tamed, head) {
        for header in request.headers.iter_mut().filter(|header| !header.value.is_empty()) {
            let start = header.value.as_ptr().addr() - tamed.as_ptr().addr();
            header.value = &head[start..start + header.value.len()];
        }
    }
    let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let method = Method::parse(request.method.unwrap_or_default());
    let target = Target::parse(request.path.unwrap_or_default(), method)?;
    let fields = Fields::read(request.headers)?;
    fields.check_host(version)?;
    let framing = fields.framing(version)?;
    if framing == BodyFraming::None && version == Version::Http10 && method.has_content() {
        return Err(RequestError::MissingLength);
    }
    let (text, spans) = keep(&target, &fields, request.headers);
    Ok(RequestHead {
        text,
        headers: spans,
        contradicted: fields.contradicted(),
        path: target.path,
        query: target.query,
        has_escape: target.has_escape,
        framing,
        method,
        version,
        is_persistent: fields.is_persistent(version),
        expects_continue: fields.expects_continue(version, framing),
        proxy_header: fields.proxy_header,
    })
}

/// Copies the parts of a head that are kept: the target, then the known values. A copy of Latin-1 values
/// is at most twice as long as the head.
fn keep(
    target: &Target<'_>,
    fields: &Fields<'_>,
    headers: &[httparse::Header<'_>],
) -> (String, [Span; Known::COUNT]) {
    let mut text = String::with_capacity(target.text.len() + fields.known_bytes());
    let mut spans = [Span::ABSENT; Known::COUNT];
    text.push_str(target.text);
    for known in fields.present() {
        let start = narrow(text.len());
        fields.push_known(known, headers, &mut text);
        spans[known as usize] = Span { start, end: narrow(text.len()) };
    }
    if let Some(authority) = target.authority {
        spans[Known::Host as usize] = authority;
    }
    (text, spans)
}

/// Makes a head acceptable to `httparse` that it would refuse. It replaces another minor version of
/// HTTP/1, which is read as 1.1 (RFC 9110 2.5), and control characters in values (RFC 9110 5.5), for
/// which a field is refused only when it is read. The replacement is a byte that has no meaning in any
/// value and is not trimmed as a space.
fn tame(head: &[u8], version: Option<Version>) -> Vec<u8> {
    let mut tamed = head.to_vec();
    let line_end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    if version.is_some() {
        tamed[line_end - 1] = b'1';
    }
    for byte in &mut tamed[line_end..] {
        if byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t') {
            *byte = 0xff;
        }
    }
    tamed
}

/// Returns the version of HTTP/1 as which a request with an unknown minor version is read. `None` if
/// `httparse` knows the version. Another major version gets its own error. A third word that is not a
/// version is not HTTP.
fn check_version(head: &[u8]) -> Result<Option<Version>, RequestError> {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    let mut words = line.split(|&byte| byte == b' ');
    let (version, rest) = (words.nth(2).unwrap_or_default(), words.next());
    match version.strip_prefix(b"HTTP/") {
        Some([b'1', b'.', b'0' | b'1']) => Ok(None),
        Some([b'1', b'.', b'2'..=b'9']) if rest.is_none() => Ok(Some(Version::Http11)),
        Some([b'0' | b'2'..=b'9'] | [b'0' | b'2'..=b'9', b'.', b'0'..=b'9']) => {
            Err(RequestError::UnsupportedVersion { version: quote(version) })
        }
        _ => Err(RequestError::BadVersion { version: quote(version) }),
    }
}

/// Blank lines before a request that are ignored. RFC 9112 2.2 asks for one, which old clients sent
/// after a `POST`.
const LEADING_LINES_MAX: usize = 4;
const LEADING_BYTES_MAX: usize = 2 * LEADING_LINES_MAX;

/// The longest method, in bytes, that fits in a request line with the longest target.
const METHOD_BYTES_MAX: usize = 32;

/// The longest request line, in bytes: the longest target, a method, the version, and the spaces between
/// them.
const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + METHOD_BYTES_MAX + " ".len() + " HTTP/1.1\r\n".len();

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX, "a line that is too long gets 414, not 431");
const _: () = assert!(2 * HEAD_BYTES_MAX + LEADING_BYTES_MAX < u16::MAX as usize, "places fit two bytes");
const _: () = assert!(HEADERS_MAX < u8::MAX as usize, "lines fit a byte");

#[cfg(test)]
mod tests {
    use super::super::BodyFraming;
    use super::*;

    fn head(text: &str) -> RequestHead {
        let (head, consumed) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(consumed, text.len());
        head
    }

    #[test]
    fn a_head_is_read_and_the_bytes_after_it_are_left() {
        let text = "\r\nGET /sse?channels=a,b HTTP/1.1\r\nHost: a:8080\r\nACCEPT: text/event-stream \r\n\r\n";
        let (head, consumed) = parse(format!("{text}GET").as_bytes()).unwrap().unwrap();
        assert_eq!(consumed, text.len());
        assert_eq!((head.method(), head.version()), (Method::Get, Version::Http11));
        assert_eq!((head.path_raw(), head.query_raw()), ("/sse", Some("channels=a,b")));
        assert_eq!(head.header(Known::Host).unwrap(), Some("a:8080"));
        assert_eq!(head.header(Known::Accept).unwrap(), Some("text/event-stream"));
        assert_eq!(head.header(Known::Cookie).unwrap(), None);
        assert_eq!(head.framing(), BodyFraming::None);
        assert!(head.is_persistent() && !head.expects_continue());
    }

    #[test]
    fn a_head_takes_one_allocation_for_the_bytes_it_keeps() {
        let head =
            head("POST /p HTTP/1.1\r\nUser-Agent: long\r\nHost: a\r\nContent-Length: 3\r\nOrigin: o\r\n\r\n");
        assert_eq!(head.text.len(), "/pao".len());
        assert_eq!(head.text.capacity(), head.text.len());
    }

    #[test]
    fn bytes_that_trickle_in_are_scanned_once() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scanner = HeadScanner::default();
        for end in 0..text.len() {
            assert_eq!(scanner.parse(&text[..end]), Ok(None));
            assert_eq!(usize::from(scanner.scanned), end);
        }
        assert!(scanner.parse(text).unwrap().is_some());
        assert_eq!(scanner, HeadScanner::default());
    }

    #[test]
    fn blank_lines_alone_are_no_request() {
        let mut scanner = HeadScanner::default();
        for (text, expected) in [("", false), ("\r\n", false), ("\r\n\r\n", false), ("\r\n\r\nG", true)] {
            assert_eq!(scanner.parse(text.as_bytes()), Ok(None));
            assert_eq!(scanner.has_begun(), expected, "{text:?}");
        }
    }

    #[test]
    fn repeated_lists_are_joined() {
        let head = head(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: x/y\r\nCookie: a=1\r\nCookie: b=2\r\naccept: text/*\r\nOrigin: o\r\norigin: o\r\n\r\n",
        );
        assert_eq!(head.header(Known::Accept).unwrap(), Some("x/y, text/*"));
        assert_eq!(head.header(Known::Cookie).unwrap(), Some("a=1; b=2"));
        assert_eq!(head.header(Known::Origin).unwrap(), Some("o"));
        assert_eq!(head.header(Known::Host).unwrap(), Some("a"));
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_latin_1() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: caf\xe9\r\nCookie: \xc3\xa9\r\nCookie: \xff\r\n\r\n";
        let (head, _) = parse(text).unwrap().unwrap();
        assert_eq!(head.header(Known::LastEventId), Ok(Some("café")));
        assert_eq!(head.header(Known::Cookie), Ok(Some("é; ÿ")));
        let longest = [b"\xff".repeat(HEAD_BYTES_MAX - 50), b"\r\n\r\n".to_vec()].concat();
        let (head, _) = parse(&[b"GET / HTTP/1.1\r\nHost: a\r\nCookie: ".as_slice(), &longest].concat())
            .unwrap()
            .unwrap();
        assert_eq!(head.header(Known::Cookie).unwrap().unwrap().chars().count(), HEAD_BYTES_MAX - 50);
    }

    #[test]
    fn control_characters_of_a_value_are_kept() {
        let head = head("GET / HTTP/1.7\r\nHost: a\r\nX: \u{1}\r\nLast-Event-ID: \u{7}a\0b\u{b}\r\n\r\n");
        assert_eq!(head.header(Known::LastEventId), Ok(Some("\u{7}a\0b\u{b}")));
        assert_eq!(head.version(), Version::Http11);
    }

    #[test]
    fn a_header_with_one_value_that_came_with_two_is_refused_where_it_is_read() {
        let head = head(
            "GET / HTTP/1.1\r\nHost: a\r\nOrigin: o\r\nOrigin: p\r\nIdempotency-Key: k\r\nIdempotency-Key: k\r\n\r\n",
        );
        assert_eq!(head.header(Known::Origin), Err(RequestError::RepeatedHeader { name: "Origin" }));
        assert_eq!(head.header(Known::IdempotencyKey), Ok(Some("k")));
        assert_eq!(head.header(Known::Host), Ok(Some("a")));
    }

    #[test]
    fn the_last_last_event_id_that_is_not_empty_counts() {
        let head = head(
            "GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID:\r\nLast-Event-ID: a\r\nLast-Event-ID: b\r\nlast-event-id: \r\n\r\n",
        );
        assert_eq!(head.header(Known::LastEventId), Ok(Some("b")));
    }

    #[test]
    fn the_error_for_a_long_request_line_names_its_cause() {
        let refused = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        let long = "M".repeat(9 * 1024);
        assert_eq!(refused(&long), "the request's method is longer than 32 bytes");
        assert_eq!(
            refused(&format!("GET /{long} HTTP/1.1\r\n")),
            "the request target is longer than 8192 bytes"
        );
    }

    #[test]
    fn a_bad_version_is_quoted_in_its_error() {
        for version in ["HTTP/1.11", "HTTP/1", "FTP/1.1", "http/1.1", "HTTP/1.x", ""] {
            let error = parse(format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes()).unwrap_err();
            assert!(error.to_string().contains(&format!("found {version:?}, expected a version")), "{error}");
        }
    }

    #[test]
    fn debug_output_of_a_head_hides_its_secrets() {
        let head = head("GET /sse?token=hidden HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hidden\r\n\r\n");
        assert!(!format!("{head:?}").contains("hidden"));
    }
}
