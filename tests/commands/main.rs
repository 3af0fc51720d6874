//! The commands other than `serve`, as processes.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod bench;
mod client_commands;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
