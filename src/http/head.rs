//! The incremental request head: finds its end in bytes that come in pieces, and reads it once it is whole
//! (RFC 9112 2, 3, 5).
//!
//! `httparse` splits the head; what it lets through and the contract does not (bare LF, versions, forms of the target,
//! framing) is refused here and in `fields`. How long a head may take is the connection's business.
//!
//! Every check looks at a prefix of the bytes alone, in the order in which they come, so that an outcome never depends
//! on how the network cut them.

use std::mem::MaybeUninit;

use super::error::{RequestError, quote};
use super::fields::{Fields, is_host_and_port};
use super::request::{Known, Method, RequestHead, Span, Version};
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// Reads the head of a request that has come whole: [`HeadScanner::parse`] without a memory.
///
/// # Errors
/// See [`HeadScanner::parse`].
pub fn parse(buf: &[u8]) -> Result<Option<(RequestHead, usize)>, RequestError> {
    HeadScanner::default().parse(buf)
}

/// Looks for the end of a head, and remembers how far it looked: bytes that trickle in are scanned once each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Bytes that need not be looked at again.
    scanned: u16,
    /// Where the request line begins, after the blank lines that are ignored.
    head_start: u16,
    /// Where the line begins whose end is looked for.
    line_start: u16,
    /// Lines of the head that were found, without blank ones.
    lines: u8,
}

impl HeadScanner {
    /// Reads the head that begins at `buf[0]`. `None` means that more bytes are needed; the next call must offer the
    /// same bytes with more behind them. `Some` says how many bytes of `buf` the head took; what follows is its body or
    /// the next request. After anything but `None` the scanner is as new.
    ///
    /// # Errors
    /// Any [`RequestError`] but those of bodies. It comes as early as the bytes show it.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Option<(RequestHead, usize)>, RequestError> {
        let found = match self.find_end(buf) {
            Ok(None) => return Ok(None),
            Ok(Some(end)) => read(&buf[usize::from(self.head_start)..end]).map(|head| Some((head, end))),
            Err(error) => Err(error),
        };
        *self = HeadScanner::default();
        found
    }

    /// True if and only if the bytes of the last call hold the beginning of a request, and not blank lines alone.
    /// A connection that has none is idle.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.scanned > self.line_start || self.lines > 0
    }

    /// Says where the head ends, once its blank line is there.
    fn find_end(&mut self, buf: &[u8]) -> Result<Option<usize>, RequestError> {
        // Blank lines before the head do not count against its length, so they are added to the bound.
        let window = &buf[..buf.len().min(HEAD_BYTES_MAX + LEADING_BYTES_MAX)];
        let from = usize::from(self.scanned);
        self.check_first_byte(window)?;
        for offset in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
            let at = from + offset;
            self.check_lengths(at)?;
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
        self.check_lengths(window.len())?;
        self.scanned = narrow(window.len());
        Ok(None)
    }

    /// Tells at once what is not HTTP (a TLS hello on a plain port), instead of letting it wait for a line's end.
    fn check_first_byte(&self, window: &[u8]) -> Result<(), RequestError> {
        if self.lines > 0 {
            return Ok(());
        }
        match window.get(usize::from(self.head_start)) {
            Some(0x21..=0x7e | b'\r' | b'\n') | None => Ok(()),
            Some(_) => Err(RequestError::Malformed(httparse::Error::Token)),
        }
    }

    /// Refuses a line or a head that ends at `end` or later, where that is too late.
    fn check_lengths(&self, end: usize) -> Result<(), RequestError> {
        let head_bytes = end - usize::from(self.head_start);
        if self.lines == 0 && head_bytes >= REQUEST_LINE_BYTES_MAX {
            return Err(RequestError::TargetTooLong { limit_bytes: TARGET_BYTES_MAX });
        }
        if head_bytes >= HEAD_BYTES_MAX {
            return Err(RequestError::HeadTooLong { limit_bytes: HEAD_BYTES_MAX });
        }
        Ok(())
    }
}

