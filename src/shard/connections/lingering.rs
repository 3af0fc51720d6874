//! Connections whose side is shut down and whose peer is heard out, of all shards together bounded in number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peer::Peer;
use crate::base::id::ConnId;
use crate::base::slots::Slots;
use crate::driver::Driver;
use crate::shard::Shard;

/// Connections of all shards that linger at the same time.
const LINGERING_MAX: usize = 1024;

/// Those of one shard, and how many all shards have. Where these are too many the shard gives up its own oldest: which
/// connections of other shards are older it does not know.
#[derive(Debug)]
pub(super) struct Lingerers {
    /// In the order in which they began; may name some that have gone.
    order: VecDeque<ConnId>,
    count: usize,
    of_all: Arc<AtomicUsize>,
}

impl Lingerers {
    pub(in crate::shard) fn new(of_all: Arc<AtomicUsize>) -> Lingerers {
        Lingerers { order: VecDeque::new(), count: 0, of_all }
    }

    /// Notes one that begins, and returns the one that has to go for it, if one has to.
    fn begin(&mut self, conn: ConnId, peers: &Slots<Peer>) -> Option<ConnId> {
        let lingers = |conn: ConnId| peers.get(conn).is_some_and(|peer| peer.conn.has_lingered());
        if self.order.len() >= 2 * self.count + KEPT_MIN {
            self.order.retain(|&conn| lingers(conn));
        }
        self.order.push_back(conn);
        self.count += 1;
        if self.of_all.fetch_add(1, Ordering::Relaxed) < LINGERING_MAX {
            return None;
        }
        while let Some(oldest) = self.order.pop_front() {
            if lingers(oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// Notes one that has gone.
    pub(in crate::shard) fn end(&mut self) {
        self.count -= 1;
        self.of_all.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that all have gone.
    pub(in crate::shard) fn clear(&mut self) {
        self.of_all.fetch_sub(std::mem::take(&mut self.count), Ordering::Relaxed);
        self.order.clear();
    }
}

impl Drop for Lingerers {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Names that are kept although they may be of connections that have gone: it is not worth looking through fewer.
const KEPT_MIN: usize = 64;

impl<D: Driver> Shard<D> {
    /// Notes that a connection lingers; where too many do the oldest is closed.
    pub(in crate::shard) fn linger(&mut self, conn: ConnId) {
        let Some(oldest) = self.connections.lingerers.begin(conn, &self.connections.peers) else { return };
        if let Some(peer) = self.connections.peers.get_mut(oldest) {
            peer.conn.stop_lingering();
        }
        if oldest != conn {
            self.act(oldest); // Which closes it, and nothing else.
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
        let of_all = Arc::clone(&servers.shards[0].connections.lingerers.of_all);
        assert!(read(&first).starts_with("HTTP/1.1 400 "));
        assert_eq!((of_all.load(Ordering::Relaxed), servers.shards[0].connections_len()), (1, 1));
        // Others linger elsewhere.
        of_all.fetch_add(LINGERING_MAX - 1, Ordering::Relaxed);
        let _second = servers.request(0, BAD);
        servers.settle();
        let shard = &servers.shards[0];
        assert_eq!(shard.connections_len(), 1, "the first has gone for it");
        assert_eq!(of_all.load(Ordering::Relaxed), LINGERING_MAX);
        assert!(
            shard.connections.peers.ids().all(|conn| conn.generation > 0 || conn.index > 0),
            "the first, not the second"
        );
        // Alone in its shard, it is itself the oldest there.
        of_all.fetch_add(1, Ordering::Relaxed);
        let third = servers.request(1, BAD);
        servers.settle();
        assert!(read(&third).starts_with("HTTP/1.1 400 "));
        assert_eq!(servers.shards[1].connections_len(), 0);
        assert_eq!(of_all.load(Ordering::Relaxed), LINGERING_MAX + 1);
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
