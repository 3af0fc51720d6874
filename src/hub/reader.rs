//! Reading the history: how a stream that resumes, or that fell behind, gets every retained event after its place.
//!
//! A [`Cursor`] is all that such a stream holds: no frames. Each slice is read under the lock as at most [`SLICE_RUNS_MAX`]
//! references to at most [`SLICE_FRAMES_MAX`] frames in the order of the sequence, merged from all channels of the stream or, where patterns
//! match many channels, picked from all there is (`walk`), and not beyond the shard's own cursor: what follows is the
//! shard's to deliver.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::id::{EventId, Sequence};
use crate::frame::batch::is_channel;
use crate::frame::segment::Segment;
use crate::hub::budget::{CHANNEL_STEPS, steps};
use crate::hub::channel::{ChannelId, Record};
use crate::hub::page::Place;
use crate::hub::seek::{Seek, Sought};
use crate::hub::{Hub, State};

/// References to adjacent frames that one slice has at the most.
pub const SLICE_RUNS_MAX: usize = 64;

/// Frames that one slice refers to at the most.
pub const SLICE_FRAMES_MAX: u32 = 256;

/// Frames that one slice refers to at the most where more channels are merged than so many: with a hundred each frame costs
/// three times as much, and the lock is to be held for no longer than 20 µs.
const FRAMES_OF_MANY_MAX: u32 = 128;
const FEW_CHANNELS_MAX: usize = 16;

/// A slice whose segments come to more than its bytes may goes on where its frames are less than this part of them: where
/// they have to wait, they are copied. Otherwise it ends with its segment, which all streams that read there share.
const DENSE_SHARE: usize = 4;

/// A stream's place in the order, and what it knows of what it has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to here was read, or told as lost.
    pub place: Sequence,
    /// For a stream with one channel: how many events that reach it lie at or before `place`, or were told as lost, where
    /// that is known. With several channels one event may reach it in several ways, and nobody counts.
    pub seen: Option<u64>,
    is_counting: bool,
    /// Nothing is read beyond this place.
    stop: Option<Sequence>,
    /// What was told as lost beyond `place`.
    told: Vec<Told>,
    /// What is yet to be found before its place is known, for a stream that subscribed at `place`.
    seek: Option<Box<Seek>>,
}

/// Up to where the loss of a channel was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    channel: ChannelId,
    /// The last event that was lost.
    pub(super) through: Sequence,
    /// For a pattern: how many events its channels had given up by then.
    pub(super) evictions: u64,
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

    fn told_of(&self, channel: ChannelId) -> Option<&Told> {
        self.told.iter().find(|told| told.channel == channel)
    }
}

/// Events that are lost for a stream, at its very place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many; `None` where that is not known exactly.
    pub missed: Option<u64>,
    /// The id of the place after which they are missing.
    pub after: EventId,
}

/// Adjacent frames of one slice.
#[derive(Debug)]
pub struct HistoryRun {
    /// Where their bytes stand.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub from: u32,
    /// Behind the last byte.
    pub to: u32,
    /// How many frames.
    pub frames: u32,
}

/// How much one slice may hold.
#[derive(Clone, Copy, Debug)]
pub struct SliceLimits {
    /// Frames, at most [`SLICE_FRAMES_MAX`].
    pub frames_max: u32,
    /// Bytes; one frame is taken however large.
    pub bytes_max: usize,
}

/// What was read. A gap comes before the frames, and is told before any of them.
#[derive(Debug, Default)]
pub struct Slice {
    /// Events that are missing right at the place where the slice begins.
    pub gap: Option<Gap>,
    /// The id that the stream named and no event has: it begins at the place where it subscribed.
    pub unknown: Option<Box<str>>,
    /// The frames, in order.
    pub runs: Vec<HistoryRun>,
    /// How many frames.
    pub frames: u32,
    /// Nothing more is to be read up to the shard's cursor, and the stream's place is that cursor: it is live.
    pub is_live: bool,
    /// Nothing was read, and nothing is to be read until the shard's cursor has moved on.
    pub is_ahead: bool,
    /// Bytes of the frames, and of the segments that they keep alive.
    bytes: usize,
    held_bytes: usize,
    /// Merges the channels by their next number.
    heap: BinaryHeap<Reverse<(Sequence, usize)>>,
}

