//! The beginning of a stream: its head and its first notices as one run, which one send writes.

use crate::frame::notice::Notice;
use crate::frame::render::Framing;

/// The head of a stream that is about to begin, followed by its first notices.
/// [`Connection::begin_stream`](super::Connection::begin_stream) queues it.
#[must_use]
#[derive(Debug)]
pub struct Opening {
    pub(super) bytes: Vec<u8>,
    pub(super) framing: Framing,
}

impl Opening {
    /// Makes room for the head, which `head` appends, and for the first notice.
    pub(super) fn new(framing: Framing, head: impl FnOnce(&mut Vec<u8>)) -> Opening {
        let mut bytes = Vec::with_capacity(BYTES_USUAL);
        head(&mut bytes);
        Opening { bytes, framing }
    }

    /// How the body of the stream is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends a notice.
    pub fn push_notice(&mut self, notice: &Notice<'_>) {
        notice.render(&mut self.bytes, self.framing);
    }
}

/// Most heads fit in this many bytes, together with the `connected` event.
const BYTES_USUAL: usize = 640;
