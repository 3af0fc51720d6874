//! The retained frames, in the order of the sequence: pages of shared bytes and where each frame stands in them.
//!
//! A [`Page`] is one segment of adjacent frames, the few frames that were too large for it, and an entry for each. Pages
//! stand in the order of the sequence, so that a frame is found by two binary searches and no index is dense in the
//! sequence. An entry outlives its retention until its page goes: a shard that has not yet taken the event still needs
//! it. Which events are retained is decided by [`super::retention`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::id::{EventId, Sequence};
use crate::frame::batch::DraftRef;
use crate::frame::segment::{Appender, Patch, SEGMENT_BYTES, Segment};
use crate::hub::targets::TargetId;
use crate::hub::ttl::{Lapsing, lapses_at};

/// Frames up to this many bytes are copied into a common segment; a larger one is a segment of its own.
pub(super) const SHARED_FRAME_BYTES_MAX: usize = 4096;

/// Bytes of large frames after which a page takes no more: what one retained frame of a page can pin is bounded.
const PAGE_LARGE_BYTES_MAX: usize = 256 * 1024;

/// Entries of a page: numbers within it are counted from its first.
const PAGE_ENTRIES_MAX: usize = 8192;

/// One frame of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its number, counted from the page's first.
    delta: u32,
    /// Its first byte in the page's segment, or [`LARGE`] and its place among the large frames.
    from: u32,
    /// Its bytes.
    len: u32,
    /// The channels it went to.
    pub(super) target: TargetId,
    /// When it was applied, and from when on it has lapsed, in ticks of the hub's clock.
    pub(super) at: u32,
    pub(super) lapses: u32,
    /// In how many channels it is retained.
    pub(super) holders: u32,
}

/// Marks the place of a large frame.
const LARGE: u32 = 1 << 31;

/// A stretch of the sequence: its frames' bytes and entries.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) first: Sequence,
    last: Sequence,
    segment: Arc<Segment>,
    large: Vec<Arc<Segment>>,
    pub(super) entries: Vec<Entry>,
    pub(super) lapsing: Lapsing,
    /// Bytes of all frames, of those that are retained, and of the large ones.
    bytes: usize,
    live_bytes: usize,
    large_bytes: usize,
    /// It takes no more frames.
    sealed: bool,
    /// It waits to be compacted.
    queued: bool,
}

/// Where a frame's bytes stand.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) segment: &'a Arc<Segment>,
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Page {
    fn new(first: Sequence, segment: Arc<Segment>) -> Page {
        Page {
            first,
            last: first,
            segment,
            large: Vec::new(),
            entries: Vec::new(),
            lapsing: Lapsing::default(),
            bytes: 0,
            live_bytes: 0,
            large_bytes: 0,
            sealed: false,
            queued: false,
        }
    }

    /// The number of its last event.
    pub(super) fn last(&self) -> Sequence {
        self.last
    }

    /// Returns true if and only if it takes no more frames.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The number of one of its entries.
    pub(super) fn sequence(&self, entry: &Entry) -> Sequence {
        self.first.plus(u64::from(entry.delta))
    }

    /// Where the bytes of one of its entries stand.
    pub(super) fn place(&self, entry: &Entry) -> Place<'_> {
        if entry.from & LARGE == 0 {
            Place { segment: &self.segment, from: entry.from, to: entry.from + entry.len }
        } else {
            Place { segment: &self.large[(entry.from & !LARGE) as usize], from: 0, to: entry.len }
        }
    }

    /// The index of the first entry after `sequence`.
    pub(super) fn index_after(&self, sequence: Sequence) -> usize {
        self.entries.partition_point(|entry| self.sequence(entry) <= sequence)
    }

    /// Bytes that it holds: segments, entries, and its own record.
    fn held_bytes(&self) -> usize {
        self.segment.capacity()
            + self.large_bytes
            + self.large.capacity() * size_of::<Arc<Segment>>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.lapsing.bytes()
            + size_of::<Page>()
            + (2 + self.large.len()) * 32
    }
}

/// All pages.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) pages: VecDeque<Page>,
    /// Writes to the last page, unless that is sealed.
    open: Option<Appender>,
    held_bytes: usize,
    /// First numbers of pages of which so little is retained that they are to be compacted, once every shard has taken
    /// their last event.
    sparse: VecDeque<Sequence>,
    /// When the next event of each page lapses, and the page's first number.
    pub(super) next_lapses: BTreeSet<(u32, Sequence)>,
}

