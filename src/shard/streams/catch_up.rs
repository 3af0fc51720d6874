//! Streams that read the history because they resume or fell behind. Each reads a slice once its outbox
//! is empty, and becomes live when it meets the shard's cursor.

use std::time::Instant;

use super::Streams;
use super::state::{Replay, WaitsFor};
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::frame::coding::Coding;
use crate::frame::notice::{GapReason, Notice};
use crate::frame::run::Run;
use crate::hub::reading::{SLICE_FRAMES_MAX, SliceLimits};
use crate::hub::{ChannelId, Hub};
use crate::shard::Shard;
use crate::shard::connections::Connections;
use crate::shard::connections::peer::Peer;
use crate::shard::core::Core;
use crate::shard::report::counters::Counters;

/// Slices that one turn reads for all streams together.
const SLICES_PER_TURN_MAX: usize = 128;

impl<D: Driver> Shard<D> {
    /// Lets a bounded number of streams read a slice.
    pub(in crate::shard) fn catch_up(&mut self) {
        for _ in 0..SLICES_PER_TURN_MAX.min(self.streams.readers.len()) {
            let Some(slot) = self.streams.readers.pop_front() else { break };
            let Some(conn) = self.connections.peers.id_at(slot) else { continue };
            self.read_slice(conn);
            self.act(conn);
        }
    }

    /// Queues the streams that waited for the shard to reach their place.
    pub(super) fn requeue_ahead(&mut self) {
        self.streams.readers.extend(self.streams.ahead.drain(..));
    }

    fn read_slice(&mut self, conn: ConnId) {
        let Shard {
            core: Core { hub, .. },
            connections: Connections { peers, .. },
            streams,
            options,
            counters,
            clock,
            ..
        } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        let channels = peer.targets_now();
        let Some(behind) = &mut peer.behind else { return };
        behind.waits_for = WaitsFor::Outbox;
        let Some(coding) = peer.conn.coding() else { return };
        let outbox = options.conn.outbox;
        let limits = SliceLimits {
            frames_max: SLICE_FRAMES_MAX.min(outbox.frames_max).max(1),
            bytes_max: outbox.bytes_max,
        };
        hub.read(options.number, &channels, &mut behind.cursor, limits, &mut streams.slice);
        streams.queue_gaps(peer, hub, coding, counters);
        counters.history_reads += u64::from(streams.slice.frames);
        streams.queue_runs(peer, coding, clock.now);
        if peer.behind.as_ref().is_some_and(|behind| behind.cursor.has_stopped()) {
            queue_notices_at_stop(peer, hub, coding);
        }
        let Some(behind) = &mut peer.behind else { return };
        if streams.slice.is_live && behind.joins.is_empty() {
            peer.behind = None;
            counters.streams_catching_up -= 1;
        } else if streams.slice.is_ahead {
            behind.waits_for = WaitsFor::Shard;
            streams.ahead.push(conn.index);
        }
    }
}

impl Streams {
    /// Notifies a stream of events lost before the slice that was just read.
    fn queue_gaps(&mut self, peer: &mut Peer, hub: &Hub, coding: Coding, counters: &mut Counters) {
        let Some(behind) = &mut peer.behind else { return };
        let mut tell = |notice: Notice<'_>, reason: GapReason| {
            if let Some(replay) = &mut behind.replay {
                replay.is_complete = false;
            }
            counters.note_gap(reason);
            peer.conn.push_unbounded(notice_run(&notice, coding));
        };
        if let Some(id) = self.slice.unknown.take() {
            let reason = GapReason::UnknownId;
            let id_at_connect = hub.id_of(behind.cursor.place);
            tell(Notice::Gap { reason, missed: None, last_event_id: Some(&id), id: id_at_connect }, reason);
        }
        if let Some(gap) = self.slice.gap {
            let (reason, after) = (behind.reason, gap.after.to_string());
            tell(Notice::Gap { reason, missed: gap.missed, last_event_id: Some(&after), id: None }, reason);
        }
    }

    /// Queues the runs of the slice.
    fn queue_runs(&mut self, peer: &mut Peer, coding: Coding, now: Instant) {
        let Streams { slice, sources, sources_used, .. } = self;
        if !slice.runs.is_empty() {
            *sources_used = Some(now);
        }
        for part in slice.runs.drain(..) {
            peer.conn.push_unbounded(sources.coded(&part, coding));
        }
        if let Some(replay) = peer.behind.as_mut().and_then(|behind| behind.replay.as_mut()) {
            replay.replayed += u64::from(slice.frames);
        }
    }
}

/// Queues the notices due where the cursor has stopped, and lets the stream read on.
fn queue_notices_at_stop(peer: &mut Peer, hub: &Hub, coding: Coding) {
    let Some(behind) = &mut peer.behind else { return };
    // Events applied after the subscription are no part of the replay, although they are read in the
    // same way.
    if let Some(replay) = behind.replay.filter(|replay| behind.cursor.place >= replay.until) {
        behind.replay = None;
        behind.reason = GapReason::SlowConsumer;
        let Replay { replayed, is_complete, end_id, .. } = replay;
        let notice = Notice::CaughtUp { replayed, complete: is_complete, id: end_id };
        peer.conn.push_unbounded(notice_run(&notice, coding));
    }
    while let Some(channel) = peer.behind.as_mut().and_then(|behind| behind.join_next()) {
        queue_subscribed(peer, hub, channel, coding);
    }
    if let Some(behind) = &mut peer.behind {
        behind.set_stop();
    }
}

/// Notifies a stream that it has a channel from here on.
pub(super) fn queue_subscribed(peer: &mut Peer, hub: &Hub, channel: ChannelId, coding: Coding) {
    let (name, (names, _)) = (hub.names(&[channel]).0, hub.names(&peer.targets_now()));
    for channel in &name {
        peer.conn.push_unbounded(notice_run(&Notice::Subscribed { channel, channels: &names }, coding));
    }
}

/// A run with a notice to one stream.
pub(in crate::shard) fn notice_run(notice: &Notice<'_>, coding: Coding) -> Run {
    let mut bytes = Vec::new();
    notice.render(&mut bytes, coding);
    Run::own(bytes)
}
