//! The memory that a stream's queue keeps alive: the blocks of its runs, which may be far larger than
//! the runs.
//!
//! A segment of the history is freed when its last run is. Suppose that a stream does not read, and its
//! channel has few events next to a busy channel. Its queue would then keep a whole segment for each
//! waiting event. So a queue keeps blocks of at most as many bytes as may wait in it, plus the one event
//! that it has begun to write. This applies only to streams whose sockets are full. A stream that writes
//! everything at once keeps nothing.

use std::rc::Rc;

use crate::frame::outbox::{Outbox, OutboxLimits, Pushed};
use crate::frame::run::{Run, Source};

/// Waiting bytes up to which a queue copies them out of their blocks to fit one more run. Beyond this
/// the run does not fit. A copy belongs to one stream alone, while a block is held once for many
/// streams.
const COPIED_BYTES_MAX: usize = 16 * 1024;

impl Outbox {
    /// As [`Outbox::push`], for a stream whose socket is full, where runs may wait for long. A run also
    /// does not fit if the held blocks would exceed `limits.bytes_max`.
    pub fn push_waiting(&mut self, run: Run, limits: &OutboxLimits) -> Pushed {
        let is_in_block = self.runs().next_back().is_none_or(|last| last.shares_block(&run));
        if is_in_block || self.held_bytes() + run.block_bytes() <= limits.bytes_max {
            return self.push(run, limits);
        }
        if self.bytes() + run.len() > limits.bytes_max.min(COPIED_BYTES_MAX) {
            return Pushed::Full;
        }
        let pushed = self.push(run.in_own_block(), limits);
        self.let_go(limits.bytes_max);
        pushed
    }

    /// Bytes of the blocks that are kept alive. The block of the first run does not count if it holds
    /// one event alone, since one event may have any size.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let (mut held, mut last) = (0, None);
        for run in self.runs() {
            let is_counted = match last {
                None => !run.is_one_event(),
                Some(last) => !run.shares_block(last),
            };
            held += if is_counted { run.block_bytes() } else { 0 };
            last = Some(run);
        }
        held
    }

    /// Copies waiting bytes out of blocks that hold more, if all blocks exceed `bytes_max`. No send may
    /// be under way.
    pub fn let_go(&mut self, bytes_max: usize) {
        if self.held_bytes() <= bytes_max {
            return;
        }
        let (mut waits_from, before) = (self.front_sent(), std::mem::take(self));
        let runs: Vec<(Run, u32, bool)> = before
            .into_runs()
            .enumerate()
            .map(|(index, run)| {
                let from = std::mem::take(&mut waits_from);
                let is_copied = run.block_bytes() > run.len() - from as usize;
                let is_begun_event = index == 0 && run.is_one_event();
                (run, from, is_copied && !is_begun_event)
            })
            .collect();
        let copied = || runs.iter().filter(|(.., is_copied)| *is_copied);
        let mut bytes = Vec::with_capacity(copied().map(|(run, from, _)| run.len() - *from as usize).sum());
        copied().for_each(|(run, from, _)| bytes.extend_from_slice(run.bytes_after(*from)));
        let (block, mut at) = (Rc::new(Source::Own(bytes)), 0);
        for (run, from, is_copied) in runs {
            if is_copied {
                let waits = run.moved_to(&block, at, from);
                at += u32::try_from(waits.len()).expect("no longer than the run");
                self.push_unbounded(waits);
            } else {
                self.push_begun(run, from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::segment::Segment;

    const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 1000, frames_max: 50 };

    /// A frame of ten bytes in a segment of `segment_bytes`. All frames of the segment are the same.
    fn sparse(segment_bytes: usize, text: &str) -> Run {
        let block = Rc::new(Source::Shared(Segment::of(text.repeat(segment_bytes / 10).as_bytes())));
        Run::new(block, 0, 10, 1)
    }

    fn waiting(outbox: &Outbox) -> String {
        outbox.offer(|slices| slices.iter().map(|slice| str::from_utf8(slice).unwrap()).collect())
    }

    #[test]
    fn frames_that_wait_do_not_hold_a_segment_each() {
        let (mut outbox, mut expected) = (Outbox::default(), String::new());
        for n in 0..30 {
            let text = format!("{n:010}");
            assert_eq!(outbox.push_waiting(sparse(800, &text), &LIMITS), Pushed::Queued);
            expected.push_str(&text);
            assert!(outbox.held_bytes() <= LIMITS.bytes_max, "{} bytes with {n}", outbox.held_bytes());
        }
        assert_eq!((waiting(&outbox), outbox.bytes(), outbox.frames()), (expected, 300, 30));
    }

    #[test]
    fn what_was_pushed_at_once_is_let_go_of_when_it_has_to_wait() {
        let (mut outbox, mut expected) = (Outbox::default(), String::new());
        for n in 0..9 {
            let text = format!("{n:010}");
            assert_eq!(outbox.push(sparse(800, &text), &LIMITS), Pushed::Queued);
            expected.push_str(&text);
        }
        assert_eq!((outbox.held_bytes(), outbox.sent(14)), (7200, 1));
        outbox.let_go(LIMITS.bytes_max);
        assert_eq!((waiting(&outbox).as_str(), outbox.frames()), (&expected[14..], 8));
        assert_eq!(outbox.held_bytes(), expected.len() - 14);
        assert_eq!((outbox.sent(expected.len() - 14), outbox.is_empty()), (8, true));
    }

    #[test]
    fn one_event_of_any_size_is_not_copied() {
        let mut outbox = Outbox::default();
        let large = Run::new(Rc::new(Source::Shared(Segment::of(&[b'x'; 5000]))), 0, 5000, 1);
        assert_eq!(outbox.push(large.clone(), &LIMITS), Pushed::Queued);
        outbox.sent(4500);
        assert_eq!(outbox.push_waiting(sparse(900, "0123456789"), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.held_bytes(), 900, "beside the event");
        assert_eq!(outbox.push_waiting(sparse(900, "abcdefghij"), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.held_bytes(), 910, "a copy beside the segment");
        let first = outbox.offer(|offer| offer.runs().next().cloned()).unwrap();
        assert!(first.shares_block(&large) && waiting(&outbox).ends_with("xx0123456789abcdefghij"));
        assert_eq!((outbox.bytes(), outbox.sent(500), outbox.sent(20)), (520, 1, 2));
    }

    #[test]
    fn much_that_waits_is_not_copied_for_one_stream_alone() {
        let limits = OutboxLimits { bytes_max: 100_000, frames_max: 5000 };
        let block = Rc::new(Source::Shared(Segment::of(&[b'x'; 90_000])));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Run::new(Rc::clone(&block), 0, 20_000, 2000), &limits), Pushed::Queued);
        assert_eq!(outbox.push_waiting(sparse(90_000, "0123456789"), &limits), Pushed::Full);
        let next = Run::new(block, 20_000, 40_000, 2000);
        assert_eq!(outbox.push_waiting(next, &limits), Pushed::Queued, "its block is held anyway");
    }
}
