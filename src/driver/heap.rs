//! The heap of the process, as glibc's malloc manages it: the number of arenas, the bytes in use, and
//! when freed memory goes back to the system. All of this affects the whole process, so only its owner
//! should call these functions.

/// Makes all threads allocate from one arena. By default glibc makes up to eight arenas per CPU, at
/// first one for each thread. Memory that is freed in one arena, such as a segment of the history, is
/// useless to threads of the others. Call this before any thread starts. It does nothing if the C
/// library is not glibc.
pub fn keep_one_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "std has no call for the allocator's settings")]
    // SAFETY: it sets a number in the allocator, under the allocator's own lock (`mallopt(3)`). It fails
    // only for unknown parameters.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Byte counts from malloc. They leave out large blocks, which are mapped separately.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBytes {
    /// Allocated.
    pub in_use: usize,
    /// Free, whether or not given back to the system.
    pub free: usize,
}

/// The allocated and free bytes. `None` if the C library does not report them.
#[must_use]
pub fn heap_bytes() -> Option<HeapBytes> {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "std has no call for the allocator's counts")]
        // SAFETY: it returns counts by value, taken under the allocator's own locks (`mallinfo2(3)`).
        let counts = unsafe { libc::mallinfo2() };
        Some(HeapBytes { in_use: counts.uordblks, free: counts.fordblks })
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// Resident memory of the process in bytes (`proc_pid_status(5)`). `None` if the kernel does not report
/// it.
#[must_use]
pub fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<usize>().ok()?.checked_mul(1024)
}

/// Gives free heap memory back to the system, in whole pages. A thread that allocates meanwhile waits:
/// 0.12 ms for each MiB given back.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "std has no call to give memory back")]
    // SAFETY: it changes only free memory, under the allocator's own locks (`malloc_trim(3)`).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_in_use() {
        let blocks: Vec<Vec<u8>> = (0..20_000).map(|_| Vec::with_capacity(1000)).collect();
        let bytes = heap_bytes().unwrap();
        assert!(bytes.in_use >= 1000 * blocks.len(), "{bytes:?}");
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1024 * 1024));
    }
}
