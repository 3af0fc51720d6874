//! A hierarchical timer wheel over injected instants: yields the keys that are due.
//!
//! It reads no clock and cancels nothing. A key that is due is looked at by its owner, who knows the true deadline by
//! then and inserts it again where that has moved: a stream that was written to since costs nothing meanwhile.
//!
//! ```text
//! ticks since start, in binary:  ……… | level 4 | level 3 | level 2 | level 1 | level 0
//!                                far     6 bits    6 bits    6 bits    6 bits    6 bits
//! ```
//!
//! An entry hangs in the level of the highest digit in which its tick differs from the current one, in the slot of
//! that digit. When the wheel reaches the slot, its entries fall to lower levels, or are due.

use std::time::{Duration, Instant};

/// Keys by deadline. Inserting is O(1), yielding a key O(1) amortised over its life; 16 bytes an entry where a key has 8.
///
/// Memory is kept for the fullest moment there was.
#[derive(Debug)]
pub struct Wheel<K> {
    start: Instant,
    tick_nanos: u64,
    /// The tick up to which everything that was due has been yielded.
    current: u64,
    /// The first entry of each slot. Each entry in them shares the digits above its level's with `current`, and its
    /// level's digit is above that of `current`.
    heads: [[u32; SLOTS]; LEVELS],
    /// For each level, a bit for each slot: set if and only if the slot has entries.
    occupied: [u64; LEVELS],
    /// The first entry that was due already when it was inserted.
    overdue: u32,
    /// The first free entry.
    free: u32,
    entries: Vec<Entry<K>>,
    /// Entries beyond the highest level, looked at when its last slot has passed.
    far: Vec<(u64, K)>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    key: K,
    /// The tick's digits within the levels; those above are those of `current`.
    tick_low: u32,
    /// The next entry of its slot, or the next free one.
    next: u32,
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 5;
/// For each level, the bits of all digits below its own.
const SHIFTS: [u32; LEVELS] = [0, 6, 12, 18, 24];
const LEVELS_BITS: u32 = SHIFTS[LEVELS - 1] + DIGIT_BITS;
/// Ends a list of entries.
const NO_ENTRY: u32 = u32::MAX;

const _: () = assert!(size_of::<Entry<super::id::ConnId>>() == 16);
const _: () = assert!(LEVELS_BITS <= u32::BITS);

/// What the wheel meets next on its way.
#[derive(Clone, Copy)]
enum Stop {
    Slot { level: usize, slot: usize },
    Far,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel that counts its ticks from `start`.
    ///
    /// # Panics
    /// When `tick` is zero or longer than 584 years.
    #[must_use]
    pub fn new(start: Instant, tick: Duration) -> Wheel<K> {
        let tick_nanos = u64::try_from(tick.as_nanos()).unwrap_or(0);
        assert!(tick_nanos > 0, "a tick takes time, and less than for ever");
        Wheel {
            start,
            tick_nanos,
            current: 0,
            heads: [[NO_ENTRY; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            overdue: NO_ENTRY,
            free: NO_ENTRY,
            entries: Vec::new(),
            far: Vec::new(),
            len: 0,
        }
    }

    /// The same, with room for `count` keys, for whose memory the process pays as they come (see
    /// [`Slots::with_room_for`](super::slots::Slots::with_room_for)).
    ///
    /// # Panics
    /// As [`Wheel::new`].
    #[must_use]
    pub fn with_room_for(count: usize, start: Instant, tick: Duration) -> Wheel<K> {
        let mut wheel = Wheel::new(start, tick);
        let _ = wheel.entries.try_reserve_exact(count);
        wheel
    }

    /// Adds `key`, to be yielded once after `deadline`, which may be past. A key may be in the wheel several times.
    pub fn insert(&mut self, key: K, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.start).as_nanos();
        let tick = nanos.div_ceil(u128::from(self.tick_nanos));
        self.len += 1;
        self.place(key, u64::try_from(tick).unwrap_or(u64::MAX));
    }

    /// Appends to `due` the keys whose deadline is not after `now`, earlier ticks first, and takes them out.
    ///
    /// No key comes before its deadline, and each comes by the first call that is a tick or more after it. An earlier
    /// `now` than one before is taken for that one.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<K>) {
        let due_before = due.len();
        let ticks = now.saturating_duration_since(self.start).as_nanos() / u128::from(self.tick_nanos);
        let target = u64::try_from(ticks).unwrap_or(u64::MAX).max(self.current);
        self.yield_overdue(due);
        while let Some((tick, stop)) = self.next_stop()
            && tick <= target
        {
            self.current = tick;
            match stop {
                Stop::Slot { level, slot } => self.empty_slot(level, slot),
                Stop::Far => {
                    for (tick, key) in std::mem::take(&mut self.far) {
                        self.place(key, tick);
                    }
                }
            }
            self.yield_overdue(due);
        }
        self.current = target;
        self.len -= due.len() - due_before;
    }

