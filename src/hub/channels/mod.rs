//! What is known of channels, patterns and users: their names, who subscribes, what is retained of each and what is lost.

mod audience;
mod entries;
pub(super) mod forgotten;
mod lapsed;
pub(super) mod lost;
mod names;
mod numbers;
mod patterns;
pub(super) mod record;
pub(super) mod table;
