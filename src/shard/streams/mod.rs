//! The shard's streams: their subscriptions, their queued events, and the readers of the history.
//!
//! `state` has the states of a stream. Events go from the hub by `fan_out` to live streams, and by
//! `catch_up` to those that read the history.

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
mod twins;

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

/// How long a shard keeps segments and twins after it last used them.
const SOURCES_KEPT: Duration = Duration::from_secs(1);

/// The streams of a shard, and its cursor on the order of events.
#[derive(Debug)]
pub(super) struct Streams {
    index: Index,
    rooms: Rooms,
    /// The number of events to all up to the shard's cursor.
    all_count: u64,
    /// How far this shard has taken the order.
    pub(super) cursor: Sequence,
    taken: Vec<LiveRun>,
    sources: Sources,
    sources_used: Option<Instant>,
    /// Slots of streams with queued frames.
    marked: Marked,
    /// Connections that were sent to and may have something else to do.
    unsettled: Vec<ConnId>,
    /// Slots of streams whose outbox was full for the run being delivered.
    fallen: Vec<u32>,
    /// Slots of streams that can read on in the history.
    readers: VecDeque<u32>,
    /// Slots of streams ahead of the shard's cursor.
    ahead: Vec<u32>,
    slice: Slice,
    slow_look: SlowLook,
    /// When the events were taken that some streams have yet to be sent.
    fan_out_began: Option<Instant>,
}

impl Streams {
    /// No streams, with room for `room` connections, at the shard's `cursor`.
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

    /// Queues a stream to read on in its turn.
    pub(super) fn queue_reader(&mut self, slot: u32) {
        self.readers.push_back(slot);
    }

    /// When there is work although no event comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sources = self.sources_used.map(|used| used + SOURCES_KEPT);
        sources.into_iter().chain(self.slow_look.deadline()).min()
    }

    /// Forgets unused segments and twins, so that the history alone decides how long segments live.
    pub(super) fn forget_old_sources(&mut self, now: Instant) {
        if self.sources_used.is_some_and(|used| now >= used + SOURCES_KEPT) {
            self.sources.clear();
            self.sources_used = None;
        }
    }

    /// Returns true if and only if all streams of the last fan-out were sent to.
    pub(super) fn is_round_over(&self) -> bool {
        self.marked.is_round_over()
    }

    /// When the fan-out began that has just ended, if one has. Later calls return `None`.
    pub(super) fn end_fan_out(&mut self) -> Option<Instant> {
        self.fan_out_began.take()
    }
}
