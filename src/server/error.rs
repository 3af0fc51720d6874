//! Why a server does not start or stops serving.

use std::io;
use std::net::SocketAddr;

use crate::driver::socket::BindError;
use crate::driver::unix::UnixBindError;
use crate::driver::uring::UringError;

/// Why a server could not start or go on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting has an invalid value.
    #[error("{setting} {rule}")]
    Setting {
        /// The method of [`ServerBuilder`](super::ServerBuilder) that set it.
        setting: &'static str,
        /// The rule that the value breaks.
        rule: &'static str,
    },
    /// Other machines can reach the address, and [`insecure`](super::ServerBuilder::insecure) does not
    /// allow it.
    #[error(
        "{address} is reached by other machines, and anybody who reaches it may publish; allow that with insecure"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// The server can be reached by a name that is not loopback's, and
    /// [`insecure`](super::ServerBuilder::insecure) does not allow it.
    #[error(
        "the host {host} is no loopback name, so others may reach the server, and publish; allow that with insecure"
    )]
    ExposedHost {
        /// The name; `*` for any.
        host: String,
    },
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The path of a unix socket cannot be listened on.
    #[error(transparent)]
    BindUnix(#[from] UnixBindError),
    /// The limit on open files cannot be read.
    #[error("cannot read the limit on open files")]
    Limit(#[source] io::Error),
    /// The kernel gives no random bits. Without them ids could be guessed.
    #[error("cannot draw random bits from the kernel")]
    Random(#[source] io::Error),
    /// The I/O driver cannot be set up, or has failed.
    #[error("the I/O driver cannot be set up, or is broken")]
    Driver(#[source] io::Error),
    /// io_uring was asked for and cannot be used here.
    #[error(transparent)]
    Uring(#[from] UringError),
    /// The processors that shards could be pinned to are unknown.
    #[error("cannot tell which processors the server may run on; start it without pinning its shards")]
    Cpus(#[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread for each shard and one for callbacks")]
    Thread(#[source] io::Error),
    /// A shard panicked while it restarted, which is a bug.
    #[error("a shard panicked while it began anew")]
    Lost,
}
