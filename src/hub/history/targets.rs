//! The target of an event: which channels it went to, as one small number for each entry of the history.

use std::hash::{BuildHasher, RandomState};

use smallvec::SmallVec;

use crate::base::hashed::Hashed;
use crate::base::heap::small_block_bytes;
use crate::base::parts::Parts;
use crate::hub::channel_id::ChannelId;

/// The target of an event: one channel, or a set of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetId(u32);

/// Marks a set of several channels.
const SET: u32 = 1 << 31;

/// The number of sets for which the table by channels has address space from the start: one that
/// outgrows its room is moved as a whole.
const SETS_ROOM: usize = 1 << 20;

/// The number of sets, and of free places, that lie together, as powers of two.
const SETS_LOG2: u32 = 10;
const FREE_LOG2: u32 = 12;

/// The sets of several channels. A single channel needs no set. Events to the same channels share one
/// set.
#[derive(Debug)]
pub(in crate::hub) struct Targets {
    sets: Parts<Option<Set>, SETS_LOG2>,
    by_channels: Hashed,
    free: Parts<u32, FREE_LOG2>,
    bytes: usize,
    /// Hashes sets in a way that no peer can predict.
    hasher: RandomState,
}

#[derive(Debug)]
struct Set {
    channels: Box<[ChannelId]>,
    /// The number of history entries with this target.
    entries: u32,
}

impl Targets {
    pub(in crate::hub) fn new() -> Targets {
        Targets {
            sets: Parts::default(),
            by_channels: Hashed::with_room_for(SETS_ROOM),
            free: Parts::default(),
            bytes: 0,
            hasher: RandomState::new(),
        }
    }

    /// Returns the target for these channels: at least one, each once. It must be given up by
    /// [`Targets::forget`] once for each time it was entered.
    pub(in crate::hub) fn enter(&mut self, channels: &[ChannelId]) -> TargetId {
        if let [channel] = channels {
            return TargetId(channel.0);
        }
        let hash = self.hash(channels);
        let has_these =
            |slot: u32| self.sets[slot as usize].as_ref().is_some_and(|set| *set.channels == *channels);
        if let Some(&slot) = self.by_channels.get(hash, has_these) {
            let set =
                self.sets[slot as usize].as_mut().expect("a set that is known by its channels is there");
            set.entries += 1;
            return TargetId(SET | slot);
        }
        self.bytes += set_bytes(channels);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            u32::try_from(self.sets.len() - 1).expect("sets are bounded by the history")
        });
        self.by_channels.insert(hash, slot);
        self.sets[slot as usize] = Some(Set { channels: channels.into(), entries: 1 });
        TargetId(SET | slot)
    }

    /// Gives up a target once. When it was given up as often as it was entered, its number may name
    /// another set.
    pub(in crate::hub) fn forget(&mut self, target: TargetId) {
        if target.0 & SET == 0 {
            return;
        }
        let slot = target.0 & !SET;
        let Some(set) = &mut self.sets[slot as usize] else { return };
        set.entries -= 1;
        if set.entries == 0
            && let Some(set) = self.sets[slot as usize].take()
        {
            self.bytes -= set_bytes(&set.channels);
            self.by_channels.remove(self.hash(&set.channels), |other| other == slot);
            self.free.push(slot);
        }
    }

    fn hash(&self, channels: &[ChannelId]) -> u32 {
        (self.hasher.hash_one(channels) >> 32) as u32
    }

    /// Calls `visit` with each channel of a target.
    #[inline]
    pub(in crate::hub) fn for_each(&self, target: TargetId, mut visit: impl FnMut(ChannelId)) {
        if target.0 & SET == 0 {
            visit(ChannelId(target.0));
        } else if let Some(set) = &self.sets[(target.0 & !SET) as usize] {
            set.channels.iter().for_each(|&channel| visit(channel));
        }
    }

    /// Returns the channels of a target.
    pub(in crate::hub) fn channels(&self, target: TargetId) -> SmallVec<[ChannelId; 4]> {
        let mut channels = SmallVec::new();
        self.for_each(target, |channel| channels.push(channel));
        channels
    }

    /// The bytes held for sets.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The cost of a set in bytes: its channels, its place in the list and in the list of free places, and
/// its entry in the hash table, which may have a fifth free.
fn set_bytes(channels: &[ChannelId]) -> usize {
    small_block_bytes(size_of_val(channels)) + size_of::<Option<Set>>() + size_of::<u32>() + 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_to_the_same_channels_have_one_target_until_all_are_given_up() {
        let mut targets = Targets::new();
        let (a, b, c) = (ChannelId(1), ChannelId(2), ChannelId(3));
        let first = targets.enter(&[a, b]);
        assert_eq!(targets.enter(&[a, b]), first);
        assert_ne!(targets.enter(&[a, c]), first);
        targets.forget(first);
        assert_eq!(targets.channels(first)[..], [a, b]);
        targets.forget(first);
        assert_eq!(targets.enter(&[b, c]), first, "its number is free");
        targets.forget(first);
        for _ in 0..2 {
            let again = targets.enter(&[a, c]); // Each time entered once more and given up once more.
            targets.forget(again);
        }
        let last = targets.enter(&[a, c]);
        (0..2).for_each(|_| targets.forget(last));
        assert_eq!(targets.bytes(), 0);
    }
}
