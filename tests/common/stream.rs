//! A client of one event stream.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use downpour::sse::decode::Decoder;

use super::{Client, Server};

/// An event as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The last event id.
    pub(crate) id: String,
}

/// An open stream.
pub(crate) struct EventStream {
    client: Client,
    /// The head of the response.
    head: String,
    body: Body,
    decoder: Decoder,
    /// Events that were decoded and not yet returned.
    events: VecDeque<Seen>,
    /// The id of the last returned event.
    last_event_id: String,
}

/// The position of the next byte in the body (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    ChunkHead,
    Chunk {
        bytes_left: usize,
    },
    ChunkEnd,
    LastChunkEnd,
    /// No chunks: the end of the connection ends the body.
    Unframed,
    Ended,
}

impl EventStream {
    /// Opens a stream over HTTP/1.1.
    pub(crate) fn open(server: &Server, target: &str) -> EventStream {
        EventStream::open_at(server.address(), target)
    }

    /// Opens a stream at any listener on an address.
    pub(crate) fn open_at(address: SocketAddr, target: &str) -> EventStream {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        EventStream::over(Client::connect_to(address), &request, "")
    }

    /// Opens a stream that resumes after the id of the header `Last-Event-ID`.
    pub(crate) fn resume(server: &Server, target: &str, last_event_id: &str) -> EventStream {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_event_id}\r\n\r\n");
        EventStream::over(Client::connect(server), &request, last_event_id)
    }

    /// Sends `request` over `client` and reads the head of the response. The client's last id is
    /// `last_event_id`.
    pub(crate) fn over(mut client: Client, request: &str, last_event_id: &str) -> EventStream {
        client.send(request);
        EventStream::asked(client, last_event_id)
    }

    /// Reads the head of a stream that `client` has requested.
    pub(crate) fn asked(mut client: Client, last_event_id: &str) -> EventStream {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
        let is_chunked = head.contains("\r\nTransfer-Encoding: chunked\r\n");
        let body = if is_chunked { Body::ChunkHead } else { Body::Unframed };
        let decoder = Decoder::new(16 * 1024 * 1024).resuming_after(last_event_id);
        EventStream {
            client,
            head,
            body,
            decoder,
            events: VecDeque::new(),
            last_event_id: last_event_id.to_owned(),
        }
    }

    pub(crate) fn head(&self) -> &str {
        &self.head
    }

    /// The id to resume after, so that events that were not returned come again.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time in milliseconds that the stream has set.
    pub(crate) fn retry_ms(&self) -> Option<u128> {
        self.decoder.retry().map(|retry| retry.as_millis())
    }

    /// The next event. `None` if and only if the body has ended as its framing demands.
    ///
    /// # Errors
    /// If the connection fails, nothing arrives for long, or the body is cut off.
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Seen>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                self.last_event_id.clone_from(&event.id);
                return Ok(Some(event));
            }
            if self.body == Body::Ended {
                return Ok(None);
            }
            if !self.decode() {
                let came = self.client.receive()?;
                if !came && self.body == Body::Unframed {
                    self.body = Body::Ended;
                } else if !came {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
                }
            }
        }
    }

    /// As [`EventStream::try_next`], if nothing may fail.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Seen> {
        self.try_next().unwrap()
    }

    /// The next event, which must be of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: &str) -> Seen {
        let event = self.next().unwrap_or_else(|| panic!("the stream ended where {kind:?} was expected"));
        assert_eq!(event.kind, kind, "{event:?}");
        event
    }

    /// The next event's data. Its type must be `message`.
    #[track_caller]
    pub(crate) fn message(&mut self) -> String {
        self.expect("message").data
    }

    /// Waits for the end of the body.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None);
    }

    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    /// Decodes received bytes. Returns false if none could be decoded.
    fn decode(&mut self) -> bool {
        let received = self.client.received();
        let (count, next) = match self.body {
            Body::ChunkHead => {
                let Some(end) = received.windows(2).position(|window| window == b"\r\n") else {
                    return false;
                };
                let digits = std::str::from_utf8(&received[..end]).unwrap();
                let bytes_left = usize::from_str_radix(digits, 16).unwrap();
                (end + 2, if bytes_left == 0 { Body::LastChunkEnd } else { Body::Chunk { bytes_left } })
            }
            Body::Chunk { bytes_left } => {
                let count = bytes_left.min(received.len());
                let bytes_left = bytes_left - count;
                (count, if bytes_left == 0 { Body::ChunkEnd } else { Body::Chunk { bytes_left } })
            }
            Body::ChunkEnd | Body::LastChunkEnd => {
                if received.len() < 2 {
                    return false;
                }
                assert_eq!(&received[..2], b"\r\n", "a chunk ends with its line");
                (2, if self.body == Body::ChunkEnd { Body::ChunkHead } else { Body::Ended })
            }
            Body::Unframed => (received.len(), Body::Unframed),
            Body::Ended => return false,
        };
        if count == 0 {
            return false;
        }
        let bytes = self.client.take(count);
        if matches!(self.body, Body::Chunk { .. } | Body::Unframed) {
            let events = &mut self.events;
            let mut sink = |event: downpour::sse::decode::Decoded<'_>| {
                events.push_back(Seen {
                    kind: event.event_type.to_owned(),
                    data: event.data.to_owned(),
                    id: event.last_event_id.to_owned(),
                });
            };
            self.decoder.feed(&bytes, &mut sink).unwrap();
        }
        self.body = next;
        true
    }
}
