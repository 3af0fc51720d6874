//! Notes taken in the course of a run. With the findings of the readers they make the report.

use std::ops::Range;
use std::time::SystemTime;

use super::process::{Kernel, Memory, ThreadTime, Usage};
use super::publisher::Published;

/// The notes of a run.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) began: SystemTime,
    /// Why the run could not go on, a sentence each.
    pub(super) troubles: Vec<String>,
    /// A signal ended the run.
    pub(super) is_signalled: bool,
    pub(super) ramp_began_ns: u64,
    pub(super) memory_before: Option<Memory>,
    pub(super) memory_ramped: Option<Memory>,
    pub(super) memory_end: Option<Memory>,
    pub(super) kernel_before: Kernel,
    pub(super) kernel_ramped: Kernel,
    pub(super) measured: Option<Measured>,
    /// Measured deliveries, including those after the measured part.
    pub(super) deliveries_in_all: u64,
}

/// The measured part.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) start: Snapshot,
    pub(super) end: Snapshot,
    /// Places of its events.
    pub(super) places: Range<u64>,
    /// When publishing ended, in ns.
    pub(super) published_ns: u64,
    pub(super) last_delivery_ns: u64,
    pub(super) deliveries: u64,
    pub(super) received_bytes: u64,
    pub(super) published: Published,
}

/// Readings of one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at_ns: u64,
    pub(super) usage: Usage,
    pub(super) kernel: Kernel,
    pub(super) publisher: ThreadTime,
    pub(super) readers: Vec<ThreadTime>,
}

impl Default for Course {
    fn default() -> Course {
        Course {
            began: SystemTime::UNIX_EPOCH,
            troubles: Vec::new(),
            is_signalled: false,
            ramp_began_ns: 0,
            memory_before: None,
            memory_ramped: None,
            memory_end: None,
            kernel_before: Kernel::default(),
            kernel_ramped: Kernel::default(),
            measured: None,
            deliveries_in_all: 0,
        }
    }
}
