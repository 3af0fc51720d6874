//! A table by hashes that stays nearly full as it grows: small values of which there may be millions.
//!
//! A table that doubles has between half and all of its room taken, and leaves behind what it outgrew. This one grows by an
//! eighth at a time, in place, and reads and writes its memory from one end to the other when it does.

/// Values of 32 bits by hashes of 32 bits. Several values may have the same hash.
///
/// Entries stand in the order of their hashes, each at the place that its hash says or behind it, with no free place
/// between the two: what is sought is found by a few steps from there.
#[derive(Debug, Default)]
pub struct Hashed {
    entries: Vec<Entry>,
    /// How many places hashes are spread over. Entries that find none free at the end stand behind them.
    homes: usize,
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
        self.homes * size_of::<Entry>()
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
        if (self.len + 1) * 8 > self.homes * 7 {
            self.spread_over((self.homes + self.homes / 8).max(HOMES_MIN));
        }
        let is_behind = |entry: &Entry| entry.value == NO_VALUE || entry.hash > hash;
        let home = self.home(hash);
        let at = self.first_from(home, is_behind);
        let free = self.first_from(at, |entry| entry.value == NO_VALUE);
        if free == self.entries.len() {
            self.entries.push(FREE);
        }
        self.entries.copy_within(at..free, at + 1);
        self.entries[at] = Entry { hash, value };
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
        let value = self.entries[at].value;
        // Those behind it that do not stand where their hashes say move up.
        let mut end = at + 1;
        while self
            .entries
            .get(end)
            .is_some_and(|entry| entry.value != NO_VALUE && self.home(entry.hash) < end)
        {
            end += 1;
        }
        self.entries.copy_within(at + 1..end, at);
        self.entries[end - 1] = FREE;
        while self.entries.len() > self.homes
            && self.entries.last().is_some_and(|last| last.value == NO_VALUE)
        {
            self.entries.pop();
        }
        self.len -= 1;
        if self.homes > HOMES_MIN && self.len < self.homes / 2 {
            self.spread_over((self.len + self.len / 3).max(HOMES_MIN));
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

    /// The first place from `from` on whose entry is so; behind all places if there is none.
    fn first_from(&self, from: usize, is_so: impl FnMut(&Entry) -> bool) -> usize {
        let found = self.entries[from..].iter().position(is_so);
        found.map_or(self.entries.len(), |behind| from + behind)
    }

    /// The place that a hash says.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        home(hash, self.homes)
    }

    /// Spreads the hashes over another number of places, which the values leave some of free.
    fn spread_over(&mut self, homes: usize) {
        self.homes = homes;
        let mut places = 0;
        for entry in self.entries.iter().filter(|entry| entry.value != NO_VALUE) {
            places = home(entry.hash, homes).max(places) + 1;
        }
        let places = places.max(homes);
        // All to the end, and from there to their places, which lie before: none is in the way of another.
        let mut first = self.entries.len().max(places);
        let before = self.entries.len();
        self.entries.resize(first, FREE);
        for at in (0..before).rev() {
            if self.entries[at].value != NO_VALUE {
                first -= 1;
                self.entries.swap(at, first);
            }
        }
        let mut next = 0;
        for at in first..self.entries.len() {
            let place = home(self.entries[at].hash, homes).max(next);
            self.entries.swap(at, place);
            next = place + 1;
        }
        self.touched = self.touched.max(self.entries.len());
        self.entries.truncate(places);
        if places < self.touched / 4 {
            // What was written to goes back to the system. The room is made anew: nothing of it is written to yet.
            self.entries.shrink_to(places * 2);
            self.touched = places;
            self.reserve_room();
        }
    }
}

/// The place of a hash among so many: the higher a hash, the further behind.
#[inline]
fn home(hash: u32, homes: usize) -> usize {
    ((u64::from(hash) * homes as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

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
