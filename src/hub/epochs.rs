//! The epochs of the history, and so which ids this server knows.

use crate::base::id::{EpochTag, EventId, Sequence};

/// A stretch of the sequence that the log vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    tag: EpochTag,
    /// The number of its first event. The place before it belongs to the epoch too.
    first: Sequence,
    /// The number of its last event so far, or `first - 1` while it has none.
    last: Sequence,
}

/// The epochs that the log still holds, oldest first; the last one is open.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<Epoch>);

impl Epochs {
    /// Opens an epoch that continues after the last number of the one before.
    ///
    /// # Panics
    /// If `first` does not come after the last event of the epoch before: the order could not be vouched
    /// for.
    pub(super) fn begin(&mut self, tag: EpochTag, first: Sequence) {
        assert!(first > Sequence::START, "numbers begin at 1");
        if let Some(open) = self.0.last() {
            assert!(first > open.last, "epoch {tag} begins at {first}, not behind {}", open.last);
        }
        self.0.push(Epoch { tag, first, last: Sequence(first.0 - 1) });
    }

    /// Extends the open epoch to `last`.
    ///
    /// # Panics
    /// If no epoch is open, or `first` does not continue it.
    pub(super) fn extend(&mut self, first: Sequence, last: Sequence) -> EpochTag {
        let open = self.0.last_mut().expect("the log begins an epoch before it commits");
        assert!(first == open.last.next(), "event {first} does not continue {}", open.last);
        open.last = last;
        open.tag
    }

    /// Returns the last number of all epochs.
    pub(super) fn head(&self) -> Sequence {
        self.0.last().map_or(Sequence::START, |open| open.last)
    }

    /// Returns the place before the first event of the oldest epoch.
    pub(super) fn start(&self) -> Sequence {
        self.0.first().map_or(Sequence::START, |oldest| Sequence(oldest.first.0 - 1))
    }

    /// Returns true if an epoch has this tag.
    pub(super) fn knows(&self, tag: EpochTag) -> bool {
        self.0.iter().any(|epoch| epoch.tag == tag)
    }

    /// Returns the place that `id` names, or `None` if and only if no epoch vouches for it.
    pub(super) fn place_of(&self, id: EventId) -> Option<Sequence> {
        let epoch = self.0.iter().find(|epoch| epoch.tag == id.tag)?;
        (id.sequence.next() >= epoch.first && id.sequence <= epoch.last).then_some(id.sequence)
    }

    /// Returns the id of a place, in the newest epoch that has the place.
    pub(super) fn id_of(&self, place: Sequence) -> Option<EventId> {
        let epoch = self.0.iter().rev().find(|epoch| place.next() >= epoch.first)?;
        Some(EventId { tag: epoch.tag, sequence: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bits: u64, number: u64) -> EventId {
        EventId { tag: EpochTag::from_bits(bits), sequence: Sequence(number) }
    }

    fn two_epochs() -> Epochs {
        let mut epochs = Epochs::default();
        epochs.begin(EpochTag::from_bits(1), Sequence(1));
        epochs.extend(Sequence(1), Sequence(90));
        epochs.begin(EpochTag::from_bits(2), Sequence(91));
        epochs
    }

    #[test]
    fn an_id_is_known_if_and_only_if_its_number_lies_in_its_epoch() {
        let mut epochs = two_epochs();
        for (bits, number, known) in [
            (1, 0, true),
            (1, 90, true),
            (1, 91, false),
            (2, 90, true),
            (2, 91, false),
            (2, 89, false),
            (3, 1, false),
        ] {
            assert_eq!(epochs.place_of(id(bits, number)).is_some(), known, "{bits}.{number}");
        }
        epochs.extend(Sequence(91), Sequence(91));
        assert_eq!(epochs.place_of(id(2, 91)), Some(Sequence(91)));
    }

    #[test]
    fn a_place_at_the_seam_has_the_newer_epochs_id() {
        let epochs = two_epochs();
        assert_eq!(epochs.id_of(Sequence(90)), Some(id(2, 90)));
        assert_eq!(epochs.id_of(Sequence(89)), Some(id(1, 89)));
        assert_eq!(epochs.head(), Sequence(90));
    }

    #[test]
    #[should_panic(expected = "does not continue")]
    fn a_hole_in_an_epoch_is_a_broken_invariant() {
        two_epochs().extend(Sequence(92), Sequence(93));
    }
}
