//! The end of a connection: our side is shut down, and what the peer still sends is read and thrown away for a bounded
//! while, so that no reset eats what was just said (RFC 9112 9.6): a client that sends a large body reads its refusal only
//! when it has sent all, or would.

use std::time::{Duration, Instant};

use crate::conn::state::CloseReason;

/// How long the peer may pause.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// How long the peer may go on sending.
pub(super) const LINGER: Duration = Duration::from_secs(30);

/// Bytes that are read and thrown away at the most.
pub(super) const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// As [`LINGER_BYTES_MAX`], of a peer that was turned away, or closed for what it sent.
pub(super) const LINGER_BRIEFLY_BYTES_MAX: usize = 256 * 1024;

/// Why a connection takes leave of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// All is said.
    Usual,
    /// The peer has ended its side of a stream.
    PeerEnded,
    /// The server has no room for it.
    TurnedAway,
    /// It has sent too much on its open stream.
    SentTooMuch,
}

impl Farewell {
    fn linger_bytes_max(self) -> usize {
        match self {
            Farewell::Usual | Farewell::PeerEnded => LINGER_BYTES_MAX,
            Farewell::TurnedAway | Farewell::SentTooMuch => LINGER_BRIEFLY_BYTES_MAX,
        }
    }

    /// Why the connection is closed in the end.
    pub(super) fn reason(self) -> CloseReason {
        match self {
            Farewell::Usual | Farewell::TurnedAway => CloseReason::Finished,
            Farewell::PeerEnded => CloseReason::Peer,
            Farewell::SentTooMuch => CloseReason::SentTooMuch,
        }
    }
}

/// A connection whose output is written and whose write side is shut down.
#[derive(Debug)]
pub(super) struct Lingering {
    end: Instant,
    pause_end: Instant,
    bytes_left: usize,
}

impl Lingering {
    pub(super) fn new(now: Instant, farewell: Farewell) -> Lingering {
        Lingering { end: now + LINGER, pause_end: now + PAUSE, bytes_left: farewell.linger_bytes_max() }
    }

    pub(super) fn until(&self) -> Instant {
        self.end.min(self.pause_end)
    }

    pub(super) fn received(&mut self, now: Instant, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.pause_end = now + PAUSE;
    }

    /// Returns true if and only if the peer had its time, or sent too much.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until() || self.bytes_left == 0
    }
}
