//! Floor 3: one connection as a state machine, without I/O, clock or randomness. It receives [`Input`]s
//! and returns [`Action`]s. [`Connection::deadline`] is the time when it needs its next
//! [`Input::DeadlineReached`].
//!
//! ```text
//!              request read, answered                 begin_stream
//!            ┌──────────────┐                              │
//!  accept ─► │   Exchange   │ ────────────────────────────►│ Stream │
//!            └──────────────┘                                  │ end_stream, or its time is over
//!               │ error that closes, `Connection: close`       │
//!               ▼                                              ▼
//!            all output written ── Shutdown ──► Lingering ── peer ended, time or bytes over ──► Closed
//! ```
//!
//! A reset leads to `Closed` from every state. If the peer ends its side of a stream or sends too much
//! on it, the stream ends: the peer may still read, and then gets a complete stream.

mod closing;
mod exchange;
mod held;
mod opening;
pub mod state;
mod stream;
mod streaming;
#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::frame::offer::Offer;
use crate::frame::outbox::Outbox;
use crate::http::{RequestHead, Response};

use closing::{Farewell, Lingering};
use exchange::Exchange;
pub use opening::Opening;
pub use state::{
    Action, Admission, BodyPlan, CloseReason, Common, ConnOptions, Context, Decision, Flushed, Input, Lines,
    OwnRuns, Refusals, Request, SHORT_BODY_BYTES_MAX, Taken,
};
use stream::Stream;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    sending: Sending,
    /// Bytes of the last offer. More may wait: a send takes a limited number of slices, and bytes queued
    /// during a send are not part of it. Four bytes are enough to count what one system call can take
    /// (`send(2)`: 2 GiB).
    offered: u32,
    /// A receive is outstanding.
    is_receiving: bool,
    /// The peer has ended its side.
    peer_ended: bool,
    farewell: Farewell,
}

#[derive(Debug)]
enum Phase {
    Exchange(Box<Exchange>),
    Stream(Stream),
    Lingering(Lingering),
    Closed { reason: CloseReason, reported: bool, has_lingered: bool },
}

/// The state of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// No send is under way: bytes may be offered.
    Idle,
    /// A send is under way. Its outcome comes as an input.
    Pending,
    /// The socket is full. An input comes when it has room.
    Full,
}

impl Connection {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Connection {
        let phase = Phase::Exchange(Box::new(Exchange::new(now)));
        let (sending, farewell) = (Sending::Idle, Farewell::Usual);
        Connection { phase, sending, offered: 0, is_receiving: false, peer_ended: false, farewell }
    }

    /// Processes an input. Actions may be due afterwards.
    pub fn handle(&mut self, context: &Context<'_>, input: Input<'_>) {
        match input {
            Input::Received(bytes) => {
                self.is_receiving = false;
                match &mut self.phase {
                    Phase::Exchange(exchange) => exchange.received(context, bytes),
                    Phase::Lingering(lingering) => lingering.received(context.now, bytes.len()),
                    // A stream is its connection's last response, so later bytes are not read.
                    Phase::Stream(stream) => {
                        if stream.received(bytes.len()) {
                            self.end_stream_as(context.now, Farewell::SentTooMuch);
                        }
                    }
                    Phase::Closed { .. } => {}
                }
            }
            Input::ReceiveEnded => {
                self.is_receiving = false;
                self.peer_ended = true;
                match &mut self.phase {
                    Phase::Exchange(exchange) => {
                        exchange.peer_ended(context);
                        if exchange.is_unused() {
                            self.close(CloseReason::Peer); // There is no answer to read.
                        }
                    }
                    Phase::Stream(_) => self.end_stream_as(context.now, Farewell::PeerEnded),
                    Phase::Lingering(_) | Phase::Closed { .. } => {}
                }
            }
            // A peer that has gone altogether still gets the end of its stream, and answers it with a
            // reset.
            Input::Failed if self.farewell == Farewell::PeerEnded => self.close(CloseReason::Peer),
            Input::Failed => self.close(CloseReason::Failed),
            Input::Writable if self.sending == Sending::Full => self.sending = Sending::Idle,
            // Room reported during a pending send belongs to an earlier send. A timer has tried the socket
            // again since.
            Input::Writable => {}
            Input::DeadlineReached => match &mut self.phase {
                Phase::Exchange(exchange) => {
                    if let Some(reason) = exchange.deadline_reached(context) {
                        self.close(reason);
                    }
                }
                Phase::Stream(stream) => {
                    if stream.begins_try(context) {
                        if self.sending == Sending::Full {
                            self.sending = Sending::Idle;
                        }
                    } else if let Some(reason) = stream.deadline_reached(context) {
                        self.close(reason);
                    }
                }
                Phase::Lingering(lingering) => {
                    if lingering.is_over(context.now) {
                        self.close(self.farewell.reason());
                    }
                }
                Phase::Closed { .. } => {}
            },
        }
    }

