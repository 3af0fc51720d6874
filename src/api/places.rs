//! The places of an answer: one for each envelope of a request, with the source of its id.

use crate::base::id::EventId;

/// The envelopes of a request or of a part of it, in order: the event in the batch for each of them, and
/// the ids that publishers gave. With idempotency keys, an envelope may share its event with an earlier
/// envelope, or its event may have been published before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    len: u64,
    /// The ids that publishers gave, with their places.
    own: Vec<(u64, Box<str>)>,
    /// The entry of each place. `None` until an envelope has an idempotency key: until then each place
    /// has its own event.
    entries: Option<Vec<Entry>>,
}

/// The entry of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// The event with this index in the batch.
    Event(usize),
    /// An event that was published before.
    Known(EventId),
}

impl Places {
    /// Adds a place for the event with the index `event` in the batch, and the id that its publisher
    /// gave it. The event is in the batch, or is added to its end next.
    pub(super) fn push(&mut self, event: usize, own_id: Option<&str>) {
        if let Some(own_id) = own_id {
            self.own.push((self.len, Box::from(own_id)));
        }
        if let Some(entries) = &mut self.entries {
            entries.push(Entry::Event(event));
        }
        self.len += 1;
    }

    /// Records that an envelope has an idempotency key. Until then each place has its own event.
    pub(super) fn note_key(&mut self) {
        let len = usize::try_from(self.len).expect("as many envelopes as memory holds");
        self.entries.get_or_insert_with(|| (0..len).map(Entry::Event).collect());
    }

    /// How many places there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if there are no places.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many different events of the batch the places refer to.
    #[must_use]
    pub fn events(&self) -> u64 {
        let Some(entries) = &self.entries else { return self.len };
        let behind = |entry: &Entry| match entry {
            Entry::Event(event) => *event as u64 + 1,
            Entry::Known(_) => 0,
        };
        entries.iter().map(behind).max().unwrap_or(0)
    }

    /// How many places repeat the event of another place, or one that was published before; `None` if no
    /// envelope has an idempotency key.
    #[must_use]
    pub fn duplicates(&self) -> Option<u64> {
        self.entries.as_ref().map(|_| self.len - self.events())
    }

    /// Drops the place of the event with the index `event` in the batch, and all places after it.
    pub fn truncate(&mut self, event: usize) {
        let end = match &mut self.entries {
            None => event as u64,
            Some(entries) => {
                let end = entries.iter().position(|entry| matches!(entry, Entry::Event(at) if *at >= event));
                let end = end.unwrap_or(entries.len());
                entries.truncate(end);
                end as u64
            }
        };
        self.len = self.len.min(end);
        self.own.retain(|&(place, _)| place < end);
    }

    /// Fills in the ids of events that were published before and leave the batch. `known` contains their
    /// indices in it, in order.
    pub fn fill_in(&mut self, known: &[(usize, EventId)]) {
        self.note_key();
        for entry in self.entries.iter_mut().flatten() {
            if let Entry::Event(event) = *entry {
                *entry = match known.binary_search_by_key(&event, |&(known, _)| known) {
                    Ok(index) => Entry::Known(known[index].1),
                    Err(before) => Entry::Event(event - before),
                };
            }
        }
    }

    /// The ids that publishers gave, with their places.
    pub(super) fn own_ids(&self) -> &[(u64, Box<str>)] {
        &self.own
    }

    /// The ids of all places as series of consecutive ids: the first id and the length of each. `first`
    /// is the id of the batch's first event, if there is one.
    pub(super) fn ranges(&self, first: Option<EventId>) -> Vec<(EventId, u64)> {
        let mut ranges = Vec::new();
        match (&self.entries, first) {
            (None, first) => ranges.extend(first.map(|first| (first, self.len))),
            (Some(entries), first) => {
                for entry in entries {
                    let id = match (*entry, first) {
                        (Entry::Known(id), _) => id,
                        (Entry::Event(event), Some(first)) => first.plus(event as u64),
                        (Entry::Event(_), None) => continue,
                    };
                    push_range(&mut ranges, (id, 1));
                }
            }
        }
        ranges
    }
}

/// Adds a series of ids. If it continues the last one, it extends that.
pub(super) fn push_range(ranges: &mut Vec<(EventId, u64)>, (first, count): (EventId, u64)) {
    match ranges.last_mut() {
        Some((start, len)) if start.plus(*len) == first => *len += count,
        _ => ranges.push((first, count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{EpochTag, Sequence};

    fn id(number: u64) -> EventId {
        EventId { tag: EpochTag::from_bits(0), sequence: Sequence(number) }
    }

    /// Five envelopes. The third repeats the first.
    fn five() -> Places {
        let mut places = Places::default();
        places.push(0, Some("own"));
        places.push(1, None);
        places.note_key();
        places.push(0, Some("own"));
        places.push(2, None);
        places.push(3, Some("last"));
        places
    }

    #[test]
    fn envelopes_without_keys_are_an_event_each() {
        let mut places = Places::default();
        (0..3).for_each(|event| places.push(event, None));
        assert_eq!((places.len(), places.events(), places.duplicates()), (3, 3, None));
        assert_eq!(places.ranges(Some(id(7))), [(id(7), 3)]);
        places.truncate(1);
        assert_eq!((places.len(), places.ranges(Some(id(7)))), (1, vec![(id(7), 1)]));
    }

    #[test]
    fn a_repeated_envelope_has_the_id_of_the_first_one() {
        let places = five();
        assert_eq!((places.len(), places.events(), places.duplicates()), (5, 4, Some(1)));
        assert_eq!(places.ranges(Some(id(7))), [(id(7), 2), (id(7), 1), (id(9), 2)]);
    }

    #[test]
    fn events_that_were_published_before_leave_the_numbers_of_the_others_without_a_hole() {
        let mut places = five();
        places.fill_in(&[(0, id(100)), (2, id(3))]);
        assert_eq!((places.events(), places.duplicates()), (2, Some(3)));
        let expected = [(id(100), 1), (id(7), 1), (id(100), 1), (id(3), 1), (id(8), 1)];
        assert_eq!(places.ranges(Some(id(7))), expected);
        places.fill_in(&[(0, id(50)), (1, id(51))]);
        assert_eq!((places.events(), places.duplicates()), (0, Some(5)));
        assert_eq!(places.ranges(None)[1], (id(50), 1));
    }

    #[test]
    fn dropped_places_lose_their_ids() {
        let mut places = five();
        places.truncate(2);
        assert_eq!((places.len(), places.events(), places.duplicates()), (3, 2, Some(1)));
        assert_eq!(places.own_ids().len(), 2);
        places.truncate(2);
        assert_eq!(places.len(), 3);
        places.truncate(0);
        assert_eq!((places.len(), places.events(), places.own_ids().len()), (0, 0, 0));
    }
}
