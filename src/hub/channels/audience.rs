//! The number of streams that subscribe to a channel, by shard.

use crate::base::heap::block_bytes;
use crate::hub::shards::ShardSet;

/// The streams of a channel, by shard. Most channels have streams of one shard only.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Audience {
    /// Streams of one shard, or no streams.
    One {
        /// The shard. Meaningless when there are no streams.
        shard: u8,
        /// The number of streams.
        streams: u32,
    },
    /// Streams of at least two shards.
    Several(Box<Several>),
}

/// The streams of several shards.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Several {
    shards: ShardSet,
    /// The streams of all shards together.
    streams: u32,
    /// Each shard that has streams, with their number.
    by_shard: Vec<(u8, u32)>,
}

impl Audience {
    /// Counts the streams of all shards.
    pub(in crate::hub) fn streams(&self) -> u32 {
        match self {
            Audience::One { streams, .. } => *streams,
            Audience::Several(several) => several.streams,
        }
    }

    /// The shards that have streams.
    pub(in crate::hub) fn shards(&self) -> ShardSet {
        match self {
            Audience::One { streams: 0, .. } => ShardSet::default(),
            Audience::One { shard, .. } => ShardSet::from_bits(1 << shard),
            Audience::Several(several) => several.shards,
        }
    }

    /// Counts the streams of one shard.
    pub(super) fn streams_of(&self, shard: usize) -> u32 {
        match self {
            Audience::One { shard: of, streams } if usize::from(*of) == shard => *streams,
            Audience::One { .. } => 0,
            Audience::Several(several) => several.index(shard).map_or(0, |index| several.by_shard[index].1),
        }
    }

    /// Adds a stream of a shard.
    pub(in crate::hub) fn add(&mut self, shard: usize) {
        let number = number(shard);
        match self {
            Audience::One { shard: of, streams } if *streams == 0 || *of == number => {
                *of = number;
                *streams += 1;
            }
            Audience::One { shard: of, streams } => {
                let mut shards = ShardSet::default();
                [usize::from(*of), shard].into_iter().for_each(|shard| shards.insert(shard));
                let by_shard = vec![(*of, *streams), (number, 1)];
                *self = Audience::Several(Box::new(Several { shards, streams: *streams + 1, by_shard }));
            }
            Audience::Several(several) => {
                several.shards.insert(shard);
                several.streams += 1;
                match several.index(shard) {
                    Some(index) => several.by_shard[index].1 += 1,
                    None => several.by_shard.push((number, 1)),
                }
            }
        }
    }

    /// Removes `gone` streams of a shard.
    ///
    /// # Panics
    /// If the shard has fewer than `gone`.
    pub(in crate::hub) fn remove(&mut self, shard: usize, gone: u32) {
        let left = self.streams_of(shard).checked_sub(gone).expect("what is left was subscribed to");
        match self {
            Audience::One { streams, .. } => *streams = left,
            Audience::Several(several) => {
                several.streams -= gone;
                let Some(index) = several.index(shard) else { return };
                several.by_shard[index].1 = left;
                if left == 0 {
                    several.by_shard.swap_remove(index);
                    several.shards.remove(shard);
                }
                if let [(shard, streams)] = several.by_shard[..] {
                    *self = Audience::One { shard, streams };
                }
            }
        }
    }

    /// The bytes it holds on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Audience::One { .. } => 0,
            Audience::Several(several) => {
                let counts = several.by_shard.capacity() * size_of::<(u8, u32)>();
                block_bytes(size_of::<Several>()) + block_bytes(counts)
            }
        }
    }
}

impl Several {
    fn index(&self, shard: usize) -> Option<usize> {
        self.by_shard.iter().position(|(of, _)| usize::from(*of) == shard)
    }
}

fn number(shard: usize) -> u8 {
    u8::try_from(shard).expect("there are at most 64 shards")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    const NOBODY: Audience = Audience::One { shard: 0, streams: 0 };

    #[test]
    fn streams_are_counted_as_a_plain_list_counts_them() {
        let (mut random, mut audience, mut plain) = (SplitMix64::new(4), NOBODY, [0_u32; 64]);
        for step in 0..5000 {
            // Some phases end with no stream, some with the streams of one shard only.
            let shard = random.within(0..=if step / 500 % 2 == 0 { 63 } else { 1 });
            if random.within(0..=9) < if step / 250 % 2 == 0 { 7 } else { 2 } {
                audience.add(shard);
                plain[shard] += 1;
            } else if let Some(shard) = (0..64).rev().find(|&shard| plain[shard] > 0) {
                let gone = if random.within(0..=9) == 0 { plain[shard] } else { 1 };
                audience.remove(shard, gone);
                plain[shard] -= gone;
            }
            let shards = (0..64).filter(|&shard| plain[shard] > 0);
            assert_eq!(audience.shards().bits(), shards.clone().map(|shard| 1 << shard).sum::<u64>());
            assert_eq!(audience.streams(), plain.iter().sum::<u32>());
            assert!((0..64).all(|shard| audience.streams_of(shard) == plain[shard]));
            assert_eq!(matches!(audience, Audience::Several(_)), shards.count() > 1);
        }
    }

    #[test]
    #[should_panic(expected = "was subscribed to")]
    fn a_stream_that_no_shard_has_does_not_leave() {
        let mut audience = NOBODY;
        audience.add(1);
        audience.remove(2, 1);
    }
}
