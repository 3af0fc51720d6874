//! Outcomes of the log, and the answers to their requests.

use std::time::Duration;

use super::Form;
use super::append::{Request, UnderWay};
use super::publishers::{Effect, Outcome};
use super::tickets::TicketParts;
use crate::api;
use crate::base::id::{ConnId, EventId};
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::Receivers;
use crate::log::{Refusal, Ticket};
use crate::shard::Shard;
use crate::shard::connections::peer::Peer;

/// Returns true if and only if the connection's answers wait until the outcomes in the mailbox are
/// drained. The log already has the connection's next request, whose answer can share the send. One send
/// for each answer took more than half of the time of a pipelined publish.
pub(in crate::shard) fn hold_back(
    held_back: &mut Option<Vec<ConnId>>,
    peer: &mut Peer,
    conn: ConnId,
) -> bool {
    let (Some(held_back), Some(request)) = (held_back, &mut peer.open_request) else { return false };
    if request.ticket.is_none() {
        return false;
    }
    if !request.is_held_back {
        request.is_held_back = true;
        held_back.push(conn);
    }
    true
}

/// The detail of the answer to a request whose history was not dropped.
fn why_not_dropped(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Refused { reason } => format!("the log refused to drop the history: {reason}"),
        Refusal::Uncertain => {
            "the log did not say in time whether it drops the history: it may still be dropped".to_owned()
        }
    }
}

impl<D: Driver> Shard<D> {
    /// Answers the request on whose record the log has decided.
    pub(in crate::shard) fn handle_outcome(&mut self, outcome: Outcome) {
        let Outcome { ticket, result } = outcome;
        if TicketParts::of(ticket).is_keyed() {
            self.core.keys.note_time(self.clock.now);
        }
        match result {
            Ok(Effect::Published { first, receivers: Receivers::Exactly(receivers), .. }) => {
                self.acknowledge(ticket, first, receivers);
            }
            Ok(Effect::Published { first, receivers: Receivers::Counting(tally), .. }) => {
                self.publishing.tickets.counting.push((ticket, first, tally));
            }
            Ok(Effect::HistoryDropped { events }) => self.acknowledge_drop(ticket, events),
            Err(refusal) => {
                let Some(UnderWay { conn, request }) = self.claim(ticket) else { return };
                let unavailable = |detail| Problem::unavailable(detail, Duration::from_secs(1));
                match request {
                    Request::Publish(form) => {
                        self.refuse_batch(conn, form, unavailable(refusal.to_string()));
                    }
                    Request::DropHistory(_) => {
                        let problem = unavailable(why_not_dropped(&refusal));
                        self.answer(conn, &problem.into_response());
                    }
                }
                self.act(conn);
            }
        }
    }

    /// Answers the requests whose receivers are counted.
    pub(in crate::shard) fn settle_tallies(&mut self) {
        if !self.publishing.tickets.has_settled() {
            return;
        }
        for (ticket, first, tally) in std::mem::take(&mut self.publishing.tickets.counting) {
            match tally.total() {
                Some(receivers) => self.acknowledge(ticket, first, receivers),
                None => self.publishing.tickets.counting.push((ticket, first, tally)),
            }
        }
    }

    /// Sends the batched answers.
    pub(in crate::shard) fn send_held_back(&mut self) {
        for conn in self.publishing.held_back.take().unwrap_or_default() {
            if let Some(request) =
                self.connections.peers.get_mut(conn).and_then(|peer| peer.open_request.as_mut())
            {
                request.is_held_back = false;
            }
            self.act(conn);
        }
    }

    fn acknowledge(&mut self, ticket: Ticket, first: EventId, receivers: u64) {
        let Some(UnderWay { conn, request: Request::Publish(form) }) = self.claim(ticket) else { return };
        self.acknowledge_form(conn, form, Some(first), Some(receivers));
        self.act(conn);
    }

    /// Answers a request that dropped a history.
    fn acknowledge_drop(&mut self, ticket: Ticket, dropped: Option<usize>) {
        let Some(UnderWay { conn, request: Request::DropHistory(channel) }) = self.claim(ticket) else {
            return;
        };
        self.answer(conn, &api::answer_dropped(&channel, dropped));
        self.act(conn);
    }

    /// Answers a batch, or goes on with its body of lines. `first` is the id of its first event; `None`
    /// if all of them were published before.
    pub(in crate::shard) fn acknowledge_form(
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
                if let Some(request) =
                    self.connections.peers.get_mut(conn).and_then(|peer| peer.open_request.as_mut())
                {
                    request.lines.add(first, &places);
                }
                self.go_on_with_lines(conn, end);
            }
        }
    }

    /// Removes a batch from those under way. `None` if no request waits for its answer any more.
    fn claim(&mut self, ticket: Ticket) -> Option<UnderWay> {
        let under_way = self.publishing.tickets.under_way.remove(&ticket)?;
        let peer = self.connections.peers.get_mut(under_way.conn)?;
        let request = peer.open_request.as_mut()?;
        if request.ticket != Some(ticket) {
            return None; // It timed out, and the connection has gone on.
        }
        request.ticket = None;
        peer.conn.awaits_answer().then_some(under_way)
    }
}
