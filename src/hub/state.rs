//! What stands behind the hub's lock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use super::channel_id::ChannelId;
use super::channels::table::Channels;
use super::epochs::Epochs;
use super::history::store::History;
use super::history::targets::Targets;
use super::options::{Backlog, HubOptions, Retention};
use super::retention::lookout::Lookout;
use super::retention::own_ids::OwnIds;
use super::tally::Tally;
use crate::base::id::Sequence;

/// The order, the history, and who subscribes to what.
#[derive(Debug)]
pub(super) struct State {
    pub(super) epochs: Epochs,
    pub(super) channels: Channels,
    pub(super) targets: Targets,
    pub(super) history: History,
    pub(super) own_ids: OwnIds,
    pub(super) retention: Retention,
    /// How many events were applied.
    pub(super) applied: u64,
    /// How far each shard has taken the order.
    pub(super) cursors: Vec<Sequence>,
    /// What may still be done under this hold of the lock.
    pub(super) budget: Budget,
    /// Channels that may have become idle.
    pub(super) idle: Lookout,
    /// Channels with more events than they may have.
    pub(super) over: Lookout,
    /// Channels of clients that are gone, of whose events some are yet to be given up.
    pub(super) leaving: VecDeque<ChannelId>,
    /// How far the events of the oldest page were given up for want of room.
    pub(super) evicted_through: Sequence,
    /// The budget did not suffice for all that was to be given up or put in order.
    pub(super) is_unfinished: bool,
    /// Counts of receivers that shards have yet to make, in order.
    pub(super) tallies: VecDeque<(Sequence, Arc<Tally>)>,
    /// How far events were given up for their age.
    pub(super) expired_through: Sequence,
    /// The clock as of the last call, in [`TICK`]s.
    pub(super) now: u32,
}

impl State {
    pub(super) fn new(options: &HubOptions) -> State {
        State {
            epochs: Epochs::default(),
            channels: Channels::new(options.channels_max),
            targets: Targets::new(),
            history: History::new(options.retention.segment_bytes()),
            own_ids: OwnIds::default(),
            retention: options.retention,
            applied: 0,
            cursors: vec![Sequence::START; options.shards],
            budget: Budget::new(options.hold_steps),
            idle: Lookout::default(),
            over: Lookout::default(),
            leaving: VecDeque::new(),
            evicted_through: Sequence::START,
            is_unfinished: false,
            tallies: VecDeque::new(),
            expired_through: Sequence::START,
            now: 0,
        }
    }

    /// Returns true if and only if a shard is further behind the head than `backlog` allows.
    pub(super) fn is_behind(&self, backlog: Backlog) -> bool {
        let (slowest, head) = (self.taken_by_all(), self.epochs.head());
        slowest < head
            && (head.0 - slowest.0 > backlog.events_max
                || self.history.bytes_of_pages_after(slowest) > backlog.bytes_max)
    }

    /// How far every shard has taken the order.
    pub(super) fn taken_by_all(&self) -> Sequence {
        self.cursors.iter().copied().min().unwrap_or(Sequence::START)
    }
}
