//! Sets of shards.

/// Most shards that one hub serves.
pub const SHARDS_MAX: usize = 64;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Puts a shard in.
    pub fn insert(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: usize) {
        self.0 &= !(1 << shard);
    }

    /// Returns true if and only if the shard is in it.
    #[must_use]
    #[inline]
    pub fn contains(self, shard: usize) -> bool {
        self.0 & (1 << shard) != 0
    }

    /// The set of which each bit says whether the shard of that number is in it.
    #[must_use]
    pub const fn from_bits(bits: u64) -> ShardSet {
        ShardSet(bits)
    }

    /// The set as bits, each of which says whether the shard of that number is in it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns true if and only if no shard is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Puts in all shards of another set.
    pub fn union(&mut self, other: ShardSet) {
        self.0 |= other.0;
    }
}
