//! The shard's streams: who subscribes to what, what has been taken for them and waits to be sent, and which of them read
//! the history.
//!
//! What a stream is doing is in `StreamState`. Events go from the hub by `fan_out` to live streams, and by `catch_up`
//! to those that read the history.

mod catch_up;
mod clients;
mod fan_out;
pub(super) mod index;
mod marked;
mod rooms;
mod slow;
mod sources;
pub(super) mod state;
mod stream_list;
mod subscribe;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::id::{ConnId, Sequence};
use crate::hub::reading::LiveRun;
use crate::hub::reading::Slice;

use index::Index;
use marked::Marked;
use rooms::Rooms;
pub(super) use rooms::Subscriptions;
use slow::SlowLook;
use sources::Sources;

/// How long after its fan-outs a shard keeps the segments it used.
const SOURCES_KEPT: Duration = Duration::from_secs(1);

/// The streams of a shard, and its cursor on the order of events.
#[derive(Debug)]
pub(super) struct Streams {
    index: Index,
    rooms: Rooms,
    /// How many events to all there were up to the shard's cursor.
    all_count: u64,
    /// How far this shard has taken the order, as of its last look.
    pub(super) cursor: Sequence,
    taken: Vec<LiveRun>,
    sources: Sources,
    sources_used: Option<Instant>,
    /// Slots of streams that have something to say.
    marked: Marked,
    /// Connections that were sent to, and may have something else to do.
    unsettled: Vec<ConnId>,
    /// Slots of streams whose outbox was full for the run that is being delivered.
    fallen: Vec<u32>,
    /// Slots of streams that may read on in the history.
    readers: VecDeque<u32>,
    /// Slots of streams whose place this shard has yet to reach.
    ahead: Vec<u32>,
    slice: Slice,
    slow_look: SlowLook,
    /// When events were taken that some streams have yet to be sent.
    fan_out_began: Option<Instant>,
}

impl Streams {
    /// No stream, and room for those of so many connections, at the shard's `cursor`.
    pub(super) fn new(room: usize, cursor: Sequence) -> Streams {
        Streams {
            index: Index::with_room_for(room),
            rooms: Rooms::default(),
            all_count: 0,
            cursor,
            taken: Vec::new(),
            sources: Sources::default(),
            sources_used: None,
            marked: Marked::default(),
            unsettled: Vec::new(),
            fallen: Vec::new(),
            readers: VecDeque::new(),
            ahead: Vec::new(),
            slice: Slice::default(),
            slow_look: SlowLook::default(),
            fan_out_began: None,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.marked.is_empty() || !self.readers.is_empty()
    }

    /// Has a stream read on in its turn.
    pub(super) fn queue_reader(&mut self, slot: u32) {
        self.readers.push_back(slot);
    }

    /// When something is to be done at the latest although no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sources = self.sources_used.map(|used| used + SOURCES_KEPT);
        sources.into_iter().chain(self.slow_look.deadline()).min()
    }

    /// Forgets segments that were not used for a while, so that the history alone decides how long they live.
    pub(super) fn forget_old_sources(&mut self, now: Instant) {
        if self.sources_used.is_some_and(|used| now >= used + SOURCES_KEPT) {
            self.sources.clear();
            self.sources_used = None;
        }
    }

    /// Returns true if and only if all streams were sent to that the last events went to.
    pub(super) fn is_round_over(&self) -> bool {
        self.marked.is_round_over()
    }

    /// When the fan-out began that has just ended, if one has; once.
    pub(super) fn take_fan_out_began(&mut self) -> Option<Instant> {
        self.fan_out_began.take()
    }
}
