//! The channel table: the names of channels, patterns and users, who subscribes to each, which events
//! each retains, and which it has lost.

mod audience;
mod entries;
pub(super) mod forgotten;
mod lapsed;
pub(super) mod ledger;
pub(super) mod lost;
mod names;
mod numbers;
mod patterns;
pub(super) mod table;
