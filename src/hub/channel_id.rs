//! Which channel, pattern or user is meant.

/// A channel's place in the table; it names the same channel as long as that has subscribers or retained events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(in crate::hub) u32);

impl ChannelId {
    /// Where events to all streams are kept. Every stream gets them, and none names it.
    pub const ALL: ChannelId = ChannelId(0);

    /// A number of its own for each channel, spread over all numbers.
    #[must_use]
    #[inline]
    pub fn hash(self) -> u32 {
        self.0.wrapping_mul(0x9e37_79b1)
    }

    /// The channel at this place of the table.
    #[cfg(test)]
    pub(crate) fn numbered(place: u32) -> ChannelId {
        ChannelId(place)
    }
}
