//! The setup of a world: the options, bounds and disturbances that its seed draws.

use std::time::Duration;

use downpour::api::ApiOptions;
use downpour::base::random::SplitMix64;
use downpour::conn::ConnOptions;
use downpour::driver::sim::SimOptions;
use downpour::frame::outbox::OutboxLimits;
use downpour::hub::Retention;
use downpour::hub::{Backlog, HOLD_STEPS, HOLD_STEPS_MIN, HubOptions};
use downpour::log::sim::SimLogOptions;
use downpour::shard::ShardOptions;

use crate::model::CHANNELS;

/// Most bytes of an event's data.
pub(crate) const DATA_BYTES_MAX: usize = 12_000;

/// Most events of one request.
pub(crate) const LINES_MAX: usize = 30;

/// The constants of one world.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) net: SimOptions,
    pub(crate) log: SimLogOptions,
    /// How likely the log acts at once when a batch is appended.
    pub(crate) log_eagerness: f64,
    pub(crate) hub: HubOptions,
    pub(crate) shard: ShardOptions,
    /// How likely an event is large.
    pub(crate) large_probability: f64,
    /// How likely an event goes to several channels.
    pub(crate) several_probability: f64,
    /// How likely an event has a `ttl`.
    pub(crate) ttl_probability: f64,
    /// How likely an event is appended past the shards when the log is to act.
    pub(crate) aside_probability: f64,
    /// Some events go to all streams or to a user, and some streams belong to users.
    pub(crate) plays_targets: bool,
    /// There are more channels than a reader merges for a pattern.
    pub(crate) is_crowded: bool,
    /// Some events go to one client.
    pub(crate) plays_clients: bool,
    /// How likely a client changes the channels of its stream in a turn.
    pub(crate) change_probability: f64,
    pub(crate) subscribers: usize,
    pub(crate) publishers: usize,
}

impl Rules {
    pub(crate) fn draw(random: &mut SplitMix64) -> Rules {
        let net = net(random);
        let log = SimLogOptions {
            delay_probability: *pick(random, &[0.0, 0.2, 0.8]),
            refuse_probability: *pick(random, &[0.0, 0.0, 0.05]),
            uncertain_probability: *pick(random, &[0.0, 0.0, 0.03]),
            late_probability: *pick(random, &[0.0, 0.3, 1.0]),
            unsafe_probability: *pick(random, &[0.0, 0.0, 0.05]),
            group_max: random.within(1..=8),
            backlog_bytes_max: *pick(random, &[usize::MAX, 20_000, 0]),
        };
        let retention = Retention {
            events_max: *pick(random, &[5, 10, 30, 200, 10_000]),
            bytes_max: *pick(random, &[100 * 1024, 256 * 1024, 1024 * 1024, 64 * 1024 * 1024]),
            age_max: pick(random, &[None, None, None, Some(1), Some(20)]).map(Duration::from_secs),
        };
        let backlog = Backlog {
            events_max: *pick(random, &[0, 5, 30, 8192]),
            bytes_max: *pick(random, &[64 * 1024, 8 * 1024 * 1024]),
        };
        let plays_targets = random.chance(0.5);
        let channels_max = *pick(random, &[1000, 1000, 1000, 5, 3]);
        Rules {
            net,
            log,
            log_eagerness: *pick(random, &[0.0, 0.5, 1.0]),
            hub: HubOptions {
                retention,
                channels_max,
                backlog,
                shards: *pick(random, &[1, 2, 2, 8]),
                hold_steps: *pick(random, &[HOLD_STEPS, HOLD_STEPS, 256, HOLD_STEPS_MIN]),
            },
            shard: shard(random),
            large_probability: *pick(random, &[0.0, 0.02, 0.2]),
            several_probability: *pick(random, &[0.0, 0.2, 0.5]),
            ttl_probability: *pick(random, &[0.0, 0.0, 0.1, 0.7]),
            aside_probability: if plays_targets { 0.4 } else { 0.1 },
            plays_targets,
            is_crowded: channels_max == 1000 && random.chance(0.3),
            plays_clients: random.chance(0.5),
            change_probability: *pick(random, &[0.0, 0.02, 0.2]),
            subscribers: random.within(1..=12),
            publishers: random.within(1..=4),
        }
    }

