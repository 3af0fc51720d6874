//! Batches on their way to the log. They wait while shards are behind, then get a ticket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::tickets::TicketParts;
use super::{Form, Submission, Waiting};
use crate::base::id::{ConnId, EventId};
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::Tally;
use crate::log::Ticket;
use crate::shard::Shard;

/// Most batches of one shard that the log may have. It is below the capacity of the shard's mailbox, so
/// every outcome has room.
pub(in crate::shard) const BATCHES_UNDER_WAY_MAX: usize = 8192;

/// The batches of this shard that the log has.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    pub(super) under_way: HashMap<Ticket, UnderWay>,
    /// Batches that were applied and whose receivers are being counted.
    pub(super) counting: Vec<(Ticket, EventId, Arc<Tally>)>,
}

/// A batch that the log has, and the request that waits for its outcome.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) conn: ConnId,
    pub(super) form: Form,
}

impl Tickets {
    /// Returns true if and only if a count is finished that an answer waits for.
    pub(super) fn has_settled(&self) -> bool {
        self.counting.iter().any(|(_, _, tally)| tally.total().is_some())
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= BATCHES_UNDER_WAY_MAX
    }
}

impl<D: Driver> Shard<D> {
    /// Appends a batch to the log, or queues it while shards are behind.
    pub(in crate::shard) fn publish_found(&mut self, conn: ConnId, submission: Submission) {
        if self.drain.is_on() {
            let problem = Problem::unavailable("the server is draining", Duration::from_secs(1));
            return self.refuse_batch(conn, submission.form, problem);
        }
        if self.core.hub.exceeds_channels_max(&submission.batch) {
            let detail = "the server has as many channels as it keeps; publish to one that exists, or later";
            return self.refuse_batch(conn, submission.form, Problem::too_many(detail, self.options.retry));
        }
        let serial = self.new_serial();
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let request = peer.open_request.get_or_insert_default();
        if self.publishing.tickets.is_full() || self.core.hub.is_behind() {
            request.waiting = Some(Waiting::Shards(submission));
            self.publishing.paused.push_back(conn);
            self.counters.publish_pauses += 1;
            return;
        }
        let Submission { batch, form, reservation, .. } = submission;
        let parts = TicketParts { shard: self.options.number, serial };
        let ticket = if reservation.is_some() { parts.keyed() } else { parts }.ticket();
        self.publishing.tickets.under_way.insert(ticket, UnderWay { conn, form });
        request.ticket = Some(ticket);
        if let Some(reservation) = reservation {
            reservation.hand_over(ticket); // From here on the outcome of the log settles them.
        }
        self.core.log.append(batch, ticket);
    }

    /// Publishes queued batches until one would have to wait again.
    pub(in crate::shard) fn resume_paused(&mut self) {
        for _ in 0..self.publishing.paused.len() {
            if self.core.hub.is_behind() || self.publishing.tickets.is_full() {
                return;
            }
            let Some(conn) = self.publishing.paused.pop_front() else { return };
            let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
            let paused = peer.open_request.as_mut().and_then(|request| request.end_wait_for_shards());
            // A request that timed out was answered, and its batch is dropped.
            if let Some(submission) = paused.filter(|_| peer.conn.awaits_answer()) {
                self.publish_found(conn, submission);
                self.act(conn);
            }
        }
    }
}
