//! Floor 2: what the log holds. A record says what is to happen, in the words of the publisher: nothing in
//! it depends on how frames travel to clients. Everything that must be the same after a restart, or on
//! another node, is a record.

mod events;
mod keys;
pub mod targets;

pub use events::{Addressed, EventRef, Events};
pub use keys::{Claim, EventKey};

use crate::base::name::ChannelName;

/// One entry of the log's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Events. They take the next numbers.
    Events {
        /// The events, one or more.
        events: Events,
        /// The idempotency keys of those that have one.
        keys: Vec<EventKey>,
    },
    /// The history of a channel is dropped up to this place. It takes no number.
    HistoryDrop(ChannelName),
}

/// About how many bytes a record takes beside its texts and names.
const BYTES_BESIDE: usize = 128;

impl From<Events> for Record {
    /// Events without idempotency keys.
    fn from(events: Events) -> Record {
        Record::Events { events, keys: Vec::new() }
    }
}

impl Record {
    /// How many numbers of the sequence the record takes.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        match self {
            Record::Events { events, .. } => events.len() as u64,
            Record::HistoryDrop(_) => 0,
        }
    }

    /// About how many bytes the record takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        BYTES_BESIDE
            + match self {
                Record::Events { events, keys } => events.bytes() + size_of_val(keys.as_slice()),
                Record::HistoryDrop(channel) => channel.as_str().len(),
            }
    }
}
