//! Memory held for unfinished bodies and unread answers. One account counts it for all shards
//! (`--body-memory`); requests beyond its bound are refused.

use std::sync::Arc;
use std::time::Duration;

use super::Connections;
use crate::base::account::Held;
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::http::{Problem, Response};
use crate::shard::Shard;
use crate::shard::core::Core;

/// The `Retry-After` of a refusal. The memory is free once bodies end and answers are read, at the
/// latest after their timeouts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A larger answer is counted before it is queued, and refused if there is no room. A smaller one is
/// counted by its unread rest.
const SMALL_ANSWER_BYTES: usize = 16 * 1024;

impl<D: Driver> Shard<D> {
    /// Updates what a connection holds, and refuses its request if there is no room. Returns true if and
    /// only if the refusal may give the connection something to do.
    pub(super) fn count_held(&mut self, conn: ConnId) -> bool {
        let Some(peer) = self.connections.peers.get(conn) else { return false };
        let bytes = peer.conn.held_bytes(SMALL_ANSWER_BYTES);
        if self.may_hold(conn, bytes) {
            return false;
        }
        let context = self.clock.context(&self.options.conn, &self.common);
        let peer = self.connections.peers.get_mut(conn);
        peer.is_some_and(|peer| peer.conn.refuse_held(&context, &refusal("")))
    }

    /// The refusal that replaces a large answer for which there is no room; `None` if the answer fits.
    pub(in crate::shard) fn unless_it_fits(
        &mut self,
        conn: ConnId,
        response: &Response<'_>,
    ) -> Option<Response<'static>> {
        let bytes = response.body().len();
        if bytes <= SMALL_ANSWER_BYTES {
            return None;
        }
        let held =
            self.connections.peers.get(conn).map_or(0, |peer| peer.conn.held_bytes(SMALL_ANSWER_BYTES));
        let is_held = self.may_hold(conn, held + bytes);
        let done = "; what the request asked for may have been done";
        (!is_held).then(|| refusal(done).into_response())
    }

    fn may_hold(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Shard { core: Core { account, .. }, connections: Connections { peers, .. }, driver, .. } = self;
        let Some(held) = peers.get_mut(conn).and_then(|peer| peer.conn.held_mut()) else { return true };
        match held {
            Some(held) => held.set(bytes),
            None if bytes == 0 => true,
            None => {
                let new = Held::new(Arc::clone(account), driver.peer_address(conn));
                held.insert(Box::new(new)).set(bytes)
            }
        }
    }
}

fn refusal(more: &str) -> Problem {
    let detail =
        format!("the server holds as much of bodies and answers as it may, or as one address may{more}");
    Problem::unavailable(detail, RETRY_AFTER)
}
