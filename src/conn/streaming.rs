//! A connection as a stream: how it begins, what is queued for it, and how it ends.

use std::time::Instant;

use crate::conn::state::{CloseReason, Context, Flushed, Taken};
use crate::conn::stream::Stream;
use crate::conn::{Connection, Opening, Phase, Sending, offered_bytes};
use crate::frame::coding::{CodedRun, Coding};
use crate::frame::offer::Offer;
use crate::frame::outbox::{PushLimits, Pushed};
use crate::frame::run::Run;

impl Connection {
    /// Renders the head of a stream as the answer to the request that was handed over, for
    /// [`Connection::begin_stream`]. `None` for a `HEAD` request, which the head alone answers, and if
    /// no answer is due.
    pub fn open_stream(&mut self, context: &Context<'_>, headers: &[(&str, &str)]) -> Option<Opening> {
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.open_stream(context, headers),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Turns the connection into the stream of `opening`. Later notices and events follow it. Does
    /// nothing if no answer is due any more.
    pub fn begin_stream(&mut self, context: &Context<'_>, opening: Opening) {
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        if !exchange.awaits_answer() {
            return;
        }
        let mut out = std::mem::take(exchange.out_mut());
        out.push_unbounded(Run::own(opening.bytes));
        self.phase = Phase::Stream(Stream::new(context.now, opening.coding, out));
    }

    /// Returns true if the connection is a stream that has not ended.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(&self.phase, Phase::Stream(stream) if !stream.is_ending())
    }

    /// How the stream's body is coded; `None` if the connection is not an open stream.
    #[must_use]
    #[inline]
    pub fn coding(&self) -> Option<Coding> {
        match &self.phase {
            Phase::Stream(stream) if !stream.is_ending() => Some(stream.coding()),
            Phase::Stream(_) | Phase::Exchange(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Queues a run of events in the stream's coding if it fits. A stream with bytes left over from the
    /// last send has its own limits.
    #[inline]
    pub fn push(&mut self, run: &CodedRun, limits: &PushLimits) -> Pushed {
        match &mut self.phase {
            Phase::Stream(stream) if self.sending == Sending::Idle => stream.push(run, &limits.at_once),
            Phase::Stream(stream) => stream.push_waiting(run, &limits.waiting),
            // The stream has ended, and its client resumes where it stopped.
            Phase::Exchange(_) | Phase::Lingering(_) | Phase::Closed { .. } => Pushed::Queued,
        }
    }

    /// Queues a notice or replayed events, even over the limits.
    pub fn push_unbounded(&mut self, run: Run) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.push_unbounded(run);
        }
    }

    /// Sets when the stream ends because of its age. [`Connection::is_overdue`] then asks the shard to
    /// end it.
    pub fn set_stream_end(&mut self, at: Instant) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.set_end(at);
        }
    }

    /// Returns true if the stream is over its age and has not ended yet.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Stream(stream) if stream.is_overdue(now))
    }

    /// Ends the stream after the waiting bytes: queues the last chunk and accepts nothing more.
    pub fn end_stream(&mut self, now: Instant) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.end(now);
        }
    }

    /// A shortcut for [`Action::Send`], [`Connection::offer`] and [`Connection::sent`] on a stream that
    /// has nothing else to do. Any other connection offers nothing.
    #[inline]
    pub fn flush(&mut self, context: &Context<'_>, send: impl FnOnce(Offer<'_>) -> Taken) -> Flushed {
        let Phase::Stream(stream) = &mut self.phase else { return Flushed::NotNow };
        if self.sending != Sending::Idle || !self.is_receiving || stream.is_ending() || !stream.has_output() {
            return Flushed::NotNow;
        }
        let waiting = stream.outbox().bytes();
        let unless_whole = stream.outbox().offer(|offer| match send(offer) {
            Taken::Bytes(bytes) if bytes == waiting => None,
            taken @ (Taken::Bytes(_) | Taken::Later | Taken::Broken) => Some((taken, offered_bytes(&offer))),
        });
        let Some((taken, offered)) = unless_whole else {
            return Flushed::Whole { bytes: waiting, events: stream.sent_whole(context.now) };
        };
        self.offered = offered;
        match taken {
            Taken::Bytes(bytes) => Flushed::Partly { bytes, events: self.sent(context, bytes) },
            Taken::Later => {
                self.sending = Sending::Pending;
                Flushed::Pending
            }
            Taken::Broken => {
                self.close(CloseReason::Failed);
                Flushed::NotNow
            }
        }
    }

    /// Returns true if the connection is a stream with an empty outbox and nothing to do.
    #[must_use]
    #[inline]
    pub fn is_idle_stream(&self) -> bool {
        self.is_receiving
            && matches!(&self.phase, Phase::Stream(stream) if !stream.is_ending() && !stream.has_output())
    }
}
