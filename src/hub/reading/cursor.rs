//! Where a stream stands that reads the history: all that it holds meanwhile.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::lost::Told;

/// A stream's place in the order, and what it knows of what it has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to here was read, or told as lost.
    pub place: Sequence,
    /// For a stream with one channel: how many events that reach it lie at or before `place`, or were told as lost, where
    /// that is known. With several channels one event may reach it in several ways, and nobody counts.
    pub seen: Option<u64>,
    pub(super) is_counting: bool,
    /// Nothing is read beyond this place.
    pub(super) stop: Option<Sequence>,
    /// What was told as lost beyond `place`.
    pub(super) told: Vec<Told>,
    /// What is yet to be found before its place is known, for a stream that subscribed at `place`.
    pub(super) seek: Option<Box<Seek>>,
}

impl Cursor {
    /// The cursor of a live stream that did not take the events after `place`; `seen` as in [`Cursor::seen`].
    #[must_use]
    pub fn behind(place: Sequence, seen: Option<u64>) -> Cursor {
        Cursor { place, seen, is_counting: seen.is_some(), stop: None, told: Vec::new(), seek: None }
    }

    /// Has it read no further than `place` for now; with `None` as far as it can.
    pub fn stop_at(&mut self, place: Option<Sequence>) {
        self.stop = place;
    }

    /// Gives up knowing how much the stream has seen: its channels are others from here on.
    pub fn stop_counting(&mut self) {
        self.seen = None;
        self.is_counting = false;
    }

    /// Goes on without a channel that it had come to. What was told of that is forgotten: another one may be given its place in
    /// the table.
    pub fn part(&mut self, channel: ChannelId) {
        self.stop_counting(); // What it had counted were others.
        self.told.retain(|told| told.channel != channel);
    }

    /// Returns true if and only if it has read all up to where it is to stop.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.has_place() && self.stop.is_some_and(|stop| self.place >= stop)
    }

    /// Returns true if and only if its place is known, and not yet to be found by its next slices.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.seek.is_none()
    }

    /// The same cursor, whose place is yet to be found.
    pub(super) fn seeking(self, seek: Seek) -> Cursor {
        Cursor { seek: Some(Box::new(seek)), ..self }
    }

    pub(super) fn told_of(&self, channel: ChannelId) -> Option<&Told> {
        self.told.iter().find(|told| told.channel == channel)
    }
}

/// What is sought, and how far it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Seek {
    /// The place before the last events of the stream's channels.
    Last {
        /// How many are yet to be found.
        count: usize,
        /// Events from here on were looked at.
        before: Sequence,
        /// The first of those that were found.
        found: Option<Sequence>,
    },
    /// The place of the earliest event of this id.
    Own {
        id: Box<str>,
        /// The prefixes of the stream's patterns that are yet to be looked at.
        prefixes: Vec<Box<str>>,
        /// The last one was looked at up to this name.
        after: Option<Arc<str>>,
        /// What was found.
        least: Option<Sequence>,
    },
}
