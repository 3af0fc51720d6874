//! The answers of a server: heads, and bodies of any framing (RFC 9112 6), read as their bytes come.

use crate::http::BodyDecoder;
use crate::http::BodyFraming;

/// The parts of an answer's head that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) server: Option<String>,
    /// The connection can be used for another request.
    pub(super) keeps_open: bool,
    framing: ResponseFraming,
    /// Bytes of the head, including its blank line.
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseFraming {
    Known(BodyFraming),
    UntilClose,
}

/// Why an answer is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("its answer is not HTTP: {0}")]
    NotHttp(httparse::Error),
    #[error("the head of its answer is longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    #[error("the framing of its answer is broken: {0}")]
    BadFraming(String),
}

impl Head {
    /// Parses the head at the front of `bytes`; `None` while it is incomplete. Interim answers are
    /// skipped.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, AnswerError> {
        let mut skipped = 0;
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut answer = httparse::Response::new(&mut fields);
            match answer.parse(&bytes[skipped..]).map_err(AnswerError::NotHttp)? {
                httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => {
                    return Err(AnswerError::HeadTooLong);
                }
                httparse::Status::Partial => return Ok(None),
                httparse::Status::Complete(count) => {
                    skipped += count;
                    let status = answer.code.unwrap_or_default();
                    if !(100..200).contains(&status) {
                        return Head::of(&answer, status, skipped).map(Some);
                    }
                }
            }
        }
    }

    fn of(answer: &httparse::Response<'_, '_>, status: u16, bytes: usize) -> Result<Head, AnswerError> {
        let field = |name: &str| {
            let found = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).into_owned())
        };
        let says = |name: &str, word: &str| {
            field(name)
                .is_some_and(|value| value.to_ascii_lowercase().split(',').any(|item| item.trim() == word))
        };
        let framing = if matches!(status, 204 | 304) {
            ResponseFraming::Known(BodyFraming::None)
        } else if says("transfer-encoding", "chunked") {
            ResponseFraming::Known(BodyFraming::Chunked)
        } else if let Some(length) = field("content-length") {
            let length = length.trim().parse();
            ResponseFraming::Known(BodyFraming::Length(
                length.map_err(|_| AnswerError::BadFraming("its Content-Length is no number".to_owned()))?,
            ))
        } else {
            ResponseFraming::UntilClose
        };
        let is_persistent = match answer.version {
            Some(1) => !says("connection", "close"),
            _ => says("connection", "keep-alive"),
        };
        Ok(Head {
            status,
            content_type: field("content-type").unwrap_or_default(),
            server: field("server"),
            keeps_open: is_persistent && framing != ResponseFraming::UntilClose,
            framing,
            bytes,
        })
    }

    /// Returns true if and only if the body is an event stream.
    pub(super) fn is_stream(&self) -> bool {
        let mime = self.content_type.split(';').next().unwrap_or_default();
        self.status == 200 && mime.trim().eq_ignore_ascii_case("text/event-stream")
    }

    /// The reader of the body that follows.
    pub(super) fn body(&self) -> Result<Body, AnswerError> {
        match self.framing {
            ResponseFraming::UntilClose => Ok(Body::UntilClose),
            ResponseFraming::Known(framing) => {
                Ok(Body::Framed(BodyDecoder::new(framing, u64::MAX).map_err(bad_framing)?))
            }
        }
    }
}

fn bad_framing(error: crate::http::RequestError) -> AnswerError {
    AnswerError::BadFraming(error.to_string())
}

/// A body of any framing.
#[derive(Debug)]
pub(super) enum Body {
    UntilClose,
    Framed(BodyDecoder),
}

impl Body {
    /// Returns true if and only if the body has ended.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Body::UntilClose => false,
            Body::Framed(decoder) => decoder.is_done(),
        }
    }

    /// Passes the data in `bytes` to `sink`, piece by piece. Returns how many bytes belonged to the
    /// body.
    pub(super) fn feed<E>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, BodyError<E>> {
        let Body::Framed(decoder) = self else {
            sink(bytes).map_err(BodyError::Sink)?;
            return Ok(bytes.len());
        };
        let mut at = 0;
        while at < bytes.len() && !decoder.is_done() {
            let (consumed, data) =
                decoder.decode(&bytes[at..]).map_err(|error| BodyError::Framing(bad_framing(error)))?;
            if !data.is_empty() {
                sink(data).map_err(BodyError::Sink)?;
            }
            at += consumed;
        }
        Ok(at)
    }
}

/// Why reading a body stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError<E> {
    Framing(AnswerError),
    /// `sink` refused the data.
    Sink(E),
}

const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.replace('\n', "\r\n").as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn the_head_of_a_stream_is_distinguished_from_others() {
        let stream = head("HTTP/1.1 200 OK\nContent-Type: Text/Event-Stream; charset=utf-8\nServer: x\n\n");
        assert!(stream.is_stream() && !stream.keeps_open);
        assert_eq!(stream.server.as_deref(), Some("x"));
        assert!(!head("HTTP/1.1 200 OK\nContent-Type: text/html\n\n").is_stream());
        assert!(!head("HTTP/1.1 404 No\nContent-Type: text/event-stream\n\n").is_stream());
    }

    #[test]
    fn a_head_is_whole_with_its_blank_line_and_interim_answers_are_passed_over() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nrest";
        for cut in 0..text.len() - 4 {
            assert_eq!(Head::parse(&text[..cut]), Ok(None), "{cut}");
        }
        let head = Head::parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.bytes, head.keeps_open), (204, text.len() - 4, true));
        assert!(head.body().unwrap().is_done());
    }

    #[test]
    fn bodies_end_by_their_framing() {
        for (text, body, data) in [
            ("HTTP/1.1 200 OK\nContent-Length: 3\n\n", "abcHTTP", "abc"),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "2\r\nab\r\n1\r\nc\r\n0\r\n\r\nHTTP", "abc"),
        ] {
            let head = head(text);
            assert!(head.keeps_open);
            let (mut reader, mut got) = (head.body().unwrap(), Vec::new());
            let taken = reader.feed(body.as_bytes(), |piece| {
                got.extend_from_slice(piece);
                Ok::<_, Infallible>(())
            });
            assert_eq!((taken.unwrap(), got.as_slice()), (body.len() - 4, data.as_bytes()));
            assert!(reader.is_done());
        }
    }

    #[test]
    fn connections_that_end_with_the_answer_are_known() {
        for text in [
            "HTTP/1.1 200 OK\nContent-Length: 0\nConnection: Close\n\n",
            "HTTP/1.0 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\n\n",
        ] {
            assert!(!head(text).keeps_open, "{text}");
        }
        assert!(head("HTTP/1.0 200 OK\nContent-Length: 0\nConnection: keep-alive\n\n").keeps_open);
    }

    #[test]
    fn what_is_no_answer_is_reported() {
        assert!(matches!(Head::parse(b"SSH-2.0\r\n\r\n"), Err(AnswerError::NotHttp(_))));
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &vec![b'x'; HEAD_BYTES_MAX]].concat();
        assert_eq!(Head::parse(&endless), Err(AnswerError::HeadTooLong));
    }
}
