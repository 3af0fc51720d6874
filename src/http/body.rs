//! Request bodies of either framing, passed on as they arrive (RFC 9112 6, 7.1).
//!
//! The decoder keeps only its place in the body; a caller that needs the whole body collects it. Chunk
//! extensions and trailers are checked, bounded and dropped. Bare LF is refused here too: it can hide
//! one request inside another.

use super::error::RequestError;
use super::request::BodyFraming;
use crate::base::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// Separates a body from the bytes of a connection.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Data bytes that are still to come of the body, or of the chunk.
    remaining: u64,
    /// Data bytes announced so far; never more than `bytes_max`.
    announced_bytes: u64,
    bytes_max: u64,
    /// Bytes of the current size line, or of all trailers.
    line_bytes: u32,
    size_digits: u8,
}

/// The part of the body that the next byte must belong to.
///
/// ```text
///            ┌────────────────────────────────────────────────────────┐
///            ▼                                                        │
///   SizeStart ─► Size ─► (extensions) ─► SizeLf ─► Chunk ─► ChunkCr ─► ChunkLf
///                                         │ 0
///                                         ▼
///            EndLf ◄─ TrailerStart ─► TrailerName ─► TrailerValue ─► TrailerLf ─► (TrailerStart)
///              │
///              ▼
///            Done ◄─ Counted
///
/// extensions: each begins with a `;`, with optional space on both sides,
/// and ends at the next extension or at the end of the line
///
///   ─► SizeSpace ─► ExtensionStart ─► ExtensionName ─► ValueStart ─► Value ──────────────────────►
///                                      └► NameSpace ─────┘  └─► Quoted ─► (quoted pairs) ─► SizeSpace
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Data of a body with a `Content-Length`.
    Counted,
    SizeStart,
    Size,
    /// Space after a size or an extension: only another extension may follow.
    SizeSpace,
    /// After the `;`.
    ExtensionStart,
    ExtensionName,
    /// Space after the name of an extension.
    NameSpace,
    /// After the `=`.
    ValueStart,
    Value,
    Quoted,
    /// After the backslash.
    QuotedPair,
    /// After the closing quote.
    QuotedEnd,
    SizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl BodyDecoder {
    /// Begins a body of at most `bytes_max` bytes. `u64::MAX` allows any length.
    ///
    /// # Errors
    /// [`RequestError::BodyTooLong`] for a `Content-Length` over `bytes_max`: the client is never asked
    /// to send such a body.
    pub fn new(framing: BodyFraming, bytes_max: u64) -> Result<BodyDecoder, RequestError> {
        let (state, remaining) = match framing {
            BodyFraming::None | BodyFraming::Length(0) => (State::Done, 0),
            BodyFraming::Length(length) => (State::Counted, length),
            BodyFraming::Chunked => (State::SizeStart, 0),
        };
        if remaining > bytes_max {
            return Err(RequestError::BodyTooLong { limit_bytes: bytes_max });
        }
        let (announced_bytes, line_bytes, size_digits) = (remaining, 0, 0);
        Ok(BodyDecoder { state, remaining, announced_bytes, bytes_max, line_bytes, size_digits })
    }

    /// Takes bytes off the front of `input`. Returns how many it took, and which of them are data of the
    /// body. Call it again with the rest until nothing is left or [`BodyDecoder::is_done`]. Each call
    /// takes at least one byte.
    ///
    /// # Errors
    /// 400 for a malformed chunk; 413 as soon as the announced chunks exceed `bytes_max`. The decoder
    /// must not be used after an error.
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<(usize, &'b [u8]), RequestError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Done => break,
                State::Counted | State::Chunk => {
                    let data = self.take(&input[at..]);
                    return Ok((at + data.len(), data));
                }
                State::SizeStart
                | State::Size
                | State::SizeSpace
                | State::ExtensionStart
                | State::ExtensionName
                | State::NameSpace
                | State::ValueStart
                | State::Value
                | State::Quoted
                | State::QuotedPair
                | State::QuotedEnd
                | State::SizeLf
                | State::ChunkCr
                | State::ChunkLf
                | State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLf
                | State::EndLf => {
                    self.state = self.step(input[at])?;
                    at += 1;
                }
            }
        }
        Ok((at, &[]))
    }

    /// Returns true if the body has ended. The bytes after it are the next request.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Data bytes that the client has announced so far: the whole body if it has a `Content-Length`.
    #[must_use]
    pub fn announced_bytes(&self) -> u64 {
        self.announced_bytes
    }

    fn take<'b>(&mut self, input: &'b [u8]) -> &'b [u8] {
        let count =
            usize::try_from(self.remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        self.remaining -= count as u64;
        if self.remaining == 0 {
            self.state = if self.state == State::Chunk { State::ChunkCr } else { State::Done };
        }
        &input[..count]
    }

    /// Reads one byte of the framing and returns the next state.
    fn step(&mut self, byte: u8) -> Result<State, RequestError> {
        self.count_line_byte()?;
        match (self.state, byte) {
            (State::SizeStart | State::Size, _) if byte.is_ascii_hexdigit() => self.push_size_digit(byte),
            (State::Size | State::SizeSpace | State::Value | State::QuotedEnd, b' ' | b'\t') => {
                Ok(State::SizeSpace)
            }
            (
                State::Size
                | State::SizeSpace
                | State::ExtensionName
                | State::NameSpace
                | State::Value
                | State::QuotedEnd,
                b';',
            ) => Ok(State::ExtensionStart),
            (State::Size | State::ExtensionName | State::Value | State::QuotedEnd, b'\r') => {
                Ok(State::SizeLf)
            }
            (State::ExtensionStart, b' ' | b'\t') => Ok(State::ExtensionStart),
            (State::ExtensionStart | State::ExtensionName, _) if is_token(byte) => Ok(State::ExtensionName),
            (State::ExtensionName | State::NameSpace, b' ' | b'\t') => Ok(State::NameSpace),
            (State::ExtensionName | State::NameSpace, b'=') => Ok(State::ValueStart),
            (State::ValueStart, b' ' | b'\t') => Ok(State::ValueStart),
            (State::ValueStart, b'"') => Ok(State::Quoted),
            (State::ValueStart | State::Value, _) if is_token(byte) => Ok(State::Value),
            (State::Quoted, b'"') => Ok(State::QuotedEnd),
            (State::Quoted, b'\\') => Ok(State::QuotedPair),
            (State::Quoted | State::QuotedPair, _) if is_text(byte) => Ok(State::Quoted),
            (State::SizeLf, b'\n') => self.begin_chunk(),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => {
                (self.line_bytes, self.size_digits) = (0, 0);
                Ok(State::SizeStart)
            }
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            (state, _) => Err(RequestError::BadChunk { problem: state.problem() }),
        }
    }

    fn count_line_byte(&mut self) -> Result<(), RequestError> {
        self.line_bytes += 1;
        if self.state.is_in_trailers() && self.line_bytes as usize > TRAILER_BYTES_MAX {
            return Err(RequestError::TrailersTooLong { limit_bytes: TRAILER_BYTES_MAX });
        }
        if self.state.is_in_size_line() && self.line_bytes as usize > CHUNK_LINE_BYTES_MAX {
            return Err(RequestError::ChunkLineTooLong { limit_bytes: CHUNK_LINE_BYTES_MAX });
        }
        Ok(())
    }

    /// Sixteen digits fill the 64 bits of a size. One more may overflow them, even after zeros.
    fn push_size_digit(&mut self, digit: u8) -> Result<State, RequestError> {
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(RequestError::BadChunk { problem: "a chunk's size has more than 16 digits" });
        }
        self.size_digits += 1;
        let value = char::from(digit).to_digit(16).unwrap_or(0);
        self.remaining = self.remaining << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn begin_chunk(&mut self) -> Result<State, RequestError> {
        self.line_bytes = 0;
        if self.remaining == 0 {
            return Ok(State::TrailerStart);
        }
        self.announced_bytes = self.announced_bytes.saturating_add(self.remaining);
        if self.announced_bytes > self.bytes_max {
            return Err(RequestError::BodyTooLong { limit_bytes: self.bytes_max });
        }
        Ok(State::Chunk)
    }
}

