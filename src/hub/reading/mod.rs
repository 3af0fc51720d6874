//! Reading the history. A shard takes the events after its cursor; a stream that resumes or fell behind
//! reads slices.

mod cursor;
mod gaps;
mod reader;
mod seek;
mod slice;
mod take;
mod walk;

pub use cursor::Cursor;
pub use slice::{Gap, HistoryRun, SLICE_FRAMES_MAX, SLICE_RUNS_MAX, Slice, SliceLimits};
pub use take::{LiveRun, RunChannels, TakeLimits};
