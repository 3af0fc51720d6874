//! A hierarchical timer wheel over injected instants: yields the keys that are due.
//!
//! It reads no clock. A key has one timer at most, so the wheel never holds more timers than there are keys, however
//! often they are armed. Whoever owns a key arms it by its earliest deadline and lets it be while the deadline moves on:
//! the owner looks at the true deadline when the key comes, and arms it again. A stream that was written to since costs
//! nothing meanwhile.
//!
//! ```text
//! ticks since start, in binary:  ……… | level 4 | level 3 | level 2 | level 1 | level 0
//!                                far     6 bits    6 bits    6 bits    6 bits    6 bits
//! ```
//!
//! A timer hangs in the level of the highest digit in which its tick differs from the current one, in the slot of
//! that digit. When the wheel reaches the slot, its timers fall to lower levels, or are due.

use std::time::{Duration, Instant};

/// Keys, which are small numbers, by deadline. Arming and disarming are O(1), yielding a key O(1) amortised over its
/// life; 12 bytes for each key up to the largest that was ever armed.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    tick_nanos: u64,
    /// The tick up to which everything that was due is in the list of what is due.
    current: u64,
    /// The ends of the lists: of each slot of each level, of what lies beyond the levels, and of what is due. Each timer of
    /// a slot shares the digits above its level's with `current`, and its level's digit is above that of `current`.
    ends: Box<[Links; LISTS]>,
    /// For each level, a bit for each slot: set if and only if the slot has timers.
    occupied: [u64; LEVELS],
    /// By key.
    timers: Vec<Timer>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// The tick, counted round a clock of 2^32 of them.
    tick_low: u32,
    links: Links,
}

/// The neighbours in a circular list. An end of a list is one too, and is named by the numbers from [`ENDS`] on.
#[derive(Clone, Copy, Debug)]
struct Links {
    /// [`UNARMED`] if and only if the timer is in no list.
    previous: u32,
    next: u32,
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 5;
/// For each level, the bits of all digits below its own.
const SHIFTS: [u32; LEVELS] = [0, 6, 12, 18, 24];
const LEVELS_BITS: u32 = SHIFTS[LEVELS - 1] + DIGIT_BITS;

/// The list of timers beyond the highest level, looked at when its last slot has passed.
const FAR: usize = LEVELS * SLOTS;
/// The list of timers that are due.
const DUE: usize = FAR + 1;
const LISTS: usize = DUE + 1;
const LISTS_LEN: u32 = low_bits(LISTS as u64);

const UNARMED: u32 = u32::MAX;
/// The number of the first list's end.
const ENDS: u32 = UNARMED - LISTS_LEN;

/// How far ahead a timer is set at the most, in ticks. A key whose deadline is later comes early, and is armed again.
const AHEAD_TICKS_MAX: u64 = (1 << LEVELS_BITS) - 1;

const _: () = assert!(size_of::<Timer>() == 12);
const _: () = assert!(LEVELS_BITS < u32::BITS - 1, "ticks round the clock are told apart");

/// What the wheel meets next on its way.
#[derive(Clone, Copy)]
enum Stop {
    Slot { level: usize, slot: usize },
    Far,
}

impl Wheel {
    /// An empty wheel that counts its ticks from `start`.
    ///
    /// # Panics
    /// When `tick` is zero or longer than 584 years.
    #[must_use]
    pub fn new(start: Instant, tick: Duration) -> Wheel {
        let tick_nanos = u64::try_from(tick.as_nanos()).unwrap_or(0);
        assert!(tick_nanos > 0, "a tick takes time, and less than for ever");
        Wheel {
            start,
            tick_nanos,
            current: 0,
            ends: Box::new(std::array::from_fn(|list| {
                let end = end_of(list);
                Links { previous: end, next: end }
            })),
            occupied: [0; LEVELS],
            timers: Vec::new(),
            len: 0,
        }
    }

