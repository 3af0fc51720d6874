//! The header fields of a head: reads the known ones, and decides what the framing fields mean together
//! (RFC 9112 6, 9.3; RFC 9110 5.3, 7.2, 10.1.1).

use httparse::Header;

use super::authority::is_host_and_port;
use super::error::{RequestError, quote};
use super::request::{BodyFraming, Known, ProxyHeader, Version};

/// The contents of the fields of one head.
#[derive(Debug)]
pub(super) struct Fields<'h> {
    /// The first value of each known header.
    known: [Option<&'h [u8]>; Known::COUNT],
    /// Which known headers came: a bit for each, by index.
    present: u16,
    /// Which headers with [`Known::joined_by`] came again.
    repeated: u16,
    /// Which headers with a single value came again with another value.
    contradicted: u16,
    /// Bytes of the first values, summed up.
    known_bytes: usize,
    content_length: Option<u64>,
    chunked: bool,
    unknown_coding: Option<&'h [u8]>,
    unknown_expectation: Option<&'h [u8]>,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
    /// The first header that shows that a proxy forwarded the request.
    pub(super) proxy_header: Option<ProxyHeader>,
}

/// What the name of a field says about its value.
enum Field {
    Known(Known),
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    /// Not read.
    Other,
}

impl Field {
    /// Matches on the length first: it tells apart most of the fields that a browser sends.
    fn of(name: &str) -> Field {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is("host") => Field::Known(Known::Host),
            6 if is("accept") => Field::Known(Known::Accept),
            6 if is("origin") => Field::Known(Known::Origin),
            6 if is("cookie") => Field::Known(Known::Cookie),
            6 if is("expect") => Field::Expect,
            10 if is("connection") => Field::Connection,
            12 if is("content-type") => Field::Known(Known::ContentType),
            13 if is("authorization") => Field::Known(Known::Authorization),
            13 if is("last-event-id") => Field::Known(Known::LastEventId),
            14 if is("content-length") => Field::ContentLength,
            15 if is("accept-encoding") => Field::Known(Known::AcceptEncoding),
            15 if is("idempotency-key") => Field::Known(Known::IdempotencyKey),
            15 if is("x-forwarded-for") => Field::Known(Known::XForwardedFor),
            17 if is("transfer-encoding") => Field::TransferEncoding,
            29 if is("access-control-request-method") => Field::Known(Known::AccessControlRequestMethod),
            30 if is("access-control-request-headers") => Field::Known(Known::AccessControlRequestHeaders),
            _ => Field::Other,
        }
    }
}

