//! What the load generators under `benches` share.
//!
//! `load` says which streams and events a load has. `readers` opens these streams, publishes to them and
//! keeps count; `publisher` only publishes, over the requests of `http`. `server` and `servers` start
//! what is measured, as a `process` on a CPU of its own. `kernel` and `metrics` read figures about it,
//! `window` and `stopwatch` those of a stretch of work, `statistics` makes medians of them, and `units`,
//! `table` and `verdicts` print them, and `progress` says how far a load has come. `still` has whole shards without a kernel below them.

pub mod http;
pub mod kernel;
pub mod load;
pub mod measuring;
pub mod metrics;
pub mod process;
pub mod progress;
pub mod publisher;
pub mod readers;
pub mod server;
pub mod servers;
pub mod statistics;
pub mod still;
pub mod stopwatch;
pub mod table;
pub mod units;
pub mod verdicts;
pub mod window;
