//! Batches on their way to the log: they wait while shards are behind, and have a ticket from then on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::apply::TicketParts;
use super::{Form, Submission, Waiting};
use crate::base::id::{ConnId, EventId};
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::Tally;
use crate::log::Ticket;
use crate::shard::Shard;

/// Batches that the log may have of one shard; below what its mailbox holds, so that every outcome finds room.
pub(in crate::shard) const BATCHES_UNDER_WAY_MAX: usize = 8192;

/// The batches that the log has of this shard.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    pub(super) under_way: HashMap<Ticket, UnderWay>,
    /// Batches that were applied, whose receivers are being counted.
    pub(super) counting: Vec<(Ticket, EventId, Arc<Tally>)>,
}

/// A batch that the log has, and who is told of its outcome.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) conn: ConnId,
    pub(super) form: Form,
}

impl Tickets {
    /// Returns true if and only if a count is complete that an answer waits for.
    pub(super) fn has_settled(&self) -> bool {
        self.counting.iter().any(|(_, _, tally)| tally.total().is_some())
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= BATCHES_UNDER_WAY_MAX
    }
}

impl<D: Driver> Shard<D> {
    /// Appends a batch to the log, or has it wait while shards are behind.
    pub(in crate::shard) fn publish_found(&mut self, conn: ConnId, submission: Submission) {
        if self.drain.is_on() {
            let problem = Problem::unavailable("the server is draining", Duration::from_secs(1));
            return self.refuse_batch(conn, submission.form, problem);
        }
        if self.core.hub.exceeds_channels_max(&submission.batch) {
            let detail = "the server has as many channels as it keeps; publish to one that exists, or later";
            return self.refuse_batch(conn, submission.form, Problem::too_many(detail, self.options.retry));
        }
        let serial = self.take_serial();
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
            reservation.hand_over(ticket); // From here on it is the log's word that counts.
        }
        self.core.log.append(batch, ticket);
    }

    /// Publishes what waited, unless it would have to wait again.
    pub(in crate::shard) fn resume_paused(&mut self) {
        for _ in 0..self.publishing.paused.len() {
            if self.core.hub.is_behind() || self.publishing.tickets.is_full() {
                return;
            }
            let Some(conn) = self.publishing.paused.pop_front() else { return };
            let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
            let paused = peer.open_request.as_mut().and_then(|request| request.take_for_shards());
            // A request whose time ran out was answered so; what it would have published is not.
            if let Some(submission) = paused.filter(|_| peer.conn.awaits_answer()) {
                self.publish_found(conn, submission);
                self.act(conn);
            }
        }
    }
}
