//! The retained frames, in the order of the sequence: pages of shared bytes and where each frame stands in them.
//!
//! A [`Page`] is one segment of adjacent frames, the few frames that were too large for it, and an entry for each. Pages
//! stand in the order of the sequence, so that a frame is found by two binary searches and no index is dense in the
//! sequence. An entry outlives its retention until its page goes: a shard that has not yet taken the event still needs
//! it. Which events are retained is decided by [`crate::hub::retention`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::heap::block_bytes;
use crate::base::id::{EventId, Sequence};
use crate::base::search::partition_point_near;
use crate::frame::batch::DraftRef;
use crate::frame::segment::{Appender, Patch, Segment};
use crate::hub::history::lapsing::lapses_at;
use crate::hub::history::leftovers::Leftovers;
use crate::hub::history::page::{
    Entry, FramePlace, Page, SEGMENT_BYTES_BESIDE, SHARED_FRAME_BYTES_MAX, delta,
};
use crate::hub::history::targets::TargetId;

/// Bytes of large frames after which a page takes no more: what one retained frame of a page can pin is bounded.
const PAGE_LARGE_BYTES_MAX: usize = 256 * 1024;

/// Entries of a page: numbers within it are counted from its first.
pub(super) const PAGE_ENTRIES_MAX: usize = 8192;

/// All pages.
#[derive(Debug)]
pub(in crate::hub) struct History {
    /// Capacity of a segment that takes several frames.
    pub(in crate::hub) segment_bytes: usize,
    pub(in crate::hub) pages: VecDeque<Page>,
    /// Writes to the last page, unless that is sealed.
    open: Option<Appender>,
    pub(in crate::hub) held_bytes: usize,
    /// The segment of a page that went, for the next one: where segments come and go by themselves, small things take
    /// their places, and the heap gets holes.
    spare: Option<Arc<Segment>>,
    /// The pages of which little or nothing is retained.
    pub(super) leftovers: Leftovers,
    /// When the next event of each page lapses, and the page's first number.
    pub(super) next_lapses: BTreeSet<(u32, Sequence)>,
    /// Events that have lapsed and that a shard has yet to take.
    pub(in crate::hub) untaken_lapsed: BTreeSet<Sequence>,
}

impl History {
    /// An empty history with segments of this capacity.
    pub(in crate::hub) fn new(segment_bytes: usize) -> History {
        History {
            segment_bytes,
            pages: VecDeque::new(),
            open: None,
            held_bytes: 0,
            spare: None,
            leftovers: Leftovers::default(),
            next_lapses: BTreeSet::new(),
            untaken_lapsed: BTreeSet::new(),
        }
    }

    /// What a spare segment holds, in bytes.
    fn spare_bytes(&self) -> usize {
        block_bytes(self.segment_bytes) + SEGMENT_BYTES_BESIDE
    }

    /// Bytes held.
    pub(in crate::hub) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The first number of the oldest page.
    pub(in crate::hub) fn first(&self) -> Option<Sequence> {
        self.pages.front().map(|page| page.first)
    }

    /// The pages, oldest first.
    pub(in crate::hub) fn pages(&self) -> &VecDeque<Page> {
        &self.pages
    }

    /// Bytes of all frames in the pages that reach beyond `cursor`.
    pub(in crate::hub) fn bytes_of_pages_after(&self, cursor: Sequence) -> usize {
        self.pages.range(self.page_index(cursor.next())..).map(|page| page.bytes).sum()
    }

    /// The index of the page that holds `sequence`, or of the first one after it.
    pub(in crate::hub) fn page_index(&self, sequence: Sequence) -> usize {
        // Pages hold about as many numbers each: most are where they were to be expected.
        let guess = match (self.pages.front(), self.pages.back()) {
            (Some(front), Some(back)) if sequence > front.first && sequence < back.last => {
                let (before, all) = (sequence.0 - front.first.0, back.last.0 - front.first.0);
                let index = u128::from(before) * self.pages.len() as u128 / u128::from(all);
                usize::try_from(index).unwrap_or(usize::MAX)
            }
            (Some(front), _) if sequence <= front.first => 0,
            _ => self.pages.len(),
        };
        partition_point_near(self.pages.len(), guess, |index| self.pages[index].last < sequence)
    }

