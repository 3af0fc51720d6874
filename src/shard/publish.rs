//! Publishing: from a request to the log, and from the log's answer to the client's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{self, AnswerForm, BadLine, Checks, Claims, LinesAccount, Places, ReadLines};
use crate::auth::Permission;
use crate::base::id::{ConnId, EventId};
use crate::conn::Context;
use crate::driver::Driver;
use crate::frame::batch::Batch;
use crate::http::{Problem, Response};
use crate::hub::{Receivers, Tally};
use crate::log::Ticket;

use super::Shard;
use super::apply::{Outcome, TicketParts};
use super::keys::Reservation;
use super::peer::Peer;
use super::retries::Recount;

/// Batches that the log may have of one shard; below what its mailbox holds, so that every outcome finds room.
pub(super) const BATCHES_UNDER_WAY_MAX: usize = 8192;

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
    pub(super) fn places_mut(&mut self) -> &mut Places {
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
    pub(super) reservation: Option<Reservation>,
}

impl Submission {
    pub(super) fn new(batch: Batch, form: Form, claims: Claims) -> Submission {
        Submission { batch, form, claims, reservation: None }
    }
}

/// What a connection's request waits for before the log, or instead of it.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Shards that are behind.
    Shards(Submission),
    /// An idempotency key that is under way.
    Key(Submission),
    /// The receivers of an event that was published before.
    Count(Recount),
}

/// What a connection is publishing, or has asked for that is not answered at once.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    pub(super) waiting: Option<Waiting>,
    /// It stands in the shard's queue of those that wait for keys, perhaps for a request that was answered meanwhile.
    pub(super) is_queued_for_key: bool,
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

impl Publishing {
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

    pub(super) fn take_for_key(&mut self) -> Option<Submission> {
        match self.waiting.take()? {
            Waiting::Key(submission) => Some(submission),
            other @ (Waiting::Shards(_) | Waiting::Count(_)) => self.put_back(other),
        }
    }

    pub(super) fn take_for_count(&mut self) -> Option<Recount> {
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

/// Returns true if and only if the connection's answers wait until all outcomes that are there have been taken: the log
/// has its next request already, whose answer then goes out with them. A send for each was seen to take more than half of
/// the time of a pipelined publish.
pub(super) fn hold_back(held_back: &mut Option<Vec<ConnId>>, peer: &mut Peer, conn: ConnId) -> bool {
    let (Some(held_back), Some(publishing)) = (held_back, &mut peer.publishing) else { return false };
    if publishing.ticket.is_none() {
        return false;
    }
    if !publishing.is_held_back {
        publishing.is_held_back = true;
        held_back.push(conn);
    }
    true
}

/// The batches that the log has of this shard.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: u64,
    under_way: HashMap<Ticket, UnderWay>,
    /// Batches that were applied, whose receivers are being counted.
    counting: Vec<(Ticket, EventId, Arc<Tally>)>,
}

#[derive(Debug)]
struct UnderWay {
    conn: ConnId,
    form: Form,
}

impl Tickets {
    /// Returns true if and only if a count is complete that an answer waits for.
    pub(super) fn has_settled(&self) -> bool {
        self.counting.iter().any(|(_, _, tally)| tally.total().is_some())
    }

    /// Forgets whom outcomes are for. Tickets are never issued twice, so those that come are nobody's.
    pub(super) fn forget_all(&mut self) {
        self.under_way.clear();
        self.counting.clear();
    }

