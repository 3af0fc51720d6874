//! CPU time of one thread.

use std::fs;
use std::thread;
use std::time::Duration;

/// CPU time of the calling thread so far (`/proc/thread-self/schedstat`, in nanoseconds).
pub(crate) fn thread_cpu_time() -> Duration {
    thread::yield_now(); // The kernel updates the account when it schedules.
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .expect("a thread can read what it is told of itself");
    let first = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    Duration::from_nanos(first.expect("the kernel counts CPU time of threads (CONFIG_SCHED_INFO)"))
}
