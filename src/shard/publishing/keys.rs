//! The idempotency keys of all shards: one table behind a short lock, and the wakeups of shards that
//! wait for a key.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::fingerprint::Fingerprints;
use crate::base::id::EventId;
use crate::hub::{Receivers, ShardSet};
use crate::log::{Refusal, Ticket};
use crate::record::{Claim, EventKey};

use super::key_table::{Held, KeyTable, Published};
use super::publishers::Publishers;

/// The recent idempotency keys of all shards.
#[derive(Debug)]
pub struct IdempotencyKeys {
    fingerprints: Fingerprints,
    table: Mutex<KeyTable>,
    /// Shards that waited for a key and have yet to handle that it was settled, as bits.
    settled: AtomicU64,
    publishers: Publishers,
}

impl IdempotencyKeys {
    /// Remembers up to `keys_max` keys, and wakes the `publishers` that wait for one.
    #[must_use]
    pub fn new(keys_max: usize, publishers: impl Into<Publishers>) -> IdempotencyKeys {
        IdempotencyKeys {
            fingerprints: Fingerprints::new(),
            table: Mutex::new(KeyTable::new(keys_max)),
            settled: AtomicU64::new(0),
            publishers: publishers.into(),
        }
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// Makes the fingerprints of keys and bodies.
    pub(in crate::shard) fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// Reserves the keys of a batch as [`KeyTable::begin`] does. The reservation holds the keys that are
    /// now under way, each with its place among `claims`.
    pub(super) fn begin(
        self: &Arc<Self>,
        claims: &[Claim],
        shard: usize,
        now: Instant,
    ) -> Result<(Vec<(usize, Published)>, Reservation), Held> {
        let known = self.table().begin(claims, shard, now)?;
        let mut known_places = known.iter().map(|(place, _)| *place).peekable();
        let is_new = |place: &usize| known_places.next_if_eq(place).is_none();
        let reserved = (0..claims.len()).filter(is_new);
        let reserved = reserved.map(|event| EventKey { event, claim: claims[event] }).collect();
        Ok((known, Reservation { keys: Arc::clone(self), reserved }))
    }

    /// Sets the time of the keys settled since the last call.
    pub(super) fn note_time(&self, now: Instant) {
        self.table().note_time(now);
    }

    /// Settles the keys of a committed batch; `first` is the id of its first event.
    pub(in crate::shard) fn committed(&self, ticket: Ticket, first: EventId, receivers: Option<&Receivers>) {
        let waiting = self.table().committed(ticket, first, receivers);
        self.notify_settled(waiting);
    }

    /// Adds the keys of events that an earlier process or another node has published; `first` is the id
    /// of the first event. They are remembered from now on.
    pub(super) fn learn(&self, claims: &[EventKey], first: EventId) {
        if !claims.is_empty() {
            self.table().learn(claims, first);
        }
    }

    /// Settles the keys of a batch that was not committed.
    pub(in crate::shard) fn refused(&self, ticket: Ticket, refusal: &Refusal) {
        let mut table = self.table();
        let waiting = match refusal {
            Refusal::Refused { .. } => table.refused(ticket),
            Refusal::Uncertain => table.uncertain(ticket),
        };
        drop(table);
        self.notify_settled(waiting);
    }

    /// Returns true if and only if keys that the shard waited for were settled since its last
    /// [`IdempotencyKeys::clear_settled`].
    pub(in crate::shard) fn has_settled(&self, shard: usize) -> bool {
        ShardSet::from_bits(self.settled.load(Ordering::Acquire)).contains(shard)
    }

    /// Clears that state; returns whether it was set.
    pub(super) fn clear_settled(&self, shard: usize) -> bool {
        self.has_settled(shard) && self.settled.fetch_and(!(1 << shard), Ordering::AcqRel) & (1 << shard) != 0
    }

    fn notify_settled(&self, waiting: ShardSet) {
        if !waiting.is_empty() {
            self.settled.fetch_or(waiting.bits(), Ordering::AcqRel);
            self.publishers.wake(waiting);
        }
    }

    /// A panic of another thread does not poison the table: each of its steps leaves it whole.
    fn table(&self) -> MutexGuard<'_, KeyTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys whose events are on their way to the log. A reservation that is dropped before it has handed its
/// keys over frees them, and a request that waits for one of them publishes.
#[derive(Debug)]
pub(super) struct Reservation {
    keys: Arc<IdempotencyKeys>,
    reserved: Vec<EventKey>,
}

impl Reservation {
    /// Changes the indexes of the events.
    pub(in crate::shard) fn place(&mut self, place: impl Fn(usize) -> usize) {
        self.reserved.iter_mut().for_each(|key| key.event = place(key.event));
    }

    /// Frees the keys of the events from the index `event` on.
    pub(in crate::shard) fn release_from(&mut self, event: usize) {
        let (kept, reserved) = mem::take(&mut self.reserved).into_iter().partition(|key| key.event < event);
        self.reserved = kept;
        drop(Reservation { keys: Arc::clone(&self.keys), reserved });
    }

    /// Leaves the keys to the log's outcome, and returns them for the record. Must be called before the
    /// record is appended.
    pub(in crate::shard) fn hand_over(mut self, ticket: Ticket) -> Vec<EventKey> {
        let reserved = mem::take(&mut self.reserved);
        self.keys.table().hand_over(&reserved, ticket);
        reserved
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.reserved.is_empty() {
            let waiting = self.keys.table().release(&self.reserved);
            self.keys.notify_settled(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::base::id::{EpochTag, Sequence};
    use crate::base::mailbox::{Receiver, Wake, mailbox};
    use crate::shard::Message;

    #[derive(Default)]
    struct CountingWake(AtomicUsize);

    impl Wake for CountingWake {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Two sleeping shards; only the second waits for the key.
    struct Bench {
        keys: Arc<IdempotencyKeys>,
        wakes: [Arc<CountingWake>; 2],
        _mailboxes: Vec<Receiver<Message>>,
        reservation: Option<Reservation>,
    }

    impl Bench {
        fn new() -> Bench {
            let wakes: [Arc<CountingWake>; 2] = [Arc::default(), Arc::default()];
            let (senders, mailboxes): (Vec<_>, Vec<Receiver<Message>>) =
                wakes.iter().map(|wake| mailbox(1, Arc::clone(wake) as Arc<dyn Wake>)).unzip();
            assert!(mailboxes.iter().all(Receiver::prepare_to_sleep));
            let keys = Arc::new(IdempotencyKeys::new(10, senders));
            let print = keys.fingerprints().of("k");
            let (claim, now) = (Claim { key: print, body: print }, Instant::now());
            let (_, reservation) = keys.begin(&[claim], 0, now).unwrap();
            assert_eq!(keys.begin(&[claim], 1, now).unwrap_err(), Held::UnderWay);
            Bench { keys, wakes, _mailboxes: mailboxes, reservation: Some(reservation) }
        }

        fn hand_over(&mut self) {
            self.reservation.take().unwrap().hand_over(Ticket(1));
            assert_eq!((self.woken(), self.keys.has_settled(1)), ([0, 0], false));
        }

        fn woken(&self) -> [usize; 2] {
            self.wakes.each_ref().map(|wake| wake.0.load(Ordering::Relaxed))
        }

        #[track_caller]
        fn check_settled(&self) {
            assert_eq!(self.woken(), [0, 1]);
            assert!(!self.keys.clear_settled(0) && self.keys.clear_settled(1) && !self.keys.clear_settled(1));
        }
    }

    #[test]
    fn a_shard_that_waits_for_a_key_is_woken_when_it_is_settled() {
        let mut bench = Bench::new();
        bench.hand_over();
        let id = EventId { tag: EpochTag::from_bits(1), sequence: Sequence(1) };
        bench.keys.committed(Ticket(1), id, None);
        bench.check_settled();
        assert_eq!(bench.keys.count(), 1);
    }

    #[test]
    fn a_shard_that_waits_for_a_key_is_woken_when_it_is_free_again() {
        let mut refused = Bench::new();
        refused.hand_over();
        refused.keys.refused(Ticket(1), &Refusal::Refused { reason: String::new() });
        refused.check_settled();
        assert_eq!(refused.keys.count(), 0);

        let mut dropped = Bench::new();
        dropped.reservation = None;
        dropped.check_settled();
        assert_eq!(dropped.keys.count(), 0);
    }
}