    fn issue(&mut self, shard: usize, under_way: UnderWay, is_keyed: bool) -> Ticket {
        let parts = TicketParts { shard, serial: self.next };
        let ticket = if is_keyed { parts.keyed() } else { parts }.ticket();
        self.next += 1;
        self.under_way.insert(ticket, under_way);
        ticket
    }
}

impl<D: Driver> Shard<D> {
    /// Publishes the lines that a connection has read.
    pub(super) fn handle_lines(&mut self, conn: ConnId) {
        let status = self.status();
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Some(lines) = peer.conn.take_lines(self.now) else { return };
        let is_over_limit = peer.is_over_limit;
        let publishing = peer.publishing.get_or_insert_default();
        if let Some(head) = &lines.head {
            publishing.lines = LinesAccount::default();
            publishing.forget_request(); // One before ran out of time.
            match api::admit(head, &self.options.api[usize::from(peer.listener)], status) {
                Ok(_) if is_over_limit => return self.refuse_over_limit(conn),
                Ok(permission) => publishing.permission = Some(permission),
                Err(problem) => return self.answer(conn, &problem.into_response()),
            }
        }
        let Some(permission) = &publishing.permission else { return };
        let ReadLines { batch, places, claims, error } = api::read_lines(
            &lines,
            permission,
            Checks { fingerprints: self.keys.fingerprints(), hub: &self.hub },
        );
        let end = match (error, lines.failure) {
            (Some(BadLine { line, problem }), _) => Some(LinesEnd::Failed(problem, Some(line))),
            (None, Some(problem)) => Some(LinesEnd::Failed(problem, None)),
            (None, None) => lines.is_end.then_some(LinesEnd::Whole),
        };
        if batch.is_empty() {
            self.go_on_with_lines(conn, end);
        } else {
            self.publish(conn, Submission::new(batch, Form::Lines(places, end), claims));
        }
    }

    /// Answers over a connection that is one too many.
    pub(super) fn refuse_over_limit(&mut self, conn: ConnId) {
        let detail = "the server has as many connections as it takes";
        self.answer(conn, &Problem::too_many(detail, self.options.retry).into_response());
    }

    /// Publishes a batch, once its idempotency keys are reserved, and the single streams are found that its events go to.
    pub(super) fn publish(&mut self, conn: ConnId, submission: Submission) {
        let Some(submission) = self.reserve_keys(conn, submission) else { return };
        if submission.batch.addressed().next().is_none() || self.drain.is_on() {
            self.publish_found(conn, submission);
        } else {
            self.find_clients(conn, submission);
        }
    }

    /// Appends a batch to the log, or has it wait while shards are behind.
    pub(super) fn publish_found(&mut self, conn: ConnId, submission: Submission) {
        if self.drain.is_on() {
            let problem = Problem::unavailable("the server is draining", Duration::from_secs(1));
            return self.refuse_batch(conn, submission.form, problem);
        }
        if self.hub.exceeds_channels_max(&submission.batch) {
            let detail = "the server has as many channels as it keeps; publish to one that exists, or later";
            return self.refuse_batch(conn, submission.form, Problem::too_many(detail, self.options.retry));
        }
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let publishing = peer.publishing.get_or_insert_default();
        let is_full = self.tickets.under_way.len() >= BATCHES_UNDER_WAY_MAX;
        if is_full || self.hub.is_behind() {
            publishing.waiting = Some(Waiting::Shards(submission));
            self.paused.push_back(conn);
            self.counters.publish_pauses += 1;
            return;
        }
        let Submission { batch, form, reservation, .. } = submission;
        let ticket = self.tickets.issue(self.options.number, UnderWay { conn, form }, reservation.is_some());
        publishing.ticket = Some(ticket);
        if let Some(reservation) = reservation {
            reservation.hand_over(ticket); // From here on it is the log's word that counts.
        }
        self.log.append(batch, ticket);
    }

    /// Publishes what waited, unless it would have to wait again.
    pub(super) fn resume_paused(&mut self) {
        for _ in 0..self.paused.len() {
            if self.hub.is_behind() || self.tickets.under_way.len() >= BATCHES_UNDER_WAY_MAX {
                return;
            }
            let Some(conn) = self.paused.pop_front() else { return };
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let paused = peer.publishing.as_mut().and_then(|publishing| publishing.take_for_shards());
            // A request whose time ran out was answered so; what it would have published is not.
            if let Some(submission) = paused.filter(|_| peer.conn.awaits_answer()) {
                self.publish_found(conn, submission);
                self.act(conn);
            }
        }
    }

    /// Answers what the log has decided.
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        let Outcome { ticket, result } = outcome;
        if TicketParts::of(ticket).is_keyed() {
            self.keys.note_time(self.now);
        }
        match result {
            Ok((first, Receivers::Exactly(receivers))) => self.acknowledge(ticket, first, receivers),
            Ok((first, Receivers::Counting(tally))) => self.tickets.counting.push((ticket, first, tally)),
            Err(refusal) => {
                let Some(UnderWay { conn, form, .. }) = self.claim(ticket) else { return };
                let problem = Problem::unavailable(refusal.to_string(), Duration::from_secs(1));
                self.refuse_batch(conn, form, problem);
                self.act(conn);
            }
        }
    }

