//! What channels and patterns have lost: which quantities are kept, and how a loss follows from them.
//!
//! An event is lost to a channel when it is given up, or its history is dropped, before the event has
//! lapsed. An event is lost to a pattern when a channel that the pattern matches loses it, and no other
//! channel of the event that the pattern matches still retains it. A lapsed event is never lost.
//!
//! # Quantities
//!
//! | quantity | for a channel | for a pattern |
//! | --- | --- | --- |
//! | `evicted_through` | its last event that was given up without having lapsed | the last event that the pattern has lost, by eviction or by a drop |
//! | `dropped_through` | its history was dropped up to here: no reader gets an event up to here | the highest `dropped_through` of its channels |
//! | `evicted_count` | the number of events given up without having lapsed, since it entered the table | not kept |
//! | lapsed numbers (`Lapsed`) | the number of its lapsed events and the numbers of the last 1024 | not kept |
//! | evictions | not kept | the number of events lost since it entered the table, and the latest of them |
//! | former channels (`Forgotten`) | its `evicted_through` when it enters the table again | gathered for a new pattern, see below |
//!
//! A channel gives up its oldest event first, so one place says what it has lost. The channels of a
//! pattern do so in any order, so a pattern counts its evictions: a loss is new if its count is.
//!
//! A new pattern gathers the losses of its channels, present and former: `evicted_through` becomes the
//! last of them up to the head at that time. No stream reads by a pattern before its gathering is
//! finished, nor while its shard's cursor lies before the `dropped_through` of one of its names.
//!
//! # What is lost after a place
//!
//! [`Channels::lost_after`] returns the last event that is lost after a place and not reported yet,
//! where `lost_through` is the greater of `evicted_through` and `dropped_through`:
//!
//! | | nothing reported after the place | a loss was reported |
//! | --- | --- | --- |
//! | channel | `lost_through`, if it is after the place | `lost_through`, if it is after the place and after the reported loss |
//! | pattern | `evicted_through`, if it is after the place | the highest number among the evictions since the report, if it is after the place |
//!
//! # When a stream is notified
//!
//! A stream looks for losses whenever it reads (`State::report_losses`). All unreported losses of its
//! channels and patterns after its place become one `gap` there, and its cursor notes each as a
//! [`ReportedLoss`]. An entry goes when the place has passed it. A loss of a name without an entry
//! causes no `gap` if another name of the stream has reported it already; `reading/gaps.rs` says when
//! this is so.
//!
//! # When `missed` is exact
//!
//! `missed` is the number of events that have passed, minus the number that the stream has seen. It is
//! given only where it is exact; otherwise the `gap` has no number. All of this must hold:
//!
//! - No event can reach the stream in two ways: it has had one channel and no pattern ever since it
//!   began.
//! - It is known how many events it has seen: nothing after the place where it began was lost at that
//!   time, or the stream has read a slice since.
//! - Of each of its targets, the numbers of all lapsed events after its place are still remembered.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::budget::{Budget, CHANNEL_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::ledger::pattern_prefix;
use crate::hub::channels::patterns::{Gathering, Stage};
use crate::hub::channels::table::{Channels, PLACES_PER_LOOK};
use crate::record::targets::is_channel;

/// A loss of a channel or pattern that a stream was notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct ReportedLoss {
    pub(in crate::hub) channel: ChannelId,
    /// The last event of the loss.
    pub(in crate::hub) through: Sequence,
    /// For a pattern: its number of evictions at that time.
    pub(in crate::hub) evictions: u64,
}

