//! Copies of runs for readers without chunked transfer coding (HTTP/1.0): the same frames without their
//! chunks.

/// Appends the frames of `framed` without their framing. `framed` is whole chunks as
/// [`crate::frame::render`] makes them.
///
/// # Panics
/// If `framed` is not a sequence of whole chunks. Runs always are.
pub fn unframe(mut framed: &[u8], out: &mut Vec<u8>) {
    while !framed.is_empty() {
        let head = memchr::memchr(b'\r', framed).expect("a chunk begins with its length and CR LF");
        let len = framed[..head].iter().fold(0, |sum, &digit| {
            sum * 16 + char::from(digit).to_digit(16).expect("a chunk's length is hexadecimal") as usize
        });
        let data = head + 2;
        out.extend_from_slice(&framed[data..data + len]);
        framed = &framed[data + len + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::render::{Framing, render_own};

    #[test]
    fn unframing_inverts_framing() {
        let texts =
            ["data: a\n\n".to_owned(), format!("data: {}\n\n", "\r\n5".repeat(1000)), ":\n\n".to_owned()];
        let mut framed = Vec::new();
        for text in &texts {
            render_own(&mut framed, Framing::Chunked, |out| out.extend_from_slice(text.as_bytes()));
        }
        let mut out = Vec::new();
        unframe(&framed, &mut out);
        assert_eq!(out, texts.concat().into_bytes());
    }
}
