//! The retained frames in the order of the sequence: pages of shared bytes, and where each frame lies in
//! them.
//!
//! A [`Page`] is one segment of adjacent frames, the frames that are too large for it, and an entry for
//! each frame. Pages are in the order of the sequence, so two binary searches find a frame, and no index
//! is dense in the sequence. An entry stays until its page goes, even when no channel retains the event:
//! a shard that has not taken the event still needs it. [`crate::hub::retention`] decides which events
//! are retained.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::heap::block_bytes;
use crate::base::id::{EventId, Sequence};
use crate::base::queue::Queue;
use crate::base::search::partition_point_near;
use crate::frame::chunk::Chunk;
use crate::frame::segment::{Appender, Patch, Segment};
use crate::hub::history::lapsing::lapses_at;
use crate::hub::history::leftovers::Leftovers;
use crate::hub::history::page::{
    Entry, FramePlace, Page, SEGMENT_BYTES_BESIDE, SHARED_FRAME_BYTES_MAX, delta,
};
use crate::hub::history::targets::TargetId;
use crate::record::EventRef;

/// After this many bytes of large frames a page is full. This bounds what one retained frame of a page
/// can pin.
const PAGE_LARGE_BYTES_MAX: usize = 256 * 1024;

/// The most entries of a page.
pub(super) const PAGE_ENTRIES_MAX: usize = 8192;

/// The list of pages. A page is large, and what is moved are references to it.
pub(in crate::hub) type Pages = Queue<Box<Page>>;

#[derive(Debug)]
pub(in crate::hub) struct History {
    /// The capacity of a segment that takes several frames.
    pub(in crate::hub) segment_bytes: usize,
    pub(in crate::hub) pages: Pages,
    /// Writes to the last page, unless it is sealed.
    open: Option<Appender>,
    pub(in crate::hub) held_bytes: usize,
    /// The segment of a page that went, kept for the next page. Without it, segments come and go, small
    /// allocations take their places, and the heap gets holes.
    spare: Option<Arc<Segment>>,
    /// The pages that retain little or nothing.
    pub(super) leftovers: Leftovers,
    /// The tick in which the next event of each page lapses, and the page's first number.
    pub(super) next_lapses: BTreeSet<(u32, Sequence)>,
    /// Events that have lapsed and that a shard has not taken yet.
    pub(in crate::hub) untaken_lapsed: BTreeSet<Sequence>,
}

impl History {
    /// Creates an empty history with segments of this capacity.
    pub(in crate::hub) fn new(segment_bytes: usize) -> History {
        History {
            segment_bytes,
            pages: Pages::default(),
            open: None,
            held_bytes: 0,
            spare: None,
            leftovers: Leftovers::default(),
            next_lapses: BTreeSet::new(),
            untaken_lapsed: BTreeSet::new(),
        }
    }

    /// The bytes that a spare segment takes.
    fn spare_bytes(&self) -> usize {
        block_bytes(self.segment_bytes) + SEGMENT_BYTES_BESIDE
    }

    /// The bytes held.
    pub(in crate::hub) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The first number of the oldest page.
    pub(in crate::hub) fn first(&self) -> Option<Sequence> {
        self.pages.front().map(|page| page.first)
    }

    /// The pages, oldest first.
    pub(in crate::hub) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The bytes of all frames in the pages that reach beyond `cursor`.
    pub(in crate::hub) fn bytes_of_pages_after(&self, cursor: Sequence) -> usize {
        self.pages.from(self.page_index(cursor.next())).map(|page| page.bytes).sum()
    }

    /// Returns the index of the page that holds `sequence`, or of the first page after it.
    pub(in crate::hub) fn page_index(&self, sequence: Sequence) -> usize {
        let (Some(front), Some(back)) = (self.pages.front(), self.pages.back()) else { return 0 };
        if sequence >= back.first {
            return self.pages.len() - usize::from(sequence <= back.last); // Mostly the newest page is meant.
        }
        if sequence <= front.last {
            return 0; // Or the oldest, from which events go.
        }
        // Pages span about the same count of numbers, so interpolation mostly finds the page at once.
        let (before, all) = (sequence.0 - front.first.0, back.last.0 - front.first.0);
        let index = u128::from(before) * self.pages.len() as u128 / u128::from(all);
        let guess = usize::try_from(index).unwrap_or(usize::MAX);
        partition_point_near(self.pages.len(), guess, |index| self.pages[index].last < sequence)
    }

    /// Returns the index of the page and of the entry of `sequence`.
    pub(in crate::hub) fn find(&self, sequence: Sequence) -> Option<(usize, usize)> {
        let index = self.page_index(sequence);
        let page = self.pages.get(index)?;
        Some((index, page.index_of(sequence)?))
    }

    pub(in crate::hub) fn entry(&self, sequence: Sequence) -> Option<&Entry> {
        let (page, entry) = self.find(sequence)?;
        Some(&self.pages[page].entries[entry])
    }

    pub(in crate::hub) fn target_of(&self, sequence: Sequence) -> Option<TargetId> {
        self.entry(sequence).map(|entry| entry.target)
    }

