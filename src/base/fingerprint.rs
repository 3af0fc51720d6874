//! Fingerprints, to compare values without keeping them.

use std::hash::{BuildHasher, Hash, RandomState};

/// 128 bits computed from a value. Equal values have equal fingerprints. Different values have different
/// ones: nobody can find two values that collide without knowing the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

/// Takes fingerprints by two SipHashes (Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012),
/// each with its own keys. Fingerprints of different instances cannot be compared.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints([RandomState; 2]);

impl Fingerprints {
    /// Draws random keys.
    #[must_use]
    pub fn new() -> Fingerprints {
        Fingerprints::default()
    }

    /// The fingerprint of a value.
    #[must_use]
    pub fn of(&self, value: &(impl Hash + ?Sized)) -> Fingerprint {
        Fingerprint(self.0.each_ref().map(|keys| keys.hash_one(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_fingerprints_and_others_differ_in_both_halves() {
        let fingerprints = Fingerprints::new();
        assert_eq!(fingerprints.of("a"), fingerprints.clone().of(&String::from("a")));
        let values = [("", "ab"), ("a", "b"), ("ab", ""), ("b", "a")];
        for (index, value) in values.iter().enumerate() {
            for other in &values[..index] {
                let (Fingerprint(a), Fingerprint(b)) = (fingerprints.of(value), fingerprints.of(other));
                assert!(a[0] != b[0] && a[1] != b[1], "{value:?} and {other:?}");
            }
        }
        let Fingerprint([first, second]) = fingerprints.of("a");
        assert_ne!(first, second, "the halves have keys of their own");
        assert_ne!(fingerprints.of("a"), Fingerprints::new().of("a"));
    }
}
