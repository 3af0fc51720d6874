//! What a delivery costs in memory: no allocation, however many streams there are.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

#[path = "support/still.rs"]
mod still;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use downpour::frame::segment::SEGMENT_BYTES;
use still::Still;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what this thread asks of it.
struct Counting;

// SAFETY: every call is the system allocator's own, with the same arguments; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `System` by `alloc` or `realloc` above, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        note();
        // SAFETY: as for `dealloc`; the caller keeps the rest of the contract.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }
}

fn note() {
    // A thread that ends frees after its variables are gone; that it allocates then is nobody's delivery.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was counted while events were published and delivered.
struct Counted {
    allocations: u64,
    /// Segments whose end the events passed.
    segments: u64,
}

/// Publishes and delivers so many events, `together` at a time, to so many streams.
fn count(streams: u32, events: usize, together: usize) -> Counted {
    let mut still = Still::with_streams(streams);
    for _ in 0..300 {
        still.publish_and_deliver(together); // Queues grow to their size, and the history to its bound.
    }
    let (before, (sends, bytes)) = (ALLOCATIONS.get(), still.taken());
    (0..events / together).for_each(|_| still.publish_and_deliver(together));
    let allocations = ALLOCATIONS.get() - before;
    let (sends, bytes) = (still.taken().0 - sends, still.taken().1 - bytes);
    let batches = u64::try_from(events / together).unwrap();
    assert_eq!(sends, u64::from(streams) * batches, "one send to each stream for what came together");
    Counted { allocations, segments: bytes / u64::from(streams) / SEGMENT_BYTES as u64 + 1 }
}

#[test]
fn a_delivery_allocates_nothing() {
    let (few, many) = (count(10, 640, 1), count(2000, 640, 1));
    println!("{} allocations with 10 streams, {} with 2 000", few.allocations, many.allocations);
    assert_eq!(few.allocations, many.allocations);
}

#[test]
fn of_events_that_come_together_a_stream_allocates_for_those_that_lie_in_two_segments() {
    let (few, many) = (count(10, 6400, 64), count(2000, 6400, 64));
    println!("{} allocations with 10 streams, {} with 2 000", few.allocations, many.allocations);
    let of_one_stream = (many.allocations - few.allocations) / 1990;
    assert!(of_one_stream <= 2 * many.segments, "{of_one_stream} in {} segments", many.segments);
}
