//! What is remembered of a channel's events.

use crate::base::id::Sequence;
use crate::base::name::prefix_of;
use crate::frame::batch::is_channel;
use crate::hub::channels::lapsed::Lapsed;
use crate::hub::channels::numbers::Numbers;

/// What is remembered of the events of one channel, or of one pattern. One that had none has none of this.
#[derive(Debug)]
pub(in crate::hub) struct Record {
    /// The numbers of its retained events, in order.
    pub(in crate::hub) retained: Numbers,
    /// The last of its events that is no longer retained though it had not lapsed.
    pub(in crate::hub) evicted_through: Sequence,
    /// How many of its events are no longer retained, since it has been in the table, but for those that lapsed.
    pub(super) evicted_count: u64,
    /// Its events that lapsed, where any did.
    pub(in crate::hub) lapsed: Option<Box<Lapsed>>,
    /// Its history was dropped up to here: what is still retained of that is for nobody to read.
    pub(in crate::hub) dropped_through: Sequence,
    /// Its last event since it has been in the table, retained or not.
    pub(in crate::hub) last: Sequence,
    /// It waits for its oldest events to be given up.
    pub(in crate::hub) is_over: bool,
}

impl Record {
    /// What is remembered of a channel that had no events.
    pub(super) const BLANK: Record = Record {
        retained: Numbers::None,
        evicted_through: Sequence::START,
        evicted_count: 0,
        lapsed: None,
        dropped_through: Sequence::START,
        last: Sequence::START,
        is_over: false,
    };

    /// Returns true if and only if it says no more than that there were no events.
    pub(super) fn is_blank(&self) -> bool {
        let Record { retained, evicted_through, evicted_count, lapsed, dropped_through, last, is_over } =
            self;
        let places = [*evicted_through, *dropped_through, *last];
        retained.is_empty()
            && places == [Sequence::START; 3]
            && *evicted_count == 0
            && lapsed.is_none()
            && !is_over
    }

    /// The last of its events that nobody can read any more.
    pub(in crate::hub) fn lost_through(&self) -> Sequence {
        self.evicted_through.max(self.dropped_through)
    }

    /// The index of its first retained event after `place` that can be read.
    pub(in crate::hub) fn index_after(&self, place: Sequence) -> usize {
        let place = place.max(self.dropped_through);
        self.retained.count_through(place)
    }

    /// Returns true if and only if the event is retained and can be read.
    pub(in crate::hub) fn holds(&self, sequence: Sequence) -> bool {
        sequence > self.dropped_through && self.retained.index_of(sequence).is_some()
    }

    /// The numbers of its events that can be read, in order.
    pub(in crate::hub) fn readable(&self) -> impl DoubleEndedIterator<Item = Sequence> + ExactSizeIterator {
        self.retained.from(self.index_after(Sequence::START))
    }

    /// How many events it had up to `place`, since it has been in the table, where none after `place` was evicted or has
    /// lapsed, which holds for every shard's cursor.
    pub(in crate::hub) fn count_taken(&self, place: Sequence) -> u64 {
        let lapsed = self.lapsed.as_ref().map_or(0, |lapsed| lapsed.count);
        self.evicted_count + lapsed + self.retained.count_through(place) as u64
    }

    /// How many events it had up to `place`, since it has been in the table, where none after `place` was lost. `None`
    /// where it is not remembered how many have lapsed.
    pub(in crate::hub) fn count_through(&self, place: Sequence) -> Option<u64> {
        let lapsed_after = self.lapsed.as_ref().map_or(Some(0), |lapsed| lapsed.count_after(place))?;
        Some(self.count_taken(place) - lapsed_after)
    }

    /// As [`Record::count_through`], and how many it has lost after `place`.
    pub(in crate::hub) fn count_through_or_lost(&self, place: Sequence) -> Option<u64> {
        let lost_through = |place: Sequence| {
            let lapsed = self.lapsed.as_ref().map_or(0, |lapsed| lapsed.count_dropped_through(place));
            self.retained.count_through(place) - lapsed
        };
        let dropped = lost_through(self.dropped_through) - lost_through(self.dropped_through.min(place));
        Some(self.count_through(place)? + dropped as u64)
    }

    /// Bytes that it holds beside its own.
    pub(super) fn heap_bytes(&self) -> usize {
        self.retained.bytes() + self.lapsed.as_ref().map_or(0, |lapsed| lapsed.bytes())
    }
}

/// What the names of a pattern's channels begin with; `None` if and only if `name` is no pattern's.
pub(in crate::hub) fn pattern_prefix(name: &str) -> Option<&str> {
    prefix_of(name).filter(|_| is_channel(name))
}
