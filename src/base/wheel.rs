//! A hierarchical timer wheel over injected instants: yields the keys that are due.
//!
//! It reads no clock. A key has at most one timer, so there are never more timers than keys, however
//! often they are armed. The owner of a key arms it for its earliest deadline and does nothing while the
//! deadline moves later. When the key comes due, the owner checks the true deadline and arms the key
//! again. So writing to a stream costs the wheel nothing.
//!
//! ```text
//! ticks since start, in binary:  ……… | level 4 | level 3 | level 2 | level 1 | level 0
//!                                far     6 bits    6 bits    6 bits    6 bits    6 bits
//! ```
//!
//! A timer is in the level of the highest digit in which its tick differs from the current tick, and in
//! the slot of that digit. When the wheel reaches the slot, its timers move to lower levels or become
//! due.

use std::time::{Duration, Instant};

/// Deadlines of keys, which are small numbers. Arming and disarming cost O(1). Yielding a key costs
/// O(1), amortised over its life. Each key up to the largest ever armed takes 12 bytes.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    tick_nanos: u64,
    /// Every timer up to this tick is in the list of due timers.
    current: u64,
    /// The ends of the lists: one for each slot of each level, one for the timers beyond the levels, and
    /// one for the due timers. Each timer of a slot shares the digits above its level with `current`,
    /// and its digit of that level is larger.
    ends: Box<[Links; LISTS]>,
    /// One bitmap per level. A bit is set if and only if its slot has timers.
    occupied: [u64; LEVELS],
    /// Indexed by key.
    timers: Vec<Timer>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// The tick modulo 2^32.
    tick_low: u32,
    links: Links,
}

/// The neighbours in a circular list. A number from [`ENDS`] on is the end of a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    /// [`UNARMED`] if and only if the timer is in no list.
    previous: u32,
    next: u32,
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 5;
/// For each level, the number of bits below its digit.
const SHIFTS: [u32; LEVELS] = [0, 6, 12, 18, 24];
const LEVELS_BITS: u32 = SHIFTS[LEVELS - 1] + DIGIT_BITS;

/// The list of timers beyond the highest level. The wheel looks at it when the last slot has passed.
const FAR: usize = LEVELS * SLOTS;
/// The list of due timers.
const DUE: usize = FAR + 1;
const LISTS: usize = DUE + 1;
const LISTS_LEN: u32 = low_bits(LISTS as u64);

const UNARMED: u32 = u32::MAX;
/// The number of the first list's end.
const ENDS: u32 = UNARMED - LISTS_LEN;

/// Most ticks that a timer is set ahead. A key with a later deadline comes early, and its owner arms it
/// again.
const AHEAD_TICKS_MAX: u64 = (1 << LEVELS_BITS) - 1;

const _: () = assert!(size_of::<Timer>() == 12);
const _: () = assert!(LEVELS_BITS < u32::BITS - 1, "ticks round the clock are told apart");

/// The next thing that the wheel reaches.
#[derive(Clone, Copy)]
enum Stop {
    Slot { level: usize, slot: usize },
    Far,
}

impl Wheel {
    /// An empty wheel. Its ticks count from `start`.
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

    /// As [`Wheel::new`], with room for the keys below `count`. The process pays for the memory as keys
    /// come (see [`Slots::with_room_for`](super::slots::Slots::with_room_for)).
    ///
    /// # Panics
    /// As [`Wheel::new`].
    #[must_use]
    pub fn with_room_for(count: usize, start: Instant, tick: Duration) -> Wheel {
        let mut wheel = Wheel::new(start, tick);
        let _ = wheel.timers.try_reserve_exact(count);
        wheel
    }

    /// Makes `key` come due once, at `deadline` or earlier. It comes earlier if the deadline is far
    /// ahead or the key was armed for an earlier one. A past deadline is due at once.
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
                return; // It comes earlier anyway.
            }
            self.disarm(key);
        }
        self.len += 1;
        self.place(key, tick);
    }

    /// Disarms `key`, if it is armed.
    pub fn disarm(&mut self, key: u32) {
        if self.timers.get(key as usize).is_some_and(|timer| timer.links.previous != UNARMED) {
            self.unlink(key);
            self.len -= 1;
        }
    }

    /// Removes and returns a key whose deadline has passed at the last `now` of [`Wheel::advance`]. Keys
    /// of earlier ticks come first.
    pub fn pop_due(&mut self) -> Option<u32> {
        let key = self.ends[DUE].next;
        if key >= ENDS {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    /// Moves the keys that are due at `now` to where [`Wheel::pop_due`] finds them.
    ///
    /// No key comes before its deadline, unless it is far ahead. Each key comes by the first call that
    /// is a tick or more after its deadline. If `now` is earlier than in a call before, that call's time
    /// counts.
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

    /// When to call [`Wheel::advance`] next: at most a tick after the earliest deadline, and possibly
    /// before it. `None` if and only if no key is armed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.is_empty_list(DUE) { self.next_stop()?.0 } else { self.current };
        // A sum that overflows the clock belongs to a deadline that never comes.
        self.start.checked_add(Duration::from_nanos(self.tick_nanos.saturating_mul(tick)))
    }

    /// The number of armed keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if and only if no key is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The timer of a key, made if it does not exist.
    fn timer_mut(&mut self, key: u32) -> &mut Timer {
        let index = key as usize;
        if index >= self.timers.len() {
            assert!(key < ENDS, "the wheel is out of keys");
            let missing = index + 1 - self.timers.len();
            if index >= self.timers.capacity() {
                // Grow by an eighth: doubling would leave up to half of the memory unused, for each idle
                // stream.
                self.timers.reserve_exact(missing.max(self.timers.len() / 8 + 64));
            }
            let unarmed = Timer { tick_low: 0, links: Links { previous: UNARMED, next: UNARMED } };
            self.timers.resize(index + 1, unarmed);
        }
        &mut self.timers[index]
    }

    /// Puts a timer that is in no list into the list where it belongs at `current`.
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

    /// Takes a timer out of its list.
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

    /// The next tick at which there is something to do, and where.
    fn next_stop(&self) -> Option<(u64, Stop)> {
        // Timers of a lower level share the higher digits with `current`, so they come before those of a
        // higher level.
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                return Some((self.slot_start(level, slot), Stop::Slot { level, slot }));
            }
        }
        // No `u64` names the end of the last stretch of ticks, so its timers never come.
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

    /// Places the timers of a list again. `current` is the first tick of that list.
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
                return; // The timers that are still far ahead are in the list again.
            }
        }
    }
}

/// The number that names a list's end.
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
