//! Where log, hub and shards meet: what the log commits is applied, the shards that it concerns are woken, and whoever
//! appended it is told.

use std::sync::Arc;

use crate::base::id::{EpochTag, EventId, Sequence};
use crate::base::mailbox::Sender;
use crate::frame::batch::Batch;
use crate::hub::{Hub, Receivers};
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

/// Applies commits to a hub. It is the log's [`Sink`].
#[derive(Debug)]
pub struct Applier {
    hub: Arc<Hub>,
    /// The shards' mailboxes, by their numbers.
    shards: Vec<Sender<Message>>,
}

impl Applier {
    /// An applier for `hub` and the shards that read from it.
    #[must_use]
    pub fn new(hub: Arc<Hub>, shards: Vec<Sender<Message>>) -> Applier {
        Applier { hub, shards }
    }

    fn tell(&self, outcome: Outcome) {
        let shard = TicketParts::of(outcome.ticket).shard;
        let Some(sender) = self.shards.get(shard) else { return };
        if sender.try_send(Message::Outcome(outcome)).is_err() {
            // A shard has fewer batches under way than its mailbox holds, so it must have ended.
            tracing::warn!(shard, "the outcome of a publish found no shard");
        }
    }
}

impl Sink for Applier {
    fn epoch_began(&self, tag: EpochTag, first: Sequence) {
        self.hub.begin_epoch(tag, first);
    }

    fn committed(&self, first: Sequence, batch: &Batch, ticket: Option<Ticket>) {
        // Only the answer to a single event says how many received it, and only a shard answers.
        let single = ticket.filter(|_| batch.len() == 1).map(|ticket| TicketParts::of(ticket).shard);
        let waiting = single.filter(|&shard| shard < self.shards.len());
        let applied = self.hub.apply(first, batch, waiting);
        for (number, shard) in self.shards.iter().enumerate() {
            if applied.interested.contains(number) {
                shard.notify();
            }
        }
        if let Some(ticket) = ticket {
            self.tell(Outcome { ticket, result: Ok((applied.first, applied.receivers)) });
        }
    }

    fn refused(&self, ticket: Ticket, refusal: Refusal) {
        self.tell(Outcome { ticket, result: Err(refusal) });
    }
}

/// A ticket as shards make it: which shard, and a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketParts {
    pub(super) shard: usize,
    pub(super) serial: u64,
}

const SERIAL_BITS: u32 = 48;

impl TicketParts {
    pub(super) fn of(ticket: Ticket) -> TicketParts {
        let shard = usize::try_from(ticket.0 >> SERIAL_BITS).expect("16 bits are a usize");
        TicketParts { shard, serial: ticket.0 & ((1 << SERIAL_BITS) - 1) }
    }

    pub(super) fn ticket(self) -> Ticket {
        Ticket((self.shard as u64) << SERIAL_BITS | (self.serial & ((1 << SERIAL_BITS) - 1)))
    }
}
