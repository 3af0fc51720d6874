//! The retained frames and where each went. Which events are retained is decided by [`crate::hub::retention`].

mod compaction;
mod lapse;
pub(super) mod lapsing;
mod leftovers;
pub(super) mod page;
pub(super) mod store;
pub(super) mod targets;
