//! The kernel's figures about processes and the machine (`proc(5)`).

use std::fs;
use std::time::Duration;

use procfs::process::{LimitValue, Process};
use procfs::{Current, Meminfo, ProcError, ProcResult};

/// CPU time of all threads of a process so far. Threads that have ended are not included.
///
/// # Errors
/// The process is gone, or the kernel does not count CPU time of threads (`CONFIG_SCHED_INFO`).
pub fn cpu_time(pid: u32) -> ProcResult<Duration> {
    let threads = process(pid)?.tasks()?.flatten();
    let counted = threads.filter_map(|thread| Some(thread.schedstat().ok()?.sum_exec_runtime));
    match counted.reduce(|sum, more| sum + more) {
        Some(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
        None => Err(ProcError::Other(format!("process {pid} has no thread with a CPU time"))),
    }
}

/// Resident memory of a process, in bytes, page by page (`smaps_rollup`) and not by the kernel's running
/// estimate.
///
/// # Errors
/// The process is gone.
pub fn resident_bytes(pid: u32) -> ProcResult<u64> {
    let rollup = process(pid)?.smaps_rollup()?.memory_map_rollup;
    Ok(rollup.iter().filter_map(|map| map.extension.map.get("Rss")).sum())
}

/// Peak resident memory of a process, in bytes.
///
/// # Errors
/// The process is gone.
pub fn peak_resident_bytes(pid: u32) -> ProcResult<u64> {
    let kib = process(pid)?.status()?.vmhwm;
    Ok(1024 * kib.ok_or_else(|| ProcError::Other(format!("process {pid} has no memory")))?)
}

/// The number of open files of a process.
///
/// # Errors
/// The process is gone.
pub fn open_files(pid: u32) -> ProcResult<usize> {
    process(pid)?.fd_count()
}

/// The children that the first thread of a process has started; none if the process is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let children = process(pid).and_then(|process| process.task_main_thread()?.children());
    children.unwrap_or_default()
}

/// How many files this process may have open after it has raised its limit.
///
/// # Errors
/// The kernel does not say.
pub fn open_files_limit() -> ProcResult<u64> {
    let limits = Process::myself()?.limits()?;
    Ok(match limits.max_open_files.hard_limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(files) => files,
    })
}

/// Bytes of all kernel objects in use. Only root may read these; others get the bytes that the kernel
/// holds for objects (`slabinfo(5)`, `proc_meminfo(5)`). `procfs` does not read the first of these files.
///
/// # Errors
/// The kernel does not say.
pub fn slab_bytes() -> ProcResult<u64> {
    let Ok(text) = fs::read_to_string("/proc/slabinfo") else { return Ok(Meminfo::current()?.slab) };
    // name, objects in use, all objects, bytes of one …
    let bytes = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let in_use: u64 = words.next()?.parse().ok()?;
        Some(in_use * words.nth(1)?.parse::<u64>().ok()?)
    };
    Ok(text.lines().filter_map(bytes).sum())
}

/// Packets dropped so far because a CPU's backlog was full. `procfs` does not read this file.
pub fn dropped_packets() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let second = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    text.lines().filter_map(second).sum()
}

/// A process by its id.
fn process(pid: u32) -> ProcResult<Process> {
    Process::new(i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?)
}
