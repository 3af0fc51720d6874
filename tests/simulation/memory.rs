//! The memory of one life of the server: an allocator counts it, and the bounds of the world allow so
//! much of it.
//!
//! The hub counts its own bytes, and [`Rules::held_bytes_max`] bounds them. Here everything else is
//! bounded: the bytes that the server has allocated since it started, without those that the hub counts.

use downpour::shard::core::Core;

use crate::allocated;
use crate::rules::Rules;

/// An idempotency key: 88 bytes in a list and 24 in a table, both of which double, and at most two
/// small blocks of its batch.
const KEY_BYTES: usize = 320;

/// A shard's lists of runs, slots and counters, which keep the room that they once had.
const SHARD_BYTES: usize = 16 * 1024;

/// A shard keeps this many segments that it used in the last second, whatever the history gives up.
const RECENT_SEGMENTS: usize = 8;

/// A connection's state, its subscriptions, and its places in lists and tables.
const CONNECTION_BYTES: usize = 2 * 1024;

/// A head that has not come to its end.
const HEAD_BYTES: usize = 16 * 1024;

/// The details of channels lie in parts of 1024, each with 96 bytes. The hub counts only those that it
/// uses, and a world needs one part.
const DETAILS_BYTES: usize = 96 * 1024;

/// Anything else: lists of the hub have parts of up to a thousand places, and some count only the places
/// that they use. Slow growth below this is found by the worlds in which everyone leaves many times.
const OTHER_BYTES: usize = 64 * 1024;

/// What a life of the server has allocated.
pub(crate) struct Memory {
    core: Core,
    /// The server's bytes when it had started, less those that the hub counted.
    started_with: i64,
    /// The most idempotency keys and connections so far: tables do not shrink.
    keys: usize,
    connections: usize,
}

impl Memory {
    /// The server has just started.
    pub(crate) fn new(core: Core) -> Memory {
        let mut memory = Memory { core, started_with: 0, keys: 0, connections: 0 };
        memory.started_with = memory.beside_history();
        memory
    }

    /// The bytes allocated since the start, without those that the hub counts.
    pub(crate) fn beside_history(&self) -> i64 {
        let counted = i64::try_from(self.core.hub.held_bytes()).expect("it fits in memory");
        allocated::server_bytes() - counted - self.started_with
    }

    /// Checks what is held while there are clients. Returns it.
    pub(crate) fn check(&mut self, rules: &Rules, connections: usize) -> i64 {
        self.keys = self.keys.max(self.core.keys.count());
        self.connections = self.connections.max(connections);
        let queue = rules.shard.conn.outbox.bytes_max + rules.frame_bytes_max();
        // An unfinished body and an unread answer are counted. A body that has come is parsed, and its
        // batch may have to wait: until another has the key, or a shard is less far behind.
        let request = 2 * rules.request_bytes_max();
        let shard = RECENT_SEGMENTS * rules.segment_bytes_max();
        let most = self.left_bytes_max(rules)
            + self.core.account.held()
            + connections * (HEAD_BYTES + queue)
            + rules.publishers * request
            + rules.hub.shards * shard;
        let held = self.beside_history();
        assert!(
            held <= i64::try_from(most).expect("few bytes"),
            "{held} bytes beside the history, of {most}"
        );
        held
    }

    /// Checks what is held when all clients have left, and all that is kept for some time was given up.
    /// Returns it.
    pub(crate) fn check_left(&self, rules: &Rules) -> i64 {
        let (held, most) = (self.beside_history(), self.left_bytes_max(rules));
        assert!(held <= i64::try_from(most).expect("few bytes"), "{held} bytes without clients, of {most}");
        assert_eq!(self.core.account.held(), 0, "nothing is held for a client that has left");
        held
    }

    fn left_bytes_max(&self, rules: &Rules) -> usize {
        self.keys * KEY_BYTES
            + self.connections * CONNECTION_BYTES
            + rules.hub.shards * SHARD_BYTES
            + DETAILS_BYTES
            + OTHER_BYTES
    }
}
