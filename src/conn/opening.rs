//! How a stream begins: its head and what it is told first, as one run, which one send takes.

use crate::frame::notice::Notice;
use crate::frame::render::Framing;

/// The head of a stream that is about to begin, and behind it what the stream is told first.
/// [`Connection::begin_stream`](super::Connection::begin_stream) queues it.
#[must_use]
#[derive(Debug)]
pub struct Opening {
    pub(super) bytes: Vec<u8>,
    pub(super) framing: Framing,
}

impl Opening {
    /// Room for the head, which `head` appends, and for the first notice.
    pub(super) fn new(framing: Framing, head: impl FnOnce(&mut Vec<u8>)) -> Opening {
        let mut bytes = Vec::with_capacity(BYTES_USUAL);
        head(&mut bytes);
        Opening { bytes, framing }
    }

    /// How the stream's body is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Tells the stream something, behind its head and what it was told before.
    pub fn tell(&mut self, notice: &Notice<'_>) {
        notice.render(&mut self.bytes, self.framing);
    }
}

/// Bytes that nearly every head fits in with the `connected` event behind it.
const BYTES_USUAL: usize = 640;
