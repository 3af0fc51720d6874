//! From the order of events to the outboxes of streams, and from there to the driver.

use std::time::Instant;

use crate::base::id::Sequence;
use crate::driver::Driver;
use crate::frame::notice::GapReason;
use crate::frame::outbox::Pushed;
use crate::frame::render::Framing;
use crate::frame::run::Run;
use crate::hub::index::Index;
use crate::hub::live::{LiveRun, RunChannels, TakeLimits};
use crate::hub::reader::Cursor;

use super::peer::{Behind, Peer};
use super::sources::unframed_twin;
use super::{FLUSHES_PER_TURN_MAX, Shard};

impl<D: Driver> Shard<D> {
    /// Sends to some of the streams that have something to say; once all had their turn, takes what has come meanwhile.
    pub(super) fn fan_out(&mut self) {
        if self.marked.is_empty() {
            self.take();
        }
        for _ in 0..FLUSHES_PER_TURN_MAX {
            let Some(slot) = self.marked.pop_front() else { break };
            let Some(conn) = self.peers.id_at(slot) else { continue };
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.is_marked = false;
            }
            self.act(conn);
        }
    }

    /// Takes what lies after the shard's cursor, as much as an empty outbox takes, and queues it for its streams.
    fn take(&mut self) {
        if !self.has_events() {
            return;
        }
        let outbox = self.options.conn.outbox;
        let limits = TakeLimits { frames_max: outbox.frames_max, bytes_max: outbox.bytes_max };
        let mut taken = std::mem::take(&mut self.taken);
        self.cursor = self.hub.take(self.options.number, limits, &mut taken);
        for run in taken.drain(..) {
            self.deliver(&run);
        }
        self.taken = taken;
        if !self.marked.is_empty() {
            self.fan_out_began = Some(self.now);
        }
        self.requeue_ahead();
    }

    /// Queues a run for every live stream that subscribes to one of its channels, once for each stream.
    fn deliver(&mut self, live: &LiveRun) {
        let run = self.sources.run(&live.segment, live.from, live.to, live.frames);
        self.sources_used = Some(self.now);
        let mut twin = None;
        match &live.channels {
            RunChannels::One(channel) => {
                let Shard { index, peers, marked, options, counters, now, .. } = self;
                let Some(subscribers) = index.get_mut(*channel) else { return };
                for &slot in &subscribers.slots {
                    let Some(peer) = peers.get_at_mut(slot) else { continue };
                    if peer.behind.is_some() {
                        continue; // It comes to these events in its own time.
                    }
                    match peer.conn.push(framed_for(peer, &run, &mut twin), &options.conn) {
                        Pushed::Queued => {
                            if !peer.is_marked {
                                peer.is_marked = true;
                                marked.push_back(slot);
                            }
                        }
                        Pushed::Full => {
                            let is_only = peer.subscriptions.len() == 1;
                            fall_behind(peer, live.first, is_only.then_some(subscribers.count), *now);
                            counters.note_fall_behind();
                        }
                    }
                }
                subscribers.count += u64::from(live.frames);
            }
            RunChannels::Several(_) => {
                let slots = distinct_slots(&self.index, live);
                if let Some(tally) = &live.tally {
                    let subscribed_before = |slot: &&u32| {
                        let peer = self.peers.id_at(**slot).and_then(|conn| self.peers.get(conn));
                        peer.is_some_and(|peer| peer.subscribed_at < live.first)
                    };
                    let receivers = slots.iter().filter(subscribed_before).count() as u64;
                    if tally.add(self.options.number, receivers)
                        && let Some(waiting) = self.shards.get(tally.waiting_shard)
                    {
                        waiting.notify();
                    }
                }
                for &slot in &slots {
                    let Some(peer) = self.peers.get_at_mut(slot) else { continue };
                    if peer.behind.is_some() {
                        continue;
                    }
                    match peer.conn.push(framed_for(peer, &run, &mut twin), &self.options.conn) {
                        Pushed::Queued => {
                            if !peer.is_marked {
                                peer.is_marked = true;
                                self.marked.push_back(slot);
                            }
                        }
                        Pushed::Full => {
                            let only = match peer.subscriptions[..] {
                                [only] => self.index.get(only.channel).map(|subscribers| subscribers.count),
                                _ => None,
                            };
                            fall_behind(peer, live.first, only, self.now);
                            self.counters.note_fall_behind();
                        }
                    }
                }
                for channel in live.channels.as_slice() {
                    if let Some(subscribers) = self.index.get_mut(*channel) {
                        subscribers.count += u64::from(live.frames);
                    }
                }
            }
        }
    }
}

/// The run as the stream frames its body; the twin is made once, on first need.
fn framed_for(peer: &Peer, run: &Run, twin: &mut Option<Run>) -> Run {
    match peer.conn.framing() {
        Some(Framing::Unframed) => twin.get_or_insert_with(|| unframed_twin(run)).clone(),
        Some(Framing::Chunked) | None => run.clone(),
    }
}

/// From here on the stream reads the events from `first` on in the history, as its socket drains. `count` is how many
/// events its only channel had before.
fn fall_behind(peer: &mut Peer, first: Sequence, count: Option<u64>, since: Instant) {
    let cursor = Cursor::behind(Sequence(first.0 - 1), count);
    peer.behind = Some(Box::new(Behind { cursor, reason: GapReason::SlowConsumer, replay: None, since }));
}

fn distinct_slots(index: &Index, live: &LiveRun) -> Vec<u32> {
    let subscribers = live.channels.as_slice().iter().filter_map(|&channel| index.get(channel));
    let mut slots: Vec<u32> = subscribers.flat_map(|subscribers| subscribers.slots.iter().copied()).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}
