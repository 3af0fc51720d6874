//! Decodes the body of a stream from its chunks (RFC 9112 7.1), in pieces of any size.

/// Removes the framing of a body.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    at: At,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// In the size line of the next chunk.
    #[default]
    Size,
    Data {
        bytes_left: usize,
    },
    /// In the line end after a chunk.
    DataEnd,
    /// After the last chunk.
    End,
}

impl Chunks {
    /// Passes every piece of data to `sink`.
    ///
    /// # Errors
    /// The framing is broken.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.at {
                At::Size | At::DataEnd => {
                    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                        self.line.extend_from_slice(bytes);
                        return Ok(());
                    };
                    self.line.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.at = self.after_line()?;
                    self.line.clear();
                }
                At::Data { bytes_left } => {
                    let (data, rest) = bytes.split_at(bytes.len().min(bytes_left));
                    sink(data)?;
                    let bytes_left = bytes_left - data.len();
                    self.at = if bytes_left == 0 { At::DataEnd } else { At::Data { bytes_left } };
                    bytes = rest;
                }
                At::End => {
                    self.line.extend_from_slice(bytes);
                    return if b"\r\n".starts_with(&self.line) { Ok(()) } else { Err(self.broken()) };
                }
            }
        }
        Ok(())
    }

    /// Returns true if and only if the last chunk and the line end after it have come.
    pub(crate) fn are_done(&self) -> bool {
        self.at == At::End && self.line == b"\r\n"
    }

    fn after_line(&self) -> Result<At, String> {
        let text = std::str::from_utf8(&self.line).ok().and_then(|line| line.strip_suffix('\r'));
        match (self.at, text) {
            (At::DataEnd, Some("")) => Ok(At::Size),
            (At::Size, Some(text)) => match usize::from_str_radix(text, 16) {
                Ok(0) => Ok(At::End),
                Ok(bytes_left) => Ok(At::Data { bytes_left }),
                Err(_) => Err(self.broken()),
            },
            _ => Err(self.broken()),
        }
    }

    fn broken(&self) -> String {
        format!("broken chunks: {:?} in {:?}", String::from_utf8_lossy(&self.line), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pieces: &[&[u8]]) -> Result<(String, bool), String> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        for piece in pieces {
            chunks.feed(piece, &mut |bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok((String::from_utf8(data).unwrap(), chunks.are_done()))
    }

    #[test]
    fn the_data_does_not_depend_on_where_it_is_cut() {
        let body = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        for at in 0..=body.len() {
            let expected = Ok(("abc0123456789".to_owned(), true));
            assert_eq!(decoded(&[&body[..at], &body[at..]]), expected, "cut at {at}");
        }
        assert_eq!(decoded(&[&body[..10]]), Ok(("abc".to_owned(), false)));
        assert_eq!(decoded(&[&body[..body.len() - 1]]), Ok(("abc0123456789".to_owned(), false)));
    }

    #[test]
    fn broken_framing_is_found() {
        for body in ["x\r\n", "3\nabc", "3\r\nabcd\r\n", "0\r\n\r\nmore"] {
            assert!(decoded(&[body.as_bytes()]).is_err(), "{body:?}");
        }
    }
}
