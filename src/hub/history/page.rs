//! One page of the history: a segment of adjacent frames, the few frames that were too large for it, and an entry for each.

use std::sync::Arc;

use crate::base::heap::{block_bytes, small_block_bytes};
use crate::base::id::Sequence;
use crate::frame::segment::Segment;
use crate::hub::history::lapsing::Lapsing;
use crate::hub::history::targets::TargetId;
use crate::hub::options::SEGMENT_BYTES_MOST;

/// Frames up to this many bytes are copied into a common segment; a larger one is a segment of its own.
pub(super) const SHARED_FRAME_BYTES_MAX: usize = 4096;

/// Entries that a page makes room for at the least when it has none.
const ENTRIES_ROOM_MIN: usize = 8;

/// What a segment takes up beside its bytes: its record, and what their allocation costs, in bytes.
pub(super) const SEGMENT_BYTES_BESIDE: usize = block_bytes(16 + size_of::<Segment>()) + 16;

/// One frame of a page.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Entry {
    /// Its number, counted from the page's first.
    pub(super) delta: u32,
    /// Where its frame stands in the page.
    pub(in crate::hub) place: FramePlace,
    /// The channels it went to.
    pub(in crate::hub) target: TargetId,
    /// When it was applied, and from when on it has lapsed, in ticks of the hub's clock.
    pub(in crate::hub) at: u32,
    pub(in crate::hub) lapses: u32,
    /// In how many channels it is retained.
    pub(in crate::hub) holders: u32,
}

/// A frame's place in its page, in as little as holds it, for there is one for each event: the first byte in the page's
/// segment and the number of bytes less one, or [`LARGE`] and which of the large frames it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct FramePlace(u32);

/// Marks the place of a large frame.
const LARGE: u32 = 1 << 31;

/// Bits for the number of bytes of a frame that is not large.
const LEN_BITS: u32 = SHARED_FRAME_BYTES_MAX.ilog2();

const _: () =
    assert!(SHARED_FRAME_BYTES_MAX == 1 << LEN_BITS && SEGMENT_BYTES_MOST <= (LARGE >> LEN_BITS) as usize);

impl FramePlace {
    /// In the page's segment; a frame has at least one byte, and at most [`SHARED_FRAME_BYTES_MAX`].
    pub(super) fn shared(from: usize, len: usize) -> FramePlace {
        FramePlace(u32_of(from) << LEN_BITS | u32_of(len - 1))
    }

    /// The last of so many large frames.
    pub(super) fn last_of_large(count: usize) -> FramePlace {
        FramePlace(LARGE | u32_of(count - 1))
    }

    pub(super) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }
}

/// A stretch of the sequence: its frames' bytes and entries.
#[derive(Debug)]
pub(in crate::hub) struct Page {
    pub(in crate::hub) first: Sequence,
    pub(in crate::hub) last: Sequence,
    pub(in crate::hub) segment: Arc<Segment>,
    pub(super) large: Vec<Arc<Segment>>,
    pub(in crate::hub) entries: Vec<Entry>,
    pub(super) lapsing: Lapsing,
    /// Bytes of all frames, of those that are retained, and of the large ones.
    pub(in crate::hub) bytes: usize,
    pub(super) live_bytes: usize,
    pub(super) large_bytes: usize,
    /// It takes no more frames.
    pub(super) sealed: bool,
}

/// Where a frame's bytes stand.
#[derive(Debug)]
pub(in crate::hub) struct Place<'a> {
    pub(in crate::hub) segment: &'a Arc<Segment>,
    pub(in crate::hub) from: u32,
    pub(in crate::hub) to: u32,
}

impl Place<'_> {
    pub(in crate::hub) fn len(&self) -> usize {
        (self.to - self.from) as usize
    }
}

