//! The heap of the process, as glibc's malloc keeps it: how many parts it has, what is in use, and when what was freed
//! goes back to the system. All of it is the whole process's, so it is for the one who owns the process to do.

/// Has all threads allocate from one heap. Each would make one of its own at first, up to eight for each CPU, and what one
/// thread has freed of its heap, such as a segment of the history, is of no use to the threads of others. To be called
/// before any thread starts. It does nothing where the C library is not glibc.
pub fn keep_one_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "std has no call for the allocator's settings")]
    // SAFETY: it sets a number of the allocator's, under its own lock (`mallopt(3)`). It fails for unknown numbers alone.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// What malloc counts, in bytes, without large blocks that are mapped by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBytes {
    /// Allocated.
    pub in_use: usize,
    /// Free, given back to the system or not.
    pub free: usize,
}

/// What is allocated and free; `None` where the C library does not tell it.
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

/// Resident memory of the process in bytes (`proc_pid_status(5)`); `None` where the kernel does not tell it.
#[must_use]
pub fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<usize>().ok()?.checked_mul(1024)
}

/// Gives back to the system what is free of the heap, in whole pages. Whoever allocates meanwhile waits: 0.12 ms for
/// each MiB that goes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "std has no call to give memory back")]
    // SAFETY: it changes free memory alone, under the allocator's own locks (`malloc_trim(3)`).
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
