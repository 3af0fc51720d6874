//! An ordered hash table of small values that stays nearly full as it grows, for millions of values. No
//! call moves the whole table.
//!
//! A table that doubles fills between half and all of its room, and leaves its old memory behind. This
//! one grows by an eighth at a time, in place. Entries are in the order of their hashes. So while the
//! table grows, entries above some hash can be at their new places while those below it are still at
//! their old ones. Each call moves a few more.

use smallvec::SmallVec;

/// Values of 32 bits by hashes of 32 bits. Several values may have the same hash.
///
/// Entries are in the order of their hashes (linear probing). Each is at its home, the place that its
/// hash selects, or behind it with no free place between. A search starts at the home and takes a few
/// steps.
#[derive(Debug, Default)]
pub struct Hashed {
    entries: Vec<Entry>,
    /// Numbers of homes: `upper` for hashes from `boundary` on, `lower` for those below. The last
    /// entries may lie behind the homes. While the two differ, a growing table moves from `lower` to
    /// `upper` homes, and a shrinking one from `upper` to `lower`.
    upper: usize,
    lower: usize,
    boundary: u64,
    /// Whether the table last grew or shrank.
    is_growing: bool,
    len: usize,
    /// Entries reserved at construction. This room stays reserved, as address space.
    room: usize,
    /// Most entries since memory was last given back.
    touched: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    value: u32,
}

/// The value of a free place.
const NO_VALUE: u32 = u32::MAX;

const FREE: Entry = Entry { hash: 0, value: NO_VALUE };

/// Homes of the smallest table.
const HOMES_MIN: usize = 16;

/// The end of all hashes.
const HASHES_END: u64 = 1 << 32;

/// Places that each call looks at while entries move. After it starts to grow, a table takes a sixteenth
/// of its room in new values before it must grow again. By then it has moved all entries.
const PLACES_PER_CALL: usize = 24;

/// Free places that each call adds at the end before the first entry moves.
const NEW_PLACES_PER_CALL: usize = 256;

impl Hashed {
    /// A table that grows to `count` values without being moved, if the system grants the room. Room
    /// that is not used costs address space alone.
    #[must_use]
    pub fn with_room_for(count: usize) -> Hashed {
        let mut table = Hashed { room: count + count / 3, ..Hashed::default() };
        table.reserve_room();
        table
    }

    /// Reserves the room asked for at construction, if the system grants it.
    fn reserve_room(&mut self) {
        let additional = self.room.saturating_sub(self.entries.len());
        let _ = self.entries.try_reserve_exact(additional);
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if and only if there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held. The few entries behind the homes do not count, so the result does not depend on the
    /// hashes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.target() * size_of::<Entry>()
    }

    /// A value with this hash that `is_match` accepts.
    #[must_use]
    #[inline]
    pub fn get(&self, hash: u32, is_match: impl FnMut(u32) -> bool) -> Option<&u32> {
        let at = self.position(hash, is_match)?;
        Some(&self.entries[at].value)
    }

    /// Inserts a value, even if an equal one exists.
    ///
    /// # Panics
    /// If the value is `u32::MAX`.
    pub fn insert(&mut self, hash: u32, value: u32) {
        assert_ne!(value, NO_VALUE, "it marks free places");
        if self.is_at_rest() && (self.len + 1) * 8 > self.upper * 7 {
            self.upper = (self.upper + self.upper / 8).max(HOMES_MIN);
            (self.is_growing, self.boundary) = (true, HASHES_END);
        }
        self.go_on();
        self.put(hash, value);
        self.len += 1;
    }

    /// Replaces the value with this hash that `is_match` accepts, and returns it.
    ///
    /// # Panics
    /// If `to` is `u32::MAX`.
    pub fn replace(&mut self, hash: u32, is_match: impl FnMut(u32) -> bool, to: u32) -> Option<u32> {
        assert_ne!(to, NO_VALUE, "it marks free places");
        let at = self.position(hash, is_match)?;
        Some(std::mem::replace(&mut self.entries[at].value, to))
    }

    /// Removes and returns a value with this hash that `is_match` accepts.
    pub fn remove(&mut self, hash: u32, is_match: impl FnMut(u32) -> bool) -> Option<u32> {
        let at = self.position(hash, is_match)?;
        let value = self.take_out(at).value;
        self.len -= 1;
        if self.is_at_rest() && self.lower > HOMES_MIN && self.len < self.lower / 2 {
            self.lower = (self.len + self.len / 3).max(HOMES_MIN);
            (self.is_growing, self.boundary) = (false, 0);
        }
        self.go_on();
        let homes = self.upper.max(self.lower);
        let is_free = |entry: &Entry| entry.value == NO_VALUE;
        while self.entries.len() > homes && self.entries.last().is_some_and(is_free) {
            self.entries.pop();
        }
        Some(value)
    }

