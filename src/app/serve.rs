//! `downpour serve`: runs the server until it is told to end, and says so.

use std::io;
use std::sync::{Arc, OnceLock};

use super::heap::HeapWatch;
use super::logging;
use super::signals::SignalWatch;
use crate::driver::descriptors::raise_open_files_limit;
use crate::server::{Handle, ServeError, ServerBuilder};

/// Runs a server as set up, until it has drained.
///
/// # Errors
/// [`CommandError`] where it cannot start or serve on.
pub fn run(server: ServerBuilder) -> Result<(), CommandError> {
    raise_open_files_limit().map_err(CommandError::Limit)?;
    let serving: Arc<OnceLock<Handle>> = Arc::default();
    let _signals = SignalWatch::start(drain(Arc::clone(&serving))).map_err(CommandError::Signals)?;
    let server = server.bind()?;
    if let Some(lines) = logging::lines_dropped() {
        server.report_log_lines_dropped(lines);
    }
    serving.set(server.handle()).expect("it is set here alone");
    let _heap = HeapWatch::start().map_err(CommandError::Heap)?;
    let (io, shards) = (server.io(), server.shards());
    let addresses = server.addresses().iter().map(ToString::to_string);
    let paths = server.unix_paths().map(|path| format!("unix:{}", path.display()));
    let addresses: Vec<String> = addresses.chain(paths).collect();
    let running = server.start()?;
    logging::tell(&format!("listening on {} io={io} shards={shards}\n", addresses.join(", ")));
    running.wait()?;
    tracing::info!("drained");
    Ok(())
}

/// Has the server drain at a signal. While there is none yet, as while its address is in use, the process is to end: process 1
/// would outlive the signal otherwise.
fn drain(serving: Arc<OnceLock<Handle>>) -> impl FnOnce(&'static str) -> bool + Send + 'static {
    move |signal| {
        let Some(handle) = serving.get() else { return false };
        tracing::info!(signal, "draining");
        handle.drain();
        true
    }
}

/// Why `serve` ended without having drained.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server could not start or serve on.
    #[error(transparent)]
    Server(#[from] ServeError),
    /// The limit on open files cannot be read or raised.
    #[error("cannot raise the limit on open files")]
    Limit(#[source] io::Error),
    /// Signals cannot be watched for.
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
    /// The heap cannot be watched.
    #[error("cannot start the thread that gives memory back")]
    Heap(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use crate::app::options::{Environment, ServeOptions};
    use crate::server::Server;

    #[test]
    fn a_library_and_the_command_line_have_the_same_defaults() {
        let resolved = ServeOptions::default().resolve(&Environment::default()).unwrap();
        assert_eq!(resolved.config.server, Server::builder().listen(([127, 0, 0, 1], 8080)));
    }
}
