//! The segments that a shard's streams read from, each held once for all of them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::frame::chunk;
use crate::frame::run::{Run, Source};
use crate::frame::segment::Segment;

/// Segments that are remembered, so that runs of one segment share its source. A forgotten segment lives
/// on while a run needs it. Two sources of one segment only keep runs apart that could have been joined.
const RECENT_MAX: usize = 8;

/// The recently used segments.
#[derive(Debug, Default)]
pub(super) struct Sources {
    recent: VecDeque<Rc<Source>>,
}

impl Sources {
    /// A run of these bytes of a segment.
    pub(in crate::shard) fn run(&mut self, segment: &Arc<Segment>, from: u32, to: u32, frames: u32) -> Run {
        let known = self.recent.iter().find(|source| match &***source {
            Source::Shared(shared) => Arc::ptr_eq(shared, segment),
            Source::Own(_) => false,
        });
        let source = match known {
            Some(source) => Rc::clone(source),
            None => {
                let source = Rc::new(Source::Shared(Arc::clone(segment)));
                self.recent.push_front(Rc::clone(&source));
                self.recent.truncate(RECENT_MAX);
                source
            }
        };
        Run::new(source, from, to, frames)
    }

    /// Forgets all segments, so that the history alone decides how long they live.
    pub(in crate::shard) fn clear(&mut self) {
        self.recent.clear();
    }
}

/// The same frames as `run`, for streams without chunked coding.
pub(super) fn unframed_twin(run: &Run) -> Run {
    let mut bytes = Vec::with_capacity(run.len());
    chunk::payloads(run.bytes()).for_each(|payload| bytes.extend_from_slice(payload));
    bytes.shrink_to_fit(); // Slow streams may hold it for long.
    let to = u32::try_from(bytes.len()).expect("a run is below 4 GiB");
    Run::new(Rc::new(Source::Own(bytes)), 0, to, run.frames())
}
