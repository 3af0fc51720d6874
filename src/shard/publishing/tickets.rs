//! Tickets of batches: who appended a batch, and its number there.

use crate::hub::SHARDS_MAX;
use crate::log::Ticket;

/// The ticket of a batch that the application appends. No two batches may have the same `serial`.
#[must_use]
pub fn application_ticket(serial: u64) -> Ticket {
    TicketParts { shard: APPLICATION, serial }.ticket()
}

/// The number in the application's tickets, in the place of a shard's number.
pub(super) const APPLICATION: usize = SHARDS_MAX;

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
