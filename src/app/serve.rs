//! `downpour serve`: runs the server until it is told to end, and says so.

use std::io;
use std::sync::{Arc, OnceLock};

use super::heap::HeapWatch;
use super::logging;
use super::options::{ListenAddress, ServeConfig};
use super::signals::SignalWatch;
use crate::driver::descriptors::raise_open_files_limit;
use crate::server::{Handle, ServeError, Server, ServerBuilder};

/// Runs a server as configured, until it has drained.
///
/// # Errors
/// [`CommandError`] where it cannot start or serve on.
pub fn run(config: ServeConfig) -> Result<(), CommandError> {
    raise_open_files_limit().map_err(CommandError::Limit)?;
    let serving: Arc<OnceLock<Handle>> = Arc::default();
    let _signals = SignalWatch::start(drain(Arc::clone(&serving))).map_err(CommandError::Signals)?;
    let server = builder(config).bind()?;
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

fn builder(config: ServeConfig) -> ServerBuilder {
    let mut builder = Server::builder()
        .shards(config.shards)
        .io(config.io)
        .pin_shards(config.pin_shards)
        .keepalive_interval(config.keepalive_interval)
        .keepalive_style(config.keepalive_style)
        .retry_delay(config.retry_delay)
        .retry_jitter(config.retry_jitter)
        .stream_age_max(config.stream_age_max)
        .history_events_max(config.history_events_max)
        .history_bytes_max(config.history_bytes_max)
        .history_age_max(config.history_age_max)
        .outbox_bytes_max(config.outbox_bytes_max)
        .outbox_frames_max(config.outbox_frames_max)
        .connections_max(config.connections_max)
        .stream_channels_max(config.stream_channels_max)
        .channels_max(config.channels_max)
        .idempotency_keys_max(config.idempotency_keys_max)
        .body_bytes_max(config.body_bytes_max)
        .body_memory_bytes(config.body_memory_bytes)
        .head_timeout(config.head_timeout)
        .body_timeout(config.body_timeout)
        .idle_timeout(config.idle_timeout)
        .stall_timeout(config.stall_timeout)
        .publish_timeout(config.publish_timeout)
        .drain_timeout(config.drain_timeout);
    for address in config.listen {
        builder = match address {
            ListenAddress::Tcp(address) => builder.listen(address),
            ListenAddress::Unix(path) => builder.listen_unix(path),
        };
    }
    for name in config.hosts.names {
        builder = builder.host(name);
    }
    if config.hosts.any {
        builder = builder.any_host();
    }
    if config.trusts_user_parameter {
        builder = builder.trust_user_parameter();
    }
    if config.insecure { builder.insecure() } else { builder }
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
    use super::*;
    use crate::app::options::{Environment, ServeOptions};

    #[test]
    fn a_library_and_the_command_line_have_the_same_defaults() {
        let resolved = ServeOptions::default().resolve(&Environment::default()).unwrap();
        assert_eq!(builder(resolved.config), Server::builder().listen(([127, 0, 0, 1], 8080)));
    }
}
