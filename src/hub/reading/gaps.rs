//! What a stream is told of events that it has lost: one gap for each loss, in its place, and none for what it was told of
//! by another name.
//!
//! A cursor remembers of each of its names how far a loss was told ([`Told`]). A loss is told once it lies behind the cursor's
//! place and beyond that, unless another name of the stream, by which it was told, covers it.
//!
//! A name that is added to a stream says nothing of an earlier loss in two cases: a pattern of the stream that covers the
//! name has reported it; or the name is a pattern whose only channels with a loss behind the stream's place are reported
//! already, by their own names or by another pattern.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::frame::batch::is_channel;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::lost::Told;
use crate::hub::channels::record::Record;
use crate::hub::reading::cursor::Cursor;
use crate::hub::reading::slice::Gap;
use crate::hub::state::State;

impl State {
    /// A cursor at `place`. Where the stream `is_counting`, it knows how much it has seen as far as the history shows it.
    pub(in crate::hub) fn cursor_at(
        &self,
        place: Sequence,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]).map(|id| self.channels.get(id));
        let count = |record: &Record| record.count_through(place).filter(|_| place >= record.lost_through());
        let seen = if is_counting { targets.map(count).sum() } else { None };
        Cursor { place, seen, is_counting, stop: None, told: Vec::new(), seek: None }
    }

    /// How many events that reach the stream of a cursor lie at or before its place, or were lost: of what was, it was told.
    pub(super) fn count_seen(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let targets = channels.iter().map(|&id| self.channels.get(id));
        targets.map(|channel| channel.count_through(cursor.place.max(channel.lost_through()))).sum()
    }

    /// A cursor at `place` of a stream that asks for what is retained after it, and misses nothing else. Where it `is_counting`, it
    /// knows how much it has seen from its first slice on.
    pub(in crate::hub) fn cursor_of_retained(
        &self,
        place: Sequence,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]);
        // All that its patterns have lost so far counts as told, also what is yet to be gathered of it.
        let lost = targets.filter_map(|id| match self.channels.prefix(id) {
            Some(_) => Some((id, self.epochs.head())),
            None => Some((id, self.channels.lost_after(id, Sequence::START, None)?)),
        });
        let told = lost.map(|(id, through)| self.told(id, through)).filter(|told| told.through > place);
        let told = told.collect();
        Cursor { place, seen: None, is_counting, stop: None, told, seek: None }
    }

    /// Finds out whether events after the cursor's place are lost of which the stream was not told, and notes what it is told of.
    pub(super) fn tell_gap(&self, channels: &[ChannelId], cursor: &mut Cursor) -> Option<Gap> {
        let lost = channels.iter().filter_map(|&channel| {
            let told = cursor.told_of(channel);
            Some((channel, self.channels.lost_after(channel, cursor.place, told)?))
        });
        let lost: Vec<(ChannelId, Sequence)> = lost.collect();
        let is_told = |&(channel, through): &(ChannelId, Sequence)| {
            cursor.told_of(channel).is_none()
                && (self.is_told_of_pattern(channels, channel, through, cursor)
                    || self.is_told_of_parts(channels, channel, cursor))
        };
        let gap = (!lost.iter().all(is_told)).then(|| Gap {
            missed: cursor.seen.and_then(|seen| self.count_passed(channels, cursor)?.checked_sub(seen)),
            after: self.epochs.id_of(cursor.place).expect("a cursor's place lies in an epoch"),
        });
        for &(channel, through) in &lost {
            let before = cursor.told_of(channel).map_or(through, |told| told.through);
            cursor.told.retain(|told| told.channel != channel);
            cursor.told.push(self.told(channel, through.max(before)));
        }
        let place = cursor.place;
        cursor.told.retain(|told| told.through > place);
        gap
    }

    /// Returns true if and only if a pattern of the stream's `channels` matches a channel, or all that one matches that is a
    /// pattern, and its loss was told up to `through` and it has lost nothing behind the cursor's place since. So a stream that
    /// is to have a channel by a further name is not told again of what the channel has lost.
    fn is_told_of_pattern(
        &self,
        channels: &[ChannelId],
        channel: ChannelId,
        through: Sequence,
        cursor: &Cursor,
    ) -> bool {
        let name = self.channels.prefix(channel).unwrap_or(self.channels.name(channel));
        let covers = |told: &&Told| {
            let prefix = self.channels.prefix(told.channel).filter(|_| is_channel(name));
            prefix.is_some_and(|prefix| name.starts_with(prefix))
        };
        // One that the stream has no more may be out of the table.
        let told = cursor.told.iter().filter(|told| channels.contains(&told.channel)).filter(covers);
        let is_all = |told: &Told| self.channels.lost_after(told.channel, cursor.place, Some(told)).is_none();
        told.into_iter().any(|told| told.through >= through && is_all(told))
    }

    /// Returns true if and only if whatever a pattern may have lost behind the cursor's place was lost by channels that the
    /// stream has by their own names, or by another pattern of whose loss it was told. So a stream that is to have a pattern is not
    /// told again of what its channels have lost; what else these lose it is told of by those names.
    fn is_told_of_parts(&self, channels: &[ChannelId], pattern: ChannelId, cursor: &Cursor) -> bool {
        let Some(prefix) = self.channels.prefix(pattern).filter(|_| !cursor.told.is_empty()) else {
            return false;
        };
        let told = cursor.told.iter().map(|told| told.channel).filter(|id| channels.contains(id));
        let prefixes: SmallVec<[&str; 4]> = told.filter_map(|id| self.channels.prefix(id)).collect();
        let is_other = |name: &str, id: Option<ChannelId>| {
            !id.is_some_and(|id| channels.contains(&id))
                && !prefixes.iter().any(|&told| name.starts_with(told))
        };
        !self.channels.may_have_lost(prefix, cursor.place, is_other, &self.budget)
    }

    /// What is told of a channel's loss up to `through`.
    fn told(&self, channel: ChannelId, through: Sequence) -> Told {
        Told { channel, through, evictions: self.channels.evictions(channel) }
    }

    /// How many events all channels had up to the cursor's place, or up to where their loss was told, and how many they have
    /// lost behind that.
    fn count_passed(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let seen_through =
            |id| cursor.told_of(id).map_or(cursor.place, |told| told.through.max(cursor.place));
        channels.iter().map(|&id| self.channels.get(id).count_through_or_lost(seen_through(id))).sum()
    }
}
