//! The queue of runs that wait to be written to one stream. It is bounded.
//!
//! An outbox knows nothing of sockets and policies. It takes runs, offers the slices of one vectored
//! send, and learns how many bytes were sent. An empty outbox owns no heap memory, and a single run
//! needs none.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::base::limits::SEND_SLICES_MAX;
use crate::frame::offer::Offer;
use crate::frame::run::Run;

/// How much an outbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Waiting bytes, those of a partly written run included.
    pub bytes_max: usize,
    /// Waiting frames.
    pub frames_max: u32,
}

impl OutboxLimits {
    /// The limits of an empty outbox that is about to be offered to the driver. They allow up to four
    /// times as many frames, so that small frames cost few system calls.
    #[must_use]
    pub fn at_once(self) -> OutboxLimits {
        OutboxLimits { frames_max: self.frames_max.saturating_mul(4), ..self }
    }
}

/// The limits of a stream's outbox, by whether its last send left bytes over. Computed once for many
/// streams.
#[derive(Clone, Copy, Debug)]
pub struct PushLimits {
    /// If nothing was left over.
    pub at_once: OutboxLimits,
    /// If the driver has yet to write some bytes.
    pub waiting: OutboxLimits,
}

impl PushLimits {
    /// Derives both from the limits for waiting bytes.
    #[must_use]
    pub fn of(waiting: OutboxLimits) -> PushLimits {
        PushLimits { at_once: waiting.at_once(), waiting }
    }
}

/// The result of pushing a run.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The run waits.
    Queued,
    /// The run does not fit, and nothing was taken. The policy decides what to do.
    Full,
}

/// The queue. Invariant: if `front` is `None`, so is `rest`.
#[derive(Debug, Default)]
pub struct Outbox {
    front: Option<Run>,
    #[expect(
        clippy::box_collection,
        reason = "nearly every outbox has none, and a queue in place is four times as large"
    )]
    rest: Option<Box<VecDeque<Run>>>,
    /// Bytes of `front` that are written.
    front_sent: u32,
    /// Waiting bytes: all runs without `front_sent`.
    bytes: usize,
    /// Waiting frames. Those of `front` count until all of it is written.
    frames: u32,
}

impl Outbox {
    /// Takes a run if it fits. An empty outbox takes one frame of any size, and otherwise no more than
    /// the limits. A partly written run counts fewer frames, in proportion to its bytes that still wait.
    ///
    /// Inlined for the empty outbox, which is what a delivery finds: the call cost 16 instructions of a
    /// delivery, which takes 143 (`scripts/instructions`).
    #[inline(always)]
    pub fn push(&mut self, run: Run, limits: &OutboxLimits) -> Pushed {
        if !self.is_empty() {
            return self.push_behind(run, limits);
        }
        let (bytes, frames) = (self.bytes + run.len(), self.frames + run.frames());
        if frames > 1 && (bytes > limits.bytes_max || frames > limits.frames_max) {
            return Pushed::Full;
        }
        (self.bytes, self.frames) = (bytes, frames);
        self.front = Some(run);
        Pushed::Queued
    }

    /// Takes a run behind others if it fits.
    fn push_behind(&mut self, run: Run, limits: &OutboxLimits) -> Pushed {
        let (bytes, frames) = (self.bytes + run.len(), self.frames + run.frames());
        if bytes > limits.bytes_max || frames - self.frames_begun() > limits.frames_max {
            return Pushed::Full;
        }
        self.push_unbounded(run);
        Pushed::Queued
    }

    /// Takes a run regardless of the limits, for the server's own events, which are bounded elsewhere.
    #[inline]
    pub fn push_unbounded(&mut self, run: Run) {
        self.bytes += run.len();
        self.frames += run.frames();
        let Some(front) = &mut self.front else {
            self.front = Some(run);
            return;
        };
        let last = match &mut self.rest {
            Some(rest) => rest.back_mut().unwrap_or(front),
            None => front,
        };
        if last.is_followed_by(&run) {
            last.extend_by(&run);
        } else {
            self.rest.get_or_insert_default().push_back(run);
        }
    }

