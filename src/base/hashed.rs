//! A table by hashes that stays nearly full as it grows, and that no call moves as a whole: small values of which there may
//! be millions.
//!
//! A table that doubles has between half and all of its room taken, and leaves behind what it outgrew. This one grows by an
//! eighth at a time, in place. Entries stand in the order of their hashes, so that those above a hash may stand where the
//! larger table has them while those below still stand where the smaller one has. Each call moves a few more.

use smallvec::SmallVec;

/// Values of 32 bits by hashes of 32 bits. Several values may have the same hash.
///
/// Entries stand in the order of their hashes, each at the place that its hash says or behind it, with no free place
/// between the two: what is sought is found by a few steps from there.
#[derive(Debug, Default)]
pub struct Hashed {
    entries: Vec<Entry>,
    /// How many places hashes from `boundary` on are spread over, and those below. Entries that find none free at the end
    /// stand behind them. While the two differ, the larger number is what it grows to, or the smaller what it shrinks to.
    upper: usize,
    lower: usize,
    boundary: u64,
    /// It grows, or shrinks where it does not.
    is_growing: bool,
    len: usize,
    /// Entries for which there was room from the beginning. That room stays, as address space.
    room: usize,
    /// The most entries that there were since memory was given back.
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

/// Places of the smallest table.
const HOMES_MIN: usize = 16;

/// Behind all hashes.
const HASHES_END: u64 = 1 << 32;

/// Places that each call looks at while entries move. A table that grows has a sixteenth of its room taken until the next time
/// it has to: so it is done with each time before.
const PLACES_PER_CALL: usize = 24;

/// Free places that each call makes behind the others before the first entry moves.
const NEW_PLACES_PER_CALL: usize = 256;

impl Hashed {
    /// A table that grows to `count` values without being moved, where the system promises so much room. What is not taken
    /// costs address space alone.
    #[must_use]
    pub fn with_room_for(count: usize) -> Hashed {
        let mut table = Hashed { room: count + count / 3, ..Hashed::default() };
        table.reserve_room();
        table
    }

    /// Makes the room that the table had from the beginning, where the system promises so much.
    fn reserve_room(&mut self) {
        let additional = self.room.saturating_sub(self.entries.len());
        let _ = self.entries.try_reserve_exact(additional);
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if and only if there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held, but for the few entries that stand behind the places of hashes: how much it is does not depend on which
    /// hashes there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.target() * size_of::<Entry>()
    }