/// Places in a head fit two bytes, as asserted below.
fn narrow(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

/// Reads a head that is whole, from its first byte to the end of its blank line.
fn read(head: &[u8]) -> Result<RequestHead, RequestError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(RequestError::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(RequestError::TooManyHeaders { limit: HEADERS_MAX });
        }
        Err(httparse::Error::Version) => return Err(refuse_version(head)),
        Err(error) => return Err(RequestError::Malformed(error)),
    }
    let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let method = Method::parse(request.method.unwrap_or_default());
    let target = Target::parse(request.path.unwrap_or_default(), method)?;
    let fields = Fields::read(request.headers)?;
    fields.check_host(version)?;
    let framing = fields.framing(version)?;
    let (text, spans) = keep(&target, &fields, request.headers)?;
    Ok(RequestHead {
        text,
        headers: spans,
        path: target.path,
        query: target.query,
        framing,
        method,
        version,
        is_persistent: fields.is_persistent(version),
        expects_continue: fields.expects_continue(version, framing),
        proxy_header: fields.proxy_header,
    })
}

/// Copies what is kept of a head: the target, then the known values. It is never longer than the head itself.
fn keep(
    target: &Target<'_>,
    fields: &Fields<'_>,
    headers: &[httparse::Header<'_>],
) -> Result<(String, [Span; Known::COUNT]), RequestError> {
    let mut text = String::with_capacity(target.text.len() + fields.known_bytes());
    let mut spans = [Span::ABSENT; Known::COUNT];
    text.push_str(target.text);
    for known in fields.present() {
        let start = narrow(text.len());
        fields.push_known(known, headers, &mut text)?;
        spans[known as usize] = Span { start, end: narrow(text.len()) };
    }
    if let Some(authority) = target.authority {
        spans[Known::Host as usize] = authority;
    }
    Ok((text, spans))
}

/// HTTP of another version is told so; a third word that names no version is not HTTP.
fn refuse_version(head: &[u8]) -> RequestError {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    let version = line.split(|&byte| byte == b' ').nth(2).unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, rest @ ..]
            if major.is_ascii_digit()
                && matches!(rest, [] | [b'.', _])
                && rest.last().is_none_or(u8::is_ascii_digit) =>
        {
            RequestError::UnsupportedVersion { version: quote(version) }
        }
        _ => RequestError::Malformed(httparse::Error::Version),
    }
}

/// A request target and its parts (RFC 9112 3.2).
struct Target<'h> {
    text: &'h str,
    authority: Option<Span>,
    path: Span,
    query: Span,
}

impl<'h> Target<'h> {
    /// Accepts the origin form, the absolute form of http and https, and `*` for `OPTIONS`.
    fn parse(text: &'h str, method: Method) -> Result<Target<'h>, RequestError> {
        let refuse = |problem| RequestError::BadTarget { target: quote(text.as_bytes()), problem };
        if text.len() > TARGET_BYTES_MAX {
            return Err(RequestError::TargetTooLong { limit_bytes: TARGET_BYTES_MAX });
        }
        let span = |start, end| Span { start: narrow(start), end: narrow(end) };
        let (path_start, authority) = match text.as_bytes() {
            [b'/', ..] => (0, None),
            b"*" if method == Method::Options => (0, None),
            b"*" => return Err(refuse("* is for OPTIONS alone")),
            bytes => {
                let start =
                    authority_start(bytes).ok_or_else(|| refuse("expected a path that begins with /"))?;
                let end = bytes[start..].iter().position(|byte| b"/?#".contains(byte));
                let end = end.map_or(bytes.len(), |offset| start + offset);
                if !is_host_and_port(&bytes[start..end]) {
                    return Err(refuse("expected a host and an optional port after the scheme"));
                }
                (end, Some(span(start, end)))
            }
        };
        let rest = &text.as_bytes()[path_start..];
        if memchr::memchr(b'#', rest).is_some() {
            return Err(refuse("a fragment is not sent to a server"));
        }
        let (path_end, query) = match memchr::memchr(b'?', rest) {
            Some(offset) => (path_start + offset, span(path_start + offset + 1, text.len())),
            None => (text.len(), Span::ABSENT),
        };
        Ok(Target { text, authority, path: span(path_start, path_end), query })
    }
}

/// Where the authority of an absolute http or https URI begins.
fn authority_start(target: &[u8]) -> Option<usize> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| target.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then_some(scheme.len()))
}

