//! A connection as its shard knows it: the state machine, its subscriptions, and what it waits for.

use std::time::Instant;

use smallvec::SmallVec;

use crate::base::id::ClientId;
use crate::conn::Connection;
use crate::hub::ChannelId;
use crate::shard::publishing::OpenRequest;
use crate::shard::streams::Subscriptions;
use crate::shard::streams::state::Behind;

/// One connection of a shard. There may be a million, so what few of them need is boxed.
#[derive(Debug)]
pub(in crate::shard) struct Peer {
    pub(in crate::shard) conn: Connection,
    /// The channels of the stream in the order in which they were named, and the targets of its user and
    /// of itself. Empty if there is no stream, or it has ended.
    pub(in crate::shard) subscriptions: Subscriptions,
    /// The stream's place in the history; `None` if it is live.
    pub(in crate::shard) behind: Option<Box<Behind>>,
    /// The open request that waits for other shards or the log.
    pub(in crate::shard) open_request: Option<Box<OpenRequest>>,
    secret: Secret,
    /// When the stream began, in seconds since the shard did.
    pub(in crate::shard) began_s: u32,
    /// The listener that accepted it.
    pub(in crate::shard) listener: u16,
    /// No event can reach it in two ways, so the events it misses can be counted.
    pub(in crate::shard) is_counting: bool,
    /// It is a stream that has not ended.
    pub(in crate::shard) is_stream: bool,
    /// It was settled as an idle stream since the timer wheel last named it, so its timer is armed in
    /// time.
    pub(super) is_timed: bool,
    /// It is in the shard's list of streams to send to.
    pub(in crate::shard) is_marked: bool,
    /// It is in the shard's queue of connections that have used up their actions.
    pub(in crate::shard) is_unfinished: bool,
    /// A receive was large since its deadline was last due.
    pub(super) had_much: bool,
    /// How often it was spared although its deadline was due.
    pub(super) extra_looks: u8,
    /// It was accepted beyond the limit of connections: subscribes, publishes and changes are refused.
    pub(in crate::shard) is_over_limit: bool,
}

impl Peer {
    pub(in crate::shard) fn new(now: Instant, listener: usize, is_over_limit: bool) -> Peer {
        let mut conn = Connection::new(now);
        if is_over_limit {
            conn.turn_away();
        }
        Peer {
            conn,
            subscriptions: Subscriptions::new(),
            behind: None,
            open_request: None,
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
            is_over_limit,
        }
    }

    /// Sets the stream's client id.
    pub(in crate::shard) fn set_client(&mut self, client: ClientId) {
        self.secret = Secret::of(client);
    }

    /// Returns true if and only if it is the stream with this id. The time that takes does not depend on
    /// the secret.
    pub(in crate::shard) fn is_client(&self, client: ClientId) -> bool {
        self.is_stream & self.secret.is(Secret::of(client))
    }

    /// Its targets: its channels, and those of its user and of itself.
    pub(in crate::shard) fn targets(&self) -> SmallVec<[ChannelId; 8]> {
        self.subscriptions.iter().map(|subscription| subscription.channel).collect()
    }

    /// Its targets, without channels that it joins at a later place.
    pub(in crate::shard) fn targets_now(&self) -> SmallVec<[ChannelId; 8]> {
        let mut targets = self.targets();
        if let Some(behind) = &self.behind {
            targets.retain(|channel| !behind.has_yet_to_join(*channel));
        }
        targets
    }
}

/// The random part of a client's id, in words: a `u128` would be aligned to 16 bytes.
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
    /// Returns true if and only if it is a live stream that waits only for events and time, with its
    /// timer armed in time. A write only puts its deadline off.
    #[inline]
    pub(in crate::shard) fn is_settled(&self) -> bool {
        self.is_settled_once_idle() && self.conn.is_idle_stream()
    }

    /// As [`Peer::is_settled`], for a stream known to be idle.
    #[inline]
    pub(in crate::shard) fn is_settled_once_idle(&self) -> bool {
        self.behind.is_none() && self.is_timed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slots::Slots;
    use crate::shard::streams::index::Index;

    /// With the overhead of the slab this is most of the cost of an idle stream.
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
