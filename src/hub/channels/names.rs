//! The names of the channels in the table, found by number and by name.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::base::hashed::Hashed;
use crate::base::texts::{Place, Texts};
use crate::hub::channel_id::ChannelId;

/// The names. The texts share pages; the hash table holds only the channels' numbers.
#[derive(Debug)]
pub(in crate::hub) struct Names {
    texts: Texts,
    /// The place of each number's text; [`Place::NONE`] for a free number.
    places: Vec<Place>,
    free: Vec<ChannelId>,
    by_name: Hashed,
    /// Hashes names in a way that no peer can predict.
    hasher: RandomState,
}

impl Names {
    /// Creates an empty table with address space for `room` names: a table that outgrows its room is
    /// moved as a whole.
    pub(in crate::hub) fn with_room_for(room: usize) -> Names {
        let (mut places, mut free) = (Vec::new(), Vec::new());
        let _ = places.try_reserve_exact(room);
        let _ = free.try_reserve_exact(room);
        Names {
            texts: Texts::default(),
            places,
            free,
            by_name: Hashed::with_room_for(room),
            hasher: RandomState::new(),
        }
    }

    /// Counts the names.
    pub(in crate::hub) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Counts the numbers in use and the free ones.
    pub(super) fn numbers_len(&self) -> usize {
        self.places.len()
    }

    /// The numbers of a range that have names.
    ///
    /// # Panics
    /// If the range ends beyond [`Names::numbers_len`].
    pub(in crate::hub) fn numbers(&self, range: Range<usize>) -> impl Iterator<Item = ChannelId> {
        let numbers = range.clone().zip(&self.places[range]).filter(|(_, place)| **place != Place::NONE);
        numbers.filter_map(|(number, _)| u32::try_from(number).ok().map(ChannelId))
    }

    /// Returns true if this number has a name.
    pub(in crate::hub) fn has(&self, id: ChannelId) -> bool {
        self.places.get(id.0 as usize).is_some_and(|&place| place != Place::NONE)
    }

    /// Finds the number of a name.
    #[inline]
    pub(in crate::hub) fn find(&self, name: &str) -> Option<ChannelId> {
        let is_it = |number: u32| self.texts.get(self.places[number as usize]) == name;
        self.by_name.get(self.hash(name), is_it).map(|&number| ChannelId(number))
    }

    /// Returns the name of a number, or `None` if the number is free.
    #[inline]
    pub(in crate::hub) fn name(&self, id: ChannelId) -> Option<&str> {
        let place = self.places.get(id.0 as usize).filter(|&&place| place != Place::NONE)?;
        Some(self.texts.get(*place))
    }

    /// Gives a new name a free number, or else the next one.
    pub(in crate::hub) fn insert(&mut self, name: &str) -> ChannelId {
        let place = self.texts.insert(name);
        let id = match self.free.pop() {
            Some(id) => {
                self.places[id.0 as usize] = place;
                id
            }
            None => {
                self.places.push(place);
                let number = u32::try_from(self.places.len() - 1);
                ChannelId(number.expect("channels are bounded far below 2^31"))
            }
        };
        self.by_name.insert(self.hash(name), id.0);
        self.tidy();
        id
    }

    /// Removes the name of a number, if it has one.
    pub(in crate::hub) fn remove(&mut self, id: ChannelId) {
        let Some(hash) = self.name(id).map(|name| self.hash(name)) else { return };
        self.by_name.remove(hash, |number| number == id.0);
        let place = std::mem::replace(&mut self.places[id.0 as usize], Place::NONE);
        self.texts.remove(place);
        self.free.push(id);
        self.tidy();
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.texts.bytes() + self.by_name.bytes() + self.by_name.len() * size_of::<Place>()
    }

    /// Moves the texts of sparse pages together.
    fn tidy(&mut self) {
        while let Some(page) = self.texts.take_sparse() {
            for (place, name) in page.texts() {
                let hash = self.hash(name);
                let stands_there = |number: u32| self.places[number as usize] == place;
                if let Some(&number) = self.by_name.get(hash, stands_there) {
                    self.places[number as usize] = self.texts.insert(name);
                }
            }
            self.texts.give_back(page);
        }
    }

    #[inline]
    fn hash(&self, name: &str) -> u32 {
        (self.hasher.hash_one(name) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::random::SplitMix64;

    #[test]
    fn names_and_numbers_agree_with_a_plain_map() {
        let (mut names, mut random) = (Names::with_room_for(1000), SplitMix64::new(2));
        let mut plain: HashMap<String, ChannelId> = HashMap::new();
        for step in 0..30_000 {
            let kind = ["room:", "\u{1}user:", "größe/", ""][random.within(0..=3)];
            let name = format!("{kind}{}", random.within(0..=3000));
            match plain.get(&name).copied() {
                // The table fills for ten thousand steps, empties for as many, and fills again.
                Some(id) if random.within(0..=9) < if step / 10_000 == 1 { 9 } else { 2 } => {
                    names.remove(id);
                    plain.remove(&name);
                    assert_eq!((names.find(&name), names.name(id)), (None, None));
                }
                Some(id) => assert_eq!((names.find(&name), names.name(id)), (Some(id), Some(&*name))),
                None => {
                    assert_eq!(names.find(&name), None);
                    let id = names.insert(&name);
                    assert!(plain.values().all(|&other| other != id), "a number is one name's");
                    plain.insert(name, id);
                }
            }
            if step % 1000 == 0 {
                assert!(
                    plain
                        .iter()
                        .all(|(name, &id)| { names.find(name) == Some(id) && names.name(id) == Some(name) })
                );
            }
        }
        for &id in plain.values() {
            names.remove(id);
        }
        assert!(names.bytes() <= 8192, "{} bytes for nothing", names.bytes());
    }

    #[test]
    fn a_table_that_fills_its_room_is_not_moved() {
        let mut names = Names::with_room_for(20_000);
        let room = names.places.as_ptr();
        let first = names.insert("0");
        (1..20_000).for_each(|number| assert_ne!(names.insert(&number.to_string()), first));
        assert_eq!((names.places.as_ptr(), names.places.capacity()), (room, 20_000));
        (0..20_000).for_each(|number| names.remove(ChannelId(number)));
        assert_eq!((names.len(), names.free.capacity()), (0, 20_000));
    }

    #[test]
    fn a_name_costs_little_beside_its_text() {
        let mut names = Names::with_room_for(1000);
        for number in 0..15_000 {
            names.insert(&format!("user-{number:05}"));
        }
        let each = names.bytes() as f64 / 15_000.0;
        assert!(each <= 10.0 + 4.0 + 4.0 + 10.7, "{each:.1} bytes");
    }
}
