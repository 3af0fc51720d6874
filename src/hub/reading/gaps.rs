//! Reporting lost events to a stream: each loss causes one `gap` at its place, unless another name of
//! the stream has reported it.
//!
//! The quantities behind this, and when `missed` is exact, are described in
//! [`crate::hub::channels::lost`]. A cursor keeps one [`ReportedLoss`] for each of its names. A loss is
//! reported if it lies after the cursor's place and after that entry.
//!
//! When a name is added to a stream, an earlier loss of the name is not reported in two cases: a pattern
//! of the stream that covers the name has reported it; or the name is a pattern, and the only channels
//! of it with a loss after the stream's place have reported theirs by their own names or by another
//! pattern.

use smallvec::SmallVec;

use crate::base::id::Sequence;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::ledger::Ledger;
use crate::hub::channels::lost::ReportedLoss;
use crate::hub::reading::cursor::Cursor;
use crate::hub::reading::slice::Gap;
use crate::hub::state::State;
use crate::record::targets::is_channel;

impl State {
    /// Creates a cursor at `place`. If the stream `is_counting`, the cursor knows how much it has seen,
    /// unless an event after `place` is lost.
    pub(in crate::hub) fn cursor_at(
        &self,
        place: Sequence,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]).map(|id| self.channels.get(id));
        let count = |ledger: &Ledger| ledger.count_through(place).filter(|_| place >= ledger.lost_through());
        let seen = if is_counting { targets.map(count).sum() } else { None };
        Cursor { place, seen, is_counting, stop: None, reported: Vec::new(), seek: None }
    }

    /// Counts the events up to the cursor's place, plus those lost after it, which a `gap` has reported.
    pub(super) fn count_seen(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let targets = channels.iter().map(|&id| self.channels.get(id));
        targets.map(|channel| channel.count_through(cursor.place.max(channel.lost_through()))).sum()
    }

    /// Creates a cursor at `place` for a stream that asks for the retained events after it, so that
    /// earlier losses are not reported. If the stream `is_counting`, it knows how much it has seen from
    /// its first slice on.
    pub(in crate::hub) fn cursor_of_retained(
        &self,
        place: Sequence,
        channels: &[ChannelId],
        is_counting: bool,
    ) -> Cursor {
        let targets = channels.iter().copied().chain([ChannelId::ALL]);
        // All losses of its patterns so far count as reported, also those still to be gathered.
        let lost = targets.filter_map(|id| match self.channels.prefix(id) {
            Some(_) => Some((id, self.epochs.head())),
            None => Some((id, self.channels.lost_after(id, Sequence::START, None)?)),
        });
        let reported =
            lost.map(|(id, through)| self.loss_reported_now(id, through)).filter(|loss| loss.through > place);
        let reported = reported.collect();
        Cursor { place, seen: None, is_counting, stop: None, reported, seek: None }
    }

    /// Finds the unreported losses after the cursor's place and notes them as reported. Returns a gap if
    /// there is one that no other name of the stream has reported.
    pub(super) fn report_losses(&self, channels: &[ChannelId], cursor: &mut Cursor) -> Option<Gap> {
        let lost = channels.iter().filter_map(|&channel| {
            let reported = cursor.reported_for(channel);
            Some((channel, self.channels.lost_after(channel, cursor.place, reported)?))
        });
        let lost: Vec<(ChannelId, Sequence)> = lost.collect();
        let is_reported = |&(channel, through): &(ChannelId, Sequence)| {
            cursor.reported_for(channel).is_none()
                && (self.is_reported_by_pattern(channels, channel, through, cursor)
                    || self.is_reported_by_parts(channels, channel, cursor))
        };
        let gap = (!lost.iter().all(is_reported)).then(|| Gap {
            missed: cursor.seen.and_then(|seen| self.count_passed(channels, cursor)?.checked_sub(seen)),
            after: self.epochs.id_of(cursor.place).expect("a cursor's place lies in an epoch"),
        });
        for &(channel, through) in &lost {
            let before = cursor.reported_for(channel).map_or(through, |loss| loss.through);
            cursor.reported.retain(|loss| loss.channel != channel);
            cursor.reported.push(self.loss_reported_now(channel, through.max(before)));
        }
        let place = cursor.place;
        cursor.reported.retain(|loss| loss.through > place);
        gap
    }

    /// Returns true if another pattern of the stream has reported the loss of `channel` up to `through`.
    /// Such a pattern matches `channel`, or everything that `channel` matches if that is a pattern; its
    /// loss was reported up to `through`; and it has lost nothing after the cursor's place since. So a
    /// stream that gets a channel by a further name is not notified of the same loss again.
    fn is_reported_by_pattern(
        &self,
        channels: &[ChannelId],
        channel: ChannelId,
        through: Sequence,
        cursor: &Cursor,
    ) -> bool {
        let name = self.channels.prefix(channel).unwrap_or(self.channels.name(channel));
        let covers = |loss: &&ReportedLoss| {
            let prefix = self.channels.prefix(loss.channel).filter(|_| is_channel(name));
            prefix.is_some_and(|prefix| name.starts_with(prefix))
        };
        // A pattern that the stream no longer has may have left the table.
        let mut reported =
            cursor.reported.iter().filter(|loss| channels.contains(&loss.channel)).filter(covers);
        let is_all =
            |loss: &ReportedLoss| self.channels.lost_after(loss.channel, cursor.place, Some(loss)).is_none();
        reported.any(|loss| loss.through >= through && is_all(loss))
    }

    /// Returns true if every loss of a pattern after the cursor's place is a loss of a channel that the
    /// stream has by its own name, or that another pattern of the stream with a reported loss matches.
    /// So a stream that gets a pattern is not notified again of its channels' losses. Their later losses
    /// are reported by those names.
    fn is_reported_by_parts(&self, channels: &[ChannelId], pattern: ChannelId, cursor: &Cursor) -> bool {
        let Some(prefix) = self.channels.prefix(pattern).filter(|_| !cursor.reported.is_empty()) else {
            return false;
        };
        let reported = cursor.reported.iter().map(|loss| loss.channel).filter(|id| channels.contains(id));
        let prefixes: SmallVec<[&str; 4]> = reported.filter_map(|id| self.channels.prefix(id)).collect();
        let is_other = |name: &str, id: Option<ChannelId>| {
            !id.is_some_and(|id| channels.contains(&id))
                && !prefixes.iter().any(|&prefix| name.starts_with(prefix))
        };
        !self.channels.may_have_lost(prefix, cursor.place, is_other, &self.budget)
    }

    /// A loss of `channel` up to `through` that is reported now.
    fn loss_reported_now(&self, channel: ChannelId, through: Sequence) -> ReportedLoss {
        ReportedLoss { channel, through, evictions: self.channels.evictions(channel) }
    }

    /// Counts the events of all channels up to the cursor's place, or up to their reported loss if that
    /// is later, plus the events lost after that.
    fn count_passed(&self, channels: &[ChannelId], cursor: &Cursor) -> Option<u64> {
        let seen_through =
            |id| cursor.reported_for(id).map_or(cursor.place, |loss| loss.through.max(cursor.place));
        channels.iter().map(|&id| self.channels.get(id).count_through_or_lost(seen_through(id))).sum()
    }
}
