//! What a client sees of the world when it has its turn.

use std::time::Instant;

use downpour::base::random::SplitMix64;
use downpour::driver::sim::SimNet;

use crate::changes::Changes;
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
    /// What it was until its client left it, if the server has served it till then.
    pub(crate) left: Option<Left>,
}

/// A stream that its client has left when nothing else had ended it.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) changes: Changes,
    pub(crate) connected_at: Option<u64>,
    pub(crate) subscribed_at: Option<u64>,
    pub(crate) shard: usize,
    pub(crate) begun_at: u64,
    /// The step in which its client left it.
    pub(crate) left_at: u64,
}

impl Ghost {
    /// Returns true if and only if the stream is among the receivers of event `number`, which was published at `step` or later:
    /// it was subscribed when that was committed, and its client left it after that.
    pub(crate) fn must_receive(&self, number: u64, step: u64, scene: &Scene<'_>) -> bool {
        let (Some(left), Some(event)) = (&self.left, scene.model.event(number)) else { return false };
        let common = event.channels.common(self.channels);
        let is_named = self.client.is_some() && scene.model.client_of(event) == self.client.as_deref();
        let has_way = is_named || (common.len() > 0 && left.changes.surely_had(common, step));
        let is_connected = left.connected_at.is_some_and(|at| at < step)
            || left.subscribed_at.is_some_and(|place| place < number);
        let is_well = scene.restarted_at[left.shard].is_none_or(|at| at < left.begun_at);
        has_way && is_connected && is_well && event.committed_in < left.left_at
    }
}
