//! The ledger of a channel's events.

use crate::base::id::Sequence;
use crate::base::name::prefix_of;
use crate::hub::channels::lapsed::Lapsed;
use crate::hub::channels::numbers::Numbers;
use crate::record::targets::is_channel;

/// The ledger of the events of one channel or pattern. How these fields decide what is lost is described
/// in [`crate::hub::channels::lost`].
#[derive(Debug)]
pub(in crate::hub) struct Ledger {
    /// The numbers of its retained events, in order. A pattern retains none.
    pub(in crate::hub) retained: Numbers,
    /// Its last event that was given up without having lapsed.
    pub(in crate::hub) evicted_through: Sequence,
    /// The number of events given up since it entered the table, without those that lapsed.
    pub(super) evicted_count: u64,
    /// Its lapsed events, if it has any.
    pub(in crate::hub) lapsed: Option<Box<Lapsed>>,
    /// Its history was dropped up to this place. Events up to here may still be retained for shards, but
    /// no reader gets them.
    pub(in crate::hub) dropped_through: Sequence,
    /// Its last event since it entered the table, retained or not.
    pub(in crate::hub) last: Sequence,
    /// It is in the list of channels whose oldest events must be given up.
    pub(in crate::hub) is_over: bool,
}

impl Ledger {
    /// The ledger of a channel that had no events.
    pub(super) const BLANK: Ledger = Ledger {
        retained: Numbers::None,
        evicted_through: Sequence::START,
        evicted_count: 0,
        lapsed: None,
        dropped_through: Sequence::START,
        last: Sequence::START,
        is_over: false,
    };

    /// Returns true if and only if it equals [`Ledger::BLANK`].
    pub(super) fn is_blank(&self) -> bool {
        let Ledger { retained, evicted_through, evicted_count, lapsed, dropped_through, last, is_over } =
            self;
        let places = [*evicted_through, *dropped_through, *last];
        retained.is_empty()
            && places == [Sequence::START; 3]
            && *evicted_count == 0
            && lapsed.is_none()
            && !is_over
    }

    /// The last of its events that no reader can get any more.
    pub(in crate::hub) fn lost_through(&self) -> Sequence {
        self.evicted_through.max(self.dropped_through)
    }

    /// Returns the index of the first retained event after `place` that can be read.
    pub(in crate::hub) fn index_after(&self, place: Sequence) -> usize {
        let place = place.max(self.dropped_through);
        self.retained.count_through(place)
    }

    /// Returns true if the event is retained and can be read.
    pub(in crate::hub) fn holds(&self, sequence: Sequence) -> bool {
        sequence > self.dropped_through && self.retained.index_of(sequence).is_some()
    }

    /// The numbers of the events that can be read, in order.
    pub(in crate::hub) fn readable(&self) -> impl DoubleEndedIterator<Item = Sequence> + ExactSizeIterator {
        self.retained.from(self.index_after(Sequence::START))
    }

    /// Counts its events up to `place` since it entered the table. Exact only if no event after `place`
    /// was evicted or has lapsed, which holds for every shard's cursor.
    pub(in crate::hub) fn count_taken(&self, place: Sequence) -> u64 {
        let lapsed = self.lapsed.as_ref().map_or(0, |lapsed| lapsed.count);
        self.evicted_count + lapsed + self.retained.count_through(place) as u64
    }

    /// Counts its events up to `place` since it entered the table. Events evicted after `place` are
    /// counted too. Returns `None` if it is no longer known how many events after `place` have lapsed.
    pub(in crate::hub) fn count_through(&self, place: Sequence) -> Option<u64> {
        let lapsed_after = self.lapsed.as_ref().map_or(Some(0), |lapsed| lapsed.count_after(place))?;
        Some(self.count_taken(place) - lapsed_after)
    }

    /// As [`Ledger::count_through`], plus the events after `place` that a drop has lost and that are
    /// still retained for shards.
    pub(in crate::hub) fn count_through_or_lost(&self, place: Sequence) -> Option<u64> {
        let lost_through = |place: Sequence| {
            let lapsed = self.lapsed.as_ref().map_or(0, |lapsed| lapsed.count_dropped_through(place));
            self.retained.count_through(place) - lapsed
        };
        let dropped = lost_through(self.dropped_through) - lost_through(self.dropped_through.min(place));
        Some(self.count_through(place)? + dropped as u64)
    }

    /// The bytes it holds on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.retained.bytes() + self.lapsed.as_ref().map_or(0, |lapsed| lapsed.bytes())
    }
}

/// Returns what the names of a pattern's channels begin with, or `None` if `name` is not a pattern.
pub(in crate::hub) fn pattern_prefix(name: &str) -> Option<&str> {
    prefix_of(name).filter(|_| is_channel(name))
}
