//! The cursor of a stream that reads the history: all that the stream holds meanwhile.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::lost::ReportedLoss;

/// A stream's place in the order, and the losses that it was notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Every event up to here was read, or reported as lost.
    pub place: Sequence,
    /// For a stream with one channel: the number of events up to `place` that reach it, read or reported
    /// as lost, if it is known. With several channels one event may reach the stream in several ways,
    /// and nothing is counted.
    pub seen: Option<u64>,
    pub(super) is_counting: bool,
    /// The cursor reads no further than this place.
    pub(super) stop: Option<Sequence>,
    /// Losses beyond `place` that were reported, at most one for each channel or pattern.
    pub(super) reported: Vec<ReportedLoss>,
    /// The search for its place, if that is not known yet. Meanwhile `place` is where the stream
    /// subscribed.
    pub(super) seek: Option<Box<Seek>>,
}

impl Cursor {
    /// Creates the cursor of a live stream that did not take the events after `place`. `seen` is as in
    /// [`Cursor::seen`].
    #[must_use]
    pub fn behind(place: Sequence, seen: Option<u64>) -> Cursor {
        Cursor { place, seen, is_counting: seen.is_some(), stop: None, reported: Vec::new(), seek: None }
    }

    /// Makes it stop reading at `place` for now, or with `None` read as far as it can.
    pub fn stop_at(&mut self, place: Option<Sequence>) {
        self.stop = place;
    }

    /// Stops counting what the stream has seen, since its channels change.
    pub fn stop_counting(&mut self) {
        self.seen = None;
        self.is_counting = false;
    }

    /// Removes a channel of the stream. Reported losses of the channel are forgotten: its place in the
    /// table may go to another channel.
    pub fn part(&mut self, channel: ChannelId) {
        self.stop_counting();
        self.reported.retain(|loss| loss.channel != channel);
    }

    /// Returns true if it has read up to the place where it must stop.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.has_place() && self.stop.is_some_and(|stop| self.place >= stop)
    }

    /// Returns true if its place is known. Otherwise its next slices look for it.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.seek.is_none()
    }

    /// The same cursor, with its place still to be found.
    pub(super) fn seeking(self, seek: Seek) -> Cursor {
        Cursor { seek: Some(Box::new(seek)), ..self }
    }

    pub(super) fn reported_for(&self, channel: ChannelId) -> Option<&ReportedLoss> {
        self.reported.iter().find(|loss| loss.channel == channel)
    }
}

/// A search for a stream's place, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Seek {
    /// The place before the last `count` events of the stream's channels.
    Last {
        /// The number of events still to be found.
        count: usize,
        /// Events from here on have been looked at.
        before: Sequence,
        /// The earliest event found so far.
        found: Option<Sequence>,
    },
    /// The place of the earliest event with this id.
    Own {
        id: Box<str>,
        /// The prefixes of the stream's patterns that are not done yet.
        prefixes: Vec<Box<str>>,
        /// The name up to which the last prefix is done.
        after: Option<Arc<str>>,
        /// The earliest place found so far.
        least: Option<Sequence>,
    },
}
