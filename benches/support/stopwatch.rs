//! How long calls take a thread, independent of other load on the machine.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Times calls of the thread that made it: wall time, less the time it waited for a CPU.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    schedstat: File,
}

impl Stopwatch {
    pub(crate) fn new() -> Stopwatch {
        let schedstat =
            File::open("/proc/thread-self/schedstat").expect("a thread can read what it is told of itself");
        Stopwatch { schedstat }
    }

    /// The result of `work`, and how long it took.
    pub(crate) fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let waited = self.waited();
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        let waited = self.waited() - waited;
        // A longer wait was not within the call, but right beside it.
        (done, took.checked_sub(waited).unwrap_or(took))
    }

    /// How long the thread has waited for a CPU so far.
    fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let len = self.schedstat.read_at(&mut text, 0).expect("it was read before");
        let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
        let second = text.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
        Duration::from_nanos(second.expect("the kernel counts how long threads wait (CONFIG_SCHED_INFO)"))
    }
}
