//! What the history keeps, and for how long: bounds by number, by bytes as really held, and by age.

use std::time::Duration;

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::is_client;
use crate::hub::budget::{self, CHANNEL_STEPS, EVENT_STEPS, NAME_STEPS};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::table::Removal;
use crate::hub::history::page::Entry;
use crate::hub::state::State;

/// Sparse pages that one hold of the lock compacts at the most while there is room.
const COMPACTIONS_PER_CALL_MAX: usize = 2;

/// The part of `Retention::bytes_max` up to which ids of publishers drive out events. Beyond it those go first whose events
/// are gone: else the history would in the end be driven out by what only names places in it.
const OWN_IDS_SHARE: usize = 4;

/// The part of `Retention::bytes_max` that names of former channels may take where there is no room.
const FORMER_SHARE: usize = 8;

impl State {
    /// Retains `sequence`, with this id of its publisher's, as the newest event of a channel; what is over the bound goes with [`State::enforce_retention`].
    pub(in crate::hub) fn retain(&mut self, channel: ChannelId, sequence: Sequence, own_id: Option<&str>) {
        if self.channels.retain(channel, sequence, self.retention.events_max) {
            self.over.push(channel);
        }
        if own_id.is_some() || !self.own_ids.is_empty() {
            let name = self.channels.name(channel);
            // What goes to one client is kept for its stream alone, and none can resume after it.
            let own_id = own_id.filter(|_| !is_client(name));
            self.own_ids.note_event(name, sequence, own_id);
            self.budget.spend(NAME_STEPS);
            self.forget_passed_ids(channel);
        }
    }

