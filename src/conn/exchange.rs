//! Reading requests and answering them in order (RFC 9112 9.3): one request at a time is handed over, the next is
//! looked at when it is answered. What a client pipelines waits in its buffer, and then in the kernel.

use std::time::Instant;

use crate::conn::state::{Action, BodyPlan, CloseReason, ConnOptions, Context, Lines};
use crate::frame::outbox::Outbox;
use crate::frame::render::Framing as StreamFraming;
use crate::frame::run::Run;
use crate::http::{
    BodyDecoder, CONTINUE, Framing, HeadScanner, Method, Problem, RequestError, RequestHead, Response,
    ResponseContext, Status, Version, stream_head,
};

/// Bytes of answers that wait for a client before its next request is looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a refused request's body that are read so that the connection can be kept; a longer one ends it.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of lines that are collected before they are handed over.
const LINES_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the read buffer that an idle connection may keep.
const IDLE_BUFFER_BYTES_MAX: usize = 1024;

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

#[derive(Debug)]
struct LinesProgress {
    /// Goes with the first lines.
    head: Option<RequestHead>,
    decoder: BodyDecoder,
    /// Data that is not handed over yet.
    lines: Vec<u8>,
    /// Bytes of `lines` up to and with the last line feed.
    whole: usize,
    /// The number of the first line in `lines`, counted from 1.
    first_line: u64,
    /// Lines were handed over, and not yet dealt with.
    is_handed_over: bool,
    /// The end was handed over too.
    is_end_handed_over: bool,
    /// Why the body does not go on behind `lines`.
    failure: Option<Problem>,
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    version: Version,
    is_persistent: bool,
    head_only: bool,
}

