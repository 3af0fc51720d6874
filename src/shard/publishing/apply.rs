//! Where log, hub and shards meet. Committed records are applied, the shards concerned are woken, and
//! acknowledged outcomes go to the publishers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::keys::IdempotencyKeys;
use super::publishers::{Effect, Outcome, Publishers};
use super::tickets::TicketParts;
use crate::base::id::{EpochTag, Sequence};
use crate::hub::{Commit, Hub};
use crate::log::{Acknowledgement, Committed, Origin, Refusal, Sink, Ticket};
use crate::record::Record;

/// Applies commits to a hub. It is the log's [`Sink`].
#[derive(Debug)]
pub struct Applier {
    hub: Arc<Hub>,
    publishers: Publishers,
    keys: Arc<IdempotencyKeys>,
    /// The effects of records that are applied and not acknowledged yet. There are as many as records
    /// under way, whose number the publishers bound.
    unacknowledged: Mutex<HashMap<Ticket, Effect>>,
}

impl Applier {
    /// An applier for `hub` and its publishers. Records under idempotency keys settle `keys`.
    #[must_use]
    pub fn new(hub: Arc<Hub>, publishers: impl Into<Publishers>, keys: Arc<IdempotencyKeys>) -> Applier {
        Applier { hub, publishers: publishers.into(), keys, unacknowledged: Mutex::default() }
    }

    /// Applies events that nothing else comes between, together.
    fn apply_events(&self, group: &[Committed<'_>]) {
        match group {
            [] => {}
            [one] => {
                let Some(commit) = self.commit_of(one) else { return };
                let mut commits = [commit];
                self.publishers.wake(self.hub.apply_group(&mut commits));
                let [commit] = commits;
                self.note_applied(one, commit);
            }
            several => {
                let mut commits: Vec<Commit<'_>> =
                    several.iter().filter_map(|one| self.commit_of(one)).collect();
                self.publishers.wake(self.hub.apply_group(&mut commits));
                commits.into_iter().zip(several).for_each(|(commit, one)| self.note_applied(one, commit));
            }
        }
    }

    /// Reports events that were applied, or learns their keys.
    #[inline]
    fn note_applied(&self, committed: &Committed<'_>, commit: Commit<'_>) {
        let Record::Events { events, keys } = committed.record else { return };
        let Some((first, receivers)) = commit.result else { return };
        match committed.origin {
            Origin::Elsewhere { .. } => self.keys.learn(keys, first),
            Origin::Here { ticket, is_acknowledged } => {
                let events = events.len();
                self.keep(ticket, is_acknowledged, Effect::Published { first, events, receivers });
            }
        }
    }

    /// `None` if the record has no events.
    #[inline]
    fn commit_of<'a>(&self, committed: &Committed<'a>) -> Option<Commit<'a>> {
        let Record::Events { events, .. } = committed.record else { return None };
        let (waiting, age) = match committed.origin {
            Origin::Elsewhere { age } => (None, age),
            // Only answers to a single event have a count of receivers, and only publishers of this
            // server wait for one.
            Origin::Here { ticket, .. } => {
                let who = Some(TicketParts::of(ticket).shard).filter(|_| events.len() == 1);
                (who.filter(|&who| self.publishers.has_publisher(who)), Duration::ZERO)
            }
        };
        Some(Commit { first: committed.first, events, waiting, age, result: None })
    }

    /// Reports an effect, now or once it is acknowledged.
    #[inline]
    fn keep(&self, ticket: Ticket, is_acknowledged: bool, effect: Effect) {
        if is_acknowledged {
            self.report(ticket, effect);
        } else {
            let mut unacknowledged = self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            unacknowledged.insert(ticket, effect);
        }
    }

    #[inline]
    fn report(&self, ticket: Ticket, effect: Effect) {
        self.settle_keys(ticket, &effect);
        match (self.publishers.application_of(ticket), effect) {
            (Some((application, serial)), Effect::Published { first, receivers, .. }) => {
                application.committed(serial, first, receivers);
            }
            (_, effect) => self.publishers.send_outcome(Outcome { ticket, result: Ok(effect) }),
        }
    }

    #[inline]
    fn settle_keys(&self, ticket: Ticket, effect: &Effect) {
        if TicketParts::of(ticket).is_keyed()
            && let Effect::Published { first, events, receivers } = effect
        {
            self.keys.committed(ticket, *first, Some(receivers).filter(|_| *events == 1));
        }
    }

    fn report_uncertain(&self, ticket: Ticket) {
        match self.publishers.application_of(ticket) {
            None => self.publishers.send_outcome(Outcome { ticket, result: Err(Refusal::Uncertain) }),
            Some((application, serial)) => application.uncertain(serial),
        }
    }
}

impl Sink for Applier {
    fn epoch_began(&self, tag: EpochTag, first: Sequence) {
        self.hub.begin_epoch(tag, first);
    }

    fn committed(&self, group: &[Committed<'_>]) {
        let mut from = 0;
        for (at, committed) in group.iter().enumerate() {
            if let Record::HistoryDrop(channel) = committed.record {
                self.apply_events(&group[from..at]);
                from = at + 1;
                let dropped = self.hub.drop_history(channel.as_str());
                if let Origin::Here { ticket, is_acknowledged } = committed.origin {
                    self.keep(ticket, is_acknowledged, Effect::HistoryDropped { events: dropped });
                }
            }
        }
        self.apply_events(&group[from..]);
    }

    fn acknowledged(&self, tickets: &[Ticket], outcome: Acknowledgement) {
        for &ticket in tickets {
            let mut unacknowledged = self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(effect) = unacknowledged.remove(&ticket) else { continue };
            drop(unacknowledged);
            match outcome {
                Acknowledgement::Safe => self.report(ticket, effect),
                Acknowledgement::Uncertain => {
                    // The events are in this history under these ids, whatever becomes of the log.
                    self.settle_keys(ticket, &effect);
                    self.report_uncertain(ticket);
                }
            }
        }
    }

    fn refused(&self, ticket: Ticket, record: Record, refusal: Refusal) {
        if TicketParts::of(ticket).is_keyed() {
            self.keys.refused(ticket, &refusal);
        }
        match (self.publishers.application_of(ticket), refusal, record) {
            (Some((application, serial)), Refusal::Refused { reason }, Record::Events { events, .. }) => {
                application.refused(serial, events, reason);
            }
            (_, Refusal::Uncertain, _) => self.report_uncertain(ticket),
            (_, refusal, _) => self.publishers.send_outcome(Outcome { ticket, result: Err(refusal) }),
        }
    }
}
