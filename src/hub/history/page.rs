//! One page of the history: a segment of adjacent frames, the frames that are too large for it, and an
//! entry for each frame.

use std::sync::Arc;

use crate::base::heap::{block_bytes, small_block_bytes};
use crate::base::id::Sequence;
use crate::frame::segment::Segment;
use crate::hub::history::lapsing::Lapsing;
use crate::hub::history::targets::TargetId;
use crate::hub::options::SEGMENT_BYTES_MOST;

/// Frames up to this many bytes share a segment; a larger frame gets a segment of its own.
pub(super) const SHARED_FRAME_BYTES_MAX: usize = 4096;

/// The least room that a page makes for entries when it has none left.
const ENTRIES_ROOM_MIN: usize = 8;

/// The bytes that a segment takes beside its content: its ledger and the overhead of two allocations.
pub(super) const SEGMENT_BYTES_BESIDE: usize = block_bytes(16 + size_of::<Segment>()) + 16;

/// The entry of one frame.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Entry {
    /// Its number, counted from the page's first number.
    pub(super) delta: u32,
    /// The place of its frame in the page.
    pub(in crate::hub) place: FramePlace,
    /// The channels it went to.
    pub(in crate::hub) target: TargetId,
    /// When it was applied and when it lapses, in ticks of the hub's clock.
    pub(in crate::hub) at: u32,
    pub(in crate::hub) lapses: u32,
    /// The number of channels that retain it.
    pub(in crate::hub) holders: u32,
}

impl Entry {
    /// Returns true if the event has lapsed by the tick `now`.
    #[inline]
    pub(in crate::hub) fn has_lapsed(&self, now: u32) -> bool {
        self.lapses <= now
    }
}

/// A frame's place in its page, in four bytes since there is one for each event: the first byte in the
/// page's segment and the number of bytes less one, or [`LARGE`] and the index of a large frame.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct FramePlace(u32);

/// Marks a large frame.
const LARGE: u32 = 1 << 31;

/// The bits for the length of a frame that is not large.
const LEN_BITS: u32 = SHARED_FRAME_BYTES_MAX.ilog2();

const _: () =
    assert!(SHARED_FRAME_BYTES_MAX == 1 << LEN_BITS && SEGMENT_BYTES_MOST <= (LARGE >> LEN_BITS) as usize);

impl FramePlace {
    /// A place in the page's segment. A frame has at least one byte and at most
    /// [`SHARED_FRAME_BYTES_MAX`].
    pub(super) fn shared(from: usize, len: usize) -> FramePlace {
        FramePlace(u32_of(from) << LEN_BITS | u32_of(len - 1))
    }

    /// The place of the last of `count` large frames.
    pub(super) fn last_of_large(count: usize) -> FramePlace {
        FramePlace(LARGE | u32_of(count - 1))
    }

    pub(super) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }
}

/// A stretch of the sequence: the bytes and the entries of its frames.
#[derive(Debug)]
pub(in crate::hub) struct Page {
    pub(in crate::hub) first: Sequence,
    pub(in crate::hub) last: Sequence,
    pub(in crate::hub) segment: Arc<Segment>,
    pub(super) large: Vec<Arc<Segment>>,
    pub(in crate::hub) entries: Vec<Entry>,
    pub(super) lapsing: Lapsing,
    /// The bytes of all frames, of the retained frames, and of the large frames.
    pub(in crate::hub) bytes: usize,
    pub(super) live_bytes: usize,
    pub(super) large_bytes: usize,
    /// It takes no more frames.
    pub(super) sealed: bool,
}

/// The place of a frame's bytes.
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

    /// Returns true if it takes no more frames.
    pub(in crate::hub) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Returns the number of an entry.
    pub(in crate::hub) fn sequence(&self, entry: &Entry) -> Sequence {
        self.first.plus(u64::from(entry.delta))
    }

    /// Returns the place of an entry's bytes.
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

    /// Gives up the bytes of a large frame and returns how many, or 0 if the frame is not large. The
    /// frame must not be read any more.
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

    /// Returns the index of the first entry after `sequence`.
    #[inline]
    pub(in crate::hub) fn index_after(&self, sequence: Sequence) -> usize {
        let Some(delta) = sequence.next().0.checked_sub(self.first.0) else { return 0 };
        // In a page that was never compacted each number has its entry, at the index of the number.
        if let Ok(index) = usize::try_from(delta)
            && self.entries.get(index).is_some_and(|entry| u64::from(entry.delta) == delta)
        {
            return index;
        }
        self.entries.partition_point(|entry| u64::from(entry.delta) < delta)
    }

    /// Returns the index of the entry of `sequence`.
    pub(in crate::hub) fn index_of(&self, sequence: Sequence) -> Option<usize> {
        let index = self.index_after(Sequence(sequence.0.checked_sub(1)?));
        self.entries.get(index).is_some_and(|entry| self.sequence(entry) == sequence).then_some(index)
    }

    /// Adds an entry.
    pub(in crate::hub) fn push(&mut self, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            // The page was created with room for about as many entries as the page before it.
            self.entries.reserve_exact((len / 8).max(ENTRIES_ROOM_MIN));
        }
        self.entries.push(entry);
    }

    /// The bytes it holds: segments, entries, and its own ledger, counted twice since the list of pages
    /// may have that much room.
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

/// Returns the distance of `sequence` from the page's first number. A page spans less than 2^32 numbers.
pub(super) fn delta(first: Sequence, sequence: Sequence) -> u32 {
    u32::try_from(sequence.0 - first.0).expect("a page spans less than 2^32 numbers")
}

/// Every size in a page is far below 2^31; a frame is bounded by the largest body.
fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("pages and frames are below 2 GiB")
}
