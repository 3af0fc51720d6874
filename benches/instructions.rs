//! Deliveries for `valgrind --tool=callgrind` to count: `instructions STREAMS BATCHES EVENTS_TOGETHER`.
//!
//! The difference between two runs that differ in the number of batches alone is what these deliveries cost in
//! instructions of the server, the kernel's not included. `scripts/instructions` makes it and holds it to a bound.

#[path = "../tests/support/still.rs"]
mod still;

use std::process::ExitCode;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [streams, batches, together] = numbers[..] else {
        println!("instructions STREAMS BATCHES EVENTS_TOGETHER; see scripts/instructions");
        return ExitCode::SUCCESS; // Called with other benches, or as a test.
    };
    let mut still = still::Still::with_streams(u32::try_from(streams).unwrap_or(u32::MAX));
    (0..batches).for_each(|_| still.publish_and_deliver(together));
    let (sends, bytes) = still.taken();
    println!("{sends} sends, {bytes} bytes");
    ExitCode::SUCCESS
}
