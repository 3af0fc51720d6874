//! The few channels, patterns and ids that everything happens to, and what the model knows of each event, channel,
//! pattern and epoch.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use downpour::base::id::EpochTag;

/// The channels there are.
pub(crate) const NAMES: [&str; 6] = ["a", "news", "entity:42", "größe", "*x", "a/b/c"];

/// The patterns there are.
pub(crate) const PATTERNS: [&str; 3] = ["*", "entity:*", "a*"];

/// How many names there are to subscribe to: the channels, and behind them the patterns.
pub(crate) const SELECTORS: usize = NAMES.len() + PATTERNS.len();

/// What a subscription calls a channel or a pattern.
pub(crate) fn selector_text(selector: usize) -> &'static str {
    NAMES.iter().chain(&PATTERNS).nth(selector).expect("it is one of them")
}

/// The channels that a subscription to this one, or to this pattern, is to.
pub(crate) fn channels_of(selector: usize) -> Vec<usize> {
    match PATTERNS.get(selector.wrapping_sub(NAMES.len())) {
        None => vec![selector],
        Some(pattern) => {
            let prefix = pattern.trim_end_matches('*');
            (0..NAMES.len()).filter(|&channel| NAMES[channel].starts_with(prefix)).collect()
        }
    }
}

/// Ids that publishers give, again and again.
pub(crate) const OWN_IDS: [&str; 8] =
    ["mine", "yours", "1", "2", "größe", "AAAAAAAAAAA.000000000000001", "a b", "__________~.000000000000007"];

/// One event to be published.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) channels: Vec<usize>,
    pub(crate) filler: usize,
    /// The id that its publisher gives it, one of [`OWN_IDS`].
    pub(crate) own_id: Option<usize>,
    /// For how many seconds it may be replayed.
    pub(crate) ttl: Option<NonZeroU32>,
}

/// An event that was applied.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) channels: Vec<usize>,
    /// The channels, and the patterns with subscribers that matched one of them when it was applied.
    pub(crate) selectors: Vec<usize>,
    pub(crate) data: String,
    pub(crate) event_id: String,
    /// When it was applied, in ticks.
    pub(crate) at: u32,
    /// From when on it may not be replayed.
    pub(crate) lapses: u32,
    /// Its bytes as they first came out of the hub.
    pub(crate) frame: Option<Vec<u8>>,
}

/// A channel: all events it ever had, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) events: Vec<u64>,
    /// Those that are gone, and had not lapsed when they went.
    pub(crate) evicted: BTreeSet<u64>,
    /// Those that have lapsed, and were not gone.
    pub(crate) lapsed: BTreeSet<u64>,
    /// How many it had before it was last entered in the hub's table.
    pub(crate) before: usize,
    pub(crate) is_known: bool,
    /// Its history was dropped up to here.
    pub(crate) dropped: u64,
}

impl Channel {
    pub(crate) fn retained(&self) -> impl Iterator<Item = u64> {
        let is_gone = |number: &u64| self.evicted.contains(number) || self.lapsed.contains(number);
        self.events.iter().copied().filter(move |number| !is_gone(number))
    }

    pub(crate) fn lost(&self) -> &BTreeSet<u64> {
        &self.evicted
    }

    /// Those that have lapsed, and that not every shard has taken.
    pub(crate) fn untaken_lapsed(&self, taken: u64) -> impl Iterator<Item = u64> {
        self.lapsed.range(taken + 1..).copied()
    }

    /// How many events it had up to `place`, since it is in the table.
    pub(crate) fn count(&self, place: u64) -> u64 {
        self.events[self.before..].iter().filter(|&&number| number <= place).count() as u64
    }
}

/// A pattern.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    /// The last event that went to its subscribers.
    pub(crate) last: u64,
    pub(crate) is_known: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    pub(crate) tag: EpochTag,
    pub(crate) first: u64,
    pub(crate) last: u64,
}
