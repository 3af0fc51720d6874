//! The idempotency keys of events, as fingerprints.

use crate::base::fingerprint::Fingerprint;

/// An idempotency key and its content. The same key with other content is a client's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: Fingerprint,
    /// The content: a whole request, or one event.
    pub body: Fingerprint,
}

/// The idempotency key under which an event is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKey {
    /// The index of the event.
    pub event: usize,
    /// The key and its content.
    pub claim: Claim,
}
