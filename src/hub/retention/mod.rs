//! What leaves the history, and when: events over the bounds of number, bytes and age, lapsed events,
//! and dropped histories. Also the ids that publishers gave their events.

mod dropping;
mod evict;
mod lapse;
pub(super) mod lookout;
pub(super) mod own_ids;
