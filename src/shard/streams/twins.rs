//! Twins of the runs that streams have read in the history, for the next streams that read the same.
//!
//! Many streams resume together, after the end of a server or a network, and read the same slices one
//! after the other. A live run needs nothing here: its streams share one
//! [`CodedRun`](crate::frame::coding::CodedRun).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::frame::coding::Coding;
use crate::frame::run::Run;
use crate::frame::segment::Segment;
use crate::hub::reading::{HistoryRun, SLICE_RUNS_MAX};

/// Twins that are kept: the runs of a whole slice.
const KEPT_MAX: usize = SLICE_RUNS_MAX;

/// Bytes of the twins that are kept, so that a shard keeps little beside what the queues of its streams
/// count. A larger twin is made again for each stream.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// The twins of recently read runs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Twins {
    kept: VecDeque<Twin>,
    /// Bytes of all kept twins.
    bytes: usize,
}

#[derive(Debug)]
struct Twin {
    /// Not kept alive: a twin does not need the segment. Its address stays its own as long as it is here.
    segment: Weak<Segment>,
    from: u32,
    to: u32,
    coding: Coding,
    run: Run,
}

impl Twin {
    fn is_of(&self, part: &HistoryRun, coding: Coding) -> bool {
        (self.from, self.to, self.coding) == (part.from, part.to, coding)
            && std::ptr::eq(self.segment.as_ptr(), Arc::as_ptr(&part.segment))
    }
}

impl Twins {
    /// The twin of `part`, which is `chunked`, in this coding.
    pub(super) fn twin(&mut self, part: &HistoryRun, chunked: &Run, coding: Coding) -> Run {
        if let Some(known) = self.kept.iter().find(|twin| twin.is_of(part, coding)) {
            return known.run.clone();
        }
        let run = coding.code(chunked);
        if run.len() <= KEPT_BYTES_MAX {
            self.keep(Twin {
                segment: Arc::downgrade(&part.segment),
                from: part.from,
                to: part.to,
                coding,
                run: run.clone(),
            });
        }
        run
    }

    fn keep(&mut self, twin: Twin) {
        self.bytes += twin.run.len();
        self.kept.push_back(twin);
        while self.kept.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.run.len();
        }
    }

    /// Forgets all twins.
    pub(super) fn clear(&mut self) {
        *self = Twins::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::chunk;
    use crate::frame::run::Source;
    use std::rc::Rc;

    /// A run of one event with this many bytes.
    fn part(bytes: usize) -> HistoryRun {
        let mut chunked = Vec::new();
        chunk::append(&mut chunked, &vec![b'x'; bytes]);
        let segment = Segment::of(&chunked);
        HistoryRun { to: u32::try_from(chunked.len()).unwrap(), segment, from: 0, frames: 1 }
    }

    fn twin(twins: &mut Twins, part: &HistoryRun) -> Run {
        let source = Rc::new(Source::Shared(Arc::clone(&part.segment)));
        twins.twin(part, &Run::new(source, part.from, part.to, part.frames), Coding::Unframed)
    }

    fn address(run: &Run) -> *const u8 {
        run.bytes().as_ptr()
    }

    #[test]
    fn streams_that_read_the_same_share_a_twin() {
        let (mut twins, one, other) = (Twins::default(), part(10), part(10));
        let first = twin(&mut twins, &one);
        assert_ne!(address(&twin(&mut twins, &other)), address(&first));
        assert_eq!(address(&twin(&mut twins, &one)), address(&first));
        assert_eq!((first.bytes(), first.frames()), ([b'x'; 10].as_slice(), 1));
        twins.clear();
        assert_ne!(address(&twin(&mut twins, &one)), address(&first));
    }

    #[test]
    fn a_kept_twin_does_not_keep_its_segment() {
        let (mut twins, part) = (Twins::default(), part(10));
        twin(&mut twins, &part);
        assert_eq!(Arc::strong_count(&part.segment), 1);
    }

    #[test]
    fn few_twins_and_few_bytes_are_kept() {
        let mut twins = Twins::default();
        let small: Vec<HistoryRun> = (0..=KEPT_MAX).map(|_| part(10)).collect();
        let first = address(&twin(&mut twins, &small[0]));
        small[1..].iter().for_each(|part| drop(twin(&mut twins, part)));
        assert_eq!((twins.kept.len(), twins.bytes), (KEPT_MAX, 10 * KEPT_MAX));
        assert!(twins.kept.iter().all(|twin| address(&twin.run) != first), "the oldest is gone");
        twin(&mut twins, &part(KEPT_BYTES_MAX + 1));
        assert_eq!(twins.kept.len(), KEPT_MAX, "too large to keep");
        twin(&mut twins, &part(KEPT_BYTES_MAX - 10));
        assert_eq!((twins.kept.len(), twins.bytes), (2, KEPT_BYTES_MAX));
    }
}
