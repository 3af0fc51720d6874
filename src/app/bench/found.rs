//! What readers find out about their streams.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use hdrhistogram::Histogram;

use super::latency;
use super::sequence::Tally;

/// What readers have found out in the end: one, or all together.
#[derive(Debug)]
pub(super) struct Found {
    /// Of the streams that are not slow.
    pub(super) fast: Tally,
    /// Of those that are.
    pub(super) slow: Tally,
    /// From send to receipt, of streams that are not slow.
    pub(super) latency: Histogram<u64>,
    /// From the begin of a connection to the head of its stream.
    pub(super) connect_latency: Histogram<u64>,
    /// When the last stream was begun, in ns.
    pub(super) last_begun_ns: u64,
    /// Streams that are not slow, and that ended though nobody asked for it.
    pub(super) fast_ended: u64,
    /// The same of slow ones.
    pub(super) slow_ended: u64,
    /// Events that slow streams had not read when their time was up.
    pub(super) unread: u64,
    /// What went wrong with connections, and how often.
    pub(super) failures: BTreeMap<String, u64>,
    /// What the server says it is.
    pub(super) server: Option<String>,
}

impl Default for Found {
    fn default() -> Found {
        Found {
            fast: Tally::default(),
            slow: Tally::default(),
            latency: latency::histogram(),
            connect_latency: latency::histogram(),
            last_begun_ns: 0,
            fast_ended: 0,
            slow_ended: 0,
            unread: 0,
            failures: BTreeMap::new(),
            server: None,
        }
    }
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Found) {
        self.fast += other.fast;
        self.slow += other.slow;
        self.latency += &other.latency;
        self.connect_latency += &other.connect_latency;
        self.last_begun_ns = self.last_begun_ns.max(other.last_begun_ns);
        self.fast_ended += other.fast_ended;
        self.slow_ended += other.slow_ended;
        self.unread += other.unread;
        for (failure, count) in other.failures {
            self.count_failure(failure, count);
        }
        self.server = self.server.take().or(other.server);
    }
}

impl Found {
    /// Everything that several have found.
    pub(super) fn of_all(found: impl IntoIterator<Item = Found>) -> Found {
        let mut all = Found::default();
        found.into_iter().for_each(|one| all += one);
        all
    }

    /// Counts connections that failed for one reason. A peer decides what a reason says, so their kinds are bounded.
    pub(super) fn count_failure(&mut self, failure: String, count: u64) {
        if self.failures.len() < FAILURE_KINDS_MAX || self.failures.contains_key(&failure) {
            *self.failures.entry(failure).or_default() += count;
        }
    }
}

/// Different failures that are told.
const FAILURE_KINDS_MAX: usize = 8;
