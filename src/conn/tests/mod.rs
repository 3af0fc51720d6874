//! Tests of connections: they feed inputs and compare actions and bytes. Time is arithmetic.
//!
//! The [`Bench`] replaces the driver and the shard. It also checks rules that hold everywhere. At most
//! one receive is outstanding, and none after the peer's end. Nothing is offered during an offer or
//! while the socket is full. A deadline that has passed does not come again. The actions after an input
//! end.

mod closing;
mod deadlines;
mod decisions;
mod exchange;
mod held;
mod lines;
mod messages;
mod splits;
mod stall;
mod stream;

use std::time::{Duration, Instant};

use super::{
    Action, Admission, CloseReason, Common, ConnOptions, Connection, Context, Decision, Flushed, Input,
    Lines, Phase, Request, Taken,
};
use crate::base::limits::READ_BUFFER_BYTES;
use crate::frame::coding::Coding;
use crate::frame::notice::Notice;
use crate::frame::run::Run;
use crate::http::{HttpDate, Method, Problem, RequestHead, Response, ResponseContext, Status, Version};

use messages::{
    broken_lines, chunk, decision, get, kept, last, lines, options, post, post_chunked, rendered, request,
    split,
};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const STALL_TIMEOUT: Duration = Duration::from_secs(90);
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(15);
const BODY_BYTES_MAX: usize = 1000;
const DATE: HttpDate = *b"Sun, 06 Nov 1994 08:49:37 GMT";
const INSTANT: Duration = Duration::from_nanos(1);

/// The most actions after one input. The longest test pipelines several thousand requests.
const ACTIONS_MAX: usize = 100_000;

/// What a connection did besides its bytes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Method, path and body.
    Request(String),
    Lines {
        text: String,
        first_line: u64,
        is_end: bool,
        failure: Option<u16>,
    },
    Shutdown,
    Close(CloseReason),
}

/// The driver's part of a send.
#[derive(Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    /// An offer. It ends with `taken` bytes written.
    Send {
        taken: Vec<u8>,
        offered: usize,
    },
    /// The socket is full and will report room.
    Room,
}

/// A connection and its environment.
struct Bench {
    conn: Connection,
    options: ConnOptions,
    common: Common,
    start: Instant,
    now: Instant,
    /// The bytes that the peer got.
    wire: Vec<u8>,
    seen: Vec<Seen>,
    is_receiving: bool,
    peer_ended: bool,
    /// Bytes that the socket accepts until it is full; `usize::MAX` for a socket that never fills.
    room: usize,
    /// Offers end later, as with io_uring.
    is_ring: bool,
    under_way: UnderWay,
    /// A deadline has passed, so a full socket may be tried once more.
    may_try: bool,
    /// The test answers requests and lines. Otherwise they are answered at once.
    holds: bool,
    /// The test decides about heads. Otherwise they are decided on at once.
    holds_heads: bool,
    lines: String,
}

impl Bench {
    /// A new connection that has asked for bytes.
    fn new() -> Bench {
        let start = Instant::now();
        let mut bench = Bench {
            conn: Connection::new(start),
            options: options(),
            common: Common::new(options().keepalive_style),
            start,
            now: start,
            wire: Vec::new(),
            seen: Vec::new(),
            is_receiving: false,
            peer_ended: false,
            room: usize::MAX,
            is_ring: false,
            under_way: UnderWay::Nothing,
            may_try: false,
            holds: false,
            holds_heads: false,
            lines: String::new(),
        };
        bench.act();
        bench
    }

    /// A connection whose requests wait for the test's answers.
    fn holding() -> Bench {
        Bench { holds: true, ..Bench::new() }
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut Connection, &Context<'_>) -> R) -> R {
        let context = Context { now: self.now, date: &DATE, options: &self.options, common: &self.common };
        call(&mut self.conn, &context)
    }

    fn handle(&mut self, input: Input<'_>) {
        self.may_try = matches!(input, Input::DeadlineReached);
        self.with(|conn, context| conn.handle(context, input));
        self.act();
    }