/// Whom an error answers that comes before a head was read.
const UNKNOWN_ASKER: Asker = Asker { version: Version::Http11, is_persistent: false, head_only: false };

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
        }
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
        self.input.extend_from_slice(bytes);
        self.advance(context);
    }

    pub(super) fn peer_ended(&mut self) {
        self.peer_ended = true;
        self.end_if_nothing_comes();
    }

    pub(super) fn drain(&mut self) {
        self.is_last = true;
        if matches!(self.progress, Progress::Head) && !self.scanner.has_begun() {
            self.progress = Progress::Ended;
        }
    }

    /// Takes in what was written.
    pub(super) fn sent(&mut self, context: &Context<'_>, bytes: usize) {
        if bytes > 0 {
            self.out.sent(bytes);
            self.written = context.now;
        }
        if self.out.is_empty() && matches!(self.progress, Progress::Head) {
            if self.at == self.input.len() {
                self.began = context.now; // Idle from here on.
            }
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
    pub(super) fn answer_with_stream_head(
        &mut self,
        context: &Context<'_>,
        headers: &[(&str, &str)],
    ) -> Option<StreamFraming> {
        if !matches!(self.progress, Progress::Asked) {
            return None;
        }
        let Asker { version, is_persistent, head_only } = self.asker;
        let persistent = !head_only || (is_persistent && !self.is_last);
        let mut bytes = Vec::new();
        let response = ResponseContext { version, persistent, head_only, date: *context.date };
        stream_head(&mut bytes, &response, headers);
        self.put(context, bytes);
        if head_only {
            self.has_answered = true;
            let goes_on = persistent && version == Version::Http11;
            self.progress = if goes_on { Progress::Head } else { Progress::Ended };
            self.advance(context);
            return None;
        }
        Some(match version {
            Version::Http11 => StreamFraming::Chunked,
            Version::Http10 => StreamFraming::Unframed,
        })
    }

    pub(super) fn deadline(&self, options: &ConnOptions) -> Option<Instant> {
        let reading = match &self.progress {
            Progress::Head if self.scanner.has_begun() || !self.has_answered => {
                Some(self.began + options.head_timeout)
            }
            Progress::Head => Some(self.began + options.idle_timeout),
            Progress::Lines(lines) if lines.is_handed_over => Some(self.began + options.publish_timeout),
            Progress::Body { .. } | Progress::Lines(_) | Progress::Discard { .. } => {
                Some(self.began + options.body_timeout)
            }
            Progress::Asked => Some(self.began + options.publish_timeout),
            Progress::Ready { .. } | Progress::Ended => None,
        };
        let writing = (!self.out.is_empty()).then(|| self.written + options.idle_timeout);
        [reading, writing].into_iter().flatten().min()
    }

    /// Answers what took too long; says why the connection is to be closed without an answer.
    pub(super) fn deadline_reached(&mut self, context: &Context<'_>) -> Option<CloseReason> {
        let ConnOptions { head_timeout, body_timeout, idle_timeout, publish_timeout, .. } = *context.options;
        if !self.out.is_empty() && context.now >= self.written + idle_timeout {
            return Some(CloseReason::TooSlow);
        }
        let waited = context.now.saturating_duration_since(self.began);
        match &self.progress {
            Progress::Head if self.scanner.has_begun() => {
                if waited >= head_timeout {
                    self.asker = UNKNOWN_ASKER;
                    let detail = format!("the request's head did not come whole within {head_timeout:?}");
                    self.refuse(context, Problem::new(Status::REQUEST_TIMEOUT, detail));
                }
            }
            Progress::Head => {
                let patience = if self.has_answered { idle_timeout } else { head_timeout };
                if waited >= patience {
                    return Some(CloseReason::Idle);
                }
            }
            Progress::Lines(lines) if lines.is_handed_over => {
                self.time_out_publish(context, waited >= publish_timeout)
            }
            Progress::Asked => self.time_out_publish(context, waited >= publish_timeout),
            Progress::Body { .. } | Progress::Lines(_) => {
                if waited >= body_timeout {
                    let detail = format!("the request's body did not come on within {body_timeout:?}");
                    self.refuse_body(context, Problem::new(Status::REQUEST_TIMEOUT, detail));
                }
            }
            Progress::Discard { .. } => {
                if waited >= body_timeout {
                    self.progress = Progress::Ended; // It has its answer.
                }
            }
            Progress::Ready { .. } | Progress::Ended => {}
        }
        None
    }

    fn time_out_publish(&mut self, context: &Context<'_>, is_due: bool) {
        if is_due {
            let detail = format!(
                "the log did not commit within {:?}; the event may still appear",
                context.options.publish_timeout
            );
            let problem = Problem::unavailable(detail, std::time::Duration::from_secs(1));
            self.answer(context, &problem.into_response());
        }
    }

    /// Reads on as far as the input reaches and the present step allows.
    fn advance(&mut self, context: &Context<'_>) {
        loop {
            let goes_on = match &mut self.progress {
                Progress::Head => self.read_head(context),
                Progress::Body { .. } => self.read_body(context),
                Progress::Lines(_) => self.read_lines(context),
                Progress::Discard { .. } => self.discard_body(context),
                Progress::Ready { .. } | Progress::Asked | Progress::Ended => false,
            };
            if !goes_on {
                break;
            }
        }
        self.tidy_input();
        self.end_if_nothing_comes();
    }

    fn read_head(&mut self, context: &Context<'_>) -> bool {
        if self.is_last {
            self.progress = Progress::Ended;
            return false;
        }
        if self.out.bytes() > ANSWER_BYTES_MAX || self.at == self.input.len() {
            return false;
        }
        match self.scanner.parse(&self.input[self.at..]) {
            Ok(None) => false,
            Ok(Some((head, consumed))) => {
                self.at += consumed;
                self.began = context.now;
                self.begin_request(context, head);
                true
            }
            Err(error) => {
                self.asker = UNKNOWN_ASKER;
                self.refuse(context, Problem::from(error));
                false
            }
        }
    }

    /// Decides by the head alone how to go on.
    fn begin_request(&mut self, context: &Context<'_>, head: RequestHead) {
        self.asker = Asker {
            version: head.version(),
            is_persistent: head.is_persistent(),
            head_only: head.method() == Method::Head,
        };
        let plan = (context.options.plan_body)(&head);
        let bytes_max = match &plan {
            BodyPlan::Whole => context.options.body_bytes_max as u64,
            BodyPlan::Lines => u64::MAX,
            BodyPlan::Refuse(_) => DISCARD_BYTES_MAX,
        };
        let decoder = BodyDecoder::new(head.framing(), bytes_max);
        match (plan, decoder) {
            (BodyPlan::Refuse(problem), Ok(decoder)) => {
                // A client that waits to be invited to send its body is told no instead, and may not send it.
                let is_kept = self.asker.is_persistent && !head.expects_continue();
                self.asker.is_persistent = is_kept;
                self.put_answer(context, &problem.into_response(), true);
                self.progress = if is_kept { Progress::Discard { decoder } } else { Progress::Ended };
            }
            (BodyPlan::Refuse(problem), Err(_)) => self.refuse(context, problem),
            (BodyPlan::Whole | BodyPlan::Lines, Err(error)) => self.refuse(context, Problem::from(error)),
            (plan @ (BodyPlan::Whole | BodyPlan::Lines), Ok(decoder)) => {
                if head.expects_continue() && !decoder.is_done() && self.at == self.input.len() {
                    self.put(context, CONTINUE.to_vec());
                }
                self.progress = match plan {
                    BodyPlan::Lines => Progress::Lines(Box::new(LinesProgress {
                        head: Some(head),
                        decoder,
                        lines: Vec::new(),
                        whole: 0,
                        first_line: 1,
                        is_handed_over: false,
                        is_end_handed_over: false,
                        failure: None,
                    })),
                    BodyPlan::Whole | BodyPlan::Refuse(_) => {
                        let body = Vec::with_capacity(match head.framing() {
                            Framing::Length(length) => usize::try_from(length).unwrap_or(0).min(64 * 1024),
                            Framing::None | Framing::Chunked => 0,
                        });
                        Progress::Body { head, decoder, body }
                    }
                };
            }
        }
    }

    fn read_body(&mut self, context: &Context<'_>) -> bool {
        let Progress::Body { decoder, body, .. } = &mut self.progress else { return false };
        let read = decode(decoder, &self.input[self.at..], |data| body.extend_from_slice(data));
        let is_done = decoder.is_done();
        match read {
            Err(error) => {
                self.refuse(context, Problem::from(error));
                return false;
            }
            Ok(consumed) => self.at += consumed,
        }
        if is_done
            && let Progress::Body { head, body, .. } = std::mem::replace(&mut self.progress, Progress::Ended)
        {
            self.progress = Progress::Ready { head, body };
        }
        false
    }

    fn read_lines(&mut self, context: &Context<'_>) -> bool {
        let Progress::Lines(progress) = &mut self.progress else { return false };
        if progress.failure.is_some() {
            return false;
        }
        let LinesProgress { decoder, lines, whole, .. } = &mut **progress;
        let line_bytes_max = context.options.body_bytes_max;
        let mut fed = 0;
        let read = decode_while(decoder, &self.input[self.at..], |data| {
            fed += data.len();
            let before = lines.len();
            lines.extend_from_slice(data);
            if let Some(last) = memchr::memrchr(b'\n', data) {
                *whole = before + last + 1;
            }
            lines.len() < LINES_BYTES_MAX || *whole == 0
        });
        if fed > 0 {
            self.began = context.now;
        }
        match read {
            Err(error) => progress.failure = Some(Problem::from(error)),
            Ok(consumed) => self.at += consumed,
        }
        if progress.lines.len() - progress.whole > line_bytes_max {
            let ahead = memchr::memchr_iter(b'\n', &progress.lines[..progress.whole]).count() as u64;
            let line = progress.first_line + ahead;
            let detail = format!("line {line} is longer than {line_bytes_max} bytes");
            progress.failure = Some(Problem::new(Status::CONTENT_TOO_LARGE, detail));
        }
        false
    }

    fn discard_body(&mut self, context: &Context<'_>) -> bool {
        let Progress::Discard { decoder } = &mut self.progress else { return false };
        match decode(decoder, &self.input[self.at..], |_| {}) {
            Err(_) => {
                self.progress = Progress::Ended; // It has its answer.
                false
            }
            Ok(consumed) => {
                let is_done = decoder.is_done();
                self.at += consumed;
                if is_done {
                    self.progress = Progress::Head;
                    self.began = context.now;
                }
                is_done
            }
        }
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
    }

    fn put_answer(&mut self, context: &Context<'_>, response: &Response<'_>, is_whole: bool) {
        self.asker.is_persistent &= is_whole && !self.is_last;
        let Asker { version, is_persistent, head_only } = self.asker;
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

    /// Gives back what was read; an idle connection keeps next to nothing.
    fn tidy_input(&mut self) {
        if self.at == self.input.len() {
            self.input.clear();
            self.input.shrink_to(IDLE_BUFFER_BYTES_MAX);
        } else if self.at > 0 {
            self.input.drain(..self.at);
        }
        self.at = 0;
    }

    /// A peer that has ended its side will not finish what it began.
    fn end_if_nothing_comes(&mut self) {
        if self.peer_ended && self.wants_bytes() {
            let has_lines = matches!(&self.progress, Progress::Lines(lines) if lines.is_due());
            if !has_lines {
                self.progress = Progress::Ended;
            }
        }
    }
}

impl LinesProgress {
    /// Returns true if and only if nothing follows behind `lines`.
    fn is_at_end(&self) -> bool {
        self.decoder.is_done() || self.failure.is_some()
    }

    /// Returns true if and only if there are lines to hand over, or the end.
    fn is_due(&self) -> bool {
        !self.is_handed_over && !self.is_end_handed_over && (self.whole > 0 || self.is_at_end())
    }

    fn take(&mut self) -> Lines {
        let is_end = self.is_at_end();
        // A last line without a line feed is one, where the body ends with it and did not break off in it.
        let upto = if self.failure.is_none() && is_end { self.lines.len() } else { self.whole };
        let rest = self.lines.split_off(upto);
        let bytes = std::mem::replace(&mut self.lines, rest);
        let first_line = self.first_line;
        self.first_line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.whole = 0;
        self.is_handed_over = true;
        self.is_end_handed_over = is_end;
        Lines { head: self.head.take(), bytes, first_line, is_end, failure: self.failure.clone() }
    }
}

/// Feeds `input` to a body as far as that reaches; returns how many bytes it took.
fn decode(
    decoder: &mut BodyDecoder,
    input: &[u8],
    mut data: impl FnMut(&[u8]),
) -> Result<usize, RequestError> {
    decode_while(decoder, input, |bytes| {
        data(bytes);
        true
    })
}

/// As [`decode`], as long as `data` returns true.
fn decode_while(
    decoder: &mut BodyDecoder,
    input: &[u8],
    mut data: impl FnMut(&[u8]) -> bool,
) -> Result<usize, RequestError> {
    let mut at = 0;
    while at < input.len() && !decoder.is_done() {
        let (consumed, bytes) = decoder.decode(&input[at..])?;
        at += consumed;
        if !bytes.is_empty() && !data(bytes) {
            break;
        }
    }
    Ok(at)
}
