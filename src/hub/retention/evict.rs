//! Keeping the history within its bounds of number, bytes as really held, and age.

use std::time::Duration;

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::budget::{self, CHANNEL_STEPS, EVENT_STEPS, NAME_STEPS};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::table::Removal;
use crate::hub::history::page::Entry;
use crate::hub::options::ticks;
use crate::hub::state::State;
use crate::record::targets::is_client;

/// The most sparse pages that one hold of the lock compacts while there is room.
const COMPACTIONS_PER_CALL_MAX: usize = 2;

/// Up to this part of `Retention::bytes_max` the ids of publishers drive out events. Beyond it, ids
/// whose events are gone go first; otherwise the history would in the end be driven out by mere names of
/// places in it.
const OWN_IDS_SHARE: usize = 4;

/// The part of `Retention::bytes_max` that the names of former channels may keep when there is no room.
const FORMER_SHARE: usize = 8;

impl State {
    /// Retains `sequence`, with its publisher's id if it has one, as the newest event of a channel.
    /// [`State::enforce_retention`] gives up what is over the bound.
    pub(in crate::hub) fn retain(&mut self, channel: ChannelId, sequence: Sequence, own_id: Option<&str>) {
        if self.channels.retain(channel, sequence, self.retention.events_max) {
            self.over.push(channel);
        }
        if own_id.is_some() || !self.own_ids.is_empty() {
            let name = self.channels.name(channel);
            // An event to one client is kept for its stream alone, and no other stream can resume after
            // it.
            let own_id = own_id.filter(|_| !is_client(name));
            self.own_ids.note_event(name, sequence, own_id);
            self.budget.spend(NAME_STEPS);
            self.forget_passed_ids(channel);
        }
    }

    /// Gives up what is over the bounds, as far as every shard has taken it, and tidies up, as the
    /// budget of this hold allows.
    pub(in crate::hub) fn enforce_retention(&mut self) {
        let taken = self.taken_by_all();
        // Lapsed events go first: otherwise a channel would give up events that it could keep.
        self.give_up_lapsed(taken);
        self.evict_from_full_channels(taken);
        self.continue_giving_up_events();
        if let Some(age_max) = self.retention.age_max {
            self.evict_older_than(age_max, taken);
        }
        self.own_ids.continue_giving_up(&self.budget);
        self.tidy_pages(taken);
        self.remove_idle_channels(taken);
        // What must go in any case goes before events that could stay if there were room.
        let is_left = self.budget.is_spent_to(3);
        while !is_left && self.lacks_room() && !self.budget.is_spent() {
            // Bytes that nobody needs go before retained events.
            let has_made_room = self.compact(taken)
                || self.forget_former_channel()
                || self.forget_own_id(self.history.first().unwrap_or(Sequence::MAX))
                || self.evict_oldest_page(taken)
                || self.forget_own_id(Sequence::MAX);
            if !has_made_room {
                break;
            }
            self.remove_idle_channels(taken);
        }
        self.is_unfinished = self.budget.is_spent_to(3);
        self.gather_and_sort();
    }

    /// Returns true if more bytes are held than allowed.
    pub(in crate::hub) fn lacks_room(&self) -> bool {
        self.held_bytes() > self.retention.bytes_max
    }

    /// Returns true if something may be given up after a shard has taken more.
    pub(in crate::hub) fn has_retention_due(&self) -> bool {
        let taken = self.taken_by_all();
        self.is_unfinished
            || self.over.has_due(taken)
            || self.idle.has_due(taken)
            || self.has_lapsed()
            || self.lacks_room()
    }

    /// The bytes that the history, channels, targets and ids of publishers hold.
    pub(in crate::hub) fn held_bytes(&self) -> usize {
        self.history.held_bytes() + self.channels.bytes() + self.targets.bytes() + self.own_ids.bytes()
    }