impl Slice {
    fn clear(&mut self) {
        self.gap = None;
        self.unknown = None;
        self.runs.clear();
        self.frames = 0;
        self.is_live = false;
        self.is_ahead = false;
        self.bytes = 0;
        self.held_bytes = 0;
        self.heap.clear();
    }

    /// Takes a frame behind the others; returns false where it holds as much as it may.
    pub(super) fn push(&mut self, place: &Place<'_>, limits: SliceLimits) -> bool {
        let len = (place.to - place.from) as usize;
        let is_full = self.frames > 0 && self.bytes + len > limits.bytes_max;
        if is_full || self.frames == limits.frames_max.min(SLICE_FRAMES_MAX) {
            return false;
        }
        let runs = self.runs.len();
        match self.runs.last_mut() {
            Some(last) if last.to == place.from && Arc::ptr_eq(&last.segment, place.segment) => {
                last.to = place.to;
                last.frames += 1;
            }
            _ if runs == SLICE_RUNS_MAX => return false,
            last => {
                if last.is_none_or(|last| !Arc::ptr_eq(&last.segment, place.segment)) {
                    let held_bytes = self.held_bytes + place.segment.capacity();
                    let is_dense = self.bytes * DENSE_SHARE >= self.held_bytes;
                    if self.frames > 0 && is_dense && held_bytes > limits.bytes_max {
                        return false;
                    }
                    self.held_bytes = held_bytes;
                }
                self.runs.push(HistoryRun {
                    segment: Arc::clone(place.segment),
                    from: place.from,
                    to: place.to,
                    frames: 1,
                });
            }
        }
        self.bytes += len;
        self.frames += 1;
        true
    }
}

impl Hub {
    /// Reads what follows `cursor` on `channels`, and of the events to all, for a stream of `shard`, and moves the cursor
    /// on.
    pub fn read(
        &self,
        shard: usize,
        channels: &[ChannelId],
        cursor: &mut Cursor,
        limits: SliceLimits,
        slice: &mut Slice,
    ) {
        slice.clear();
        let mut state = self.lock();
        let state = &mut *state;
        if !state.is_ready_for(channels, cursor, slice) {
            return;
        }
        let end = state.cursors[shard];
        if cursor.place > end {
            slice.is_ahead = true; // It subscribed at a place that its shard has yet to reach.
            return;
        }
        let channels: SmallVec<[ChannelId; 8]> = channels.iter().copied().chain([ChannelId::ALL]).collect();
        if channels.iter().any(|&id| state.channels.get(id).dropped_through > end) {
            slice.is_ahead = true; // What was dropped is one loss, and no part of it may come live.
            return;
        }
        slice.gap = state.tell_gap(&channels, cursor);
        let stop = cursor.stop.map_or(end, |stop| stop.min(end));
        let has_reached = match state.merged(&channels) {
            Some(merged) => state.read_frames(&merged, cursor, stop, limits, slice),
            None => state.walk(&channels, cursor, stop, limits, slice),
        };
        if has_reached {
            let place = stop.max(cursor.place);
            cursor.place = place;
            cursor.told.retain(|told| told.through > place);
            slice.is_live = stop == end && cursor.stop.is_none_or(|stop| stop <= end);
            slice.is_ahead =
                slice.gap.is_none() && slice.frames == 0 && !slice.is_live && !cursor.has_stopped();
        }
        if cursor.is_counting {
            cursor.seen = state.count_seen(&channels, cursor);
        }
    }
}

impl State {
    /// Sees to what a stream has to know before it reads: where it begins, and what its patterns had lost by then. Returns
    /// false where that goes on with its next slice.
    fn is_ready_for(&mut self, channels: &[ChannelId], cursor: &mut Cursor, slice: &mut Slice) -> bool {
        if self.channels.has_patterns() {
            for &id in channels {
                if !self.channels.gather(id, &self.budget) {
                    return false;
                }
            }
        }
        let Some(seek) = cursor.seek.take() else { return true };
        match self.seek(*seek, channels, cursor.place) {
            Sought::Place(place) => {
                cursor.place = place;
                cursor.told.retain(|told| told.through > place);
            }
            Sought::Unknown(id) => slice.unknown = Some(id),
            Sought::NotYet(seek) => {
                cursor.seek = Some(Box::new(seek));
                return false;
            }
        }
        slice.unknown.is_some() || !self.budget.is_spent()
    }

