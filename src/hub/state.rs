//! The state behind the hub's lock.

use std::sync::Arc;

use super::budget::Budget;
use super::channel_id::ChannelId;
use super::channels::table::Channels;
use super::epochs::Epochs;
use super::history::store::History;
use super::history::targets::Targets;
use super::options::{Backlog, HubOptions, Retention, START_TICK};
use super::retention::lookout::Lookout;
use super::retention::own_ids::OwnIds;
use super::tally::Tally;
use crate::base::id::Sequence;
use crate::base::queue::Queue;

/// The order of events, the history, and the subscriptions.
#[derive(Debug)]
pub(super) struct State {
    pub(super) epochs: Epochs,
    pub(super) channels: Channels,
    pub(super) targets: Targets,
    pub(super) history: History,
    pub(super) own_ids: OwnIds,
    pub(super) retention: Retention,
    /// The number of applied events.
    pub(super) applied: u64,
    /// How far each shard has taken the order.
    pub(super) cursors: Vec<Sequence>,
    /// The steps of this hold of the lock.
    pub(super) budget: Budget,
    /// Channels that may have become idle.
    pub(super) idle: Lookout,
    /// Channels with too many events, or with a dropped history.
    pub(super) over: Lookout,
    /// Channels of clients that left, with events still to be given up.
    pub(super) leaving: Queue<ChannelId>,
    /// How far the events of the oldest page were given up to make room.
    pub(super) evicted_through: Sequence,
    /// The budget did not suffice for all that must be given up, gathered or sorted.
    pub(super) is_unfinished: bool,
    /// Receiver counts that shards have not completed, in the order of events.
    pub(super) tallies: Queue<(Sequence, Arc<Tally>)>,
    /// How far events were given up for their age.
    pub(super) expired_through: Sequence,
    /// Room for the channels of an event while it is applied.
    pub(super) of_event: Vec<ChannelId>,
    /// The clock as of the last call, in [`TICK`](super::options::TICK)s.
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
            leaving: Queue::default(),
            evicted_through: Sequence::START,
            is_unfinished: false,
            tallies: Queue::default(),
            expired_through: Sequence::START,
            of_event: Vec::new(),
            now: START_TICK,
        }
    }

    /// Returns true if a shard is further behind the head than `backlog` allows.
    pub(super) fn is_behind(&self, backlog: Backlog) -> bool {
        let (slowest, head) = (self.taken_by_all(), self.epochs.head());
        slowest < head
            && (head.0 - slowest.0 > backlog.events_max
                || self.history.bytes_of_pages_after(slowest) > backlog.bytes_max)
    }

    /// Returns how far every shard has taken the order.
    pub(super) fn taken_by_all(&self) -> Sequence {
        self.cursors.iter().copied().min().unwrap_or(Sequence::START)
    }
}
