//! The codings of a stream's body, and runs in each of them.
//!
//! The history holds frames as chunks. A stream in another coding gets a *twin* of each run: the same
//! events in its own coding. A twin is made on first need, once for all streams that share the run.

use std::cell::OnceCell;

use crate::frame::chunk::{self, LAST_CHUNK};
use crate::frame::run::Run;

/// How the body of a stream is coded for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Chunked transfer coding, one chunk for each frame (HTTP/1.1).
    Chunked,
    /// Neither chunks nor length: the end of the connection ends the body (HTTP/1.0).
    Unframed,
}

impl Coding {
    /// Every coding.
    pub const ALL: [Coding; 2] = [Coding::Chunked, Coding::Unframed];

    /// The bytes that end a body, if any do.
    #[must_use]
    pub fn end(self) -> Option<&'static [u8]> {
        match self {
            Coding::Chunked => Some(LAST_CHUNK),
            Coding::Unframed => None,
        }
    }

    /// The frames of a chunked run in this coding. [`CodedRun`] and caches call it once for each run and
    /// coding.
    #[must_use]
    pub fn code(self, chunked: &Run) -> Run {
        match self {
            Coding::Chunked => chunked.clone(),
            Coding::Unframed => unframed(chunked),
        }
    }
}

/// The payloads of a run's chunks, in a block that holds nothing else. So a twin keeps neither the segment
/// of its run nor unused bytes alive, and a queue counts it as what it holds ([`crate::frame::held`]).
#[cold]
fn unframed(chunked: &Run) -> Run {
    let mut bytes = Vec::with_capacity(chunked.len());
    chunk::payloads(chunked.bytes()).for_each(|payload| bytes.extend_from_slice(payload));
    chunked.coded_as(bytes)
}

/// A run and its twins, each made on first need.
#[derive(Clone, Debug)]
pub struct CodedRun {
    chunked: Run,
    unframed: OnceCell<Run>,
}

impl CodedRun {
    /// A run of whole chunks that has no twin yet.
    #[must_use]
    #[inline]
    pub fn new(chunked: Run) -> CodedRun {
        CodedRun { chunked, unframed: OnceCell::new() }
    }

    /// The run in this coding.
    #[must_use]
    #[inline]
    pub fn coded(&self, coding: Coding) -> &Run {
        match coding {
            Coding::Chunked => &self.chunked,
            Coding::Unframed => self.unframed.get_or_init(|| coding.code(&self.chunked)),
        }
    }

    /// The number of events' frames, which is the same in every coding.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.chunked.frames()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::outbox::{Outbox, OutboxLimits, Pushed};
    use crate::frame::run::Source;
    use crate::frame::segment::Segment;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Two chunks somewhere in a segment.
    fn segment() -> (Arc<Segment>, Run) {
        let segment = Segment::of(b"1\r\n-\r\n3\r\nabc\r\n2\r\nde\r\n1\r\n-\r\n");
        let run = Run::new(Rc::new(Source::Shared(Arc::clone(&segment))), 6, 21, 2);
        (segment, run)
    }

    #[test]
    fn a_twin_is_made_once_for_all_who_need_it() {
        let (_, run) = segment();
        let coded = CodedRun::new(run.clone());
        assert!(coded.unframed.get().is_none(), "not before somebody needs it");
        let twin = coded.coded(Coding::Unframed).clone();
        assert_eq!((twin.bytes(), twin.frames(), coded.frames()), (b"abcde".as_slice(), 2, 2));
        assert!(coded.coded(Coding::Unframed).shares_block(&twin));
        assert!(coded.clone().coded(Coding::Unframed).shares_block(&twin), "a copy has the same twin");
        assert!(coded.coded(Coding::Chunked).shares_block(&run));
    }

    #[test]
    fn a_twin_holds_its_bytes_and_nothing_else() {
        let (segment, run) = segment();
        let twin = CodedRun::new(run).coded(Coding::Unframed).clone();
        assert_eq!((twin.block_bytes(), Arc::strong_count(&segment)), (5, 1));
        let notice = Coding::Unframed.code(&Run::own(b"3\r\nabc\r\n".to_vec()));
        assert_eq!((notice.block_bytes(), notice.frames()), (3, 0));
    }

    #[test]
    fn a_queue_counts_twins_as_what_they_hold() {
        let limits = OutboxLimits { bytes_max: 12, frames_max: 50 };
        let mut outbox = Outbox::default();
        for held in [5, 10] {
            let twin = Coding::Unframed.code(&segment().1);
            assert_eq!(outbox.push_waiting(twin, &limits), Pushed::Queued);
            assert_eq!((outbox.held_bytes(), outbox.bytes()), (held, held));
        }
        assert_eq!(outbox.push_waiting(Coding::Unframed.code(&segment().1), &limits), Pushed::Full);
    }
}
