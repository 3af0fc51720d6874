//! The idempotency keys that were given lately, and what became of the events that they were given for (section
//! "Publishing" of the contract). Plain data: time and randomness come in, and nobody is woken here.
//!
//! ```text
//!           begin                    committed
//! unknown ─────────► under way ─────────────────► settled ── five minutes, or newer ones need the room ──► unknown
//!    ▲                   │  │      uncertain         ▲
//!    │ release, refused  │  └────────────────────────┘
//!    └───────────────────┘
//! ```
//!
//! A key under way is not given up, however long the log takes: at most as many are as there are events under way. Of the
//! settled ones those go first that were settled first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::api::Claim;
use crate::base::fingerprint::Fingerprint;
use crate::base::id::EventId;
use crate::hub::{Receivers, ShardSet};
use crate::log::Ticket;

/// How long a key is remembered after the log has settled what became of its event.
pub(super) const KEY_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Keys that are looked at for their age beyond those that a call brings.
const AGED_PER_CALL: usize = 16;

/// The keys of a process.
#[derive(Debug)]
pub(super) struct KeyTable {
    keys_max: usize,
    under_way: HashMap<Fingerprint, UnderWay>,
    /// The keys of each batch that the log has, with the place of the event that each was given for.
    batches: HashMap<Ticket, Vec<(Fingerprint, usize)>>,
    /// What was settled, in that order. Those whose time is not noted yet come last.
    settled: VecDeque<Settled>,
    /// How many were given up: the number of the first in `settled`, counted from the first ever.
    given_up: u64,
    /// The numbers of keys in `settled`.
    numbers: HashMap<Fingerprint, u64>,
}

#[derive(Debug)]
struct UnderWay {
    body: Fingerprint,
    /// Shards whose clients wait for what becomes of it.
    waiting: ShardSet,
}

#[derive(Debug)]
struct Settled {
    key: Fingerprint,
    body: Fingerprint,
    /// `None` where the log could not say.
    published: Option<Published>,
    at: Option<Instant>,
}

/// An event that was published before, or the first of several.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(in crate::shard) first: EventId,
    /// Those of an event that was a batch of its own.
    pub(in crate::shard) receivers: Option<Receivers>,
}

const _: () = assert!(size_of::<Settled>() <= 88, "docs/operations.md says what a key costs");

/// Why the events of some keys cannot be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Held {
    /// The claim at this place names a key that was given for something else.
    Conflict(usize),
    /// The log could not say what became of the event of one of them.
    Uncertain,
    /// One of them is under way: the shard is told when it is settled.
    UnderWay,
}

impl KeyTable {
    /// A table that remembers up to so many keys.
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

    /// How many keys are remembered, those under way among them.
    pub(in crate::shard) fn len(&self) -> usize {
        self.under_way.len() + self.settled.len()
    }

    /// Takes in the keys of a batch, no two of them the same, for a client of `shard`. Returns those that were published
    /// before, by their places among `claims`, in order; the others are under way from now on, until
    /// [`KeyTable::release`] or the log's outcome.
    ///
    /// # Errors
    /// [`Held`]: then nothing has changed.
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

    /// Forgets keys under way whose events will not be appended; returns the shards that wait for them.
    pub(super) fn release(&mut self, keys: &[(Fingerprint, usize)]) -> ShardSet {
        let mut waiting = ShardSet::default();
        for (key, _) in keys {
            if let Some(under_way) = self.under_way.remove(key) {
                waiting.union(under_way.waiting);
            }
        }
        waiting
    }

    /// Notes that the events of keys under way are about to be appended, each with its place in the batch.
    pub(in crate::shard) fn hand_over(&mut self, keys: Vec<(Fingerprint, usize)>, ticket: Ticket) {
        self.batches.insert(ticket, keys);
    }

    /// Settles the keys of a batch that is committed, the first event as `first`. Returns the shards that wait for it.
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

    /// Settles the keys of a batch of which the log cannot say whether it will appear: as long as they are remembered,
    /// nobody can say it. Returns the shards that wait for it.
    pub(super) fn uncertain(&mut self, ticket: Ticket) -> ShardSet {
        self.settle(ticket, |_| None)
    }

    /// Notes that what was settled since the last time is so from `now` on: the log says what, and not when.
    pub(super) fn note_time(&mut self, now: Instant) {
        self.settled.iter_mut().rev().take_while(|settled| settled.at.is_none()).for_each(|settled| {
            settled.at = Some(now);
        });
    }

    fn settle(&mut self, ticket: Ticket, published: impl Fn(usize) -> Option<Published>) -> ShardSet {
        let mut waiting = ShardSet::default();
        for (key, place) in self.batches.remove(&ticket).unwrap_or_default() {
            let Some(under_way) = self.under_way.remove(&key) else { continue };
            waiting.union(under_way.waiting);
            self.numbers.insert(key, self.given_up + self.settled.len() as u64);
            self.settled.push_back(Settled {
                key,
                body: under_way.body,
                published: published(place),
                at: None,
            });
        }
        self.keep_bound();
        waiting
    }

    /// What is remembered of a key.
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
        // A key that was too old already may have been given again, and stands further behind.
        if self.numbers.get(&settled.key) == Some(&self.given_up) {
            self.numbers.remove(&settled.key);
        }
        self.given_up += 1;
    }
}
