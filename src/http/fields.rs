//! The header fields of a head: which of them the server reads, and what the framing ones mean together
//! (RFC 9112 6, 9.3; RFC 9110 5.3, 7.2, 10.1.1).

use httparse::Header;

use super::authority::is_host_and_port;
use super::error::{RequestError, quote};
use super::request::{BodyFraming, Known, ProxyHeader, Version};

/// What the fields of one head say.
#[derive(Debug)]
pub(super) struct Fields<'h> {
    /// The first value of each known header.
    known: [Option<&'h [u8]>; Known::COUNT],
    /// Which of them came: a bit for each, by index.
    present: u16,
    /// Which of those of [`Known::joined_by`] came again.
    repeated: u16,
    /// Which of those with a single value came again with another one.
    contradicted: u16,
    /// Bytes of the first values together.
    known_bytes: usize,
    content_length: Option<u64>,
    chunked: bool,
    unknown_coding: Option<&'h [u8]>,
    unknown_expectation: Option<&'h [u8]>,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
    /// The first header by which a proxy says that the request came through it.
    pub(super) proxy_header: Option<ProxyHeader>,
}

/// What a field's name makes of its value.
enum Field {
    Known(Known),
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    /// Not looked at.
    Other,
}

impl Field {
    /// Looks at the length first, which tells most of the fields apart that a browser sends.
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
    /// Those of the framing fields, and a second `Host`, all answered with 400. Any other field may be one that nobody
    /// reads for this request, so whatever it holds is no error here.
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
            // As in a query the last that is not empty counts: a place to resume at is never refused.
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

    /// A list of equal lengths is one length (RFC 9112 6.3); anything else that is no number may be read differently
    /// by a proxy before us.
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

    /// Says how the body ends, where all fields together leave no doubt.
    ///
    /// # Errors
    /// 400 for an ambiguous framing, 501 for a coding that is not chunked, 417 for an unknown expectation; in this
    /// order, since an ambiguity may be somebody's attack.
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

    /// HTTP/1.0 has no expectations (RFC 9110 10.1.1), and no body needs no permission.
    pub(super) fn expects_continue(&self, version: Version, framing: BodyFraming) -> bool {
        self.expects_continue
            && version == Version::Http11
            && !matches!(framing, BodyFraming::None | BodyFraming::Length(0))
    }

    /// RFC 9112 9.3.
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

    /// Bytes of all known values as they come to stand in a head's text, save for repeated ones.
    pub(super) fn known_bytes(&self) -> usize {
        self.known_bytes
    }

    /// The known headers that came.
    pub(super) fn present(&self) -> impl Iterator<Item = Known> + use<> {
        let mut rest = self.present;
        std::iter::from_fn(move || {
            let known = Known::ALL.get(rest.trailing_zeros() as usize).copied()?;
            rest &= rest - 1;
            Some(known)
        })
    }

    /// The known headers that have a single value and came with several: a bit for each, by index.
    pub(super) fn contradicted(&self) -> u16 {
        self.contradicted
    }

    /// Appends the value of a known header; of a repeated one all values, joined.
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

/// Appends a value as text. One that is not UTF-8 is Latin-1, as it was for HTTP before, and as some clients send what
/// they were given in UTF-8 (RFC 9110 5.5): every value is a text.
fn push_text(value: &[u8], text: &mut String) {
    match str::from_utf8(value) {
        Ok(value) => text.push_str(value),
        Err(_) => text.extend(value.iter().copied().map(char::from)),
    }
}

/// The items of a list, without the space around each: blank and tab alone (RFC 9110 5.6.3). Another control character
/// belongs to its item, which it makes another: what one recipient trims and the next does not hides a request.
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

    #[test]
    fn lengths_are_digits_below_two_to_the_64() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", "0x1", "18446744073709551616", "1e3", "１"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
