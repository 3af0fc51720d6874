//! Events that may be replayed for a time only (`ttl`). When it has passed, an event has *lapsed*: nobody who resumes, or
//! has fallen behind, is sent it any more, and nobody is told of a gap for it.
//!
//! Readers pass over what has lapsed from that very tick on. Its memory is given up as soon as every shard has taken it,
//! [`LAPSES_PER_CALL_MAX`] events a call. What it takes to know the next event that lapses is held by pages, and goes with
//! them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;

use crate::base::id::Sequence;
use crate::hub::targets::TargetId;
use crate::hub::{State, TICK};

/// Events of which one call gives up the memory, so that the lock is held for some tenths of a millisecond at the most.
const LAPSES_PER_CALL_MAX: usize = 1024;

/// Lapsed events whose numbers a channel remembers, so that streams know how many of what they missed had lapsed.
const NUMBERS_MAX: usize = 1024;

/// When an event lapses that never does.
pub(super) const NEVER: u32 = u32::MAX;

/// The tick from which on an event of this `ttl`, in seconds, has lapsed, if it is applied in the tick `now`. An event may
/// be replayed for up to a tick less than its `ttl`, and never longer.
pub(super) fn lapses_at(now: u32, ttl: Option<NonZeroU32>) -> u32 {
    let ticks_per_second = 1000 / u32::try_from(TICK.as_millis()).expect("a tick is less than a second");
    ttl.map_or(NEVER, |ttl| now.saturating_add(ttl.get().saturating_mul(ticks_per_second)))
}

/// The events of a page that lapse, by when they do.
#[derive(Debug, Default)]
pub(super) struct Lapsing(BinaryHeap<Reverse<(u32, u32)>>);

impl Lapsing {
    /// Adds an event, by its place in the page.
    pub(super) fn push(&mut self, lapses: u32, delta: u32) {
        if lapses != NEVER {
            self.0.push(Reverse((lapses, delta)));
        }
    }

    /// The tick in which the next event lapses.
    pub(super) fn next(&self) -> Option<u32> {
        self.0.peek().map(|&Reverse((lapses, _))| lapses)
    }

    /// Takes off the event that lapses next: when, and its place in the page.
    pub(super) fn pop(&mut self) -> Option<(u32, u32)> {
        self.0.pop().map(|Reverse(next)| next)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u32, u32)>()
    }
}

/// The lapsed events of a channel, since it has been in the table.
#[derive(Debug, Default)]
pub(super) struct Lapsed {
    /// How many.
    pub(super) count: u64,
    /// The numbers of the last ones in order.
    numbers: VecDeque<Sequence>,
    /// The last one of which the number is not remembered.
    forgotten_through: Sequence,
}

impl Lapsed {
    /// Takes in an event that has lapsed.
    pub(super) fn note(&mut self, sequence: Sequence) {
        self.count += 1;
        if sequence <= self.forgotten_through {
            return;
        }
        let index = self.numbers.partition_point(|&number| number < sequence);
        self.numbers.insert(index, sequence);
        if self.numbers.len() > NUMBERS_MAX
            && let Some(oldest) = self.numbers.pop_front()
        {
            self.forgotten_through = oldest;
        }
    }

    /// Forgets the numbers: no stream has a place before them that it counts from.
    pub(super) fn forget_numbers(&mut self) {
        if let Some(&last) = self.numbers.back() {
            self.forgotten_through = last;
        }
        self.numbers = VecDeque::new();
    }

    /// How many of them come after a place; `None` where that is not remembered.
    pub(super) fn count_after(&self, place: Sequence) -> Option<u64> {
        let after = || self.numbers.len() - self.numbers.partition_point(|&number| number <= place);
        (place >= self.forgotten_through).then(|| after() as u64)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Lapsed>() + self.numbers.capacity() * size_of::<Sequence>()
    }
}

impl State {
    /// Returns true if and only if the memory of something lapsed is yet to be given up.
    pub(super) fn has_lapsed(&self) -> bool {
        self.history.next_lapse().is_some_and(|tick| tick <= self.now)
    }

    /// Returns true if and only if a retained event has lapsed.
    pub(super) fn is_lapsed(&self, sequence: Sequence) -> bool {
        // Nearly always nothing that has lapsed is retained still, and no entry has to be found.
        self.has_lapsed() && self.history.entry(sequence).is_some_and(|entry| entry.lapses <= self.now)
    }

    /// Gives up what has lapsed, as far as every shard has taken it.
    pub(super) fn give_up_lapsed(&mut self, taken: Sequence) {
        for (sequence, target) in self.history.take_lapsed(self.now, taken, LAPSES_PER_CALL_MAX) {
            for _ in 0..self.lapse(target, sequence) {
                self.history.release(sequence);
            }
        }
    }

    /// Takes an event that has lapsed out of the channels that retain it; returns how many did.
    pub(super) fn lapse(&mut self, target: TargetId, sequence: Sequence) -> usize {
        let mut channels = self.targets.channels(target);
        channels.retain(|channel| self.channels.lapse(*channel, sequence));
        channels.iter().for_each(|&channel| self.note_given_up(channel));
        channels.len()
    }
}
