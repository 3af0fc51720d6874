//! Reads requests and answers them in order (RFC 9112 9.3). One request at a time is handed over; the
//! next is read once it is answered. Pipelined requests wait in the connection's buffer, and then in the
//! kernel.

mod deadlines;
mod lines;
mod reading;

use std::time::Instant;

use crate::auth::Permission;
use crate::base::account::Held;
use crate::conn::opening::Opening;
use crate::conn::state::{Action, Context, Lines, Request};
use crate::frame::coding::Coding;
use crate::frame::outbox::Outbox;
use crate::frame::run::Run;
use crate::http::{
    BodyDecoder, HeadScanner, Problem, RequestHead, Response, ResponseContext, Version, stream_head,
};
use lines::LinesProgress;

/// While more bytes of answers than this are unwritten, no further request is read.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a refused request's body that are read to keep the connection. A longer body ends it.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of lines that are collected before they are handed over.
pub(super) const LINES_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the read buffer that an idle connection may keep.
pub(super) const IDLE_BUFFER_BYTES_MAX: usize = 1024;

/// A connection that exchanges requests and answers.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Received bytes. Those from `at` on are unread.
    input: Vec<u8>,
    at: usize,
    scanner: HeadScanner,
    progress: Progress,
    /// What the current request says about its answer.
    asker: Asker,
    out: Outbox,
    /// When the current step began. `progress` determines the step.
    began: Instant,
    /// When bytes of answers were last written, or began to wait.
    written: Instant,
    /// At least one request was answered.
    has_answered: bool,
    /// No further request is accepted.
    is_last: bool,
    peer_ended: bool,
    /// The account of the memory of `input`, bodies and `out`.
    held: Option<Box<Held>>,
}

/// How far the current request is read and answered.
#[derive(Debug)]
enum Progress {
    /// Waits for a request, or reads its head.
    Head,
    /// The head is complete and waits for a decision.
    Undecided { head: RequestHead },
    /// Reads a body that is handed over whole.
    Body { head: RequestHead, permission: Permission, decoder: BodyDecoder, body: Vec<u8> },
    /// The request is complete and waits to be handed over.
    Ready(Request),
    /// The request was handed over and its answer is due.
    HandedOver,
    /// Reads a body of lines.
    Lines(Box<LinesProgress>),
    /// Reads and drops the body of a refused request, after its answer.
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

/// Determines the form of an error that is sent before a head was read.
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

    /// Capacity of the buffer for unread bytes.
    #[cfg(test)]
    pub(super) fn input_capacity(&self) -> usize {
        self.input.capacity()
    }

    /// Bytes held for incomplete requests.
    pub(super) fn read_bytes(&self) -> usize {
        let body = match &self.progress {
            Progress::Body { body, .. } => body.len(),
            Progress::Lines(lines) => lines.held_bytes(),
            Progress::Head
            | Progress::Undecided { .. }
            | Progress::Ready(_)
            | Progress::HandedOver
            | Progress::Discard { .. }
            | Progress::Ended => 0,
        };
        self.input.len() + body
    }

    pub(super) fn held_mut(&mut self) -> &mut Option<Box<Held>> {
        &mut self.held
    }

