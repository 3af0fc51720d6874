//! Giving back the memory of sparse pages: the little that is retained is copied to a new page.
//!
//! Events mostly go in the order in which they came, so most sparse pages are soon given up whole.
//! Copying what is left of them earlier would be wasted work, and would leave holes in the heap. So
//! sparse pages wait while they are a small part of the bytes held and there is room for more.

use std::mem;
use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::segment::Segment;
use crate::hub::budget::{self, Budget, NAME_STEPS};
use crate::hub::history::page::{Entry, FramePlace, Page, delta};
use crate::hub::history::store::{History, PAGE_ENTRIES_MAX};
use crate::hub::history::targets::TargetId;

/// A page is sparse if less than this part of its bytes is retained.
const RETAINED_SHARE: usize = 4;

/// Sparse pages wait while they hold no more than this part of all bytes.
const WAITING_SHARE: usize = 16;

/// The most pages that are merged with another, and the cost of each page in steps, beside what it
/// holds. Pages of few events are many.
const MERGED_PAGES_MAX: usize = 32;
const PAGE_STEPS: usize = 4;

impl History {
    /// Notes whether a sealed page is sparse or dead.
    pub(in crate::hub) fn note_if_sparse(&mut self, index: usize) {
        let page = &self.pages[index];
        if !page.sealed {
            return;
        }
        if page.live_bytes == 0 {
            self.leftovers.dead.push_back(page.first);
        } else if page.live_bytes * RETAINED_SHARE < page.bytes
            && !self.leftovers.sparse.contains_key(&page.first)
        {
            self.leftovers.sparse.insert(page.first, page.held_bytes());
            self.leftovers.sparse_bytes += page.held_bytes();
        }
    }

    /// Gives up the pages that retain nothing and that every shard has taken. `forget` gets the target
    /// of each entry that goes.
    pub(in crate::hub) fn give_up_dead(
        &mut self,
        taken_by_all: Sequence,
        budget: &Budget,
        mut forget: impl FnMut(TargetId),
    ) {
        while !budget.is_spent_to(3)
            && let Some(&first) = self.leftovers.dead.front()
        {
            let found = self.index_of_page(first).filter(|&index| self.pages[index].live_bytes == 0);
            if let Some(index) = found {
                if self.pages[index].last > taken_by_all {
                    break; // A shard still needs this page and those after it.
                }
                self.compact_page(index, budget, &mut forget);
            }
            self.leftovers.dead.pop_front();
        }
    }

    /// Returns true if sparse pages hold enough to be compacted even while there is room.
    pub(in crate::hub) fn is_much_sparse(&self) -> bool {
        self.leftovers.sparse_bytes > self.held_bytes / WAITING_SHARE
    }

    /// Compacts the oldest sparse page, if every shard has taken it. `forget` gets the target of each
    /// entry that goes. Returns true if a page was compacted.
    pub(in crate::hub) fn compact(
        &mut self,
        taken_by_all: Sequence,
        budget: &Budget,
        mut forget: impl FnMut(TargetId),
    ) -> bool {
        let oldest = self.leftovers.sparse.first_key_value();
        let index = oldest.and_then(|(&first, _)| self.index_of_page(first));
        let Some(index) = index.filter(|&index| self.pages[index].last <= taken_by_all) else { return false };
        self.compact_page(index, budget, &mut forget);
        true
    }

    fn index_of_page(&self, first: Sequence) -> Option<usize> {
        let index = self.pages.partition_point(|page| page.first < first);
        self.pages.get(index).filter(|page| page.first == first)?;
        Some(index)
    }

