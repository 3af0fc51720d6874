//! What goes into a connection and what comes out, and the bounds it keeps.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::frame::notice::{KeepaliveStyle, Notice};
use crate::frame::outbox::OutboxLimits;
use crate::frame::render::Framing;
use crate::frame::run::Run;
use crate::http::{HttpDate, Problem, RequestHead, Status};

/// The bounds and times that all connections of a shard keep.
#[derive(Clone, Copy, Debug)]
pub struct ConnOptions {
    /// How long a request's head may take from its first byte, and the first request of a connection to begin.
    pub head_timeout: Duration,
    /// How long a body may take; for a body of lines, how long it may pause.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request, and an answer for its reader.
    pub idle_timeout: Duration,
    /// How long the full socket of a stream may take not one byte; `None` for any time.
    pub stall_timeout: Option<Duration>,
    /// How long the log may take to commit what was published.
    pub publish_timeout: Duration,
    /// How long nothing is written to a stream before a ping is; `None` for none.
    pub keepalive: Option<Duration>,
    /// What such a ping is.
    pub keepalive_style: KeepaliveStyle,
    /// Bytes of a body, or of a line of a body of lines.
    pub body_bytes_max: usize,
    /// What may wait for a stream.
    pub outbox: OutboxLimits,
    /// Says, by a request's head alone, what is to be done with its body.
    pub plan_body: fn(&RequestHead) -> Plan,
}

impl Default for ConnOptions {
    /// No pings, and every body is taken whole. Tests and benches set what matters to them.
    fn default() -> ConnOptions {
        ConnOptions {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: None,
            publish_timeout: Duration::from_secs(5),
            keepalive: None,
            keepalive_style: KeepaliveStyle::Event,
            body_bytes_max: 1 << 20,
            outbox: OutboxLimits { bytes_max: 1 << 18, frames_max: 256 },
            plan_body: |_| Plan { body: BodyPlan::Whole, is_publish: false },
        }
    }
}

/// What a request's head alone decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to be done with the body.
    pub body: BodyPlan,
    /// The request publishes: an error that answers it counts among the [`Refusals`].
    pub is_publish: bool,
}

/// What is to be done with a request's body.
#[derive(Clone, Debug)]
pub enum BodyPlan {
    /// It is read whole, up to `ConnOptions::body_bytes_max`.
    Whole,
    /// It is read whole, up to [`SHORT_BODY_BYTES_MAX`].
    Short,
    /// It is read as lines, each up to `ConnOptions::body_bytes_max`, and may be of any length.
    Lines,
    /// The request is refused without its body.
    Refuse(Problem),
}

/// Bytes of a body that only names something.
pub const SHORT_BODY_BYTES_MAX: usize = 4 * 1024;

/// What a connection needs to know of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present instant.
    pub now: Instant,
    /// The present second, for `Date`.
    pub date: &'a HttpDate,
    /// Bounds and times.
    pub options: &'a ConnOptions,
    /// What the shard's connections share.
    pub common: &'a Common,
}

/// What became of bytes that were offered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many were written.
    Bytes(usize),
    /// How many were written is told later.
    Later,
    /// None; the peer is gone.
    Broken,
}

/// What [`Connection::flush`](super::Connection::flush) came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All that waited was written.
    Whole {
        /// How much.
        bytes: usize,
        /// Events that were written whole.
        events: u32,
    },
    /// Some of it was written.
    Partly {
        /// How much.
        bytes: usize,
        /// Events that were written whole; `None` where it is no stream.
        events: Option<u32>,
    },
    /// How much was written is told later.
    Pending,
    /// There may be something else to do: [`Connection::poll_action`](super::Connection::poll_action) says what.
    NotNow,
}

/// What the connections of a shard share.
#[derive(Clone, Debug)]
pub struct Common {
    /// What is told to many streams alike.
    pub runs: OwnRuns,
    /// How many publishes were refused.
    pub refusals: Refusals,
}

impl Common {
    /// What a shard begins with.
    #[must_use]
    pub fn new(style: KeepaliveStyle) -> Common {
        Common { runs: OwnRuns::new(style), refusals: Refusals::default() }
    }
}