    /// Refuses an incomplete request. Returns true if there was one.
    pub(super) fn refuse_unfinished(&mut self, context: &Context<'_>, problem: &Problem) -> bool {
        match &self.progress {
            Progress::Head if !self.scanner.has_begun() => return false,
            Progress::Lines(lines) if lines.failure.is_some() => return false,
            Progress::Head => self.asker = UNKNOWN_ASKER,
            Progress::Body { .. } | Progress::Lines(_) => {}
            Progress::Undecided { .. }
            | Progress::Ready(_)
            | Progress::HandedOver
            | Progress::Discard { .. }
            | Progress::Ended => return false,
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

    /// Returns true if nothing more is read and every answer is written.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.progress, Progress::Ended) && self.out.is_empty()
    }

    /// Returns true if the connection ends without a single answer.
    pub(super) fn is_unused(&self) -> bool {
        self.is_finished() && !self.has_answered
    }

    pub(super) fn awaits_answer(&self) -> bool {
        match &self.progress {
            Progress::HandedOver => true,
            Progress::Lines(lines) => lines.is_handed_over,
            Progress::Head
            | Progress::Undecided { .. }
            | Progress::Body { .. }
            | Progress::Ready(_)
            | Progress::Discard { .. }
            | Progress::Ended => false,
        }
    }

    /// Returns true if the current step needs more bytes.
    pub(super) fn wants_bytes(&self) -> bool {
        match &self.progress {
            Progress::Head => self.out.bytes() <= ANSWER_BYTES_MAX,
            Progress::Body { .. } | Progress::Discard { .. } => true,
            Progress::Lines(lines) => !lines.is_handed_over && !lines.is_at_end(),
            Progress::Undecided { .. } | Progress::Ready(_) | Progress::HandedOver | Progress::Ended => false,
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

    /// Accepts no further request. A connection between two requests ends now. A new connection still
    /// gets its first request answered: that request may already be in the socket. It has
    /// [`deadlines::NEWCOMER_HEARD`] to arrive.
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

    /// Processes that `bytes` were written.
    pub(super) fn sent(&mut self, context: &Context<'_>, bytes: usize) {
        if bytes > 0 {
            self.out.sent(bytes);
            self.written = context.now;
        }
        if matches!(self.progress, Progress::Head) {
            if bytes > 0 && !self.scanner.has_begun() {
                self.began = context.now; // Idle from here on.
            }
            // Pipelined requests that waited are read before more bytes are requested.
            self.advance(context);
        }
    }

    pub(super) fn poll_request(&self) -> Option<Action> {
        match &self.progress {
            Progress::Undecided { .. } => Some(Action::Head),
            Progress::Ready(_) => Some(Action::Request),
            Progress::Lines(lines) if lines.is_due() => Some(Action::Lines),
            Progress::Lines(_)
            | Progress::Head
            | Progress::Body { .. }
            | Progress::HandedOver
            | Progress::Discard { .. }
            | Progress::Ended => None,
        }
    }

    pub(super) fn undecided(&self) -> Option<&RequestHead> {
        match &self.progress {
            Progress::Undecided { head } => Some(head),
            Progress::Head
            | Progress::Body { .. }
            | Progress::Ready(_)
            | Progress::HandedOver
            | Progress::Lines(_)
            | Progress::Discard { .. }
            | Progress::Ended => None,
        }
    }

    pub(super) fn take_request(&mut self, now: Instant) -> Option<Request> {
        if !matches!(self.progress, Progress::Ready(_)) {
            return None;
        }
        let Progress::Ready(request) = std::mem::replace(&mut self.progress, Progress::HandedOver) else {
            return None;
        };
        self.began = now;
        Some(request)
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
        // The rest of a body of lines is not read: the answer is already known.
        let is_whole = if let Progress::Lines(lines) = &self.progress {
            lines.is_end_handed_over && lines.failure.is_none()
        } else {
            true
        };
        self.put_answer(context, response, is_whole);
        self.progress = if self.asker.is_persistent && is_whole { Progress::Head } else { Progress::Ended };
        self.advance(context);
    }

    /// `None` if the head alone is the answer, or no answer is due.
    pub(super) fn open_stream(&mut self, context: &Context<'_>, headers: &[(&str, &str)]) -> Option<Opening> {
        if !matches!(self.progress, Progress::HandedOver) {
            return None;
        }
        let Asker { version, head_only, .. } = self.asker;
        let coding = match version {
            Version::Http11 => Coding::Chunked,
            Version::Http10 => Coding::Unframed,
        };
        let response = ResponseContext { version, persistent: false, head_only, date: *context.date };
        let opening = Opening::new(coding, |out| stream_head(out, &response, headers));
        if head_only {
            self.put(context, opening.bytes);
            self.has_answered = true;
            self.began = context.now;
            self.progress = Progress::Ended; // The head says `Connection: close`, as for a stream.
            self.advance(context);
            return None;
        }
        Some(opening)
    }

    /// Refuses a body. A body of lines is handed over as far as it arrived, so that the answer can say
    /// how many were processed.
    fn refuse_body(&mut self, context: &Context<'_>, problem: Problem) {
        if let Progress::Lines(lines) = &mut self.progress {
            lines.failure = Some(problem);
        } else {
            self.refuse(context, problem);
        }
    }

    /// Answers with an error and reads nothing more.
    fn refuse(&mut self, context: &Context<'_>, problem: Problem) {
        self.asker.is_persistent = false;
        self.put_answer(context, &problem.into_response(), false);
        self.progress = Progress::Ended;
        (self.input, self.at) = (Vec::new(), 0); // No longer needed.
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
