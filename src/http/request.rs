//! The head of a request after parsing: its method, its target and the few headers that the server
//! reads.

use std::borrow::Cow;

use super::error::RequestError;
use super::uri::{self, UriError};

/// The methods that the server distinguishes (RFC 9110 9, RFC 5789). They are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `CONNECT`, whose target is a host and a port.
    Connect,
    /// Any other token, `TRACE` among them.
    Other,
}

impl Method {
    pub(super) fn parse(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// The method's token, as an `Allow` header lists it. [`Method::Other`] is never listed and gets a
    /// word for messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Connect => "CONNECT",
            Method::Other => "another method",
        }
    }

    /// Returns true if a request of this method usually has content (RFC 9110 9.3).
    pub(super) const fn has_content(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

/// The versions that the server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a request's body ends (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// The body has this many bytes, which may be 0.
    Length(u64),
    /// The body ends with its last chunk.
    Chunked,
}

/// The headers whose values a [`RequestHead`] keeps. Of the framing headers it keeps the meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// `Host`, or the authority of a target in absolute form, which overrides it (RFC 9112 3.2.2).
    Host,
    /// `Origin`
    Origin,
    /// `Accept`
    Accept,
    /// `Accept-Encoding`
    AcceptEncoding,
    /// `Authorization`
    Authorization,
    /// `Cookie`
    Cookie,
    /// `Content-Type`
    ContentType,
    /// `Last-Event-ID`
    LastEventId,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Access-Control-Request-Method`
    AccessControlRequestMethod,
    /// `Access-Control-Request-Headers`
    AccessControlRequestHeaders,
}

impl Known {
    pub(super) const COUNT: usize = 12;

    pub(super) const ALL: [Known; Known::COUNT] = [
        Known::Host,
        Known::Origin,
        Known::Accept,
        Known::AcceptEncoding,
        Known::Authorization,
        Known::Cookie,
        Known::ContentType,
        Known::LastEventId,
        Known::IdempotencyKey,
        Known::XForwardedFor,
        Known::AccessControlRequestMethod,
        Known::AccessControlRequestHeaders,
    ];

    /// The header's name as messages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Known::Host => "Host",
            Known::Origin => "Origin",
            Known::Accept => "Accept",
            Known::AcceptEncoding => "Accept-Encoding",
            Known::Authorization => "Authorization",
            Known::Cookie => "Cookie",
            Known::ContentType => "Content-Type",
            Known::LastEventId => "Last-Event-ID",
            Known::IdempotencyKey => "Idempotency-Key",
            Known::XForwardedFor => "X-Forwarded-For",
            Known::AccessControlRequestMethod => "Access-Control-Request-Method",
            Known::AccessControlRequestHeaders => "Access-Control-Request-Headers",
        }
    }

    /// The separator that joins the values of a repeated header; `None` for a header with a single value
    /// (RFC 9110 5.3, RFC 9113 8.2.3 for cookies).
    pub(super) const fn joined_by(self) -> Option<&'static str> {
        match self {
            Known::Accept
            | Known::AcceptEncoding
            | Known::XForwardedFor
            | Known::AccessControlRequestHeaders => Some(", "),
            Known::Cookie => Some("; "),
            Known::Host
            | Known::Origin
            | Known::Authorization
            | Known::ContentType
            | Known::LastEventId
            | Known::IdempotencyKey
            | Known::AccessControlRequestMethod => None,
        }
    }
}

/// The headers that show that a proxy forwarded a request (RFC 9110 7.6.3, RFC 7239). Only their
/// presence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Real-IP`
    XRealIp,
    /// `Forwarded`
    Forwarded,
    /// `Via`
    Via,
}

impl ProxyHeader {
    /// The header's name as messages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ProxyHeader::XForwardedFor => "X-Forwarded-For",
            ProxyHeader::XRealIp => "X-Real-IP",
            ProxyHeader::Forwarded => "Forwarded",
            ProxyHeader::Via => "Via",
        }
    }

    /// Matches on the length first, which rules out most fields.
    pub(super) fn of(name: &str) -> Option<ProxyHeader> {
        let header = match name.len() {
            3 => ProxyHeader::Via,
            9 if name.starts_with(['x', 'X']) => ProxyHeader::XRealIp,
            9 => ProxyHeader::Forwarded,
            15 => ProxyHeader::XForwardedFor,
            _ => return None,
        };
        name.eq_ignore_ascii_case(header.name()).then_some(header)
    }
}

