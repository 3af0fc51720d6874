//! A connection as a stream: how it becomes one, what is queued for it, and how it ends.

use std::time::Instant;

use crate::conn::state::{CloseReason, Context, Flushed, Taken};
use crate::conn::stream::Stream;
use crate::conn::{Connection, Opening, Phase, Sending, offered_bytes};
use crate::frame::offer::Offer;
use crate::frame::outbox::{PushLimits, Pushed};
use crate::frame::render::Framing;
use crate::frame::run::Run;

impl Connection {
    /// Answers the request that was handed over with the head of a stream, for [`Connection::begin_stream`]. `None` where
    /// the request was `HEAD`, which the head alone answers, and where no answer is due.
    pub fn open_stream(&mut self, context: &Context<'_>, headers: &[(&str, &str)]) -> Option<Opening> {
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.open_stream(context, headers),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Becomes the stream that was opened: what is told and pushed from now on follows what `opening` holds. Where no
    /// answer is due any more, nothing happens.
    pub fn begin_stream(&mut self, context: &Context<'_>, opening: Opening) {
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        if !exchange.awaits_answer() {
            return;
        }
        let mut out = std::mem::take(exchange.out_mut());
        out.push_unbounded(Run::own(opening.bytes));
        self.phase = Phase::Stream(Stream::new(context.now, opening.framing, out));
    }

    /// Returns true if and only if it is a stream that has not ended.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(&self.phase, Phase::Stream(stream) if !stream.is_ending())
    }

    /// How the stream's body is delimited; `None` where it is no stream.
    #[must_use]
    #[inline]
    pub fn framing(&self) -> Option<Framing> {
        match &self.phase {
            Phase::Stream(stream) if !stream.is_ending() => Some(stream.framing()),
            Phase::Stream(_) | Phase::Exchange(_) | Phase::Lingering(_) | Phase::Closed { .. } => None,
        }
    }

    /// Queues a run of events where it fits, by the limits for what was left over from the last send.
    /// `framed` gives it as the stream's body is delimited.
    #[inline]
    pub fn push(&mut self, framed: impl FnOnce(Framing) -> Run, limits: &PushLimits) -> Pushed {
        match &mut self.phase {
            Phase::Stream(stream) if self.sending == Sending::Idle => stream.push(framed, &limits.at_once),
            Phase::Stream(stream) => stream.push_waiting(framed, &limits.waiting),
            // Nobody will miss it: the stream has ended, and its client resumes where it stood.
            Phase::Exchange(_) | Phase::Lingering(_) | Phase::Closed { .. } => Pushed::Queued,
        }
    }

    /// Queues what the server itself tells the stream, whatever the bounds.
    pub fn tell(&mut self, run: Run) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.tell(run);
        }
    }

    /// Sets when the stream ends for its age: the shard is asked for the end by [`Connection::is_overdue`].
    pub fn set_stream_end(&mut self, at: Instant) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.set_end(at);
        }
    }

    /// Returns true if and only if the stream's time is over and it was not ended yet.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Stream(stream) if stream.is_overdue(now))
    }

    /// Ends the stream behind what waits: its last chunk is queued, and nothing more is taken.
    pub fn end_stream(&mut self, now: Instant) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.end(now);
        }
    }

    /// Does in one step what [`Action::Send`], [`Connection::offer`] and [`Connection::sent`] come to for a stream that has
    /// nothing else to do. Where it is no such stream, nothing is offered.
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

    /// Returns true if and only if it is a stream for which nothing waits, and there is nothing to be done now.
    #[must_use]
    #[inline]
    pub fn is_idle_stream(&self) -> bool {
        self.is_receiving
            && matches!(&self.phase, Phase::Stream(stream) if !stream.is_ending() && !stream.has_output())
    }
}
