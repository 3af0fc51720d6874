//! The streams of one channel in one shard, as a list of their slots.

#[cfg(test)]
use crate::base::heap::block_bytes;

/// Slots in one part of a list. A long list in one piece would be copied as it grows, and each copy
/// would leave a hole. A list in parts is not copied, and wastes at most the room of its last part.
const PART_LEN: usize = 256;

/// Smallest number of slots that a list allocates.
const ROOM_MIN: usize = 4;

/// Slots of streams, in no particular order.
#[derive(Debug)]
pub(super) enum StreamList {
    /// One stream.
    One(u32),
    /// At most as many streams as a part holds.
    Few(Vec<u32>),
    /// Streams in several parts.
    Many(Box<Parts>),
}

#[derive(Debug)]
pub(in crate::shard) struct Parts {
    full: Vec<Box<[u32]>>,
    last: Vec<u32>,
}

/// A view of a list's slots.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct StreamSlots<'s> {
    full: &'s [Box<[u32]>],
    last: &'s [u32],
}

impl<'s> StreamSlots<'s> {
    /// A view of these slots.
    #[must_use]
    pub(in crate::shard) fn of(slots: &'s [u32]) -> StreamSlots<'s> {
        StreamSlots { full: &[], last: slots }
    }

    /// The slots, part by part.
    #[inline]
    pub(in crate::shard) fn parts(self) -> impl Iterator<Item = &'s [u32]> {
        self.full.iter().map(|part| &part[..]).chain([self.last])
    }

    /// The number of slots.
    #[must_use]
    pub(in crate::shard) fn len(self) -> usize {
        self.full.len() * PART_LEN + self.last.len()
    }

    /// Returns true if there are none.
    #[must_use]
    pub(in crate::shard) fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl StreamList {
    /// A list without streams, which needs no memory.
    pub(super) const EMPTY: StreamList = StreamList::Few(Vec::new());

    /// A view of all slots.
    #[inline]
    pub(in crate::shard) fn slots(&self) -> StreamSlots<'_> {
        match self {
            StreamList::One(slot) => StreamSlots::of(std::slice::from_ref(slot)),
            StreamList::Few(slots) => StreamSlots::of(slots),
            StreamList::Many(parts) => StreamSlots { full: &parts.full, last: &parts.last },
        }
    }

    /// Adds a slot at the end, and returns its position.
    pub(in crate::shard) fn push(&mut self, slot: u32) -> usize {
        let position = self.slots().len();
        match self {
            StreamList::Few(slots) if slots.is_empty() => *self = StreamList::One(slot),
            StreamList::One(first) => {
                let mut slots = Vec::with_capacity(ROOM_MIN);
                slots.extend([*first, slot]);
                *self = StreamList::Few(slots);
            }
            StreamList::Few(slots) if slots.len() == PART_LEN => {
                let full = vec![std::mem::take(slots).into_boxed_slice()];
                let mut parts = Box::new(Parts { full, last: Vec::new() });
                parts.push(slot);
                *self = StreamList::Many(parts);
            }
            StreamList::Few(slots) => push_with_little_room(slots, slot),
            StreamList::Many(parts) => parts.push(slot),
        }
        position
    }

