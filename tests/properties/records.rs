//! The few channels, users, clients, patterns and ids that everything happens to, and what the model knows of each event, target,
//! pattern and epoch.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use downpour::base::id::EpochTag;
use downpour::record::targets::{TARGET_ALL, user_target};

/// The channels there are.
pub(crate) const NAMES: [&str; 6] = ["a", "news", "entity:42", "größe", "*x", "a/b/c"];

/// The users there are.
pub(crate) const USERS: [&str; 2] = ["ann", "9"];

/// How many places for single clients there are. A place goes to another client when its client has left.
pub(crate) const CLIENTS: usize = 2;

/// The target that is the client in the first place: behind the channels and the users.
pub(crate) const FIRST_CLIENT: usize = NAMES.len() + USERS.len();

/// The target that is every stream: its index among all targets, which are the channels, the users, the clients and it.
pub(crate) const EVERYBODY: usize = FIRST_CLIENT + CLIENTS;

/// How many targets there are.
pub(crate) const TARGETS: usize = EVERYBODY + 1;

/// The patterns there are.
pub(crate) const PATTERNS: [&str; 3] = ["*", "entity:*", "a*"];

/// How many there are that a stream may have: the targets, and behind them the patterns.
pub(crate) const SELECTORS: usize = TARGETS + PATTERNS.len();

/// The pattern that a stream may have, if it is one.
pub(crate) fn pattern_of(selector: usize) -> Option<usize> {
    selector.checked_sub(TARGETS)
}

/// The place of the client that a stream may have, if it is one.
pub(crate) fn client_of(selector: usize) -> Option<usize> {
    selector.checked_sub(FIRST_CLIENT).filter(|&place| place < CLIENTS)
}

/// Returns true if and only if streams name it: it is a channel or a pattern.
pub(crate) fn is_named(selector: usize) -> bool {
    selector < NAMES.len() || pattern_of(selector).is_some()
}

/// All that streams may name.
pub(crate) fn named() -> Vec<usize> {
    (0..SELECTORS).filter(|&selector| is_named(selector)).collect()
}

/// What a subscription calls a channel or a pattern, and a batch a target. A client's name changes with the client.
pub(crate) fn selector_text(selector: usize) -> String {
    match (pattern_of(selector), selector) {
        (Some(pattern), _) => PATTERNS[pattern].to_owned(),
        (None, EVERYBODY) => TARGET_ALL.to_owned(),
        (None, client) if client >= FIRST_CLIENT => format!("client in place {}", client - FIRST_CLIENT),
        (None, user) if user >= NAMES.len() => user_target(USERS[user - NAMES.len()]),
        (None, channel) => NAMES[channel].to_owned(),
    }
}

/// The targets that a stream has by this one, or by this pattern.
pub(crate) fn targets_of(selector: usize) -> Vec<usize> {
    match pattern_of(selector) {
        None => vec![selector],
        Some(pattern) => {
            let prefix = PATTERNS[pattern].trim_end_matches('*');
            (0..NAMES.len()).filter(|&channel| NAMES[channel].starts_with(prefix)).collect()
        }
    }
}

/// Returns true if and only if a pattern stands for all that another selector stands for.
pub(crate) fn covers(pattern: usize, selector: usize) -> bool {
    let prefix = pattern_of(pattern).map(|pattern| PATTERNS[pattern].trim_end_matches('*'));
    prefix.is_some_and(|prefix| {
        let text = selector_text(selector);
        is_named(selector) && text.trim_end_matches('*').starts_with(prefix) && selector != pattern
    })
}

/// Ids that publishers give, again and again.
pub(crate) const OWN_IDS: [&str; 8] =
    ["mine", "yours", "1", "2", "größe", "AAAAAAAAAAA.000000000000001", "a b", "__________~.000000000000007"];

/// One event to be published.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) targets: Vec<usize>,
    pub(crate) filler: usize,
    /// The id that its publisher gives it, one of [`OWN_IDS`].
    pub(crate) own_id: Option<usize>,
    /// For how many seconds it may be replayed.
    pub(crate) ttl: Option<NonZeroU32>,
}

/// An event that was applied.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) targets: Vec<usize>,
    /// The targets, and the patterns with subscribers that matched one of them when it was applied.
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

impl Published {
    /// The bytes of its frame, or more where that was not seen yet.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let lines = self.data.split('\n').count();
        let unseen = self.data.len() + lines * "data: \n".len() + self.event_id.len() + 100;
        self.frame.as_ref().map_or(unseen, Vec::len)
    }
}

/// A target: all events it ever had, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) events: Vec<u64>,
    /// Those that are gone, and had not lapsed when they went.
    pub(crate) evicted: BTreeSet<u64>,
    /// Those that have lapsed, and were not gone.
    pub(crate) lapsed: BTreeSet<u64>,
    /// How many it had before it was last entered in the hub's table.
    pub(crate) before: usize,
    /// The same, where it may have left the table and entered it again as a batch was applied in parts.
    pub(crate) before_again: Vec<usize>,
    pub(crate) is_known: bool,
    /// Its history was dropped up to here.
    pub(crate) dropped: u64,
}

impl Target {
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
        self.count_since(self.before, place)
    }

    fn count_since(&self, before: usize, place: u64) -> u64 {
        self.events[before..].iter().filter(|&&number| number <= place).count() as u64
    }

    /// Notes where it may have left the table while a batch was applied in parts: before each event of the batch, behind `head`, where
    /// all that it had so far is gone.
    pub(crate) fn note_parts(&mut self, head: u64, taken: u64) {
        let held = self.retained().chain(self.untaken_lapsed(taken)).min();
        let is_gone = |number: u64| held.is_none_or(|held| number < held) && number <= taken;
        let first = self.events.partition_point(|&number| number <= head).max(self.before + 1);
        let gone = (first..self.events.len()).take_while(|&place| is_gone(self.events[place - 1]));
        self.before_again.extend(gone);
    }

    /// Finds out from what the hub has counted up to `place` whether it had left the table.
    pub(crate) fn note_count(&mut self, counted: u64, place: u64) {
        let again = std::mem::take(&mut self.before_again);
        if counted != self.count(place)
            && let Some(before) = again.into_iter().find(|&before| self.count_since(before, place) == counted)
        {
            self.before = before;
        }
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