    /// Takes a run with `sent` bytes already written. `sent` may be above 0 only if the outbox is empty.
    pub(super) fn push_begun(&mut self, run: Run, sent: u32) {
        debug_assert!(sent == 0 || self.is_empty(), "runs are written in order");
        self.push_unbounded(run);
        self.front_sent = self.front_sent.max(sent);
        self.bytes -= sent as usize;
    }

    /// The waiting runs, in order.
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.front.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// The waiting runs, in order.
    pub(super) fn into_runs(self) -> impl Iterator<Item = Run> {
        self.front.into_iter().chain(self.rest.into_iter().flat_map(|rest| rest.into_iter()))
    }

    /// Bytes of the first run that are written.
    pub(super) fn front_sent(&self) -> u32 {
        self.front_sent
    }

    /// About how many frames of a partly written run are written.
    #[inline]
    fn frames_begun(&self) -> u32 {
        match &self.front {
            Some(front) if self.front_sent > 0 => {
                let share = u64::from(front.frames()) * u64::from(self.front_sent) / front.len() as u64;
                u32::try_from(share).expect("no more than the run has")
            }
            _ => 0,
        }
    }

    /// Returns true if and only if nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    /// Waiting bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waiting frames, a partly written one included.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Calls `offer` with the slices of the next send, first bytes first. There are none if nothing
    /// waits.
    #[inline]
    pub fn offer<R>(&self, offer: impl FnOnce(Offer<'_>) -> R) -> R {
        let Some(front) = &self.front else { return offer(Offer::new(&[], None, None)) };
        let first = IoSlice::new(front.bytes_after(self.front_sent));
        let Some(rest) = &self.rest else { return offer(Offer::new(&[first], Some(front), None)) };
        let mut slices = [IoSlice::new(&[]); SEND_SLICES_MAX];
        slices[0] = first;
        let mut len = 1;
        for (slice, run) in slices[1..].iter_mut().zip(rest.iter()) {
            *slice = IoSlice::new(run.bytes());
            len += 1;
        }
        offer(Offer::new(&slices[..len], Some(front), Some(rest)))
    }

    /// Removes everything, since all of it is written. Returns how many frames waited.
    #[inline]
    pub fn clear(&mut self) -> u32 {
        self.front = None;
        if self.rest.is_some() {
            self.rest = None;
        }
        self.front_sent = 0;
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Removes the first `bytes` bytes, since they are written.
    ///
    /// Returns how many frames this completed. The frames of a run count once all of it is written.
    ///
    /// # Panics
    /// If fewer bytes wait.
    #[inline]
    pub fn sent(&mut self, bytes: usize) -> u32 {
        assert!(bytes <= self.bytes, "{bytes} bytes written where {} waited", self.bytes);
        self.bytes -= bytes;
        let mut left = bytes + self.front_sent as usize;
        let mut frames = self.frames;
        while let Some(front) = &self.front {
            if left < front.len() {
                break;
            }
            left -= front.len();
            frames -= front.frames();
            self.front = self.rest.as_mut().and_then(|rest| rest.pop_front());
        }
        self.front_sent = u32::try_from(left).expect("a run is below 4 GiB, and less than one is left");
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
        std::mem::replace(&mut self.frames, frames) - frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::run::Source;
    use crate::frame::segment::Segment;
    use std::rc::Rc;

    const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 10, frames_max: 3 };

    /// One frame.
    fn own(text: &str) -> Run {
        let source = Rc::new(Source::Own(text.as_bytes().into()));
        Run::new(source, 0, u32::try_from(text.len()).unwrap(), 1)
    }

    fn waiting(outbox: &Outbox) -> String {
        outbox.offer(|slices| slices.iter().map(|slice| str::from_utf8(slice).unwrap()).collect())
    }

    #[test]
    fn an_empty_outbox_takes_one_frame_however_large() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(own(&"x".repeat(100)), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.push(own("y"), &LIMITS), Pushed::Full);
    }

    #[test]
    fn what_does_not_fit_is_not_taken_at_all() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(own("12345"), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.push(own("678901"), &LIMITS), Pushed::Full, "eleven bytes");
        assert_eq!(outbox.push(own("6"), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.push(own("7"), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.push(own("8"), &LIMITS), Pushed::Full, "four frames");
        assert_eq!(waiting(&outbox), "1234567");
        assert_eq!((outbox.bytes(), outbox.frames()), (7, 3));
    }

    #[test]
    fn adjacent_runs_are_one_slice() {
        let source = Rc::new(Source::Shared(Segment::of(b"abcdef")));
        let mut outbox = Outbox::default();
        for (from, to) in [(0, 2), (2, 3), (3, 6)] {
            assert_eq!(outbox.push(Run::new(Rc::clone(&source), from, to, 1), &LIMITS), Pushed::Queued);
        }
        assert_eq!(outbox.offer(|slices| slices.len()), 1);
        assert_eq!(waiting(&outbox), "abcdef");
    }

    #[test]
    fn a_partly_written_run_goes_on_where_it_stopped_and_may_grow_meanwhile() {
        let source = Rc::new(Source::Shared(Segment::of(b"abcdef")));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Run::new(Rc::clone(&source), 0, 3, 1), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.sent(2), 0);
        assert_eq!((waiting(&outbox).as_str(), outbox.bytes(), outbox.frames()), ("c", 1, 1));
        assert_eq!(outbox.push(Run::new(source, 3, 6, 1), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.push(own("gh"), &LIMITS), Pushed::Queued);
        assert_eq!(waiting(&outbox), "cdefgh");
        assert_eq!(outbox.sent(5), 2, "the frame that was begun, and the one that followed it");
        assert_eq!((waiting(&outbox).as_str(), outbox.frames()), ("h", 1));
        assert_eq!(outbox.sent(1), 1);
        assert!(outbox.is_empty() && outbox.rest.is_none(), "an empty outbox owns no heap");
        assert_eq!((outbox.bytes(), outbox.frames()), (0, 0));
    }

    #[test]
    fn what_is_written_of_a_run_makes_room_for_frames() {
        let source = Rc::new(Source::Shared(Segment::of(b"aabbcc")));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Run::new(source, 0, 6, 3), &LIMITS), Pushed::Queued);
        assert_eq!(outbox.sent(3), 0, "none is told before the run is written");
        assert_eq!(outbox.push(own("d"), &LIMITS), Pushed::Queued, "one frame of three is gone");
        assert_eq!(outbox.push(own("e"), &LIMITS), Pushed::Full);
    }

    #[test]
    fn each_slice_lies_in_its_run() {
        let mut outbox = Outbox::default();
        ["abc", "de", "f"].into_iter().for_each(|text| outbox.push_unbounded(own(text)));
        outbox.sent(1);
        outbox.offer(|offer| {
            let runs: Vec<Run> = offer.runs().cloned().collect();
            assert_eq!((runs.len(), offer.slices().len(), offer.bytes()), (3, 3, 5));
            for (run, slice) in runs.iter().zip(offer.slices()) {
                let (run, slice) = (run.bytes().as_ptr_range(), slice.as_ptr_range());
                assert!(run.start <= slice.start && slice.end == run.end);
            }
        });
    }

    #[test]
    fn one_send_offers_a_bounded_number_of_slices() {
        let mut outbox = Outbox::default();
        for _ in 0..SEND_SLICES_MAX + 5 {
            outbox.push_unbounded(own("xy"));
        }
        assert_eq!(outbox.offer(|slices| slices.len()), SEND_SLICES_MAX);
        outbox.sent(2 * SEND_SLICES_MAX);
        assert_eq!(waiting(&outbox), "xyxyxyxyxy");
    }
}
