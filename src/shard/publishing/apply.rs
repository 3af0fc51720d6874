//! Where log, hub and shards meet. Committed batches are applied, the shards concerned are woken, and
//! the outcome goes to the publisher.

use std::sync::Arc;

use super::keys::IdempotencyKeys;
use super::publishers::{Outcome, Publishers};
use super::tickets::TicketParts;
use crate::base::id::{EpochTag, Sequence};
use crate::frame::batch::Batch;
use crate::hub::Hub;
use crate::log::{Refusal, Sink, Ticket};

/// Applies commits to a hub. It is the log's [`Sink`].
#[derive(Debug)]
pub struct Applier {
    hub: Arc<Hub>,
    publishers: Publishers,
    keys: Arc<IdempotencyKeys>,
}

impl Applier {
    /// An applier for `hub` and its publishers. Batches under idempotency keys settle `keys`.
    #[must_use]
    pub fn new(hub: Arc<Hub>, publishers: impl Into<Publishers>, keys: Arc<IdempotencyKeys>) -> Applier {
        Applier { hub, publishers: publishers.into(), keys }
    }
}

impl Sink for Applier {
    fn epoch_began(&self, tag: EpochTag, first: Sequence) {
        self.hub.begin_epoch(tag, first);
    }

    fn committed(&self, first: Sequence, batch: &Batch, ticket: Option<Ticket>) {
        // Only answers to a single event have a count of receivers, and only publishers of this server
        // wait for one.
        let single = ticket.filter(|_| batch.len() == 1).map(|ticket| TicketParts::of(ticket).shard);
        let waiting = single.filter(|&who| self.publishers.has_publisher(who));
        let applied = self.hub.apply(first, batch, waiting);
        self.publishers.wake(applied.interested);
        let Some(ticket) = ticket else { return };
        if TicketParts::of(ticket).is_keyed() {
            let receivers = (batch.len() == 1).then_some(&applied.receivers);
            self.keys.committed(ticket, applied.first, receivers);
        }
        match self.publishers.application_of(ticket) {
            None => self
                .publishers
                .send_outcome(Outcome { ticket, result: Ok((applied.first, applied.receivers)) }),
            Some((application, serial)) => application.committed(serial, applied.first, applied.receivers),
        }
    }

    fn refused(&self, ticket: Ticket, batch: Batch, refusal: Refusal) {
        if TicketParts::of(ticket).is_keyed() {
            self.keys.refused(ticket, &refusal);
        }
        match self.publishers.application_of(ticket) {
            None => self.publishers.send_outcome(Outcome { ticket, result: Err(refusal) }),
            Some((application, serial)) => application.refused(serial, batch, refusal),
        }
    }
}
