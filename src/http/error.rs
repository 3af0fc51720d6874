//! Why a request was refused before its target was looked up.

use super::status::Status;

/// Why a request head or body was refused. Every variant is the client's fault.
///
/// After any of them the start of the next request is unknown or not worth finding. The connection
/// closes after the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a message as RFC 9112 2.1 defines it: a bare CR, a NUL, a space before a colon, a folded
    /// line, or a character that no token may have. Answered with 400.
    #[error("malformed request head: {0}")]
    Malformed(#[source] httparse::Error),
    /// A line that ends in LF without CR (RFC 9112 2.2). Answered with 400.
    #[error("malformed request head: the line feed at byte {at} has no carriage return before it")]
    BareLineFeed {
        /// Its offset from the first byte of the request, blank lines included.
        at: usize,
    },
    /// More blank lines before the request line than the few that are ignored (RFC 9112 2.2). Answered
    /// with 400.
    #[error("more than {limit} blank lines before a request")]
    LeadingBlankLines {
        /// How many are ignored.
        limit: usize,
    },
    /// A target in none of the forms of RFC 9112 3.2 that an origin server accepts. Answered with 400.
    #[error("bad request target {target:?}: {problem}")]
    BadTarget {
        /// The target, shortened.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A long request line without a space where its method should have ended. Answered with 501 (RFC
    /// 9112 3).
    #[error("the request's method is longer than {limit_bytes} bytes")]
    MethodTooLong {
        /// The longest method of a long request line, in bytes.
        limit_bytes: usize,
    },
    /// A target longer than `base::limits::TARGET_BYTES_MAX`. Answered with 414.
    #[error("the request target is longer than {limit_bytes} bytes")]
    TargetTooLong {
        /// The longest target, in bytes.
        limit_bytes: usize,
    },
    /// No blank line within `base::limits::HEAD_BYTES_MAX`. Answered with 431 (RFC 6585 5).
    #[error("the request head is longer than {limit_bytes} bytes")]
    HeadTooLong {
        /// The longest head, in bytes.
        limit_bytes: usize,
    },
    /// More header fields than `base::limits::HEADERS_MAX`. Answered with 431 (RFC 6585 5).
    #[error("the request has more than {limit} header fields")]
    TooManyHeaders {
        /// The most fields that a head may have.
        limit: usize,
    },
    /// A version that is not written as in RFC 9112 2.3: `HTTP/`, a digit, a dot and a digit. Answered
    /// with 400.
    #[error(
        "malformed request line: found {version:?}, expected a version such as HTTP/1.1 behind the target"
    )]
    BadVersion {
        /// The text in place of a version, shortened.
        version: String,
    },
    /// A major version of HTTP other than 1. Answered with 505.
    #[error("{version} is not supported; this server speaks HTTP/1.1 and HTTP/1.0")]
    UnsupportedVersion {
        /// The version as the client sent it, shortened.
        version: String,
    },
    /// HTTP/1.1 without `Host` (RFC 9112 3.2). Answered with 400.
    #[error("the request has no Host header, which HTTP/1.1 demands")]
    MissingHost,
    /// A `Host` that is not a host with an optional port (RFC 9112 3.2). Answered with 400.
    #[error("the Host header {host:?} is not a host and an optional port")]
    BadHost {
        /// The host as the client sent it, shortened.
        host: String,
    },
    /// A header with a single value was sent several times with different values, or `Host` several
    /// times with any values. Answered with 400 when the header is read.
    #[error("the header {name} must not be repeated")]
    RepeatedHeader {
        /// The header's name.
        name: &'static str,
    },
    /// A `Content-Length` that is not a series of digits below 2^64 (RFC 9112 6.3). Answered with 400.
    #[error("the Content-Length {value:?} is not a number of bytes")]
    BadContentLength {
        /// The value as the client sent it, shortened.
        value: String,
    },
    /// Several lengths that differ (RFC 9112 6.3). Answered with 400.
    #[error("the request has two lengths, {first} and {second}")]
    ConflictingContentLength {
        /// The first length.
        first: u64,
        /// The first that differs from it.
        second: u64,
    },
    /// An HTTP/1.0 request with content of unknown length (RFC 1945 7.2.2). Answered with 400.
    #[error("the request has no Content-Length, which HTTP/1.0 demands for this method")]
    MissingLength,
    /// `Content-Length` and `Transfer-Encoding` in one request (RFC 9112 6.1). Answered with 400.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndTransferEncoding,
    /// A transfer coding in HTTP/1.0, which has none (RFC 9112 6.1). Answered with 400.
    #[error("Transfer-Encoding is not part of HTTP/1.0")]
    TransferEncodingOnHttp10,
    /// A `Transfer-Encoding` with an empty coding, or in which `chunked` is repeated or not last (RFC
    /// 9112 6.1). Answered with 400.
    #[error("bad Transfer-Encoding {value:?}: chunked must come once and last")]
    BadTransferEncoding {
        /// The value as the client sent it, shortened.
        value: String,
    },
    /// A transfer coding other than `chunked` (RFC 9112 6.1). Answered with 501.
    #[error("the transfer coding {coding:?} is not supported; only chunked is")]
    UnknownTransferCoding {
        /// The coding as the client sent it, shortened.
        coding: String,
    },
    /// An expectation other than `100-continue` (RFC 9110 10.1.1). Answered with 417.
    #[error("the expectation {value:?} cannot be met; only 100-continue can")]
    UnknownExpectation {
        /// The value as the client sent it, shortened.
        value: String,
    },
    /// A body over the limit of its reader, either announced or already sent. Answered with 413.
    #[error("the request body is longer than {limit_bytes} bytes")]
    BodyTooLong {
        /// The longest body, in bytes.
        limit_bytes: u64,
    },
    /// A chunk that violates RFC 9112 7.1. Answered with 400.
    #[error("bad chunked body: {problem}")]
    BadChunk {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A chunk's size line longer than `base::limits::CHUNK_LINE_BYTES_MAX`. Answered with 400.
    #[error("bad chunked body: a chunk's size line is longer than {limit_bytes} bytes")]
    ChunkLineTooLong {
        /// The longest size line, in bytes.
        limit_bytes: usize,
    },
    /// Trailers longer than `base::limits::TRAILER_BYTES_MAX`. Answered with 400.
    #[error("bad chunked body: its trailers are longer than {limit_bytes} bytes")]
    TrailersTooLong {
        /// The most bytes of all trailers together.
        limit_bytes: usize,
    },
}

