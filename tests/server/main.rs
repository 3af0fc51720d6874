//! The server over real sockets, every case under each driver.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod absent;
mod body_memory;
#[path = "../common/mod.rs"]
mod common;
mod dead_log;
mod drain;
mod endings;
mod endpoints;
mod headers;
mod hostile;
mod library;
mod limits;
mod memory;
mod metrics;
mod own_ids;
mod pinning;
mod places;
mod resume;
mod slow_client;
mod unix;
