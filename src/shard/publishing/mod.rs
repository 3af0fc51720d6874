//! Publishing, in the order of its stages: a request is read (`read`), its idempotency keys are reserved (`reserve`), the
//! single streams that it goes to are found (`shard::questions`), it waits while shards are behind and is appended to the
//! log (`append`), the log's outcome is applied for all (`apply`) and answers the request (`outcome`).

mod append;
pub mod apply;
mod key_table;
#[cfg(test)]
mod key_table_tests;
pub mod keys;
mod outcome;
mod read;
mod reserve;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Shard;
use super::connections::Connections;
use crate::api::{AnswerForm, Claims, LinesAccount, Places};
use crate::auth::Permission;
use crate::base::id::ConnId;
use crate::conn::Context;
use crate::driver::Driver;
use crate::frame::batch::Batch;
use crate::http::{Problem, Response};
use crate::log::Ticket;

pub(super) use append::BATCHES_UNDER_WAY_MAX;
use append::Tickets;
use keys::Reservation;
pub(super) use outcome::hold_back;
use reserve::Recount;

/// How long a publisher waits at the most before it is looked whether the shards that are behind have caught up.
pub const PAUSE: Duration = Duration::from_millis(1);

/// What a shard is publishing, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    tickets: Tickets,
    /// Connections that wait to publish, since a shard is behind.
    paused: VecDeque<ConnId>,
    /// Whose answers wait while outcomes of what the log has are taken; `None` where answers are sent at once.
    pub(super) held_back: Option<Vec<ConnId>>,
    /// Connections that wait for an idempotency key to be settled.
    waiting_for_keys: VecDeque<ConnId>,
    /// Connections that wait for the receivers of what was published before.
    recounts: VecDeque<ConnId>,
}

impl Publishing {
    pub(super) fn has_work(&self) -> bool {
        self.tickets.has_settled()
    }

    /// When to look whether those who wait may go on. Nobody tells a publisher's shard when the others have caught up, nor
    /// one that retries when they have counted: it asks.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let is_waiting = !self.paused.is_empty() || !self.recounts.is_empty();
        is_waiting.then(|| now + PAUSE)
    }

    /// How many connections wait to publish, since a shard is behind.
    pub(super) fn paused_len(&self) -> usize {
        self.paused.len()
    }
}

/// How the answer to a batch looks.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// It was the whole request.
    Whole(AnswerForm),
    /// It was a part of a body of lines, with these places in the answer. The last part says how the body ends.
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
    /// With its last line.
    Whole,
    /// With an error, perhaps of one line.
    Failed(Problem, Option<u64>),
}

/// A batch on its way to the log.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) form: Form,
    /// The idempotency keys that are yet to be reserved.
    pub(super) claims: Claims,
    /// Those that are.
    reservation: Option<Reservation>,
}

impl Submission {
    pub(super) fn new(batch: Batch, form: Form, claims: Claims) -> Submission {
        Submission { batch, form, claims, reservation: None }
    }

    /// Gives the keys of the events from the place `event` on free.
    pub(super) fn release_keys_from(&mut self, event: usize) {
        if let Some(reservation) = &mut self.reservation {
            reservation.release_from(event);
        }
    }
}

/// What a connection's request waits for before the log, or instead of it.
#[derive(Debug)]
enum Waiting {
    /// Shards that are behind.
    Shards(Submission),
    /// An idempotency key that is under way.
    Key(Submission),
    /// The receivers of an event that was published before.
    Count(Recount),
}

/// What a connection is publishing, or has asked for that is not answered at once.
#[derive(Debug, Default)]
pub(super) struct OpenRequest {
    waiting: Option<Waiting>,
    /// It stands in the shard's queue of those that wait for keys, perhaps for a request that was answered meanwhile.
    is_queued_for_key: bool,
    /// Its answers wait for that of the batch which the log has.
    is_held_back: bool,
    /// The batch that the log has.
    ticket: Option<Ticket>,
    /// The question to other shards on whose answers its request waits.
    pub(super) question: Option<u64>,
    /// What became of a body of lines so far.
    lines: LinesAccount,
    /// What the request may do whose body of lines is read.
    permission: Option<Permission>,
}

impl OpenRequest {
    /// Forgets a request that was answered as its time ran out: what of it waits is not published any more, and its
    /// idempotency keys are free; what the log says of the rest is no answer to the next request.
    pub(super) fn forget_request(&mut self) {
        self.waiting = None;
        self.ticket = None;
        self.question = None;
    }

    fn take_for_shards(&mut self) -> Option<Submission> {
        match self.waiting.take()? {
            Waiting::Shards(submission) => Some(submission),
            other @ (Waiting::Key(_) | Waiting::Count(_)) => self.put_back(other),
        }
    }

    fn take_for_key(&mut self) -> Option<Submission> {
        match self.waiting.take()? {
            Waiting::Key(submission) => Some(submission),
            other @ (Waiting::Shards(_) | Waiting::Count(_)) => self.put_back(other),
        }
    }

    fn take_for_count(&mut self) -> Option<Recount> {
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
    /// Publishes a batch, once its idempotency keys are reserved, and the single streams are found that its events go to.
    pub(super) fn publish(&mut self, conn: ConnId, submission: Submission) {
        let Some(submission) = self.reserve_keys(conn, submission) else { return };
        if submission.batch.addressed().next().is_none() || self.drain.is_on() {
            self.publish_found(conn, submission);
        } else {
            self.find_clients(conn, submission);
        }
    }

    /// Answers over a connection that is one too many.
    pub(super) fn refuse_over_limit(&mut self, conn: ConnId) {
        let detail = "the server has as many connections as it takes";
        self.answer(conn, &Problem::too_many(detail, self.options.retry).into_response());
    }

    pub(super) fn refuse_batch(&mut self, conn: ConnId, form: Form, problem: Problem) {
        match form {
            Form::Whole(_) => self.answer(conn, &problem.into_response()),
            Form::Lines(..) => self.go_on_with_lines(conn, Some(LinesEnd::Failed(problem, None))),
        }
    }

    /// Answers the request that a connection has handed over.
    pub(super) fn answer(&mut self, conn: ConnId, response: &Response<'_>) {
        let refusal = self.unless_it_fits(conn, response);
        let response = refusal.as_ref().unwrap_or(response);
        let Shard { connections: Connections { peers, .. }, options, common, now, date, drain, .. } = self;
        let context = Context { now: *now, date, options: &options.conn, common };
        let Some(peer) = peers.get_mut(conn) else { return };
        if drain.is_on() || peer.is_over_limit {
            peer.conn.drain(*now); // Its last answer.
        }
        peer.conn.answer(&context, response);
    }
}
