//! Where log, hub and shards meet. Committed batches are applied, the shards concerned are woken, and
//! the outcome goes to the publisher.

use std::fmt;
use std::sync::Arc;

use super::keys::IdempotencyKeys;
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::base::mailbox::Sender;
use crate::frame::batch::Batch;
use crate::hub::{Hub, Receivers, SHARDS_MAX, ShardSet};
use crate::log::{Refusal, Sink, Ticket};
use crate::shard::Message;

/// The outcome of an appended batch.
#[derive(Debug)]
pub struct Outcome {
    /// The ticket of the batch.
    pub ticket: Ticket,
    /// The id of its first event and the receivers of its last one, or why it was not committed.
    pub result: Result<(EventId, Receivers), Refusal>,
}

/// An application that embeds the server and appends batches to the log beside the shards, under tickets
/// of [`application_ticket`].
///
/// Its methods run under the log's lock or within a shard's turn. They note the outcome and wake its
/// waiter; they neither block nor run code of others.
pub trait Application: Send + Sync + fmt::Debug {
    /// The batch is committed and applied; `first` is the id of its first event. `receivers` is of use
    /// for a batch of one event only.
    fn committed(&self, serial: u64, first: EventId, receivers: Receivers);

    /// The batch is not committed, and is returned.
    fn refused(&self, serial: u64, batch: Batch, refusal: Refusal);

    /// A count of receivers that the application waits for is finished.
    fn counted(&self);
}

/// Those who append batches and receive the outcomes: the shards, and an application that embeds the
/// server.
#[derive(Clone, Debug)]
pub struct Publishers {
    /// The shards' mailboxes, by their numbers.
    shards: Vec<Sender<Message>>,
    application: Option<Arc<dyn Application>>,
}

impl From<Vec<Sender<Message>>> for Publishers {
    /// Publishers without an application. The mailboxes of the shards are in the order of their numbers.
    fn from(shards: Vec<Sender<Message>>) -> Publishers {
        Publishers { shards, application: None }
    }
}

impl Publishers {
    /// The mailboxes of the shards, by their numbers.
    #[must_use]
    pub fn mailboxes(&self) -> &[Sender<Message>] {
        &self.shards
    }

    /// Adds the application.
    #[must_use]
    pub fn with_application(self, application: Arc<dyn Application>) -> Publishers {
        Publishers { application: Some(application), ..self }
    }

    /// Notifies the waiter that a count of receivers is finished.
    pub(in crate::shard) fn notify_counted(&self, waiting: usize) {
        match (self.shards.get(waiting), &self.application) {
            (Some(shard), _) => shard.notify(),
            (None, Some(application)) if waiting == APPLICATION => application.counted(),
            (None, _) => {}
        }
    }

    /// Returns true if and only if tickets with this number have a publisher.
    fn has_publisher(&self, who: usize) -> bool {
        who < self.shards.len() || (who == APPLICATION && self.application.is_some())
    }

    /// The mailbox of a shard, if there is one of this number.
    pub(in crate::shard) fn mailbox(&self, shard: usize) -> Option<&Sender<Message>> {
        self.shards.get(shard)
    }

    pub(in crate::shard) fn wake(&self, interested: ShardSet) {
        for (number, shard) in self.shards.iter().enumerate() {
            if interested.contains(number) {
                shard.notify();
            }
        }
    }

    fn send_outcome(&self, outcome: Outcome) {
        let shard = TicketParts::of(outcome.ticket).shard;
        let Some(sender) = self.shards.get(shard) else { return };
        if sender.try_send(Message::Outcome(outcome)).is_err() {
            // A shard has fewer batches under way than its mailbox holds, so the shard must have ended.
            tracing::warn!(shard, "the outcome of a publish found no shard");
        }
    }

    /// The application and the batch's serial number, if the application appended the batch.
    fn application_of(&self, ticket: Ticket) -> Option<(&dyn Application, u64)> {
        let TicketParts { shard, serial } = TicketParts::of(ticket);
        self.application.as_deref().filter(|_| shard == APPLICATION).map(|application| (application, serial))
    }
}

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

/// The ticket of a batch that the application appends. No two batches may have the same `serial`.
#[must_use]
pub fn application_ticket(serial: u64) -> Ticket {
    TicketParts { shard: APPLICATION, serial }.ticket()
}

/// The number in the application's tickets, in the place of a shard's number.
const APPLICATION: usize = SHARDS_MAX;

/// The parts of a ticket: the publisher's number and a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketParts {
    pub(in crate::shard) shard: usize,
    pub(in crate::shard) serial: u64,
}

const SERIAL_BITS: u32 = 48;

/// The bit of a shard's serial number that says that idempotency keys wait for the batch. Without it,
/// every outcome would lock the table of keys.
const KEYED: u64 = 1 << (SERIAL_BITS - 1);

impl TicketParts {
    pub(in crate::shard) fn of(ticket: Ticket) -> TicketParts {
        let shard = usize::try_from(ticket.0 >> SERIAL_BITS).expect("16 bits are a usize");
        TicketParts { shard, serial: ticket.0 & ((1 << SERIAL_BITS) - 1) }
    }

    /// The same ticket for a batch that idempotency keys wait for.
    pub(in crate::shard) fn keyed(self) -> TicketParts {
        TicketParts { serial: self.serial | KEYED, ..self }
    }

    /// Returns true if and only if idempotency keys wait for the batch. The application's batches have
    /// none.
    pub(super) fn is_keyed(self) -> bool {
        self.shard < APPLICATION && self.serial & KEYED != 0
    }

    pub(in crate::shard) fn ticket(self) -> Ticket {
        Ticket((self.shard as u64) << SERIAL_BITS | (self.serial & ((1 << SERIAL_BITS) - 1)))
    }
}
