//! Floor 2: bytes ready for the wire, made once and shared by all receivers.
//!
//! A published event becomes one *frame*: its text in one HTTP [`chunk`]. The hub copies frames, in sequence
//! order, into shared append-only [`segment`]s. So adjacent frames are adjacent bytes, and any number of
//! them is one slice of one send ([`run`]), in the [`coding`] of its receivers. A stream keeps its waiting
//! frames in an [`outbox`], which [`offer`]s them to a driver.

pub mod chunk;
pub mod coding;
mod held;
pub mod notice;
pub mod offer;
pub mod outbox;
pub mod render;
pub mod run;
pub mod segment;
