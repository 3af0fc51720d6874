//! Reading requests and answering them in order (RFC 9112 9.3): one request at a time is handed over, the next is
//! looked at when it is answered. What a client pipelines waits in its buffer, and then in the kernel.

mod deadlines;
mod lines;
mod reading;

use std::time::Instant;

use crate::base::account::Held;
use crate::conn::opening::Opening;
use crate::conn::state::{Action, Context, Lines};
use crate::frame::outbox::Outbox;
use crate::frame::render::Framing;
use crate::frame::run::Run;
use crate::http::{
    BodyDecoder, HeadScanner, Problem, RequestHead, Response, ResponseContext, Version, stream_head,
};
use lines::LinesProgress;

/// Bytes of answers that wait for a client before its next request is looked at.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a refused request's body that are read so that the connection can be kept; a longer one ends it.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of lines that are collected before they are handed over.
pub(super) const LINES_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the read buffer that an idle connection may keep.
pub(super) const IDLE_BUFFER_BYTES_MAX: usize = 1024;

/// A connection that exchanges requests and answers.
#[derive(Debug)]
pub(super) struct Exchange {
    /// What was received and not yet read, from `at` on.
    input: Vec<u8>,
    at: usize,
    scanner: HeadScanner,
    progress: Progress,
    /// How the present request wants to be answered.
    asker: Asker,
    out: Outbox,
    /// When the present step began; what that is depends on `progress`.
    began: Instant,
    /// When answers were written last, or began to wait.
    written: Instant,
    /// A request was answered before.
    has_answered: bool,
    /// No further request is taken.
    is_last: bool,
    peer_ended: bool,
    /// What is counted of `input`, bodies and `out`.
    held: Option<Box<Held>>,
}

/// How far the present request is read and answered.
#[derive(Debug)]
enum Progress {
    /// Waiting for a request, or in the middle of its head.
    Head,
    /// In the middle of a body that is read whole.
    Body { head: RequestHead, decoder: BodyDecoder, body: Vec<u8> },
    /// It has come whole, and is to be handed over.
    Ready { head: RequestHead, body: Vec<u8> },
    /// It was handed over. The answer is due.
    Asked,
    /// In the middle of a body of lines.
    Lines(Box<LinesProgress>),
    /// In the middle of the body of a request that was refused, after its answer.
    Discard { decoder: BodyDecoder },
    /// Nothing more is read.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    version: Version,
    is_persistent: bool,
    head_only: bool,
    is_publish: bool,
}

/// Whom an error answers that comes before a head was read.
const UNKNOWN_ASKER: Asker =
    Asker { version: Version::Http11, is_persistent: false, head_only: false, is_publish: false };

impl Exchange {
    pub(super) fn new(now: Instant) -> Exchange {
        Exchange {
            input: Vec::new(),
            at: 0,
            scanner: HeadScanner::default(),
            progress: Progress::Head,
            asker: UNKNOWN_ASKER,
            out: Outbox::default(),
            began: now,
            written: now,
            has_answered: false,
            is_last: false,
            peer_ended: false,
            held: None,
        }
    }

    /// Bytes of the buffer for what was received and not yet read.
    #[cfg(test)]
    pub(super) fn input_capacity(&self) -> usize {
        self.input.capacity()
    }

    /// Bytes of requests that have not come whole.
    pub(super) fn read_bytes(&self) -> usize {
        let body = match &self.progress {
            Progress::Body { body, .. } => body.len(),
            Progress::Lines(lines) => lines.held_bytes(),
            Progress::Head
            | Progress::Ready { .. }
            | Progress::Asked
            | Progress::Discard { .. }
            | Progress::Ended => 0,
        };
        self.input.len() + body
    }

    pub(super) fn held_mut(&mut self) -> &mut Option<Box<Held>> {
        &mut self.held
    }

    /// Refuses a request that has not come whole; returns true if and only if there was one.
    pub(super) fn refuse_unfinished(&mut self, context: &Context<'_>, problem: &Problem) -> bool {
        match &self.progress {
            Progress::Head if !self.scanner.has_begun() => return false,
            Progress::Lines(lines) if lines.failure.is_some() => return false,
            Progress::Head => self.asker = UNKNOWN_ASKER,
            Progress::Body { .. } | Progress::Lines(_) => {}
            Progress::Ready { .. } | Progress::Asked | Progress::Discard { .. } | Progress::Ended => {
                return false;
            }
        }
        self.refuse_body(context, problem.clone());
        true
    }

    pub(super) fn out(&self) -> &Outbox {
        &self.out
    }

