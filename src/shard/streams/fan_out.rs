//! From the order of events to the outboxes of streams, and from there to the driver.

use std::rc::Rc;

use super::index::Index;
use super::stream_list::StreamSlots;
use crate::base::id::{ConnId, Sequence};
use crate::base::slots::Slots;
use crate::conn::{Flushed, Taken};
use crate::driver::{Driver, SendStart};
use crate::frame::coding::CodedRun;
use crate::frame::offer::Offer;
use crate::frame::outbox::{PushLimits, Pushed};
use crate::frame::run::{Run, Source};
use crate::hub::ChannelId;
use crate::hub::reading::Cursor;
use crate::hub::reading::{LiveRun, RunChannels, TakeLimits};

use super::Streams;
use super::marked::Marked;
use super::state::Behind;
use crate::shard::Shard;
use crate::shard::connections::Connections;
use crate::shard::connections::peer::Peer;
use crate::shard::core::Core;

/// Marked streams that one turn sends to before it handles completions again.
const FLUSHES_PER_TURN_MAX: usize = 256;

/// Successive runs are copied together for at least this many streams. A single run is copied if it has
/// at least this many bytes. Both bounds are far from where a copy could cost more than it saves.
const JOINED_STREAMS_MIN: usize = 64;
const JOINED_BYTES_MIN: usize = 4 * 1024;

impl<D: Driver> Shard<D> {
    /// Sends to some of the marked streams. Once all streams that the last events went to were sent to,
    /// takes the next events. Streams marked since then do not delay this.
    pub(in crate::shard) fn fan_out(&mut self) {
        if self.streams.marked.is_round_over() {
            self.take_events();
        }
        let mut unsettled = std::mem::take(&mut self.streams.unsettled);
        self.flush(&mut unsettled);
        unsettled.drain(..).for_each(|conn| self.act(conn));
        self.streams.unsettled = unsettled;
    }

    /// Sends to marked streams with nothing else to do, which are nearly all in a fan-out. Appends
    /// connections that may have something else to do.
    fn flush(&mut self, unsettled: &mut Vec<ConnId>) {
        let Shard {
            connections: Connections { peers, .. },
            streams: Streams { marked, .. },
            driver,
            options,
            common,
            counters,
            clock,
            ..
        } = self;
        let context = clock.context(&options.conn, common);
        for &slot in marked.take(FLUSHES_PER_TURN_MAX) {
            let Some((conn, peer)) = peers.entry_at_mut(slot) else { continue };
            peer.is_marked = false;
            let send = |offer: Offer<'_>| match driver.send(conn, offer) {
                SendStart::Sent(bytes) => Taken::Bytes(bytes),
                SendStart::Pending => Taken::Later,
                SendStart::Failed(_) => Taken::Broken,
            };
            let is_done = match peer.conn.flush(&context, send) {
                Flushed::Whole { bytes, events } => {
                    counters.note_sent_events(bytes, events);
                    peer.is_settled_once_idle()
                }
                Flushed::Partly { bytes, events } => {
                    counters.note_sent(bytes, events);
                    false
                }
                Flushed::Pending => true,
                Flushed::NotNow => false,
            };
            if !is_done {
                unsettled.push(conn);
            }
        }
    }

    /// Takes the events after the shard's cursor, as many as an empty outbox takes, and queues them for
    /// their streams.
    pub(in crate::shard) fn take_events(&mut self) {
        if self.core.hub.head() == self.streams.cursor {
            return;
        }
        let limits = TakeLimits::of(self.options.conn.outbox);
        let mut taken = std::mem::take(&mut self.streams.taken);
        self.streams.cursor = self.core.hub.take(self.options.number, limits, &mut taken);
        for runs in taken.chunk_by(|run, next| {
            run.channels == next.channels && run.tally.is_none() && next.tally.is_none()
        }) {
            self.deliver_in_sequence(runs);
        }
        taken.clear();
        self.streams.taken = taken;
        self.streams.marked.end_round();
        if !self.streams.marked.is_round_over() {
            self.streams.fan_out_began.get_or_insert(self.clock.now);
        }
        self.requeue_ahead();
    }

    /// Queues successive runs to the same channels.
    ///
    /// For many streams, several runs or a long one are copied together first. A send from the beginning
    /// of a block takes less time than one from its middle, and a send of one slice less than one of
    /// two.
    fn deliver_in_sequence(&mut self, runs: &[LiveRun]) {
        let [first, ..] = runs else { return };
        let bytes: usize = runs.iter().map(|run| (run.to - run.from) as usize).sum();
        let streams = match first.channels {
            RunChannels::One(channel) => self.streams.index.streams(channel).len(),
            RunChannels::Several(_) => 0,
        };
        // A large frame has a block of its own already.
        let is_fine_alone = runs.len() == 1 && (bytes < JOINED_BYTES_MIN || first.from == 0);
        if streams < JOINED_STREAMS_MIN || is_fine_alone {
            for live in runs {
                let run = self.streams.sources.run(&live.segment, live.from, live.to, live.frames);
                self.deliver(live, &CodedRun::new(run));
            }
            return;
        }
        let mut joined = Vec::with_capacity(bytes);
        for run in runs {
            joined.extend_from_slice(run.segment.bytes(run.from as usize, run.to as usize));
        }
        let frames = runs.iter().map(|run| run.frames).sum();
        let to = u32::try_from(bytes).expect("what is taken at once is far below 4 GiB");
        let run = Run::new(Rc::new(Source::Own(joined)), 0, to, frames);
        self.deliver(first, &CodedRun::new(run));
    }

    /// Queues a run for every live stream that it goes to, once for each. It begins with the frames of
    /// `live`, and may go on with those of later runs to the same channels.
    fn deliver(&mut self, live: &LiveRun, run: &CodedRun) {
        self.streams.sources_used = Some(self.clock.now);
        let everyone = (live.channels == RunChannels::One(ChannelId::ALL)).then(|| self.streams());
        let Shard {
            core: Core { publishers, .. },
            connections: Connections { peers, .. },
            streams: Streams { index, marked, fallen, .. },
            options,
            ..
        } = self;
        let limits = PushLimits::of(options.conn.outbox);
        let distinct: Vec<u32>;
        let slots = match (&live.channels, everyone) {
            (_, Some(streams)) => {
                distinct = streams;
                StreamSlots::of(&distinct)
            }
            (RunChannels::One(channel), None) => index.streams(*channel),
            (RunChannels::Several(channels), None) => {
                distinct = distinct_slots(index, channels);
                StreamSlots::of(&distinct)
            }
        };
        push_to_live(run, slots, peers, &limits, marked, fallen);
        if let Some(tally) = &live.tally
            && matches!(live.channels, RunChannels::Several(_))
            && tally.add(options.number, subscribed_before(peers, slots, live))
        {
            publishers.notify_counted(tally.waiting_shard);
        }
        while let Some(slot) = self.streams.fallen.pop() {
            self.fall_behind(slot, live.first);
        }
        for &channel in live.channels.as_slice() {
            match channel {
                ChannelId::ALL => self.streams.all_count += u64::from(run.frames()),
                _ => self.streams.index.note_events(channel, run.frames()),
            }
        }
    }

    /// Slots of all streams.
    fn streams(&self) -> Vec<u32> {
        let streams = self.connections.peers.iter().filter(|(_, peer)| peer.is_stream);
        streams.map(|(conn, _)| conn.index).collect()
    }

    /// A stream whose outbox is full reads the events from `first` on in the history, as its socket
    /// drains.
    fn fall_behind(&mut self, slot: u32, first: Sequence) {
        self.read_from(slot, Sequence(first.0 - 1));
        self.counters.note_fall_behind();
    }

    /// Lets a live stream read the events after `place` in the history. Its shard has taken all events
    /// up to there.
    pub(super) fn read_from(&mut self, slot: u32, place: Sequence) {
        let Shard {
            connections: Connections { peers, .. },
            streams: Streams { index, all_count, .. },
            counters,
            clock,
            ..
        } = self;
        let Some(peer) = peers.get_at_mut(slot) else { return };
        let counts = peer.subscriptions.iter().map(|kept| index.count(kept.channel));
        let seen = peer.is_counting.then(|| *all_count + counts.sum::<u64>());
        peer.behind = Some(Box::new(Behind::of_live(Cursor::behind(place, seen), clock.now)));
        counters.streams_catching_up += 1;
    }
}

