//! A request whose body is sent while its answer is awaited. A server that refuses a line answers at
//! once, and reads on only for a while. `ureq` reads an answer only after the body, and would then find
//! a reset.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;

use ureq::http::{StatusCode, Uri};

use super::client::CONNECT_TIMEOUT;
use crate::http::{BodyDecoder, BodyFraming};

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Posts `input` in chunks, until its end or the answer. After the answer no more is read.
///
/// # Errors
/// If no answer came: `input` cannot be read, or no server answers at the URL.
pub(super) fn post(url: &str, content_type: &str, input: impl Read + Send + 'static) -> io::Result<Answer> {
    let uri: Uri = url.parse().map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let mut socket = connect(&uri)?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: downpour/{}\r\nAccept: */*\r\n\
         Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut sending = socket.try_clone()?;
    sending.write_all(head.as_bytes())?;
    let (failures, failure) = mpsc::channel();
    // It may wait for its input for ever, so it is not joined.
    thread::spawn(move || {
        if let Err(error) = send_chunks(input, &mut sending) {
            // The receiver is gone if the answer has come.
            drop(failures.send(error));
            drop(sending.shutdown(Shutdown::Both));
        }
    });
    receive(&mut socket).map_err(|error| failure.try_recv().unwrap_or(error))
}

fn connect(uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or("");
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, uri.port_u16().unwrap_or(80)).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Sends the whole input. If the server takes no more, this ends without an error: its answer says why.
///
/// # Errors
/// If the input cannot be read.
fn send_chunks(mut input: impl Read, socket: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES_MAX];
    loop {
        let count = match input.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let mut chunk = format!("{count:x}\r\n").into_bytes();
        chunk.extend_from_slice(&bytes[..count]);
        chunk.extend_from_slice(b"\r\n");
        if socket.write_all(&chunk).is_err() || count == 0 {
            return Ok(());
        }
    }
}

/// Reads the answer, and skips interim ones.
fn receive(socket: &mut impl Read) -> io::Result<Answer> {
    let (mut received, mut bytes) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = match socket.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        received.extend_from_slice(&bytes[..count]);
        while let Some((status, framing, head_bytes)) = read_head(&received)? {
            if status.is_informational() {
                received.drain(..head_bytes);
                continue;
            }
            if let Some(body) = read_body(framing, &received[head_bytes..], count == 0)? {
                return Ok(Answer { status, body });
            }
            break;
        }
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status of an answer, the framing of its body (`None`: it ends with the connection), and the bytes
/// of its head; `None` while the head is incomplete.
fn read_head(received: &[u8]) -> io::Result<Option<(StatusCode, Option<BodyFraming>, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let malformed = |error| io::Error::new(ErrorKind::InvalidData, error);
    let httparse::Status::Complete(bytes) = response.parse(received).map_err(malformed)? else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(response.code.unwrap_or(0))
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(header.value).ok()
    };
    let framing = if status == StatusCode::NO_CONTENT {
        Some(BodyFraming::None)
    } else if value("transfer-encoding").is_some() {
        Some(BodyFraming::Chunked)
    } else {
        value("content-length").and_then(|length| length.parse().ok()).map(BodyFraming::Length)
    };
    Ok(Some((status, framing, bytes)))
}

/// The body, once it is complete.
fn read_body(framing: Option<BodyFraming>, received: &[u8], is_over: bool) -> io::Result<Option<Vec<u8>>> {
    let Some(framing) = framing else { return Ok(is_over.then(|| received.to_vec())) };
    let malformed = |error| io::Error::new(ErrorKind::InvalidData, error);
    let mut decoder = BodyDecoder::new(framing, u64::MAX).map_err(malformed)?;
    let (mut body, mut at) = (Vec::new(), 0);
    while at < received.len() && !decoder.is_done() {
        let (consumed, data) = decoder.decode(&received[at..]).map_err(malformed)?;
        body.extend_from_slice(data);
        at += consumed;
    }
    Ok(decoder.is_done().then_some(body))
}

/// Most bytes of the input in one chunk.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Most fields of an answer.
const HEADERS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields its bytes one by one.
    struct Trickle<'b>(&'b [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn an_answer_is_read_however_it_is_framed() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", 200, "abc"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nx", 400, "x"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
                200,
                "abc",
            ),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\nuntil the end", 502, "until the end"),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let expected = Answer { status, body: body.as_bytes().to_vec() };
            assert_eq!(receive(&mut text.as_bytes()).unwrap(), expected, "{text:?}");
            assert_eq!(receive(&mut Trickle(text.as_bytes())).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        for text in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"] {
            assert_eq!(
                receive(&mut text.as_bytes()).unwrap_err().kind(),
                ErrorKind::UnexpectedEof,
                "{text:?}"
            );
        }
        assert_eq!(receive(&mut "SSH-2.0\r\n\r\n".as_bytes()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
