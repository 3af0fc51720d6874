//! A connection as its shard knows it: the state machine, its place among the hub's streams, and what it waits for.

use std::collections::VecDeque;
use std::time::Instant;

use smallvec::SmallVec;

use super::publish::Publishing;
use super::rooms::Subscriptions;
use crate::base::id::{ClientId, EventId, Sequence};
use crate::conn::Connection;
use crate::frame::notice::GapReason;
use crate::hub::ChannelId;
use crate::hub::reader::Cursor;

/// One connection of a shard. There may be a million: what few of them need hangs in a box.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) conn: Connection,
    /// The channels of the stream in the order they were named, and among them what its user, and it alone, is sent by;
    /// none for what is not, or no longer, a stream.
    pub(super) subscriptions: Subscriptions,
    /// What the stream has yet to read from the history; `None` where it is live.
    pub(super) behind: Option<Box<Behind>>,
    /// What the connection has asked other shards and the log, and not yet been told.
    pub(super) publishing: Option<Box<Publishing>>,
    secret: Secret,
    /// When the stream began, in seconds since the shard did.
    pub(super) began_s: u32,
    /// Which of the shard's listeners took it.
    pub(super) listener: u16,
    /// No event can reach it in two ways, so that it can be counted how many it has missed.
    pub(super) is_counting: bool,
    /// It is a stream that has not ended.
    pub(super) is_stream: bool,
    /// It was seen to as an idle stream since the timer wheel named it last, so that the wheel names it in time.
    pub(super) is_timed: bool,
    /// It stands in the shard's list of streams that have something to say.
    pub(super) is_marked: bool,
    /// It stands in the shard's queue of connections that had more to do than they were given.
    pub(super) is_unfinished: bool,
    /// A receive brought much since its deadline was due last.
    pub(super) had_much: bool,
    /// How often it was let be though its deadline was due.
    pub(super) extra_looks: u8,
    /// It stands in one of the shard's queues of streams that read the history.
    pub(super) is_queued: bool,
    /// It was accepted beyond the limit of connections: it is told so, and nothing else.
    pub(super) is_over_limit: bool,
}

impl Peer {
    pub(super) fn new(now: Instant, listener: usize, is_over_limit: bool) -> Peer {
        let mut conn = Connection::new(now);
        if is_over_limit {
            conn.turn_away();
        }
        Peer {
            conn,
            subscriptions: Subscriptions::new(),
            behind: None,
            publishing: None,
            secret: Secret::default(),
            began_s: 0,
            listener: u16::try_from(listener).expect("there are few listeners"),
            is_counting: false,
            is_stream: false,
            is_timed: false,
            is_marked: false,
            is_unfinished: false,
            had_much: false,
            extra_looks: 0,
            is_queued: false,
            is_over_limit,
        }
    }

    /// Names the stream.
    pub(super) fn set_client(&mut self, client: ClientId) {
        self.secret = Secret::of(client);
    }

    /// Returns true if and only if it is the stream of this name. How long that takes says nothing of the secret.
    pub(super) fn is_client(&self, client: ClientId) -> bool {
        self.is_stream & self.secret.is(Secret::of(client))
    }

    /// Its targets: its channels, and those of its user and of itself.
    pub(super) fn targets(&self) -> SmallVec<[ChannelId; 8]> {
        self.subscriptions.iter().map(|subscription| subscription.channel).collect()
    }

    /// Its targets, but those that it has yet to come to.
    pub(super) fn targets_now(&self) -> SmallVec<[ChannelId; 8]> {
        let mut targets = self.targets();
        if let Some(behind) = &self.behind {
            targets.retain(|channel| behind.joins.iter().all(|join| join.channel != *channel));
        }
        targets
    }
}

/// The random part of a client's id, in words: as one number it would have to be aligned to 16 bytes.
#[derive(Clone, Copy, Default)]
struct Secret([u64; 2]);

