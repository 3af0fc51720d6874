//! Paths and queries: percent-decoding, segments, parameters (RFC 3986 2.1, WHATWG URL 5.1).

use std::borrow::Cow;

/// Why a path or a query cannot be decoded. Answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// A `%` without two hex digits after it.
    #[error("bad percent-encoding in the {part}: two hex digits must follow the % at byte {at}")]
    BadEscape {
        /// `path` or `query`.
        part: &'static str,
        /// The position of the `%` in the part as the client sent it.
        at: usize,
    },
    /// Decoded bytes that are not UTF-8.
    #[error("the {part} is not UTF-8 once decoded, in what begins at byte {at}")]
    NotUtf8 {
        /// `path` or `query`.
        part: &'static str,
        /// The start of the segment, name or value in the part as the client sent it.
        at: usize,
    },
}

/// Decodes a whole path. An escaped `/` cannot be distinguished from a separator afterwards. A `+` is a
/// plus.
///
/// # Errors
/// [`UriError`] for bytes that cannot be decoded, with their position.
pub fn decode_path(raw: &str) -> Result<Cow<'_, str>, UriError> {
    decode(raw, "path", 0)
}

/// The decoded segments of a path. `/channels/chat%2F7` has `channels` and `chat/7`; `/` has none; `/a/`
/// has `a` and an empty one.
#[must_use]
pub fn segments(raw: &str) -> Segments<'_> {
    let (rest, at) = match raw.strip_prefix('/') {
        Some(rest) => (rest, 1),
        None => (raw, 0),
    };
    Segments { rest: (!rest.is_empty()).then_some(rest), at }
}

/// The iterator of [`segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: Option<&'a str>,
    at: usize,
}

impl<'a> Segments<'a> {
    /// The rest of the path as the client sent it, for a last segment that may itself contain slashes.
    #[must_use]
    pub fn rest_raw(&self) -> &'a str {
        self.rest.unwrap_or("")
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Cow<'a, str>, UriError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let at = self.at;
        let segment = match rest.split_once('/') {
            Some((segment, behind)) => {
                self.rest = Some(behind);
                segment
            }
            None => {
                self.rest = None;
                rest
            }
        };
        self.at += segment.len() + 1;
        Some(decode(segment, "path", at))
    }
}

/// The decoded parameters of a query, in order: `a=1&b` has (`a`, `1`) and (`b`, empty). A `+` is a
/// space. An empty text between two `&` is not a parameter.
#[must_use]
pub fn pairs(raw: &str) -> Pairs<'_> {
    Pairs { rest: raw, at: 0 }
}

/// The iterator of [`pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), UriError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let at = self.at;
            let (pair, behind) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = behind;
            self.at += pair.len() + 1;
            if !pair.is_empty() {
                return Some(decode_pair(pair, at));
            }
        }
        None
    }
}

fn decode_pair(pair: &str, at: usize) -> Result<(Cow<'_, str>, Cow<'_, str>), UriError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((decode_form(name, at)?, decode_form(value, at + name.len() + 1)?))
}

/// Decodes a name or a value of a query. A `+` is a space.
fn decode_form(raw: &str, at: usize) -> Result<Cow<'_, str>, UriError> {
    if memchr::memchr(b'+', raw.as_bytes()).is_none() {
        return decode(raw, "query", at);
    }
    // A `+` and a space are one byte each, so the positions do not change.
    decode(&raw.replace('+', " "), "query", at).map(|text| Cow::Owned(text.into_owned()))
}

/// Decodes escapes. `at` is the position of `raw` in its part. Text without an escape is not copied.
fn decode<'a>(raw: &'a str, part: &'static str, at: usize) -> Result<Cow<'a, str>, UriError> {
    let Some(first) = memchr::memchr(b'%', raw.as_bytes()) else {
        return Ok(Cow::Borrowed(raw));
    };
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut place = first;
    while place < bytes.len() {
        let (byte, width) = match (bytes[place], bytes.get(place + 1), bytes.get(place + 2)) {
            (b'%', Some(&high), Some(&low)) => {
                let value = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low);
                (value.ok_or(UriError::BadEscape { part, at: at + place })?, 3)
            }
            (b'%', _, _) => return Err(UriError::BadEscape { part, at: at + place }),
            (byte, _, _) => (byte, 1),
        };
        decoded.push(byte);
        place += width;
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| UriError::NotUtf8 { part, at })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_pairs(raw: &str) -> Result<Vec<(String, String)>, UriError> {
        pairs(raw).map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned()))).collect()
    }

    fn all_segments(raw: &str) -> Result<Vec<String>, UriError> {
        segments(raw).map(|segment| segment.map(Cow::into_owned)).collect()
    }

    #[test]
    fn a_query_is_decoded_pair_by_pair() {
        let expected = [("channels", "a,b c"), ("x", ""), ("", "y"), ("ü", "a=b+c/?")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(all_pairs("channels=a%2Cb+c&&x&=y&%C3%bc=a=b%2Bc/?&"), Ok(expected));
        assert_eq!(all_pairs(""), Ok(vec![]));
    }

    #[test]
    fn an_error_of_decoding_has_its_position() {
        for (raw, at) in [("a=%zz", 2), ("a=1&b=x%", 7), ("a=1&b=+%4", 7), ("%g0=1", 0), ("a=%+1", 2)] {
            assert_eq!(all_pairs(raw), Err(UriError::BadEscape { part: "query", at }), "{raw:?}");
        }
        assert_eq!(all_pairs("a=1&b=%ff"), Err(UriError::NotUtf8 { part: "query", at: 6 }));
        assert_eq!(all_segments("/a/%4"), Err(UriError::BadEscape { part: "path", at: 3 }));
        assert_eq!(all_segments("/a/%C3"), Err(UriError::NotUtf8 { part: "path", at: 3 }));
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(all_segments("/channels/chat%2F7+8"), Ok(vec!["channels".into(), "chat/7+8".into()]));
        assert_eq!(all_segments("/"), Ok(vec![]));
        assert_eq!(all_segments("/a//b/"), Ok(vec!["a".into(), String::new(), "b".into(), String::new()]));
        assert_eq!(decode_path("/a%20b"), Ok(Cow::Borrowed("/a b")));
        let mut parts = segments("/channels/chat/7");
        assert!(parts.next().is_some());
        assert_eq!(parts.rest_raw(), "chat/7");
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let (name, value) = pairs("channel=news").next().unwrap().unwrap();
        assert!(matches!((name, value), (Cow::Borrowed("channel"), Cow::Borrowed("news"))));
    }
}
