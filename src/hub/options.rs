//! How a hub is set up.

use std::time::Duration;

use super::budget::HOLD_STEPS;

/// The step of the hub's clock, by which the age of events is counted.
pub const TICK: Duration = Duration::from_millis(100);

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events of each channel.
    pub events_max: usize,
    /// Bytes of all channels together, counted as really held: whole segments, entries, names.
    pub bytes_max: usize,
    /// How long an event is kept; `None` without bound.
    pub age_max: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { events_max: 10_000, bytes_max: 256 << 20, age_max: None }
    }
}

impl Retention {
    /// Capacity of the segments that take several frames, in bytes: the larger they are, the fewer sends take bytes of two. A
    /// segment goes as a whole, so that a history has room for a number of them, unless it is a very small one.
    #[must_use]
    pub const fn segment_bytes(&self) -> usize {
        let share = self.bytes_max / SEGMENTS_LEAST;
        if share < SEGMENT_BYTES_LEAST {
            SEGMENT_BYTES_LEAST
        } else if share > SEGMENT_BYTES_MOST {
            SEGMENT_BYTES_MOST
        } else {
            share
        }
    }
}

/// Segments that a history has room for at the least, unless they would be smaller than [`SEGMENT_BYTES_LEAST`].
const SEGMENTS_LEAST: usize = 64;

/// The least that [`Retention::segment_bytes`] is, in bytes.
pub const SEGMENT_BYTES_LEAST: usize = 64 * 1024;

/// The most that it is, in bytes.
pub const SEGMENT_BYTES_MOST: usize = 256 * 1024;

/// Bytes below which `Retention::bytes_max` makes no sense: a handful of segments.
pub const RETENTION_BYTES_MIN: usize = 1024 * 1024;

/// How far a shard may be behind the head before those who publish wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Events.
    pub events_max: u64,
    /// Bytes, counted by whole pages.
    pub bytes_max: usize,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { events_max: 8192, bytes_max: 8 * 1024 * 1024 }
    }
}

/// How the hub is set up.
#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    /// How much history is kept.
    pub retention: Retention,
    /// Names that may have subscribers or history at the same time.
    pub channels_max: usize,
    /// How far a shard may be behind.
    pub backlog: Backlog,
    /// How many shards read from it, at most [`SHARDS_MAX`](crate::hub::SHARDS_MAX).
    pub shards: usize,
    /// Steps that each hold of the lock may take, about: [`HOLD_STEPS`], or fewer, to see that what is cut up comes to the
    /// same. Fewer than [`HOLD_STEPS_MIN`](crate::hub::HOLD_STEPS_MIN) are as many.
    pub hold_steps: u32,
}

impl Default for HubOptions {
    /// The bounds of a server that was told none, with one shard.
    fn default() -> HubOptions {
        HubOptions {
            retention: Retention::default(),
            channels_max: 100_000,
            backlog: Backlog::default(),
            shards: 1,
            hold_steps: HOLD_STEPS,
        }
    }
}