    /// The same, with room for the keys below `count`, for whose memory the process pays as they come (see
    /// [`Slots::with_room_for`](super::slots::Slots::with_room_for)).
    ///
    /// # Panics
    /// As [`Wheel::new`].
    #[must_use]
    pub fn with_room_for(count: usize, start: Instant, tick: Duration) -> Wheel {
        let mut wheel = Wheel::new(start, tick);
        let _ = wheel.timers.try_reserve_exact(count);
        wheel
    }

    /// Has `key` come once, at `deadline` or before, where the deadline is far ahead or the key was armed for an earlier
    /// one. A deadline that is past comes at once.
    ///
    /// # Panics
    /// When the key is above 2^32 - 324, far more than a machine has memory for connections.
    pub fn arm(&mut self, key: u32, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.start).as_nanos();
        let tick = u64::try_from(nanos.div_ceil(u128::from(self.tick_nanos))).unwrap_or(u64::MAX);
        let ahead = tick.saturating_sub(self.current).min(AHEAD_TICKS_MAX);
        let tick = self.current.saturating_add(ahead);
        let armed = self.timer_mut(key);
        if armed.links.previous != UNARMED {
            if low_bits(tick).wrapping_sub(armed.tick_low).cast_signed() >= 0 {
                return; // It comes before that anyway.
            }
            self.disarm(key);
        }
        self.len += 1;
        self.place(key, tick);
    }

    /// Takes `key` out, if it is armed: it comes no more.
    pub fn disarm(&mut self, key: u32) {
        if self.timers.get(key as usize).is_some_and(|timer| timer.links.previous != UNARMED) {
            self.unlink(key);
            self.len -= 1;
        }
    }

    /// Takes out a key whose deadline is not after the last `now` that [`Wheel::advance`] was given, and returns it;
    /// keys of earlier ticks come first.
    pub fn pop_due(&mut self) -> Option<u32> {
        let key = self.ends[DUE].next;
        if key >= ENDS {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    /// Finds what is due at `now`, for [`Wheel::pop_due`].
    ///
    /// No key comes before its deadline, but for those far ahead, and each comes by the first call that is a tick or more
    /// after it. An earlier `now` than one before is taken for that one.
    pub fn advance(&mut self, now: Instant) {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / u128::from(self.tick_nanos);
        let target = u64::try_from(ticks).unwrap_or(u64::MAX).max(self.current);
        while let Some((tick, stop)) = self.next_stop()
            && tick <= target
        {
            self.current = tick;
            let list = match stop {
                Stop::Slot { level, slot } => level * SLOTS + slot,
                Stop::Far => FAR,
            };
            self.place_anew(list);
        }
        self.current = target;
    }

    /// When [`Wheel::advance`] should be called next: not later than a tick after the earliest deadline, and perhaps
    /// before it. `None` if and only if nothing is to come.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.is_empty_list(DUE) { self.next_stop()?.0 } else { self.current };
        // Sums too large for the clock are of deadlines that never come.
        self.start.checked_add(Duration::from_nanos(self.tick_nanos.saturating_mul(tick)))
    }

    /// How many keys are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if and only if no key is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The timer of a key, which is made if there is none.
    fn timer_mut(&mut self, key: u32) -> &mut Timer {
        let index = key as usize;
        if index >= self.timers.len() {
            assert!(key < ENDS, "the wheel is out of keys");
            let missing = index + 1 - self.timers.len();
            if index >= self.timers.capacity() {
                // An eighth at a time: doubling would leave up to half of the memory unused, for each idle stream.
                self.timers.reserve_exact(missing.max(self.timers.len() / 8 + 64));
            }
            let unarmed = Timer { tick_low: 0, links: Links { previous: UNARMED, next: UNARMED } };
            self.timers.resize(index + 1, unarmed);
        }
        &mut self.timers[index]
    }

    /// Puts a timer that is in no list where it belongs, seen from `current`.
    fn place(&mut self, key: u32, tick: u64) {
        let differing = tick ^ self.current;
        let list = if tick <= self.current {
            DUE
        } else if differing >> LEVELS_BITS != 0 {
            FAR
        } else {
            let level = (differing.ilog2() / DIGIT_BITS) as usize;
            let slot = digit(tick, level);
            self.occupied[level] |= 1 << slot;
            level * SLOTS + slot
        };
        let end = end_of(list);
        let last = self.ends[list].previous;
        self.timers[key as usize] =
            Timer { tick_low: low_bits(tick), links: Links { previous: last, next: end } };
        self.links_mut(last).next = key;
        self.ends[list].previous = key;
    }

    /// Takes a timer out of the list that it is in.
    fn unlink(&mut self, key: u32) {
        let unarmed = Links { previous: UNARMED, next: UNARMED };
        let Links { previous, next } = std::mem::replace(&mut self.timers[key as usize].links, unarmed);
        self.links_mut(previous).next = next;
        self.links_mut(next).previous = previous;
        if previous == next && previous >= ENDS {
            let list = (previous - ENDS) as usize; // It was the last one.
            if list < FAR {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
        }
    }

    fn links_mut(&mut self, at: u32) -> &mut Links {
        match at.checked_sub(ENDS) {
            Some(list) => &mut self.ends[list as usize],
            None => &mut self.timers[at as usize].links,
        }
    }

    fn is_empty_list(&self, list: usize) -> bool {
        self.ends[list].next >= ENDS
    }

    /// The earliest place ahead where there is something to do, with its tick.
    fn next_stop(&self) -> Option<(u64, Stop)> {
        // A lower level's timers share the higher digits with `current`, so they all come before a higher level's.
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                return Some((self.slot_start(level, slot), Stop::Slot { level, slot }));
            }
        }
        // The last stretch of the ticks has no end that a `u64` could name: what is there never comes.
        let next_stretch = (self.current >> LEVELS_BITS) + 1;
        let comes = !self.is_empty_list(FAR) && next_stretch <= u64::MAX >> LEVELS_BITS;
        comes.then_some((next_stretch << LEVELS_BITS, Stop::Far))
    }

