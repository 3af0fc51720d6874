//! A server that serves, and how it is waited for.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::desk::OpenDesk;
use super::{Handle, ServeError};

/// A server that serves.
///
/// Dropping it has it drain, and does not wait for that; [`RunningServer::wait`] does.
pub struct RunningServer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) handle: Handle,
    pub(super) threads: Vec<JoinHandle<Result<(), ServeError>>>,
    /// Each shard holds it too: when they and this have ended, nothing more becomes known of any batch.
    pub(super) desk: Arc<OpenDesk>,
    pub(super) caller: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// The addresses that it listens on, as [`Server::addresses`](super::Server::addresses).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Publishes to it, counts and drains, from any thread.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until it has drained. It does not begin to: that is [`Handle::drain`]. When this returns, every callback
    /// has been called.
    ///
    /// # Errors
    /// [`ServeError::Driver`] and [`ServeError::Lost`] where a shard could not serve on; the others have drained.
    pub fn wait(mut self) -> Result<(), ServeError> {
        let mut served = Ok(());
        for thread in std::mem::take(&mut self.threads) {
            served = served.and(thread.join().unwrap_or(Err(ServeError::Lost)));
        }
        let caller = self.caller.take();
        drop(self); // It has the desk closed, which ends the caller.
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
