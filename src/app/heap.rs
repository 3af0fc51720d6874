//! Returns memory to the system: malloc keeps freed memory while anything above it is in use.
//!
//! A history needs again what it frees as it goes on, so nothing is returned while as much is in use as
//! before. Memory is returned after much was freed, as by a `DELETE` or when very many streams have
//! left, even if the server is idle then.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::driver::heap::{self, HeapBytes};

/// How often the heap is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Checks the heap on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct HeapWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HeapWatch {
    /// Begins to check.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start() -> io::Result<HeapWatch> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("heap".to_owned()).spawn(move || {
            let mut given_back = GivenBack::default();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let Some(seen) = Seen::now() else { return };
                if given_back.is_much_left(seen) {
                    heap::give_back();
                    given_back = Seen::now().map_or(given_back, GivenBack::at);
                }
            }
        })?;
        Ok(HeapWatch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for HeapWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic.
            drop(thread.join());
        }
    }
}

/// The state of the heap at one check.
#[derive(Clone, Copy, Debug)]
struct Seen {
    heap: HeapBytes,
    resident: usize,
}

impl Seen {
    fn now() -> Option<Seen> {
        Some(Seen { heap: heap::heap_bytes()?, resident: heap::resident_bytes()? })
    }
}

/// The state when memory was last returned, or the smallest values since.
#[derive(Clone, Copy, Debug)]
struct GivenBack {
    free: usize,
    resident: usize,
}

/// Least bytes that are free, and resident as far as is known, for memory to be returned.
const LEFT_MIN: usize = 4 * 1024 * 1024;

/// Least share of the memory in use, as a divisor: a history that goes on within its bound leaves less
/// free than that.
const LEFT_SHARE: usize = 4;

impl Default for GivenBack {
    fn default() -> GivenBack {
        GivenBack { free: 0, resident: usize::MAX }
    }
}

impl GivenBack {
    fn at(seen: Seen) -> GivenBack {
        GivenBack { free: seen.heap.free, resident: seen.resident }
    }

    /// Returns true if and only if much is free that is likely resident. malloc does not report how much
    /// is. Memory freed since the last return is resident. What has become resident since may have been
    /// used and freed meanwhile.
    fn is_much_left(&mut self, seen: Seen) -> bool {
        self.free = self.free.min(seen.heap.free);
        self.resident = self.resident.min(seen.resident);
        let freed = seen.heap.free - self.free;
        let grown = (seen.resident - self.resident).min(seen.heap.free);
        freed.max(grown) >= LEFT_MIN.max(seen.heap.in_use / LEFT_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    /// What is in use, free, and resident, in MiB.
    fn seen(in_use: usize, free: usize, resident: usize) -> Seen {
        let heap = HeapBytes { in_use: in_use * MIB, free: free * MIB };
        Seen { heap, resident: resident * MIB }
    }

    #[test]
    fn memory_is_given_back_once_after_much_was_freed() {
        let mut given_back = GivenBack::default();
        for (in_use, free, resident) in [(3, 1, 10), (64, 10, 90), (66, 15, 92), (65, 9, 90)] {
            assert!(!given_back.is_much_left(seen(in_use, free, resident)), "a full history that goes on");
        }
        assert!(given_back.is_much_left(seen(16, 58, 90)), "three quarters were dropped");
        given_back = GivenBack::at(seen(16, 58, 35));
        assert!(!given_back.is_much_left(seen(16, 58, 35)));
        assert!(given_back.is_much_left(seen(3, 71, 35)), "and the rest");
        given_back = GivenBack::at(seen(3, 71, 15));
        assert!(!given_back.is_much_left(seen(3, 71, 16)));
        assert!(given_back.is_much_left(seen(3, 71, 60)), "it was used and freed between two looks");
    }

    #[test]
    fn a_dropped_watch_has_ended_its_thread() {
        let watch = HeapWatch::start().unwrap();
        drop(watch);
    }
}
