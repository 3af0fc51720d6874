//! Streams that read the history: those that resume, and those that fell behind. Each reads a slice when what it had is
//! written, and turns live where it meets the shard's cursor.

use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::frame::notice::{GapReason, Notice};
use crate::frame::render::Framing;
use crate::frame::run::Run;
use crate::hub::reader::{SLICE_FRAMES_MAX, SliceLimits};
use crate::hub::{ChannelId, Hub};

use super::Shard;
use super::peer::{Peer, Replay};
use super::sources::unframed_twin;

/// Slices that one turn reads, for all streams together.
const SLICES_PER_TURN_MAX: usize = 128;

impl<D: Driver> Shard<D> {
    /// Lets streams read on, a bounded number of them.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..SLICES_PER_TURN_MAX.min(self.readers.len()) {
            let Some(slot) = self.readers.pop_front() else { break };
            let Some(conn) = self.peers.id_at(slot) else { continue };
            self.read_slice(conn);
            self.act(conn);
        }
    }

    /// Lets those read on that wait for the shard to reach their place.
    pub(super) fn requeue_ahead(&mut self) {
        self.readers.extend(self.ahead.drain(..));
    }

    fn read_slice(&mut self, conn: ConnId) {
        let Shard { peers, hub, options, slice, sources, sources_used, counters, now, .. } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        peer.is_queued = false;
        let channels = peer.targets_now();
        let (Some(behind), Some(framing)) = (&mut peer.behind, peer.conn.framing()) else { return };
        let outbox = options.conn.outbox;
        let limits = SliceLimits {
            frames_max: SLICE_FRAMES_MAX.min(outbox.frames_max).max(1),
            bytes_max: outbox.bytes_max,
        };
        hub.read(options.number, &channels, &mut behind.cursor, limits, slice);

        if let Some(id) = slice.unknown.take() {
            if let Some(replay) = &mut behind.replay {
                replay.is_complete = false;
            }
            let place = hub.id_of(behind.cursor.place);
            let notice = Notice::Gap {
                reason: GapReason::UnknownId,
                missed: None,
                last_event_id: Some(&id),
                id: place,
            };
            counters.note_gap(GapReason::UnknownId);
            peer.conn.tell(own(&notice, framing));
        }
        if let Some(gap) = slice.gap {
            if let Some(replay) = &mut behind.replay {
                replay.is_complete = false;
            }
            let after = gap.after.to_string();
            let notice = Notice::Gap {
                reason: behind.reason,
                missed: gap.missed,
                last_event_id: Some(&after),
                id: None,
            };
            counters.note_gap(behind.reason);
            peer.conn.tell(own(&notice, framing));
        }
        counters.history_reads += u64::from(slice.frames);
        if !slice.runs.is_empty() {
            *sources_used = Some(*now);
        }
        for part in slice.runs.drain(..) {
            let run = sources.run(&part.segment, part.from, part.to, part.frames);
            peer.conn.tell(match framing {
                Framing::Chunked => run,
                Framing::Unframed => unframed_twin(&run),
            });
        }
        if let Some(replay) = &mut behind.replay {
            replay.replayed += u64::from(slice.frames);
        }
        let has_stopped = behind.cursor.has_stopped();
        if has_stopped {
            self.tell_at_stop(conn);
        }
        let Shard { peers, slice, ahead, counters, .. } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        if slice.is_live && peer.behind.as_ref().is_some_and(|behind| behind.joins.is_empty()) {
            peer.behind = None;
            counters.streams_catching_up -= 1;
        } else if slice.is_ahead {
            peer.is_queued = true;
            ahead.push(conn.index);
        }
    }

    /// Tells a stream what it is to be told where its cursor has stopped, and lets it read on.
    fn tell_at_stop(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let (Some(behind), Some(framing)) = (&mut peer.behind, peer.conn.framing()) else { return };
        // What is applied after the subscription is no part of the replay, also where it is read in the same way.
        if let Some(replay) = behind.replay.filter(|replay| behind.cursor.place >= replay.until) {
            behind.replay = None;
            behind.reason = GapReason::SlowConsumer;
            let Replay { replayed, is_complete, end_id, .. } = replay;
            let notice = Notice::CaughtUp { replayed, complete: is_complete, id: end_id };
            peer.conn.tell(own(&notice, framing));
        }
        while let Some(channel) = peer.behind.as_mut().and_then(|behind| behind.join_next()) {
            tell_subscribed(peer, &self.hub, channel, framing);
        }
        if let Some(behind) = &mut peer.behind {
            behind.set_stop();
        }
    }
}

/// Tells a stream that it has a channel from here on.
pub(super) fn tell_subscribed(peer: &mut Peer, hub: &Hub, channel: ChannelId, framing: Framing) {
    let (name, (names, _)) = (hub.names(&[channel]).0, hub.names(&peer.targets_now()));
    for channel in &name {
        peer.conn.tell(own(&Notice::Subscribed { channel, channels: &names }, framing));
    }
}

/// A notice to one stream.
pub(super) fn own(notice: &Notice<'_>, framing: Framing) -> Run {
    let mut bytes = Vec::new();
    notice.render(&mut bytes, framing);
    Run::own(bytes)
}
