//! Deliveries for `valgrind --tool=callgrind` to count: `instructions STREAMS BATCHES EVENTS_TOGETHER SHARDS`.
//!
//! The difference between two runs that differ in the number of batches alone is what these deliveries cost in
//! instructions of the server, the kernel's not included; that between two without batches that differ in the number of
//! streams, what these cost to connect. `scripts/instructions` makes both and holds them to bounds.

#[path = "support/still.rs"]
mod still;

use std::process::ExitCode;

use still::{Frames, Layout, StillServer};

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [streams, batches, together, shards] = numbers[..] else {
        println!("instructions STREAMS BATCHES EVENTS_TOGETHER SHARDS; see scripts/instructions");
        return ExitCode::SUCCESS; // Called with other benches, or as a test.
    };
    let mut server = StillServer::start(Layout { streams, shards, has_threads: false });
    let data = "x".repeat(64);
    let frames = Frames::of(&vec![data.as_str(); together]);
    (0..batches).for_each(|_| server.deliver(frames.clone()));
    ExitCode::SUCCESS
}
