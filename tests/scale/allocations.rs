//! The memory cost of a delivery: no allocation, for any number of streams.

#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{self, GlobalAlloc, System};
use std::cell::Cell;

use downpour_load::still::{Frames, Layout, StillServer};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which also counts the allocations of this thread.
struct Counting;

// SAFETY: every call is the system allocator's own, with the same arguments. Counting does not touch the
// memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: alloc::Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: alloc::Layout) {
        // SAFETY: the memory came from `System` by `alloc` or `realloc` above, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: alloc::Layout, new_bytes: usize) -> *mut u8 {
        note();
        // SAFETY: as for `dealloc`; the caller keeps the rest of the contract.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }
}

fn note() {
    // A thread that ends frees memory after its variables are gone. Its allocations then belong to no
    // delivery.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations while `events` events are published and delivered to `streams` streams, `together` at a
/// time.
fn count(streams: usize, events: usize, together: usize) -> u64 {
    count_of(64, streams, events, together)
}

/// The same for events with `bytes` bytes of data.
fn count_of(bytes: usize, streams: usize, events: usize, together: usize) -> u64 {
    let mut server = StillServer::start(Layout { streams, shards: 1, has_threads: false });
    let data = "x".repeat(bytes);
    let frames = Frames::of(&vec![data.as_str(); together]);
    // Queues grow to their size, and the history to its bound.
    (0..300).for_each(|_| server.deliver(frames.clone()));
    let before = ALLOCATIONS.get();
    (0..events / together).for_each(|_| server.deliver(frames.clone()));
    ALLOCATIONS.get() - before
}

#[test]
fn a_delivery_allocates_nothing() {
    let (few, many) = (count(10, 640, 1), count(2000, 640, 1));
    println!("{few} allocations with 10 streams, {many} with 2 000");
    assert_eq!(few, many);
}

#[test]
fn nor_does_one_of_many_events_that_come_together_and_lie_in_two_segments_at_times() {
    const EVENTS: usize = 6400;
    let (some, many) = (count(64, EVENTS, 64), count(2000, EVENTS, 64));
    println!("{some} allocations with 64 streams, {many} with 2 000");
    assert_eq!(some, many);
}

#[test]
fn a_large_event_is_not_copied_for_many_streams() {
    assert_eq!(count_of(16_000, 10, 100, 1), count_of(16_000, 100, 100, 1));
}