    /// A cursor at `place`. Where the stream `is_counting`, it knows how much it has seen as far as the history shows it.
    pub(super) fn cursor_at(&self, place: Sequence, channels: &[ChannelId], is_counting: bool) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]).map(|id| self.channels.get(id));
        let count = |record: &Record| record.count_through(place).filter(|_| place >= record.lost_through());
        let seen = if is_counting { targets.map(count).sum() } else { None };
        Cursor { place, seen, is_counting, stop: None, told: Vec::new(), seek: None }
    }

    /// How many events that reach the stream of a cursor lie at or before its place, or were lost: of what was, it was told.
    fn count_seen(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let targets = channels.iter().map(|&id| self.channels.get(id));
        targets.map(|channel| channel.count_through(cursor.place.max(channel.lost_through()))).sum()
    }

    /// A cursor at `place` of a stream that asks for what is retained after it, and misses nothing else. Where it `is_counting`, it
    /// knows how much it has seen from its first slice on.
    pub(super) fn cursor_of_retained(
        &self,
        place: Sequence,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]);
        // All that its patterns have lost so far counts as told, also what is yet to be gathered of it.
        let lost = targets.filter_map(|id| match self.channels.prefix(id) {
            Some(_) => Some((id, self.epochs.head())),
            None => Some((id, self.channels.lost_after(id, Sequence::START, None)?)),
        });
        let told = lost.map(|(id, through)| self.told(id, through)).filter(|told| told.through > place);
        let told = told.collect();
        Cursor { place, seen: None, is_counting, stop: None, told, seek: None }
    }

    /// Finds out whether events after the cursor's place are lost of which the stream was not told, and notes what it is told of.
    fn tell_gap(&self, channels: &[ChannelId], cursor: &mut Cursor) -> Option<Gap> {
        let lost = channels.iter().filter_map(|&channel| {
            let told = cursor.told_of(channel);
            Some((channel, self.channels.lost_after(channel, cursor.place, told)?))
        });
        let lost: Vec<(ChannelId, Sequence)> = lost.collect();
        let is_told = |&(channel, through): &(ChannelId, Sequence)| {
            cursor.told_of(channel).is_none()
                && (self.is_told_of_pattern(channels, channel, through, cursor)
                    || self.is_told_of_parts(channels, channel, cursor))
        };
        let gap = (!lost.iter().all(is_told)).then(|| Gap {
            missed: cursor.seen.and_then(|seen| self.count_passed(channels, cursor)?.checked_sub(seen)),
            after: self.epochs.id_of(cursor.place).expect("a cursor's place lies in an epoch"),
        });
        for &(channel, through) in &lost {
            let before = cursor.told_of(channel).map_or(through, |told| told.through);
            cursor.told.retain(|told| told.channel != channel);
            cursor.told.push(self.told(channel, through.max(before)));
        }
        let place = cursor.place;
        cursor.told.retain(|told| told.through > place);
        gap
    }

    /// Returns true if and only if a pattern of the stream's `channels` matches a channel, or all that one matches that is a
    /// pattern, and its loss was told up to `through` and it has lost nothing behind the cursor's place since. So a stream that
    /// is to have a channel by a further name is not told again of what the channel has lost.
    fn is_told_of_pattern(
        &self,
        channels: &[ChannelId],
        channel: ChannelId,
        through: Sequence,
        cursor: &Cursor,
    ) -> bool {
        let name = self.channels.prefix(channel).unwrap_or(self.channels.name(channel));
        let covers = |told: &&Told| {
            let prefix = self.channels.prefix(told.channel).filter(|_| is_channel(name));
            prefix.is_some_and(|prefix| name.starts_with(prefix))
        };
        // One that the stream has no more may be out of the table.
        let told = cursor.told.iter().filter(|told| channels.contains(&told.channel)).filter(covers);
        let is_all = |told: &Told| self.channels.lost_after(told.channel, cursor.place, Some(told)).is_none();
        told.into_iter().any(|told| told.through >= through && is_all(told))
    }

    /// Returns true if and only if whatever a pattern may have lost behind the cursor's place was lost by channels that the
    /// stream has by their own names, or by another pattern of whose loss it was told. So a stream that is to have a pattern is not
    /// told again of what its channels have lost; what else these lose it is told of by those names.
    fn is_told_of_parts(&self, channels: &[ChannelId], pattern: ChannelId, cursor: &Cursor) -> bool {
        let Some(prefix) = self.channels.prefix(pattern).filter(|_| !cursor.told.is_empty()) else {
            return false;
        };
        let told = cursor.told.iter().map(|told| told.channel).filter(|id| channels.contains(id));
        let prefixes: SmallVec<[&str; 4]> = told.filter_map(|id| self.channels.prefix(id)).collect();
        let is_other = |name: &str, id: Option<ChannelId>| {
            !id.is_some_and(|id| channels.contains(&id))
                && !prefixes.iter().any(|&told| name.starts_with(told))
        };
        !self.channels.may_have_lost(prefix, cursor.place, is_other, &self.budget)
    }

    /// What is told of a channel's loss up to `through`.
    fn told(&self, channel: ChannelId, through: Sequence) -> Told {
        Told { channel, through, evictions: self.channels.evictions(channel) }
    }

    /// How many events all channels had up to the cursor's place, or up to where their loss was told, and how many they have
    /// lost behind that.
    fn count_passed(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let seen_through =
            |id| cursor.told_of(id).map_or(cursor.place, |told| told.through.max(cursor.place));
        channels.iter().map(|&id| self.channels.get(id).count_through_or_lost(seen_through(id))).sum()
    }

    /// Reads up to `end`; returns true if and only if it got there.
    pub(super) fn read_frames(
        &self,
        channels: &[ChannelId],
        cursor: &mut Cursor,
        end: Sequence,
        limits: SliceLimits,
        slice: &mut Slice,
    ) -> bool {
        let mut limits = limits;
        if channels.len() > FEW_CHANNELS_MAX {
            limits.frames_max = limits.frames_max.min(FRAMES_OF_MANY_MAX);
        }
        // Each channel's next number, by which they are merged.
        let mut next = vec![0; channels.len()];
        self.budget.spend(CHANNEL_STEPS * steps(channels.len()));
        for (index, &id) in channels.iter().enumerate() {
            let channel = self.channels.get(id);
            next[index] = channel.index_after(cursor.place);
            if let Some(sequence) = channel.retained.get(next[index]).filter(|&sequence| sequence <= end) {
                slice.heap.push(Reverse((sequence, index)));
            }
        }
        let (mut page_hint, mut has_passed) = (None, false);
        while let Some(&Reverse((sequence, index))) = slice.heap.peek() {
            self.budget.spend(2);
            if sequence > cursor.place {
                // Not yet taken through another channel of this stream.
                let (page_index, entry_index) = self.find_from(page_hint, sequence);
                page_hint = Some(page_index);
                let page = &self.history.pages()[page_index];
                let entry = &page.entries[entry_index];
                if entry.lapses <= self.now {
                    if has_passed && self.budget.is_spent() {
                        return false;
                    }
                    has_passed = true;
                } else if !slice.push(&page.place(entry), limits) {
                    return false;
                }
                cursor.place = sequence;
            }
            next[index] += 1;
            let retained = &self.channels.get(channels[index]).retained;
            let following = retained.get(next[index]).filter(|&sequence| sequence <= end);
            if let Some(mut least) = slice.heap.peek_mut() {
                match following {
                    // In its place at once: half of what it costs to take it out and put the next one in.
                    Some(following) => *least = Reverse((following, index)),
                    None => drop(PeekMut::pop(least)),
                }
            }
        }
        true
    }

    /// Finds an event's page and entry, looking first where the one before it was.
    fn find_from(&self, page_hint: Option<usize>, sequence: Sequence) -> (usize, usize) {
        if let Some(index) = page_hint {
            let page = &self.history.pages()[index];
            if sequence <= page.last() {
                let entry = page.index_after(Sequence(sequence.0 - 1));
                return (index, entry);
            }
        }
        self.history.find(sequence).expect("a retained event has its entry")
    }
}
