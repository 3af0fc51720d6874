//! Memory of a process.

use std::fs;

/// Resident memory of a process, in bytes, page by page and not by the kernel's running estimate.
pub(crate) fn resident_bytes(process: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("the process runs");
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.expect("the kernel counts resident memory") * 1024
}

/// Peak resident memory of a process, in bytes (`proc_pid_status(5)`).
pub(crate) fn most_resident_bytes(process: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.expect("the kernel counts resident memory") * 1024
}
