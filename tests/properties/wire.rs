//! Reading what a stream would be sent: chunks, and the event in each.

use downpour::sse::decode::Decoder;

/// The whole chunks that `bytes` are, each with its framing (RFC 9112 7.1).
///
/// # Panics
/// If they are anything else.
pub(crate) fn chunks(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.iter().position(|&byte| byte == b'\r').expect("a chunk begins with its length");
        let text = str::from_utf8(&bytes[..digits]).expect("a length is digits");
        assert!(!text.starts_with(['0', '+']), "length {text:?}");
        let data_len = usize::from_str_radix(text, 16).expect("a length is hexadecimal");
        let len = digits + 2 + data_len + 2;
        assert_eq!(&bytes[digits..digits + 2], b"\r\n", "a length ends with its line");
        assert_eq!(&bytes[len - 2..len], b"\r\n", "a chunk ends with CR LF");
        chunks.push(&bytes[..len]);
        bytes = &bytes[len..];
    }
    chunks
}

/// The one event in a chunk: its type, its data, its id.
///
/// # Panics
/// If there is not exactly one.
pub(crate) fn decode(chunk: &[u8]) -> (String, String, String) {
    let digits = chunk.iter().position(|&byte| byte == b'\r').expect("a chunk begins with its length");
    let mut events = Vec::new();
    Decoder::new(usize::MAX)
        .feed(&chunk[digits + 2..chunk.len() - 2], &mut |event| {
            events.push((event.event_type.into(), event.data.into(), event.last_event_id.into()));
        })
        .expect("no event is too long");
    assert_eq!(events.len(), 1, "a frame is one event");
    events.remove(0)
}