impl State {
    fn is_in_trailers(self) -> bool {
        matches!(
            self,
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf
        )
    }

    fn is_in_size_line(self) -> bool {
        matches!(
            self,
            State::SizeStart
                | State::Size
                | State::SizeSpace
                | State::ExtensionStart
                | State::ExtensionName
                | State::NameSpace
                | State::ValueStart
                | State::Value
                | State::Quoted
                | State::QuotedPair
                | State::QuotedEnd
                | State::SizeLf
        )
    }

    /// What is wrong with a byte that this state does not allow.
    fn problem(self) -> &'static str {
        match self {
            State::SizeStart | State::Size => "expected a chunk's size in hex digits",
            State::SizeSpace => "expected ; after the space behind a chunk's size or extension",
            State::ExtensionStart | State::ExtensionName | State::NameSpace => {
                "expected the name of a chunk's extension, or = and its value"
            }
            State::ValueStart | State::Value | State::QuotedEnd => {
                "expected the value of a chunk's extension, a token or a quoted string, and nothing behind it but ;"
            }
            State::Quoted | State::QuotedPair => {
                "a control character or no end in a chunk's quoted extension"
            }
            State::SizeLf | State::TrailerLf | State::EndLf => "a carriage return without a line feed",
            State::ChunkCr | State::ChunkLf => "a chunk's data is longer than its size",
            State::TrailerStart | State::TrailerName => "expected a trailer's name and a colon",
            State::TrailerValue => "a control character in a trailer",
            State::Counted | State::Chunk | State::Done => "data out of place",
        }
    }
}

