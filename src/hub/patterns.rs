//! The patterns that streams subscribe to, and which of them a channel's name matches.

use std::collections::{BTreeMap, HashMap};

use crate::hub::channels::ChannelId;

/// The patterns in the table of channels, by their prefixes.
///
/// A name is looked up once for each length that prefixes have, so that what an event costs does not grow with the
/// number of patterns.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    by_prefix: HashMap<Box<str>, ChannelId>,
    /// How many prefixes there are of each length in bytes.
    lengths: BTreeMap<usize, usize>,
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// Adds a pattern that is not there yet.
    pub(super) fn insert(&mut self, prefix: &str, id: ChannelId) {
        self.by_prefix.insert(prefix.into(), id);
        *self.lengths.entry(prefix.len()).or_insert(0) += 1;
    }

    /// Takes a pattern out.
    pub(super) fn remove(&mut self, prefix: &str) {
        if self.by_prefix.remove(prefix).is_none() {
            return;
        }
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// The patterns that a channel's name matches, each once.
    pub(super) fn matching(&self, name: &str) -> impl Iterator<Item = ChannelId> {
        let prefixes = self.lengths.range(..=name.len()).filter_map(|(&length, _)| name.get(..length));
        prefixes.filter_map(|prefix| self.by_prefix.get(prefix).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_every_pattern_whose_prefix_it_begins_with() {
        let mut patterns = Patterns::default();
        for (number, prefix) in ["", "entity:", "entity:4", "größe", "x"].into_iter().enumerate() {
            patterns.insert(prefix, ChannelId(u32::try_from(number).unwrap()));
        }
        let matching = |patterns: &Patterns, name| patterns.matching(name).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(matching(&patterns, "entity:42"), [0, 1, 2]);
        assert_eq!(matching(&patterns, "entity:"), [0, 1]);
        assert_eq!(matching(&patterns, "grüße"), [0], "a prefix may end within one of its letters");
        patterns.remove("entity:");
        patterns.remove("");
        assert_eq!(matching(&patterns, "entity:42"), [2]);
        ["entity:4", "größe", "x"].into_iter().for_each(|prefix| patterns.remove(prefix));
        assert!(patterns.is_empty() && patterns.lengths.is_empty());
    }
}
