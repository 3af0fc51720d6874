//! A slice: what a stream reads from the history at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::base::id::{EventId, Sequence};
use crate::frame::segment::Segment;
use crate::hub::history::page::Place;

/// The most runs of adjacent frames in one slice.
pub const SLICE_RUNS_MAX: usize = 64;

/// The most frames in one slice.
pub const SLICE_FRAMES_MAX: u32 = 256;

/// A slice may keep alive segments of more bytes than its limit only while its frames are less than this
/// part of those bytes: such frames are copied if they have to wait. A denser slice ends with its
/// segment, which all streams that read there share.
const DENSE_SHARE: usize = 4;

/// Events lost to a stream right after its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number of events, or `None` if it is not known exactly.
    pub missed: Option<u64>,
    /// The id of the place after which the events are missing.
    pub after: EventId,
}

/// Adjacent frames of one slice.
#[derive(Debug)]
pub struct HistoryRun {
    /// The segment of their bytes.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub from: u32,
    /// The end: one after the last byte.
    pub to: u32,
    /// The number of frames.
    pub frames: u32,
}

/// How much one slice may hold.
#[derive(Clone, Copy, Debug)]
pub struct SliceLimits {
    /// Frames, at most [`SLICE_FRAMES_MAX`].
    pub frames_max: u32,
    /// Bytes. A slice has at least one frame, however large.
    pub bytes_max: usize,
}

/// The content of a slice. The gap comes before the frames, and is sent before them.
#[derive(Debug, Default)]
pub struct Slice {
    /// Events missing right at the place where the slice begins.
    pub gap: Option<Gap>,
    /// The id that the stream named, if no event has it. The stream then begins where it subscribed.
    pub unknown: Option<Box<str>>,
    /// The frames, in order.
    pub runs: Vec<HistoryRun>,
    /// The number of frames.
    pub frames: u32,
    /// Everything up to the shard's cursor is read, and the stream's place is that cursor: it is live.
    pub is_live: bool,
    /// Nothing was read, and nothing can be read until the shard's cursor moves on.
    pub is_ahead: bool,
    /// The bytes of the frames, and of the segments they keep alive.
    bytes: usize,
    held_bytes: usize,
    /// The heap that merges channels by their next number.
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

    /// Adds a frame. Returns false if the slice is full.
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
