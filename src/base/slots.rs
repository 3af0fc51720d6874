//! A slab of values keyed by [`ConnId`]. A key never names a value that took another's slot.
//!
//! This is storage alone. The callers decide who may hold how many connections.

use super::id::ConnId;

/// Values in numbered slots. Inserting, finding and removing cost O(1). A single slot never allocates.
///
/// The id of a removed value misses for ever, even after its slot is taken again. The slot freed last is
/// reused first. Memory is never given back: the slab stays as large as it ever was.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The head of the list of free slots. [`NO_SLOT`] if and only if none is free.
    first_free: u32,
    /// How many slots are occupied.
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// The number of values that this slot held before its present or next one.
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Occupied(T),
    Free { next_free: u32 },
}

/// Ends the list of free slots. The slab never grows to this index.
const NO_SLOT: u32 = u32::MAX;

impl<T> Slots<T> {
    /// An empty slab. It owns no heap memory yet.
    #[must_use]
    pub const fn new() -> Slots<T> {
        Slots { slots: Vec::new(), first_free: NO_SLOT, len: 0 }
    }

    /// A slab that grows to `count` slots without being moved. The process pays for the memory as slots
    /// are taken. A slab that doubles leaves memory behind that it has touched, half as much again as it
    /// needs.
    ///
    /// If the system does not grant the room, the slab grows like one made by [`Slots::new`].
    #[must_use]
    pub fn with_room_for(count: usize) -> Slots<T> {
        let mut slots = Slots::new();
        let _ = slots.slots.try_reserve_exact(count);
        slots
    }

    /// Stores `value` and returns its id.
    ///
    /// # Panics
    /// When `u32::MAX` slots are in use, far more than a machine has memory for connections.
    pub fn insert(&mut self, value: T) -> ConnId {
        self.insert_with(|_| value)
    }

    /// Stores the value that `make` returns for its id.
    ///
    /// # Panics
    /// As [`Slots::insert`].
    pub fn insert_with(&mut self, make: impl FnOnce(ConnId) -> T) -> ConnId {
        let id = match self.slots.get(self.first_free as usize) {
            Some(slot) => ConnId { index: self.first_free, generation: slot.generation },
            None => self.grow(),
        };
        let value = make(id);
        let slot = &mut self.slots[id.index as usize];
        if let Content::Free { next_free } = slot.content {
            self.first_free = next_free;
        }
        slot.content = Content::Occupied(value);
        self.len += 1;
        id
    }

    /// Adds one free slot.
    fn grow(&mut self) -> ConnId {
        let index = u32::try_from(self.slots.len()).unwrap_or(NO_SLOT);
        assert_ne!(index, NO_SLOT, "the slab is out of slot numbers");
        self.slots.push(Slot { generation: 0, content: Content::Free { next_free: NO_SLOT } });
        self.first_free = index;
        ConnId { index, generation: 0 }
    }

    /// The value with this `id`. `None` if it was removed.
    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&T> {
        match self.slots.get(id.index as usize) {
            Some(Slot { generation, content: Content::Occupied(value) }) if *generation == id.generation => {
                Some(value)
            }
            Some(_) | None => None,
        }
    }

