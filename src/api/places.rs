//! The places of an answer: one for each envelope of a request, and where its id comes from.

use crate::base::id::EventId;

/// The envelopes of a request, or of a part of it, in their order: which event of the batch each of them is, and the ids
/// that publishers gave. Where idempotency keys are given, an envelope may be an event that another one is too, or one
/// that was published before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    len: u64,
    /// The ids that publishers gave, each with its place.
    own: Vec<(u64, Box<str>)>,
    /// What stands in each place. `None` as long as no envelope had an idempotency key: each is an event of its own then.
    entries: Option<Vec<Entry>>,
}

/// What stands in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// The event at this place of the batch.
    Event(usize),
    /// One that was published before.
    Known(EventId),
}

impl Places {
    /// Adds a place for the event at `event` of the batch, which the batch has or is about to get as its last, with the
    /// id that its publisher gave it.
    pub(super) fn push(&mut self, event: usize, own_id: Option<&str>) {
        if let Some(own_id) = own_id {
            self.own.push((self.len, Box::from(own_id)));
        }
        if let Some(entries) = &mut self.entries {
            entries.push(Entry::Event(event));
        }
        self.len += 1;
    }

    /// Notes that an envelope has an idempotency key. Until then each place is an event of its own.
    pub(super) fn note_key(&mut self) {
        let len = usize::try_from(self.len).expect("as many envelopes as memory holds");
        self.entries.get_or_insert_with(|| (0..len).map(Entry::Event).collect());
    }

    /// How many places there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if and only if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many events of the batch there are places for, each counted once.
    #[must_use]
    pub fn events(&self) -> u64 {
        let Some(entries) = &self.entries else { return self.len };
        let behind = |entry: &Entry| match entry {
            Entry::Event(event) => *event as u64 + 1,
            Entry::Known(_) => 0,
        };
        entries.iter().map(behind).max().unwrap_or(0)
    }

    /// How many places hold what another one holds too, or what was published before; `None` where no envelope had an
    /// idempotency key.
    #[must_use]
    pub fn duplicates(&self) -> Option<u64> {
        self.entries.as_ref().map(|_| self.len - self.events())
    }

    /// Drops the places from that of the event at `event` of the batch on.
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

    /// Fills in the ids of events that were published before, which leave the batch. `known` are their places in it, in
    /// order.
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

    /// The ids that publishers gave, each with its place.
    pub(super) fn own_ids(&self) -> &[(u64, Box<str>)] {
        &self.own
    }

    /// The ids in all places as stretches without a hole: the first id of each, and how many they are. `first` is that
    /// of the batch's first event, where there is one.
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

/// Adds a stretch of ids behind others, to the last one where it continues that.
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

    /// Five envelopes, of which the third is the first again.
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
    fn an_envelope_that_came_before_holds_its_first_id() {
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
    fn what_is_cut_off_takes_its_ids_along() {
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