    pub(super) fn out_mut(&mut self) -> &mut Outbox {
        &mut self.out
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Returns true if and only if nothing more is read, and all is answered and written.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.progress, Progress::Ended) && self.out.is_empty()
    }

    /// Returns true if and only if it ends without having said a thing.
    pub(super) fn is_unused(&self) -> bool {
        self.is_finished() && !self.has_answered
    }

    pub(super) fn awaits_answer(&self) -> bool {
        match &self.progress {
            Progress::Asked => true,
            Progress::Lines(lines) => lines.is_handed_over,
            Progress::Head
            | Progress::Body { .. }
            | Progress::Ready { .. }
            | Progress::Discard { .. }
            | Progress::Ended => false,
        }
    }

    /// Returns true if and only if the present step cannot go on without more bytes.
    pub(super) fn wants_bytes(&self) -> bool {
        match &self.progress {
            Progress::Head => self.out.bytes() <= ANSWER_BYTES_MAX,
            Progress::Body { .. } | Progress::Discard { .. } => true,
            Progress::Lines(lines) => !lines.is_handed_over && !lines.is_at_end(),
            Progress::Ready { .. } | Progress::Asked | Progress::Ended => false,
        }
    }

    pub(super) fn received(&mut self, context: &Context<'_>, bytes: &[u8]) {
        if matches!(self.progress, Progress::Ended) {
            return;
        }
        if matches!(self.progress, Progress::Head) && !self.scanner.has_begun() {
            self.began = context.now; // A head is timed from its first byte.
        }
        if !self.read_whole_head(context, bytes) {
            self.input.extend_from_slice(bytes);
        }
        self.advance(context);
    }

    pub(super) fn peer_ended(&mut self, context: &Context<'_>) {
        self.peer_ended = true;
        self.end_if_nothing_comes(context);
    }

    /// Takes no further request. Who waits between two ends now; who has just come is heard and answered, and has
    /// [`deadlines::NEWCOMER_HEARD`] to say something: its request may lie in the socket.
    pub(super) fn drain(&mut self, now: Instant) {
        self.is_last = true;
        if matches!(self.progress, Progress::Head) && !self.scanner.has_begun() {
            if self.has_answered {
                self.progress = Progress::Ended;
            } else {
                self.began = now;
            }
        }
    }

    /// Takes in what was written.
    pub(super) fn sent(&mut self, context: &Context<'_>, bytes: usize) {
        if bytes > 0 {
            self.out.sent(bytes);
            self.written = context.now;
        }
        if matches!(self.progress, Progress::Head) {
            if bytes > 0 && !self.scanner.has_begun() {
                self.began = context.now; // Idle from here on.
            }
            // Requests that were held back are looked at before more bytes are asked for.
            self.advance(context);
        }
    }

    pub(super) fn poll_request(&self) -> Option<Action> {
        match &self.progress {
            Progress::Ready { .. } => Some(Action::Request),
            Progress::Lines(lines) if lines.is_due() => Some(Action::Lines),
            Progress::Lines(_)
            | Progress::Head
            | Progress::Body { .. }
            | Progress::Asked
            | Progress::Discard { .. }
            | Progress::Ended => None,
        }
    }

    pub(super) fn take_request(&mut self, now: Instant) -> Option<(RequestHead, Vec<u8>)> {
        if !matches!(self.progress, Progress::Ready { .. }) {
            return None;
        }
        let Progress::Ready { head, body } = std::mem::replace(&mut self.progress, Progress::Asked) else {
            return None;
        };
        self.began = now;
        Some((head, body))
    }

    pub(super) fn take_lines(&mut self, now: Instant) -> Option<Lines> {
        let Progress::Lines(lines) = &mut self.progress else { return None };
        if !lines.is_due() {
            return None;
        }
        self.began = now;
        Some(lines.take())
    }

    pub(super) fn take_more_lines(&mut self, context: &Context<'_>) {
        if let Progress::Lines(lines) = &mut self.progress {
            lines.is_handed_over = false;
            self.began = context.now;
            self.advance(context);
        }
    }

    pub(super) fn answer(&mut self, context: &Context<'_>, response: &Response<'_>) {
        if !self.awaits_answer() {
            return;
        }
        // What is left of a body of lines is not read: nobody wants it any more.
        let is_whole = if let Progress::Lines(lines) = &self.progress {
            lines.is_end_handed_over && lines.failure.is_none()
        } else {
            true
        };
        self.put_answer(context, response, is_whole);
        self.progress = if self.asker.is_persistent && is_whole { Progress::Head } else { Progress::Ended };
        self.advance(context);
    }

    /// `None` where the head alone is the answer, or where no answer is due.
    pub(super) fn open_stream(&mut self, context: &Context<'_>, headers: &[(&str, &str)]) -> Option<Opening> {
        if !matches!(self.progress, Progress::Asked) {
            return None;
        }
        let Asker { version, head_only, .. } = self.asker;
        let framing = match version {
            Version::Http11 => Framing::Chunked,
            Version::Http10 => Framing::Unframed,
        };
        let response = ResponseContext { version, persistent: false, head_only, date: *context.date };
        let opening = Opening::new(framing, |out| stream_head(out, &response, headers));
        if head_only {
            self.put(context, opening.bytes);
            self.has_answered = true;
            self.began = context.now;
            self.progress = Progress::Ended; // The head says so, as that of the stream would.
            self.advance(context);
            return None;
        }
        Some(opening)
    }

    /// Gives up a body: one of lines is handed over as far as it came, so that its answer can say how far that was.
    fn refuse_body(&mut self, context: &Context<'_>, problem: Problem) {
        if let Progress::Lines(lines) = &mut self.progress {
            lines.failure = Some(problem);
        } else {
            self.refuse(context, problem);
        }
    }

    /// Answers an error after which nothing more is read.
    fn refuse(&mut self, context: &Context<'_>, problem: Problem) {
        self.asker.is_persistent = false;
        self.put_answer(context, &problem.into_response(), false);
        self.progress = Progress::Ended;
        (self.input, self.at) = (Vec::new(), 0); // Nobody reads it any more.
    }

    fn put_answer(&mut self, context: &Context<'_>, response: &Response<'_>, is_whole: bool) {
        self.asker.is_persistent &= is_whole && !self.is_last;
        let Asker { version, is_persistent, head_only, is_publish } = self.asker;
        if is_publish && response.status().is_error() {
            context.common.refusals.add(response.status());
        }
        let context_of_response =
            ResponseContext { version, persistent: is_persistent, head_only, date: *context.date };
        let mut bytes = Vec::new();
        response.encode(&mut bytes, &context_of_response);
        self.has_answered = true;
        self.began = context.now;
        self.put(context, bytes);
    }

    fn put(&mut self, context: &Context<'_>, bytes: Vec<u8>) {
        if self.out.is_empty() {
            self.written = context.now;
        }
        self.out.push_unbounded(Run::own(bytes));
    }
}