/// Blank lines before a request that are ignored; RFC 9112 2.2 asks for one, old clients sent it after a `POST`.
const LEADING_LINES_MAX: usize = 4;
const LEADING_BYTES_MAX: usize = 2 * LEADING_LINES_MAX;

/// Most bytes of a request line: the longest target, a method of up to 32 bytes, the version, and what parts them.
const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + 32 + " ".len() + " HTTP/1.1\r\n".len();

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX, "a line that is too long is told as 414");
const _: () = assert!(HEAD_BYTES_MAX + LEADING_BYTES_MAX < u16::MAX as usize, "places fit two bytes");
const _: () = assert!(HEADERS_MAX < u8::MAX as usize, "lines fit a byte");

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::*;

    fn head(text: &str) -> RequestHead {
        let (head, consumed) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(consumed, text.len());
        head
    }

    #[test]
    fn a_head_is_read_and_what_follows_is_left() {
        let text = "\r\nGET /sse?channels=a,b HTTP/1.1\r\nHost: a:8080\r\nACCEPT: text/event-stream \r\n\r\n";
        let (head, consumed) = parse(format!("{text}GET").as_bytes()).unwrap().unwrap();
        assert_eq!(consumed, text.len());
        assert_eq!((head.method(), head.version()), (Method::Get, Version::Http11));
        assert_eq!((head.path_raw(), head.query_raw()), ("/sse", Some("channels=a,b")));
        assert_eq!(head.header(Known::Host), Some("a:8080"));
        assert_eq!(head.header(Known::Accept), Some("text/event-stream"));
        assert_eq!(head.header(Known::Cookie), None);
        assert_eq!(head.framing(), Framing::None);
        assert!(head.is_persistent() && !head.expects_continue());
    }

    #[test]
    fn a_head_costs_one_allocation_of_what_is_kept() {
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
    fn lists_that_are_repeated_are_joined() {
        let head = head(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: x/y\r\nCookie: a=1\r\nCookie: b=2\r\naccept: text/*\r\nOrigin: o\r\norigin: o\r\n\r\n",
        );
        assert_eq!(head.header(Known::Accept), Some("x/y, text/*"));
        assert_eq!(head.header(Known::Cookie), Some("a=1; b=2"));
        assert_eq!(head.header(Known::Origin), Some("o"));
        assert_eq!(head.header(Known::Host), Some("a"));
    }

    #[test]
    fn the_authority_of_an_absolute_target_is_the_host() {
        let absolute = head("GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((absolute.path_raw(), absolute.query_raw()), ("/x", Some("y")));
        assert_eq!(absolute.header(Known::Host), Some("b:1"));
        let root = head("GET HTTPS://b?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((root.path_raw(), root.query_raw()), ("/", Some("y")));
        assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path_raw(), "*");
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: foo, Close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let head = head(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
            assert_eq!(head.is_persistent(), expected, "{version} {connection:?}");
        }
    }

    #[test]
    fn only_a_body_on_http_1_1_waits_for_permission() {
        for (version, length, expected) in [("1.1", 1, true), ("1.1", 0, false), ("1.0", 1, false)] {
            let text = format!(
                "POST / HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
            );
            assert_eq!(head(&text).expects_continue(), expected);
        }
    }

    #[test]
    fn debug_output_of_a_head_hides_its_secrets() {
        let head = head("GET /sse?token=hidden HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hidden\r\n\r\n");
        assert!(!format!("{head:?}").contains("hidden"));
    }
}