    /// Gives up the oldest events of channels with too many events, or with a dropped history.
    fn evict_from_full_channels(&mut self, taken: Sequence) {
        while !self.budget.is_spent_to(3)
            && let Some(channel) = self.over.pop(taken)
        {
            self.budget.spend(CHANNEL_STEPS);
            let reached = self.evict_down_to_bound(channel, taken);
            match reached {
                Reached::Bound => {
                    self.channels.change(channel, |ledger| ledger.is_over = false);
                    if self.channels.get(channel).retained.is_empty() {
                        self.idle.push(channel); // It could not leave the table while it was over its bound.
                    }
                }
                Reached::Taken => self.over.put_off(channel),
                Reached::Budget => self.over.push(channel),
            }
        }
    }

    fn evict_down_to_bound(&mut self, channel: ChannelId, taken: Sequence) -> Reached {
        loop {
            let ledger = self.channels.get(channel);
            let Some(oldest) = ledger.retained.first() else { return Reached::Bound };
            let is_surplus = ledger.retained.len() > self.retention.events_max;
            if !is_surplus && oldest > ledger.dropped_through {
                return Reached::Bound;
            }
            if oldest > taken {
                return Reached::Taken;
            }
            if self.budget.is_spent_to(3) {
                return Reached::Budget;
            }
            self.budget.spend(EVENT_STEPS);
            self.evict_oldest(channel, taken);
        }
    }

    /// Gives up a channel's oldest event.
    fn evict_oldest(&mut self, channel: ChannelId, taken: Sequence) {
        let Some(sequence) = self.channels.get(channel).retained.first() else { return };
        if self.is_lapsed(sequence) {
            self.channels.lapse(channel, sequence);
        } else {
            self.channels.evict_oldest(channel);
            // The loss of a dropped event was noted by the drop.
            if self.channels.has_patterns()
                && sequence > self.channels.get(channel).dropped_through
                && let Some(target) = self.history.target_of(sequence)
            {
                self.channels.note_lost(&[channel], &self.targets.channels(target), sequence);
            }
        }
        self.history.release(sequence, taken);
        self.note_given_up(channel);
    }

    /// Does what follows when a channel has given up an event.
    pub(super) fn note_given_up(&mut self, channel: ChannelId) {
        self.forget_passed_ids(channel);
        if self.channels.get(channel).retained.is_empty() {
            self.idle.push(channel);
        }
    }

    /// Forgets the ids of a channel that no longer name a place.
    fn forget_passed_ids(&mut self, channel: ChannelId) {
        if self.own_ids.is_empty() {
            return;
        }
        let (name, oldest) = (self.channels.name(channel), self.channels.get(channel).retained.first());
        self.own_ids.forget_passed(name, self.retention.events_max, oldest, &self.budget);
    }

    /// Forgets the oldest id of a publisher, if such ids hold more than their share and its event lies
    /// before `end`. Returns true if it was forgotten.
    fn forget_own_id(&mut self, end: Sequence) -> bool {
        let is_forgotten = self.own_ids.bytes() > self.retention.bytes_max / OWN_IDS_SHARE
            && self.own_ids.oldest().is_some_and(|oldest| oldest < end)
            && self.own_ids.forget_oldest();
        self.budget.spend(if is_forgotten { NAME_STEPS } else { 1 });
        is_forgotten
    }

    /// Forgets the oldest former channel, if their names hold more than their share. Returns true if one
    /// was forgotten.
    fn forget_former_channel(&mut self) -> bool {
        let former = &mut self.channels.forgotten;
        let is_forgotten = former.bytes() > self.retention.bytes_max / FORMER_SHARE && former.forget_oldest();
        self.budget.spend(if is_forgotten { NAME_STEPS } else { 1 });
        is_forgotten
    }

    /// Gives up dead pages, and compacts some sparse pages if those hold much.
    fn tidy_pages(&mut self, taken: Sequence) {
        let State { targets, history, budget, .. } = self;
        history.give_up_dead(taken, budget, |target| targets.forget(target));
        for _ in 0..COMPACTIONS_PER_CALL_MAX {
            if self.budget.is_spent_to(3) || !self.history.is_much_sparse() || !self.compact(taken) {
                break;
            }
        }
    }

    /// Compacts a sparse page. Returns false if there is none that every shard has taken.
    fn compact(&mut self, taken: Sequence) -> bool {
        let State { targets, history, budget, .. } = self;
        history.compact(taken, budget, |target| targets.forget(target))
    }