/// Queues a run for the live streams among `slots`. Marks those that have something to send, and adds
/// those with a full outbox to `fallen`.
fn push_to_live(
    run: &CodedRun,
    slots: StreamSlots<'_>,
    peers: &mut Slots<Peer>,
    limits: &PushLimits,
    marked: &mut Marked,
    fallen: &mut Vec<u32>,
) {
    for part in slots.parts() {
        for &slot in part {
            let Some(peer) = peers.get_at_mut(slot) else { continue };
            if peer.behind.is_some() {
                continue; // It reads these events in the history.
            }
            match peer.conn.push(run, limits) {
                Pushed::Queued if !peer.is_marked => {
                    peer.is_marked = true;
                    marked.push(slot);
                }
                Pushed::Queued => {}
                Pushed::Full => fallen.push(slot),
            }
        }
    }
}

/// The number of `slots` that were subscribed to a channel of the event when it was applied. Live
/// streams all were: their subscriptions come before the events that the shard takes.
fn subscribed_before(peers: &Slots<Peer>, slots: StreamSlots<'_>, live: &LiveRun) -> u64 {
    let had = |peer: &Peer, channel: ChannelId| {
        let has = peer.subscriptions.iter().any(|kept| kept.channel == channel);
        has && peer.behind.as_ref().is_none_or(|behind| behind.had(channel, live.first))
    };
    let was_subscribed = |peer: &&Peer| {
        peer.behind.is_none() || live.channels.as_slice().iter().any(|&channel| had(peer, channel))
    };
    let peers = slots.parts().flatten().filter_map(|&slot| peers.get(peers.id_at(slot)?));
    peers.filter(was_subscribed).count() as u64
}

/// Slots of the streams that have any of these channels, each once.
fn distinct_slots(index: &Index, channels: &[ChannelId]) -> Vec<u32> {
    let lists = || channels.iter().map(|&channel| index.streams(channel));
    let mut slots: Vec<u32> = lists().flat_map(StreamSlots::parts).flatten().copied().collect();
    // A channel has each stream once.
    if lists().filter(|list| !list.is_empty()).count() > 1 {
        slots.sort_unstable();
        slots.dedup();
    }
    slots
}
