//! Finding the events that have lapsed, page by page.

use crate::base::id::Sequence;
use crate::hub::history::store::History;
use crate::hub::history::targets::TargetId;

impl History {
    /// Returns when the next event lapses.
    pub(in crate::hub) fn next_lapse(&self) -> Option<u32> {
        self.next_lapses.first().map(|&(next, _)| next)
    }

    /// Removes up to `count_max` events that have lapsed by `now`, and returns those that a channel
    /// retains and every shard has taken, with their targets, and the number of events looked at. Events
    /// that a shard has not taken yet wait in `untaken_lapsed`, and do not hide others.
    pub(in crate::hub) fn drain_lapsed(
        &mut self,
        now: u32,
        taken_by_all: Sequence,
        count_max: usize,
    ) -> (Vec<(Sequence, TargetId)>, usize) {
        let (mut lapsed, mut looked_at) = (Vec::new(), 0);
        while looked_at < count_max {
            let sequence = match self.untaken_lapsed.first() {
                Some(&sequence) if sequence <= taken_by_all => {
                    self.untaken_lapsed.pop_first();
                    sequence
                }
                _ => match self.pop_next_lapsed(now) {
                    Some(sequence) => sequence,
                    None => break,
                },
            };
            looked_at += 1;
            if sequence > taken_by_all {
                self.untaken_lapsed.insert(sequence);
            } else if let Some(entry) = self.entry(sequence).filter(|entry| entry.holders > 0) {
                lapsed.push((sequence, entry.target));
            }
        }
        (lapsed, looked_at)
    }

    /// Removes and returns the next event that has lapsed by `now`.
    fn pop_next_lapsed(&mut self, now: u32) -> Option<Sequence> {
        let &(_, first) = self.next_lapses.first().filter(|&&(tick, _)| tick <= now)?;
        let index = self.pages.partition_point(|page| page.first < first);
        let page = &mut self.pages[index];
        let (lapses, delta) = page.lapsing.pop()?;
        let next = page.lapsing.next();
        self.note_next_lapse(first, Some(lapses), next);
        Some(first.plus(u64::from(delta)))
    }

    /// Updates the order of pages by their next lapse.
    pub(super) fn note_next_lapse(&mut self, first: Sequence, before: Option<u32>, next: Option<u32>) {
        if before != next {
            before.map(|before| self.next_lapses.remove(&(before, first)));
            next.map(|next| self.next_lapses.insert((next, first)));
        }
    }
}