impl Page {
    pub(in crate::hub) fn new(first: Sequence, segment: Arc<Segment>) -> Page {
        Page {
            first,
            last: first,
            segment,
            large: Vec::new(),
            entries: Vec::new(),
            lapsing: Lapsing::default(),
            bytes: 0,
            live_bytes: 0,
            large_bytes: 0,
            sealed: false,
        }
    }

    /// The number of its last event.
    pub(in crate::hub) fn last(&self) -> Sequence {
        self.last
    }

    /// Returns true if and only if it takes no more frames.
    pub(in crate::hub) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The number of one of its entries.
    pub(in crate::hub) fn sequence(&self, entry: &Entry) -> Sequence {
        self.first.plus(u64::from(entry.delta))
    }

    /// Where the bytes of one of its entries stand.
    pub(in crate::hub) fn place(&self, entry: &Entry) -> Place<'_> {
        let FramePlace(place) = entry.place;
        if entry.place.is_large() {
            let segment = &self.large[(place & !LARGE) as usize];
            Place { segment, from: 0, to: u32_of(segment.capacity()) }
        } else {
            let (from, len) = (place >> LEN_BITS, (place & ((1 << LEN_BITS) - 1)) + 1);
            Place { segment: &self.segment, from, to: from + len }
        }
    }

    /// Gives up the bytes of a frame that has a segment of its own, if it has, and returns how many. Nobody may look for
    /// them any more.
    pub(super) fn give_up_large(&mut self, place: FramePlace) -> usize {
        let FramePlace(bits) = place;
        if !place.is_large() {
            return 0;
        }
        let frame = std::mem::replace(&mut self.large[(bits & !LARGE) as usize], Segment::of(&[]));
        self.bytes -= frame.capacity();
        self.large_bytes -= frame.capacity();
        frame.capacity()
    }

    /// The index of the first entry after `sequence`.
    #[inline]
    pub(in crate::hub) fn index_after(&self, sequence: Sequence) -> usize {
        let Some(delta) = sequence.next().0.checked_sub(self.first.0) else { return 0 };
        // In a page that was never compacted each number has its entry, and each entry stands at its number.
        if let Ok(index) = usize::try_from(delta)
            && self.entries.get(index).is_some_and(|entry| u64::from(entry.delta) == delta)
        {
            return index;
        }
        self.entries.partition_point(|entry| u64::from(entry.delta) < delta)
    }

    /// The index of the entry of `sequence`.
    pub(in crate::hub) fn index_of(&self, sequence: Sequence) -> Option<usize> {
        let index = self.index_after(Sequence(sequence.0.checked_sub(1)?));
        self.entries.get(index).is_some_and(|entry| self.sequence(entry) == sequence).then_some(index)
    }

    /// Adds an entry behind the others.
    pub(in crate::hub) fn push(&mut self, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            // About as many as the page before had were made room for at once.
            self.entries.reserve_exact((len / 8).max(ENTRIES_ROOM_MIN));
        }
        self.entries.push(entry);
    }

    /// Bytes that it holds: segments, entries, and its own record, of which there may be room for twice as many.
    pub(in crate::hub) fn held_bytes(&self) -> usize {
        let segments = match self.segment.capacity() {
            0 => 0,
            capacity => block_bytes(capacity),
        };
        segments
            + self.large_bytes
            + (1 + self.large.len()) * SEGMENT_BYTES_BESIDE
            + block_bytes(self.large.capacity() * size_of::<Arc<Segment>>())
            + small_block_bytes(self.entries.capacity() * size_of::<Entry>())
            + self.lapsing.bytes()
            + 2 * size_of::<Page>()
    }
}

/// How far `sequence` lies behind the page's first number; pages span less than 2^32 numbers.
pub(super) fn delta(first: Sequence, sequence: Sequence) -> u32 {
    u32::try_from(sequence.0 - first.0).expect("a page spans less than 2^32 numbers")
}

/// Pages are bounded far below 2^31 in every respect, frames by the largest body.
fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("pages and frames are below 2 GiB")
}
