//! Publishing, in the order of its stages. A request is read (`read`), its idempotency keys are reserved
//! (`reserve`), and the single streams that it addresses are looked up (`shard::questions`). It waits
//! while shards are behind and is appended to the log (`append`). The log's outcome is applied for all
//! (`apply`) and answers the request (`outcome`).

mod append;
pub mod apply;
mod key_table;
#[cfg(test)]
mod key_table_tests;
pub mod keys;
mod outcome;
pub mod publishers;
mod read;
mod reserve;
pub mod tickets;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Shard;
use crate::api::{AnswerForm, Claims, LinesAccount, Places};
use crate::auth::Permission;
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::http::{Problem, Response};
use crate::log::Ticket;
use crate::record::Events;

pub(super) use append::RECORDS_UNDER_WAY_MAX;
use append::{Outgoing, Tickets};
use keys::Reservation;
pub(super) use outcome::hold_back;
use reserve::Recount;

/// How often a waiting publisher checks whether the shards that were behind have caught up.
pub const PAUSE: Duration = Duration::from_millis(1);

/// The publishes of a shard, and the connections that wait for them.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    tickets: Tickets,
    outgoing: Outgoing,
    /// Connections that wait to publish because a shard or the log is behind.
    paused: VecDeque<ConnId>,
    /// Connections whose answers are batched while outcomes of the log are drained. `None`: answer at
    /// once.
    pub(super) held_back: Option<Vec<ConnId>>,
    /// Connections that wait for an idempotency key to be settled.
    waiting_for_keys: VecDeque<ConnId>,
    /// Connections that wait for the receivers of an event that was published before.
    recounts: VecDeque<ConnId>,
}

impl Publishing {
    pub(super) fn has_work(&self) -> bool {
        self.tickets.has_settled()
    }

    /// When to check whether waiting publishes can go on. Neither shards that catch up nor counts of
    /// duplicates notify this shard, so it polls.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let is_waiting = !self.paused.is_empty() || !self.recounts.is_empty();
        is_waiting.then(|| now + PAUSE)
    }

    /// The number of connections that wait to publish because a shard is behind.
    pub(super) fn paused_len(&self) -> usize {
        self.paused.len()
    }
}

/// The form of the answer to a batch.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// The batch was the whole request.
    Whole(AnswerForm),
    /// The batch was a part of a body of lines, with these places in the answer. The last part has the
    /// end of the body.
    Lines(Places, Option<LinesEnd>),
}

impl Form {
    /// The places of the batch's envelopes in the answer.
    fn places_mut(&mut self) -> &mut Places {
        match self {
            Form::Whole(form) => form.places_mut(),
            Form::Lines(places, _) => places,
        }
    }
}

/// How a body of lines ended.
#[derive(Clone, Debug)]
pub(super) enum LinesEnd {
    /// After its last line.
    Whole,
    /// With an error, perhaps of one line.
    Failed(Problem, Option<u64>),
}

/// A batch on its way to the log.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) batch: Events,
    pub(super) form: Form,
    /// The idempotency keys that have yet to be reserved.
    pub(super) claims: Claims,
    /// The keys that are reserved.
    reservation: Option<Reservation>,
}

impl Submission {
    pub(super) fn new(batch: Events, form: Form, claims: Claims) -> Submission {
        Submission { batch, form, claims, reservation: None }
    }

    /// Frees the keys of the events from the place `event` on.
    pub(super) fn release_keys_from(&mut self, event: usize) {
        if let Some(reservation) = &mut self.reservation {
            reservation.release_from(event);
        }
    }
}

/// What a connection's request waits for before its batch is with the log.
#[derive(Debug)]
enum Waiting {
    /// Shards or the log, which are behind, have to catch up.
    Shards(Submission),
    /// An idempotency key under way has to be settled.
    Key(Submission),
    /// The receivers of an event that was published before have to be counted.
    Count(Recount),
}

/// The request of a connection that is not answered at once.
#[derive(Debug, Default)]
pub(super) struct OpenRequest {
    waiting: Option<Waiting>,
    /// It is in the shard's queue of those that wait for keys, perhaps on behalf of an earlier request.
    is_queued_for_key: bool,
    /// Its answers are batched with that of the batch that the log has.
    is_held_back: bool,
    /// The batch that the log has.
    ticket: Option<Ticket>,
    /// The question to other shards that the request waits for.
    pub(super) question: Option<u64>,
    /// The outcomes of a body of lines so far.
    lines: LinesAccount,
    /// The permission of a request with a body of lines.
    permission: Option<Permission>,
}

impl OpenRequest {
    /// Forgets a request that timed out and was answered. What of it waits is not published any more,
    /// and its idempotency keys are free. The log's outcome for the rest answers no later request.
    pub(super) fn forget_request(&mut self) {
        self.waiting = None;
        self.ticket = None;
        self.question = None;
    }

    fn end_wait_for_shards(&mut self) -> Option<Submission> {
        match self.waiting.take()? {
            Waiting::Shards(submission) => Some(submission),
            other @ (Waiting::Key(_) | Waiting::Count(_)) => self.put_back(other),
        }
    }

    fn end_wait_for_key(&mut self) -> Option<Submission> {
        match self.waiting.take()? {
            Waiting::Key(submission) => Some(submission),
            other @ (Waiting::Shards(_) | Waiting::Count(_)) => self.put_back(other),
        }
    }

    fn end_wait_for_count(&mut self) -> Option<Recount> {
        match self.waiting.take()? {
            Waiting::Count(recount) => Some(recount),
            other @ (Waiting::Shards(_) | Waiting::Key(_)) => self.put_back(other),
        }
    }

    fn put_back<T>(&mut self, waiting: Waiting) -> Option<T> {
        self.waiting = Some(waiting);
        None
    }
}

impl<D: Driver> Shard<D> {
    /// Publishes a batch once its idempotency keys are reserved and the single streams that it addresses
    /// are found.
    pub(super) fn publish(&mut self, conn: ConnId, submission: Submission) {
        let Some(submission) = self.reserve_keys(conn, submission) else { return };
        if submission.batch.addressed().next().is_none() || self.drain.is_on() {
            self.publish_found(conn, submission);
        } else {
            self.find_clients(conn, submission);
        }
    }

    pub(super) fn refuse_batch(&mut self, conn: ConnId, form: Form, problem: Problem) {
        match form {
            Form::Whole(_) => self.answer(conn, &problem.into_response()),
            Form::Lines(..) => self.go_on_with_lines(conn, Some(LinesEnd::Failed(problem, None))),
        }
    }

    /// Answers a connection's open request.
    pub(super) fn answer(&mut self, conn: ConnId, response: &Response<'_>) {
        let refusal = self.unless_it_fits(conn, response);
        let response = refusal.as_ref().unwrap_or(response);
        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if self.drain.is_on() || peer.is_over_limit {
            peer.conn.drain(context.now); // Its last answer.
        }
        peer.conn.answer(&context, response);
    }
}
