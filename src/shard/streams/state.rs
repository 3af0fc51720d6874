//! The states of a stream. It is live, or it reads the history and waits for its outbox, its turn, or
//! its shard.
//!
//! ```text
//!            its outbox is full, or it resumes            its outbox is empty
//!     Live ───────────────────────────────────► Outbox ─────────────────────────► Turn ──┐
//!      ▲                                          ▲                                 ▲    │ it reads a slice
//!      │                                          └── there is more to read ────────│────┤
//!      │                                                                  the shard │    │
//!      │                                                                has taken   │    │
//!      │                                                     Shard ── more events ──┘    │
//!      │                                                       ▲                         │
//!      │                                                       └─ it is ahead of it ─────┤
//!      └────────────────────── it has met its shard's cursor ────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use crate::base::id::{EventId, Sequence};
use crate::frame::notice::GapReason;
use crate::hub::ChannelId;
use crate::hub::reading::Cursor;

/// A stream's place in the history, which it reads until it is live.
#[derive(Debug)]
pub(in crate::shard) struct Behind {
    pub(in crate::shard) cursor: Cursor,
    pub(in crate::shard) waits_for: WaitsFor,
    /// The reason given in a `gap` if events turn out to be missing.
    pub(in crate::shard) reason: GapReason,
    /// The replay that the client asked for. `caught-up` reports its end.
    pub(super) replay: Option<Replay>,
    /// Channels that the stream was subscribed to meanwhile, in the order of their places. It has not
    /// reached these places, which are at or after the end of the replay.
    pub(super) joins: VecDeque<Join>,
    /// Events up to here were applied before the stream began.
    pub(super) subscribed_at: Sequence,
    /// When it began to read the history.
    pub(in crate::shard) since: Instant,
}

impl Behind {
    /// A stream that reads on from `cursor`. Its shard has taken no less than when the stream began.
    pub(super) fn of_live(cursor: Cursor, now: Instant) -> Behind {
        Behind {
            cursor,
            waits_for: WaitsFor::Outbox,
            reason: GapReason::SlowConsumer,
            replay: None,
            joins: VecDeque::new(),
            subscribed_at: Sequence::START,
            since: now,
        }
    }

    /// The place of the stream's next notice.
    fn next_stop(&self) -> Option<Sequence> {
        let replay = self.replay.map(|replay| replay.until);
        replay.or_else(|| self.joins.front().map(|join| join.at))
    }

    /// Sets the cursor to stop at the next notice.
    pub(super) fn set_stop(&mut self) {
        self.cursor.stop_at(self.next_stop());
    }

    /// Removes and returns the next channel whose place the stream has reached, if any.
    pub(super) fn join_next(&mut self) -> Option<ChannelId> {
        let join = *self.joins.front().filter(|join| self.cursor.place >= join.at)?;
        self.joins.pop_front();
        self.cursor.stop_counting(); // From here on events may reach it in two ways.
        Some(join.channel)
    }

    /// Returns true if and only if the stream has the channel only from a place that it has not reached.
    pub(in crate::shard) fn has_yet_to_join(&self, channel: ChannelId) -> bool {
        self.joins.iter().any(|join| join.channel == channel)
    }

    /// Removes a channel.
    pub(in crate::shard) fn part(&mut self, channel: ChannelId) {
        let before = self.joins.len();
        self.joins.retain(|join| join.channel != channel);
        if self.joins.len() == before {
            self.cursor.part(channel);
        }
        self.set_stop();
    }

    /// Returns true if and only if the stream had the channel when `event` was applied, given that it
    /// has it now.
    pub(in crate::shard) fn had(&self, channel: ChannelId, event: Sequence) -> bool {
        let join = self.joins.iter().find(|join| join.channel == channel);
        join.map_or(self.subscribed_at, |join| join.at) < event
    }
}

/// What a stream that reads the history waits for before its next slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum WaitsFor {
    /// Its outbox has to drain.
    Outbox,
    /// Its slot is in the shard's queue of readers.
    Turn,
    /// It has read events that its shard has yet to take. Its slot is in the shard's list of those.
    Shard,
}

/// The state of a replay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replay {
    /// The place at which it ends.
    pub(in crate::shard) until: Sequence,
    /// That place as an id, if the client has no id yet.
    pub(super) end_id: Option<EventId>,
    pub(in crate::shard) replayed: u64,
    pub(super) is_complete: bool,
}

/// A channel that a stream has from a place that it has not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub(in crate::shard) channel: ChannelId,
    pub(in crate::shard) at: Sequence,
}
