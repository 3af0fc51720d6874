//! Publishing: from a request to the log, and from the log's answer to the client's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{self, AnswerForm, BadLine, LinesAccount, OwnIds, ReadLines};
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

/// Batches that the log may have of one shard; below what its mailbox holds, so that every outcome finds room.
pub(super) const BATCHES_UNDER_WAY_MAX: usize = 8192;

/// How the answer to a batch looks.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// It was the whole request.
    Whole(AnswerForm),
    /// It was a part of a body of lines.
    Lines {
        /// The ids that its publisher gave.
        own_ids: OwnIds,
        /// The lines of its events that go to one client each.
        client_lines: Vec<u64>,
        /// How the body ends, where this is its last part.
        end: Option<LinesEnd>,
    },
}

/// How a body of lines ended.
#[derive(Clone, Debug)]
pub(super) enum LinesEnd {
    /// With its last line.
    Whole,
    /// With an error, perhaps of one line.
    Failed(Problem, Option<u64>),
}

/// What a connection is publishing, or has asked for that is not answered at once.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    /// What waits for shards that are behind.
    paused: Option<(Batch, Form)>,
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
    /// Forgets what waits of a request that was answered meanwhile: nothing more of it is published, and nobody is told
    /// what becomes of the rest.
    pub(super) fn forget_waiting(&mut self) {
        self.paused = None;
        self.question = None;
        self.ticket = None; // The outcome may come while the next request waits for something else.
    }
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
    events: usize,
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

    fn issue(&mut self, shard: usize, under_way: UnderWay) -> Ticket {
        let ticket = TicketParts { shard, serial: self.next }.ticket();
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
            publishing.forget_waiting(); // Its request ran out of time.
            match api::admit(head, &self.options.api[usize::from(peer.listener)], status) {
                Ok(_) if is_over_limit => return self.refuse_over_limit(conn),
                Ok(permission) => publishing.permission = Some(permission),
                Err(problem) => return self.answer(conn, &problem.into_response()),
            }
        }
        let Some(permission) = &publishing.permission else { return };
        let ReadLines { batch, client_lines, own_ids, error } = api::read_lines(&lines, permission);
        let end = match (error, lines.failure) {
            (Some(BadLine { line, problem }), _) => Some(LinesEnd::Failed(problem, Some(line))),
            (None, Some(problem)) => Some(LinesEnd::Failed(problem, None)),
            (None, None) => lines.is_end.then_some(LinesEnd::Whole),
        };
        if batch.is_empty() {
            self.go_on_with_lines(conn, end);
        } else {
            self.publish(conn, batch, Form::Lines { own_ids, client_lines, end });
        }
    }

    /// Answers over a connection that is one too many.
    pub(super) fn refuse_over_limit(&mut self, conn: ConnId) {
        let detail = "the server has as many connections as it takes";
        self.answer(conn, &Problem::too_many(detail, self.options.retry).into_response());
    }

    /// Publishes a batch, once the single streams are found that its events go to, if some do.
    pub(super) fn publish(&mut self, conn: ConnId, batch: Batch, form: Form) {
        if batch.clients().is_empty() || self.drain.is_on() {
            self.publish_found(conn, batch, form);
        } else {
            self.find_clients(conn, batch, form);
        }
    }

    /// Appends a batch to the log, or has it wait while shards are behind.
    pub(super) fn publish_found(&mut self, conn: ConnId, batch: Batch, form: Form) {
        if self.drain.is_on() {
            let problem = Problem::unavailable("the server is draining", Duration::from_secs(1));
            return self.refuse_batch(conn, form, problem);
        }
        if self.hub.exceeds_channels_max(&batch) {
            let detail = "the server has as many channels as it keeps; publish to one that exists, or later";
            return self.refuse_batch(conn, form, Problem::too_many(detail, self.options.retry));
        }
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let publishing = peer.publishing.get_or_insert_default();
        let is_full = self.tickets.under_way.len() >= BATCHES_UNDER_WAY_MAX;
        if is_full || self.hub.is_behind() {
            publishing.paused = Some((batch, form));
            self.paused.push_back(conn);
            self.counters.publish_pauses += 1;
            return;
        }
        let under_way = UnderWay { conn, form, events: batch.len() };
        let ticket = self.tickets.issue(self.options.number, under_way);
        publishing.ticket = Some(ticket);
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
            let paused = peer.publishing.as_mut().and_then(|publishing| publishing.paused.take());
            // A request whose time ran out was answered so; what it would have published is not.
            if let Some((batch, form)) = paused.filter(|_| peer.conn.awaits_answer()) {
                self.publish_found(conn, batch, form);
                self.act(conn);
            }
        }
    }

    /// Answers what the log has decided.
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        let Outcome { ticket, result } = outcome;
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

    fn acknowledge(&mut self, ticket: Ticket, first: EventId, receivers: u64) {
        let Some(UnderWay { conn, form, events }) = self.claim(ticket) else { return };
        match form {
            Form::Whole(form) => {
                let receivers = form.wants_receivers().then_some(receivers);
                let response = api::answer_published(&form, first, receivers);
                self.answer(conn, &response);
            }
            Form::Lines { own_ids, end, .. } => {
                if let Some(publishing) = self.peers.get_mut(conn).and_then(|peer| peer.publishing.as_mut()) {
                    publishing.lines.add(first, events as u64, own_ids);
                }
                self.go_on_with_lines(conn, end);
            }
        }
        self.act(conn);
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
            Form::Lines { .. } => self.go_on_with_lines(conn, Some(LinesEnd::Failed(problem, None))),
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
            LinesEnd::Whole => account.answer(),
            LinesEnd::Failed(problem, line) => account.refuse(problem, line),
        };
        self.answer(conn, &response);
    }

    /// Answers the request that a connection has handed over.
    pub(super) fn answer(&mut self, conn: ConnId, response: &Response<'_>) {
        let Shard { peers, options, common, now, date, drain, .. } = self;
        let context = Context { now: *now, date, options: &options.conn, common };
        let Some(peer) = peers.get_mut(conn) else { return };
        if drain.is_on() || peer.is_over_limit {
            peer.conn.drain(); // Its last answer.
        }
        peer.conn.answer(&context, response);
    }
}
