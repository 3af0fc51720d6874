//! A driver before its thread starts. Everything that may fail happens at the server's start, and is
//! reported there.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::UringDriver;
use super::accept::Acceptor;
use super::buffers::{self, Buffers};
use super::error::UringError;
use super::exchange::DescriptorExchange;
use super::key::Key;
use super::probe::Proven;
use super::ring::{COMPLETIONS, Ring, SUBMISSIONS};
use super::sends::Sends;
use super::waker::EventFd;
use crate::base::mailbox::Wake;
use crate::driver::socket::Listener;
use crate::driver::table::Table;

/// Most direct descriptors of one ring that the kernel allows (`IORING_MAX_FIXED_FILES`). The limit on
/// open files applies too.
pub const FILES_MAX: u32 = 1 << 20;

/// A driver without a thread. The ring belongs to the thread that calls [`PreparedUring::start`].
pub struct PreparedUring {
    /// `None` once started.
    parts: Option<Parts>,
    waker: Arc<EventFd>,
    proven: Proven,
}

struct Parts {
    ring: Ring,
    buffers: Buffers,
    acceptor: Acceptor,
    files: u32,
}

impl PreparedUring {
    /// Makes a driver that accepts from `listeners` and holds at most `files` connections.
    ///
    /// # Errors
    /// [`UringError`] says what the kernel refuses. `files` may not exceed the limit on open files,
    /// although no direct descriptor becomes an open file (`io_uring_register(2)`).
    pub fn new(listeners: Vec<Listener>, files: u32, proven: Proven) -> Result<PreparedUring, UringError> {
        let waker = Arc::new(EventFd::new().map_err(UringError::Waker)?);
        let ring = Ring::new(SUBMISSIONS, COMPLETIONS).map_err(UringError::refused)?;
        let registered = ring.submitter().register_files_sparse(files);
        registered.map_err(|source| UringError::Table { files, source })?;
        let acceptor = Acceptor::new(listeners, files).map_err(UringError::refused)?;
        let buffers = Buffers::register(&ring.submitter()).map_err(UringError::lacks(buffers::WHAT))?;
        Ok(PreparedUring { parts: Some(Parts { ring, buffers, acceptor, files }), waker, proven })
    }

    /// Ends a wait of the driver from any thread, as [`Driver::waker`](crate::driver::Driver::waker).
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Wake> {
        Arc::<EventFd>::clone(&self.waker)
    }

    /// Makes the calling thread the one that uses the driver.
    ///
    /// # Errors
    /// If the kernel does not enable the ring.
    pub fn start(mut self) -> io::Result<UringDriver> {
        let parts = self.parts.take().expect("they are taken here alone, and `self` ends");
        let Parts { mut ring, buffers, acceptor, files } = parts;
        ring.enable()?;
        ring.poll_edges(self.waker.raw(), Key::Waker);
        Ok(UringDriver {
            ring,
            sends: Some(Sends::new(self.proven.reporting())),
            buffers: Some(buffers),
            waker: Arc::clone(&self.waker),
            acceptor,
            table: Table::with_room_for(files as usize),
            events: VecDeque::new(),
            passed: 0,
            starved: VecDeque::new(),
            ending: HashMap::new(),
            exchange: Some(DescriptorExchange::new()),
            dropped: Rc::new(RefCell::new(Vec::new())),
            receives: 0,
            lent: None,
            reaped: Vec::new(),
            completions: 0,
            broken: None,
        })
    }
}

impl Drop for PreparedUring {
    fn drop(&mut self) {
        if let Some(Parts { ring, buffers, .. }) = self.parts.take() {
            // Nothing was ever submitted, so the kernel does not access the buffers once the ring is
            // gone.
            drop(ring);
            buffers.free();
        }
    }
}

impl fmt::Debug for PreparedUring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedUring").field("proven", &self.proven).finish_non_exhaustive()
    }
}
