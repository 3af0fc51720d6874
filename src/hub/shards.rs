//! Sets of shards.

/// The most shards that one hub serves.
pub const SHARDS_MAX: usize = 64;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Adds a shard.
    pub fn insert(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    /// Removes a shard.
    pub fn remove(&mut self, shard: usize) {
        self.0 &= !(1 << shard);
    }

    /// Returns true if the shard is in the set.
    #[must_use]
    #[inline]
    pub fn contains(self, shard: usize) -> bool {
        self.0 & (1 << shard) != 0
    }

    /// The set whose bits say which shards are in it.
    #[must_use]
    pub const fn from_bits(bits: u64) -> ShardSet {
        ShardSet(bits)
    }

    /// The set as bits, one for each shard.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns true if the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds all shards of another set.
    pub fn union(&mut self, other: ShardSet) {
        self.0 |= other.0;
    }
}
