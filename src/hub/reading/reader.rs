//! Reading the history: how a stream that resumes, or that fell behind, gets every retained event after its place.
//!
//! A [`Cursor`] is all that such a stream holds: no frames. Each slice is read under the lock as at most [`SLICE_RUNS_MAX`]
//! references to at most [`SLICE_FRAMES_MAX`] frames in the order of the sequence, merged from all channels of the stream or, where patterns
//! match many channels, picked from all there is (`walk`), and not beyond the shard's own cursor: what follows is the
//! shard's to deliver.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::is_channel;
use crate::hub::budget::{CHANNEL_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::lock::Hub;
use crate::hub::reading::cursor::Cursor;
use crate::hub::reading::seek::Sought;
use crate::hub::reading::slice::{Slice, SliceLimits};
use crate::hub::state::State;

/// Frames that one slice refers to at the most where more channels are merged than so many: with a hundred each frame costs
/// three times as much, and the lock is to be held for no longer than 20 µs.
const FRAMES_OF_MANY_MAX: u32 = 128;
const FEW_CHANNELS_MAX: usize = 16;

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
        let gap = state.tell_gap(&channels, cursor);
        slice.gap = slice.gap.or(gap);
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
            Sought::Short(place) => {
                let is_named = |id: &&ChannelId| is_channel(self.channels.name(**id));
                let named: SmallVec<[ChannelId; 8]> = channels.iter().filter(is_named).copied().collect();
                // What was lost before it subscribed counts as told, wherever the stream begins.
                cursor.place = self.epochs.start();
                slice.gap = self.tell_gap(&named, cursor);
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
