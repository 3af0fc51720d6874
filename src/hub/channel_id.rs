//! The id of a channel, pattern, user or client.

/// A channel's place in the table. It names the same channel while that channel has subscribers or
/// retained events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(in crate::hub) u32);

impl ChannelId {
    /// The target of events to all streams. Every stream gets them; no stream names it.
    pub const ALL: ChannelId = ChannelId(0);

    /// A hash that is distinct for each channel.
    #[must_use]
    #[inline]
    pub fn hash(self) -> u32 {
        self.0.wrapping_mul(0x9e37_79b1)
    }

    /// The id of a place in the table.
    #[cfg(test)]
    pub(crate) fn numbered(place: u32) -> ChannelId {
        ChannelId(place)
    }
}
