//! Reading for streams with patterns: what matches a pattern is either merged from the channels that match, while they
//! are few, or picked from the order of all events, an entry at a time.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::is_channel;
use crate::hub::State;
use crate::hub::channels::ChannelId;
use crate::hub::history::Entry;
use crate::hub::reader::{Cursor, Slice, SliceLimits};

/// Channels that a slice merges for patterns. With more, finding each one's place costs more than looking at as many
/// entries as a slice may.
const MERGED_CHANNELS_MAX: usize = 64;

/// Entries that one slice looks at, so that the lock is held for some tens of microseconds at the most.
const ENTRIES_PER_WALK_MAX: usize = 2048;

/// What a stream subscribes to, to look at events one by one.
struct Selected<'s> {
    channels: SmallVec<[ChannelId; 8]>,
    prefixes: SmallVec<[&'s str; 8]>,
}

impl State {
    /// The channels that these channels and patterns come to; `None` where they are too many to be merged.
    pub(super) fn merged(&self, channels: &[ChannelId]) -> Option<SmallVec<[ChannelId; 8]>> {
        let mut merged = SmallVec::new();
        let mut has_patterns = false;
        for &id in channels {
            let Some(prefix) = self.channels.get(id).prefix() else {
                merged.push(id);
                continue;
            };
            has_patterns = true;
            let room = channels.len() + MERGED_CHANNELS_MAX - merged.len();
            merged.extend(self.channels.beginning_with(prefix).take(room + 1));
            if merged.len() > channels.len() + MERGED_CHANNELS_MAX {
                return None;
            }
        }
        if has_patterns {
            merged.sort_unstable();
            merged.dedup();
        }
        Some(merged)
    }

    /// Reads up to `end` what goes to any of `channels`, in the order of all events; returns true if and only if it got
    /// there.
    pub(super) fn walk(
        &self,
        channels: &[ChannelId],
        cursor: &mut Cursor,
        end: Sequence,
        limits: SliceLimits,
        slice: &mut Slice,
    ) -> bool {
        let prefixes = channels.iter().filter_map(|&id| self.channels.get(id).prefix()).collect();
        let is_no_pattern = |id: &ChannelId| self.channels.get(*id).prefix().is_none();
        let selected =
            Selected { channels: channels.iter().copied().filter(is_no_pattern).collect(), prefixes };
        let (from, mut entries) = (cursor.place, 0);
        for page in self.history.pages().range(self.history.page_index(from.next())..) {
            for entry in &page.entries[page.index_after(from)..] {
                let sequence = page.sequence(entry);
                if sequence > end {
                    return true;
                }
                if entries == ENTRIES_PER_WALK_MAX {
                    return false;
                }
                entries += 1;
                if self.selects(&selected, entry, sequence) && !slice.push(&page.place(entry), limits) {
                    return false;
                }
                cursor.place = sequence;
            }
        }
        true
    }

    /// Returns true if and only if a channel that is selected retains the event.
    fn selects(&self, selected: &Selected<'_>, entry: &Entry, sequence: Sequence) -> bool {
        if entry.holders == 0 {
            return false;
        }
        let mut is_selected = false;
        self.targets.for_each(entry.target, |id| {
            is_selected = is_selected
                || self.channels.peek(id).is_some_and(|channel| {
                    let is_prefix = |prefix: &&str| channel.name.starts_with(prefix);
                    let matches = || is_channel(&channel.name) && selected.prefixes.iter().any(is_prefix);
                    (selected.channels.contains(&id) || matches())
                        && channel.retained.binary_search(&sequence).is_ok()
                });
        });
        is_selected
    }
}
