//! What channels have lost, and what their patterns lose by it.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::is_channel;
use crate::hub::budget::{Budget, CHANNEL_STEPS, steps};
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::patterns::{Gathering, Stage};
use crate::hub::channels::record::pattern_prefix;
use crate::hub::channels::table::{Channels, PLACES_PER_LOOK};

/// Up to where the loss of a channel was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Told {
    pub(in crate::hub) channel: ChannelId,
    /// The last event that was lost.
    pub(in crate::hub) through: Sequence,
    /// For a pattern: how many events its channels had given up by then.
    pub(in crate::hub) evictions: u64,
}

impl Channels {
    /// Goes on gathering what the channels of a pattern had lost when it was entered, as the budget allows. Returns true if and only
    /// if all of it is known. What they lose meanwhile the pattern is told of as ever.
    pub(in crate::hub) fn gather(&mut self, pattern: ChannelId, budget: &Budget) -> bool {
        let Some(mut gathering) = self.patterns.take_gathering(pattern) else { return true };
        let prefix = self.prefix(pattern).map(Box::<str>::from).unwrap_or_default();
        while !budget.is_spent() {
            match &gathering.stage {
                Stage::Table(place) => {
                    let (channels, next) = self.part(*place, PLACES_PER_LOOK);
                    for id in channels {
                        let name = self.name(id);
                        if name.starts_with(&*prefix) && is_channel(name) && pattern_prefix(name).is_none() {
                            let record = self.get(id);
                            gathering.take_in(record.lost_through(), record.dropped_through);
                        }
                    }
                    budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK));
                    gathering.stage = next.map_or(Stage::Former(None), Stage::Table);
                }
                Stage::Former(after) => {
                    let (lost, last) =
                        self.forgotten.evicted_through_of(&prefix, after.as_deref(), PLACES_PER_LOOK);
                    gathering.take_in(lost, Sequence::START);
                    budget.spend(CHANNEL_STEPS * steps(PLACES_PER_LOOK));
                    if last.is_none() {
                        self.note_gathered(pattern, &gathering);
                        return true;
                    }
                    gathering.stage = Stage::Former(last);
                }
            }
        }
        self.patterns.put_back(pattern, gathering);
        false
    }

    fn note_gathered(&mut self, pattern: ChannelId, gathering: &Gathering) {
        let Gathering { lost, dropped, .. } = *gathering;
        if lost.max(dropped) > Sequence::START {
            self.change(pattern, |record| {
                record.evicted_through = record.evicted_through.max(lost);
                record.dropped_through = record.dropped_through.max(dropped);
            });
        }
    }

    /// How many events the channels of a pattern have given up since it is in the table; 0 for a channel.
    pub(in crate::hub) fn evictions(&self, id: ChannelId) -> u64 {
        self.patterns.evictions(id)
    }

    /// The last event after `place` that a channel, or a channel of a pattern, has lost since `told`, if it has.
    pub(in crate::hub) fn lost_after(
        &self,
        id: ChannelId,
        place: Sequence,
        told: Option<&Told>,
    ) -> Option<Sequence> {
        let (record, is_pattern) = (self.get(id), self.prefix(id).is_some());
        let (lost, place) = match told {
            None if is_pattern => (record.evicted_through, place),
            None => (record.lost_through(), place),
            Some(told) if is_pattern => {
                (self.patterns.evicted_since(id, told.evictions).unwrap_or(Sequence::START), place)
            }
            Some(told) => (record.lost_through(), told.through.max(place)),
        };
        (lost > place).then_some(lost)
    }

    /// Returns false only if no channel whose name begins so, present or former, has lost an event behind `place`, of those
    /// that `counts` says. Where more than a few names begin so, it is not looked.
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
        // One that came back knows itself what it had lost before.
        let is_former = |name: &str| self.find(name).is_none() && counts(name, None);
        self.forgotten.may_have_lost(prefix, place, PLACES_PER_LOOK, is_former)
    }

    /// Notes that a channel's history is dropped up to `through`. Its patterns too are not read before every event up to
    /// there is taken; what is lost to them is for [`Channels::note_lost`].
    /// Those of it that had `lapsed` are not lost by it.
    pub(in crate::hub) fn drop_through(
        &mut self,
        id: ChannelId,
        through: Sequence,
        lapsed: impl ExactSizeIterator<Item = Sequence>,
    ) {
        let has_subscribers = self.subscribers(id) > 0;
        self.change(id, |record| {
            record.dropped_through = through;
            if lapsed.len() > 0 {
                let known = record.lapsed.get_or_insert_default();
                known.note_dropped(lapsed);
                if !has_subscribers {
                    known.forget_numbers_through(through);
                }
            }
        });
        for pattern in self.all_patterns_of(id) {
            self.change(pattern, |record| record.dropped_through = through.max(record.dropped_through));
        }
    }

    /// Returns true if and only if there are patterns.
    pub(in crate::hub) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The patterns with subscribers that a channel's name matches.
    pub(in crate::hub) fn patterns_of(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        self.patterns.matching(name).filter(|&id| self.subscribers(id) > 0)
    }

    /// The patterns that a channel's name matches.
    pub(in crate::hub) fn all_patterns_of(&self, id: ChannelId) -> SmallVec<[ChannelId; 8]> {
        self.patterns.matching(self.name(id)).collect()
    }

    /// Notes that the channels `evicted` have given up an event of `target`. It is lost to the patterns that match them,
    /// but for those that match another channel of the target, which retains it still.
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

    /// The same for those of `patterns` that no channel of the target keeps the event for; returns which they are.
    pub(in crate::hub) fn note_lost_to(
        &mut self,
        patterns: &[ChannelId],
        target: &[ChannelId],
        sequence: Sequence,
    ) -> SmallVec<[ChannelId; 8]> {
        let mut lost_to: SmallVec<[ChannelId; 8]> = SmallVec::from_slice(patterns);
        lost_to.retain(|pattern| !target.iter().any(|&id| self.keeps_for(*pattern, id, sequence)));
        for &pattern in &lost_to {
            self.change(pattern, |record| record.evicted_through = sequence.max(record.evicted_through));
            self.patterns.note_eviction(pattern, sequence);
        }
        lost_to
    }

    /// Returns true if and only if a pattern matches a channel that retains `sequence`.
    fn keeps_for(&self, pattern: ChannelId, id: ChannelId, sequence: Sequence) -> bool {
        let holds = self.peek(id).is_some_and(|record| record.holds(sequence));
        let matches = |prefix: &str| is_channel(self.name(id)) && self.name(id).starts_with(prefix);
        holds && self.prefix(pattern).is_some_and(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::batch::TARGET_ALL;
    use crate::hub::channels::table::Removal;

    const ALL: Sequence = Sequence(u64::MAX);

    #[test]
    fn a_pattern_has_lost_what_any_of_its_channels_has_lost() {
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
        // A pattern enters, and what was lost before is gathered in small steps.
        let enter = |channels: &mut Channels, text: &str| {
            let pattern = channels.enter(text);
            while !channels.gather(pattern, &Budget::new(4)) || channels.is_unsorted() {
                channels.sort_on(&Budget::new(4));
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
