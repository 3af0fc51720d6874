//! The memory that a connection holds for requests and answers, and how a shard without room gets it
//! back.

use crate::base::account::Held;
use crate::conn::state::{CloseReason, Context};
use crate::conn::{Connection, Phase, Sending};
use crate::http::Problem;

impl Connection {
    /// Bytes that are held for incomplete requests and unread answers. Answers of at most `small_bytes`
    /// in total count only if the socket is full.
    #[must_use]
    pub fn held_bytes(&self, small_bytes: usize) -> usize {
        let Phase::Exchange(exchange) = &self.phase else { return 0 };
        let waiting = exchange.out().bytes();
        let is_unread = self.sending == Sending::Full || waiting > small_bytes;
        exchange.read_bytes() + if is_unread { waiting } else { 0 }
    }

    /// The account of the held bytes. It is settled when the exchange of requests and answers ends.
    /// `None` without such an exchange.
    pub fn held_mut(&mut self) -> Option<&mut Option<Box<Held>>> {
        match &mut self.phase {
            Phase::Exchange(exchange) => Some(exchange.held_mut()),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Frees memory: an incomplete request is answered with `problem`, an unread answer closes the
    /// connection. Returns true if either happened.
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
