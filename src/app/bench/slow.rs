//! The schedule of slow streams: each reads a bounded number of bytes a second, spread over the second.

use std::ops::Range;
use std::time::Duration;

/// The turns of the slow streams of one reader.
#[derive(Debug)]
pub(super) struct SlowTurns {
    bytes_per_turn: usize,
    streams: Vec<usize>,
    /// When the next part of the streams is due, in ns; `None` while they read at full speed.
    next_ns: Option<u64>,
    part: usize,
}

impl SlowTurns {
    pub(super) fn new(bytes_per_second: usize) -> SlowTurns {
        let bytes_per_turn = (bytes_per_second / TURNS_PER_SECOND).max(1);
        SlowTurns { bytes_per_turn, streams: Vec::new(), next_ns: None, part: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.next_ns.is_some()
    }

    /// Begins, without any streams, or ends.
    pub(super) fn turn(&mut self, is_on: bool, now_ns: u64) {
        self.streams.clear();
        self.next_ns = is_on.then_some(now_ns);
    }

    /// Adds a stream.
    pub(super) fn push(&mut self, stream: usize) {
        self.streams.push(stream);
    }

    /// The streams whose turn it is, and how many bytes each may read. Must be called at least as often
    /// as [`SlowTurns::wait`] says.
    pub(super) fn due(&mut self, now_ns: u64) -> (Vec<usize>, usize) {
        let Some(next_ns) = self.next_ns.filter(|&next_ns| next_ns <= now_ns) else {
            return (Vec::new(), self.bytes_per_turn);
        };
        // A missed turn is not made up for: a burst would not be slow reading.
        self.next_ns = Some((next_ns + PART_NS).max(now_ns));
        let range = self.range();
        self.part = (self.part + 1) % PARTS;
        (self.streams[range].to_vec(), self.bytes_per_turn)
    }

    /// The time until the next turn; `None` if there is none.
    pub(super) fn wait(&self, now_ns: u64) -> Option<Duration> {
        let next_ns = self.next_ns.filter(|_| !self.streams.is_empty())?;
        Some(Duration::from_nanos(next_ns.saturating_sub(now_ns)))
    }

    fn range(&self) -> Range<usize> {
        let cut = |part: usize| part * self.streams.len() / PARTS;
        cut(self.part)..cut(self.part + 1)
    }
}

const TURNS_PER_SECOND: usize = 10;

/// The streams take their turns in parts, so that the others never wait for all of them.
const PARTS: usize = 10;

const PART_NS: u64 = 1_000_000_000 / (TURNS_PER_SECOND * PARTS) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_reads_its_share_of_a_second() {
        let mut slow = SlowTurns::new(1000);
        assert_eq!((slow.due(0).0, slow.wait(0)), (vec![], None));
        slow.turn(true, 0);
        (0..25).for_each(|stream| slow.push(stream));
        let mut bytes = [0; 25];
        for now in (0..1_000_000_000).step_by(1_000_000) {
            let (due, each) = slow.due(now);
            due.into_iter().for_each(|stream| bytes[stream] += each);
        }
        assert_eq!(bytes, [1000; 25]);
        slow.turn(false, 0);
        assert!(!slow.is_on() && slow.due(u64::MAX).0.is_empty());
    }
}
