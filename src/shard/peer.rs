//! A connection as its shard knows it: the state machine, its place among the hub's streams, and what it waits for.

use std::time::Instant;

use smallvec::SmallVec;

use super::publish::Publishing;
use crate::base::id::Sequence;
use crate::conn::Connection;
use crate::frame::notice::GapReason;
use crate::hub::index::Subscription;
use crate::hub::reader::Cursor;

/// One connection of a shard.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) conn: Connection,
    /// The channels of the stream; none for what is not, or no longer, a stream.
    pub(super) subscriptions: SmallVec<[Subscription; 1]>,
    /// What the stream has yet to read from the history; `None` where it is live.
    pub(super) behind: Option<Box<Behind>>,
    /// What the connection has published and not yet been told of.
    pub(super) publishing: Option<Box<Publishing>>,
    /// No event can reach it in two ways, so that it can be counted how many it has missed.
    pub(super) is_counting: bool,
    /// Events up to here were applied before it subscribed.
    pub(super) subscribed_at: Sequence,
    /// When the timer wheel names it next; it may be looked at earlier than it needs.
    pub(super) armed: Option<Instant>,
    /// It is a stream that has not ended.
    pub(super) is_stream: bool,
    /// It stands in the shard's list of streams that have something to say.
    pub(super) is_marked: bool,
    /// It stands in one of the shard's queues of streams that read the history.
    pub(super) is_queued: bool,
    /// Which of the shard's listeners took it.
    pub(super) listener: usize,
    /// It was accepted beyond the limit of connections: it is told so, and nothing else.
    pub(super) is_over_limit: bool,
}

impl Peer {
    pub(super) fn new(now: Instant, listener: usize, is_over_limit: bool) -> Peer {
        Peer {
            conn: Connection::new(now),
            subscriptions: SmallVec::new(),
            behind: None,
            publishing: None,
            is_counting: false,
            subscribed_at: Sequence::START,
            armed: None,
            is_stream: false,
            is_marked: false,
            is_queued: false,
            listener,
            is_over_limit,
        }
    }
}

/// A stream's place in the history, which it reads until it is live.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) cursor: Cursor,
    /// Why events may turn out to be missing.
    pub(super) reason: GapReason,
    /// The replay that the client asked for by its last event id; its end is told.
    pub(super) replay: Option<Replay>,
    /// When it began to read the history.
    pub(super) since: Instant,
}

/// What a replay has come to so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replay {
    pub(super) replayed: u64,
    pub(super) is_complete: bool,
}
