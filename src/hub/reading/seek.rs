//! Finding where a stream begins that names no place: after an event with its publisher's id, or before
//! the last retained events.
//!
//! Only events up to where the stream subscribed are searched; that place is known at once. The begin
//! may take long to find: what one hold of the lock does not suffice for continues with the stream's
//! slices, before any of them has frames. Events given up meanwhile are a gap, like any event that is
//! given up before it is read.

use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::budget::{CHANNEL_STEPS, NAME_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::reading::cursor::{Cursor, Seek};
use crate::hub::state::State;
use crate::hub::subscribe::Begun;
use crate::record::targets::{TARGET_ALL, is_channel};

/// The number of names looked at between two checks of the budget.
const NAMES_PER_LOOK: usize = 16;

/// The result of a search.
pub(in crate::hub) enum Sought {
    /// The stream begins after this place.
    Place(Sequence),
    /// The stream begins after this place, and fewer events are left than it asked for. If events were
    /// lost since it subscribed, some of those it asked for are among them.
    Short(Sequence),
    /// No event has this id: the stream begins where it subscribed.
    Unknown(Box<str>),
    /// The search continues with the next slice.
    NotYet(Seek),
}

impl State {
    /// Begins a stream after the earliest event with this publisher's id among the events that the
    /// stream would receive.
    pub(in crate::hub) fn begin_after_own(
        &mut self,
        id: Box<str>,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Begun {
        let head = self.epochs.head();
        let names = channels.iter().map(|&id| self.channels.name(id)).filter(|name| !is_pattern(name));
        let places = names.chain([TARGET_ALL]).map(|name| self.own_ids.place_on(name, &id));
        let least = places.flatten().min();
        let prefixes = channels.iter().filter_map(|&id| self.channels.prefix(id)).map(Box::from).collect();
        self.budget.spend(NAME_STEPS * steps(channels.len()));
        match self.seek(Seek::Own { id, prefixes, after: None, least }, channels, head) {
            Sought::Place(place) => Begun::After(self.cursor_at(place, channels, is_counting)),
            // A search for an id never ends as short.
            Sought::Unknown(_) | Sought::Short(_) => {
                Begun::Unknown(self.cursor_at(head, channels, is_counting))
            }
            Sought::NotYet(seek) => Begun::After(self.cursor_at(head, channels, false).seeking(seek)),
        }
    }

    /// Creates the cursor of a stream that begins with the last `count` retained events of its channels.
    /// Events of its user and to all are not counted.
    pub(in crate::hub) fn cursor_before_last(
        &mut self,
        count: usize,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let head = self.epochs.head();
        let seek = Seek::Last { count, before: head.next(), found: None };
        match self.seek(seek, channels, head) {
            Sought::Place(place) | Sought::Short(place) => {
                self.cursor_of_retained(place, channels, is_counting)
            }
            Sought::Unknown(_) => self.cursor_of_retained(head, channels, is_counting),
            Sought::NotYet(seek) => {
                let mut cursor = self.cursor_of_retained(Sequence::START, channels, is_counting);
                cursor.place = head;
                cursor.seeking(seek)
            }
        }
    }

    /// Continues a search, as the budget allows, for a stream that subscribed at `head`.
    pub(super) fn seek(&mut self, seek: Seek, channels: &[ChannelId], head: Sequence) -> Sought {
        match seek {
            Seek::Own { id, prefixes, after, least } => self.seek_own(id, prefixes, after, least, head),
            Seek::Last { count, before, found } => {
                let targets = channels.iter().copied();
                let named: SmallVec<[ChannelId; 8]> =
                    targets.filter(|&id| is_channel(self.channels.name(id))).collect();
                match self.merged(&named) {
                    Some(merged) => self.seek_last_in(&merged, count, before, found, head),
                    None => self.seek_last_of(&named, count, before, found, head),
                }
            }
        }
    }

    fn seek_own(
        &mut self,
        id: Box<str>,
        mut prefixes: Vec<Box<str>>,
        mut after: Option<Arc<str>>,
        mut least: Option<Sequence>,
        head: Sequence,
    ) -> Sought {
        while let Some(prefix) = prefixes.last() {
            if self.budget.is_spent() {
                return Sought::NotYet(Seek::Own { id, prefixes, after, least });
            }
            let (place, last) =
                self.own_ids.place_on_any(prefix, after.as_deref(), &id, head, NAMES_PER_LOOK);
            self.budget.spend(NAME_STEPS * steps(NAMES_PER_LOOK));
            least = least.into_iter().chain(place).min();
            if last.is_none() {
                prefixes.pop();
            }
            after = last;
        }
        least.map_or(Sought::Unknown(id), Sought::Place)
    }

    /// Merges a few channels backwards from their newest events.
    fn seek_last_in(
        &mut self,
        channels: &[ChannelId],
        mut count: usize,
        before: Sequence,
        mut found: Option<Sequence>,
        head: Sequence,
    ) -> Sought {
        let left = self.readable_before(channels, before);
        let number = |channel: usize, index: usize| self.channels.get(channels[channel]).retained.get(index);
        // Two cases need no look at each event: `count` is more than there are, or there is one channel,
        // whose numbers are in order.
        if left.iter().map(|(from, to)| to - from).sum::<usize>() < count {
            let firsts = left.iter().enumerate().filter(|(_, (from, to))| from < to);
            let first = firsts.filter_map(|(channel, &(from, _))| number(channel, from)).min();
            return Sought::Short(place_before(first.into_iter().chain(found).min(), head));
        }
        // A lapsed event is not read, but mostly the channels no longer hold it.
        if let [(_, to)] = left[..]
            && !self.has_lapsed()
        {
            let first = to.checked_sub(count).and_then(|index| number(0, index)).filter(|_| count > 0);
            return Sought::Place(place_before(first.or(found), head));
        }
        let newest = left.iter().enumerate().filter(|(_, (from, to))| from < to);
        let mut heap: BinaryHeap<(Sequence, usize, usize)> = newest
            .filter_map(|(channel, &(_, to))| Some((number(channel, to - 1)?, channel, to - 1)))
            .collect();
        let mut last = None;
        while let Some((sequence, channel, index)) = heap.pop() {
            if last != Some(sequence) {
                if count == 0 {
                    break;
                }
                if self.budget.is_spent()
                    && let Some(before) = last
                {
                    return Sought::NotYet(Seek::Last { count, before, found });
                }
                self.budget.spend(CHANNEL_STEPS);
                last = Some(sequence);
                if !self.is_lapsed(sequence) {
                    found = last;
                    count -= 1;
                }
            }
            if index > left[channel].0 {
                heap.extend(number(channel, index - 1).map(|sequence| (sequence, channel, index - 1)));
            }
        }
        sought(place_before(found, head), count)
    }

    /// Each channel's readable events before `before`: the index of the first, and the index after the
    /// last.
    fn readable_before(&self, channels: &[ChannelId], before: Sequence) -> Vec<(usize, usize)> {
        self.budget.spend(CHANNEL_STEPS * 2 * steps(channels.len()));
        let readable = |&id: &ChannelId| {
            let ledger = self.channels.get(id);
            let from = ledger.index_after(Sequence::START);
            (from, ledger.retained.count_through(Sequence(before.0 - 1)).max(from))
        };
        channels.iter().map(readable).collect()
    }

    /// Walks the order of all events backwards: the events of patterns may be spread over very many
    /// channels.
    fn seek_last_of(
        &mut self,
        channels: &[ChannelId],
        mut count: usize,
        mut before: Sequence,
        mut found: Option<Sequence>,
        head: Sequence,
    ) -> Sought {
        let selected = self.select(channels);
        let pages = (self.history.page_index(before) + 1).min(self.history.pages().len());
        for page in self.history.pages().range(0..pages).rev() {
            for entry in page.entries[..page.index_after(Sequence(before.0 - 1))].iter().rev() {
                if count == 0 {
                    return Sought::Place(place_before(found, head));
                }
                if self.budget.is_spent() {
                    return Sought::NotYet(Seek::Last { count, before, found });
                }
                self.budget.spend(1);
                let sequence = page.sequence(entry);
                if self.selects(&selected, entry, sequence) {
                    found = Some(sequence);
                    count -= 1;
                }
                before = sequence;
            }
        }
        sought(place_before(found, head), count)
    }
}

fn is_pattern(name: &str) -> bool {
    crate::hub::channels::ledger::pattern_prefix(name).is_some()
}

/// The place before `first`, or the head if there is no such event.
fn place_before(first: Option<Sequence>, head: Sequence) -> Sequence {
    first.map_or(head, |first| Sequence(first.0 - 1))
}

/// The result of a search for events, with `missing` of them not found.
fn sought(place: Sequence, missing: usize) -> Sought {
    if missing > 0 { Sought::Short(place) } else { Sought::Place(place) }
}
