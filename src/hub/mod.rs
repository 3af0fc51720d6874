//! Floor 3: who gets which event. The hub applies what the log commits, keeps the history, and knows
//! which channels have subscribers. It knows neither sockets nor streams.
//!
//! One hub serves all shards behind one lock. The lock is taken for a small batch, a subscribe, or a
//! slice of at most [`reading::SLICE_FRAMES_MAX`] frames. Each hold has a `budget` of steps; work that
//! takes more is done in several holds. Nothing under the lock renders, waits, or calls out. After a
//! panic under the lock nobody can vouch for the order of events, so the process ends.
//!
//! Each shard is a cursor on the order: it takes the events after its cursor in runs
//! ([`reading::LiveRun`]). A stream that resumes, or that fell behind, has its own [`reading::Cursor`]
//! and reads slices of the history up to its shard's cursor. There it turns live: no event lies between
//! the two, and none is delivered by both.

mod apply;
mod budget;
mod channel_id;
mod channels;
pub mod counts;
mod epochs;
mod history;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod list_tests;
mod lock;
mod membership;
mod options;
pub mod reading;
mod receivers;
mod retention;
mod shards;
mod state;
mod subscribe;
mod tally;
#[cfg(test)]
mod tests;

pub use apply::{Applied, Commit};
pub use budget::{HOLD_STEPS, HOLD_STEPS_MIN};
pub use channel_id::ChannelId;
pub use history::targets::TargetId;
pub use lock::Hub;
pub use membership::Added;
pub use options::{
    Backlog, HubOptions, RETENTION_BYTES_MIN, Retention, SEGMENT_BYTES_LEAST, SEGMENT_BYTES_MOST, TICK,
};
pub use shards::{SHARDS_MAX, ShardSet};
pub use subscribe::{Begin, Begun, SubscribeError, Subscribed};
pub use tally::{Receivers, Tally};