    /// Performs the actions of the connection.
    fn act(&mut self) {
        for _ in 0..ACTIONS_MAX {
            match self.with(Connection::poll_action) {
                None => return,
                Some(action) => {
                    assert!(!self.is_closed(), "{action:?} after the close");
                    self.carry_out(action);
                    if action == Action::Head && self.holds_heads {
                        return; // The decision comes before any other action.
                    }
                }
            }
        }
        panic!("the connection never stops wanting something");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Receive => {
                assert!(!self.is_receiving, "bytes are asked for twice");
                assert!(!self.peer_ended, "bytes are asked for behind the end");
                self.is_receiving = true;
            }
            Action::Send => self.send(),
            Action::Head => {
                assert!(!self.is_receiving, "nothing behind a head is read before it is decided on");
                assert!(self.conn.take_request(self.now).is_none());
                if !self.holds_heads {
                    self.decide_now();
                }
            }
            Action::Request => self.take_request(),
            Action::Lines => self.take_lines(),
            Action::Shutdown => {
                assert_eq!(self.under_way, UnderWay::Nothing, "all is written before the end is");
                self.seen.push(Seen::Shutdown);
            }
            Action::Close(reason) => {
                self.is_receiving = false;
                self.seen.push(Seen::Close(reason));
            }
        }
    }

    fn send(&mut self) {
        let tries_again = std::mem::take(&mut self.may_try) && self.under_way == UnderWay::Room;
        assert!(tries_again || self.under_way == UnderWay::Nothing, "one offer at a time");
        let mut taken = self
            .conn
            .offer(|slices| slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>());
        let offered = taken.len();
        assert!(offered > 0, "there is something to offer");
        taken.truncate(self.room);
        if self.room != usize::MAX {
            self.room -= taken.len();
        }
        if self.is_ring {
            self.conn.send_is_pending();
            self.under_way = UnderWay::Send { taken, offered };
        } else {
            self.note_taken(&taken, offered);
            self.with(|conn, context| conn.sent(context, taken.len()));
        }
    }

    fn note_taken(&mut self, taken: &[u8], offered: usize) {
        self.wire.extend_from_slice(taken);
        self.under_way = if taken.len() < offered { UnderWay::Room } else { UnderWay::Nothing };
    }

    /// Completes the current offer.
    fn complete(&mut self) {
        let under_way = std::mem::replace(&mut self.under_way, UnderWay::Nothing);
        let UnderWay::Send { taken, offered } = under_way else { panic!("an offer is under way") };
        self.note_taken(&taken, offered);
        self.with(|conn, context| conn.sent(context, taken.len()));
        self.act();
    }

    /// Lets the socket accept this many more bytes.
    fn make_room(&mut self, bytes: usize) {
        self.room = bytes;
        if self.under_way == UnderWay::Room {
            self.under_way = UnderWay::Nothing;
            self.handle(Input::Writable);
        }
    }

    /// Writes all waiting bytes, `bytes` at a time.
    fn write_out(&mut self, bytes: usize) {
        for _ in 0..ACTIONS_MAX {
            match &self.under_way {
                UnderWay::Nothing => return,
                UnderWay::Send { .. } => self.complete(),
                UnderWay::Room => self.make_room(bytes),
            }
        }
        panic!("the connection never stops writing");
    }

    /// One receive.
    fn receive(&mut self, bytes: &[u8]) {
        assert!(self.is_receiving, "bytes come only where they are asked for");
        self.is_receiving = false;
        self.handle(Input::Received(bytes));
    }

    /// Feeds bytes in reads of the driver, as many as the connection takes. Returns the rest.
    fn feed<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut left = bytes;
        while self.is_receiving && !left.is_empty() {
            let (read, rest) = left.split_at(left.len().min(READ_BUFFER_BYTES));
            self.receive(read);
            left = rest;
        }
        left
    }

    fn end(&mut self) {
        assert!(self.is_receiving, "the end is noticed only where bytes are asked for");
        (self.is_receiving, self.peer_ended) = (false, true);
        self.handle(Input::ReceiveEnded);
    }

    fn decide_now(&mut self) {
        let decision = decision(self.conn.undecided().expect("a head is undecided"));
        self.with(|conn, context| conn.decide(context, decision));
    }

    /// Decides about the head that was held.
    fn decide(&mut self) {
        self.decide_now();
        self.act();
    }

    fn take_request(&mut self) {
        let now = self.now;
        let Request { head, body, permission } = self.conn.take_request(now).unwrap();
        let is_plain = body.is_empty() && matches!(head.method(), Method::Get | Method::Head);
        assert!(permission == Some(messages::permission()) || (is_plain && permission.is_none()));
        assert!(self.conn.take_request(now).is_none(), "it is handed over once");
        let (method, path) = (head.method().as_str(), head.path_raw());
        let text = format!("{method} {path} {}", String::from_utf8_lossy(&body));
        if !self.holds {
            if path == "/sse" {
                self.begin_stream(&[], &[]);
            } else {
                self.answer_now(&text);
            }
        }
        self.seen.push(Seen::Request(text));
    }

    fn take_lines(&mut self) {
        let Lines { permission, bytes, first_line, is_end, failure } =
            self.conn.take_lines(self.now).unwrap();
        let expected = self.lines.is_empty().then(messages::permission);
        assert_eq!(permission, expected, "it goes with the first lines");
        assert!(is_end || bytes.ends_with(b"\n"), "lines are whole");
        assert!(is_end || failure.is_none(), "a failure is an end");
        let text = String::from_utf8(bytes).unwrap();
        self.lines.push('>');
        self.lines.push_str(&text);
        let status = failure.as_ref().map(|problem| problem.status().code());
        self.seen.push(Seen::Lines { text, first_line, is_end, failure: status });
        if is_end {
            let text = std::mem::take(&mut self.lines).replace('>', "");
            if !self.holds {
                match failure {
                    None => self.answer_now(&text),
                    Some(problem) => {
                        self.with(|conn, context| conn.answer(context, &problem.into_response()))
                    }
                }
            }
        } else if !self.holds {
            self.with(Connection::take_more_lines);
        }
    }

    /// Begins a stream with these headers and first notices. Returns its coding, if it is a stream.
    fn begin_stream(&mut self, headers: &[(&str, &str)], first: &[Notice<'_>]) -> Option<Coding> {
        self.with(|conn, context| {
            let mut opening = conn.open_stream(context, headers)?;
            first.iter().for_each(|notice| opening.push_notice(notice));
            let coding = opening.coding();
            conn.begin_stream(context, opening);
            Some(coding)
        })
    }

    fn answer_now(&mut self, text: &str) {
        let response = Response::new(Status::OK, "text/plain", text.as_bytes());
        self.with(|conn, context| conn.answer(context, &response));
    }

    /// Answers the request that was held.
    fn answer(&mut self, text: &str) {
        self.answer_now(text);
        self.act();
    }

    fn take_more_lines(&mut self) {
        self.with(Connection::take_more_lines);
        self.act();
    }

    fn drain(&mut self) {
        self.conn.drain(self.now);
        self.act();
    }

    fn end_stream(&mut self) {
        let now = self.now;
        self.conn.end_stream(now);
        self.act();
    }

    /// Sets the time since the start.
    fn at(&mut self, since_start: Duration) {
        self.now = self.start + since_start;
    }

    /// The deadline of the connection, as time since the start.
    fn deadline(&self) -> Option<Duration> {
        self.conn.deadline(&self.options).map(|deadline| deadline - self.start)
    }

    /// Moves the time to the deadline of the connection, which must be exactly `expected`.
    fn expire(&mut self, expected: Duration) {
        assert_eq!(self.deadline(), Some(expected));
        let (seen, wire) = (self.seen.clone(), self.wire.clone());
        self.at(expected - INSTANT);
        self.handle(Input::DeadlineReached);
        assert_eq!((&self.seen, &self.wire, self.deadline()), (&seen, &wire, Some(expected)), "too early");
        self.at(expected);
        self.handle(Input::DeadlineReached);
        assert!(self.deadline().is_none_or(|next| next > expected), "the deadline has come and stays");
    }

    fn is_closed(&self) -> bool {
        matches!(self.seen.last(), Some(Seen::Close(_)))
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.wire).unwrap()
    }

    /// The statuses of all answers, including 100.
    fn statuses(&self) -> Vec<u16> {
        self.text().split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
    }

    /// Capacity of the buffer for unread bytes.
    fn input_capacity(&self) -> usize {
        match &self.conn.phase {
            Phase::Exchange(exchange) => exchange.input_capacity(),
            Phase::Stream(_) | Phase::Lingering(_) | Phase::Closed { .. } => 0,
        }
    }
}
