//! An open stream: what waits for it, its keepalive, and its end.

use std::time::Instant;

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
    framing: Framing,
    is_ending: bool,
}

impl Stream {
    /// A stream that begins with what waits in `outbox`: its head.
    pub(super) fn new(now: Instant, framing: Framing, outbox: Outbox) -> Stream {
        Stream { outbox, last_write: now, end: None, framing, is_ending: false }
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

    /// Takes in what was written; returns how many frames of events wait no more.
    #[inline]
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) -> u32 {
        if bytes == 0 {
            return 0;
        }
        self.last_write = now;
        self.outbox.sent(bytes)
    }

    /// Takes in that all that waited was written; returns how many frames of events that were.
    #[inline]
    pub(super) fn sent_whole(&mut self, now: Instant) -> u32 {
        self.last_write = now;
        self.outbox.clear()
    }

    /// The keepalive, the stream's age, or, once it ends, the patience with a client that does not read its end.
    pub(super) fn deadline(&self, options: &ConnOptions) -> Option<Instant> {
        if self.is_ending {
            return Some(self.last_write + options.idle_timeout);
        }
        let keepalive =
            options.keepalive.filter(|_| self.outbox.is_empty()).map(|after| self.last_write + after);
        [keepalive, self.end].into_iter().flatten().min()
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
    fn keepalive_due(&self, now: Instant, interval: std::time::Duration) -> bool {
        self.outbox.is_empty() && now.saturating_duration_since(self.last_write) >= interval
    }
}