    /// When [`Wheel::expire`] should be called next: not later than a tick after the earliest deadline, and perhaps
    /// before it. `None` if and only if nothing is to come.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.overdue == NO_ENTRY { self.next_stop()?.0 } else { self.current };
        // Sums too large for the clock are of deadlines that never come.
        self.start.checked_add(Duration::from_nanos(self.tick_nanos.saturating_mul(tick)))
    }

    /// How many keys wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if and only if no key waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an entry where it belongs, seen from `current`.
    fn place(&mut self, key: K, tick: u64) {
        let differing = tick ^ self.current;
        if tick <= self.current {
            self.overdue = self.link(Entry { key, tick_low: 0, next: self.overdue });
        } else if differing >> LEVELS_BITS != 0 {
            self.far.push((tick, key));
        } else {
            let level = (differing.ilog2() / DIGIT_BITS) as usize;
            let slot = digit(tick, level);
            let next = self.heads[level][slot];
            self.heads[level][slot] = self.link(Entry { key, tick_low: low_digits(tick), next });
            self.occupied[level] |= 1 << slot;
        }
    }

    /// Stores an entry and gives its place.
    fn link(&mut self, entry: Entry<K>) -> u32 {
        if let Some(free) = self.entries.get_mut(self.free as usize) {
            let at = self.free;
            self.free = free.next;
            *free = entry;
            return at;
        }
        let at = u32::try_from(self.entries.len()).unwrap_or(NO_ENTRY);
        assert_ne!(at, NO_ENTRY, "the wheel is out of entry numbers");
        if self.entries.len() == self.entries.capacity() {
            // An eighth at a time: doubling would leave up to half of the memory unused, for each idle stream.
            self.entries.reserve_exact(self.entries.len() / 8 + 64);
        }
        self.entries.push(entry);
        at
    }

    /// Takes the entry at `at` out of the list that it heads: its key, its tick's low digits, and the next of the list.
    fn unlink(&mut self, at: u32) -> Entry<K> {
        let free = std::mem::replace(&mut self.free, at);
        let entry = &mut self.entries[at as usize];
        std::mem::replace(entry, Entry { next: free, ..*entry })
    }

    fn yield_overdue(&mut self, due: &mut Vec<K>) {
        while self.overdue != NO_ENTRY {
            let entry = self.unlink(self.overdue);
            self.overdue = entry.next;
            due.push(entry.key);
        }
    }

    /// The earliest place ahead where there is something to do, with its tick.
    fn next_stop(&self) -> Option<(u64, Stop)> {
        // A lower level's entries share the higher digits with `current`, so they all come before a higher level's.
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                return Some((self.slot_start(level, slot), Stop::Slot { level, slot }));
            }
        }
        // The last stretch of the ticks has no end that a `u64` could name: what is there never comes.
        let next_stretch = (self.current >> LEVELS_BITS) + 1;
        let comes = !self.far.is_empty() && next_stretch <= u64::MAX >> LEVELS_BITS;
        comes.then_some((next_stretch << LEVELS_BITS, Stop::Far))
    }

    /// The first tick of a slot ahead of `current`.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = SHIFTS[level];
        let above = self.current >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        above | (slot as u64) << shift
    }

    /// Places a slot's entries anew, seen from the slot's first tick.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        self.occupied[level] &= !(1 << slot);
        let mut at = std::mem::replace(&mut self.heads[level][slot], NO_ENTRY);
        let above = self.current >> LEVELS_BITS << LEVELS_BITS;
        while at != NO_ENTRY {
            let entry = self.unlink(at);
            self.place(entry.key, above | u64::from(entry.tick_low));
            at = entry.next;
        }
    }
}