impl Secret {
    fn of(client: ClientId) -> Secret {
        let bytes = client.secret.to_ne_bytes();
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().expect("eight bytes"));
        Secret([word(low), word(high)])
    }

    /// Compares all bits, wherever the first difference is.
    fn is(self, other: Secret) -> bool {
        (self.0[0] ^ other.0[0]) | (self.0[1] ^ other.0[1]) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Peer {
    /// Returns true if and only if it is a live stream that waits for nothing but events and time, and the timer wheel
    /// names it no later than it wants to hear of that: what was written only puts that off.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled_once_idle() && self.conn.is_idle_stream()
    }

    /// As [`Peer::is_settled`], of a stream that is known to wait for nothing.
    #[inline]
    pub(super) fn is_settled_once_idle(&self) -> bool {
        self.behind.is_none() && self.is_timed
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
    /// Channels that it was subscribed to meanwhile and that it has yet to come to, in the order of their places, which
    /// lie at or behind the end of the replay.
    pub(super) joins: VecDeque<Join>,
    /// Events up to here were applied before the stream began.
    pub(super) subscribed_at: Sequence,
    /// When it began to read the history.
    pub(super) since: Instant,
}

impl Behind {
    /// A stream that reads on from `cursor`, which its shard has not taken less than when the stream began.
    pub(super) fn of_live(cursor: Cursor, now: Instant) -> Behind {
        Behind {
            cursor,
            reason: GapReason::SlowConsumer,
            replay: None,
            joins: VecDeque::new(),
            subscribed_at: Sequence::START,
            since: now,
        }
    }

    /// Where the stream is to be told something before it reads on.
    fn next_stop(&self) -> Option<Sequence> {
        let replay = self.replay.map(|replay| replay.until);
        replay.or_else(|| self.joins.front().map(|join| join.at))
    }

    /// Has the cursor stop where the stream is to be told something next.
    pub(super) fn set_stop(&mut self) {
        self.cursor.stop_at(self.next_stop());
    }

    /// Goes on with the next channel that the stream has come to, if it has come to one, and returns it.
    pub(super) fn join_next(&mut self) -> Option<ChannelId> {
        let join = *self.joins.front().filter(|join| self.cursor.place >= join.at)?;
        self.joins.pop_front();
        self.cursor.stop_counting(); // Events may reach it in two ways from here on.
        Some(join.channel)
    }

    /// Goes on without a channel.
    pub(super) fn part(&mut self, channel: ChannelId) {
        let before = self.joins.len();
        self.joins.retain(|join| join.channel != channel);
        if self.joins.len() == before {
            self.cursor.part(channel);
        }
        self.set_stop();
    }

    /// Returns true if and only if the stream had the channel when `event` was applied, if it has it now.
    pub(super) fn had(&self, channel: ChannelId, event: Sequence) -> bool {
        let join = self.joins.iter().find(|join| join.channel == channel);
        join.map_or(self.subscribed_at, |join| join.at) < event
    }
}

/// What a replay has come to so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replay {
    /// Its last place.
    pub(super) until: Sequence,
    /// That place as an id, where the client has none yet.
    pub(super) end_id: Option<EventId>,
    pub(super) replayed: u64,
    pub(super) is_complete: bool,
}

/// A channel whose events are a stream's from a place on that the stream has yet to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) channel: ChannelId,
    pub(super) at: Sequence,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slots::Slots;
    use crate::hub::index::Index;

    /// With what the slab keeps of each, this is most of what an idle stream costs.
    #[test]
    fn a_connection_takes_little_memory() {
        assert!(size_of::<Peer>() <= 168, "{} bytes", size_of::<Peer>());
        assert!(Slots::<Peer>::slot_bytes() <= 176, "{} bytes", Slots::<Peer>::slot_bytes());
    }

    #[test]
    fn a_stream_of_two_channels_has_them_in_place() {
        let (mut peer, mut index) = (Peer::new(Instant::now(), 0, false), Index::default());
        (0..2).for_each(|slot| peer.subscriptions.push(index.insert(ChannelId::ALL, slot, 0)));
        assert!(!peer.subscriptions.spilled());
    }
}