    /// Compacts a page in one go: it has at most [`PAGE_ENTRIES_MAX`] entries and a segment of bytes.
    fn compact_page(&mut self, index: usize, budget: &Budget, forget: &mut impl FnMut(TargetId)) {
        let from = self.mergeable_from(index);
        let work = |page: &Page| PAGE_STEPS + page.entries.len() / 4 + page.live_bytes / 256;
        budget.spend(
            NAME_STEPS + budget::steps(self.pages.range(from..index + 1).map(|page| work(page)).sum()),
        );
        let dead = |entry: &&Entry| entry.holders == 0;
        let entries = self.pages.range(from..index + 1).flat_map(|page| &page.entries);
        entries.filter(dead).for_each(|entry| forget(entry.target));
        let merged = (self.pages[index].live_bytes > 0)
            .then(|| merge(&self.pages.range(from..index + 1).map(|page| &**page).collect::<Vec<_>>()));
        let mut rest = from;
        if let Some(merged) = merged {
            let (held_bytes, first, next) = (merged.held_bytes(), merged.first, merged.lapsing.next());
            let gone = mem::replace(&mut self.pages[from], Box::new(merged));
            self.forget_page(&gone);
            self.held_bytes += held_bytes;
            self.note_next_lapse(first, None, next);
            rest += 1;
        }
        for _ in rest..=index {
            if let Some(gone) = self.pages.remove(rest) {
                self.forget_page(&gone);
            }
        }
    }

    /// Returns the first of the pages that are merged with the page at `index`, so that small leftovers
    /// do not pile up. Only neighbours of similar size are merged, so each byte is copied a logarithmic
    /// number of times.
    fn mergeable_from(&self, index: usize) -> usize {
        let page = &self.pages[index];
        let (mut from, mut live_bytes, mut entries_len) = (index, page.live_bytes, page.entries.len());
        while let Some(before) = from.checked_sub(1).map(|before| &self.pages[before])
            && index - from < MERGED_PAGES_MAX
            && before.sealed
            && before.live_bytes <= live_bytes
            && before.live_bytes + live_bytes <= self.segment_bytes
            && before.entries.len() + entries_len <= PAGE_ENTRIES_MAX
            && page.last.0 - before.first.0 < u64::from(u32::MAX)
        {
            from -= 1;
            live_bytes += before.live_bytes;
            entries_len += before.entries.len();
        }
        from
    }
}

/// Merges what several adjacent pages retain into one page.
fn merge(pages: &[&Page]) -> Page {
    let live =
        |page: &&Page| page.entries.iter().filter(|entry| entry.holders > 0).copied().collect::<Vec<_>>();
    let entries: Vec<(usize, Entry)> = pages
        .iter()
        .enumerate()
        .flat_map(|(index, page)| live(page).into_iter().map(move |e| (index, e)))
        .collect();
    let small = entries.iter().filter(|(_, entry)| !entry.place.is_large());
    let mut appender =
        Segment::with_capacity(small.map(|(index, entry)| pages[*index].place(entry).len()).sum());
    let mut merged = Page::new(pages[0].first, Arc::clone(appender.segment()));
    merged.entries.reserve_exact(entries.len());
    for (index, entry) in entries {
        let page = pages[index];
        let old = page.place(&entry);
        let place = if entry.place.is_large() {
            merged.large.push(Arc::clone(old.segment));
            merged.large_bytes += old.len();
            FramePlace::last_of_large(merged.large.len())
        } else {
            let bytes = old.segment.bytes(old.from as usize, old.to as usize);
            FramePlace::shared(appender.append(bytes, None), old.len())
        };
        let delta = delta(merged.first, page.sequence(&entry));
        merged.bytes += old.len();
        merged.entries.push(Entry { delta, place, ..entry });
        merged.lapsing.push(entry.lapses, delta);
    }
    merged.large.shrink_to_fit();
    merged.last = pages[pages.len() - 1].last;
    merged.live_bytes = merged.bytes;
    merged.sealed = true;
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_merged_with_a_bounded_number_of_others() {
        let mut history = History::new(256 * 1024);
        for number in 0..100 {
            let first = Sequence(10 * number + 1);
            let page = Page { live_bytes: 1, sealed: true, ..Page::new(first, Segment::of(&[])) };
            history.pages.push_back(Box::new(page));
        }
        assert_eq!([10, 99].map(|index| history.mergeable_from(index)), [0, 99 - 32]);
    }
}
