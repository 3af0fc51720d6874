//! The sealed pages that retain little or nothing.

use std::collections::BTreeMap;

use crate::base::id::Sequence;
use crate::base::queue::Queue;

/// The sealed pages that retain little or nothing, by their first numbers.
#[derive(Debug, Default)]
pub(in crate::hub) struct Leftovers {
    /// The pages that retain a little, and the bytes each holds.
    pub(super) sparse: BTreeMap<Sequence, usize>,
    pub(super) sparse_bytes: usize,
    /// The pages that retain nothing. They go as soon as every shard has taken their last event.
    pub(super) dead: Queue<Sequence>,
}

impl Leftovers {
    /// Forgets a sparse page that goes. A dead page is only looked up when its turn comes.
    pub(in crate::hub) fn forget(&mut self, first: Sequence) {
        self.sparse_bytes -= self.sparse.remove(&first).unwrap_or(0);
    }
}
