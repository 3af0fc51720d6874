//! How long work takes a thread, independent of other load on the machine.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use procfs::FromRead;
use procfs::process::Schedstat;

/// Times calls of the thread that made it: wall time, less the time it waited for a CPU.
#[derive(Debug)]
pub struct Stopwatch {
    schedstat: File,
}

/// CPU time of the calling thread so far.
///
/// # Panics
/// If the kernel does not count it (`CONFIG_SCHED_INFO`).
pub fn thread_cpu_time() -> Duration {
    thread::yield_now(); // The kernel updates the account when it schedules.
    let account = Schedstat::from_file(SCHEDSTAT).expect(COUNTED);
    Duration::from_nanos(account.sum_exec_runtime)
}

impl Stopwatch {
    /// A stopwatch of the calling thread.
    ///
    /// # Panics
    /// As [`thread_cpu_time`].
    pub fn new() -> Stopwatch {
        Stopwatch { schedstat: File::open(SCHEDSTAT).expect(COUNTED) }
    }

    /// The result of `work`, and how long it took.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let waited = self.waited();
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        let waited = self.waited() - waited;
        // A longer wait was not within the call, but right beside it.
        (done, took.checked_sub(waited).unwrap_or(took))
    }

    /// How long the thread has waited for a CPU so far. The file stays open, as this is read around
    /// calls of microseconds.
    fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let len = self.schedstat.read_at(&mut text, 0).expect(COUNTED);
        Duration::from_nanos(Schedstat::from_read(&text[..len]).expect(COUNTED).run_delay)
    }
}

impl Default for Stopwatch {
    fn default() -> Stopwatch {
        Stopwatch::new()
    }
}

/// The account of the calling thread.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

const COUNTED: &str = "the kernel counts CPU time of threads (CONFIG_SCHED_INFO)";
