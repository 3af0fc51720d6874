//! A running server, and how to wait for its end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::desk::OpenDesk;
use super::{Handle, ServeError};

/// A running server.
///
/// Dropping it begins a drain without waiting for it. [`RunningServer::wait`] waits.
pub struct RunningServer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) handle: Handle,
    pub(super) threads: Vec<JoinHandle<Result<(), ServeError>>>,
    /// Each shard holds it too. Once the shards and this have ended, no batch can have an outcome any
    /// more.
    pub(super) desk: Arc<OpenDesk>,
    pub(super) caller: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// The addresses that it listens on, as [`Server::addresses`](super::Server::addresses).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The handle that publishes, counts and drains, from any thread.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the server has drained. Does not begin a drain: [`Handle::drain`] does. When this
    /// returns, every callback has been called.
    ///
    /// # Errors
    /// [`ServeError::Driver`] and [`ServeError::Lost`] if a shard could not go on serving; the others
    /// have drained.
    pub fn wait(mut self) -> Result<(), ServeError> {
        let mut served = Ok(());
        for thread in std::mem::take(&mut self.threads) {
            served = served.and(thread.join().unwrap_or(Err(ServeError::Lost)));
        }
        self.handle.shared().core.log.close(); // No shard appends any more.
        let caller = self.caller.take();
        drop(self); // Closes the desk, which ends the caller.
        if caller.is_some_and(|caller| caller.join().is_err()) {
            tracing::error!("the thread for callbacks has panicked, which is a bug");
        }
        served
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

impl fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer")
            .field("addresses", &self.addresses)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
