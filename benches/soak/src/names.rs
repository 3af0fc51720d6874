//! Channels and users of the load.

use downpour::base::random::SplitMix64;

/// Kinds of lasting channels, with the number of each.
pub(crate) const KINDS: [(&str, usize); 7] =
    [("steady", 16), ("batch", 10), ("pipe", 8), ("large", 16), ("own", 2), ("lapse", 4), ("body", 2)];

/// Pairs of channels that get the same events; each is a scope of its own.
pub(crate) const PAIRS: [&str; 2] = ["pair:0+pair:1", "pair:2+pair:3"];

/// A channel with hardly any events.
pub(crate) const SPARSE: &str = "sparse";

pub(crate) const USERS: usize = 8;

/// Every lasting channel.
pub(crate) fn lasting() -> Vec<String> {
    let numbered = KINDS.iter().flat_map(|&(kind, count)| (0..count).map(move |at| format!("{kind}:{at}")));
    let pairs = PAIRS.iter().flat_map(|pair| pair.split('+')).map(str::to_owned);
    numbered.chain(pairs).chain([SPARSE.to_owned()]).collect()
}

/// The lasting channels, and the patterns that always have a subscriber. Others come and go.
pub(crate) fn kept() -> Vec<String> {
    let patterns = ["*", "steady:*", "batch:*", "large:*", "pair:*"].map(str::to_owned);
    lasting().into_iter().chain(patterns).collect()
}

/// A channel of a kind, at random.
pub(crate) fn of_kind(kind: &str, random: &mut SplitMix64) -> String {
    let count = KINDS.iter().find(|(name, _)| *name == kind).map_or(1, |&(_, count)| count);
    format!("{kind}:{}", random.within(0..=count - 1))
}

pub(crate) fn user(random: &mut SplitMix64) -> String {
    format!("user{}", random.within(0..=USERS - 1))
}

/// One of `items`, at random.
pub(crate) fn pick<'a, T>(items: &'a [T], random: &mut SplitMix64) -> Option<&'a T> {
    items.get(random.within(0..=items.len().saturating_sub(1)))
}
