//! Reading the history: how a stream that resumes, or that fell behind, gets every retained event after
//! its place.
//!
//! Such a stream holds a [`Cursor`] and no frames. Each slice is read under the lock. It has at most
//! [`SLICE_RUNS_MAX`](super::SLICE_RUNS_MAX) references to at most
//! [`SLICE_FRAMES_MAX`](super::SLICE_FRAMES_MAX) frames in the order of the sequence. The frames are
//! merged from all channels of the stream or, if its patterns match many channels, picked from the order
//! of all events (`walk`). A slice ends at the shard's cursor: the shard delivers what follows.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::mem;

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::budget::{CHANNEL_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::reading::cursor::Cursor;
use crate::hub::reading::seek::Sought;
use crate::hub::reading::slice::{Slice, SliceLimits};
use crate::hub::state::State;
use crate::record::targets::is_channel;

/// The most frames of a slice that merges more than [`FEW_CHANNELS_MAX`] channels. With a hundred
/// channels a frame costs three times as much, and the lock must be held for no longer than 20 µs.
const FRAMES_OF_MANY_MAX: u32 = 128;
const FEW_CHANNELS_MAX: usize = 16;

impl Hub {
    /// Reads the events after `cursor` of `channels` and of the target of all, for a stream of `shard`,
    /// and moves the cursor on.
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
            slice.is_ahead = true; // Its shard has not reached the place where it subscribed.
            return;
        }
        let channels: SmallVec<[ChannelId; 8]> = channels.iter().copied().chain([ChannelId::ALL]).collect();
        if channels.iter().any(|&id| state.channels.get(id).dropped_through > end) {
            slice.is_ahead = true; // A drop is one loss: no part of it may come live.
            return;
        }
        let gap = state.report_losses(&channels, cursor);
        slice.gap = slice.gap.or(gap);
        let stop = cursor.stop.map_or(end, |stop| stop.min(end));
        let has_reached = match state.merged(&channels) {
            Some(merged) => state.read_frames(&merged, cursor, stop, limits, slice),
            None => state.walk(&channels, cursor, stop, limits, slice),
        };
        if has_reached {
            let place = stop.max(cursor.place);
            cursor.place = place;
            cursor.reported.retain(|loss| loss.through > place);
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
    /// Finds what a stream must know before it reads: where it begins, and what its patterns had lost
    /// when they entered the table. Returns false if this continues with its next slice.
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
                cursor.reported.retain(|loss| loss.through > place);
            }
            Sought::Short(place) => {
                let is_named = |id: &&ChannelId| is_channel(self.channels.name(**id));
                let named: SmallVec<[ChannelId; 8]> = channels.iter().filter(is_named).copied().collect();
                // What was lost before it subscribed counts as reported, wherever the stream begins.
                cursor.place = self.epochs.start();
                slice.gap = self.report_losses(&named, cursor);
                cursor.place = place;
                cursor.reported.retain(|loss| loss.through > place);
            }
            Sought::Unknown(id) => slice.unknown = Some(id),
            Sought::NotYet(seek) => {
                cursor.seek = Some(Box::new(seek));
                return false;
            }
        }
        slice.unknown.is_some() || !self.budget.is_spent()
    }

    /// Reads up to `end`, merging `channels`. Returns true if it got there.
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
        // Each channel's next numbers, as far as they lie together, and the index of those behind them. The
        // channels are merged by these numbers.
        let mut next: Vec<(&[Sequence], usize)> = Vec::with_capacity(channels.len());
        self.budget.spend(CHANNEL_STEPS * steps(channels.len()));
        for (index, &id) in channels.iter().enumerate() {
            let channel = self.channels.get(id);
            let from = channel.index_after(cursor.place);
            let together = channel.retained.together_from(from);
            next.push((together, from + together.len()));
            if let Some(sequence) = together.first().filter(|&&sequence| sequence <= end) {
                slice.heap.push(Reverse((*sequence, index)));
            }
        }
        let (mut page_hint, mut has_passed) = (None, false);
        while let Some(&Reverse((sequence, index))) = slice.heap.peek() {
            self.budget.spend(2);
            if sequence > cursor.place {
                // Not read yet through another channel of this stream.
                let (page_index, entry_index) = self.find_from(page_hint, sequence);
                page_hint = Some(page_index);
                let page = &self.history.pages()[page_index];
                let entry = &page.entries[entry_index];
                if entry.has_lapsed(self.now) {
                    if !self.may_pass_over(&mut has_passed) {
                        return false;
                    }
                } else if !slice.push(&page.place(entry), limits) {
                    return false;
                }
                cursor.place = sequence;
            }
            let (together, behind) = &mut next[index];
            *together = &together[1..];
            if together.is_empty() {
                *together = self.channels.get(channels[index]).retained.together_from(*behind);
                *behind += together.len();
            }
            let following = together.first().copied().filter(|&sequence| sequence <= end);
            if let Some(mut least) = slice.heap.peek_mut() {
                match following {
                    // Replacing the top costs half as much as a pop and a push.
                    Some(following) => *least = Reverse((following, index)),
                    None => drop(PeekMut::pop(least)),
                }
            }
        }
        true
    }

    /// Returns true if a slice may pass over one more event: always over the first, so that each slice
    /// gets on, and then until the budget is spent.
    pub(super) fn may_pass_over(&self, has_passed: &mut bool) -> bool {
        !mem::replace(has_passed, true) || !self.budget.is_spent()
    }

    /// Finds an event's page and entry, looking first on the page of the event before it.
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
