//! A shard's connections: what the driver reports of them, what they want done, and when they want to hear of the time.

use std::io;
use std::sync::atomic::Ordering;

use super::expiry::MUCH_BYTES;
use super::peer::Peer;
use super::publish::{Form, Submission, hold_back};
use super::{
    ACTIONS_AT_ONCE_MAX, ACTIONS_PER_TURN_MAX, CONNECTIONS_OVER_LIMIT_MAX, Shard, TELL_AGAIN, TIMER_TICK,
    UNFINISHED_ACTIONS_PER_TURN_MAX,
};
use crate::api::{self, Checks, Reply, ServerStatus};
use crate::base::id::ConnId;
use crate::conn::{Action, Context, Input};
use crate::driver::{Completion, Driver, SendStart};

impl<D: Driver> Shard<D> {
    /// Handles the driver's next completion; returns the connection that may want something now.
    pub(super) fn next_completion(&mut self) -> Option<ConnId> {
        loop {
            let Shard { driver, peers, options, common, counters, now, date, .. } = self;
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
        if self.accept_failure_told.is_none_or(|told| self.now >= told + TELL_AGAIN) {
            self.accept_failure_told = Some(self.now);
            tracing::warn!(%error, "cannot accept connections; trying again");
        }
    }

    pub(super) fn accept(&mut self, socket: D::Socket, listener: usize) -> Option<ConnId> {
        let (len, most) = (self.connections.load(Ordering::Relaxed), self.options.connections_max);
        if len >= most + CONNECTIONS_OVER_LIMIT_MAX {
            self.driver.refuse(socket);
            self.counters.dropped += 1;
            return None;
        }
        let conn = self.peers.insert(Peer::new(self.now, listener, len >= most));
        match self.driver.adopt(socket, conn) {
            Ok(()) => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                self.counters.accepted += 1;
                Some(conn)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                self.peers.remove(conn);
                None
            }
        }
    }

    /// Forgets a connection that the driver has closed.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.timers.disarm(conn.index);
        self.peers.remove(conn);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Goes on with connections that had more to do than they were given, a bounded amount.
    pub(super) fn finish_actions(&mut self) {
        self.actions_left = UNFINISHED_ACTIONS_PER_TURN_MAX;
        for _ in 0..self.unfinished.len() {
            if self.actions_left == 0 {
                break;
            }
            let Some(slot) = self.unfinished.pop_front() else { break };
            if let Some((conn, peer)) = self.peers.entry_at_mut(slot)
                && std::mem::take(&mut peer.is_unfinished)
            {
                self.act(conn);
            }
        }
        self.actions_left = ACTIONS_PER_TURN_MAX; // How many others are seen to is bounded where that is done.
    }

    /// Carries out what a connection wants, until it wants no more, or others are to have their turn.
    pub(super) fn act(&mut self, conn: ConnId) {
        for _ in 0..ACTIONS_AT_ONCE_MAX {
            let Some(left) = self.actions_left.checked_sub(1) else { break };
            self.actions_left = left;
            let Shard { peers, driver, options, common, counters, now, date, held_back, .. } = self;
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
                        self.lingerers.end();
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
        if let Some(peer) = self.peers.get_mut(conn)
            && !std::mem::replace(&mut peer.is_unfinished, true)
        {
            self.unfinished.push_back(conn.index);
        }
    }

    /// Sees to a connection that wants nothing now: its timer, its place in the history, its age.
    fn settle(&mut self, conn: ConnId) {
        let Shard { peers, options, readers, timers, now, .. } = self;
        let Some(peer) = peers.get_mut(conn) else { return };
        if peer.behind.is_some() && !peer.is_queued && peer.conn.waiting_bytes() == 0 {
            peer.is_queued = true;
            readers.push_back(conn.index);
        }
        if let Some(deadline) = peer.conn.deadline(&options.conn) {
            timers.arm(conn.index, deadline.max(*now + TIMER_TICK));
        }
        peer.is_timed = peer.conn.is_idle_stream();
    }

    fn handle_request(&mut self, conn: ConnId) {
        let status = self.status();
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Peer { is_over_limit, listener, .. } = *peer;
        let Some((head, body)) = peer.conn.take_request(self.now) else { return };
        if let Some(publishing) = &mut peer.publishing {
            publishing.forget_request(); // One before ran out of time.
        }
        let api = &self.options.api[usize::from(listener)];
        let checks = Checks { fingerprints: self.keys.fingerprints(), hub: &self.hub };
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
                let dropped = self.hub.drop_history(channel.as_str());
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