    /// A value with this hash of which `is_it` returns true.
    #[must_use]
    #[inline]
    pub fn get(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<&u32> {
        let at = self.position(hash, is_it)?;
        Some(&self.entries[at].value)
    }

    /// Puts a value in, also where there is an equal one.
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

    /// Puts `to` in the place of the value with this hash of which `is_it` returns true, if there is one.
    ///
    /// # Panics
    /// If `to` is `u32::MAX`.
    pub fn replace(&mut self, hash: u32, is_it: impl FnMut(u32) -> bool, to: u32) -> Option<u32> {
        assert_ne!(to, NO_VALUE, "it marks free places");
        let at = self.position(hash, is_it)?;
        Some(std::mem::replace(&mut self.entries[at].value, to))
    }

    /// Takes out a value with this hash of which `is_it` returns true, if there is one.
    pub fn remove(&mut self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let at = self.position(hash, is_it)?;
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

    /// Where the entry with this hash stands of whose value `is_it` returns true.
    #[inline]
    fn position(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<usize> {
        let home = self.home(hash);
        for (at, entry) in self.entries.iter().enumerate().skip(home) {
            if entry.value == NO_VALUE || entry.hash > hash {
                break;
            }
            if entry.hash == hash && is_it(entry.value) {
                return Some(at);
            }
        }
        None
    }

    /// Puts an entry where its hash says, or as near behind it as there is room.
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

    /// Takes out the entry at a place. Those behind it that do not stand where their hashes say move up.
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

    /// The first place from `from` on whose entry is so; behind all places if there is none.
    fn first_from(&self, from: usize, is_so: impl FnMut(&Entry) -> bool) -> usize {
        let found = self.entries[from..].iter().position(is_so);
        found.map_or(self.entries.len(), |behind| from + behind)
    }

    /// The place that a hash says.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        home(hash, if u64::from(hash) < self.boundary { self.lower } else { self.upper })
    }

    #[inline]
    fn is_at_rest(&self) -> bool {
        self.upper == self.lower
    }

    /// The number of places that hashes are, or come to be spread over.
    fn target(&self) -> usize {
        if self.is_growing { self.upper } else { self.lower }
    }

    /// Goes on with moving entries, if some are yet to be moved.
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

    /// Moves some more entries of a table that grows, the highest hashes first: what is above them has moved already.
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
        // Those that are yet to move stand below the place of the boundary, or behind it without a free place.
        let mut end = place_of(self.boundary, self.lower);
        while is_below(self, end) {
            end += 1;
        }
        let mut left = PLACES_PER_CALL;
        while left > 0 && end > 0 {
            end -= 1;
            left -= usize::from(end < self.lower); // How many stand behind is a matter of hashes.
            let entry = self.entries[end];
            if entry.value == NO_VALUE {
                self.boundary = self.boundary.min(first_hash_of(end, self.lower));
                continue;
            }
            if u64::from(entry.hash) < self.boundary {
                // All of one hash move together: their place depends on it alone.
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

    /// Moves some more entries of a table that shrinks, the lowest hashes first: what is below them has moved already.
    fn shrink_on(&mut self) {
        let mut at = place_of(self.boundary, self.upper);
        let mut left = PLACES_PER_CALL;
        while left > 0 {
            let Some(&entry) = self.entries.get(at) else { return self.end_shrinking() };
            let is_home = at < self.upper; // How many stand behind is a matter of hashes.
            if entry.value == NO_VALUE {
                at += 1;
                self.boundary = self.boundary.max(first_hash_of(at, self.upper)).min(HASHES_END);
            } else if u64::from(entry.hash) < self.boundary {
                at += 1; // It has moved, and found no free place before.
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

    /// Gives up the places that are free now that all entries have moved.
    fn end_shrinking(&mut self) {
        self.upper = self.lower;
        let mut places = self.upper;
        while self.entries.get(places).is_some_and(|entry| entry.value != NO_VALUE) {
            places += 1;
        }
        self.entries.truncate(places);
        if places < self.touched / 4 {
            // What was written to goes back to the system. The room is made anew: nothing of it is written to yet.
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

/// The place of a hash among so many: the higher a hash, the further behind.
#[inline]
fn home(hash: u32, homes: usize) -> usize {
    place_of(u64::from(hash), homes)
}

/// The same for a boundary between hashes.
#[inline]
fn place_of(boundary: u64, homes: usize) -> usize {
    ((boundary * homes as u64) >> 32) as usize
}

/// The first hash whose place among so many is `place`, or a later one.
fn first_hash_of(place: usize, homes: usize) -> u64 {
    ((place as u64) << 32).div_ceil(homes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    impl Hashed {
        /// Entries stand in the order of hashes, and none behind its place with a free one between.
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

    /// Also where many values have the same hash, and where they all gather at an end.
    #[test]
    fn it_holds_what_a_plain_list_holds() {
        type Spread = fn(u64) -> u64;
        let spreads: [Spread; 4] =
            [|bits| bits >> 32, |bits| bits % 64, |bits| 0xffff_ffff - bits % 5000, |bits| (bits % 9) << 28];
        for (seed, spread) in (1..).zip(spreads) {
            let (mut random, mut table, mut plain) = (SplitMix64::new(seed), Hashed::default(), Vec::new());
            for step in 0..6000_u32 {
                // It fills for two thousand steps, empties for as many, and fills again.
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

    /// What is given up for want of room would depend on the seed of hashes otherwise.
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

    /// Each call moves a few entries: none puts off what the next then has to do.
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
