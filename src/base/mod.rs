//! Floor 0: small types and containers that every other floor uses. Imports nothing of ours.

pub mod account;
pub mod decimal;
pub mod fingerprint;
pub mod hashed;
pub mod heap;
pub mod id;
pub mod limits;
pub mod mailbox;
pub mod name;
pub mod parts;
pub mod queue;
pub mod random;
pub mod search;
pub mod slots;
pub mod texts;
pub mod wheel;
