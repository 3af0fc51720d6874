//! The recent idempotency keys, and the outcomes of their events (section "Publishing" of the contract).
//! Plain data: time and randomness come in, and nothing is woken here.
//!
//! ```text
//!           begin                    committed
//! unknown ─────────► under way ─────────────────► settled ── five minutes, or newer ones need the room ──► unknown
//!    ▲                   │  │      uncertain         ▲
//!    │ release, refused  │  └────────────────────────┘
//!    └───────────────────┘
//! ```
//!
//! A key under way is kept for as long as the log takes; there are at most as many as events under way.
//! Of the settled keys the one settled first is forgotten first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::base::fingerprint::Fingerprint;
use crate::base::id::EventId;
use crate::hub::{Receivers, ShardSet};
use crate::log::Ticket;
use crate::record::{Claim, EventKey};

/// How long a key is remembered after the log settled it.
pub(super) const KEY_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Keys checked for their age in a call, beyond as many as the call brings.
const AGED_PER_CALL: usize = 16;

/// The idempotency keys of a process.
#[derive(Debug)]
pub(super) struct KeyTable {
    keys_max: usize,
    under_way: HashMap<Fingerprint, UnderWay>,
    /// The keys of each batch that the log has.
    batches: HashMap<Ticket, Vec<EventKey>>,
    /// Settled keys, in the order in which they were settled. Those without a time come last.
    settled: VecDeque<Settled>,
    /// The number of settled keys that were forgotten. It is also the number of the first key in
    /// `settled`, counted from the first ever.
    given_up: u64,
    /// The numbers of keys in `settled`.
    numbers: HashMap<Fingerprint, u64>,
}

#[derive(Debug)]
struct UnderWay {
    body: Fingerprint,
    /// Shards whose clients wait for the outcome.
    waiting: ShardSet,
}

#[derive(Debug)]
struct Settled {
    key: Fingerprint,
    body: Fingerprint,
    /// `None` if the log reported an uncertain outcome.
    published: Option<Published>,
    at: Option<Instant>,
}

/// The event that a key was first published with.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(in crate::shard) first: EventId,
    /// Its receivers, if it was a batch of its own.
    pub(in crate::shard) receivers: Option<Receivers>,
}

const _: () = assert!(size_of::<Settled>() <= 88, "docs/operations.md says what a key costs");

/// Why a batch with idempotency keys cannot be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Held {
    /// The claim at this place has a key that was used for another event.
    Conflict(usize),
    /// The log could not say whether the event of one of the keys was committed.
    Uncertain,
    /// One of the keys is under way. The shard is woken when it is settled.
    UnderWay,
}

impl KeyTable {
    /// A table that remembers up to `keys_max` keys.
    pub(in crate::shard) fn new(keys_max: usize) -> KeyTable {
        KeyTable {
            keys_max,
            under_way: HashMap::new(),
            batches: HashMap::new(),
            settled: VecDeque::new(),
            given_up: 0,
            numbers: HashMap::new(),
        }
    }

    /// The number of keys, including those under way.
    pub(in crate::shard) fn len(&self) -> usize {
        self.under_way.len() + self.settled.len()
    }

    /// Reserves the keys of a batch for a client of `shard`; no two claims have the same key. Returns
    /// the keys that were published before, by their places among `claims`, in order. The others are
    /// under way until [`KeyTable::release`] or the log's outcome.
    ///
    /// # Errors
    /// [`Held`]: nothing has changed, except that `shard` waits after [`Held::UnderWay`].
    pub(in crate::shard) fn begin(
        &mut self,
        claims: &[Claim],
        shard: usize,
        now: Instant,
    ) -> Result<Vec<(usize, Published)>, Held> {
        self.note_time(now);
        self.give_up_aged(claims.len() + AGED_PER_CALL, now);
        let mut known = Vec::new();
        let (mut under_way_key, mut is_uncertain) = (None, false);
        for (place, claim) in claims.iter().enumerate() {
            if let Some(under_way) = self.under_way.get(&claim.key) {
                if under_way.body != claim.body {
                    return Err(Held::Conflict(place));
                }
                under_way_key.get_or_insert(claim.key);
            } else if let Some(settled) = self.settled(claim.key, now) {
                if settled.body != claim.body {
                    return Err(Held::Conflict(place));
                }
                match &settled.published {
                    Some(published) => known.push((place, published.clone())),
                    None => is_uncertain = true,
                }
            }
        }
        if is_uncertain {
            return Err(Held::Uncertain);
        }
        if let Some(under_way) = under_way_key.and_then(|key| self.under_way.get_mut(&key)) {
            under_way.waiting.insert(shard);
            return Err(Held::UnderWay);
        }
        let mut known_places = known.iter().map(|(place, _)| *place).peekable();
        for (place, &Claim { key, body }) in claims.iter().enumerate() {
            if known_places.next_if_eq(&place).is_none() {
                self.under_way.insert(key, UnderWay { body, waiting: ShardSet::default() });
            }
        }
        self.keep_bound();
        Ok(known)
    }

