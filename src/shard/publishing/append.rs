//! Records on their way to the log. They wait while shards or the log are behind, then get a ticket.
//! Those that a turn brings are appended as groups, so that the log's and the hub's locks are taken once
//! for many requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::tickets::TicketParts;
use super::{Form, Publishing, Submission, Waiting};
use crate::base::id::{ConnId, EventId};
use crate::base::limits::EVENT_CHANNELS_MAX;
use crate::base::name::ChannelName;
use crate::driver::Driver;
use crate::http::Problem;
use crate::hub::Tally;
use crate::log::{Append, Ticket};
use crate::record::{Events, Record};
use crate::shard::Shard;

/// Most records of one shard that the log may have. It is below the capacity of the shard's mailbox, so
/// every outcome has room.
pub(in crate::shard) const RECORDS_UNDER_WAY_MAX: usize = 8192;

/// Most records of a group. A larger group makes the first publisher wait for the last one.
const GROUP_RECORDS_MAX: usize = 64;

/// A group of this many bytes is appended at once, so that shards that fall behind are noticed.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// The records of this shard that the log has.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    pub(super) under_way: HashMap<Ticket, UnderWay>,
    /// Batches that were applied and whose receivers are being counted.
    pub(super) counting: Vec<(Ticket, EventId, Arc<Tally>)>,
}

/// A record that the log has, and the request that waits for its outcome.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) conn: ConnId,
    pub(super) request: Request,
}

/// What a request has the log do.
#[derive(Debug)]
pub(super) enum Request {
    /// Publish a batch, and answer in this form.
    Publish(Form),
    /// Drop the history of this channel.
    DropHistory(ChannelName),
}

/// Records with a ticket that are about to be appended.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    group: Vec<Append>,
    events: usize,
    bytes: usize,
}

impl Outgoing {
    fn push(&mut self, ticket: Ticket, record: Record) {
        if let Record::Events { events, .. } = &record {
            self.events += events.len();
        }
        self.bytes += record.bytes();
        self.group.push((ticket, record));
    }

    fn is_full(&self) -> bool {
        self.group.len() >= GROUP_RECORDS_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// The number of targets of all events.
    fn targets(&self) -> usize {
        let of_record = |(_, record): &Append| match record {
            Record::Events { events, .. } => events.targets(),
            Record::HistoryDrop(_) => 0,
        };
        self.group.iter().map(of_record).sum()
    }
}

impl Tickets {
    /// Returns true if and only if a count is finished that an answer waits for.
    pub(super) fn has_settled(&self) -> bool {
        self.counting.iter().any(|(_, _, tally)| tally.total().is_some())
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= RECORDS_UNDER_WAY_MAX
    }
}

impl<D: Driver> Shard<D> {
    /// Gives a batch to the log, or queues it while shards or the log are behind.
    pub(in crate::shard) fn publish_found(&mut self, conn: ConnId, submission: Submission) {
        if self.drain.is_on() {
            let problem = Problem::unavailable("the server is draining", Duration::from_secs(1));
            return self.refuse_batch(conn, submission.form, problem);
        }
        self.append_before_limit_of_channels(&submission.batch);
        if self.core.hub.exceeds_channels_max(&submission.batch) {
            let detail = "the server has as many channels as it keeps; publish to one that exists, or later";
            return self.refuse_batch(conn, submission.form, Problem::too_many(detail, self.options.retry));
        }
        let must_wait = self.must_wait();
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if must_wait {
            peer.open_request.get_or_insert_default().waiting = Some(Waiting::Shards(submission));
            self.publishing.paused.push_back(conn);
            self.counters.publish_pauses += 1;
            return;
        }
        let Submission { batch, form, reservation, .. } = submission;
        let Some(ticket) = self.enter(conn, Request::Publish(form), reservation.is_some()) else { return };
        // From here on the log's outcome settles them.
        let keys = reservation.map(|reservation| reservation.hand_over(ticket)).unwrap_or_default();
        self.append(ticket, Record::Events { events: batch, keys });
    }

    /// Has the history of a channel dropped in its place of the log's order.
    pub(in crate::shard) fn append_history_drop(&mut self, conn: ConnId, channel: ChannelName) {
        if self.publishing.tickets.is_full() {
            let detail = "the log has as many requests under way as it takes";
            let problem = Problem::unavailable(detail, Duration::from_secs(1));
            return self.answer(conn, &problem.into_response());
        }
        // Under the log's lock this would keep publishers waiting.
        self.core.hub.give_up_lapsed();
        let Some(ticket) = self.enter(conn, Request::DropHistory(channel.clone()), false) else { return };
        self.append(ticket, Record::HistoryDrop(channel));
    }

    /// A ticket for the record of a connection's request.
    fn enter(&mut self, conn: ConnId, request: Request, is_keyed: bool) -> Option<Ticket> {
        let serial = self.new_serial();
        let open = self.connections.peers.get_mut(conn)?.open_request.get_or_insert_default();
        let parts = TicketParts { shard: self.options.number, serial };
        let ticket = if is_keyed { parts.keyed() } else { parts }.ticket();
        self.publishing.tickets.under_way.insert(ticket, UnderWay { conn, request });
        open.ticket = Some(ticket);
        Some(ticket)
    }

    fn append(&mut self, ticket: Ticket, record: Record) {
        self.publishing.outgoing.push(ticket, record);
        if self.publishing.outgoing.is_full() {
            self.append_outgoing();
        }
    }

    /// Appends the records that this turn has brought so far. Returns whether there were any.
    #[inline]
    pub(in crate::shard) fn append_outgoing(&mut self) -> bool {
        let has_any = !self.publishing.outgoing.is_empty();
        if has_any {
            self.append_group();
        }
        has_any
    }

    fn append_group(&mut self) {
        // If the log panics, the records are gone: it has had them.
        let mut outgoing = std::mem::take(&mut self.publishing.outgoing);
        self.core.log.append(&mut outgoing.group);
        self.publishing.outgoing.group = outgoing.group; // It is empty, and has room.
    }

    /// Appends what is outgoing if `events` more could exceed the limit of channels together with it, so
    /// that the hub knows all channels when it is asked.
    fn append_before_limit_of_channels(&mut self, events: &Events) {
        let Publishing { outgoing, .. } = &self.publishing;
        let events_max = outgoing.events + events.len();
        if !outgoing.is_empty()
            && self.core.hub.is_near_channels_max(events_max * EVENT_CHANNELS_MAX)
            && self.core.hub.is_near_channels_max(outgoing.targets() + events.targets())
        {
            self.append_outgoing();
        }
    }

    fn must_wait(&self) -> bool {
        self.publishing.tickets.is_full() || self.core.hub.is_behind() || self.core.log.is_behind()
    }

    /// Publishes queued batches until one would have to wait again.
    pub(in crate::shard) fn resume_paused(&mut self) {
        for _ in 0..self.publishing.paused.len() {
            if self.must_wait() {
                return;
            }
            let Some(conn) = self.publishing.paused.pop_front() else { return };
            let Some(peer) = self.connections.peers.get_mut(conn) else { continue };
            let paused = peer.open_request.as_mut().and_then(|request| request.end_wait_for_shards());
            // A request that timed out was answered, and its batch is dropped.
            if let Some(submission) = paused.filter(|_| peer.conn.awaits_answer()) {
                self.publish_found(conn, submission);
                self.act(conn);
            }
        }
    }
}
