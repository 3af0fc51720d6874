//! Adjacent frames on their way through one shard.

use std::rc::Rc;
use std::sync::Arc;

use crate::frame::segment::Segment;

/// Bytes that streams of one shard share, with a plain reference count.
///
/// A shard takes a segment once and gives each of its streams an `Rc`, so a delivery costs no atomic
/// operation.
#[derive(Debug)]
pub enum Source {
    /// A segment of the history, shared with other shards.
    Shared(Arc<Segment>),
    /// Bytes of this shard alone: a response's head, the server's own event to a stream, or a twin of a
    /// run in another coding.
    Own(Vec<u8>),
}

impl Source {
    /// The bytes from `from` to `to`.
    #[must_use]
    #[inline]
    pub fn bytes(&self, from: u32, to: u32) -> &[u8] {
        match self {
            Source::Shared(segment) => segment.bytes(from as usize, to as usize),
            Source::Own(bytes) => &bytes[from as usize..to as usize],
        }
    }

    /// Bytes of the block, written or not.
    fn block_bytes(&self) -> usize {
        match self {
            Source::Shared(segment) => segment.capacity(),
            Source::Own(bytes) => bytes.capacity(),
        }
    }
}

/// Whole frames that are adjacent in one source.
#[derive(Clone, Debug)]
pub struct Run {
    source: Rc<Source>,
    from: u32,
    to: u32,
    frames: u32,
}

impl Run {
    /// The run of `frames` frames from `from` to `to` in `source`.
    #[must_use]
    pub fn new(source: Rc<Source>, from: u32, to: u32, frames: u32) -> Run {
        debug_assert!(from < to && frames > 0, "a run is not empty");
        Run { source, from, to, frames }
    }

    /// A run of the server's own bytes. It has no event's frame, so it counts as zero frames.
    ///
    /// # Panics
    /// If `bytes` is empty, or 4 GiB or longer.
    #[must_use]
    pub fn own(bytes: Vec<u8>) -> Run {
        let to = u32::try_from(bytes.len()).expect("a run is below 4 GiB");
        debug_assert!(to > 0, "a run is not empty");
        Run { source: Rc::new(Source::Own(bytes)), from: 0, to, frames: 0 }
    }

    /// The same frames, coded otherwise as `bytes`, in a block that holds nothing else.
    ///
    /// # Panics
    /// As [`Run::own`].
    pub(super) fn coded_as(&self, mut bytes: Vec<u8>) -> Run {
        bytes.shrink_to_fit();
        Run { frames: self.frames, ..Run::own(bytes) }
    }

    /// The number of bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Never true: a run has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// The number of events' frames.
    #[must_use]
    #[inline]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Its bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.source.bytes(self.from, self.to)
    }

    /// Its bytes after the first `skipped`.
    ///
    /// # Panics
    /// If it has fewer bytes.
    #[must_use]
    #[inline]
    pub fn bytes_after(&self, skipped: u32) -> &[u8] {
        self.source.bytes(self.from + skipped, self.to)
    }

    /// Returns true if and only if `next` begins at the byte where this run ends.
    #[must_use]
    #[inline]
    pub fn is_followed_by(&self, next: &Run) -> bool {
        self.to == next.from && Rc::ptr_eq(&self.source, &next.source)
    }

    /// Bytes of the block that the run keeps alive.
    pub(super) fn block_bytes(&self) -> usize {
        self.source.block_bytes()
    }

    /// Returns true if and only if both runs are in the same block.
    pub(super) fn shares_block(&self, other: &Run) -> bool {
        Rc::ptr_eq(&self.source, &other.source)
    }

    /// Returns true if and only if the run is one event and its block holds nothing else.
    pub(super) fn is_one_event(&self) -> bool {
        self.frames == 1 && self.len() == self.block_bytes()
    }

    /// The same frames in a block that holds nothing else.
    pub(super) fn in_own_block(self) -> Run {
        if self.len() == self.block_bytes() {
            return self;
        }
        let (to, frames) = (self.to - self.from, self.frames);
        Run { source: Rc::new(Source::Own(self.bytes().to_vec())), from: 0, to, frames }
    }

    /// The run without its first `skipped` bytes. `block` holds a copy of the rest from `at` on.
    pub(super) fn moved_to(&self, block: &Rc<Source>, at: u32, skipped: u32) -> Run {
        let to = at + (self.to - self.from - skipped);
        Run { source: Rc::clone(block), from: at, to, frames: self.frames }
    }

    /// Appends a run that follows this one.
    #[inline]
    pub fn extend_by(&mut self, next: &Run) {
        debug_assert!(self.is_followed_by(next), "only adjacent runs become one");
        self.to = next.to;
        self.frames += next.frames;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_runs_of_one_source_become_one() {
        let source = Rc::new(Source::Shared(Segment::of(b"abcdef")));
        let mut run = Run::new(Rc::clone(&source), 0, 2, 1);
        let next = Run::new(Rc::clone(&source), 2, 5, 3);
        assert!(run.is_followed_by(&next));
        assert!(!next.is_followed_by(&run));
        run.extend_by(&next);
        assert_eq!((run.bytes(), run.frames(), run.len()), (b"abcde".as_slice(), 4, 5));
    }

    #[test]
    fn runs_of_different_sources_are_never_adjacent() {
        assert!(!Run::own(b"ab".to_vec()).is_followed_by(&Run::new(
            Rc::new(Source::Own(b"abcd".to_vec())),
            2,
            4,
            1
        )));
    }
}