    /// As [`Slots::get`], to change it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some(Slot { generation, content: Content::Occupied(value) }) if *generation == id.generation => {
                Some(value)
            }
            Some(_) | None => None,
        }
    }

    /// The value in slot `index`, whatever its generation. `None` if the slot is free.
    pub fn get_at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize) {
            Some(Slot { content: Content::Occupied(value), .. }) => Some(value),
            Some(_) | None => None,
        }
    }

    /// The value in slot `index` and its id. `None` if the slot is free.
    #[inline]
    pub fn entry_at_mut(&mut self, index: u32) -> Option<(ConnId, &mut T)> {
        match self.slots.get_mut(index as usize) {
            Some(Slot { generation, content: Content::Occupied(value) }) => {
                Some((ConnId { index, generation: *generation }, value))
            }
            Some(_) | None => None,
        }
    }

    /// The number of slots, free ones included.
    #[must_use]
    pub fn slots_len(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("the slab refuses to grow that far")
    }

    /// The id of the value in slot `index`. `None` if the slot is free.
    #[must_use]
    pub fn id_at(&self, index: u32) -> Option<ConnId> {
        match self.slots.get(index as usize) {
            Some(Slot { generation, content: Content::Occupied(_) }) => {
                Some(ConnId { index, generation: *generation })
            }
            Some(_) | None => None,
        }
    }

    /// Removes and returns the value with this `id`. `None` if it was removed before.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        self.get(id)?;
        let slot = &mut self.slots[id.index as usize];
        let next_free = match slot.generation.checked_add(1) {
            Some(generation) => {
                slot.generation = generation;
                std::mem::replace(&mut self.first_free, id.index)
            }
            // All its generations are used: it stays unlinked, so that no id is given twice.
            None => NO_SLOT,
        };
        self.len -= 1;
        match std::mem::replace(&mut slot.content, Content::Free { next_free }) {
            Content::Occupied(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// Bytes of memory per slot.
    #[must_use]
    pub const fn slot_bytes() -> usize {
        size_of::<Slot<T>>()
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

    /// The values and their ids, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| match &slot.content {
            Content::Occupied(value) => Some((ConnId { index, generation: slot.generation }, value)),
            Content::Free { .. } => None,
        })
    }

    /// The ids of all values, by slot.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.iter().map(|(id, _)| id)
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_id_until_it_is_removed() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert("a"), slots.insert("b"));
        assert_eq!((slots.get(a), slots.get(b), slots.len()), (Some(&"a"), Some(&"b"), 2));
        *slots.get_mut(a).unwrap() = "c";
        assert_eq!((slots.remove(a), slots.remove(a), slots.get(a)), (Some("c"), None, None));
        assert_eq!((slots.len(), slots.is_empty()), (1, false));
    }

    #[test]
    fn a_stale_id_misses_the_value_that_took_its_slot() {
        let mut slots = Slots::new();
        let old = slots.insert(1);
        slots.remove(old);
        let new = slots.insert(2);
        assert_eq!((old.index, old.generation, new.generation), (new.index, 0, 1));
        assert!(slots.get(old).is_none() && slots.get_mut(old).is_none() && slots.remove(old).is_none());
        assert_eq!(slots.get(new), Some(&2));
    }

    #[test]
    fn freed_slots_are_reused_before_the_slab_grows() {
        let mut slots = Slots::new();
        let ids: Vec<ConnId> = (0..4).map(|n| slots.insert(n)).collect();
        for index in [1, 3, 0] {
            slots.remove(ids[index]);
        }
        let indexes: Vec<u32> = (0..4).map(|n| slots.insert(n).index).collect();
        assert_eq!(indexes, [0, 3, 1, 4]);
    }

    #[test]
    fn a_value_can_know_its_own_id() {
        let mut slots = Slots::new();
        let id = slots.insert_with(|id| id);
        assert_eq!(slots.get(id), Some(&id));
    }

    #[test]
    fn slots_are_reached_by_index_while_they_are_occupied() {
        let mut slots = Slots::new();
        let id = slots.insert(7);
        assert_eq!((slots.id_at(0), slots.id_at(1), slots.id_at(u32::MAX)), (Some(id), None, None));
        *slots.get_at_mut(0).unwrap() = 8;
        slots.remove(id);
        assert!(slots.id_at(0).is_none() && slots.get_at_mut(0).is_none() && slots.get_at_mut(9).is_none());
    }

    #[test]
    fn iteration_passes_over_free_slots() {
        let mut slots = Slots::new();
        let ids: Vec<ConnId> = (0..3).map(|n| slots.insert(n)).collect();
        slots.remove(ids[1]);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(ids[0], &0), (ids[2], &2)]);
        assert_eq!(slots.ids().collect::<Vec<_>>(), [ids[0], ids[2]]);
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_retired() {
        let mut slots = Slots::new();
        slots.insert(0);
        slots.slots[0].generation = u32::MAX;
        let last = slots.id_at(0).unwrap();
        assert_eq!(slots.remove(last), Some(0));
        assert_eq!((slots.get(last), slots.id_at(0)), (None, None));
        assert_eq!(slots.insert(1).index, 1);
    }
}
