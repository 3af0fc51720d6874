//! An open stream: what waits for it, its keepalive, and its end.

use std::time::{Duration, Instant};

use crate::conn::state::{CloseReason, ConnOptions, Context};
use crate::frame::outbox::{Outbox, OutboxLimits, Pushed};
use crate::frame::render::{Framing, LAST_CHUNK};
use crate::frame::run::Run;

/// A stream. It owns no heap while nothing waits.
#[derive(Debug)]
pub(super) struct Stream {
    outbox: Outbox,
    /// When bytes were written last, or the stream began, or was told to end.
    last_write: Instant,
    /// When it ends for its age.
    end: Option<Instant>,
    /// Bytes that the client has sent behind its request.
    received: u32,
    framing: Framing,
    is_ending: bool,
    room: Room,
}

/// Whether the socket has room for what waits. Where it is full it has taken nothing since `last_write`, which says when
/// that was found out where the stream had been silent before.
///
/// A socket reports room only when it has a good deal, so it is tried by the time too: soon, or else what it would have
/// taken all the while would pass for something that its client has read; and for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Full,
    /// It is being tried soon after it was found full.
    FirstTry,
    /// It was full then too.
    StillFull,
    /// It has been full for as long as it may be, and is tried once more.
    LastTry,
}

/// How long after a socket was found full it is tried for the first time, at the most, and as a part of how long it may be.
const FIRST_TRY: Duration = Duration::from_secs(1);
const FIRST_TRY_PART: u32 = 8;

/// Bytes that a client may send on its open stream. They are thrown away: a stream is its connection's last response.
pub(super) const RECEIVED_BYTES_MAX: u32 = 64 * 1024;

impl Stream {
    /// A stream that begins with what waits in `outbox`: its head.
    pub(super) fn new(now: Instant, framing: Framing, outbox: Outbox) -> Stream {
        Stream {
            outbox,
            last_write: now,
            end: None,
            received: 0,
            framing,
            is_ending: false,
            room: Room::Enough,
        }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    #[inline]
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    #[inline]
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Returns true if and only if it has ended and all of it is written.
    pub(super) fn is_finished(&self) -> bool {
        self.is_ending && self.outbox.is_empty()
    }

    #[inline]
    pub(super) fn push(&mut self, framed: impl FnOnce(Framing) -> Run, limits: &OutboxLimits) -> Pushed {
        if self.is_ending {
            return Pushed::Queued; // Its client resumes where it stood.
        }
        self.outbox.push(framed(self.framing), limits)
    }

    /// As [`Stream::push`], where something was left over from the last send.
    pub(super) fn push_waiting(
        &mut self,
        framed: impl FnOnce(Framing) -> Run,
        limits: &OutboxLimits,
    ) -> Pushed {
        if self.is_ending {
            return Pushed::Queued;
        }
        self.outbox.push_waiting(framed(self.framing), limits)
    }

    /// Has what waits keep no more bytes alive than the bound, and one event.
    pub(super) fn let_go(&mut self, options: &ConnOptions) {
        self.outbox.let_go(options.outbox.bytes_max);
    }

    pub(super) fn tell(&mut self, run: Run) {
        if !self.is_ending {
            self.outbox.push_unbounded(run);
        }
    }

    /// Takes in that the client has sent so many bytes; returns true if and only if these are too many by now.
    pub(super) fn received(&mut self, bytes: usize) -> bool {
        self.received = self.received.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.received > RECEIVED_BYTES_MAX
    }

    pub(super) fn set_end(&mut self, at: Instant) {
        self.end = Some(at);
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        !self.is_ending && self.end.is_some_and(|end| now >= end)
    }

    pub(super) fn end(&mut self, now: Instant) {
        if self.is_ending {
            return;
        }
        if self.framing == Framing::Chunked {
            self.outbox.push_unbounded(Run::own(LAST_CHUNK.to_vec()));
        }
        self.last_write = now;
        self.is_ending = true;
    }

    /// Takes in what was written of what was offered, which is not all where `is_short`; returns how many frames of events wait
    /// no more.
    #[inline]
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, is_short: bool) -> u32 {
        if bytes == 0 {
            self.room = match self.room {
                Room::Enough => {
                    self.last_write = now;
                    Room::Full
                }
                Room::FirstTry => Room::StillFull,
                Room::Full | Room::StillFull | Room::LastTry => self.room,
            };
            return 0;
        }
        self.last_write = now;
        self.room = if is_short { Room::Full } else { Room::Enough };
        self.outbox.sent(bytes)
    }

    /// Takes in that all that waited was written; returns how many frames of events that were.
    #[inline]
    pub(super) fn sent_whole(&mut self, now: Instant) -> u32 {
        self.last_write = now;
        self.room = Room::Enough;
        self.outbox.clear()
    }

    /// Returns true if and only if its full socket is to be tried now, though it has not reported room.
    pub(super) fn begins_try(&mut self, context: &Context<'_>) -> bool {
        let is_due = self.try_deadline(context.options).is_some_and(|deadline| context.now >= deadline);
        if is_due {
            self.room = if self.room == Room::Full { Room::FirstTry } else { Room::LastTry };
        }
        is_due
    }

    /// Returns true if and only if its socket was tried for the last time. Once the outcome was taken in, it was in vain.
    pub(super) fn is_stalled(&self) -> bool {
        self.room == Room::LastTry
    }

    /// When its full socket is tried next by the time.
    fn try_deadline(&self, options: &ConnOptions) -> Option<Instant> {
        let timeout = options.stall_timeout?;
        match self.room {
            Room::Full => Some(self.last_write + FIRST_TRY.min(timeout / FIRST_TRY_PART)),
            Room::StillFull => Some(self.last_write + timeout),
            Room::Enough | Room::FirstTry | Room::LastTry => None,
        }
    }

    /// The keepalive, the stream's age, or, once it ends, the patience with a client that does not read its end; and the
    /// patience with one that reads nothing at all.
    pub(super) fn deadline(&self, options: &ConnOptions) -> Option<Instant> {
        let stall = self.try_deadline(options);
        if self.is_ending {
            return stall.into_iter().chain([self.last_write + options.idle_timeout]).min();
        }
        let keepalive =
            options.keepalive.filter(|_| self.outbox.is_empty()).map(|after| self.last_write + after);
        [keepalive, self.end, stall].into_iter().flatten().min()
    }

    pub(super) fn deadline_reached(&mut self, context: &Context<'_>) -> Option<CloseReason> {
        if self.is_ending {
            let patience = self.last_write + context.options.idle_timeout;
            return (context.now >= patience).then_some(CloseReason::TooSlow);
        }
        if let Some(interval) = context.options.keepalive
            && self.keepalive_due(context.now, interval)
        {
            self.outbox.push_unbounded(context.common.runs.ping(self.framing));
        }
        None
    }

    /// Returns true if and only if nothing waits and nothing was written for `interval` (WHATWG HTML 9.2.7).
    fn keepalive_due(&self, now: Instant, interval: Duration) -> bool {
        self.outbox.is_empty() && now.saturating_duration_since(self.last_write) >= interval
    }
}
