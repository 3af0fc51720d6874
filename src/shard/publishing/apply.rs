//! Where log, hub and shards meet: what the log commits is applied, the shards that it concerns are woken, and whoever
//! appended it is told.

use std::fmt;
use std::sync::Arc;

use super::keys::IdempotencyKeys;
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::base::mailbox::Sender;
use crate::frame::batch::Batch;
use crate::hub::{Hub, Receivers, SHARDS_MAX, ShardSet};
use crate::log::{Refusal, Sink, Ticket};
use crate::shard::Message;

/// What became of an appended batch.
#[derive(Debug)]
pub struct Outcome {
    /// Whose batch.
    pub ticket: Ticket,
    /// The id of its first event and the receivers of its last one, or why it was not committed.
    pub result: Result<(EventId, Receivers), Refusal>,
}

/// An application that embeds the server and appends batches to the log beside the shards, under tickets of
/// [`application_ticket`].
///
/// It is told under the log's lock, or by a shard in its turn: it notes what it is told, wakes whoever waits, and
/// neither waits itself nor runs what is not its own.
pub trait Application: Send + Sync + fmt::Debug {
    /// The batch is committed and applied, with `first` as the id of its first event. Of a batch of one event the
    /// receivers are known, or will be.
    fn committed(&self, serial: u64, first: EventId, receivers: Receivers);

    /// The batch is not committed; here it is again.
    fn refused(&self, serial: u64, batch: Batch, refusal: Refusal);

    /// One of the counts of receivers that it waits for is complete.
    fn counted(&self);
}

/// Who appends batches and is told what became of them: the shards, and an application that embeds the server.
#[derive(Clone, Debug)]
pub struct Publishers {
    /// The shards' mailboxes, by their numbers.
    shards: Vec<Sender<Message>>,
    application: Option<Arc<dyn Application>>,
}

impl From<Vec<Sender<Message>>> for Publishers {
    /// Shards by their mailboxes, in the order of their numbers, and no application.
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

    /// Says that a count of receivers is complete that this one waits for.
    pub(in crate::shard) fn tell_counted(&self, waiting: usize) {
        match (self.shards.get(waiting), &self.application) {
            (Some(shard), _) => shard.notify(),
            (None, Some(application)) if waiting == APPLICATION => application.counted(),
            (None, _) => {}
        }
    }

    /// Returns true if and only if somebody has this number in tickets.
    fn know(&self, who: usize) -> bool {
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

    fn tell(&self, outcome: Outcome) {
        let shard = TicketParts::of(outcome.ticket).shard;
        let Some(sender) = self.shards.get(shard) else { return };
        if sender.try_send(Message::Outcome(outcome)).is_err() {
            // A shard has fewer batches under way than its mailbox holds, so it must have ended.
            tracing::warn!(shard, "the outcome of a publish found no shard");
        }
    }

    /// The application and its own name for the batch, where it was the one who appended it.
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
    /// An applier for `hub` and those who publish to it; what they publish under idempotency keys settles `keys`.
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
        // Only the answer to a single event says how many received it, and only to whom we know.
        let single = ticket.filter(|_| batch.len() == 1).map(|ticket| TicketParts::of(ticket).shard);
        let waiting = single.filter(|&who| self.publishers.know(who));
        let applied = self.hub.apply(first, batch, waiting);
        self.publishers.wake(applied.interested);
        let Some(ticket) = ticket else { return };
        if TicketParts::of(ticket).is_keyed() {
            let receivers = (batch.len() == 1).then_some(&applied.receivers);
            self.keys.committed(ticket, applied.first, receivers);
        }
        match self.publishers.application_of(ticket) {
            None => self.publishers.tell(Outcome { ticket, result: Ok((applied.first, applied.receivers)) }),
            Some((application, serial)) => application.committed(serial, applied.first, applied.receivers),
        }
    }

    fn refused(&self, ticket: Ticket, batch: Batch, refusal: Refusal) {
        if TicketParts::of(ticket).is_keyed() {
            self.keys.refused(ticket, &refusal);
        }
        match self.publishers.application_of(ticket) {
            None => self.publishers.tell(Outcome { ticket, result: Err(refusal) }),
            Some((application, serial)) => application.refused(serial, batch, refusal),
        }
    }
}

/// The ticket of a batch that the application appends; `serial` is a number that it never gave another one.
#[must_use]
pub fn application_ticket(serial: u64) -> Ticket {
    TicketParts { shard: APPLICATION, serial }.ticket()
}

/// What stands in the application's tickets where those of shards have the shard's number.
const APPLICATION: usize = SHARDS_MAX;

/// A ticket as it is made here: whose it is, and a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketParts {
    pub(in crate::shard) shard: usize,
    pub(in crate::shard) serial: u64,
}

const SERIAL_BITS: u32 = 48;

/// The bit of a shard's serial numbers that says that idempotency keys wait for the batch: looking for those of all
/// others would cost them a lock.
const KEYED: u64 = 1 << (SERIAL_BITS - 1);

impl TicketParts {
    pub(in crate::shard) fn of(ticket: Ticket) -> TicketParts {
        let shard = usize::try_from(ticket.0 >> SERIAL_BITS).expect("16 bits are a usize");
        TicketParts { shard, serial: ticket.0 & ((1 << SERIAL_BITS) - 1) }
    }

    /// The same for a batch that idempotency keys wait for.
    pub(in crate::shard) fn keyed(self) -> TicketParts {
        TicketParts { serial: self.serial | KEYED, ..self }
    }

    /// Returns true if and only if idempotency keys wait for the batch. The application's have none.
    pub(super) fn is_keyed(self) -> bool {
        self.shard < APPLICATION && self.serial & KEYED != 0
    }

    pub(in crate::shard) fn ticket(self) -> Ticket {
        Ticket((self.shard as u64) << SERIAL_BITS | (self.serial & ((1 << SERIAL_BITS) - 1)))
    }
}
