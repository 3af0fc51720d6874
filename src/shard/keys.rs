//! The idempotency keys of all shards: the one table behind a short lock, and who is woken when a key is settled.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::api::Claim;
use crate::base::fingerprint::{Fingerprint, Fingerprints};
use crate::base::id::EventId;
use crate::hub::{Receivers, ShardSet};
use crate::log::{Refusal, Ticket};

use super::apply::Publishers;
use super::idempotency::{Held, KeyTable, Published};

/// The idempotency keys that were given lately, to whichever shard.
#[derive(Debug)]
pub struct IdempotencyKeys {
    fingerprints: Fingerprints,
    table: Mutex<KeyTable>,
    /// The shards that waited for a key which is settled, as bits.
    told: AtomicU64,
    publishers: Publishers,
}

impl IdempotencyKeys {
    /// Remembers up to so many keys, and wakes `publishers` that wait for one.
    #[must_use]
    pub fn new(keys_max: usize, publishers: impl Into<Publishers>) -> IdempotencyKeys {
        IdempotencyKeys {
            fingerprints: Fingerprints::new(),
            table: Mutex::new(KeyTable::new(keys_max)),
            told: AtomicU64::new(0),
            publishers: publishers.into(),
        }
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// What keys and bodies are told apart by.
    pub(super) fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// Takes in the keys of a batch as [`KeyTable::begin`] does. The reservation holds those that are under way from now
    /// on, each with its place among `claims`.
    pub(super) fn begin(
        self: &Arc<Self>,
        claims: &[Claim],
        shard: usize,
        now: Instant,
    ) -> Result<(Vec<(usize, Published)>, Reservation), Held> {
        let known = self.table().begin(claims, shard, now)?;
        let mut known_places = known.iter().map(|(place, _)| *place).peekable();
        let is_new = |place: &usize| known_places.next_if_eq(place).is_none();
        let keys = (0..claims.len()).filter(is_new).map(|place| (claims[place].key, place)).collect();
        Ok((known, Reservation { keys: Arc::clone(self), reserved: keys }))
    }

    /// Notes that the log has decided by `now`.
    pub(super) fn note_time(&self, now: Instant) {
        self.table().note_time(now);
    }

    /// Settles the keys of a batch that is committed, the first event as `first`.
    pub(super) fn committed(&self, ticket: Ticket, first: EventId, receivers: Option<&Receivers>) {
        let waiting = self.table().committed(ticket, first, receivers);
        self.tell(waiting);
    }

    /// Settles the keys of a batch that is not.
    pub(super) fn refused(&self, ticket: Ticket, refusal: &Refusal) {
        let mut table = self.table();
        let waiting = match refusal {
            Refusal::Refused { .. } => table.refused(ticket),
            Refusal::Uncertain => table.uncertain(ticket),
        };
        drop(table);
        self.tell(waiting);
    }

    /// Returns true if and only if keys are settled that the shard waited for, and it was not told yet.
    pub(super) fn has_told(&self, shard: usize) -> bool {
        ShardSet::from_bits(self.told.load(Ordering::Acquire)).contains(shard)
    }

    /// Returns the same, once.
    pub(super) fn take_told(&self, shard: usize) -> bool {
        self.has_told(shard) && self.told.fetch_and(!(1 << shard), Ordering::AcqRel) & (1 << shard) != 0
    }

    fn tell(&self, waiting: ShardSet) {
        if !waiting.is_empty() {
            self.told.fetch_or(waiting.bits(), Ordering::AcqRel);
            self.publishers.wake(waiting);
        }
    }

    /// The table is as good as ever where somebody has panicked with it: each step of it leaves it whole.
    fn table(&self) -> MutexGuard<'_, KeyTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys whose events are on their way to the log. One that is dropped before it has handed them over gives them free:
/// whoever waits for them publishes.
#[derive(Debug)]
pub(super) struct Reservation {
    keys: Arc<IdempotencyKeys>,
    /// Each with the place of its event in the batch.
    reserved: Vec<(Fingerprint, usize)>,
}

impl Reservation {
    /// Changes the places of the events.
    pub(super) fn place(&mut self, place: impl Fn(usize) -> usize) {
        self.reserved.iter_mut().for_each(|(_, at)| *at = place(*at));
    }

    /// Leaves the keys to the log's outcome. To be called before the batch is appended.
    pub(super) fn hand_over(mut self, ticket: Ticket) {
        let reserved = mem::take(&mut self.reserved);
        self.keys.table().hand_over(reserved, ticket);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.reserved.is_empty() {
            let waiting = self.keys.table().release(&self.reserved);
            self.keys.tell(waiting);
        }
    }
}
