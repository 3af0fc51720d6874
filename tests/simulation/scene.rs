//! What a client sees of the world when it has its turn.

use std::time::Instant;

use downpour::base::random::SplitMix64;
use downpour::driver::sim::SimNet;

use crate::model::{ChannelSet, Model};
use crate::rules::Rules;
use crate::stats::Stats;

/// The world, for one client.
pub(crate) struct Scene<'a> {
    pub(crate) random: &'a mut SplitMix64,
    pub(crate) model: &'a mut Model,
    pub(crate) stats: &'a mut Stats,
    pub(crate) rules: &'a Rules,
    pub(crate) nets: &'a [SimNet],
    pub(crate) step: u64,
    pub(crate) now: Instant,
    pub(crate) is_draining: bool,
    /// Nobody comes or goes.
    pub(crate) is_calm: bool,
    /// When each shard last began anew, and ended all its connections.
    pub(crate) restarted_at: &'a [Option<u64>],
    /// How far every shard has taken the order.
    pub(crate) taken: u64,
    /// The channels of streams that clients have left, of which the server may not know yet.
    pub(crate) ghosts: &'a mut Vec<Ghost>,
}

/// A stream that its client has left.
#[derive(Debug)]
pub(crate) struct Ghost {
    pub(crate) channels: ChannelSet,
    pub(crate) client: Option<String>,
    /// When the server had said that it ends, if it had.
    pub(crate) over_at: Option<u64>,
}