impl<'h> Fields<'h> {
    /// Reads every field once.
    ///
    /// # Errors
    /// Errors of the framing fields, and a second `Host`, all answered with 400. Any other field may be
    /// one that this request does not need, so no value of it is an error here.
    pub(super) fn read(headers: &[Header<'h>]) -> Result<Fields<'h>, RequestError> {
        let mut fields = Fields {
            known: [None; Known::COUNT],
            present: 0,
            repeated: 0,
            contradicted: 0,
            known_bytes: 0,
            content_length: None,
            chunked: false,
            unknown_coding: None,
            unknown_expectation: None,
            expects_continue: false,
            close: false,
            keep_alive: false,
            proxy_header: None,
        };
        for header in headers {
            fields.proxy_header = fields.proxy_header.or_else(|| ProxyHeader::of(header.name));
            match Field::of(header.name) {
                Field::Other => {}
                Field::Known(known) => fields.read_known(known, header.value)?,
                Field::ContentLength => fields.read_content_length(header.value)?,
                Field::TransferEncoding => fields.read_transfer_encoding(header.value)?,
                Field::Connection => fields.read_connection(header.value),
                Field::Expect if header.value.eq_ignore_ascii_case(b"100-continue") => {
                    fields.expects_continue = true;
                }
                Field::Expect => fields.unknown_expectation = Some(header.value),
            }
        }
        Ok(fields)
    }

    fn read_known(&mut self, known: Known, value: &'h [u8]) -> Result<(), RequestError> {
        let first = &mut self.known[known as usize];
        match *first {
            None => {
                *first = Some(value);
                self.present |= 1 << (known as usize);
                self.known_bytes += value.len();
            }
            Some(_) if known == Known::Host => {
                return Err(RequestError::RepeatedHeader { name: known.name() });
            }
            Some(_) if known.joined_by().is_some() => self.repeated |= 1 << (known as usize),
            Some(earlier) if earlier == value => {}
            // As in a query, the last non-empty value counts: a place to resume at is never refused.
            Some(earlier) if known == Known::LastEventId => {
                if !value.is_empty() {
                    *first = Some(value);
                    self.known_bytes += value.len().saturating_sub(earlier.len());
                }
            }
            Some(_) => self.contradicted |= 1 << (known as usize),
        }
        Ok(())
    }

    /// A list of equal lengths is one length (RFC 9112 6.3). Anything else that is not a number is
    /// refused: a proxy before us may read it differently.
    fn read_content_length(&mut self, value: &'h [u8]) -> Result<(), RequestError> {
        for item in list(value) {
            let second =
                parse_length(item).ok_or_else(|| RequestError::BadContentLength { value: quote(value) })?;
            match self.content_length {
                Some(first) if first != second => {
                    return Err(RequestError::ConflictingContentLength { first, second });
                }
                Some(_) | None => self.content_length = Some(second),
            }
        }
        Ok(())
    }

    fn read_transfer_encoding(&mut self, value: &'h [u8]) -> Result<(), RequestError> {
        for coding in list(value) {
            if coding.is_empty() || self.chunked {
                return Err(RequestError::BadTransferEncoding { value: quote(value) });
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else {
                self.unknown_coding.get_or_insert(coding);
            }
        }
        Ok(())
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Decides how the body ends. All fields together must leave no doubt.
    ///
    /// # Errors
    /// 400 for an ambiguous framing, 501 for a coding other than chunked, 417 for an unknown
    /// expectation, in this order: an ambiguity may be an attack.
    pub(super) fn framing(&self, version: Version) -> Result<BodyFraming, RequestError> {
        let has_coding = self.chunked || self.unknown_coding.is_some();
        if has_coding && self.content_length.is_some() {
            return Err(RequestError::LengthAndTransferEncoding);
        }
        if has_coding && version == Version::Http10 {
            return Err(RequestError::TransferEncodingOnHttp10);
        }
        if let Some(coding) = self.unknown_coding {
            return Err(RequestError::UnknownTransferCoding { coding: quote(coding) });
        }
        if let Some(value) = self.unknown_expectation {
            return Err(RequestError::UnknownExpectation { value: quote(value) });
        }
        Ok(match self.content_length {
            Some(length) => BodyFraming::Length(length),
            None if self.chunked => BodyFraming::Chunked,
            None => BodyFraming::None,
        })
    }

    /// HTTP/1.0 has no expectations (RFC 9110 10.1.1). A request without a body needs no permission.
    pub(super) fn expects_continue(&self, version: Version, framing: BodyFraming) -> bool {
        self.expects_continue
            && version == Version::Http11
            && !matches!(framing, BodyFraming::None | BodyFraming::Length(0))
    }

    /// Whether the connection persists after this request (RFC 9112 9.3).
    pub(super) fn is_persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Checks the `Host` field (RFC 9112 3.2).
    pub(super) fn check_host(&self, version: Version) -> Result<(), RequestError> {
        match self.known[Known::Host as usize] {
            Some(host) if host.is_empty() || is_host_and_port(host) => Ok(()),
            Some(host) => Err(RequestError::BadHost { host: quote(host) }),
            None if version == Version::Http10 => Ok(()),
            None => Err(RequestError::MissingHost),
        }
    }

    /// Bytes of all known values in the text of a head. The further values of repeated headers are not
    /// counted.
    pub(super) fn known_bytes(&self) -> usize {
        self.known_bytes
    }

    /// The known headers that the head has.
    pub(super) fn present(&self) -> impl Iterator<Item = Known> + use<> {
        let mut rest = self.present;
        std::iter::from_fn(move || {
            let known = Known::ALL.get(rest.trailing_zeros() as usize).copied()?;
            rest &= rest - 1;
            Some(known)
        })
    }

    /// Which known headers with a single value came with several values: a bit for each, by index.
    pub(super) fn contradicted(&self) -> u16 {
        self.contradicted
    }

    /// Appends the value of a known header. The values of a repeated header are joined.
    pub(super) fn push_known(&self, known: Known, headers: &[Header<'h>], text: &mut String) {
        if self.repeated & (1 << (known as usize)) == 0 {
            push_text(self.known[known as usize].unwrap_or_default(), text);
            return;
        }
        let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(known.name()));
        for (count, header) in values.enumerate() {
            text.push_str(if count == 0 { "" } else { known.joined_by().unwrap_or_default() });
            push_text(header.value, text);
        }
    }
}

/// Appends a value as text. A value that is not UTF-8 is read as Latin-1: older HTTP defined it so, and
/// some clients send text that they got as UTF-8 that way (RFC 9110 5.5). So every value is a text.
fn push_text(value: &[u8], text: &mut String) {
    match str::from_utf8(value) {
        Ok(value) => text.push_str(value),
        Err(_) => text.extend(value.iter().copied().map(char::from)),
    }
}

/// The items of a list, without the blanks and tabs around each (RFC 9110 5.6.3). Any other control
/// character is part of its item and makes it a different item. If one recipient trims a character that
/// the next one keeps, a request can be hidden.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    value.split(|&byte| byte == b',').map(move |item| {
        let start = item.iter().position(|byte| !is_space(byte)).unwrap_or(item.len());
        let end = item.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
        &item[start..end]
    })
}

/// Digits only: no sign, no space, nothing above 2^64 - 1.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{RequestHead, parse};

    fn head(text: &str) -> RequestHead {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn lengths_are_digits_below_two_to_the_64() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", "0x1", "18446744073709551616", "1e3", "１"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
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
}