impl History {
    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The first number of the oldest page.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.pages.front().map(|page| page.first)
    }

    /// The pages, oldest first.
    pub(super) fn pages(&self) -> &VecDeque<Page> {
        &self.pages
    }

    /// Bytes of all frames in the pages that reach beyond `cursor`.
    pub(super) fn bytes_of_pages_after(&self, cursor: Sequence) -> usize {
        self.pages.range(self.page_index(cursor.next())..).map(|page| page.bytes).sum()
    }

    /// The index of the page that holds `sequence`, or of the first one after it.
    pub(super) fn page_index(&self, sequence: Sequence) -> usize {
        self.pages.partition_point(|page| page.last < sequence)
    }

    /// The page and the index in it of the entry of `sequence`.
    pub(super) fn find(&self, sequence: Sequence) -> Option<(usize, usize)> {
        let index = self.page_index(sequence);
        let page = self.pages.get(index)?;
        let entry = page.entries.binary_search_by(|entry| page.sequence(entry).cmp(&sequence)).ok()?;
        Some((index, entry))
    }

    /// The entry of an event.
    pub(super) fn entry(&self, sequence: Sequence) -> Option<&Entry> {
        let (page, entry) = self.find(sequence)?;
        Some(&self.pages[page].entries[entry])
    }

    /// Where an event went.
    pub(super) fn target_of(&self, sequence: Sequence) -> Option<TargetId> {
        self.entry(sequence).map(|entry| entry.target)
    }

    /// Copies a frame behind the last one, its id in place.
    pub(super) fn append(
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
        let (Some(page), Some(open)) = (self.pages.back_mut(), self.open.as_mut()) else {
            unreachable!("a page was opened")
        };
        let before = page.held_bytes();
        if !large && open.segment().capacity() == 0 {
            *open = Segment::with_capacity(SEGMENT_BYTES);
            page.segment = Arc::clone(open.segment());
        }
        let text = id.encode();
        let patch = draft.id_at.map(|at| Patch { at, bytes: &text });
        let from = if large {
            let mut own = Segment::with_capacity(len);
            own.append(draft.frame, patch);
            page.large.push(Arc::clone(own.segment()));
            page.large_bytes += len;
            LARGE | u32_of(page.large.len() - 1)
        } else {
            u32_of(open.append(draft.frame, patch))
        };
        let delta = delta(page.first, id.sequence);
        let lapses = lapses_at(at, draft.ttl);
        page.entries.push(Entry { delta, from, len: u32_of(len), target, at, lapses, holders });
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
        let page = Page::new(first, Arc::clone(open.segment()));
        self.held_bytes += page.held_bytes();
        self.pages.push_back(page);
        self.open = Some(open);
    }

    fn seal(&mut self) {
        self.open = None;
        let Some(page) = self.pages.back_mut() else { return };
        let before = page.held_bytes();
        page.sealed = true;
        page.entries.shrink_to_fit();
        page.large.shrink_to_fit();
        self.held_bytes -= before - page.held_bytes();
        let index = self.pages.len() - 1;
        self.queue_if_sparse(index);
    }

    /// Tells that one channel fewer retains the event.
    pub(super) fn release(&mut self, sequence: Sequence) {
        let (page_index, entry_index) = self.find(sequence).expect("a retained event has its entry");
        let page = &mut self.pages[page_index];
        let entry = &mut page.entries[entry_index];
        entry.holders -= 1;
        if entry.holders == 0 {
            page.live_bytes -= entry.len as usize;
            self.queue_if_sparse(page_index);
        }
    }

    /// A page of which less than a quarter is retained is compacted.
    fn queue_if_sparse(&mut self, index: usize) {
        let page = &mut self.pages[index];
        if page.sealed && !page.queued && page.live_bytes * 4 < page.bytes.max(1) {
            page.queued = true;
            self.sparse.push_back(page.first);
        }
    }

    /// How many pages are to be compacted.
    pub(super) fn sparse_len(&self) -> usize {
        self.sparse.len()
    }

    /// Compacts up to `pages_max` sparse pages that every shard is done with, and returns how many; `forget` is told
    /// the target of each entry that goes.
    pub(super) fn compact(
        &mut self,
        taken_by_all: Sequence,
        pages_max: usize,
        mut forget: impl FnMut(TargetId),
    ) -> usize {
        let mut compacted = 0;
        for _ in 0..self.sparse.len() {
            if compacted == pages_max {
                break;
            }
            let Some(first) = self.sparse.pop_front() else { break };
            let index = self.pages.partition_point(|page| page.first < first);
            match self.pages.get_mut(index) {
                Some(page) if page.first == first && page.queued => {
                    if page.last > taken_by_all {
                        self.sparse.push_back(first); // A shard still needs it: one page at the most, the cursor's.
                        continue;
                    }
                    page.queued = false;
                }
                _ => continue, // It went meanwhile.
            }
            self.compact_page(index, &mut forget);
            compacted += 1;
        }
        compacted
    }

    fn compact_page(&mut self, index: usize, forget: &mut impl FnMut(TargetId)) {
        let from = self.mergeable_from(index);
        let dead = |entry: &&Entry| entry.holders == 0;
        let entries = self.pages.range(from..=index).flat_map(|page| &page.entries);
        entries.filter(dead).for_each(|entry| forget(entry.target));
        let merged = (self.pages[index].live_bytes > 0)
            .then(|| merge(&self.pages.range(from..=index).collect::<Vec<_>>()));
        for old in self.pages.drain(from..=index) {
            self.held_bytes -= old.held_bytes();
            if let Some(next) = old.lapsing.next() {
                self.next_lapses.remove(&(next, old.first));
            }
        }
        if let Some(merged) = merged {
            self.held_bytes += merged.held_bytes();
            self.note_next_lapse(merged.first, None, merged.lapsing.next());
            self.pages.insert(from, merged);
        }
    }

    /// The first of the pages that become one with the page at `index`, so that small leftovers do not pile up. Only
    /// neighbours of a size do, so that each byte is copied a logarithmic number of times.
    fn mergeable_from(&self, index: usize) -> usize {
        let page = &self.pages[index];
        let (mut from, mut live_bytes, mut entries_len) = (index, page.live_bytes, page.entries.len());
        while let Some(before) = from.checked_sub(1).map(|before| &self.pages[before])
            && before.sealed
            && !before.queued
            && before.live_bytes <= live_bytes
            && before.live_bytes + live_bytes <= SEGMENT_BYTES
            && before.entries.len() + entries_len <= PAGE_ENTRIES_MAX
            && page.last.0 - before.first.0 < u64::from(u32::MAX)
        {
            from -= 1;
            live_bytes += before.live_bytes;
            entries_len += before.entries.len();
        }
        from
    }

    /// Takes the oldest page out if every shard is done with it and it takes no more frames.
    pub(super) fn pop_oldest(&mut self, taken_by_all: Sequence) -> Option<Page> {
        self.pages.front().filter(|page| page.sealed && page.last <= taken_by_all)?;
        let page = self.pages.pop_front()?;
        self.held_bytes -= page.held_bytes();
        self.note_next_lapse(page.first, page.lapsing.next(), None);
        Some(page)
    }
}

