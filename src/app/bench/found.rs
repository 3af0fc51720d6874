//! The findings of readers about their streams.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency;
use super::sequence::Tally;

/// The findings of one reader or of all together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// Events of streams that are not slow.
    pub(super) fast: Tally,
    /// Events of slow streams.
    pub(super) slow: Tally,
    /// From send to receipt, for streams that are not slow.
    #[serde(with = "latency::counts")]
    pub(super) latency: Histogram<u64>,
    /// From the start of a connection to the head of its stream.
    #[serde(with = "latency::counts")]
    pub(super) connect_latency: Histogram<u64>,
    /// When the last stream was begun, in ns.
    pub(super) last_begun_ns: u64,
    /// Streams that are not slow and ended unasked.
    pub(super) fast_ended: u64,
    /// Slow streams that ended unasked.
    pub(super) slow_ended: u64,
    /// Events that slow streams had not read when their time was over.
    pub(super) unread: u64,
    /// Failures of connections, and their counts.
    pub(super) failures: BTreeMap<String, u64>,
    /// The `Server` header.
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
    /// Counts connections that failed for one reason. The peer's text is part of a reason, so the number
    /// of reasons is bounded.
    pub(super) fn count_failure(&mut self, failure: String, count: u64) {
        if self.failures.len() < FAILURE_KINDS_MAX || self.failures.contains_key(&failure) {
            *self.failures.entry(failure).or_default() += count;
        }
    }
}

/// Most different failures that are reported.
const FAILURE_KINDS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::latency::Summary;
    use super::*;

    fn found(seed: u64) -> Found {
        let mut found =
            Found { last_begun_ns: seed, fast_ended: 1, slow_ended: 2, unread: seed, ..Found::default() };
        found.fast.lost_untold = 3;
        found.slow.gaps = 4;
        (0..1000).for_each(|at| found.latency.saturating_record(at * at * seed));
        found.connect_latency.saturating_record(u64::MAX);
        found.count_failure("refused".to_owned(), seed);
        found.server = Some("x".to_owned());
        found
    }

    #[test]
    fn what_was_found_comes_through_json_exactly() {
        let found = found(7);
        let json = serde_json::to_string(&found).unwrap();
        let other: Found = serde_json::from_str(&json).unwrap();
        assert_eq!((&other.latency, &other.connect_latency), (&found.latency, &found.connect_latency));
        assert_eq!(Summary::of(&other.latency), Summary::of(&found.latency));
        assert_eq!(serde_json::to_string(&other).unwrap(), json, "nothing is lost on the way");
        assert!(json.len() < 20_000, "only what was counted is written: {}", json.len());
    }

    #[test]
    fn finds_add_up() {
        let (mut all, other) = (found(7), found(9));
        let mut latency = all.latency.clone();
        latency += &other.latency;
        all += other;
        assert_eq!((all.latency, all.last_begun_ns, all.unread), (latency, 9, 16));
        assert_eq!((all.fast.lost_untold, all.slow.gaps, all.fast_ended, all.slow_ended), (6, 8, 2, 4));
        assert_eq!(all.failures, BTreeMap::from([("refused".to_owned(), 16)]));
    }

    #[test]
    fn kinds_of_failures_are_bounded() {
        let mut found = Found::default();
        (0..100).for_each(|kind| found.count_failure(kind.to_string(), 1));
        found.count_failure("0".to_owned(), 1);
        assert_eq!((found.failures.len(), found.failures["0"]), (FAILURE_KINDS_MAX, 2));
    }
}