/// A byte of a field value, or of a quoted string between its quotes (RFC 9110 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const SIZE_DIGITS_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body, and the bytes after it.
    fn decode_all(
        framing: BodyFraming,
        bytes_max: u64,
        input: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), RequestError> {
        let mut decoder = BodyDecoder::new(framing, bytes_max)?;
        let (mut data, mut rest) = (Vec::new(), input);
        while !decoder.is_done() && !rest.is_empty() {
            let (consumed, part) = decoder.decode(rest)?;
            assert!(consumed > 0);
            data.extend_from_slice(part);
            rest = &rest[consumed..];
        }
        assert!(decoder.is_done());
        Ok((data, rest.to_vec()))
    }

    #[test]
    fn a_counted_body_ends_after_its_length() {
        let result = decode_all(BodyFraming::Length(3), 3, b"abcGET");
        assert_eq!(result, Ok((b"abc".to_vec(), b"GET".to_vec())));
        assert_eq!(decode_all(BodyFraming::Length(0), 0, b"x"), Ok((vec![], b"x".to_vec())));
        assert_eq!(decode_all(BodyFraming::None, 0, b""), Ok((vec![], vec![])));
    }

    #[test]
    fn chunks_are_joined_and_extensions_and_trailers_forgotten() {
        let input =
            b"5 ;a=\"b;\\\"c\" ; d = e;f\r\nhello\r\n00A\r\n, world..!\r\n0;x\r\nDigest: y\r\nX:\r\n\r\nGET";
        assert_eq!(
            decode_all(BodyFraming::Chunked, 15, input),
            Ok((b"hello, world..!".to_vec(), b"GET".to_vec()))
        );
        assert_eq!(decode_all(BodyFraming::Chunked, 0, b"0\r\n\r\n"), Ok((vec![], vec![])));
    }

    #[test]
    fn a_body_over_its_limit_is_refused_before_its_data_comes() {
        let too_long = RequestError::BodyTooLong { limit_bytes: 4 };
        assert_eq!(BodyDecoder::new(BodyFraming::Length(5), 4).unwrap_err(), too_long);
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, 4).unwrap();
        assert_eq!(decoder.decode(b"2\r\nab\r\n").unwrap(), (5, b"ab".as_slice()));
        assert_eq!(decoder.decode(b"\r\n3\r\n"), Err(too_long));
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, u64::MAX).unwrap();
        assert_eq!(decoder.decode(b"FFFFFFFFFFFFFFFF\r\nab").unwrap(), (20, b"ab".as_slice()));
        assert_eq!(decoder.announced_bytes(), u64::MAX);
        assert!(!decoder.is_done());
    }
}