    /// Returns the next action; `None` until another input comes. Call it until it returns `None`.
    pub fn poll_action(&mut self, context: &Context<'_>) -> Option<Action> {
        match &mut self.phase {
            Phase::Exchange(exchange) => {
                if let Some(action) = exchange.poll_request() {
                    return Some(action);
                }
                if self.sending == Sending::Idle && exchange.has_output() {
                    return Some(Action::Send);
                }
                if exchange.is_finished() {
                    return self.linger(context);
                }
                if !self.is_receiving && !self.peer_ended && exchange.wants_bytes() {
                    self.is_receiving = true;
                    return Some(Action::Receive);
                }
                None
            }
            Phase::Stream(stream) => {
                if self.sending == Sending::Idle && stream.has_output() {
                    return Some(Action::Send);
                }
                if stream.is_finished() {
                    return self.linger(context);
                }
                // A receive is always outstanding, so that the driver notices when the client leaves.
                if !self.is_receiving && !self.peer_ended {
                    self.is_receiving = true;
                    return Some(Action::Receive);
                }
                None
            }
            Phase::Lingering(lingering) => {
                if self.peer_ended || lingering.is_over(context.now) {
                    self.close(self.farewell.reason());
                    return self.poll_action(context);
                }
                if !self.is_receiving {
                    self.is_receiving = true;
                    return Some(Action::Receive);
                }
                None
            }
            Phase::Closed { reported: true, .. } => None,
            Phase::Closed { reason, reported, .. } => {
                *reported = true;
                Some(Action::Close(*reason))
            }
        }
    }

    /// When [`Input::DeadlineReached`] is due; `None` if the connection waits only for its peer.
    #[must_use]
    pub fn deadline(&self, options: &ConnOptions) -> Option<Instant> {
        match &self.phase {
            Phase::Exchange(exchange) => exchange.deadline(options),
            Phase::Stream(stream) => stream.deadline(options),
            Phase::Lingering(lingering) => Some(lingering.until()),
            Phase::Closed { .. } => None,
        }
    }

    /// Calls `send` with the bytes to offer after [`Action::Send`].
    #[inline]
    pub fn offer<R>(&mut self, send: impl FnOnce(Offer<'_>) -> R) -> R {
        let Connection { phase, offered, .. } = self;
        let send = |offer: Offer<'_>| {
            *offered = offered_bytes(&offer);
            send(offer)
        };
        match phase {
            Phase::Exchange(exchange) => exchange.out().offer(send),
            Phase::Stream(stream) => stream.outbox().offer(send),
            Phase::Lingering(_) | Phase::Closed { .. } => Outbox::default().offer(send),
        }
    }

    /// Records that the offer is under way. [`Connection::sent`] follows.
    pub fn send_is_pending(&mut self) {
        self.sending = Sending::Pending;
    }