    /// The page and the index in it of the entry of `sequence`.
    pub(in crate::hub) fn find(&self, sequence: Sequence) -> Option<(usize, usize)> {
        let index = self.page_index(sequence);
        let page = self.pages.get(index)?;
        Some((index, page.index_of(sequence)?))
    }

    /// The entry of an event.
    pub(in crate::hub) fn entry(&self, sequence: Sequence) -> Option<&Entry> {
        let (page, entry) = self.find(sequence)?;
        Some(&self.pages[page].entries[entry])
    }

    /// Where an event went.
    pub(in crate::hub) fn target_of(&self, sequence: Sequence) -> Option<TargetId> {
        self.entry(sequence).map(|entry| entry.target)
    }

    /// Copies a frame behind the last one, its id in place.
    pub(in crate::hub) fn append(
        &mut self,
        id: EventId,
        draft: DraftRef<'_>,
        target: TargetId,
        at: u32,
        holders: u32,
    ) {
        let len = draft.frame.len();
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
        let patch = draft.id_at.map(|at| Patch { at, bytes: &text });
        let place = if large {
            let mut own = Segment::with_capacity(len);
            own.append(draft.frame, patch);
            page.large.push(Arc::clone(own.segment()));
            page.large_bytes += len;
            FramePlace::last_of_large(page.large.len())
        } else {
            FramePlace::shared(open.append(draft.frame, patch), len)
        };
        let delta = delta(page.first, id.sequence);
        let lapses = lapses_at(at, draft.ttl);
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

    /// Makes the last page one that takes a frame of `len` shared bytes. A new page has no segment until it needs one: a
    /// history of large frames alone holds nothing beside them.
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
        // Lists that double and are cut down to size again leave the heap full of holes.
        let expected = self.pages.back().map_or(0, |before| before.entries.len());
        page.entries.reserve_exact(expected);
        self.held_bytes += page.held_bytes();
        self.pages.push_back(page);
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

    /// Tells that one channel fewer retains the event. A large frame that none does goes at once if every shard has taken
    /// it, and others with their page.
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

    /// The oldest page, if every shard is done with it and it takes no more frames.
    pub(in crate::hub) fn oldest_to_go(&self, taken_by_all: Sequence) -> Option<&Page> {
        self.pages.front().filter(|page| page.sealed && page.last <= taken_by_all)
    }

    /// An entry of the oldest page, and its number.
    pub(in crate::hub) fn oldest_entry(&self, index: usize) -> Option<(Sequence, Entry)> {
        let page = self.pages.front()?;
        page.entries.get(index).map(|entry| (page.sequence(entry), *entry))
    }

    /// Tells that so many channels fewer retain an event of the oldest page, which is about to go.
    pub(in crate::hub) fn release_oldest(&mut self, index: usize, channels: usize) {
        let Some(page) = self.pages.front_mut() else { return };
        let gone = u32::try_from(channels).expect("an event's channels are bounded by its body");
        let entry = &mut page.entries[index];
        entry.holders -= gone;
        if entry.holders == 0 {
            page.live_bytes -= page.place(&page.entries[index]).len();
        }
    }

    /// Takes the oldest page out if every shard is done with it and it takes no more frames.
    pub(in crate::hub) fn pop_oldest(&mut self, taken_by_all: Sequence) -> Option<Page> {
        self.oldest_to_go(taken_by_all)?;
        let page = self.pages.pop_front()?;
        self.forget_page(&page);
        Some(page)
    }

    /// Takes a page that is out of the order out of all accounts.
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
