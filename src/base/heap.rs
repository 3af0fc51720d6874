//! Heap memory that blocks really cost, for accounts of a process's memory.

/// Bytes that glibc's malloc uses for a block of `bytes` bytes: one extra word, rounded up to two words,
/// at least four words. A block of 0 bytes is never allocated and costs nothing.
#[must_use]
pub const fn block_bytes(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let whole = (bytes + 8).next_multiple_of(16);
    if whole < 32 { 32 } else { whole }
}

/// Bytes used for a block that grows, or that comes and goes among blocks of many sizes. The extra
/// eighth pays for the holes between such blocks. Measured holes were 1 to 2 percent.
#[must_use]
pub const fn small_block_bytes(bytes: usize) -> usize {
    block_bytes(bytes) + bytes / 8
}

/// Bytes used for an `Arc<str>` of `bytes` bytes: two counts and the text.
#[must_use]
pub const fn shared_text_bytes(bytes: usize) -> usize {
    block_bytes(16 + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_large_as_malloc_makes_them() {
        assert_eq!([0, 1, 24, 25, 40, 41, 65536].map(block_bytes), [0, 32, 32, 48, 48, 64, 65552]);
        assert_eq!([0, 80].map(small_block_bytes), [0, 106]);
        assert_eq!(shared_text_bytes(20), 48);
    }
}
