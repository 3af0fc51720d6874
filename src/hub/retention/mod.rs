//! What goes from the history, and when: beyond the bounds of number, bytes and age, when it lapses, and when it is dropped.

mod dropping;
mod evict;
mod lapse;
pub(super) mod lookout;
pub(super) mod own_ids;