    /// Copies an event as a chunk behind the last frame and fills in its id. `at` is the tick from which
    /// its age counts.
    pub(in crate::hub) fn append(
        &mut self,
        id: EventId,
        event: EventRef<'_>,
        target: TargetId,
        at: u32,
        holders: u32,
    ) {
        let chunk = Chunk::of(event.text.len());
        let len = chunk.bytes();
        let large = len > SHARED_FRAME_BYTES_MAX;
        self.open_page(id.sequence, if large { 0 } else { len });
        let (segment_bytes, spare_bytes) = (self.segment_bytes, self.spare_bytes());
        let (Some(page), Some(open)) = (self.pages.back_mut(), self.open.as_mut()) else {
            unreachable!("a page was opened")
        };
        let before = page.held_bytes();
        if !large && open.segment().capacity() == 0 {
            let spare = self.spare.take().inspect(|_| self.held_bytes -= spare_bytes);
            let reused = spare.and_then(Segment::reuse);
            *open = reused.unwrap_or_else(|| Segment::with_capacity(segment_bytes));
            page.segment = Arc::clone(open.segment());
        }
        let text = id.encode();
        let patch = event.id_at.map(|at| Patch { at: chunk.payload_at() + at, bytes: &text });
        let place = if large {
            let mut own = Segment::with_capacity(len);
            own.append_parts(chunk.around(event.text), patch);
            page.large.push(Arc::clone(own.segment()));
            page.large_bytes += len;
            FramePlace::last_of_large(page.large.len())
        } else {
            FramePlace::shared(open.append_parts(chunk.around(event.text), patch), len)
        };
        let delta = delta(page.first, id.sequence);
        let lapses = lapses_at(at, event.ttl);
        page.push(Entry { delta, place, target, at, lapses, holders });
        let (first, next_before) = (page.first, page.lapsing.next());
        page.lapsing.push(lapses, delta);
        let next = page.lapsing.next();
        page.last = id.sequence;
        page.bytes += len;
        page.live_bytes += if holders > 0 { len } else { 0 };
        self.held_bytes += page.held_bytes() - before;
        self.note_next_lapse(first, next_before, next);
    }

    /// Ensures that the last page takes a frame of `len` shared bytes. A new page has no segment until
    /// it needs one, so a history of large frames holds nothing beside them.
    fn open_page(&mut self, first: Sequence, len: usize) {
        if let (Some(page), Some(open)) = (self.pages.back(), &self.open)
            && (open.room() >= len || open.segment().capacity() == 0)
            && page.large_bytes < PAGE_LARGE_BYTES_MAX
            && page.entries.len() < PAGE_ENTRIES_MAX
            && first.0 - page.first.0 < u64::from(u32::MAX)
        {
            return;
        }
        self.seal();
        let open = Segment::with_capacity(0);
        let mut page = Page::new(first, Arc::clone(open.segment()));
        // Lists that double and shrink again leave the heap full of holes.
        let expected = self.pages.back().map_or(0, |before| before.entries.len());
        page.entries.reserve_exact(expected);
        self.held_bytes += page.held_bytes();
        self.pages.push_back(Box::new(page));
        self.open = Some(open);
    }

    fn seal(&mut self) {
        self.open = None;
        let Some(page) = self.pages.back_mut() else { return };
        let before = page.held_bytes();
        page.sealed = true;
        if page.entries.capacity() - page.entries.len() > page.entries.len() / 8 {
            page.entries.shrink_to_fit();
        }
        page.large.shrink_to_fit();
        self.held_bytes -= before - page.held_bytes();
        let index = self.pages.len() - 1;
        self.note_if_sparse(index);
    }

    /// Notes that one channel fewer retains the event. When no channel does, a large frame goes at once
    /// if every shard has taken it; any other frame goes with its page.
    pub(in crate::hub) fn release(&mut self, sequence: Sequence, taken_by_all: Sequence) {
        let (page_index, entry_index) = self.find(sequence).expect("a retained event has its entry");
        let page = &mut self.pages[page_index];
        let entry = &mut page.entries[entry_index];
        entry.holders -= 1;
        if entry.holders == 0 {
            let place = entry.place;
            page.live_bytes -= page.place(&page.entries[entry_index]).len();
            if sequence <= taken_by_all {
                self.held_bytes -= page.give_up_large(place);
            }
            self.note_if_sparse(page_index);
        }
    }

    /// Returns the oldest page, if it is sealed and every shard has taken it.
    pub(in crate::hub) fn oldest_to_go(&self, taken_by_all: Sequence) -> Option<&Page> {
        self.pages.front().map(|page| &**page).filter(|page| page.sealed && page.last <= taken_by_all)
    }

    /// Returns an entry of the oldest page, and its number.
    pub(in crate::hub) fn oldest_entry(&self, index: usize) -> Option<(Sequence, Entry)> {
        let page = self.pages.front()?;
        page.entries.get(index).map(|entry| (page.sequence(entry), *entry))
    }

    /// Notes that `channels` fewer channels retain an event of the oldest page, which is about to go.
    pub(in crate::hub) fn release_oldest(&mut self, index: usize, channels: usize) {
        let Some(page) = self.pages.get_mut(0) else { return };
        let gone = u32::try_from(channels).expect("an event's channels are bounded by its body");
        let entry = &mut page.entries[index];
        entry.holders -= gone;
        if entry.holders == 0 {
            page.live_bytes -= page.place(&page.entries[index]).len();
        }
    }

    /// Removes the oldest page, if it is sealed and every shard has taken it.
    pub(in crate::hub) fn pop_oldest(&mut self, taken_by_all: Sequence) -> Option<Box<Page>> {
        self.oldest_to_go(taken_by_all)?;
        let page = self.pages.pop_front()?;
        self.forget_page(&page);
        Some(page)
    }

    /// Removes a page that is no longer in the list from all accounts.
    pub(super) fn forget_page(&mut self, page: &Page) {
        self.held_bytes -= page.held_bytes();
        if self.spare.is_none() && page.segment.capacity() == self.segment_bytes {
            self.spare = Some(Arc::clone(&page.segment));
            self.held_bytes += self.spare_bytes();
        }
        self.leftovers.forget(page.first);
        self.note_next_lapse(page.first, page.lapsing.next(), None);
    }
}
