//! An open stream: its outbox, its keepalive, and its end.

use std::time::{Duration, Instant};

use crate::conn::state::{CloseReason, ConnOptions, Context};
use crate::frame::coding::{CodedRun, Coding};
use crate::frame::outbox::{Outbox, OutboxLimits, Pushed};
use crate::frame::run::Run;

/// A stream. It uses no heap while nothing waits.
#[derive(Debug)]
pub(super) struct Stream {
    outbox: Outbox,
    /// When bytes were last written, or the stream began, or its end was queued.
    last_write: Instant,
    /// When the stream ends because of its age.
    end: Option<Instant>,
    /// Bytes that the client has sent after its request.
    received: u32,
    coding: Coding,
    is_ending: bool,
    room: Room,
}

/// Whether the socket has room. A full socket has accepted nothing since `last_write`. If the stream had
/// been silent before, `last_write` is the time when the socket was found full.
///
/// A socket reports room only when it has much of it, so timers try it too. The first try comes soon:
/// otherwise the bytes that the kernel could take in the meantime would count as read by the client. The
/// last try comes before the stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Full,
    /// The first try is under way, soon after the socket was found full.
    FirstTry,
    /// The first try found the socket full too.
    StillFull,
    /// The socket has been full for the whole stall timeout. The last try is under way.
    LastTry,
}

/// How long after a socket was found full the first try comes: this time, or this part of the stall
/// timeout if that is sooner.
const FIRST_TRY: Duration = Duration::from_secs(1);
const FIRST_TRY_PART: u32 = 8;

/// Bytes that a client may send on its open stream. They are dropped: a stream is its connection's last
/// response.
pub(super) const RECEIVED_BYTES_MAX: u32 = 64 * 1024;

impl Stream {
    /// Creates a stream. `outbox` already contains its head.
    pub(super) fn new(now: Instant, coding: Coding, outbox: Outbox) -> Stream {
        Stream {
            outbox,
            last_write: now,
            end: None,
            received: 0,
            coding,
            is_ending: false,
            room: Room::Enough,
        }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    #[inline]
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    #[inline]
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Returns true if the stream has ended and is completely written.
    pub(super) fn is_finished(&self) -> bool {
        self.is_ending && self.outbox.is_empty()
    }

    #[inline]
    pub(super) fn push(&mut self, run: &CodedRun, limits: &OutboxLimits) -> Pushed {
        if self.is_ending {
            return Pushed::Queued; // Its client resumes where it stopped.
        }
        self.outbox.push(run.coded(self.coding).clone(), limits)
    }

    /// As [`Stream::push`], for a stream with bytes left over from the last send.
    pub(super) fn push_waiting(&mut self, run: &CodedRun, limits: &OutboxLimits) -> Pushed {
        if self.is_ending {
            return Pushed::Queued;
        }
        self.outbox.push_waiting(run.coded(self.coding).clone(), limits)
    }

    /// Limits the memory that the waiting runs keep alive to the bound of the outbox plus one event.
    pub(super) fn let_go(&mut self, options: &ConnOptions) {
        self.outbox.let_go(options.outbox.bytes_max);
    }

    pub(super) fn push_unbounded(&mut self, run: Run) {
        if !self.is_ending {
            self.outbox.push_unbounded(run);
        }
    }

    /// Counts bytes that the client has sent. Returns true if the sum is over its limit.
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
        if let Some(end) = self.coding.end() {
            self.outbox.push_unbounded(Run::own(end.to_vec()));
        }
        self.last_write = now;
        self.is_ending = true;
    }

    /// Processes that `bytes` of the offer were written, and not all of it if `is_short`. Returns how
    /// many frames of events no longer wait.
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

    /// Processes that all waiting bytes were written. Returns how many frames of events they held.
    #[inline]
    pub(super) fn sent_whole(&mut self, now: Instant) -> u32 {
        self.last_write = now;
        self.room = Room::Enough;
        self.outbox.clear()
    }

    /// Returns true if a try of the full socket is due, although the socket has not reported room.
    pub(super) fn begins_try(&mut self, context: &Context<'_>) -> bool {
        let is_due = self.try_deadline(context.options).is_some_and(|deadline| context.now >= deadline);
        if is_due {
            self.room = if self.room == Room::Full { Room::FirstTry } else { Room::LastTry };
        }
        is_due
    }

    /// Returns true if the last try has begun. After its result was processed, this means that the try
    /// failed.
    pub(super) fn is_stalled(&self) -> bool {
        self.room == Room::LastTry
    }

    /// When a timer tries the full socket next.
    fn try_deadline(&self, options: &ConnOptions) -> Option<Instant> {
        let timeout = options.stall_timeout?;
        match self.room {
            Room::Full => Some(self.last_write + FIRST_TRY.min(timeout / FIRST_TRY_PART)),
            Room::StillFull => Some(self.last_write + timeout),
            Room::Enough | Room::FirstTry | Room::LastTry => None,
        }
    }

    /// The next deadline: of the keepalive, the stream's age, or a try of its full socket. Once the
    /// stream ends, the deadline for a client that does not read the end replaces the first two.
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
            self.outbox.push_unbounded(context.common.runs.ping(self.coding));
        }
        None
    }

    /// Returns true if and only if nothing waits and nothing was written for `interval` (WHATWG HTML
    /// 9.2.7).
    fn keepalive_due(&self, now: Instant, interval: Duration) -> bool {
        self.outbox.is_empty() && now.saturating_duration_since(self.last_write) >= interval
    }
}
