//! The beginning of a stream: its head and its first notices as one run, which one send writes.

use crate::frame::coding::Coding;
use crate::frame::notice::Notice;

/// The head of a stream that is about to begin, followed by its first notices.
/// [`Connection::begin_stream`](super::Connection::begin_stream) queues it.
#[must_use]
#[derive(Debug)]
pub struct Opening {
    pub(super) bytes: Vec<u8>,
    pub(super) coding: Coding,
}

impl Opening {
    /// Makes room for the head, which `head` appends, and for the first notice.
    pub(super) fn new(coding: Coding, head: impl FnOnce(&mut Vec<u8>)) -> Opening {
        let mut bytes = Vec::with_capacity(BYTES_USUAL);
        head(&mut bytes);
        Opening { bytes, coding }
    }

    /// How the body of the stream is coded.
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Appends a notice.
    pub fn push_notice(&mut self, notice: &Notice<'_>) {
        notice.render(&mut self.bytes, self.coding);
    }
}

/// Most heads fit in this many bytes, together with the `connected` event.
const BYTES_USUAL: usize = 640;
