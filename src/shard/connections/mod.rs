//! The shard's connections: completions of the driver, actions of the connections, and their timers.

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
use crate::conn::{Action, Input};
use crate::driver::{Completion, Driver, SendStart};
use crate::http::Problem;

use expiry::{Hearing, MUCH_BYTES};
use lingering::Lingerers;
use peer::Peer;
pub(super) use spread::HANDED_ON_MAX;

/// The step of the shard's timer wheel. Deadlines are late by at most this.
const TIMER_TICK: Duration = Duration::from_millis(4);

/// Connections beyond the limit that are accepted, so that they get an answer.
pub const CONNECTIONS_OVER_LIMIT_MAX: usize = 256;

/// Actions that one connection gets before others have their turn.
const ACTIONS_AT_ONCE_MAX: usize = 64;

/// Actions that one turn carries out for connections with completions, and as many again for other
/// connections. The rest waits for a later turn.
pub(super) const ACTIONS_PER_TURN_MAX: usize = 4096;

/// Actions that one turn carries out for connections left unfinished by an earlier one.
pub(super) const UNFINISHED_ACTIONS_PER_TURN_MAX: usize = 1024;

/// Shortest time between two log lines about the same condition.
pub(super) const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The connections of a shard and their timers.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) peers: Slots<Peer>,
    /// When to check connections, by their slots.
    pub(super) timers: Wheel,
    /// The check of deadlines that waits for earlier input.
    hearing: Option<Hearing>,
    /// Slots of connections that used up their actions and have more to do. They wait here and not in
    /// the marked list, so that a connection that always has something to do cannot delay a fan-out.
    unfinished: VecDeque<u32>,
    /// Actions left in this part of the turn.
    actions_left: usize,
    lingerers: Lingerers,
    /// The shard that takes the next connection of a listener that this shard has for all.
    next_taker: usize,
    /// When a failure to accept was last logged.
    accept_failure_logged: Option<Instant>,
}

impl Connections {
    /// No connections, and room for `room` of them; `lingering` counts those of all shards that linger.
    pub(super) fn new(room: usize, now: Instant, lingering: Arc<AtomicUsize>) -> Connections {
        Connections {
            peers: Slots::with_room_for(room),
            timers: Wheel::with_room_for(room, now, TIMER_TICK),
            hearing: None,
            unfinished: VecDeque::new(),
            actions_left: 0,
            lingerers: Lingerers::new(lingering),
            next_taker: 0,
            accept_failure_logged: None,
        }
    }

    /// Starts again after all connections were closed. Slots keep their generations, so that late
    /// completions of a former connection match no new one.
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
    /// Handles the driver's completions.
    pub(super) fn handle_completions(&mut self) {
        self.connections.actions_left = ACTIONS_PER_TURN_MAX;
        while let Some(conn) = self.next_completion() {
            self.act(conn);
        }
    }

    /// Handles the driver's next completion. Returns the connection that may have actions now.
    fn next_completion(&mut self) -> Option<ConnId> {
        loop {
            let Shard {
                connections: Connections { peers, .. },
                driver,
                options,
                common,
                counters,
                clock,
                ..
            } = self;
            let context = clock.context(&options.conn, common);
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
                    self.leave(conn); // Its queued frames are still sent, but it gets no new ones.
                }
                return Some(conn);
            }
        }
    }

    /// With a full file table nearly every accept fails, so the log line is limited.
    fn note_accept_failure(&mut self, error: &io::Error) {
        self.counters.accept_failures += 1;
        let now = self.clock.now;
        if self.connections.accept_failure_logged.is_none_or(|logged| now >= logged + LOG_AGAIN_AFTER) {
            self.connections.accept_failure_logged = Some(now);
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
        let conn = self.connections.peers.insert(Peer::new(self.clock.now, listener, len >= most));
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

    /// Goes on with connections that used up their actions, within the bound.
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
        self.connections.actions_left = ACTIONS_PER_TURN_MAX; // Later callers have their own bounds.
    }

    /// Carries out a connection's actions until it has none left or has had its share.
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
                clock,
                ..
            } = self;
            let context = clock.context(&options.conn, common);
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
                Some(Action::Head) => self.handle_head(conn),
                Some(Action::Request) => self.handle_request(conn),
                Some(Action::Lines) => self.handle_lines(conn),
                None if self.count_held(conn) => {} // The refusal is still to be sent.
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

    /// Updates timer and history queue of a connection that has no action left.
    fn settle(&mut self, conn: ConnId) {
        let Shard { connections: Connections { peers, timers, .. }, streams, options, clock, .. } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        if let Some(behind) = &mut peer.behind
            && behind.waits_for == WaitsFor::Outbox
            && peer.conn.waiting_bytes() == 0
        {
            behind.waits_for = WaitsFor::Turn;
            streams.queue_reader(conn.index);
        }
        if let Some(deadline) = peer.conn.deadline(&options.conn) {
            timers.arm(conn.index, deadline.max(clock.now + TIMER_TICK));
        }
        peer.is_timed = peer.conn.is_idle_stream();
    }

    /// Decides about a request whose head is complete. A refusal is answered before the body is read.
    fn handle_head(&mut self, conn: ConnId) {
        let status = self.status();
        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Some(head) = peer.conn.undecided() else { return };
        let mut decision = api::decide(head, &self.options.api[usize::from(peer.listener)], status);
        if peer.is_over_limit && decision.is_publish {
            decision.admission = decision.admission.and_then(|_| Err(over_limit(self.options.retry)));
        }
        if decision.admission.is_err() && (self.drain.is_on() || peer.is_over_limit) {
            peer.conn.drain(context.now); // Its last answer.
        }
        peer.conn.decide(&context, decision);
    }

    fn handle_request(&mut self, conn: ConnId) {
        let status = self.status();
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Peer { is_over_limit, listener, .. } = *peer;
        let Some(request) = peer.conn.take_request(self.clock.now) else { return };
        if let Some(request) = &mut peer.open_request {
            request.forget_request(); // An earlier request timed out.
        }
        let api = &self.options.api[usize::from(listener)];
        let checks = Checks { fingerprints: self.core.keys.fingerprints(), hub: &self.core.hub };
        match api::handle(&request, api, status, checks) {
            Reply::Subscribe(request) => self.subscribe(conn, &request),
            Reply::Respond(response) => self.answer(conn, &response),
            Reply::Report(form) => self.begin_report(conn, form),
            Reply::ListChannels(request) => self.begin_listing(conn, &request),
            Reply::DropHistory(_) | Reply::Client(_) if is_over_limit => {
                let refusal = over_limit(self.options.retry).into_response();
                self.answer(conn, &refusal);
            }
            Reply::Client(request) => self.begin_client_request(conn, request),
            Reply::DropHistory(channel) => self.append_history_drop(conn, channel),
            Reply::Publish { batch, form, claims } => {
                self.publish(conn, Submission::new(batch, Form::Whole(form), claims));
            }
        }
    }

    pub(super) fn status(&self) -> ServerStatus {
        if self.drain.is_on() {
            ServerStatus::Draining
        } else if self.core.log.is_ready() {
            ServerStatus::Ready
        } else {
            ServerStatus::Starting
        }
    }
}

/// The refusal over a connection beyond the limit. `retry` is when to try again.
fn over_limit(retry: Duration) -> Problem {
    Problem::too_many("the server has as many connections as it takes", retry)
}
