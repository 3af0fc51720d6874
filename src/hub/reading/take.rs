//! How a shard takes the order: the events after its cursor, as runs of adjacent frames with the same
//! channels.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::outbox::OutboxLimits;
use crate::frame::segment::Segment;
use crate::hub::channel_id::ChannelId;
use crate::hub::history::targets::TargetId;
use crate::hub::lock::Hub;
use crate::hub::state::State;
use crate::hub::tally::Tally;

/// Adjacent frames that went to the same channels.
#[derive(Debug)]
pub struct LiveRun {
    /// The segment of their bytes.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub from: u32,
    /// The end: one after the last byte.
    pub to: u32,
    /// The number of frames.
    pub frames: u32,
    /// The number of the first frame.
    pub first: Sequence,
    /// The channels of the frames, each once.
    pub channels: RunChannels,
    /// The receiver count that the shard must add to. A run with a count has one frame.
    pub tally: Option<Arc<Tally>>,
    target: TargetId,
}

/// The channels of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunChannels {
    /// One channel, which is nearly always the case.
    One(ChannelId),
    /// Several channels. A stream may subscribe to more than one of them.
    Several(Box<[ChannelId]>),
}

impl RunChannels {
    /// The channels.
    #[must_use]
    pub fn as_slice(&self) -> &[ChannelId] {
        match self {
            RunChannels::One(channel) => std::slice::from_ref(channel),
            RunChannels::Several(channels) => channels,
        }
    }
}

/// Up to this many bytes a shard takes more frames at once than the queue of a stream holds. It is about
/// what a socket accepts in one send, so hardly any of these frames are queued.
const SMALL_FRAMES_BYTES_MAX: usize = 64 * 1024;

/// How much a shard takes at once.
#[derive(Clone, Copy, Debug)]
pub struct TakeLimits {
    /// Frames, including those that do not concern the shard.
    pub frames_max: u32,
    /// The most frames if they are more than 64 KiB together.
    pub large_frames_max: u32,
    /// Bytes of frames. At least one frame is taken, however large.
    pub bytes_max: usize,
}

impl TakeLimits {
    /// The limits of an empty outbox.
    #[must_use]
    pub fn of(outbox: OutboxLimits) -> TakeLimits {
        let OutboxLimits { bytes_max, frames_max: large_frames_max } = outbox;
        TakeLimits { frames_max: outbox.at_once().frames_max, large_frames_max, bytes_max }
    }

    fn allow(self, frames: u32, bytes: usize) -> bool {
        frames <= self.frames_max
            && bytes <= self.bytes_max
            && (frames <= self.large_frames_max || bytes <= SMALL_FRAMES_BYTES_MAX)
    }
}

impl Hub {
    /// Moves the shard's cursor on, as far as the limits and one hold of the lock allow. Appends the
    /// frames it passes that concern the shard to `runs`, in order. It may spend the whole budget of the
    /// hold: half as many frames in a send cost a third more for each delivery at saturation. What is due
    /// to go then goes in [`Hub::tidy`].
    ///
    /// Returns the new cursor. It equals [`Hub::head`] if and only if nothing more can be taken now.
    pub fn take(&self, shard: usize, limits: TakeLimits, runs: &mut Vec<LiveRun>) -> Sequence {
        let mut state = self.lock();
        let state = &mut *state;
        let cursor = state.cursors[shard];
        let head = state.epochs.head();
        if cursor == head {
            return cursor;
        }
        let (mut frames, mut bytes) = (0, 0);
        let mut reached = head;
        'pages: for page in state.history.pages().from(state.history.page_index(cursor.next())) {
            for entry in &page.entries[page.index_after(cursor)..] {
                let sequence = page.sequence(entry);
                let place = page.place(entry);
                // If its subscribers have left since the event was applied, the shard must still report
                // a count of none.
                let tally = state.tally_of(sequence).filter(|tally| tally.awaits(shard));
                let is_taken = tally.is_some() || state.concerns(entry.target, shard);
                // A frame that is only passed over costs nothing, however large it is.
                let len = if is_taken { (place.to - place.from) as usize } else { 0 };
                if frames > 0 && (!limits.allow(frames + 1, bytes + len) || state.budget.is_spent()) {
                    reached = Sequence(sequence.0 - 1);
                    break 'pages;
                }
                frames += 1;
                if !is_taken {
                    continue;
                }
                bytes += len;
                match runs.last_mut() {
                    Some(last)
                        if last.target == entry.target
                            && last.tally.is_none()
                            && tally.is_none()
                            && last.to == place.from
                            && Arc::ptr_eq(&last.segment, place.segment) =>
                    {
                        last.to = place.to;
                        last.frames += 1;
                    }
                    _ => runs.push(LiveRun {
                        segment: Arc::clone(place.segment),
                        from: place.from,
                        to: place.to,
                        frames: 1,
                        first: sequence,
                        channels: state.run_channels(entry.target),
                        tally,
                        target: entry.target,
                    }),
                }
            }
        }
        state.cursors[shard] = reached;
        state.forget_tallies();
        if state.has_retention_due() {
            state.enforce_retention();
        }
        self.publish_counts(state);
        reached
    }

    /// Returns how far the shard has taken the order.
    #[must_use]
    pub fn cursor(&self, shard: usize) -> Sequence {
        self.lock().cursors[shard]
    }
}

impl State {
    fn concerns(&self, target: TargetId, shard: usize) -> bool {
        let mut concerned = false;
        self.budget.spend(1);
        self.targets.for_each(target, |channel| {
            concerned |= self.channels.shards(channel).contains(shard);
        });
        concerned
    }

    fn run_channels(&self, target: TargetId) -> RunChannels {
        match self.targets.channels(target)[..] {
            [channel] => RunChannels::One(channel),
            ref channels => RunChannels::Several(channels.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Selector;
    use crate::hub::subscribe::Begin;
    use crate::hub::tests::{hub, publish};

    #[test]
    fn many_small_frames_are_taken_at_once_and_few_large_ones() {
        let limits = TakeLimits::of(OutboxLimits { bytes_max: 256 * 1024, frames_max: 10 });
        for (bytes, frames) in [(64, 40), (3900, 16), (10_000, 10), (100_000, 2), (300_000, 1)] {
            let hub = hub(100, usize::MAX);
            hub.subscribe(0, &[Selector::parse("a").unwrap()], None, Begin::AtHead).unwrap();
            publish(&hub, (0..50).map(|_| ("a".to_owned(), "x".repeat(bytes))));
            let mut runs = Vec::new();
            let cursor = hub.take(0, limits, &mut runs);
            let taken: u32 = runs.iter().map(|run| run.frames).sum();
            assert_eq!((taken, cursor.0), (frames, u64::from(frames)), "frames of {bytes} bytes");
        }
    }

    #[test]
    fn large_frames_that_do_not_concern_a_shard_are_passed_over_at_once() {
        let limits = TakeLimits::of(OutboxLimits { bytes_max: 256 * 1024, frames_max: 10 });
        let hub = hub(100, usize::MAX);
        hub.subscribe(0, &[Selector::parse("a").unwrap()], None, Begin::AtHead).unwrap();
        let foreign = (0..20).map(|_| ("b".to_owned(), "x".repeat(300_000)));
        publish(&hub, foreign.chain([("a".to_owned(), "x".to_owned())]));
        let mut runs = Vec::new();
        assert_eq!(hub.take(0, limits, &mut runs), hub.head());
        assert_eq!(runs.len(), 1);
    }
}
