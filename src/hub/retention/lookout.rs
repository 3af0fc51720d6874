//! Channels to look at again. A channel that waits for shards to take more is put off until they have,
//! so it is not looked at in vain.

use crate::base::id::Sequence;
use crate::base::queue::Queue;
use crate::hub::channel_id::ChannelId;

/// Channels to look at, in the order in which they were added.
#[derive(Debug, Default)]
pub(in crate::hub) struct Lookout {
    due: Queue<ChannelId>,
    put_off: Queue<ChannelId>,
    /// The number of channels at the front of `put_off` to look at again.
    ready: usize,
    /// How far every shard had taken the order when `ready` was set.
    taken: Sequence,
}

impl Lookout {
    /// Adds a channel.
    pub(in crate::hub) fn push(&mut self, channel: ChannelId) {
        self.due.push_back(channel);
    }

    /// Puts a channel off until every shard has taken more than now.
    pub(super) fn put_off(&mut self, channel: ChannelId) {
        self.put_off.push_back(channel);
    }

    /// Returns the next channel to look at, given that every shard has taken the order up to `taken`.
    pub(in crate::hub) fn pop(&mut self, taken: Sequence) -> Option<ChannelId> {
        if self.taken < taken {
            self.taken = taken;
            self.ready = self.put_off.len();
        }
        let channel = self.due.pop_front();
        if channel.is_some() || self.ready == 0 {
            return channel;
        }
        self.ready -= 1;
        self.put_off.pop_front()
    }

    /// Returns true if there is a channel to look at.
    pub(super) fn has_due(&self, taken: Sequence) -> bool {
        !self.due.is_empty() || self.ready > 0 || (self.taken < taken && !self.put_off.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_put_off_comes_again_once_more_is_taken() {
        let mut lookout = Lookout::default();
        [1, 2].into_iter().for_each(|number| lookout.push(ChannelId(number)));
        assert_eq!(lookout.pop(Sequence(5)), Some(ChannelId(1)));
        lookout.put_off(ChannelId(1));
        assert_eq!(lookout.pop(Sequence(5)), Some(ChannelId(2)));
        assert!(!lookout.has_due(Sequence(5)) && lookout.pop(Sequence(5)).is_none());
        lookout.push(ChannelId(3));
        assert!(lookout.has_due(Sequence(5)) && lookout.has_due(Sequence(6)));
        assert_eq!(
            [6, 6, 6].map(|taken| lookout.pop(Sequence(taken))),
            [Some(ChannelId(3)), Some(ChannelId(1)), None]
        );
    }
}
