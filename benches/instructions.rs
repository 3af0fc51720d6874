//! Deliveries for `valgrind --tool=callgrind` to count: `instructions STREAMS BATCHES EVENTS_TOGETHER
//! SHARDS`. With 0 shards, a loop makes as many sends and does nothing else.
//!
//! Two runs that differ only in the number of batches give the cost of these deliveries in the server's
//! instructions, without the kernel's. Two runs without batches that differ only in the number of
//! streams give the cost of connecting these. `scripts/instructions` makes both and checks them against
//! bounds.

use std::hint::black_box;
use std::process::ExitCode;

use downpour_load::still::{Frames, Layout, StillServer};

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [streams, batches, together, shards] = numbers[..] else {
        println!("instructions STREAMS BATCHES EVENTS_TOGETHER SHARDS; see scripts/instructions");
        return ExitCode::SUCCESS; // Run with other benches, or as a test.
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

/// Sends to one stream after the other, as the server's driver here does, with only what a bare server
/// keeps of a stream: its descriptor.
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
