//! The chunks of HTTP/1.1 chunked transfer coding (RFC 9112 7.1), as the server sends them.
//!
//! A chunk is a head, a payload and a tail. The head is the payload's length in hexadecimal digits and CR
//! LF, and the tail is CR LF. No other file knows this syntax. Bodies that peers send are decoded in
//! [`crate::http`], since peers may send extensions and trailers.

/// The last chunk of a chunked body, without trailers (RFC 9112 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Most bytes of a head: the eight digits of a `u32` and CR LF.
pub const HEAD_BYTES_MAX: usize = 10;

/// Ends the head of a chunk, and the chunk.
const LINE_END: &[u8] = b"\r\n";

/// The framing of one payload: what goes before and behind it.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// The head, at the end of the array.
    head: [u8; HEAD_BYTES_MAX],
    head_from: usize,
    payload_bytes: usize,
}

impl Chunk {
    /// The chunk of a payload of this length.
    ///
    /// # Panics
    /// If the payload is empty, since an empty chunk ends the body, or is 4 GiB or longer. Bodies are
    /// bounded far below that.
    #[must_use]
    #[inline]
    pub fn of(payload_bytes: usize) -> Chunk {
        let mut rest = u32::try_from(payload_bytes).expect("payloads are below 4 GiB");
        assert!(rest > 0, "an empty chunk would end the body");
        let mut head = [0; HEAD_BYTES_MAX];
        let mut from = HEAD_BYTES_MAX - LINE_END.len();
        head[from..].copy_from_slice(LINE_END);
        while rest > 0 {
            from -= 1;
            head[from] = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        Chunk { head, head_from: from, payload_bytes }
    }

    /// The bytes of the whole chunk: head, payload and tail.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.payload_at() + self.payload_bytes + LINE_END.len()
    }

    /// Where the payload begins in the chunk.
    #[must_use]
    #[inline]
    pub fn payload_at(&self) -> usize {
        HEAD_BYTES_MAX - self.head_from
    }

    /// The bytes before the payload.
    #[must_use]
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.head[self.head_from..]
    }

    /// Head, payload and tail, which are adjacent on the wire.
    ///
    /// # Panics
    /// If `payload` has another length than the chunk was made for.
    #[must_use]
    #[inline]
    pub fn around<'a>(&'a self, payload: &'a [u8]) -> [&'a [u8]; 3] {
        assert_eq!(payload.len(), self.payload_bytes, "a chunk is made for its payload");
        [self.head(), payload, LINE_END]
    }
}

/// Appends `payload` as one chunk.
///
/// # Panics
/// As [`Chunk::of`].
pub fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let chunk = Chunk::of(payload.len());
    out.reserve(chunk.bytes());
    chunk.around(payload).into_iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a chunk whose payload `write` appends. Returns where the chunk begins, and what `write`
/// returned.
///
/// The head's length is known only after the payload. So up to [`HEAD_BYTES_MAX`] bytes of filler remain
/// before the chunk.
///
/// # Panics
/// As [`Chunk::of`].
pub fn append_with<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> (usize, T) {
    let payload_from = out.len() + HEAD_BYTES_MAX;
    out.resize(payload_from, 0);
    let written = write(out);
    let chunk = Chunk::of(out.len() - payload_from);
    let from = payload_from - chunk.payload_at();
    // With the filler, as a copy of fixed length takes fewer instructions.
    out[payload_from - HEAD_BYTES_MAX..payload_from].copy_from_slice(&chunk.head);
    out.extend_from_slice(LINE_END);
    (from, written)
}

/// The payloads of a sequence of whole chunks, in order.
///
/// # Panics
/// The iterator panics if `chunks` is anything else than chunks that this module wrote.
pub fn payloads(mut chunks: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if chunks.is_empty() {
            return None;
        }
        let digits = memchr::memchr(LINE_END[0], chunks).expect("a chunk begins with its length and CR LF");
        let payload_bytes = chunks[..digits].iter().fold(0, |sum, &digit| {
            sum * 16 + char::from(digit).to_digit(16).expect("a chunk's length is hexadecimal") as usize
        });
        let (payload, behind) = chunks[digits + LINE_END.len()..].split_at(payload_bytes);
        chunks = behind.strip_prefix(LINE_END).expect("a chunk ends with CR LF");
        Some(payload)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths around each further digit.
    fn lengths() -> impl Iterator<Item = usize> {
        [1, 15, 16, 17, 255, 256, 4095, 4096, 65_535, 65_536, 1_048_575, 1_048_576].into_iter()
    }

    #[test]
    fn a_chunk_is_its_length_in_hexadecimal_and_its_payload_each_with_a_line_end() {
        let mut out = b"-".to_vec();
        append(&mut out, b":\n\n");
        append(&mut out, &[b'x'; 0x2d]);
        assert_eq!(out, [b"-3\r\n:\n\n\r\n2d\r\n".as_slice(), &[b'x'; 0x2d], b"\r\n"].concat());
    }

    #[test]
    fn a_chunk_knows_its_lengths_before_it_is_written() {
        for len in lengths() {
            let (chunk, mut out) = (Chunk::of(len), Vec::new());
            append(&mut out, &vec![b'x'; len]);
            assert_eq!((chunk.bytes(), chunk.payload_at()), (out.len(), format!("{len:x}\r\n").len()));
            assert_eq!(&out[chunk.payload_at()..][..len], vec![b'x'; len]);
            assert_eq!(&out[..chunk.payload_at()], format!("{len:x}\r\n").as_bytes());
        }
        assert_eq!(Chunk::of(u32::MAX as usize).head().len(), HEAD_BYTES_MAX);
    }

    #[test]
    fn a_payload_of_unknown_length_becomes_the_same_chunk_behind_filler() {
        for len in lengths() {
            let (mut known, mut unknown) = (Vec::new(), b"before".to_vec());
            append(&mut known, &vec![b'x'; len]);
            let (from, wrote_at) = append_with(&mut unknown, |out| {
                let at = out.len();
                out.resize(at + len, b'x');
                at
            });
            assert_eq!((&unknown[..6], &unknown[from..]), (b"before".as_slice(), known.as_slice()));
            assert_eq!(wrote_at - from, Chunk::of(len).payload_at());
        }
    }

    #[test]
    fn reading_inverts_writing() {
        let texts = ["data: a\n\n", &"\r\n5\r\n".repeat(1000), ":\n\n", "0\r\n\r\n", "\r"];
        let mut chunks = Vec::new();
        texts.iter().for_each(|text| append(&mut chunks, text.as_bytes()));
        assert!(payloads(&chunks).eq(texts.iter().map(|text| text.as_bytes())));
        assert_eq!(payloads(b"").count(), 0);
    }

    #[test]
    #[should_panic(expected = "a chunk ends with CR LF")]
    fn bytes_that_are_no_whole_chunks_are_not_taken_for_some() {
        payloads(b"1\r\nab\r\n").for_each(drop);
    }

    #[test]
    #[should_panic(expected = "an empty chunk would end the body")]
    fn nothing_is_no_chunk() {
        append(&mut Vec::new(), b"");
    }

    #[test]
    #[should_panic(expected = "a chunk is made for its payload")]
    fn a_chunk_of_another_length_is_not_put_around_a_payload() {
        let _ = Chunk::of(3).around(b"four");
    }
}
