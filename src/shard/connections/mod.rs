//! The shard's connections: what the driver reports of them, what they want done, and when they want to hear of the time.

mod expiry;
mod lingering;
mod memory;
pub(super) mod peer;
mod spread;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Shard;
use super::publishing::{Form, Publishing, Submission, hold_back};
use super::streams::state::WaitsFor;
use crate::api::{self, Checks, Reply, ServerStatus};
use crate::base::id::ConnId;
use crate::base::slots::Slots;
use crate::base::wheel::Wheel;
use crate::conn::{Action, Context, Input};
use crate::driver::{Completion, Driver, SendStart};

use expiry::{Hearing, MUCH_BYTES};
use lingering::Lingerers;
use peer::Peer;
pub(super) use spread::HANDED_ON_MAX;

/// The step of the shard's timer wheel: deadlines are kept at most this late.
const TIMER_TICK: Duration = Duration::from_millis(4);

/// Connections beyond the limit that are taken in order to be told of it.
pub const CONNECTIONS_OVER_LIMIT_MAX: usize = 256;

/// Actions of one connection that are carried out before others have theirs.
const ACTIONS_AT_ONCE_MAX: usize = 64;

/// Actions that one turn carries out of connections that the driver tells of, and again of those that anything else has
/// come up for. Those that have more to do go on in a later turn.
pub(super) const ACTIONS_PER_TURN_MAX: usize = 4096;

/// Actions that one turn carries out of connections that had more to do than they were given before.
pub(super) const UNFINISHED_ACTIONS_PER_TURN_MAX: usize = 1024;

/// How long nothing is logged of what was just logged.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The connections of a shard, and when they are to be looked at.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) peers: Slots<Peer>,
    /// When connections are to be looked at, by their slots.
    pub(super) timers: Wheel,
    /// What is heard before deadlines that are due are looked at.
    hearing: Option<Hearing>,
    /// Slots of connections that had more to do than they were given. They wait here and not among those that are marked,
    /// so that no connection holds a fan-out up by always having something to do.
    unfinished: VecDeque<u32>,
    /// Actions that this part of the turn may still carry out.
    actions_left: usize,
    lingerers: Lingerers,
    /// Whose turn it is to take a connection of a listener that this shard has for all.
    next_taker: usize,
    /// When it was last logged that connections cannot be accepted.
    accept_failure_told: Option<Instant>,
}

impl Connections {
    /// No connection, and room for so many; `lingering` counts those of all shards that linger.
    pub(super) fn new(room: usize, now: Instant, lingering: Arc<AtomicUsize>) -> Connections {
        Connections {
            peers: Slots::with_room_for(room),
            timers: Wheel::with_room_for(room, now, TIMER_TICK),
            hearing: None,
            unfinished: VecDeque::new(),
            actions_left: 0,
            lingerers: Lingerers::new(lingering),
            next_taker: 0,
            accept_failure_told: None,
        }
    }

    /// Begins anew after all connections were closed. Slots go on counting their generations, so that what the driver still
    /// reports of a former connection is of none that comes.
    pub(super) fn restart(&mut self, room: usize, now: Instant, lingering: Arc<AtomicUsize>) {
        let peers = std::mem::take(&mut self.peers);
        *self = Connections { peers, ..Connections::new(room, now, lingering) };
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.unfinished.is_empty()
    }
}

impl<D: Driver> Shard<D> {
    /// Handles what the driver reports.
    pub(super) fn handle_completions(&mut self) {
        self.connections.actions_left = ACTIONS_PER_TURN_MAX;
        while let Some(conn) = self.next_completion() {
            self.act(conn);
        }
    }