    /// The first tick of a slot ahead of `current`.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = SHIFTS[level];
        let above = self.current >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        above | (slot as u64) << shift
    }

    /// Places the timers of a list anew, seen from the list's first tick, which is the current one.
    fn place_anew(&mut self, list: usize) {
        let last = self.ends[list].previous;
        loop {
            let key = self.ends[list].next;
            if key >= ENDS {
                return;
            }
            self.unlink(key);
            let ahead = self.timers[key as usize].tick_low.wrapping_sub(low_bits(self.current));
            self.place(key, self.current + u64::from(ahead));
            if key == last {
                return; // What is still far is in the list again.
            }
        }
    }
}

/// The number of a list's end.
const fn end_of(list: usize) -> u32 {
    ENDS + low_bits(list as u64)
}

const fn digit(tick: u64, level: usize) -> usize {
    ((tick >> SHIFTS[level]) & ((1 << DIGIT_BITS) - 1)) as usize
}

const fn low_bits(tick: u64) -> u32 {
    (tick & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(4);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn expired(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        wheel.advance(now);
        std::iter::from_fn(|| wheel.pop_due()).collect()
    }

    #[test]
    fn a_key_comes_at_its_deadline_rounded_up_to_a_tick_and_not_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        wheel.arm(1, start + Duration::from_millis(30));
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
        wheel.arm(1, start);
        wheel.arm(2, start + DAY);
        assert_eq!(wheel.next_deadline(), Some(start + DAY));
        assert_eq!(expired(&mut wheel, start + DAY), [1, 2]);
    }

    #[test]
    fn a_clock_that_steps_back_yields_nothing_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        expired(&mut wheel, start + DAY);
        wheel.arm(1, start + DAY + TICK);
        assert_eq!(expired(&mut wheel, start), [] as [u32; 0]);
        assert_eq!(expired(&mut wheel, start + DAY + TICK), [1]);
    }

    #[test]
    fn a_key_that_is_armed_again_comes_once_at_the_earliest_of_its_deadlines() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        for ticks in [500, 90, 20_000, 90, 70, 300] {
            wheel.arm(3, start + ticks * TICK);
            assert_eq!(wheel.len(), 1);
        }
        assert_eq!(expired(&mut wheel, start + 69 * TICK), [] as [u32; 0]);
        assert_eq!(expired(&mut wheel, start + 70 * TICK), [3]);
        assert_eq!(expired(&mut wheel, start + DAY), [] as [u32; 0]);
    }

    #[test]
    fn a_key_that_is_disarmed_does_not_come_wherever_it_was() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        wheel.advance(start + 49 * DAY);
        for ahead in [0, 1, 64, 1 << 12, 1 << 29] {
            for key in 0..3 {
                wheel.arm(key, start + 49 * DAY + ahead * TICK);
            }
            [1, 0, 2, 2, 9].into_iter().for_each(|key| wheel.disarm(key));
            assert_eq!((wheel.len(), wheel.next_deadline()), (0, None), "{ahead}");
        }
        assert_eq!(expired(&mut wheel, start + 400 * DAY), [] as [u32; 0]);
    }

    #[test]
    fn a_deadline_that_is_far_ahead_may_come_early_and_is_reached_by_arming_again() {
        let start = Instant::now();
        for days in [30, 60, 400, 10_000] {
            let (mut wheel, mut now, mut rounds) = (Wheel::new(start, TICK), start, 0);
            wheel.arm(0, start + days * DAY);
            while now < start + days * DAY {
                now = wheel.next_deadline().unwrap();
                for key in expired(&mut wheel, now) {
                    rounds += 1;
                    wheel.arm(key, start + days * DAY);
                }
            }
            assert!(rounds <= days / 40 + 2, "{rounds} rounds for {days} days");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm { key: u32, ahead: Duration },
        Disarm { key: u32 },
        Advance { by: Duration },
        FollowNextDeadline,
    }

    fn duration() -> impl Strategy<Value = Duration> {
        // Every magnitude from microseconds to forty days.
        (0..42_u32, 0..800_u64).prop_map(|(bits, part)| Duration::from_micros((1_u64 << bits) * part / 1_000))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12_u32, duration()).prop_map(|(key, ahead)| Step::Arm { key, ahead }),
            1 => (0..12_u32).prop_map(|key| Step::Disarm { key }),
            1 => duration().prop_map(|by| Step::Advance { by }),
            2 => Just(Step::FollowNextDeadline),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_naive_map(steps in proptest::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let (mut wheel, mut now) = (Wheel::new(start, TICK), start);
            let mut armed = std::collections::BTreeMap::<u32, Instant>::new();
            for step in steps {
                match step {
                    Step::Arm { key, ahead } => {
                        let deadline = now + ahead;
                        armed.entry(key).and_modify(|at| *at = deadline.min(*at)).or_insert(deadline);
                        wheel.arm(key, deadline);
                    }
                    Step::Disarm { key } => {
                        armed.remove(&key);
                        wheel.disarm(key);
                    }
                    Step::Advance { by } => now += by,
                    Step::FollowNextDeadline => {
                        let next = wheel.next_deadline();
                        prop_assert_eq!(next.is_none(), armed.is_empty());
                        if let (Some(next), Some(&earliest)) = (next, armed.values().min()) {
                            prop_assert!(next < earliest.max(now) + TICK);
                            now = now.max(next);
                        }
                    }
                }
                for key in expired(&mut wheel, now) {
                    let deadline = armed.remove(&key);
                    prop_assert!(deadline.is_some(), "{} came and was not armed", key);
                    prop_assert!(deadline.unwrap() <= now, "came early");
                }
                prop_assert!(armed.values().all(|&deadline| deadline + TICK > now), "came late");
                prop_assert_eq!(wheel.len(), armed.len());
            }
        }
    }
}
