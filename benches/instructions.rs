//! Deliveries for `valgrind --tool=callgrind` to count: `instructions STREAMS BATCHES EVENTS_TOGETHER SHARDS`, or, without
//! any shard, as many sends by a loop that does nothing else.
//!
//! The difference between two runs that differ in the number of batches alone is what these deliveries cost in
//! instructions of the server, the kernel's not included. `scripts/instructions` makes it and holds it to a bound.

#[path = "support/still.rs"]
mod still;

use std::hint::black_box;
use std::process::ExitCode;

use still::{Frames, Layout, StillServer};

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [streams, batches, together, shards] = numbers[..] else {
        println!("instructions STREAMS BATCHES EVENTS_TOGETHER SHARDS; see scripts/instructions");
        return ExitCode::SUCCESS; // Called with other benches, or as a test.
    };
    if shards == 0 {
        send_bare(streams, batches, together);
        return ExitCode::SUCCESS;
    }
    let mut server = StillServer::start(Layout { streams, shards, has_threads: false });
    let data = "x".repeat(64);
    let frames = Frames::of(&vec![data.as_str(); together]);
    (0..batches).for_each(|_| server.deliver(frames.clone()));
    ExitCode::SUCCESS
}

/// Sends to one stream after the other, as the server's driver here does, by what a bare server has of it: its descriptor.
fn send_bare(streams: usize, batches: usize, together: usize) {
    let descriptors: Vec<i32> = black_box((0..).take(streams).collect());
    let frames = vec![b'x'; 64 * together];
    let mut taken = 0_u64;
    for _ in 0..batches {
        for &descriptor in &descriptors {
            let (_, bytes) = black_box((descriptor, &frames[..]));
            taken += bytes.len() as u64;
        }
    }
    assert_eq!(taken, (streams * batches * frames.len()) as u64, "every stream was sent every batch");
}
