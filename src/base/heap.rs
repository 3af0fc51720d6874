//! What memory from the heap costs, for accounts that are to say what a process really holds.

/// What glibc's malloc takes up for a block of so many bytes: a word of its own, in steps of two words, and four words at
/// the least; nothing for no bytes, which nobody asks it for.
#[must_use]
pub const fn block_bytes(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let whole = (bytes + 8).next_multiple_of(16);
    if whole < 32 { 32 } else { whole }
}

/// What a block of so many bytes takes up that grows, or comes and goes among others of many sizes: an eighth more, for the
/// holes between them, of which one to two bytes in a hundred were seen.
#[must_use]
pub const fn small_block_bytes(bytes: usize) -> usize {
    block_bytes(bytes) + bytes / 8
}

/// What an `Arc<str>` of so many bytes takes up: two counts, and the text.
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