    /// The place of an entry with this hash whose value `is_match` accepts.
    #[inline]
    fn position(&self, hash: u32, mut is_match: impl FnMut(u32) -> bool) -> Option<usize> {
        let home = self.home(hash);
        for (at, entry) in self.entries.iter().enumerate().skip(home) {
            if entry.value == NO_VALUE || entry.hash > hash {
                break;
            }
            if entry.hash == hash && is_match(entry.value) {
                return Some(at);
            }
        }
        None
    }

    /// Puts an entry at its home, or at the next place behind it that the order allows.
    fn put(&mut self, hash: u32, value: u32) {
        let is_behind = |entry: &Entry| entry.value == NO_VALUE || entry.hash > hash;
        let home = self.home(hash);
        let at = self.first_from(home, is_behind);
        let free = self.first_from(at, |entry| entry.value == NO_VALUE);
        if free == self.entries.len() {
            self.entries.push(FREE);
        }
        self.entries.copy_within(at..free, at + 1);
        self.entries[at] = Entry { hash, value };
    }

    /// Takes out the entry at a place. Entries behind it that are not at their homes move up.
    fn take_out(&mut self, at: usize) -> Entry {
        let entry = self.entries[at];
        let is_displaced =
            |table: &Hashed, at: usize, entry: &Entry| entry.value != NO_VALUE && table.home(entry.hash) < at;
        let mut end = at + 1;
        while self.entries.get(end).is_some_and(|entry| is_displaced(self, end, entry)) {
            end += 1;
        }
        self.entries.copy_within(at + 1..end, at);
        self.entries[end - 1] = FREE;
        entry
    }

    /// The first place from `from` on whose entry satisfies `predicate`, or the number of places if
    /// there is none.
    fn first_from(&self, from: usize, predicate: impl FnMut(&Entry) -> bool) -> usize {
        let found = self.entries[from..].iter().position(predicate);
        found.map_or(self.entries.len(), |behind| from + behind)
    }

    /// The home of a hash.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        home(hash, if u64::from(hash) < self.boundary { self.lower } else { self.upper })
    }

    #[inline]
    fn is_at_rest(&self) -> bool {
        self.upper == self.lower
    }

    /// The number of homes, or the number that the table is moving to.
    fn target(&self) -> usize {
        if self.is_growing { self.upper } else { self.lower }
    }

    /// Moves some more entries if the table is growing or shrinking.
    fn go_on(&mut self) {
        if self.is_at_rest() {
            return;
        }
        if self.is_growing {
            self.grow_on();
        } else {
            self.shrink_on();
        }
    }

    /// Moves some more entries of a growing table, the highest hashes first. Entries with higher hashes
    /// have moved.
    fn grow_on(&mut self) {
        if self.boundary == HASHES_END && self.entries.len() < self.upper {
            let places = self.upper.min(self.entries.len() + NEW_PLACES_PER_CALL);
            self.entries.resize(places, FREE);
            self.touched = self.touched.max(places);
            if places < self.upper {
                return;
            }
        }
        let is_below = |table: &Hashed, at: usize| {
            let entry = table.entries.get(at);
            entry.is_some_and(|entry| entry.value != NO_VALUE && u64::from(entry.hash) < table.boundary)
        };
        // The remaining entries are below the place of the boundary, or behind it with no free place
        // between.
        let mut end = place_of(self.boundary, self.lower);
        while is_below(self, end) {
            end += 1;
        }
        let mut left = PLACES_PER_CALL;
        while left > 0 && end > 0 {
            end -= 1;
            left -= usize::from(end < self.lower); // The number of entries behind the homes depends on hashes.
            let entry = self.entries[end];
            if entry.value == NO_VALUE {
                self.boundary = self.boundary.min(first_hash_of(end, self.lower));
                continue;
            }
            if u64::from(entry.hash) < self.boundary {
                // All entries with one hash move together, since their place depends on the hash alone.
                self.boundary = u64::from(entry.hash);
            }
            if home(entry.hash, self.upper) > end {
                self.entries[end] = FREE;
                self.put(entry.hash, entry.value);
            }
            left += usize::from(left == 0 && end > 0 && self.entries[end - 1].has_hash(entry.hash));
        }
        if end == 0 {
            self.lower = self.upper;
        }
    }

    /// Moves some more entries of a shrinking table, the lowest hashes first. Entries with lower hashes
    /// have moved.
    fn shrink_on(&mut self) {
        let mut at = place_of(self.boundary, self.upper);
        let mut left = PLACES_PER_CALL;
        while left > 0 {
            let Some(&entry) = self.entries.get(at) else { return self.end_shrinking() };
            let is_home = at < self.upper; // The number of entries behind the homes depends on hashes.
            if entry.value == NO_VALUE {
                at += 1;
                self.boundary = self.boundary.max(first_hash_of(at, self.upper)).min(HASHES_END);
            } else if u64::from(entry.hash) < self.boundary {
                at += 1; // It has moved, and found no earlier free place.
                continue;
            } else {
                let mut values: SmallVec<[u32; 4]> = SmallVec::new();
                while self.entries.get(at).is_some_and(|next| next.has_hash(entry.hash)) {
                    values.push(self.take_out(at).value);
                }
                self.boundary = u64::from(entry.hash) + 1;
                values.into_iter().for_each(|value| self.put(entry.hash, value));
            }
            left -= usize::from(is_home);
        }
    }

    /// Gives up the free places after all entries have moved.
    fn end_shrinking(&mut self) {
        self.upper = self.lower;
        let mut places = self.upper;
        while self.entries.get(places).is_some_and(|entry| entry.value != NO_VALUE) {
            places += 1;
        }
        self.entries.truncate(places);
        if places < self.touched / 4 {
            // Shrinking gives written memory back to the system. The new reservation is not written to
            // yet.
            self.entries.shrink_to(places * 2);
            self.touched = places;
            self.reserve_room();
        }
    }
}

