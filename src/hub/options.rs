//! How a hub is set up.

use std::time::Duration;

use super::budget::HOLD_STEPS;

/// The step of the hub's clock, which measures the age of events.
pub const TICK: Duration = Duration::from_millis(100);

/// The tick of the hub's start. Ticks before it are those of events that are older than the process; there
/// are three years of them.
pub(super) const START_TICK: u32 = 1 << 30;

/// A duration in whole ticks.
pub(super) fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

/// A duration in ticks, of which the last may not be whole.
pub(super) fn ticks_up(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

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
    /// The capacity of a segment that takes several frames, in bytes. The larger segments are, the fewer
    /// sends take bytes of two. A segment goes as a whole, so the history has room for several of them,
    /// unless it is very small.
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

/// The least number of segments that a history has room for, unless they would be smaller than
/// [`SEGMENT_BYTES_LEAST`].
const SEGMENTS_LEAST: usize = 64;

/// The least value of [`Retention::segment_bytes`], in bytes.
pub const SEGMENT_BYTES_LEAST: usize = 64 * 1024;

/// The greatest value of [`Retention::segment_bytes`], in bytes.
pub const SEGMENT_BYTES_MOST: usize = 256 * 1024;

/// The least useful `Retention::bytes_max`: a handful of segments.
pub const RETENTION_BYTES_MIN: usize = 1024 * 1024;

/// How far a shard may be behind the head before publishers wait for it.
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
    /// The approximate number of steps of each hold of the lock: [`HOLD_STEPS`], or fewer in tests that
    /// check that work done in parts has the same result. At least
    /// [`HOLD_STEPS_MIN`](crate::hub::HOLD_STEPS_MIN) are used.
    pub hold_steps: u32,
}

impl Default for HubOptions {
    /// The default bounds of a server, with one shard.
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
