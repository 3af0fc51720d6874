//! Counts the bytes that a thread has allocated and not freed, and those among them that the server
//! under test has allocated.
//!
//! One thread plays a whole world, and few calls lead from the world to the server and back. Each of
//! them says on whose behalf memory is allocated from there on. A block is its allocator's wherever it
//! is freed: so each block has a mark in front of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static BYTES: Cell<i64> = const { Cell::new(0) };
    static SERVER_BYTES: Cell<i64> = const { Cell::new(0) };
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

/// Bytes allocated by this thread, less the bytes that it freed for other threads.
pub(crate) fn bytes() -> i64 {
    BYTES.get()
}

/// The bytes among them that were allocated for the server.
pub(crate) fn server_bytes() -> i64 {
    SERVER_BYTES.get()
}

/// Allocates for the server in `call`.
pub(crate) fn for_server<T>(call: impl FnOnce() -> T) -> T {
    let _before = Before(IS_SERVER.replace(true));
    call()
}

/// Allocates for the world in `call`.
pub(crate) fn for_world<T>(call: impl FnOnce() -> T) -> T {
    let _before = Before(IS_SERVER.replace(false));
    call()
}

/// Sets the mark back, also after a panic.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        IS_SERVER.set(self.0);
    }
}

struct Counting;

fn note(bytes: i64, is_server: bool) {
    // A thread that ends frees memory after its own counter is gone.
    let add = |count: &Cell<i64>| count.set(count.get() + bytes);
    let _ = BYTES.try_with(add);
    if is_server {
        let _ = SERVER_BYTES.try_with(add);
    }
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

/// The layout of a block with room for its mark, and the offset of the block.
fn marked(layout: Layout) -> Option<(Layout, usize)> {
    let offset = layout.align();
    let bytes = layout.size().checked_add(offset)?;
    Some((Layout::from_size_align(bytes, layout.align()).ok()?, offset))
}

impl Counting {
    /// Allocates a block, and marks it.
    #[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
    fn allocate(layout: Layout, allocate: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
        let Some((whole, offset)) = marked(layout) else { return std::ptr::null_mut() };
        let begin = allocate(whole);
        if begin.is_null() {
            return begin;
        }
        let is_server = IS_SERVER.try_with(Cell::get).unwrap_or(false);
        note(size(layout), is_server);
        // SAFETY: the allocation has `offset` bytes, at least one, in front of the block.
        unsafe { begin.write(u8::from(is_server)) };
        // SAFETY: as above.
        unsafe { begin.add(offset) }
    }
}

// SAFETY: every block is a part of an allocation of the system's allocator that has its alignment, its
// size behind the mark, and nothing else. The counting allocates nothing.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is larger than the caller's, which is not empty.
        Counting::allocate(layout, |whole| unsafe { System.alloc(whole) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Counting::allocate(layout, |whole| unsafe { System.alloc_zeroed(whole) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((whole, offset)) = marked(layout) else { return };
        // SAFETY: the block was allocated with this layout, so `offset` bytes are in front of it.
        let begin = unsafe { block.sub(offset) };
        // SAFETY: the first of them is the mark.
        note(-size(layout), unsafe { begin.read() } != 0);
        // SAFETY: the whole allocation begins there.
        unsafe { System.dealloc(begin, whole) };
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