impl RequestError {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            RequestError::Malformed(_)
            | RequestError::BareLineFeed { .. }
            | RequestError::LeadingBlankLines { .. }
            | RequestError::BadTarget { .. }
            | RequestError::BadVersion { .. }
            | RequestError::MissingHost
            | RequestError::BadHost { .. }
            | RequestError::RepeatedHeader { .. }
            | RequestError::BadContentLength { .. }
            | RequestError::ConflictingContentLength { .. }
            | RequestError::MissingLength
            | RequestError::LengthAndTransferEncoding
            | RequestError::TransferEncodingOnHttp10
            | RequestError::BadTransferEncoding { .. }
            | RequestError::BadChunk { .. }
            | RequestError::ChunkLineTooLong { .. }
            | RequestError::TrailersTooLong { .. } => Status::BAD_REQUEST,
            RequestError::TargetTooLong { .. } => Status::URI_TOO_LONG,
            RequestError::HeadTooLong { .. } | RequestError::TooManyHeaders { .. } => {
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            RequestError::UnsupportedVersion { .. } => Status::VERSION_NOT_SUPPORTED,
            RequestError::UnknownTransferCoding { .. } | RequestError::MethodTooLong { .. } => {
                Status::NOT_IMPLEMENTED
            }
            RequestError::UnknownExpectation { .. } => Status::EXPECTATION_FAILED,
            RequestError::BodyTooLong { .. } => Status::CONTENT_TOO_LARGE,
        }
    }
}

/// The part of a peer's bytes that an error quotes: the first 64, as text.
pub(super) fn quote(bytes: &[u8]) -> String {
    const QUOTED_BYTES_MAX: usize = 64;
    let cut = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}
