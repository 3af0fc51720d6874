//! The end of a connection. The server shuts down its side, then reads and drops what the peer still
//! sends, for a limited time. Otherwise a reset could destroy the last answer before the peer reads it
//! (RFC 9112 9.6): a client with a large body reads the refusal only after it has sent the whole body.

use std::time::{Duration, Instant};

use crate::conn::state::CloseReason;

/// How long the peer may pause.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// How long the peer may go on sending.
pub(super) const LINGER: Duration = Duration::from_secs(30);

/// At most this many bytes are read and dropped.
pub(super) const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// As [`LINGER_BYTES_MAX`], for a peer that was turned away or that sent too much.
pub(super) const LINGER_BRIEFLY_BYTES_MAX: usize = 256 * 1024;

/// The circumstances in which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Everything was sent.
    Usual,
    /// The peer has ended its side of a stream.
    PeerEnded,
    /// The server has no room for the peer.
    TurnedAway,
    /// The peer has sent too much on its open stream.
    SentTooMuch,
}

impl Farewell {
    fn linger_bytes_max(self) -> usize {
        match self {
            Farewell::Usual | Farewell::PeerEnded => LINGER_BYTES_MAX,
            Farewell::TurnedAway | Farewell::SentTooMuch => LINGER_BRIEFLY_BYTES_MAX,
        }
    }

    /// The reason of the close that follows.
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

    /// Returns true if the peer has had its time, or has sent too much.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until() || self.bytes_left == 0
    }
}
