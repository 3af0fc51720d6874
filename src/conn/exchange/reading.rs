//! Reading: from the bytes of a connection to complete requests.

use super::lines::LinesProgress;
use super::{
    ANSWER_BYTES_MAX, Asker, DISCARD_BYTES_MAX, Exchange, IDLE_BUFFER_BYTES_MAX, Progress, UNKNOWN_ASKER,
};
use crate::conn::state::{Admission, BodyPlan, Context, Decision, Request, SHORT_BODY_BYTES_MAX};
use crate::http::{BodyDecoder, BodyFraming, CONTINUE, Method, Problem, RequestError, RequestHead};

impl Exchange {
    /// Reads as far as the input reaches and the current step allows.
    pub(super) fn advance(&mut self, context: &Context<'_>) {
        loop {
            let goes_on = match &mut self.progress {
                Progress::Head => self.read_head(context),
                Progress::Body { .. } => self.read_body(context),
                Progress::Lines(_) => self.read_lines(context),
                Progress::Discard { .. } => self.discard_body(context),
                Progress::Undecided { .. } | Progress::Ready(_) | Progress::HandedOver | Progress::Ended => {
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        self.tidy_input();
        self.end_if_nothing_comes(context);
    }

    /// Parses a head that is complete in `bytes`, as most are, without a copy, and keeps the bytes after
    /// it. Returns false if it read nothing; the caller then reads from the input with the same result.
    pub(super) fn read_whole_head(&mut self, context: &Context<'_>, bytes: &[u8]) -> bool {
        let is_next = matches!(self.progress, Progress::Head) && self.input.is_empty();
        if !is_next || self.takes_no_more() || self.out.bytes() > ANSWER_BYTES_MAX {
            return false;
        }
        let Ok(Some((head, consumed))) = self.scanner.parse(bytes) else { return false };
        self.input.extend_from_slice(&bytes[consumed..]);
        self.began = context.now;
        self.begin_request(head);
        true
    }

    /// Returns true if the connection ends before another head.
    fn takes_no_more(&self) -> bool {
        self.is_last && self.has_answered && !self.scanner.has_begun()
    }

    fn read_head(&mut self, context: &Context<'_>) -> bool {
        if self.takes_no_more() {
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
                self.begin_request(head);
                true
            }
            Err(error) => {
                self.asker = UNKNOWN_ASKER;
                self.refuse(context, Problem::from(error));
                false
            }
        }
    }

    /// Asks for a decision by the head alone. `GET` and `HEAD` without a body need none: the complete
    /// request is there, and it publishes nothing.
    fn begin_request(&mut self, head: RequestHead) {
        self.asker = Asker {
            version: head.version(),
            is_persistent: head.is_persistent(),
            head_only: head.method() == Method::Head,
            is_publish: false,
        };
        let has_body = !matches!(head.framing(), BodyFraming::None | BodyFraming::Length(0));
        self.progress = if !has_body && matches!(head.method(), Method::Get | Method::Head) {
            Progress::Ready(Request { head, body: Vec::new(), permission: None })
        } else {
            Progress::Undecided { head }
        };
    }

    pub(in crate::conn) fn decide(&mut self, context: &Context<'_>, decision: Decision) {
        if !matches!(self.progress, Progress::Undecided { .. }) {
            return;
        }
        let Progress::Undecided { head } = std::mem::replace(&mut self.progress, Progress::Ended) else {
            return;
        };
        self.began = context.now;
        self.asker.is_publish = decision.is_publish;
        match decision.admission {
            Ok(admission) => self.begin_body(context, head, admission),
            Err(problem) => self.refuse_head(context, &head, problem),
        }
        self.advance(context);
    }

    fn begin_body(&mut self, context: &Context<'_>, head: RequestHead, admission: Admission) {
        let Admission { permission, body: plan } = admission;
        let bytes_max = match plan {
            BodyPlan::Whole => context.options.body_bytes_max as u64,
            BodyPlan::Short => context.options.body_bytes_max.min(SHORT_BODY_BYTES_MAX) as u64,
            BodyPlan::Lines => u64::MAX,
        };
        let decoder = match BodyDecoder::new(head.framing(), bytes_max) {
            Ok(decoder) => decoder,
            Err(error) => return self.refuse(context, Problem::from(error)),
        };
        if head.expects_continue() && !decoder.is_done() && self.at == self.input.len() {
            self.put(context, CONTINUE.to_vec());
        }
        let buffer = match head.framing() {
            BodyFraming::Length(length) => usize::try_from(length).unwrap_or(0).min(64 * 1024),
            BodyFraming::None | BodyFraming::Chunked => 0,
        };
        self.progress = if plan == BodyPlan::Lines {
            Progress::Lines(Box::new(LinesProgress::new(permission, decoder)))
        } else {
            let body = Vec::with_capacity(buffer);
            if decoder.is_done() {
                Progress::Ready(Request { head, body, permission: Some(permission) })
            } else {
                Progress::Body { head, permission, decoder, body }
            }
        };
    }

    /// Answers a request that is refused for its head. A short body is then skipped; a longer one ends
    /// the connection.
    fn refuse_head(&mut self, context: &Context<'_>, head: &RequestHead, problem: Problem) {
        let Ok(decoder) = BodyDecoder::new(head.framing(), DISCARD_BYTES_MAX) else {
            return self.refuse(context, problem);
        };
        // A client that waits for `100 Continue` gets the refusal instead and may then send no body, so
        // the connection ends.
        self.asker.is_persistent &= !head.expects_continue();
        self.put_answer(context, &problem.into_response(), true);
        if self.asker.is_persistent {
            self.progress = Progress::Discard { decoder };
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
            && let Progress::Body { head, permission, body, .. } =
                std::mem::replace(&mut self.progress, Progress::Ended)
        {
            self.progress = Progress::Ready(Request { head, body, permission: Some(permission) });
        }
        false
    }

    fn read_lines(&mut self, context: &Context<'_>) -> bool {
        let Progress::Lines(lines) = &mut self.progress else { return false };
        let consumed = lines.read(&self.input[self.at..], context.options.body_bytes_max);
        if consumed > 0 {
            self.began = context.now; // The body did not pause.
            self.at += consumed;
        }
        false
    }

    fn discard_body(&mut self, context: &Context<'_>) -> bool {
        let Progress::Discard { decoder } = &mut self.progress else { return false };
        match decode(decoder, &self.input[self.at..], |_| {}) {
            Err(_) => {
                self.progress = Progress::Ended; // It is already answered.
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

    /// Frees the bytes that were read. An idle connection keeps at most [`IDLE_BUFFER_BYTES_MAX`].
    fn tidy_input(&mut self) {
        if self.at == self.input.len() {
            self.input.clear();
            self.input.shrink_to(IDLE_BUFFER_BYTES_MAX);
            self.at = 0;
        } else if self.at > self.input.len() / 2 {
            // If this came sooner, each of many pipelined requests would move all bytes after it.
            self.input.drain(..self.at);
            self.at = 0;
        }
    }

    /// A peer that has ended its side will not complete its request, but may still read the error.
    pub(super) fn end_if_nothing_comes(&mut self, context: &Context<'_>) {
        if !self.peer_ended || !self.wants_bytes() {
            return;
        }
        let broken_off =
            || Problem::bad_request("the client ended its side before the request's body was whole");
        match &mut self.progress {
            Progress::Lines(lines) => {
                if !lines.is_due() {
                    lines.failure = Some(broken_off());
                }
            }
            Progress::Body { .. } => self.refuse(context, broken_off()),
            Progress::Head
            | Progress::Undecided { .. }
            | Progress::Ready(_)
            | Progress::HandedOver
            | Progress::Discard { .. }
            | Progress::Ended => self.progress = Progress::Ended,
        }
    }
}

/// Feeds `input` to a body until either ends. Returns how many bytes it read.
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

/// As [`decode`], but stops when `data` returns false.
pub(super) fn decode_while(
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