    /// Handles the driver's next completion; returns the connection that may want something now.
    fn next_completion(&mut self) -> Option<ConnId> {
        loop {
            let Shard {
                connections: Connections { peers, .. },
                driver,
                options,
                common,
                counters,
                now,
                date,
                ..
            } = self;
            let context = Context { now: *now, date, options: &options.conn, common };
            let mut had_much = false;
            let (conn, input) = match driver.next()? {
                Completion::Accepted { socket, listener } => {
                    if let Some(conn) = self.accept_or_hand_on(socket, listener) {
                        return Some(conn);
                    }
                    continue;
                }
                Completion::AcceptFailed { error } => {
                    self.note_accept_failure(&error);
                    continue;
                }
                Completion::Received { conn, bytes } => {
                    had_much = bytes.len() >= MUCH_BYTES;
                    (conn, Input::Received(bytes))
                }
                Completion::ReceiveEnded { conn } => (conn, Input::ReceiveEnded),
                Completion::Sent { conn, bytes } => {
                    let Some(peer) = peers.get_mut(conn) else { continue };
                    counters.note_sent(bytes, peer.conn.sent(&context, bytes));
                    if peer.is_settled() {
                        continue;
                    }
                    return Some(conn);
                }
                Completion::Writable { conn } => (conn, Input::Writable),
                Completion::Failed { conn, .. } => (conn, Input::Failed),
            };
            if let Some(peer) = peers.get_mut(conn) {
                peer.had_much |= had_much;
                peer.conn.handle(&context, input);
                if peer.is_stream && !peer.conn.is_streaming() {
                    self.leave(conn); // It has the rest of its stream yet to read, but gets no more.
                }
                return Some(conn);
            }
        }
    }

    /// A full table of files fails at nearly every try; one line a while says so.
    fn note_accept_failure(&mut self, error: &io::Error) {
        self.counters.accept_failures += 1;
        if self.connections.accept_failure_told.is_none_or(|told| self.now >= told + TELL_AGAIN) {
            self.connections.accept_failure_told = Some(self.now);
            tracing::warn!(%error, "cannot accept connections; trying again");
        }
    }

    fn accept(&mut self, socket: D::Socket, listener: usize) -> Option<ConnId> {
        let (len, most) = (self.core.open_connections.load(Ordering::Relaxed), self.options.connections_max);
        if len >= most + CONNECTIONS_OVER_LIMIT_MAX {
            self.driver.refuse(socket);
            self.counters.dropped += 1;
            return None;
        }
        let conn = self.connections.peers.insert(Peer::new(self.now, listener, len >= most));
        match self.driver.adopt(socket, conn) {
            Ok(()) => {
                self.core.open_connections.fetch_add(1, Ordering::Relaxed);
                self.counters.accepted += 1;
                Some(conn)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                self.connections.peers.remove(conn);
                None
            }
        }
    }

    /// Closes all connections at once, and forgets them.
    pub(super) fn close_all(&mut self) {
        for conn in self.connections.peers.ids().collect::<Vec<_>>() {
            self.driver.close(conn);
            self.forget(conn);
        }
    }