    /// Gives up what is beyond the bounds of bytes and age, as far as every shard has taken it, and tidies up: as much as the
    /// budget of this hold allows.
    pub(in crate::hub) fn enforce_retention(&mut self) {
        let taken = self.taken_by_all();
        // What has lapsed goes first: else a channel would give up events for it that it could keep.
        self.give_up_lapsed(taken);
        self.evict_from_full_channels(taken);
        self.go_on_leaving();
        if let Some(age_max) = self.retention.age_max {
            self.evict_older_than(age_max, taken);
        }
        self.own_ids.go_on(&self.budget);
        self.tidy_pages(taken);
        self.remove_idle_channels(taken);
        // What goes anyway goes before what would stay if there were room.
        let is_left = self.budget.is_spent_to(3);
        while !is_left && self.lacks_room() && !self.budget.is_spent() {
            // Bytes that nobody needs go before what is retained does.
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

    /// Returns true if and only if more is held than may be.
    pub(in crate::hub) fn lacks_room(&self) -> bool {
        self.held_bytes() > self.retention.bytes_max
    }

    /// Returns true if something may be given up now that a shard has taken more.
    pub(in crate::hub) fn has_retention_due(&self) -> bool {
        let taken = self.taken_by_all();
        self.is_unfinished
            || self.over.has_due(taken)
            || self.idle.has_due(taken)
            || self.has_lapsed()
            || self.lacks_room()
    }

    /// Bytes that history, channels and ids of publishers hold.
    pub(in crate::hub) fn held_bytes(&self) -> usize {
        self.history.held_bytes() + self.channels.bytes() + self.targets.bytes() + self.own_ids.bytes()
    }

    /// Gives up the oldest events of channels that have more than they may, or whose history was dropped.
    fn evict_from_full_channels(&mut self, taken: Sequence) {
        while !self.budget.is_spent_to(3)
            && let Some(channel) = self.over.pop(taken)
        {
            self.budget.spend(CHANNEL_STEPS);
            let reached = self.evict_down_to_bound(channel, taken);
            match reached {
                Reached::Bound => {
                    self.channels.change(channel, |record| record.is_over = false);
                    if self.channels.get(channel).retained.is_empty() {
                        self.idle.push(channel); // As long as it was over its bound it could not leave.
                    }
                }
                Reached::Taken => self.over.put_off(channel),
                Reached::Budget => self.over.push(channel),
            }
        }
    }

    fn evict_down_to_bound(&mut self, channel: ChannelId, taken: Sequence) -> Reached {
        loop {
            let record = self.channels.get(channel);
            let Some(oldest) = record.retained.first() else { return Reached::Bound };
            let is_surplus = record.retained.len() > self.retention.events_max;
            if !is_surplus && oldest > record.dropped_through {
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
            // What was dropped was noted then.
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

    /// Notes what follows from it that a channel has given up an event.
    pub(super) fn note_given_up(&mut self, channel: ChannelId) {
        self.forget_passed_ids(channel);
        if self.channels.get(channel).retained.is_empty() {
            self.idle.push(channel);
        }
    }

    /// Forgets the ids of a channel that are not known as places any more.
    fn forget_passed_ids(&mut self, channel: ChannelId) {
        if self.own_ids.is_empty() {
            return;
        }
        let (name, oldest) = (self.channels.name(channel), self.channels.get(channel).retained.first());
        self.own_ids.forget_passed(name, self.retention.events_max, oldest, &self.budget);
    }

    /// Forgets the oldest id of a publisher, where such ids hold more than their share, and its event's place lies before
    /// `end`; returns false where it stays.
    fn forget_own_id(&mut self, end: Sequence) -> bool {
        let is_forgotten = self.own_ids.bytes() > self.retention.bytes_max / OWN_IDS_SHARE
            && self.own_ids.oldest().is_some_and(|oldest| oldest < end)
            && self.own_ids.forget_oldest();
        self.budget.spend(if is_forgotten { NAME_STEPS } else { 1 });
        is_forgotten
    }

    /// Forgets the oldest former channel, where their names hold more than their share; returns false where they do not.
    fn forget_former_channel(&mut self) -> bool {
        let former = &mut self.channels.forgotten;
        let is_forgotten = former.bytes() > self.retention.bytes_max / FORMER_SHARE && former.forget_oldest();
        self.budget.spend(if is_forgotten { NAME_STEPS } else { 1 });
        is_forgotten
    }

    /// Gives up pages of which nothing is retained, and compacts some of which little is, where those hold much.
    fn tidy_pages(&mut self, taken: Sequence) {
        let State { targets, history, budget, .. } = self;
        history.give_up_dead(taken, budget, |target| targets.forget(target));
        for _ in 0..COMPACTIONS_PER_CALL_MAX {
            if self.budget.is_spent_to(3) || !self.history.is_much_sparse() || !self.compact(taken) {
                break;
            }
        }
    }

    /// Compacts a sparse page; returns false where there is none that every shard is done with.
    fn compact(&mut self, taken: Sequence) -> bool {
        let State { targets, history, budget, .. } = self;
        history.compact(taken, budget, |target| targets.forget(target))
    }

    /// Gives up events of the oldest page, and the page when all of them are; returns false where it must stay.
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

    /// Gives up events from the front of the order, the only ones that can be too old.
    fn evict_older_than(&mut self, age_max: Duration, taken: Sequence) {
        let age_ticks = u32::try_from(age_max.as_millis() / crate::hub::TICK.as_millis()).unwrap_or(u32::MAX);
        let Some(oldest_tick) = self.now.checked_sub(age_ticks) else { return };
        while !self.budget.is_spent_to(3)
            && let Some(page) = self.history.pages().get(self.history.page_index(self.expired_through.next()))
        {
            self.budget.spend(2);
            let Some(entry) = page.entries.get(page.index_after(self.expired_through)) else {
                if page.last() > taken || !page.is_sealed() {
                    return;
                }
                self.expired_through = page.last(); // Its last entries went when it was compacted.
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

    /// Takes an event out of all channels that retain it, and out of the history's account.
    fn release_everywhere(&mut self, entry: &Entry, sequence: Sequence, taken: Sequence) {
        for _ in 0..self.evict_from_channels(entry, sequence) {
            self.history.release(sequence, taken);
        }
    }

    /// Takes an event, the oldest retained one of all, out of the channels that retain it; returns how many did.
    fn evict_from_channels(&mut self, entry: &Entry, sequence: Sequence) -> usize {
        if entry.lapses <= self.now {
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

    /// Takes channels out of the table that a subscription has left idle.
    pub(in crate::hub) fn tidy_table(&mut self) {
        let taken = self.taken_by_all();
        self.remove_idle_channels(taken);
        self.is_unfinished |= self.budget.is_spent_to(3);
    }

    /// Takes channels that nobody subscribes to and that retain nothing out of the table.
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
    /// It has no more than it may.
    Bound,
    /// A shard has not taken the next one.
    Taken,
    /// Others are to have the lock.
    Budget,
}
