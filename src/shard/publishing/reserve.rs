//! Publishes under idempotency keys. A duplicate is answered as its original was. A duplicate of an
//! event under way waits for the outcome. Other keys are reserved.
//!
//! Only the log's outcome settles a key (`super::apply::Applier`), whether or not the connection that
//! used it is still open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{self, AnswerForm, Claims, EventClaim};
use crate::base::id::{ConnId, EventId};
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::{Receivers, Tally};
use crate::log::Refusal;
use crate::record::Claim;

use super::key_table::{Held, Published};
use super::keys::Reservation;
use super::{Form, LinesEnd, Submission, Waiting};
use crate::shard::Shard;

/// How long a duplicate waits for the count of its original's receivers. After that its answer omits the
/// count.
const COUNT_WAIT: Duration = Duration::from_millis(100);

/// A duplicate whose original is published, and whose receivers are being counted.
#[derive(Debug)]
pub(super) struct Recount {
    form: AnswerForm,
    first: EventId,
    tally: Arc<Tally>,
    until: Instant,
}

impl<D: Driver> Shard<D> {
    /// Reserves the idempotency keys of a batch. `None` if nothing is left to publish now: the request
    /// waits or was answered.
    pub(super) fn reserve_keys(&mut self, conn: ConnId, mut submission: Submission) -> Option<Submission> {
        loop {
            let claims: Vec<Claim> = match &submission.claims {
                Claims::None => return Some(submission),
                Claims::Request(claim) => vec![*claim],
                Claims::Events(claims) => claims.iter().map(|claim| claim.claim).collect(),
            };
            match self.core.keys.begin(&claims, self.options.number, self.clock.now) {
                Ok((known, reservation)) => return self.remove_known(conn, submission, known, reservation),
                Err(Held::UnderWay) => {
                    self.hold_for_key(conn, submission);
                    return None;
                }
                Err(Held::Uncertain) => {
                    let problem =
                        Problem::unavailable(Refusal::Uncertain.to_string(), Duration::from_secs(1));
                    self.refuse_batch(conn, submission.form, problem);
                    return None;
                }
                Err(Held::Conflict(place)) => submission = self.refuse_conflict(conn, submission, place)?,
            }
        }
    }

    /// Answers that the key at `place` was used for another event. Returns the lines before it, if the
    /// batch is of lines.
    fn refuse_conflict(
        &mut self,
        conn: ConnId,
        mut submission: Submission,
        place: usize,
    ) -> Option<Submission> {
        let (problem, line, event) = match &mut submission.claims {
            Claims::Events(claims) => {
                let (problem, line) = claims[place].conflict();
                let event = claims[place].event;
                claims.truncate(place);
                (problem, line, event)
            }
            Claims::Request(_) | Claims::None => (Claims::request_conflict(), None, 0),
        };
        match &mut submission.form {
            Form::Whole(_) => {
                self.answer(conn, &problem.into_response());
                None
            }
            Form::Lines(places, end) => {
                submission.batch.retain(|place| place < event);
                places.truncate(event);
                *end = Some(LinesEnd::Failed(problem, line));
                if submission.batch.is_empty() {
                    self.acknowledge_form(conn, submission.form, None, None);
                    return None;
                }
                Some(submission)
            }
        }
    }

    /// Removes the events that were published before from the batch.
    fn remove_known(
        &mut self,
        conn: ConnId,
        mut submission: Submission,
        mut known: Vec<(usize, Published)>,
        mut reservation: Reservation,
    ) -> Option<Submission> {
        let claims: Vec<EventClaim> = match std::mem::take(&mut submission.claims) {
            Claims::Events(claims) => claims,
            Claims::Request(_) | Claims::None => Vec::new(),
        };
        match &mut submission.form {
            // One key for the whole request.
            Form::Whole(form) if claims.is_empty() || form.wants_receivers() => {
                if let Some((_, published)) = known.pop() {
                    self.counters.publish_duplicates += 1;
                    self.answer_known(conn, form.clone(), published);
                    return None;
                }
            }
            Form::Whole(_) | Form::Lines(..) => {
                let known: Vec<(usize, EventId)> =
                    known.iter().map(|(place, published)| (claims[*place].event, published.first)).collect();
                let events_before =
                    |event: usize| known.partition_point(|&(known_event, _)| known_event < event);
                reservation.place(|place| claims[place].event - events_before(claims[place].event));
                let is_known = |event: usize| {
                    known.binary_search_by_key(&event, |&(known_event, _)| known_event).is_ok()
                };
                submission.batch.retain(|event| !is_known(event));
                let places = submission.form.places_mut();
                places.fill_in(&known);
                self.counters.publish_duplicates += places.duplicates().unwrap_or(0);
                if submission.batch.is_empty() {
                    self.acknowledge_form(conn, submission.form, None, None);
                    return None;
                }
            }
        }
        submission.reservation = Some(reservation);
        Some(submission)
    }

    /// Answers a duplicate as its original, once the receivers are counted.
    fn answer_known(&mut self, conn: ConnId, form: AnswerForm, published: Published) {
        let Published { first, receivers } = published;
        let receivers = match receivers.filter(|_| form.wants_receivers()) {
            None => None,
            Some(Receivers::Exactly(receivers)) => Some(receivers),
            Some(Receivers::Counting(tally)) => {
                let until = self.clock.now + COUNT_WAIT;
                return self.answer_recounted(conn, Recount { form, first, tally, until });
            }
        };
        self.answer(conn, &api::answer_duplicate(&form, first, receivers));
    }

    fn answer_recounted(&mut self, conn: ConnId, recount: Recount) {
        let receivers = recount.tally.total();
        if receivers.is_some() || self.clock.now >= recount.until {
            return self.answer(conn, &api::answer_duplicate(&recount.form, recount.first, receivers));
        }
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        peer.open_request.get_or_insert_default().waiting = Some(Waiting::Count(recount));
        self.publishing.recounts.push_back(conn);
    }

    fn hold_for_key(&mut self, conn: ConnId, submission: Submission) {
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let request = peer.open_request.get_or_insert_default();
        request.waiting = Some(Waiting::Key(submission));
        if !request.is_queued_for_key {
            request.is_queued_for_key = true;
            self.publishing.waiting_for_keys.push_back(conn);
        }
    }

    /// Goes on with the requests that wait for keys and for counts.
    pub(in crate::shard) fn resume_retries(&mut self) {
        if self.core.keys.clear_settled(self.options.number) {
            for _ in 0..self.publishing.waiting_for_keys.len() {
                let Some(conn) = self.publishing.waiting_for_keys.pop_front() else { break };
                let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
                let awaits_answer = peer.conn.awaits_answer();
                let Some(request) = &mut peer.open_request else { continue };
                request.is_queued_for_key = false;
                // A request that timed out was answered.
                if let Some(submission) = request.end_wait_for_key().filter(|_| awaits_answer) {
                    self.publish(conn, submission);
                    self.act(conn);
                }
            }
        }
        for _ in 0..self.publishing.recounts.len() {
            let Some(conn) = self.publishing.recounts.pop_front() else { break };
            let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
            let awaits_answer = peer.conn.awaits_answer();
            let recount = peer.open_request.as_mut().and_then(|request| request.end_wait_for_count());
            if let Some(recount) = recount.filter(|_| awaits_answer) {
                self.answer_recounted(conn, recount);
                self.act(conn);
            }
        }
    }
}
