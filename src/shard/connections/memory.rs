//! What is held for those whose bodies have not come whole and whose answers are not read: counted for all shards together
//! in one account (`--body-memory`), and refused where that is full.

use std::sync::Arc;
use std::time::Duration;

use super::Connections;
use crate::base::account::Held;
use crate::base::id::ConnId;
use crate::conn::Context;
use crate::driver::Driver;
use crate::http::{Problem, Response};
use crate::shard::Shard;
use crate::shard::core::Core;

/// When to try again: what is held is given back as bodies end and answers are read, at the latest by their time limits.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is larger is counted before it is queued, and refused where there is no room; of smaller ones only what
/// stays unread.
const SMALL_ANSWER_BYTES: usize = 16 * 1024;

impl<D: Driver> Shard<D> {
    /// Counts what a connection holds now. Where there is no room for it the request is refused; returns true if and only
    /// if the connection may have something to do for that.
    pub(super) fn count_held(&mut self, conn: ConnId) -> bool {
        let Some(peer) = self.connections.peers.get(conn) else { return false };
        let bytes = peer.conn.held_bytes(SMALL_ANSWER_BYTES);
        if self.may_hold(conn, bytes) {
            return false;
        }
        let Shard { connections: Connections { peers, .. }, options, common, now, date, .. } = self;
        let context = Context { now: *now, date, options: &options.conn, common };
        peers.get_mut(conn).is_some_and(|peer| peer.conn.refuse_held(&context, &refusal("")))
    }

    /// What is to be answered instead of a large answer that there is no room for.
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