/// A part of a head's text. A head is short enough for positions of two bytes
/// (`base::limits::HEAD_BYTES_MAX`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u16,
    pub(super) end: u16,
}

impl Span {
    /// The span of a part that was not sent.
    pub(super) const ABSENT: Span = Span { start: u16::MAX, end: 0 };

    fn of(self, text: &str) -> Option<&str> {
        text.get(usize::from(self.start)..usize::from(self.end))
    }
}

/// A position in a head as a [`Span`] keeps it. Constant assertions in `head` make sure that it fits.
pub(super) fn narrow(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

/// An owned head: one allocation holds the target and the values of the known headers, and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub(super) text: String,
    pub(super) headers: [Span; Known::COUNT],
    /// Which headers with a single value came with several values: a bit for each, by index.
    pub(super) contradicted: u16,
    pub(super) path: Span,
    pub(super) query: Span,
    /// The path contains percent-encoded bytes.
    pub(super) has_escape: bool,
    pub(super) framing: BodyFraming,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) is_persistent: bool,
    pub(super) expects_continue: bool,
    pub(super) proxy_header: Option<ProxyHeader>,
}

impl RequestHead {
    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The path as the client sent it, percent-encoded. It begins with `/`, or is `*` (`OPTIONS` only).
    #[must_use]
    pub fn path_raw(&self) -> &str {
        match self.path.of(&self.text) {
            Some("") | None => "/", // `http://host` means its root (RFC 9110 4.2.3).
            Some(path) => path,
        }
    }

    /// The path, percent-decoded: see [`uri::decode_path`].
    ///
    /// # Errors
    /// [`UriError`] for bytes that cannot be decoded, with their position.
    pub fn path(&self) -> Result<Cow<'_, str>, UriError> {
        match self.has_escape {
            true => uri::decode_path(self.path_raw()),
            false => Ok(Cow::Borrowed(self.path_raw())),
        }
    }

    /// The text after the first `?` as the client sent it, percent-encoded; `None` if there is no `?`.
    #[must_use]
    pub fn query_raw(&self) -> Option<&str> {
        self.query.of(&self.text)
    }

    /// The path's segments, each percent-decoded: see [`uri::segments`].
    #[must_use]
    pub fn segments(&self) -> uri::Segments<'_> {
        uri::segments(self.path_raw())
    }

    /// The query's parameters, percent-decoded: see [`uri::pairs`].
    #[must_use]
    pub fn pairs(&self) -> uri::Pairs<'_> {
        uri::pairs(self.query_raw().unwrap_or(""))
    }

    /// The value of a header without the space around it. The values of a repeated header are joined as
    /// a list. `None` if and only if the client did not send the header. Bytes that are not UTF-8 are
    /// read as Latin-1.
    ///
    /// # Errors
    /// [`RequestError::RepeatedHeader`] for a header with a single value that came with several. Only a
    /// caller that reads the header gets this error: a header that no caller reads is no reason to
    /// refuse a request.
    pub fn header(&self, known: Known) -> Result<Option<&str>, RequestError> {
        if self.contradicted & (1 << (known as usize)) != 0 {
            return Err(RequestError::RepeatedHeader { name: known.name() });
        }
        Ok(self.headers[known as usize].of(&self.text))
    }

    /// How the body ends.
    #[must_use]
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Returns true if the client waits for [`super::CONTINUE`] before it sends the body (RFC 9110
    /// 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// A header that shows that a proxy forwarded the request; `None` if there is none.
    #[must_use]
    pub fn proxy_header(&self) -> Option<ProxyHeader> {
        self.proxy_header
    }

    /// Returns true if the client may send another request after this one (RFC 9112 9.3).
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.is_persistent
    }
}

impl std::fmt::Debug for RequestHead {
    /// Omits the query and the values of headers: they may contain tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.path_raw())
            .field("version", &self.version)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}
