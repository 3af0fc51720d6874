//! Checks missing events of a stream against its gaps. Each missing event needs a gap at its place, and
//! each gap needs a missing event.

use crate::model::{ALL, ChannelSet, Model, SELF};
use crate::rules::Rules;

use super::{Begin, Now, View};

impl View {
    /// The events after `place` and before `end` that may come to the stream, with their ways.
    fn between(&self, model: &Model, place: u64, end: u64) -> Vec<(u64, ChannelSet)> {
        let ways = |number| self.ways(model, number, model.event(number).expect("it was committed"));
        let events = (place + 1..end.min(model.head() + 1)).map(|number| (number, ways(number)));
        events.filter(|(_, ways)| ways.len() > 0).collect()
    }

    /// Finds the place at which a stream began, if the stream has not named it. `first` is the first
    /// event that it saw.
    pub(crate) fn settle_place(&mut self, model: &Model, first: u64, rules: &Rules) {
        let events_max = rules.hub.retention.events_max;
        let Begin::Retained(count) = self.begin else {
            return self.settle_own_place(model, first, events_max);
        };
        if self.place.is_none() && self.connected_at.is_some() {
            self.settle_retained_place(model, first, count, events_max);
        }
    }

    /// The same for a stream that asked for the last `count` retained events of its channels, or all.
    /// Checks that none of these lies before `first`.
    fn settle_retained_place(&mut self, model: &Model, first: u64, count: Option<usize>, events_max: usize) {
        let named = self.asked.indexes().filter(|&channel| channel < ALL);
        let named = named.fold(ChannelSet::default(), ChannelSet::with);
        let goes_to_it = |&number: &u64| model.event(number).is_some_and(|event| event.channels.meets(named));
        let last = (1..=self.head_at_connected).rev().filter(goes_to_it).take(count.unwrap_or(usize::MAX));
        let is_retained = |&number: &u64| {
            let end = self.head_at_connected;
            self.is_retained_by_number && model.retains(named, number, end, events_max)
        };
        let missing = last
            .filter(|&number| number <= self.head_at_request)
            .find(|number| *number < first && is_retained(number));
        assert_eq!(missing, None, "it is retained, and not replayed before {first}: {self:?}");
        if first <= self.head_at_connected {
            self.place = Some(first - 1);
            return;
        }
        // Nothing was replayed, so all events behind the request must come. But the stream may have
        // subscribed later, until it connected. The events that it asked for may then have lapsed before
        // the server read them, and it did not ask for the events before those.
        self.place = Some(self.head_at_request);
        let mut asked_for = (1..=self.head_at_connected).rev().filter(goes_to_it);
        self.asked_from = count.and_then(|count| asked_for.nth(count.checked_sub(1)?)).unwrap_or(0);
    }

    /// Returns true if and only if an event may be missing without a gap. It may have lapsed. If the
    /// stream asked for retained events, it may have been given up before.
    fn may_be_missing(&self, model: &Model, number: u64, ways: ChannelSet) -> bool {
        let is_retained = || {
            let events_max = self.events_max;
            let end = self.head_at_connected;
            self.is_retained_by_number && model.retains(ways, number, end, events_max)
        };
        let may_be_given_up = matches!(self.begin, Begin::Retained(_))
            && number <= self.head_at_connected
            && !(is_retained() && ways.indexes().any(|way| way < ALL));
        number < self.asked_from || may_be_given_up || model.may_have_lapsed(number)
    }

    /// Finds the place of a stream that resumed after a publisher's id, if no gap has named it. `first`
    /// is the first event that it saw. The place is the last event with that id before `first`, since a
    /// later one would have been shown.
    fn settle_own_place(&mut self, model: &Model, first: u64, events_max: usize) {
        if self.begin != Begin::AfterOwn || self.place.is_some() || self.connected_at.is_none() {
            return;
        }
        let places = model.places_of_own_id(&self.sent_id, self.asked);
        let last = places.iter().rev().find(|&&place| place < first);
        let last = *last.unwrap_or_else(|| panic!("nothing had the id {}", self.sent_id));
        // It begins at the latest after the earliest event whose id is known.
        let mut known = places.iter().filter(|&&place| {
            place <= self.head_at_request && model.knows_own_id(place, self.asked, events_max)
        });
        self.place = Some(known.next().map_or(last, |&known| known.min(last)));
    }

    /// Checks that a publisher's id may be unknown.
    pub(super) fn check_unknown(&mut self, now: &mut Now<'_>) {
        let retention = now.rules.hub.retention;
        if now.model.own_ids() * 250 > retention.bytes_max / 4 {
            return; // They exceed the memory for them.
        }
        let places = now.model.places_of_own_id(&self.sent_id, self.asked);
        let known = places.iter().find(|&&place| {
            place <= self.head_at_request && now.model.knows_own_id(place, self.asked, retention.events_max)
        });
        assert_eq!(known, None, "the place of {} is known", self.sent_id);
    }

