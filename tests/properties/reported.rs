//! Which losses of a stream a gap must report, may report, and must not report.
//!
//! A gap right at the stream's place reports every loss behind that place, once for each channel and pattern that the
//! stream has then. A channel or pattern that the stream gets later does not report a loss again that another name for the
//! same channels has reported (`docs/design.md`).

use std::collections::{BTreeMap, BTreeSet};

use crate::records::{Target, covers, pattern_of, targets_of};
use crate::stream::Stream;
use crate::world::World;

/// The reported losses of a stream.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// By selector and number.
    losses: BTreeSet<(usize, u64)>,
    /// The last one of each selector. If the stream asked for retained events, all earlier losses of a pattern count as
    /// reported.
    through: BTreeMap<usize, u64>,
}

impl Reported {
    /// Forgets the losses of a channel or pattern that the stream no longer has.
    pub(crate) fn part(&mut self, selector: usize) {
        self.losses.retain(|loss| loss.0 != selector);
        self.through.remove(&selector);
    }

    /// Counts all losses so far of the stream's targets and patterns as reported: it asks for retained events.
    pub(crate) fn take_in_all(&mut self, lost: BTreeSet<(usize, u64)>, selectors: &[usize], head: u64) {
        self.take_in(lost, 0);
        let patterns = selectors.iter().filter(|&&selector| pattern_of(selector).is_some());
        self.through.extend(patterns.map(|&pattern| (pattern, head)));
    }

    /// Notes the losses behind a stream's place as reported, and forgets those before it.
    pub(crate) fn take_in(&mut self, lost: BTreeSet<(usize, u64)>, place: u64) {
        for &(selector, number) in &lost {
            let through = self.through.entry(selector).or_insert(0);
            *through = number.max(*through);
        }
        self.losses.extend(lost);
        self.pass(place);
    }

    /// Forgets what lies at or before a place.
    pub(crate) fn pass(&mut self, place: u64) {
        self.losses.retain(|loss| loss.1 > place);
        self.through.retain(|_, through| *through > place);
    }
}

impl Stream {
    /// The unreported losses after its place, by selector. A pattern has lost an event if none of its channels retains it.
    pub(crate) fn lost(&self, world: &World) -> BTreeSet<(usize, u64)> {
        let lost_to = |selector: usize| {
            let targets: Vec<&Target> =
                targets_of(selector).into_iter().map(|target| &world.targets[target]).collect();
            let retained: BTreeSet<u64> = targets.iter().flat_map(|target| target.retained()).collect();
            let lapsed: BTreeSet<u64> =
                targets.iter().flat_map(|target| target.lapsed.iter()).copied().collect();
            let lost =
                targets.into_iter().flat_map(|target| target.lost().range(self.place() + 1..).copied());
            let is_kept = move |number: &u64| retained.contains(number) || lapsed.contains(number);
            lost.filter(move |number| !is_kept(number)).map(move |number| (selector, number))
        };
        let all = self.selectors_now().into_iter().flat_map(lost_to);
        all.filter(|loss| !self.reported.losses.contains(loss)).collect()
    }

    /// Those of the losses that do not come to it in another way.
    pub(crate) fn missing(&self, world: &World, lost: &BTreeSet<(usize, u64)>) -> BTreeSet<(usize, u64)> {
        let retained: BTreeSet<u64> =
            self.targets().into_iter().flat_map(|target| world.targets[target].retained()).collect();
        lost.iter().copied().filter(|loss| !retained.contains(&loss.1)).collect()
    }

    /// Returns true if and only if a gap must report one of the losses.
    pub(crate) fn must_report(&self, world: &World, lost: &BTreeSet<(usize, u64)>) -> bool {
        let selectors: BTreeSet<usize> = lost.iter().map(|loss| loss.0).collect();
        selectors.into_iter().any(|selector| {
            let is_new = !self.reported.through.contains_key(&selector);
            !(is_new
                && (self.is_reported_by_pattern(selector, lost)
                    || self.is_reported_by_parts(world, selector)))
        })
    }

    /// A pattern that covers the selector has reported its losses up to the selector's last one, and has no later loss.
    fn is_reported_by_pattern(&self, selector: usize, lost: &BTreeSet<(usize, u64)>) -> bool {
        let last = lost.iter().filter(|loss| loss.0 == selector).map(|loss| loss.1).max();
        self.reported.through.iter().any(|(&pattern, &through)| {
            covers(pattern, selector) && Some(through) >= last && !lost.iter().any(|loss| loss.0 == pattern)
        })
    }

    /// All channels of a pattern that have lost an event report that by their own names, or by another pattern.
    fn is_reported_by_parts(&self, world: &World, pattern: usize) -> bool {
        if pattern_of(pattern).is_none() || self.reported.through.is_empty() {
            return false;
        }
        let has_lost = |channel: &usize| world.targets[*channel].lost().last() > Some(&self.place());
        targets_of(pattern).into_iter().filter(has_lost).all(|channel| {
            let is_covered = |&other: &usize| other != pattern && covers(other, channel);
            self.selectors_now().contains(&channel) || self.reported.through.keys().any(is_covered)
        })
    }

    /// Returns true if and only if an event after its place was lost by one channel of a pattern and is kept by another.
    /// A pattern that is new to the hub does not know that, and reports the loss.
    pub(crate) fn may_report_too_much(&self, world: &World) -> bool {
        let patterns = self.selectors_now().into_iter().filter(|&selector| pattern_of(selector).is_some());
        patterns.map(targets_of).any(|channels| {
            let is_kept = |number: &u64| {
                let keeps = |&channel: &usize| {
                    let channel = &world.targets[channel];
                    channel.events.binary_search(number).is_ok() && !channel.lost().contains(number)
                };
                channels.iter().any(keeps)
            };
            let lost =
                channels.iter().flat_map(|&channel| world.targets[channel].lost().range(self.place() + 1..));
            lost.into_iter().any(is_kept)
        })
    }
}
