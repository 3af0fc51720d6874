//! How a shard takes the order: what lies after its cursor, as runs of adjacent frames with the same channels.

use std::sync::Arc;

use crate::base::id::Sequence;
use crate::frame::segment::Segment;
use crate::hub::channel::ChannelId;
use crate::hub::targets::TargetId;
use crate::hub::{Hub, State, Tally};

/// Adjacent frames that went to the same channels.
#[derive(Debug)]
pub struct LiveRun {
    /// Where their bytes stand.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub from: u32,
    /// Behind the last byte.
    pub to: u32,
    /// How many frames.
    pub frames: u32,
    /// The first frame's number.
    pub first: Sequence,
    /// The channels that they went to, each once.
    pub channels: RunChannels,
    /// The count of its receivers that the shard is to add to; where there is one, the run has one frame.
    pub tally: Option<Arc<Tally>>,
    target: TargetId,
}

/// The channels of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunChannels {
    /// One channel, as nearly always.
    One(ChannelId),
    /// Several: a stream may subscribe to more than one of them.
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

/// How much a shard takes at once.
#[derive(Clone, Copy, Debug)]
pub struct TakeLimits {
    /// Frames, those that do not concern the shard included.
    pub frames_max: u32,
    /// Bytes of frames; one frame is taken however large.
    pub bytes_max: usize,
}

impl Hub {
    /// Moves the shard's cursor on and appends what it passed, and what concerns the shard, to `runs`, in order.
    ///
    /// Returns the new cursor. It equals [`Hub::head`] if and only if nothing more is to be taken now.
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
        'pages: for page in state.history.pages().range(state.history.page_index(cursor.next())..) {
            for entry in &page.entries[page.index_after(cursor)..] {
                let sequence = page.sequence(entry);
                let place = page.place(entry);
                let len = (place.to - place.from) as usize;
                if frames == limits.frames_max || (bytes > 0 && bytes + len > limits.bytes_max) {
                    reached = Sequence(sequence.0 - 1);
                    break 'pages;
                }
                frames += 1;
                // Where its subscribers have left since the event was applied, the shard is still to say that it counts none.
                let tally = state.tally_of(sequence).filter(|tally| tally.awaits(shard));
                if tally.is_none() && !state.concerns(entry.target, shard) {
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

    /// How far the shard has taken the order.
    #[must_use]
    pub fn cursor(&self, shard: usize) -> Sequence {
        self.lock().cursors[shard]
    }
}

impl State {
    fn concerns(&self, target: TargetId, shard: usize) -> bool {
        let mut concerned = false;
        self.targets.for_each(target, |channel| {
            concerned |= self.channels.get(channel).shards.contains(shard);
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
