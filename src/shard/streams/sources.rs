//! The segments that a shard's streams read from, each held once for all of them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::twins::Twins;
use crate::frame::coding::Coding;
use crate::frame::run::{Run, Source};
use crate::frame::segment::Segment;
use crate::hub::reading::HistoryRun;

/// Segments that are remembered, so that runs of one segment share its source. A forgotten segment lives
/// on while a run needs it. Two sources of one segment only keep runs apart that could have been joined.
const RECENT_MAX: usize = 8;

/// The recently used segments, and twins of recently read runs.
#[derive(Debug, Default)]
pub(super) struct Sources {
    recent: VecDeque<Rc<Source>>,
    twins: Twins,
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

    /// A run of the history in this coding.
    pub(super) fn coded(&mut self, part: &HistoryRun, coding: Coding) -> Run {
        let chunked = self.run(&part.segment, part.from, part.to, part.frames);
        match coding {
            Coding::Chunked => chunked,
            Coding::Unframed => self.twins.twin(part, &chunked, coding),
        }
    }

    /// Forgets all segments and twins, so that the history alone decides how long segments live.
    pub(in crate::shard) fn clear(&mut self) {
        self.recent.clear();
        self.twins.clear();
    }
}