    /// Gives up events of the oldest page, and the page once all of them are. Returns false if the page
    /// must stay.
    fn evict_oldest_page(&mut self, taken: Sequence) -> bool {
        let Some(page) = self.history.oldest_to_go(taken) else { return false };
        let mut index = page.index_after(self.evicted_through);
        while let Some((sequence, entry)) = self.history.oldest_entry(index) {
            if self.budget.is_spent() {
                self.history.note_if_sparse(0);
                return true;
            }
            self.budget.spend(1);
            if entry.holders > 0 {
                let gone = self.evict_from_channels(&entry, sequence);
                self.history.release_oldest(index, gone);
            }
            self.evicted_through = sequence;
            index += 1;
        }
        let Some(page) = self.history.pop_oldest(taken) else { return false };
        page.entries.iter().for_each(|entry| self.targets.forget(entry.target));
        self.budget.spend(budget::steps(page.entries.len() / 8));
        true
    }

    /// Gives up events from the front of the order; only these can be too old.
    fn evict_older_than(&mut self, age_max: Duration, taken: Sequence) {
        let Some(oldest_tick) = self.now.checked_sub(ticks(age_max)) else { return };
        while !self.budget.is_spent_to(3)
            && let Some(page) = self.history.pages().get(self.history.page_index(self.expired_through.next()))
        {
            self.budget.spend(2);
            let Some(entry) = page.entries.get(page.index_after(self.expired_through)) else {
                if page.last() > taken || !page.is_sealed() {
                    return;
                }
                self.expired_through = page.last(); // Compaction removed its last entries.
                continue;
            };
            let (sequence, entry) = (page.sequence(entry), *entry);
            if entry.at >= oldest_tick || sequence > taken {
                return;
            }
            self.expired_through = sequence;
            if entry.holders > 0 {
                self.release_everywhere(&entry, sequence, taken);
            }
        }
    }

    /// Removes an event from all channels that retain it and from the history's account.
    fn release_everywhere(&mut self, entry: &Entry, sequence: Sequence, taken: Sequence) {
        for _ in 0..self.evict_from_channels(entry, sequence) {
            self.history.release(sequence, taken);
        }
    }

    /// Removes an event, the oldest retained one of all, from the channels that retain it, and returns
    /// how many did.
    fn evict_from_channels(&mut self, entry: &Entry, sequence: Sequence) -> usize {
        if entry.has_lapsed(self.now) {
            return self.lapse(entry.target, sequence);
        }
        let all = self.targets.channels(entry.target);
        let mut evicted = 0;
        let mut lost: SmallVec<[ChannelId; 4]> = SmallVec::new();
        self.budget.spend(EVENT_STEPS * budget::steps(all.len()));
        for &channel in &all {
            let oldest = self.channels.peek(channel).and_then(|channel| channel.retained.first());
            if oldest == Some(sequence) {
                self.channels.evict_oldest(channel);
                self.note_given_up(channel);
                evicted += 1;
                if sequence > self.channels.get(channel).dropped_through {
                    lost.push(channel);
                }
            }
        }
        self.channels.note_lost(&lost, &all, sequence);
        evicted
    }

    /// Removes channels that became idle when a subscription ended.
    pub(in crate::hub) fn tidy_table(&mut self) {
        let taken = self.taken_by_all();
        self.remove_idle_channels(taken);
        self.is_unfinished |= self.budget.is_spent_to(3);
    }

    /// Removes channels without subscribers and retained events from the table.
    fn remove_idle_channels(&mut self, taken: Sequence) {
        while !self.budget.is_spent_to(3)
            && let Some(channel) = self.idle.pop(taken)
        {
            match self.channels.remove_if_idle(channel, taken) {
                Removal::Removed => self.budget.spend(NAME_STEPS),
                Removal::NotIdle => self.budget.spend(CHANNEL_STEPS),
                Removal::NotYet => {
                    self.budget.spend(CHANNEL_STEPS);
                    self.idle.put_off(channel);
                }
            }
        }
    }
}

/// Why no more of a channel's oldest events are given up now.
enum Reached {
    /// The channel is within its bound.
    Bound,
    /// A shard has not taken the next event.
    Taken,
    /// The budget is spent, and others must get the lock.
    Budget,
}
