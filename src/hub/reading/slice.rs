//! What a stream reads of the history at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::base::id::{EventId, Sequence};
use crate::frame::segment::Segment;
use crate::hub::history::page::Place;

/// References to adjacent frames that one slice has at the most.
pub const SLICE_RUNS_MAX: usize = 64;

/// Frames that one slice refers to at the most.
pub const SLICE_FRAMES_MAX: u32 = 256;

/// A slice whose segments come to more than its bytes may goes on where its frames are less than this part of them: where
/// they have to wait, they are copied. Otherwise it ends with its segment, which all streams that read there share.
const DENSE_SHARE: usize = 4;

/// Events that are lost for a stream, at its very place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many; `None` where that is not known exactly.
    pub missed: Option<u64>,
    /// The id of the place after which they are missing.
    pub after: EventId,
}

/// Adjacent frames of one slice.
#[derive(Debug)]
pub struct HistoryRun {
    /// Where their bytes stand.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub from: u32,
    /// Behind the last byte.
    pub to: u32,
    /// How many frames.
    pub frames: u32,
}

/// How much one slice may hold.
#[derive(Clone, Copy, Debug)]
pub struct SliceLimits {
    /// Frames, at most [`SLICE_FRAMES_MAX`].
    pub frames_max: u32,
    /// Bytes; one frame is taken however large.
    pub bytes_max: usize,
}

/// What was read. A gap comes before the frames, and is told before any of them.
#[derive(Debug, Default)]
pub struct Slice {
    /// Events that are missing right at the place where the slice begins.
    pub gap: Option<Gap>,
    /// The id that the stream named and no event has: it begins at the place where it subscribed.
    pub unknown: Option<Box<str>>,
    /// The frames, in order.
    pub runs: Vec<HistoryRun>,
    /// How many frames.
    pub frames: u32,
    /// Nothing more is to be read up to the shard's cursor, and the stream's place is that cursor: it is live.
    pub is_live: bool,
    /// Nothing was read, and nothing is to be read until the shard's cursor has moved on.
    pub is_ahead: bool,
    /// Bytes of the frames, and of the segments that they keep alive.
    bytes: usize,
    held_bytes: usize,
    /// Merges the channels by their next number.
    pub(super) heap: BinaryHeap<Reverse<(Sequence, usize)>>,
}

impl Slice {
    pub(super) fn clear(&mut self) {
        self.gap = None;
        self.unknown = None;
        self.runs.clear();
        self.frames = 0;
        self.is_live = false;
        self.is_ahead = false;
        self.bytes = 0;
        self.held_bytes = 0;
        self.heap.clear();
    }

    /// Takes a frame behind the others; returns false where it holds as much as it may.
    pub(in crate::hub) fn push(&mut self, place: &Place<'_>, limits: SliceLimits) -> bool {
        let len = (place.to - place.from) as usize;
        let is_full = self.frames > 0 && self.bytes + len > limits.bytes_max;
        if is_full || self.frames == limits.frames_max.min(SLICE_FRAMES_MAX) {
            return false;
        }
        let runs = self.runs.len();
        match self.runs.last_mut() {
            Some(last) if last.to == place.from && Arc::ptr_eq(&last.segment, place.segment) => {
                last.to = place.to;
                last.frames += 1;
            }
            _ if runs == SLICE_RUNS_MAX => return false,
            last => {
                if last.is_none_or(|last| !Arc::ptr_eq(&last.segment, place.segment)) {
                    let held_bytes = self.held_bytes + place.segment.capacity();
                    let is_dense = self.bytes * DENSE_SHARE >= self.held_bytes;
                    if self.frames > 0 && is_dense && held_bytes > limits.bytes_max {
                        return false;
                    }
                    self.held_bytes = held_bytes;
                }
                self.runs.push(HistoryRun {
                    segment: Arc::clone(place.segment),
                    from: place.from,
                    to: place.to,
                    frames: 1,
                });
            }
        }
        self.bytes += len;
        self.frames += 1;
        true
    }
}
