//! Memory of a process.

use std::fs;

/// Memory of a process that is resident, in bytes, page by page and not by the kernel's running estimate.
pub(crate) fn resident_bytes(process: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("the process runs");
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.expect("the kernel counts resident memory") * 1024
}

/// The most memory of a process that was ever resident, in bytes (`proc_pid_status(5)`).
pub(crate) fn most_resident_bytes(process: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.expect("the kernel counts resident memory") * 1024
}