impl Entry {
    fn has_hash(&self, hash: u32) -> bool {
        self.value != NO_VALUE && self.hash == hash
    }
}

/// The home of a hash among `homes` places: a higher hash lies further behind.
#[inline]
fn home(hash: u32, homes: usize) -> usize {
    place_of(u64::from(hash), homes)
}

/// The same for a boundary between hashes.
#[inline]
fn place_of(boundary: u64, homes: usize) -> usize {
    ((boundary * homes as u64) >> 32) as usize
}

/// The first hash whose home among `homes` is `place` or a later place.
fn first_hash_of(place: usize, homes: usize) -> u64 {
    ((place as u64) << 32).div_ceil(homes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    impl Hashed {
        /// Checks that entries are in the order of hashes, with no free place between an entry and its
        /// home.
        fn check(&self) {
            let mut taken = self.entries.iter().filter(|entry| entry.value != NO_VALUE);
            let mut before = 0;
            assert!(
                taken.all(|entry| std::mem::replace(&mut before, entry.hash) <= entry.hash),
                "they are in order"
            );
            let mut free_before = 0;
            for (at, entry) in self.entries.iter().enumerate() {
                match entry.value {
                    NO_VALUE => free_before = at + 1,
                    _ => assert!((free_before..=at).contains(&self.home(entry.hash)), "{at} of {self:?}"),
                }
            }
        }
    }

    #[test]
    fn values_are_found_by_their_hashes_until_they_are_removed() {
        let mut table = Hashed::default();
        assert_eq!((table.get(7, |_| true).copied(), table.remove(7, |_| true)), (None, None));
        for (hash, value) in [(7, 1), (7, 2), (u32::MAX, 3), (u32::MAX, 4), (0, 5)] {
            table.insert(hash, value);
        }
        let find = |table: &Hashed, hash, value| table.get(hash, |found| found == value).copied();
        assert_eq!(find(&table, 7, 2), Some(2));
        assert_eq!((find(&table, 7, 3), find(&table, u32::MAX, 4)), (None, Some(4)));
        assert_eq!(table.replace(7, |found| found == 2, 6), Some(2));
        assert_eq!((find(&table, 7, 2), find(&table, 7, 6)), (None, Some(6)));
        assert_eq!((table.remove(7, |found| found == 1), table.len()), (Some(1), 4));
        assert_eq!((find(&table, 7, 1), find(&table, 7, 6), find(&table, 0, 5)), (None, Some(6), Some(5)));
    }

    /// Covers many values with one hash, and hashes that all gather at one end.
    #[test]
    fn it_holds_what_a_plain_list_holds() {
        type Spread = fn(u64) -> u64;
        let spreads: [Spread; 4] =
            [|bits| bits >> 32, |bits| bits % 64, |bits| 0xffff_ffff - bits % 5000, |bits| (bits % 9) << 28];
        for (seed, spread) in (1..).zip(spreads) {
            let (mut random, mut table, mut plain) = (SplitMix64::new(seed), Hashed::default(), Vec::new());
            for step in 0..6000_u32 {
                // The table fills for 2000 steps, empties for 2000, and fills again.
                let fills = if step / 2000 == 1 { 3 } else { 7 };
                if random.within(0..=9) < fills {
                    let hash = u32::try_from(spread(random.bits())).unwrap();
                    table.insert(hash, step);
                    plain.push((hash, step));
                } else if !plain.is_empty() {
                    let (hash, value) = plain.swap_remove(random.within(0..=plain.len() - 1));
                    assert_eq!(table.remove(hash, |found| found == value), Some(value));
                    assert_eq!(table.get(hash, |found| found == value), None);
                }
                if step % 50 == 0 {
                    table.check();
                    assert!(
                        plain.iter().all(|&(hash, value)| table.get(hash, |found| found == value).is_some())
                    );
                }
                assert_eq!(table.len(), plain.len());
            }
        }
    }

    /// Otherwise the events that the history gives up for lack of room would depend on the hash seed.
    #[test]
    fn how_much_it_holds_does_not_depend_on_hashes() {
        let (mut one, mut other) = (Hashed::default(), Hashed::default());
        for value in 0..2000 {
            one.insert(u32::MAX - value % 3, value);
            other.insert(value << 20, value);
            assert_eq!(one.bytes(), other.bytes());
        }
        for value in 0..2000_u32 {
            one.remove(u32::MAX - value % 3, |found| found == value);
            other.remove(value << 20, |found| found == value);
            assert_eq!(one.bytes(), other.bytes());
        }
    }

    /// Each call moves a few entries, and leaves no large move to a later call.
    #[test]
    fn no_call_moves_it_as_a_whole() {
        let (mut table, mut random, mut hashes) = (Hashed::default(), SplitMix64::new(7), Vec::new());
        let moves = |before: &[Entry], after: &[Entry]| {
            let is_other =
                |(one, other): &(&Entry, &Entry)| (one.hash, one.value) != (other.hash, other.value);
            before.iter().zip(after).filter(is_other).count()
        };
        let (mut moved_most, mut made_most) = (0, 0);
        for step in 0..40_000_u32 {
            let before = (step % 20 == 0).then(|| table.entries.clone());
            let (len, is_at_rest) = (table.entries.len(), table.is_at_rest());
            if step < 20_000 {
                hashes.push(u32::try_from(random.bits() >> 32).unwrap());
                table.insert(hashes[step as usize], step);
            } else {
                table.remove(hashes[(39_999 - step) as usize], |value| value == 39_999 - step);
            }
            made_most = made_most.max(table.entries.len().saturating_sub(len));
            if let Some(before) = before {
                moved_most = moved_most.max(moves(&before, &table.entries));
            }
            assert!(is_at_rest || table.len == 0 || table.len * 16 <= table.upper.max(table.lower) * 15);
        }
        assert!(
            (PLACES_PER_CALL..1000).contains(&moved_most),
            "{moved_most} places were written to by one call"
        );
        assert!(
            (2..=NEW_PLACES_PER_CALL + 1).contains(&made_most),
            "{made_most} places were made by one call"
        );
    }

    #[test]
    fn the_room_from_the_beginning_stays() {
        let (mut table, mut random) = (Hashed::with_room_for(30_000), SplitMix64::new(6));
        let (room, at) = (table.entries.capacity(), table.entries.as_ptr());
        assert!(room >= 40_000);
        let hashes: Vec<u32> = (0..30_000).map(|_| u32::try_from(random.bits() >> 32).unwrap()).collect();
        for (value, &hash) in (0..).zip(&hashes) {
            table.insert(hash, value);
            assert_eq!((table.entries.capacity(), table.entries.as_ptr()), (room, at), "after {value}");
        }
        for (value, &hash) in (0..).zip(&hashes) {
            table.remove(hash, |found| found == value);
        }
        assert!(table.entries.capacity() >= room && table.touched < 100, "the rest was given back");
    }

    #[test]
    fn it_is_nearly_full_however_many_values_there_are() {
        let (mut table, mut random) = (Hashed::with_room_for(100_000), SplitMix64::new(5));
        let mut hashes = Vec::new();
        for value in 0..100_000 {
            let hash = u32::try_from(random.bits() >> 32).unwrap();
            table.insert(hash, value);
            hashes.push(hash);
            assert!(value < 1000 || table.bytes() <= table.len() * 21 / 2, "{} for {value}", table.bytes());
        }
        for value in (0..100_000_u32).rev() {
            table.remove(hashes[value as usize], |found| found == value);
            assert!(table.bytes() <= table.len() * 17 + 300, "{} for {value}", table.bytes());
        }
        assert!(table.is_empty());
    }
}