const fn digit(tick: u64, level: usize) -> usize {
    ((tick >> SHIFTS[level]) & ((1 << DIGIT_BITS) - 1)) as usize
}

const fn low_digits(tick: u64) -> u32 {
    (tick & ((1 << LEVELS_BITS) - 1)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(4);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn expired(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due
    }

    #[test]
    fn a_key_comes_at_its_deadline_rounded_up_to_a_tick_and_not_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        wheel.insert(1, start + Duration::from_millis(30));
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(30)), [] as [u32; 0]);
        assert_eq!(wheel.next_deadline(), Some(start + Duration::from_millis(32)));
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(32)), [1]);
        assert_eq!((wheel.next_deadline(), wheel.is_empty()), (None, true));
    }

    #[test]
    fn deadlines_in_the_past_come_at_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        assert_eq!(expired(&mut wheel, start + DAY), [] as [u32; 0]);
        wheel.insert(1, start);
        wheel.insert(2, start + DAY);
        assert_eq!(wheel.next_deadline(), Some(start + DAY));
        let mut due = expired(&mut wheel, start + DAY);
        due.sort_unstable();
        assert_eq!(due, [1, 2]);
    }

    #[test]
    fn a_clock_that_steps_back_yields_nothing_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        expired(&mut wheel, start + DAY);
        wheel.insert(1, start + DAY + TICK);
        assert_eq!(expired(&mut wheel, start), [] as [u32; 0]);
        assert_eq!(expired(&mut wheel, start + DAY + TICK), [1]);
    }

    #[test]
    fn deadlines_beyond_the_levels_are_kept_and_come() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        for (key, days) in [(3, 400), (1, 60), (2, 150), (4, 10_000)] {
            wheel.insert(key, start + days * DAY);
        }
        assert_eq!(expired(&mut wheel, start + 60 * DAY - TICK), [] as [u32; 0]);
        assert_eq!(expired(&mut wheel, start + 60 * DAY), [1]);
        assert_eq!(expired(&mut wheel, start + 9_999 * DAY), [2, 3]);
        assert_eq!((expired(&mut wheel, start + 10_000 * DAY), wheel.len()), (vec![4], 0));
    }

    #[test]
    fn entries_are_reused() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        for round in 1..1_000 {
            wheel.insert(1, start + round * 30 * TICK);
            assert_eq!(expired(&mut wheel, start + round * 30 * TICK), [1]);
        }
        assert_eq!(wheel.entries.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { ahead: Duration },
        Advance { by: Duration },
        FollowNextDeadline,
    }

    fn duration() -> impl Strategy<Value = Duration> {
        // Every magnitude from microseconds to some hundred days.
        (0..45_u32, 0..1_000_u64)
            .prop_map(|(bits, part)| Duration::from_micros((1_u64 << bits) * part / 1_000))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => duration().prop_map(|ahead| Step::Insert { ahead }),
            1 => duration().prop_map(|by| Step::Advance { by }),
            2 => Just(Step::FollowNextDeadline),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_naive_list(steps in proptest::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let (mut wheel, mut now) = (Wheel::new(start, TICK), start);
            let mut waiting: Vec<(u32, Instant)> = Vec::new();
            for (key, step) in (0..).zip(steps) {
                match step {
                    Step::Insert { ahead } => {
                        waiting.push((key, now + ahead));
                        wheel.insert(key, now + ahead);
                    }
                    Step::Advance { by } => now += by,
                    Step::FollowNextDeadline => {
                        let next = wheel.next_deadline();
                        prop_assert_eq!(next.is_none(), waiting.is_empty());
                        if let (Some(next), Some(earliest)) = (next, waiting.iter().map(|&(_, at)| at).min()) {
                            prop_assert!(next < earliest.max(now) + TICK);
                            now = now.max(next);
                        }
                    }
                }
                for key in expired(&mut wheel, now) {
                    let at = waiting.iter().position(|&(waiting, _)| waiting == key);
                    prop_assert!(at.is_some(), "{} came twice", key);
                    let (_, deadline) = waiting.swap_remove(at.unwrap());
                    prop_assert!(deadline <= now, "came early");
                }
                prop_assert!(waiting.iter().all(|&(_, deadline)| deadline + TICK > now), "came late");
                prop_assert_eq!(wheel.len(), waiting.len());
            }
        }
    }
}
