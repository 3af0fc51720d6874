//! Which channels an event went to, as one small number for each entry of the history.

use crate::hub::channels::ChannelId;

/// Where an event went: one channel, or a set of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetId(u32);

/// Marks a set of several channels.
const SET: u32 = 1 << 31;

/// The sets of several channels; a single channel needs no entry.
#[derive(Debug, Default)]
pub(super) struct Targets {
    sets: Vec<Option<Box<[ChannelId]>>>,
    free: Vec<u32>,
    bytes: usize,
}

impl Targets {
    /// The target that is these channels: one or more, each once.
    pub(super) fn enter(&mut self, channels: &[ChannelId]) -> TargetId {
        if let [channel] = channels {
            return TargetId(channel.0);
        }
        self.bytes += size_of_val(channels) + SET_BYTES;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            u32::try_from(self.sets.len() - 1).expect("sets are bounded by the history")
        });
        self.sets[slot as usize] = Some(channels.into());
        TargetId(SET | slot)
    }

    /// Gives up a target; its number may name another set from now on.
    pub(super) fn forget(&mut self, target: TargetId) {
        if target.0 & SET != 0 {
            let slot = target.0 & !SET;
            if let Some(set) = self.sets[slot as usize].take() {
                self.bytes -= size_of_val(&*set) + SET_BYTES;
                self.free.push(slot);
            }
        }
    }

    /// Calls `visit` with each channel of a target.
    #[inline]
    pub(super) fn for_each(&self, target: TargetId, mut visit: impl FnMut(ChannelId)) {
        if target.0 & SET == 0 {
            visit(ChannelId(target.0));
        } else if let Some(set) = &self.sets[(target.0 & !SET) as usize] {
            set.iter().for_each(|&channel| visit(channel));
        }
    }

    /// Bytes held for sets.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a set costs beside its channels, in bytes.
const SET_BYTES: usize = size_of::<Option<Box<[ChannelId]>>>() + 16;