    /// Removes the slot at a position and moves the last slot there. Returns that slot, unless it was
    /// the removed one.
    ///
    /// # Panics
    /// If there is no such position.
    pub(super) fn swap_remove(&mut self, position: usize) -> Option<u32> {
        match self {
            StreamList::One(_) => {
                assert_eq!(position, 0, "a list of one stream has one position");
                *self = StreamList::EMPTY;
                None
            }
            StreamList::Few(slots) => {
                slots.swap_remove(position);
                let moved = slots.get(position).copied();
                if let &[only] = &slots[..] {
                    *self = StreamList::One(only);
                } else {
                    shrink(slots);
                }
                moved
            }
            StreamList::Many(parts) => {
                let last = parts.pop();
                let moved = parts.get_mut(position).map(|slot| {
                    *slot = last;
                    last
                });
                if parts.full.is_empty() {
                    *self = StreamList::Few(std::mem::take(&mut parts.last));
                }
                moved
            }
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let list_bytes = |slots: &Vec<u32>| block_bytes(slots.capacity() * size_of::<u32>());
        match self {
            StreamList::One(_) => 0,
            StreamList::Few(slots) => list_bytes(slots),
            StreamList::Many(parts) => {
                let full = parts.full.len() * block_bytes(PART_LEN * size_of::<u32>());
                let list = block_bytes(parts.full.capacity() * size_of::<Box<[u32]>>());
                block_bytes(size_of::<Parts>()) + list + full + list_bytes(&parts.last)
            }
        }
    }
}

impl Parts {
    fn push(&mut self, slot: u32) {
        if self.last.len() == PART_LEN {
            self.full.push(std::mem::take(&mut self.last).into_boxed_slice());
        }
        if self.last.is_empty() {
            self.last.reserve_exact(PART_LEN);
        }
        self.last.push(slot);
    }

    /// Removes the last slot. The list is not empty: without a full part it would be a
    /// [`StreamList::Few`].
    fn pop(&mut self) -> u32 {
        loop {
            if let Some(slot) = self.last.pop() {
                return slot;
            }
            self.last = self.full.pop().expect("a list of several parts is not empty").into_vec();
        }
    }

    fn get_mut(&mut self, position: usize) -> Option<&mut u32> {
        match position.checked_sub(self.full.len() * PART_LEN) {
            Some(position) => self.last.get_mut(position),
            None => self.full[position / PART_LEN].get_mut(position % PART_LEN),
        }
    }
}

/// Adds a slot. A full list grows by an eighth instead of doubling.
fn push_with_little_room(slots: &mut Vec<u32>, slot: u32) {
    let len = slots.len();
    if len == slots.capacity() {
        slots.reserve_exact((len / 8).max(ROOM_MIN).min(PART_LEN - len));
    }
    slots.push(slot);
}

/// Shrinks a list that has much more room than it needs.
fn shrink(part: &mut Vec<u32>) {
    if part.capacity() > 64 && part.len() < part.capacity() / 4 {
        part.shrink_to(part.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    fn all(list: &StreamList) -> Vec<u32> {
        list.slots().parts().flatten().copied().collect()
    }

    #[test]
    fn a_list_is_what_a_plain_one_is() {
        let (mut random, mut list, mut plain) = (SplitMix64::new(8), StreamList::EMPTY, Vec::new());
        for step in 0..30_000_u32 {
            // Over seven thousand steps it grows to several parts, and over the next seven thousand it
            // empties.
            if random.within(0..=9) < if step / 7000 % 2 == 0 { 7 } else { 2 } {
                assert_eq!(list.push(step), plain.len());
                plain.push(step);
            } else if !plain.is_empty() {
                let position = random.within(0..=plain.len() - 1);
                plain.swap_remove(position);
                assert_eq!(list.swap_remove(position), plain.get(position).copied());
            }
            assert_eq!((list.slots().len(), list.slots().is_empty()), (plain.len(), plain.is_empty()));
            if step % 100 == 0 {
                assert_eq!(all(&list), plain);
            }
        }
    }

    #[test]
    fn a_list_takes_little_more_than_its_slots() {
        assert_eq!(size_of::<StreamList>(), size_of::<Vec<u32>>());
        let mut list = StreamList::EMPTY;
        for len in 1..20_000 {
            list.push(0);
            let most = match len {
                1 => 0,
                2..=PART_LEN => len * 9 / 2 + 48,
                // The last part, and the list of the full parts, which doubles.
                _ => len * 33 / 8 + PART_LEN * 4 + len / 8 + 128,
            };
            assert!(list.heap_bytes() <= most, "{} bytes for {len}", list.heap_bytes());
        }
    }
}
