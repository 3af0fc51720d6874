//! `downpour serve`: runs the server until it is told to end.

use super::options::ServeConfig;

/// Runs a server as configured, until it has drained.
///
/// # Errors
/// [`ServeError`] where it cannot start or serve on.
pub fn run(_config: ServeConfig) -> Result<(), ServeError> {
    Err(ServeError::NotBuilt)
}

/// Why a server could not start or serve on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The parts below are not joined yet.
    #[error("serving is not built yet")]
    NotBuilt,
}
