//! Connections that have shut their side down and still read from the peer. Their number is bounded for
//! all shards together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peer::Peer;
use crate::base::id::ConnId;
use crate::base::slots::Slots;
use crate::driver::Driver;
use crate::shard::Shard;

/// Most lingering connections of all shards.
const LINGERING_MAX: usize = 1024;

/// The lingering connections of one shard, and the number of all shards. Beyond the bound a shard closes
/// its own oldest: it does not know which connections of other shards are older.
#[derive(Debug)]
pub(super) struct Lingerers {
    /// In the order in which they began. Some may have gone.
    order: VecDeque<ConnId>,
    count: usize,
    all_count: Arc<AtomicUsize>,
}

impl Lingerers {
    pub(in crate::shard) fn new(all_count: Arc<AtomicUsize>) -> Lingerers {
        Lingerers { order: VecDeque::new(), count: 0, all_count }
    }

    /// Adds a connection. Returns the one to close in its place, if the bound is reached.
    fn begin(&mut self, conn: ConnId, peers: &Slots<Peer>) -> Option<ConnId> {
        let lingers = |conn: ConnId| peers.get(conn).is_some_and(|peer| peer.conn.has_lingered());
        if self.order.len() >= 2 * self.count + KEPT_MIN {
            self.order.retain(|&conn| lingers(conn));
        }
        self.order.push_back(conn);
        self.count += 1;
        if self.all_count.fetch_add(1, Ordering::Relaxed) < LINGERING_MAX {
            return None;
        }
        while let Some(oldest) = self.order.pop_front() {
            if lingers(oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// Removes one that has gone.
    pub(in crate::shard) fn end(&mut self) {
        self.count -= 1;
        self.all_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes all.
    pub(in crate::shard) fn clear(&mut self) {
        self.all_count.fetch_sub(std::mem::take(&mut self.count), Ordering::Relaxed);
        self.order.clear();
    }
}

impl Drop for Lingerers {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Entries of `order` below which it is not searched for connections that have gone.
const KEPT_MIN: usize = 64;

impl<D: Driver> Shard<D> {
    /// Notes that a connection lingers. Beyond the bound the oldest is closed.
    pub(in crate::shard) fn linger(&mut self, conn: ConnId) {
        let Some(oldest) = self.connections.lingerers.begin(conn, &self.connections.peers) else { return };
        if let Some(peer) = self.connections.peers.get_mut(oldest) {
            peer.conn.stop_lingering();
        }
        if oldest != conn {
            self.act(oldest); // It is closed.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::tests::{Servers, read};

    const BAD: &str = "nonsense\r\n\r\n";

    #[test]
    fn the_oldest_that_lingers_goes_where_too_many_do() {
        let mut servers = Servers::new(None);
        let first = servers.request(0, BAD);
        servers.settle();
        let all_count = Arc::clone(&servers.shards[0].connections.lingerers.all_count);
        assert!(read(&first).starts_with("HTTP/1.1 400 "));
        assert_eq!((all_count.load(Ordering::Relaxed), servers.shards[0].connections_len()), (1, 1));
        // As if others lingered in other shards.
        all_count.fetch_add(LINGERING_MAX - 1, Ordering::Relaxed);
        let _second = servers.request(0, BAD);
        servers.settle();
        let shard = &servers.shards[0];
        assert_eq!(shard.connections_len(), 1, "the first has gone for it");
        assert_eq!(all_count.load(Ordering::Relaxed), LINGERING_MAX);
        assert!(
            shard.connections.peers.ids().all(|conn| conn.generation > 0 || conn.index > 0),
            "the first, not the second"
        );
        // Alone in its shard, the new connection is itself the oldest there.
        all_count.fetch_add(1, Ordering::Relaxed);
        let third = servers.request(1, BAD);
        servers.settle();
        assert!(read(&third).starts_with("HTTP/1.1 400 "));
        assert_eq!(servers.shards[1].connections_len(), 0);
        assert_eq!(all_count.load(Ordering::Relaxed), LINGERING_MAX + 1);
    }

    #[test]
    fn names_of_those_that_have_gone_are_not_kept_for_ever() {
        let mut servers = Servers::new(None);
        let _old = servers.request(0, BAD);
        for _ in 0..10 * KEPT_MIN {
            let client = servers.request(0, BAD);
            servers.settle();
            drop(client);
        }
        servers.settle();
        let lingerers = &servers.shards[0].connections.lingerers;
        let bound = 2 * lingerers.count + KEPT_MIN;
        assert!(
            lingerers.order.len() <= bound.max(2 * KEPT_MIN),
            "{} of {}",
            lingerers.order.len(),
            lingerers.count
        );
    }
}