/// How many publishes were answered with which error.
#[derive(Clone, Debug, Default)]
pub struct Refusals(RefCell<Vec<(Status, u64)>>);

impl Refusals {
    /// The statuses that there were, in order, each with its number.
    #[must_use]
    pub fn by_status(&self) -> Vec<(Status, u64)> {
        self.0.borrow().clone()
    }

    pub(super) fn add(&self, status: Status) {
        let mut counts = self.0.borrow_mut();
        match counts.binary_search_by_key(&status, |&(counted, _)| counted) {
            Ok(index) => counts[index].1 += 1,
            Err(index) => counts.insert(index, (status, 1)),
        }
    }
}

/// What the server tells many streams in the same words, rendered once.
#[derive(Clone, Debug)]
pub struct OwnRuns {
    ping: Run,
    ping_unframed: Run,
}

impl OwnRuns {
    /// What streams are told that are kept alive in this style.
    #[must_use]
    pub fn new(style: KeepaliveStyle) -> OwnRuns {
        let ping = |framing| {
            let mut bytes = Vec::new();
            Notice::Ping(style).render(&mut bytes, framing);
            Run::own(bytes)
        };
        OwnRuns { ping: ping(Framing::Chunked), ping_unframed: ping(Framing::Unframed) }
    }

    pub(super) fn ping(&self, framing: Framing) -> Run {
        match framing {
            Framing::Chunked => self.ping.clone(),
            Framing::Unframed => self.ping_unframed.clone(),
        }
    }
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The receive ended with bytes.
    Received(&'a [u8]),
    /// The receive ended as the peer ended its side.
    ReceiveEnded,
    /// The peer is gone.
    Failed,
    /// After a short send there is room again.
    Writable,
    /// [`super::Connection::deadline`] has come, or may have.
    DeadlineReached,
}

/// What a connection wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the driver for bytes.
    Receive,
    /// Offer what waits to the driver ([`super::Connection::offer`]).
    Send,
    /// A request has come whole: [`super::Connection::take_request`].
    Request,
    /// Lines of a body have come: [`super::Connection::take_lines`].
    Lines,
    /// Shut the write side down.
    Shutdown,
    /// Close, and forget the connection.
    Close(CloseReason),
}

/// Whole lines of a body, and what was there before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The request's head, with the first lines of its body alone.
    pub head: Option<RequestHead>,
    /// The lines; only the last one of a body may lack its line feed.
    pub bytes: Vec<u8>,
    /// The number of the first of them, counted from 1.
    pub first_line: u64,
    /// The body ends with them.
    pub is_end: bool,
    /// Why the body ends, where that is not its own end.
    pub failure: Option<Problem>,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended a stream, or went before it asked for anything.
    Peer,
    /// The peer reset the connection, or the network did.
    Failed,
    /// All was said, and the peer had its time to hear it.
    Finished,
    /// No request came within the idle time.
    Idle,
    /// The peer did not read its answer, or the end of its stream.
    TooSlow,
    /// The full socket of a stream took nothing for as long as it may.
    Stalled,
    /// The server ended it at once.
    Aborted,
    /// The client sent more on its open stream than is read there.
    SentTooMuch,
}

impl CloseReason {
    /// Every reason, in the order in which they are declared.
    pub const ALL: [CloseReason; 8] = [
        CloseReason::Peer,
        CloseReason::Failed,
        CloseReason::Finished,
        CloseReason::Idle,
        CloseReason::TooSlow,
        CloseReason::Stalled,
        CloseReason::Aborted,
        CloseReason::SentTooMuch,
    ];

    /// The reason as metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CloseReason::Peer => "peer",
            CloseReason::Failed => "failed",
            CloseReason::Finished => "finished",
            CloseReason::Idle => "idle",
            CloseReason::TooSlow => "too-slow",
            CloseReason::Stalled => "stalled",
            CloseReason::Aborted => "aborted",
            CloseReason::SentTooMuch => "sent-too-much",
        }
    }
}
