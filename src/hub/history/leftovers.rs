//! The pages of which little or nothing is retained.

use std::collections::{BTreeMap, VecDeque};

use crate::base::id::Sequence;

/// The sealed pages of which little or nothing is retained, by their first numbers.
#[derive(Debug, Default)]
pub(in crate::hub) struct Leftovers {
    /// Those of which something is, and what each holds.
    pub(super) sparse: BTreeMap<Sequence, usize>,
    pub(super) sparse_bytes: usize,
    /// Those of which nothing is: they go as soon as every shard has taken their last event.
    pub(super) dead: VecDeque<Sequence>,
}

impl Leftovers {
    /// Forgets a page that goes. Those that are dead are looked for when it is their turn.
    pub(in crate::hub) fn forget(&mut self, first: Sequence) {
        self.sparse_bytes -= self.sparse.remove(&first).unwrap_or(0);
    }
}
