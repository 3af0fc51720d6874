//! Log lines about slow streams: a few streams at a time, and now and then.

use std::time::{Duration, Instant};

use crate::base::id::{ClientId, Sequence};
use crate::driver::Driver;
use crate::shard::Shard;
use crate::shard::connections::LOG_AGAIN_AFTER;

/// Time of reading the history after which a stream is slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Streams named at a time.
const NAMED_MAX: usize = 3;

/// Channels named for one stream.
const CHANNELS_NAMED_MAX: usize = 8;

/// Slots that one look passes over, so that it takes one or two milliseconds at most.
const SLOTS_PER_LOOK_MAX: u32 = 16 * 1024;

/// When to look for slow streams, and from which slot.
#[derive(Debug, Default)]
pub(super) struct SlowLook {
    next: Option<Instant>,
    /// When some were last named.
    logged: Option<Instant>,
    /// The slot to begin with.
    from: u32,
}

impl SlowLook {
    pub(in crate::shard) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl<D: Driver> Shard<D> {
    /// Logs slow streams, if it is time to look for them.
    pub(in crate::shard) fn look_for_slow_streams(&mut self) {
        if self.counters.streams_catching_up == 0 {
            self.streams.slow_look.next = None;
            return;
        }
        let SlowLook { next, logged, .. } = &mut self.streams.slow_look;
        let after_logged = logged.map_or(self.clock.now, |logged| logged + LOG_AGAIN_AFTER);
        let next = *next.get_or_insert((self.clock.now + SLOW_AFTER).max(after_logged));
        if self.clock.now < next {
            return;
        }
        self.streams.slow_look.next = None;
        let slow = self.slow_streams();
        if !slow.is_empty() {
            self.streams.slow_look.logged = Some(self.clock.now);
            self.log_slow_streams(&slow);
        }
    }

    /// Places and slots of streams that have read the history for long, the slowest first.
    fn slow_streams(&mut self) -> Vec<(Sequence, u32)> {
        let slots = self.connections.peers.slots_len();
        let looked_at = slots.min(SLOTS_PER_LOOK_MAX);
        let mut slow = Vec::new();
        for _ in 0..looked_at {
            let slot = if self.streams.slow_look.from < slots { self.streams.slow_look.from } else { 0 };
            self.streams.slow_look.from = slot + 1;
            let behind = self.connections.peers.get_at_mut(slot).and_then(|peer| peer.behind.as_ref());
            if let Some(behind) = behind.filter(|behind| self.clock.now >= behind.since + SLOW_AFTER) {
                slow.push((behind.cursor.place, slot));
            }
        }
        slow.sort_unstable();
        slow
    }

    fn log_slow_streams(&mut self, slow: &[(Sequence, u32)]) {
        let others = slow.len().saturating_sub(NAMED_MAX);
        for &(place, slot) in slow.iter().take(NAMED_MAX) {
            let Some(peer) = self.connections.peers.get_at_mut(slot) else { continue };
            let Some(behind) = &peer.behind else { continue };
            let seconds = self.clock.now.saturating_duration_since(behind.since).as_secs();
            let channels: Vec<_> =
                peer.subscriptions.iter().map(|subscription| subscription.channel).collect();
            let (mut channels, lag_events) = self.core.hub.names_and_lag(&channels, place);
            channels.truncate(CHANNELS_NAMED_MAX);
            let shard = u16::try_from(self.options.number).expect("there are at most 64 shards");
            let node = self.core.node;
            let client = ClientId { secret: 0, node, shard, slot }; // Shown without its secret.
            tracing::warn!(?client, ?channels, lag_events, seconds, others, "a stream reads slowly");
        }
    }
}
