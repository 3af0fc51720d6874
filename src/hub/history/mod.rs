//! The retained frames and the target of each. [`crate::hub::retention`] decides which events are
//! retained.

mod compaction;
mod lapse;
pub(super) mod lapsing;
mod leftovers;
pub(super) mod page;
pub(super) mod store;
pub(super) mod targets;