    /// Returns true if and only if the server may not remember how far each former channel was evicted,
    /// and assumes the worst.
    pub(crate) fn may_overstate_losses(&self) -> bool {
        self.hub.channels_max < CHANNELS.len()
    }

    /// Returns true if and only if events are given up only for their number in a channel, or on
    /// request.
    pub(crate) fn gives_up_by_number(&self) -> bool {
        let Retention { bytes_max, age_max, .. } = self.hub.retention;
        bytes_max >= 64 * 1024 * 1024 && age_max.is_none()
    }

    /// Bytes that the server and its network may hold of those sent to one stream.
    pub(crate) fn sent_bytes_max(&self) -> usize {
        let outbox = self.shard.conn.outbox.bytes_max.max(DATA_BYTES_MAX + 1000);
        *self.net.send_buffer_bytes.end() + outbox + DATA_BYTES_MAX
    }

    /// Bytes of an event on the wire, with its type, ids and line ends.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        if self.large_probability > 0.0 { 2 * DATA_BYTES_MAX } else { 1000 }
    }

    /// Bytes of a publisher's request.
    pub(crate) fn request_bytes_max(&self) -> usize {
        LINES_MAX * (self.frame_bytes_max() + 1000)
    }

    /// Bytes of a segment of the history.
    pub(crate) fn segment_bytes_max(&self) -> usize {
        self.hub.retention.segment_bytes().max(self.frame_bytes_max())
    }

    /// Bytes that the hub may hold when it has tidied up, if it retains `retained` bytes of frames.
    pub(crate) fn tidied_bytes_max(&self, retained: usize, own_ids: usize) -> usize {
        // Pages that retain less than a quarter are compacted once they are a sixteenth of all. The page
        // that is written does not go, nor does the segment for the next one.
        let written = self.held_bytes_max(0) - self.hub.retention.bytes_max;
        retained * 4 * 16 / 15 + written + self.segment_bytes_max() + own_ids * 500
    }

    /// Bytes that the history may hold while its shard has not taken `untaken` events.
    pub(crate) fn held_bytes_max(&self, untaken: usize) -> usize {
        // The page that is written to, which cannot go: a segment, its large frames, its entries.
        let page = 64 * 1024 + 256 * 1024 + 2 * DATA_BYTES_MAX + 64 * 1024;
        // Pages that the shard has not taken cannot go either, nor the page of the shard's cursor.
        let kept = untaken * (DATA_BYTES_MAX + 1000) + if untaken > 0 { page } else { 0 };
        self.hub.retention.bytes_max + page + kept
    }
}

fn net(random: &mut SplitMix64) -> SimOptions {
    match random.within(0..=3) {
        0 => SimOptions::calm(),
        1 => SimOptions { send_buffer_bytes: 200..=2000, ..SimOptions::calm() },
        resets => SimOptions {
            receive_buffer_bytes: random.within(500..=60_000),
            reset_probability: if resets == 2 { 0.0 } else { 0.002 },
            ..SimOptions::hostile()
        },
    }
}

fn shard(random: &mut SplitMix64) -> ShardOptions {
    let seconds = Duration::from_secs;
    ShardOptions {
        conn: ConnOptions {
            head_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(75),
            stall_timeout: None, // Subscribers may pause for as long as they like.
            publish_timeout: seconds(5),
            keepalive: pick(random, &[None, Some(1), Some(30)]).map(seconds),
            body_bytes_max: 1024 * 1024,
            outbox: OutboxLimits {
                bytes_max: *pick(random, &[200, 1000, 5000, 20_000]),
                frames_max: *pick(random, &[1, 2, 8, 32]),
            },
            ..ConnOptions::default()
        },
        api: vec![ApiOptions { stream_channels_max: *pick(random, &[16, 4]), ..ApiOptions::default() }],
        connections_max: *pick(random, &[1000, 1000, 1000, 6]),
        retry: seconds(3),
        retry_jitter: seconds(1),
        stream_age_max: pick(random, &[None, None, None, Some(10)]).map(seconds),
        drain_timeout: seconds(10),
        ..ShardOptions::default()
    }
}

/// Picks one of `choices`.
pub(crate) fn pick<'a, T>(random: &mut SplitMix64, choices: &'a [T]) -> &'a T {
    &choices[random.within(0..=choices.len() - 1)]
}
