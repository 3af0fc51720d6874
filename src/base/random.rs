//! Random bits, and a generator whose output depends only on its seed, on every machine and in every
//! version.

use std::fmt;
use std::ops::RangeInclusive;

/// A source of random bits. The secret part of a stream's id must come from an unpredictable source.
/// Tests use a seed.
pub trait Random: fmt::Debug {
    /// Returns 64 random bits.
    fn bits(&mut self) -> u64;
}

impl Random for SplitMix64 {
    fn bits(&mut self) -> u64 {
        SplitMix64::bits(self)
    }
}

/// The generator SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts the sequence of numbers that `seed` determines.
    #[must_use]
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number of `range`, uniformly.
    ///
    /// # Panics
    /// When `range` is empty.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        assert!(!range.is_empty(), "there is no number in {range:?}");
        let count = (range.end() - range.start()) as u128 + 1;
        // The upper half of the product is less than `count`, which is at most 2^64.
        let offset = (u128::from(self.bits()) * count) >> 64;
        range.start() + usize::try_from(offset).unwrap_or(0)
    }

    /// Returns true with this probability: never for 0, always for 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        // An `f64` holds 53 bits exactly, so this is a number in [0, 1).
        let unit = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = SplitMix64::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ranges_are_met_to_both_ends_and_never_left() {
        let mut random = SplitMix64::new(1);
        let mut seen = [false; 5];
        (0..1000).for_each(|_| seen[random.within(3..=7) - 3] = true);
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.within(9..=9), 9);
        random.within(0..=usize::MAX);
    }

    #[test]
    fn the_ends_of_probability_are_certain() {
        let mut random = SplitMix64::new(2);
        assert!((0..1000).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }
}