    /// Processes that `bytes` of the offer were written. Fewer than all mean that the socket is full.
    ///
    /// Returns how many events this completed; `None` if the connection is not a stream.
    #[inline]
    pub fn sent(&mut self, context: &Context<'_>, bytes: usize) -> Option<u32> {
        debug_assert!(bytes <= self.offered as usize, "no more is written than was offered");
        let is_short = bytes < self.offered as usize;
        self.sending = if is_short { Sending::Full } else { Sending::Idle };
        match &mut self.phase {
            Phase::Exchange(exchange) => {
                exchange.sent(context, bytes);
                None
            }
            Phase::Stream(stream) => {
                let events = stream.sent(context.now, bytes, is_short);
                if stream.is_stalled() {
                    self.close(CloseReason::Stalled);
                } else if is_short {
                    stream.let_go(context.options); // It may wait for long.
                }
                Some(events)
            }
            Phase::Lingering(_) | Phase::Closed { .. } => {
                debug_assert!(bytes == 0, "nothing is offered once the connection ends");
                None
            }
        }
    }

    /// The head after [`Action::Head`]. [`Connection::decide`] is due.
    #[must_use]
    pub fn undecided(&self) -> Option<&RequestHead> {
        match &self.phase {
            Phase::Exchange(exchange) => exchange.undecided(),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Reads the body of the request whose head is undecided, or answers that request at once if it is
    /// refused. Does nothing if no head is undecided.
    pub fn decide(&mut self, context: &Context<'_>, decision: Decision) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.decide(context, decision);
        }
    }

    /// Hands over the request after [`Action::Request`]. One answer is due: [`Connection::answer`] or
    /// [`Connection::begin_stream`].
    pub fn take_request(&mut self, now: Instant) -> Option<Request> {
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.take_request(now),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Hands over whole lines of a body after [`Action::Lines`]. [`Connection::take_more_lines`] or
    /// [`Connection::answer`] is due.
    pub fn take_lines(&mut self, now: Instant) -> Option<Lines> {
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.take_lines(now),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Continues a body of lines after the handed over lines were processed.
    pub fn take_more_lines(&mut self, context: &Context<'_>) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.take_more_lines(context);
        }
    }

    /// Returns true if a request was handed over and its answer is due.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        matches!(&self.phase, Phase::Exchange(exchange) if exchange.awaits_answer())
    }

    /// Answers the request that was handed over. Does nothing if no answer is due: the request has timed
    /// out and was answered then.
    pub fn answer(&mut self, context: &Context<'_>, response: &Response<'_>) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.answer(context, response);
        }
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        match &self.phase {
            Phase::Exchange(exchange) => exchange.out().bytes(),
            Phase::Stream(stream) => stream.outbox().bytes(),
            Phase::Lingering(_) | Phase::Closed { .. } => 0,
        }
    }

    /// Finishes the current request and accepts no further one, for a server that drains. A connection
    /// between two requests ends now. A new connection ends after its first request, or after one second
    /// without any.
    pub fn drain(&mut self, now: Instant) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.drain(now);
        }
    }

    /// Ends the connection at once. Waiting bytes are lost.
    pub fn abort(&mut self) {
        self.close(CloseReason::Aborted);
    }

    fn linger(&mut self, context: &Context<'_>) -> Option<Action> {
        self.phase = Phase::Lingering(Lingering::new(context.now, self.farewell));
        Some(Action::Shutdown)
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed { .. }) {
            self.phase = Phase::Closed { reason, reported: false, has_lingered: self.has_lingered() };
        }
    }

    fn end_stream_as(&mut self, now: Instant, farewell: Farewell) {
        if self.farewell == Farewell::Usual {
            self.farewell = farewell;
        }
        self.end_stream(now);
    }

    /// Records that the server has no room for this peer. After the answer that says so, only a few more
    /// bytes are read.
    pub fn turn_away(&mut self) {
        self.farewell = Farewell::TurnedAway;
    }

    /// Returns true if the write side was shut down, and later bytes are read or were read.
    #[must_use]
    pub fn has_lingered(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_) | Phase::Closed { has_lingered: true, .. })
    }

    /// Stops reading what the peer sends after the end, in favour of other connections.
    pub fn stop_lingering(&mut self) {
        if matches!(self.phase, Phase::Lingering(_)) {
            self.close(self.farewell.reason());
        }
    }
}

/// The bytes of an offer in the type of `Connection::offered`.
#[inline]
fn offered_bytes(offer: &Offer<'_>) -> u32 {
    u32::try_from(offer.bytes()).unwrap_or(u32::MAX)
}
