//! The end of a connection: our side is shut down, and what the peer still sends is read and thrown away for a bounded
//! while, so that no reset eats what was just said (RFC 9112 9.6).

use std::time::{Duration, Instant};

/// How long the peer's end is waited for.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are read and thrown away at the most.
pub(super) const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A connection whose output is written and whose write side is shut down.
#[derive(Debug)]
pub(super) struct Lingering {
    until: Instant,
    bytes_left: usize,
}

impl Lingering {
    pub(super) fn new(now: Instant) -> Lingering {
        Lingering { until: now + LINGER, bytes_left: LINGER_BYTES_MAX }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Returns true if and only if the peer had its time, or sent too much.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.bytes_left == 0
    }
}
