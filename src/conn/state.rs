//! The inputs and outputs of a connection, and its limits.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::auth::Permission;
use crate::frame::coding::{CodedRun, Coding};
use crate::frame::notice::{KeepaliveStyle, Notice};
use crate::frame::outbox::OutboxLimits;
use crate::frame::run::Run;
use crate::http::{HttpDate, Problem, RequestHead, Status};

/// The limits that all connections of a shard have in common.
#[derive(Clone, Copy, Debug)]
pub struct ConnOptions {
    /// How long a request's head may take from its first byte, and how long a new connection may take to
    /// begin its first request.
    pub head_timeout: Duration,
    /// How long a body may take. A body of lines may pause this long.
    pub body_timeout: Duration,
    /// How long a connection may be idle before its next request, and how long an answer may wait for
    /// its reader.
    pub idle_timeout: Duration,
    /// How long the full socket of a stream may accept no byte at all; `None` for no limit.
    pub stall_timeout: Option<Duration>,
    /// How long the log may take to commit published events.
    pub publish_timeout: Duration,
    /// A stream gets a ping when nothing was written to it for this long; `None` for no pings.
    pub keepalive: Option<Duration>,
    /// The form of the ping.
    pub keepalive_style: KeepaliveStyle,
    /// The largest body, in bytes. In a body of lines, the longest line.
    pub body_bytes_max: usize,
    /// Limits of the outbox of a stream.
    pub outbox: OutboxLimits,
}

impl Default for ConnOptions {
    /// No pings. Tests and benches set the fields that matter to them.
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
        }
    }
}

/// The decision about a request, by its head alone.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What the request may do, or why it is refused.
    pub admission: Result<Admission, Problem>,
    /// The request publishes. If it is answered with an error, the [`Refusals`] count it.
    pub is_publish: bool,
}

/// A request is not refused for its head.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What the request may do.
    pub permission: Permission,
    /// How its body is read.
    pub body: BodyPlan,
}

/// How a request's body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// Whole, up to `ConnOptions::body_bytes_max`.
    Whole,
    /// Whole, up to [`SHORT_BODY_BYTES_MAX`].
    Short,
    /// As lines, each up to `ConnOptions::body_bytes_max`. The body may have any length.
    Lines,
}

/// The largest body, in bytes, of a request that only names something.
pub const SHORT_BODY_BYTES_MAX: usize = 4 * 1024;

/// The environment of a connection at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The current instant.
    pub now: Instant,
    /// The current second, for `Date`.
    pub date: &'a HttpDate,
    /// The limits.
    pub options: &'a ConnOptions,
    /// State that the shard's connections share.
    pub common: &'a Common,
}

/// The result of an immediate send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This many bytes were written.
    Bytes(usize),
    /// The result comes later.
    Later,
    /// Nothing was written: the peer is gone.
    Broken,
}

/// The result of [`Connection::flush`](super::Connection::flush).
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All waiting bytes were written.
    Whole {
        /// How many bytes.
        bytes: usize,
        /// Events that were written completely.
        events: u32,
    },
    /// Some of the waiting bytes were written.
    Partly {
        /// How many bytes.
        bytes: usize,
        /// Events that were written completely; `None` if the connection is not a stream.
        events: Option<u32>,
    },
    /// The result comes later.
    Pending,
    /// Nothing was sent. [`Connection::poll_action`](super::Connection::poll_action) says whether there
    /// is something else to do.
    NotNow,
}

/// State that the connections of a shard share.
#[derive(Clone, Debug)]
pub struct Common {
    /// Notices that are the same for many streams.
    pub runs: OwnRuns,
    /// How many publishes were refused.
    pub refusals: Refusals,
}

impl Common {
    /// The initial state of a shard.
    #[must_use]
    pub fn new(style: KeepaliveStyle) -> Common {
        Common { runs: OwnRuns::new(style), refusals: Refusals::default() }
    }
}

/// Counts the publishes that were answered with an error, by status.
#[derive(Clone, Debug, Default)]
pub struct Refusals(RefCell<Vec<(Status, u64)>>);

impl Refusals {
    /// The statuses that occurred, in order, each with its count.
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

/// Notices that are the same for many streams, rendered once.
#[derive(Clone, Debug)]
pub struct OwnRuns {
    ping: CodedRun,
}

impl OwnRuns {
    /// Renders the notices, with pings in this style.
    #[must_use]
    pub fn new(style: KeepaliveStyle) -> OwnRuns {
        let mut ping = Vec::new();
        Notice::Ping(style).render(&mut ping, Coding::Chunked);
        OwnRuns { ping: CodedRun::new(Run::own(ping)) }
    }

    pub(super) fn ping(&self, coding: Coding) -> Run {
        self.ping.coded(coding).clone()
    }
}

/// An event that a connection must process.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The receive completed with bytes.
    Received(&'a [u8]),
    /// The receive completed because the peer ended its side.
    ReceiveEnded,
    /// The peer is gone.
    Failed,
    /// After a short send the socket has room again.
    Writable,
    /// [`super::Connection::deadline`] has passed, or may have.
    DeadlineReached,
}

/// A request of a connection to its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the driver for bytes.
    Receive,
    /// Offer the waiting bytes to the driver ([`super::Connection::offer`]).
    Send,
    /// The head of a request is complete: [`super::Connection::undecided`]. There is no other action
    /// before [`super::Connection::decide`], and nothing behind the head is read.
    Head,
    /// A request is complete: [`super::Connection::take_request`].
    Request,
    /// Lines of a body have arrived: [`super::Connection::take_lines`].
    Lines,
    /// Shut down the write side.
    Shutdown,
    /// Close and forget the connection.
    Close(CloseReason),
}

/// A complete request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: Vec<u8>,
    /// What it may do; `None` if nothing was decided by its head, as for `GET` and `HEAD` without a
    /// body.
    pub permission: Option<Permission>,
}

/// Whole lines of a body, and their place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// What the request may do, only with the first lines of its body.
    pub permission: Option<Permission>,
    /// The lines. Only the last line of a body may lack its line feed.
    pub bytes: Vec<u8>,
    /// The number of the first line in `bytes`, counted from 1.
    pub first_line: u64,
    /// The body ends after these lines.
    pub is_end: bool,
    /// Why the body ends, if it broke off.
    pub failure: Option<Problem>,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended a stream, or left before its first request.
    Peer,
    /// The peer or the network reset the connection.
    Failed,
    /// Everything was sent, and the peer had time to read it.
    Finished,
    /// No request came within the idle timeout.
    Idle,
    /// The peer did not read its answer, or the end of its stream.
    TooSlow,
    /// The full socket of a stream accepted no byte for the stall timeout.
    Stalled,
    /// The server ended the connection at once.
    Aborted,
    /// The client sent more on its open stream than the server reads there.
    SentTooMuch,
}

impl CloseReason {
    /// Every reason, in the order of declaration.
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

    /// The reason as it appears in metrics.
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