    /// Answers those whose receivers were counted.
    pub(super) fn settle_tallies(&mut self) {
        if !self.tickets.has_settled() {
            return;
        }
        for (ticket, first, tally) in std::mem::take(&mut self.tickets.counting) {
            match tally.total() {
                Some(receivers) => self.acknowledge(ticket, first, receivers),
                None => self.tickets.counting.push((ticket, first, tally)),
            }
        }
    }

    /// Sends the answers that waited for one another.
    pub(super) fn send_held_back(&mut self) {
        for conn in self.held_back.take().unwrap_or_default() {
            if let Some(publishing) = self.peers.get_mut(conn).and_then(|peer| peer.publishing.as_mut()) {
                publishing.is_held_back = false;
            }
            self.act(conn);
        }
    }

    fn acknowledge(&mut self, ticket: Ticket, first: EventId, receivers: u64) {
        let Some(UnderWay { conn, form }) = self.claim(ticket) else { return };
        self.acknowledge_form(conn, form, Some(first), Some(receivers));
        self.act(conn);
    }

    /// Answers a batch, or goes on with its body of lines. `first` is the id of its first event; `None` where all of them
    /// were published before.
    pub(super) fn acknowledge_form(
        &mut self,
        conn: ConnId,
        form: Form,
        first: Option<EventId>,
        receivers: Option<u64>,
    ) {
        match form {
            Form::Whole(form) => {
                let receivers = receivers.filter(|_| form.wants_receivers());
                self.answer(conn, &api::answer_published(&form, first, receivers));
            }
            Form::Lines(places, end) => {
                if let Some(publishing) = self.peers.get_mut(conn).and_then(|peer| peer.publishing.as_mut()) {
                    publishing.lines.add(first, &places);
                }
                self.go_on_with_lines(conn, end);
            }
        }
    }

    /// Takes a batch off those under way; `None` where nobody waits for its answer any more.
    fn claim(&mut self, ticket: Ticket) -> Option<UnderWay> {
        let under_way = self.tickets.under_way.remove(&ticket)?;
        let peer = self.peers.get_mut(under_way.conn)?;
        let publishing = peer.publishing.as_mut()?;
        if publishing.ticket != Some(ticket) {
            return None; // Its time ran out, and the connection has gone on.
        }
        publishing.ticket = None;
        peer.conn.awaits_answer().then_some(under_way)
    }

    pub(super) fn refuse_batch(&mut self, conn: ConnId, form: Form, problem: Problem) {
        match form {
            Form::Whole(_) => self.answer(conn, &problem.into_response()),
            Form::Lines(..) => self.go_on_with_lines(conn, Some(LinesEnd::Failed(problem, None))),
        }
    }

    /// Reads more lines, or answers the body that has ended.
    pub(super) fn go_on_with_lines(&mut self, conn: ConnId, end: Option<LinesEnd>) {
        let Shard { peers, options, common, now, date, .. } = self;
        let context = Context { now: *now, date, options: &options.conn, common };
        let Some(peer) = peers.get_mut(conn) else { return };
        let Some(end) = end else { return peer.conn.take_more_lines(&context) };
        let account = peer.publishing.as_mut().map(|publishing| std::mem::take(&mut publishing.lines));
        let account = account.unwrap_or_default();
        let response = match end {
            LinesEnd::Whole => {
                let answer = account.answer();
                let is_refused = self.unless_it_fits(conn, &answer).is_some();
                if is_refused { account.answer_without_ids() } else { answer }
            }
            LinesEnd::Failed(problem, line) => account.refuse(problem, line),
        };
        self.answer(conn, &response);
    }

    /// Answers the request that a connection has handed over.
    pub(super) fn answer(&mut self, conn: ConnId, response: &Response<'_>) {
        let refusal = self.unless_it_fits(conn, response);
        let response = refusal.as_ref().unwrap_or(response);
        let Shard { peers, options, common, now, date, drain, .. } = self;
        let context = Context { now: *now, date, options: &options.conn, common };
        let Some(peer) = peers.get_mut(conn) else { return };
        if drain.is_on() || peer.is_over_limit {
            peer.conn.drain(*now); // Its last answer.
        }
        peer.conn.answer(&context, response);
    }
}