    /// Checks that gaps report the events missing between `place` and `end`, at the right place.
    pub(crate) fn account(&mut self, model: &Model, place: u64, end: u64) {
        let events = self.between(model, place, end);
        let must = |(number, ways): &(u64, ChannelSet)| self.changes.certain(*ways, *number).len() > 0;
        let (perhaps, missing): (Vec<_>, Vec<_>) = events
            .iter()
            .copied()
            .filter(must)
            .partition(|&(number, ways)| self.may_be_missing(model, number, ways));
        self.missing += missing.len() as u64;
        self.perhaps_missing += perhaps.len() as u64;
        let is_reported = self.gaps_uncounted > 0 || self.missing <= self.missed_counted;
        assert!(!self.is_counting() || is_reported, "{} are missing before {end}: {self:?}", self.missing);
        let position = self.position;
        if self.is_simple() {
            let gaps = self.gaps.iter_mut().rev().take_while(|gap| gap.position == position);
            let (mut exact, mut unknown) = (0, 0);
            for gap in gaps {
                gap.is_accounted = true;
                exact += gap.missed.unwrap_or(0);
                unknown += u64::from(gap.missed.is_none());
            }
            let least = missing.len() as u64;
            let most = least + perhaps.len() as u64;
            let is_reported =
                if unknown == 0 { (least..=most).contains(&exact) } else { most >= exact + unknown };
            let is_reported = is_reported || (self.may_overstate && unknown > 0 && most >= exact);
            assert!(
                is_reported,
                "{missing:?} are missing before {end}; gaps count {exact}, and {unknown} do not count: {self:?}"
            );
            return;
        }
        for &(number, ways) in &missing {
            for channel in self.changes.certain(ways, number).indexes() {
                let last = self.last_sole[channel];
                let is_reported = self.gaps.iter().rev().any(|gap| gap.position >= last);
                assert!(
                    is_reported,
                    "event {number} of {channel} is missing before {end}, unreported: {self:?}"
                );
            }
        }
        events.iter().for_each(|&(_, ways)| self.explain_gaps(ways));
    }

    /// Marks gaps that an event to `channels` explains. The event is missing, or came through another
    /// channel and was given up by one. Each of its channels has lost it once. The earliest gap is
    /// marked first.
    pub(super) fn explain_gaps(&mut self, channels: ChannelSet) {
        let earliest = channels.indexes().map(|channel| self.last_sole[channel]).min().unwrap_or(0);
        let open = self.gaps.iter_mut().filter(|gap| !gap.is_accounted && gap.position >= earliest);
        open.take(channels.len() as usize).for_each(|gap| gap.is_accounted = true);
    }

    /// Checks a stream that has shown everything: nothing is left, and each gap had a missing event.
    pub(crate) fn check_settled(&mut self, model: &Model, rules: &Rules) {
        self.check_keepalive(model, rules);
        self.settle_place(model, u64::MAX, rules);
        let Some(place) = self.place else { panic!("a settled stream has its place: {self:?}") };
        assert!(self.begin == Begin::Head || self.is_caught_up, "the resume does not end: {self:?}");
        self.account(model, place, model.head() + 1);
        self.check_gaps();
        self.place = Some(model.head());
        if self.is_counting() {
            self.check_missed_counts(self.missing);
        }
        assert!(self.is_uncertain || self.changes.are_shown(), "a change is not shown: {self:?}");
        // Events missing at the end stay missing, and a gap has reported them.
        if self.gaps.last().is_some_and(|gap| gap.position == self.position) {
            self.position += 1;
            self.last_sole = [self.position; SELF + 1];
        }
    }

    /// Checks a stream that has broken off. The events of its last gap may come later.
    pub(crate) fn check_broken_off(&mut self, model: &Model) {
        let Some(place) = self.place else { return };
        if self.is_simple() {
            let last = self.gaps.iter().rev().take_while(|gap| gap.position == self.position);
            let least: u64 = last.map(|gap| gap.missed.unwrap_or(1)).sum();
            let count = self.between(model, place, model.head() + 1).len() as u64;
            assert!(
                count >= least || self.may_overstate,
                "{least} events are reported as missing, and {count} came after {place}"
            );
            self.gaps.clear();
            return;
        }
        if self.is_counting() {
            let last = self.between(model, place, model.head() + 1).len() as u64;
            let missing = self.missing + self.perhaps_missing + last;
            let unknown = if self.may_overstate { 0 } else { self.gaps_uncounted };
            assert!(missing >= self.missed_counted + unknown, "{self:?}");
        }
        for (_, ways) in self.between(model, place, model.head() + 1) {
            self.explain_gaps(ways);
        }
        self.check_gaps();
    }

    /// Returns true if and only if no event can reach the stream in two ways. Its gaps then count their
    /// events.
    pub(super) fn is_counting(&self) -> bool {
        matches!(self.names[..], [name] if !name.ends_with('*')) && !self.changes.has_changed
    }

    /// Returns true if and only if all its events come through one channel, from its start to its end.
    pub(super) fn is_simple(&self) -> bool {
        self.channels().len() == 1 && !self.has_other_ways && !self.changes.has_changed
    }

    /// Forgets which events the gaps so far report: they may be of a channel that the stream has no
    /// more.
    pub(crate) fn forget_open_gaps(&mut self) {
        self.gaps.iter_mut().for_each(|gap| gap.is_accounted = true);
    }

    /// Checks that the number of missing events matches the counts of the gaps.
    fn check_missed_counts(&self, missing: u64) {
        let (exactly, unknown) = (self.missed_counted, self.gaps_uncounted);
        let most = missing + self.perhaps_missing;
        let is_reported =
            if unknown == 0 { (missing..=most).contains(&exactly) } else { most >= exactly + unknown };
        let is_reported = is_reported || (self.may_overstate && unknown > 0 && most >= exactly);
        assert!(
            is_reported,
            "{missing} are missing; gaps count {exactly}, and {unknown} do not count: {self:?}"
        );
    }

    fn check_gaps(&self) {
        let open = self.gaps.iter().find(|gap| !gap.is_accounted);
        assert!(open.is_none() || self.may_overstate, "nothing is missing at a gap: {open:?} of {self:?}");
    }
}
