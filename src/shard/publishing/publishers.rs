//! Those who append batches, and how the outcome of a batch reaches them.

use std::fmt;
use std::sync::Arc;

use super::tickets::{APPLICATION, TicketParts};
use crate::base::id::EventId;
use crate::base::mailbox::Sender;
use crate::hub::{Receivers, ShardSet};
use crate::log::{Refusal, Ticket};
use crate::record::Events;
use crate::shard::Message;

/// The outcome of an appended record.
#[derive(Debug)]
pub struct Outcome {
    /// The ticket of the record.
    pub ticket: Ticket,
    /// Its effect, or why it has none.
    pub result: Result<Effect, Refusal>,
}

/// The effect of a record that was committed and applied.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Events are published.
    Published {
        /// The id of the first event; the others follow it without a hole.
        first: EventId,
        /// The number of events.
        events: usize,
        /// The number of receivers of the last event.
        receivers: Receivers,
    },
    /// The history of a channel was dropped.
    HistoryDropped {
        /// How many events it had; `None` if there was no such channel.
        events: Option<usize>,
    },
}

/// An application that embeds the server and appends events to the log beside the shards, under tickets
/// of [`application_ticket`](super::tickets::application_ticket).
///
/// Its methods run under the log's lock or within a shard's turn. They note the outcome and wake its
/// waiter; they neither block nor run code of others.
pub trait Application: Send + Sync + fmt::Debug {
    /// The events are committed and applied; `first` is the id of the first. `receivers` is of use for a
    /// single event only.
    fn committed(&self, serial: u64, first: EventId, receivers: Receivers);

    /// The log does not take the events, and returns them.
    fn refused(&self, serial: u64, events: Events, reason: String);

    /// Nobody knows whether the events will appear.
    fn uncertain(&self, serial: u64);

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
    pub(super) fn has_publisher(&self, who: usize) -> bool {
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

    pub(super) fn send_outcome(&self, outcome: Outcome) {
        let shard = TicketParts::of(outcome.ticket).shard;
        let Some(sender) = self.shards.get(shard) else { return };
        if sender.try_send(Message::Outcome(outcome)).is_err() {
            // A shard has fewer batches under way than its mailbox holds, so the shard must have ended.
            tracing::warn!(shard, "the outcome of a publish found no shard");
        }
    }

    /// The application and the batch's serial number, if the application appended the batch.
    pub(super) fn application_of(&self, ticket: Ticket) -> Option<(&dyn Application, u64)> {
        let TicketParts { shard, serial } = TicketParts::of(ticket);
        self.application.as_deref().filter(|_| shard == APPLICATION).map(|application| (application, serial))
    }
}
