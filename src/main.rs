//! The `downpour` binary.
fn main() {}
