//! The HTTP that clients need: writing requests and reading responses.

use downpour::base::random::SplitMix64;

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) version: String,
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl ResponseHead {
    /// The value of a field. `name` is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Takes the head of a response from the received bytes, once it is complete.
pub(crate) fn take_head(received: &mut Vec<u8>) -> Option<ResponseHead> {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let rest = received.split_off(end + 4);
    let text = String::from_utf8(std::mem::replace(received, rest)).expect("a head is text");
    let mut lines = text.trim_end().split("\r\n");
    let mut status_line = lines.next().expect("a head has a line").splitn(3, ' ');
    let version = status_line.next().expect("a version").to_owned();
    let status = status_line.next().and_then(|code| code.parse().ok()).expect("a status");
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a field has a name");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Some(ResponseHead { version, status, fields: lines.map(field).collect() })
}

/// Takes a response with a body of known length from the received bytes, once it is complete.
pub(crate) fn take_response(received: &mut Vec<u8>) -> Option<(ResponseHead, String)> {
    let before = received.clone();
    let head = take_head(received)?;
    let length = head.field("content-length").expect("an answer has a length").parse().expect("a number");
    if received.len() < length {
        *received = before;
        return None;
    }
    let rest = received.split_off(length);
    let body = String::from_utf8(std::mem::replace(received, rest)).expect("an answer is text");
    Some((head, body))
}

/// Percent-encodes a path segment or a query value.
pub(crate) fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Checks the lines of an event stream. A decoder ignores unknown lines, and the server must write none.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    /// Whether the last line was blank. `None` before the first line.
    is_between: Option<bool>,
}

impl Lines {
    /// Takes in the next bytes.
    pub(crate) fn check(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let is_blank = self.line.is_empty();
            assert!(!is_blank || self.is_between == Some(false), "a blank line ends no event");
            let fields: [&[u8]; 5] = [b"data: ", b"data:", b"event: ", b"id: ", b"retry: "];
            let is_field =
                fields.iter().any(|field| self.line.starts_with(field)) && !self.line.contains(&b'\r');
            assert!(is_blank || is_field, "a line is no field: {:?}", String::from_utf8_lossy(&self.line));
            self.is_between = Some(is_blank);
            self.line.clear();
        }
    }
}

/// An encoded request body.
pub(crate) struct Body {
    pub(crate) fields: String,
    pub(crate) bytes: Vec<u8>,
    /// For each chunk, where its data ends in the data, and where the chunk begins in the bytes.
    chunks: Vec<(usize, usize)>,
}

impl Body {
    /// A body with a `Content-Length`.
    pub(crate) fn counted(data: &[u8]) -> Body {
        let fields = format!("Content-Length: {}\r\n", data.len());
        Body { fields, bytes: data.to_vec(), chunks: vec![(data.len(), 0)] }
    }

    /// A body in chunks, cut anywhere.
    pub(crate) fn chunked(data: &[u8], random: &mut SplitMix64) -> Body {
        let (mut bytes, mut chunks, mut at) = (Vec::new(), Vec::new(), 0);
        while at < data.len() {
            let len = random.within(1..=(data.len() - at).min(4000));
            bytes.extend_from_slice(format!("{len:x}\r\n").as_bytes());
            chunks.push((at + len, bytes.len()));
            bytes.extend_from_slice(&data[at..at + len]);
            bytes.extend_from_slice(b"\r\n");
            at += len;
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Body { fields: "Transfer-Encoding: chunked\r\n".to_owned(), bytes, chunks }
    }

    /// The number of bytes that must be written to contain the first `data_len` bytes of the data.
    pub(crate) fn bytes_for(&self, data_len: usize) -> usize {
        let mut begin = 0;
        for &(end, at) in &self.chunks {
            if data_len <= end {
                return at + data_len - begin;
            }
            begin = end;
        }
        self.bytes.len()
    }
}