impl Channels {
    /// Continues gathering what a pattern's channels had lost before it entered the table, as the budget
    /// allows. Returns true if all of it is known. Losses meanwhile are noted as for any pattern.
    pub(in crate::hub) fn gather(&mut self, pattern: ChannelId, budget: &Budget) -> bool {
        let Some(mut gathering) = self.patterns.remove_gathering(pattern) else { return true };
        let prefix = self.prefix(pattern).map(Box::<str>::from).unwrap_or_default();
        while !budget.is_spent() {
            match &gathering.stage {
                Stage::Table(place) => {
                    let (channels, next) = self.part(*place, PLACES_PER_LOOK);
                    for id in channels {
                        let name = self.name(id);
                        if name.starts_with(&*prefix) && is_channel(name) && pattern_prefix(name).is_none() {
                            let ledger = self.get(id);
                            gathering.add(ledger.lost_through(), ledger.dropped_through);
                        }
                    }
                    budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK));
                    gathering.stage = next.map_or(Stage::Former(None), Stage::Table);
                }
                Stage::Former(after) => {
                    let (lost, last) =
                        self.forgotten.evicted_through_of(&prefix, after.as_deref(), PLACES_PER_LOOK);
                    gathering.add(lost, Sequence::START);
                    budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK));
                    if last.is_none() {
                        self.apply_gathered(pattern, &gathering);
                        return true;
                    }
                    gathering.stage = Stage::Former(last);
                }
            }
        }
        self.patterns.restore_gathering(pattern, gathering);
        false
    }

    fn apply_gathered(&mut self, pattern: ChannelId, gathering: &Gathering) {
        let Gathering { lost, dropped, .. } = *gathering;
        if lost.max(dropped) > Sequence::START {
            self.change(pattern, |ledger| {
                ledger.evicted_through = ledger.evicted_through.max(lost);
                ledger.dropped_through = ledger.dropped_through.max(dropped);
            });
        }
    }

    /// Counts the evictions of a pattern since it entered the table; 0 for a channel.
    pub(in crate::hub) fn evictions(&self, id: ChannelId) -> u64 {
        self.patterns.evictions(id)
    }

    /// Returns the last event after `place` that a channel or pattern has lost and that is not
    /// `reported`, if there is one.
    pub(in crate::hub) fn lost_after(
        &self,
        id: ChannelId,
        place: Sequence,
        reported: Option<&ReportedLoss>,
    ) -> Option<Sequence> {
        let (ledger, is_pattern) = (self.get(id), self.prefix(id).is_some());
        let (lost, place) = match reported {
            None if is_pattern => (ledger.evicted_through, place),
            None => (ledger.lost_through(), place),
            Some(reported) if is_pattern => {
                (self.patterns.evicted_since(id, reported.evictions).unwrap_or(Sequence::START), place)
            }
            Some(reported) => (ledger.lost_through(), reported.through.max(place)),
        };
        (lost > place).then_some(lost)
    }

    /// Returns false only if no channel, present or former, that `counts` accepts and whose name begins
    /// with `prefix` has lost an event after `place`. Returns true without looking further if more than
    /// a few names begin with `prefix`.
    pub(in crate::hub) fn may_have_lost(
        &self,
        prefix: &str,
        place: Sequence,
        counts: impl Fn(&str, Option<ChannelId>) -> bool,
        budget: &Budget,
    ) -> bool {
        let Some(matching) = self.beginning_with(prefix) else { return true };
        let matching: SmallVec<[ChannelId; 8]> = matching.take(PLACES_PER_LOOK + 1).collect();
        budget.spend(CHANNEL_STEPS * steps(matching.len() + PLACES_PER_LOOK));
        let has_lost =
            |&id: &ChannelId| self.get(id).lost_through() > place && counts(self.name(id), Some(id));
        if matching.len() > PLACES_PER_LOOK || matching.iter().any(has_lost) {
            return true;
        }
        // A former channel that came back has its losses in its own ledger.
        let is_former = |name: &str| self.find(name).is_none() && counts(name, None);
        self.forgotten.may_have_lost(prefix, place, PLACES_PER_LOOK, is_former)
    }

    /// Notes that a channel's history is dropped up to `through`. Streams of the channel and of its
    /// patterns read again once their shard has taken every event up to there. What the patterns lose is
    /// noted by [`Channels::note_lost_to`]. Events in `lapsed` had lapsed and are not lost.
    pub(in crate::hub) fn drop_through(
        &mut self,
        id: ChannelId,
        through: Sequence,
        lapsed: impl ExactSizeIterator<Item = Sequence>,
    ) {
        let has_subscribers = self.subscribers(id) > 0;
        self.change(id, |ledger| {
            ledger.dropped_through = through;
            if lapsed.len() > 0 {
                let known = ledger.lapsed.get_or_insert_default();
                known.note_dropped(lapsed);
                if !has_subscribers {
                    known.forget_numbers_through(through);
                }
            }
        });
        for pattern in self.all_patterns_of(id) {
            self.change(pattern, |ledger| ledger.dropped_through = through.max(ledger.dropped_through));
        }
    }

    /// Returns true if there are patterns.
    pub(in crate::hub) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The patterns with subscribers that a name matches.
    pub(in crate::hub) fn patterns_of(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        self.patterns.matching(name).filter(|&id| self.subscribers(id) > 0)
    }

    /// The patterns that a channel matches, with or without subscribers.
    pub(in crate::hub) fn all_patterns_of(&self, id: ChannelId) -> SmallVec<[ChannelId; 8]> {
        self.patterns.matching(self.name(id)).collect()
    }

    /// Notes that the channels `evicted` have given up an event of `target`. The patterns that match
    /// them lose it, unless another channel of the target that the pattern matches retains it.
    pub(in crate::hub) fn note_lost(
        &mut self,
        evicted: &[ChannelId],
        target: &[ChannelId],
        sequence: Sequence,
    ) {
        if self.patterns.is_empty() {
            return;
        }
        let mut patterns: SmallVec<[ChannelId; 8]> = SmallVec::new();
        let names = evicted.iter().map(|&id| self.name(id));
        for name in names.filter(|name| is_channel(name)) {
            for pattern in self.patterns.matching(name) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        self.note_lost_to(&patterns, target, sequence);
    }

    /// Notes the event as lost to each of `patterns` for which no channel of `target` retains it.
    /// Returns those patterns.
    pub(in crate::hub) fn note_lost_to(
        &mut self,
        patterns: &[ChannelId],
        target: &[ChannelId],
        sequence: Sequence,
    ) -> SmallVec<[ChannelId; 8]> {
        let mut lost_to: SmallVec<[ChannelId; 8]> = SmallVec::from_slice(patterns);
        lost_to.retain(|pattern| !target.iter().any(|&id| self.keeps_for(*pattern, id, sequence)));
        for &pattern in &lost_to {
            self.change(pattern, |ledger| ledger.evicted_through = sequence.max(ledger.evicted_through));
            self.patterns.note_eviction(pattern, sequence);
        }
        lost_to
    }

    /// Returns true if a pattern matches a channel that retains `sequence`.
    fn keeps_for(&self, pattern: ChannelId, id: ChannelId, sequence: Sequence) -> bool {
        let holds = self.peek(id).is_some_and(|ledger| ledger.holds(sequence));
        let matches = |prefix: &str| is_channel(self.name(id)) && self.name(id).starts_with(prefix);
        holds && self.prefix(pattern).is_some_and(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::channels::table::Removal;
    use crate::record::targets::TARGET_ALL;

    const ALL: Sequence = Sequence(u64::MAX);

    #[test]
    fn a_pattern_loses_the_events_that_its_channels_lose() {
        let mut channels = Channels::new(10);
        let lose = |channels: &mut Channels, name: &str, number: u64| {
            let id = channels.enter(name);
            channels.retain(id, Sequence(number), 10);
            channels.evict_oldest(id);
            channels.note_lost(&[id], &[id], Sequence(number));
            id
        };
        let gone = lose(&mut channels, "chat/1", 5);
        assert_eq!(channels.remove_if_idle(gone, ALL), Removal::Removed);
        lose(&mut channels, "chat/2", 3);
        lose(&mut channels, "other", 9);
        // The pattern enters, and earlier losses are gathered in small steps.
        let enter = |channels: &mut Channels, text: &str| {
            let pattern = channels.enter(text);
            while !channels.gather(pattern, &Budget::new(4)) || channels.is_unsorted() {
                channels.continue_sorting(&Budget::new(4));
            }
            pattern
        };
        let pattern = enter(&mut channels, "chat/*");
        assert_eq!(channels.get(pattern).evicted_through, Sequence(5), "also of a channel that went");
        lose(&mut channels, "chat/3", 11);
        lose(&mut channels, "other", 12);
        assert_eq!(channels.get(pattern).evicted_through, Sequence(11));
        let all = enter(&mut channels, "*");
        assert_eq!(channels.get(all).evicted_through, Sequence(12));
        lose(&mut channels, TARGET_ALL, 13);
        assert_eq!(channels.get(all).evicted_through, Sequence(12), "what goes to all is no channel's");
        assert_eq!(channels.remove_if_idle(all, ALL), Removal::Removed);
        let names: Vec<&str> =
            channels.beginning_with("chat/").unwrap().map(|id| channels.name(id)).collect();
        assert_eq!(names, ["chat/2", "chat/3"]);
        assert_eq!(channels.len(), 4, "a pattern is a name that somebody subscribes to");
        assert_eq!(channels.remove_if_idle(pattern, ALL), Removal::Removed);
        assert!(!channels.has_patterns());
    }
}
