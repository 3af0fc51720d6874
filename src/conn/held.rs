//! The memory that a connection holds for requests and answers, and how a shard without room gets it back.

use crate::base::account::Held;
use crate::conn::state::{CloseReason, Context};
use crate::conn::{Connection, Phase, Sending};
use crate::http::Problem;

impl Connection {
    /// Bytes that are held for requests that have not come whole and answers that are not read; of answers that come to
    /// `small_bytes` at the most only those for which the socket has no room.
    #[must_use]
    pub fn held_bytes(&self, small_bytes: usize) -> usize {
        let Phase::Exchange(exchange) = &self.phase else { return 0 };
        let waiting = exchange.out().bytes();
        let is_unread = self.sending == Sending::Full || waiting > small_bytes;
        exchange.read_bytes() + if is_unread { waiting } else { 0 }
    }

    /// Where what is held is counted; given back with the exchange of requests and answers. `None` where there is none.
    pub fn held_mut(&mut self) -> Option<&mut Option<Box<Held>>> {
        match &mut self.phase {
            Phase::Exchange(exchange) => Some(exchange.held_mut()),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Refuses what there is no room for: a request that has not come whole with `problem`, an answer that is not read by
    /// closing. Returns true if and only if that changed anything.
    pub fn refuse_held(&mut self, context: &Context<'_>, problem: &Problem) -> bool {
        let Phase::Exchange(exchange) = &mut self.phase else { return false };
        if exchange.refuse_unfinished(context, problem) {
            return true;
        }
        let is_unread = !exchange.out().is_empty();
        if is_unread {
            self.close(CloseReason::TooSlow);
        }
        is_unread
    }
}
