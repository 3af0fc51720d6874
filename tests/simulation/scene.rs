//! The part of the world that a client uses in its turn.

use std::time::Instant;

use downpour::base::random::SplitMix64;
use downpour::driver::sim::SimNet;

use crate::changes::Changes;
use crate::model::{ChannelSet, Model};
use crate::rules::Rules;
use crate::stats::Stats;

/// The world, as one client sees it.
pub(crate) struct Scene<'a> {
    pub(crate) random: &'a mut SplitMix64,
    pub(crate) model: &'a mut Model,
    pub(crate) stats: &'a mut Stats,
    pub(crate) rules: &'a Rules,
    pub(crate) nets: &'a [SimNet],
    pub(crate) step: u64,
    pub(crate) now: Instant,
    pub(crate) is_draining: bool,
    /// Nobody connects or leaves.
    pub(crate) is_calm: bool,
    /// The step in which each shard last restarted and ended all its connections.
    pub(crate) restarted_at: &'a [Option<u64>],
    /// The place that every shard has taken.
    pub(crate) taken: u64,
    /// The channels of streams that clients have left. The server may not have noticed yet.
    pub(crate) ghosts: &'a mut Vec<Ghost>,
}

/// A stream that its client has left.
#[derive(Debug)]
pub(crate) struct Ghost {
    pub(crate) channels: ChannelSet,
    pub(crate) client: Option<String>,
    /// The step in which the server announced its end, if it did.
    pub(crate) over_at: Option<u64>,
    /// The stream's state when its client left it, if the server served it until then.
    pub(crate) left: Option<Left>,
}

/// A stream that only its client has ended.
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
    /// Returns true if and only if the stream must be counted as a receiver of event `number`, which was
    /// published at `step` or later. The stream was subscribed when the event was committed, and its
    /// client left after that.
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
