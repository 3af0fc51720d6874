//! The target of a request and its parts: authority, path and query (RFC 9112 3.2).

use super::authority::is_host_and_port;
use super::error::{RequestError, quote};
use super::request::{Method, Span, narrow};
use crate::base::limits::TARGET_BYTES_MAX;

/// A request target and its parts (RFC 9112 3.2).
pub(super) struct Target<'h> {
    pub(super) text: &'h str,
    pub(super) authority: Option<Span>,
    pub(super) path: Span,
    pub(super) query: Span,
    /// The path contains percent-encoded bytes.
    pub(super) has_escape: bool,
}

impl<'h> Target<'h> {
    /// Accepts the origin form, the absolute form with http or https, `*` for `OPTIONS`, and an
    /// authority for `CONNECT`.
    pub(super) fn parse(text: &'h str, method: Method) -> Result<Target<'h>, RequestError> {
        let refuse = |problem| RequestError::BadTarget { target: quote(text.as_bytes()), problem };
        if text.len() > TARGET_BYTES_MAX {
            return Err(RequestError::TargetTooLong { limit_bytes: TARGET_BYTES_MAX });
        }
        let span = |start, end| Span { start: narrow(start), end: narrow(end) };
        let (path_start, authority) = match text.as_bytes() {
            [b'/', ..] => (0, None),
            b"*" if method == Method::Options => (0, None),
            b"*" => return Err(refuse("* is for OPTIONS alone")),
            authority if method == Method::Connect && is_host_and_port(authority) => {
                let authority = span(0, text.len());
                return Ok(Target {
                    text,
                    authority: Some(authority),
                    path: Span::ABSENT,
                    query: Span::ABSENT,
                    has_escape: false,
                });
            }
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
        let path = span(path_start, text.len());
        if memchr::memchr3(b'?', b'#', b'%', rest).is_none() {
            return Ok(Target { text, authority, path, query: Span::ABSENT, has_escape: false });
        }
        if memchr::memchr(b'#', rest).is_some() {
            return Err(refuse("a fragment is not sent to a server"));
        }
        let path_bytes = memchr::memchr(b'?', rest).unwrap_or(rest.len());
        let path_end = path_start + path_bytes;
        let query = if path_bytes < rest.len() { span(path_end + 1, text.len()) } else { Span::ABSENT };
        let has_escape = memchr::memchr(b'%', &rest[..path_bytes]).is_some();
        Ok(Target { text, authority, path: span(path_start, path_end), query, has_escape })
    }
}

/// The start of the authority in an absolute http or https URI.
fn authority_start(target: &[u8]) -> Option<usize> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| target.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then_some(scheme.len()))
}

#[cfg(test)]
mod tests {
    use crate::http::{Known, RequestHead, parse};

    fn head(text: &str) -> RequestHead {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn the_authority_of_an_absolute_target_is_the_host() {
        let absolute = head("GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((absolute.path_raw(), absolute.query_raw()), ("/x", Some("y")));
        assert_eq!(absolute.header(Known::Host).unwrap(), Some("b:1"));
        let root = head("GET HTTPS://b?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((root.path_raw(), root.query_raw()), ("/", Some("y")));
        assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path_raw(), "*");
    }

    #[test]
    fn a_path_is_decoded_and_its_query_is_not() {
        for (target, path, query) in [
            ("/a%2Fb", "/a/b", None),
            ("/a%2Fb?c=%41", "/a/b", Some("c=%41")),
            ("/a?%41", "/a", Some("%41")),
            ("/a?", "/a", Some("")),
            ("http://b/%61?c", "/a", Some("c")),
            ("http://%62", "/", None),
            ("/a", "/a", None),
        ] {
            let head = head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!((head.path().as_deref(), head.query_raw()), (Ok(path), query), "{target}");
        }
        assert!(head("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n").path().is_err());
    }
}