    /// Forgets keys under way whose events will not be appended. Returns the shards that wait for them.
    pub(super) fn release(&mut self, keys: &[EventKey]) -> ShardSet {
        let mut waiting = ShardSet::default();
        for EventKey { claim, .. } in keys {
            if let Some(under_way) = self.under_way.remove(&claim.key) {
                waiting.union(under_way.waiting);
            }
        }
        waiting
    }

    /// Notes that the events of keys under way are about to be appended.
    pub(in crate::shard) fn hand_over(&mut self, keys: &[EventKey], ticket: Ticket) {
        self.batches.insert(ticket, keys.to_vec());
    }

    /// Settles keys of which this process did not know; `first` is the id of the first event of their
    /// record. A key that is under way here stays so.
    pub(super) fn learn(&mut self, keys: &[EventKey], first: EventId) {
        for &EventKey { event, claim: Claim { key, body } } in keys {
            if !self.under_way.contains_key(&key) && !self.numbers.contains_key(&key) {
                let published = Some(Published { first: first.plus(event as u64), receivers: None });
                self.add_settled(Settled { key, body, published, at: None });
            }
        }
        self.keep_bound();
    }

    /// Settles the keys of a committed batch; `first` is the id of its first event. Returns the shards
    /// that wait for it.
    pub(in crate::shard) fn committed(
        &mut self,
        ticket: Ticket,
        first: EventId,
        receivers: Option<&Receivers>,
    ) -> ShardSet {
        self.settle(ticket, |place| {
            Some(Published { first: first.plus(place as u64), receivers: receivers.cloned() })
        })
    }

    /// Forgets the keys of a batch that the log refused. Returns the shards that wait for it.
    pub(in crate::shard) fn refused(&mut self, ticket: Ticket) -> ShardSet {
        let keys = self.batches.remove(&ticket).unwrap_or_default();
        self.release(&keys)
    }

    /// Settles the keys of a batch for which the log cannot say whether it is committed. Retries are
    /// answered with an uncertain outcome while the keys are remembered. Returns the shards that wait
    /// for the batch.
    pub(super) fn uncertain(&mut self, ticket: Ticket) -> ShardSet {
        self.settle(ticket, |_| None)
    }

    /// Sets the time of the keys settled since the last call to `now`: the log does not report when it
    /// decided.
    pub(super) fn note_time(&mut self, now: Instant) {
        self.settled.iter_mut().rev().take_while(|settled| settled.at.is_none()).for_each(|settled| {
            settled.at = Some(now);
        });
    }

    fn settle(&mut self, ticket: Ticket, published: impl Fn(usize) -> Option<Published>) -> ShardSet {
        let mut waiting = ShardSet::default();
        for EventKey { event, claim } in self.batches.remove(&ticket).unwrap_or_default() {
            let Some(UnderWay { body, waiting: shards }) = self.under_way.remove(&claim.key) else {
                continue;
            };
            waiting.union(shards);
            self.add_settled(Settled { key: claim.key, body, published: published(event), at: None });
        }
        self.keep_bound();
        waiting
    }

    fn add_settled(&mut self, settled: Settled) {
        self.numbers.insert(settled.key, self.given_up + self.settled.len() as u64);
        self.settled.push_back(settled);
    }

    /// The settled entry of a key, if it is not too old.
    fn settled(&self, key: Fingerprint, now: Instant) -> Option<&Settled> {
        let number = self.numbers.get(&key)?;
        let settled = self.settled.get(usize::try_from(number - self.given_up).ok()?)?;
        settled.at.is_none_or(|at| now < at + KEY_AGE_MAX).then_some(settled)
    }

    fn give_up_aged(&mut self, keys_max: usize, now: Instant) {
        for _ in 0..keys_max {
            let is_aged = |settled: &Settled| settled.at.is_some_and(|at| now >= at + KEY_AGE_MAX);
            if !self.settled.front().is_some_and(is_aged) {
                return;
            }
            self.give_up_first();
        }
    }

    fn keep_bound(&mut self) {
        while self.len() > self.keys_max && !self.settled.is_empty() {
            self.give_up_first();
        }
    }

    fn give_up_first(&mut self) {
        let Some(settled) = self.settled.pop_front() else { return };
        // A key that was too old may have been used again, and then has a later entry.
        if self.numbers.get(&settled.key) == Some(&self.given_up) {
            self.numbers.remove(&settled.key);
        }
        self.given_up += 1;
    }
}