/// One page of what is retained of several that follow one another.
fn merge(pages: &[&Page]) -> Page {
    let live =
        |page: &&Page| page.entries.iter().filter(|entry| entry.holders > 0).copied().collect::<Vec<_>>();
    let entries: Vec<(usize, Entry)> = pages
        .iter()
        .enumerate()
        .flat_map(|(index, page)| live(page).into_iter().map(move |e| (index, e)))
        .collect();
    let small = entries.iter().filter(|(_, entry)| entry.from & LARGE == 0);
    let mut appender = Segment::with_capacity(small.map(|(_, entry)| entry.len as usize).sum());
    let mut merged = Page::new(pages[0].first, Arc::clone(appender.segment()));
    merged.entries.reserve_exact(entries.len());
    for (index, entry) in entries {
        let page = pages[index];
        let place = page.place(&entry);
        let from = if entry.from & LARGE == 0 {
            u32_of(appender.append(place.segment.bytes(place.from as usize, place.to as usize), None))
        } else {
            merged.large.push(Arc::clone(place.segment));
            merged.large_bytes += entry.len as usize;
            LARGE | u32_of(merged.large.len() - 1)
        };
        let delta = delta(merged.first, page.sequence(&entry));
        merged.bytes += entry.len as usize;
        merged.entries.push(Entry { delta, from, ..entry });
        merged.lapsing.push(entry.lapses, delta);
    }
    merged.large.shrink_to_fit();
    merged.last = pages[pages.len() - 1].last;
    merged.live_bytes = merged.bytes;
    merged.sealed = true;
    merged
}

/// How far `sequence` lies behind the page's first number; pages span less than 2^32 numbers.
fn delta(first: Sequence, sequence: Sequence) -> u32 {
    u32::try_from(sequence.0 - first.0).expect("a page spans less than 2^32 numbers")
}

/// Pages are bounded far below 2^31 in every respect, frames by the largest body.
fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("pages and frames are below 2 GiB")
}