    /// Forgets a connection that the driver has closed.
    fn forget(&mut self, conn: ConnId) {
        self.connections.timers.disarm(conn.index);
        self.connections.peers.remove(conn);
        self.core.open_connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Goes on with connections that had more to do than they were given, a bounded amount.
    pub(super) fn finish_actions(&mut self) {
        self.connections.actions_left = UNFINISHED_ACTIONS_PER_TURN_MAX;
        for _ in 0..self.connections.unfinished.len() {
            if self.connections.actions_left == 0 {
                break;
            }
            let Some(slot) = self.connections.unfinished.pop_front() else { break };
            if let Some((conn, peer)) = self.connections.peers.entry_at_mut(slot)
                && std::mem::take(&mut peer.is_unfinished)
            {
                self.act(conn);
            }
        }
        self.connections.actions_left = ACTIONS_PER_TURN_MAX; // How many others are seen to is bounded where that is done.
    }

    /// Carries out what a connection wants, until it wants no more, or others are to have their turn.
    pub(super) fn act(&mut self, conn: ConnId) {
        for _ in 0..ACTIONS_AT_ONCE_MAX {
            let Some(left) = self.connections.actions_left.checked_sub(1) else { break };
            self.connections.actions_left = left;
            let Shard {
                connections: Connections { peers, .. },
                publishing: Publishing { held_back, .. },
                driver,
                options,
                common,
                counters,
                now,
                date,
                ..
            } = self;
            let context = Context { now: *now, date, options: &options.conn, common };
            let Some(peer) = peers.get_mut(conn) else { return };
            match peer.conn.poll_action(&context) {
                Some(Action::Receive) if peer.conn.is_streaming() => driver.watch(conn),
                Some(Action::Receive) => driver.recv(conn),
                Some(Action::Send) if hold_back(held_back, peer, conn) => return,
                Some(Action::Send) => match peer.conn.offer(|batch| driver.send(conn, batch)) {
                    SendStart::Sent(bytes) => counters.note_sent(bytes, peer.conn.sent(&context, bytes)),
                    SendStart::Pending => peer.conn.send_is_pending(),
                    SendStart::Failed(_) => peer.conn.handle(&context, Input::Failed),
                },
                Some(Action::Shutdown) => {
                    driver.shutdown(conn);
                    self.leave(conn);
                    self.linger(conn);
                }
                Some(Action::Close(reason)) => {
                    tracing::trace!(slot = conn.index, ?reason, "closed");
                    if peer.conn.has_lingered() {
                        self.connections.lingerers.end();
                    }
                    self.leave(conn);
                    self.driver.close(conn);
                    self.forget(conn);
                    self.counters.note_close(reason);
                    return;
                }
                Some(Action::Request) => self.handle_request(conn),
                Some(Action::Lines) => self.handle_lines(conn),
                None if self.count_held(conn) => {} // It was refused: that is to be said.
                None => {
                    self.settle(conn);
                    return;
                }
            }
        }
        if let Some(peer) = self.connections.peers.get_mut(conn)
            && !std::mem::replace(&mut peer.is_unfinished, true)
        {
            self.connections.unfinished.push_back(conn.index);
        }
    }

    /// Sees to a connection that wants nothing now: its timer, its place in the history, its age.
    fn settle(&mut self, conn: ConnId) {
        let Shard { connections: Connections { peers, timers, .. }, streams, options, now, .. } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        if let Some(behind) = &mut peer.behind
            && behind.waits_for == WaitsFor::Outbox
            && peer.conn.waiting_bytes() == 0
        {
            behind.waits_for = WaitsFor::Turn;
            streams.queue_reader(conn.index);
        }
        if let Some(deadline) = peer.conn.deadline(&options.conn) {
            timers.arm(conn.index, deadline.max(*now + TIMER_TICK));
        }
        peer.is_timed = peer.conn.is_idle_stream();
    }

    fn handle_request(&mut self, conn: ConnId) {
        let status = self.status();
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Peer { is_over_limit, listener, .. } = *peer;
        let Some((head, body)) = peer.conn.take_request(self.now) else { return };
        if let Some(request) = &mut peer.open_request {
            request.forget_request(); // One before ran out of time.
        }
        let api = &self.options.api[usize::from(listener)];
        let checks = Checks { fingerprints: self.core.keys.fingerprints(), hub: &self.core.hub };
        match api::handle(&head, &body, api, status, checks) {
            Reply::Subscribe(request) => self.subscribe(conn, &request),
            Reply::Respond(response) => self.answer(conn, &response),
            Reply::Report(form) => self.begin_report(conn, form),
            Reply::ListChannels(request) => self.begin_listing(conn, &request),
            Reply::Publish { .. } | Reply::DropHistory(_) | Reply::Client(_) if is_over_limit => {
                self.refuse_over_limit(conn)
            }
            Reply::Client(request) => self.begin_client_request(conn, request),
            Reply::DropHistory(channel) => {
                let dropped = self.core.hub.drop_history(channel.as_str());
                self.answer(conn, &api::answer_dropped(&channel, dropped));
            }
            Reply::Publish { batch, form, claims } => {
                self.publish(conn, Submission::new(batch, Form::Whole(form), claims));
            }
        }
    }

    pub(super) fn status(&self) -> ServerStatus {
        if self.drain.is_on() { ServerStatus::Draining } else { ServerStatus::Ready }
    }
}
