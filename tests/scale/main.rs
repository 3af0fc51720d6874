//! Very many streams: the cost of each, and of each delivery.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod allocations;
#[path = "../common/mod.rs"]
mod common;
mod idle_streams;
mod many_streams;
