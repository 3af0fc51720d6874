//! Why a server does not start or serve on.

use std::io;
use std::net::SocketAddr;

use crate::driver::socket::BindError;
use crate::driver::unix::UnixBindError;
use crate::driver::uring::UringError;

/// Why a server could not start or serve on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting has a value that it cannot have.
    #[error("{setting} {rule}")]
    Setting {
        /// The method of [`ServerBuilder`](super::ServerBuilder) that set it.
        setting: &'static str,
        /// What holds for it.
        rule: &'static str,
    },
    /// Other machines reach the address, and that was not allowed
    /// ([`insecure`](super::ServerBuilder::insecure)).
    #[error(
        "{address} is reached by other machines, and anybody who reaches it may publish; allow that with insecure"
    )]
    Exposed {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The server is reached by a name that is not loopback's, and that was not allowed
    /// ([`insecure`](super::ServerBuilder::insecure)).
    #[error(
        "the host {host} is no loopback name, so others may reach the server, and publish; allow that with insecure"
    )]
    ExposedHost {
        /// The name, `*` for any.
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
    /// The kernel gives no random bits, without which ids could be guessed.
    #[error("cannot draw random bits from the kernel")]
    Random(#[source] io::Error),
    /// The I/O driver cannot be set up, or is broken.
    #[error("the I/O driver cannot be set up, or is broken")]
    Driver(#[source] io::Error),
    /// io_uring was asked for, and cannot be used here.
    #[error(transparent)]
    Uring(#[from] UringError),
    /// The processors that shards could be pinned to cannot be told.
    #[error("cannot tell which processors the server may run on; start it without pinning its shards")]
    Cpus(#[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread for each shard and one for callbacks")]
    Thread(#[source] io::Error),
    /// A shard ended for good, which is a bug.
    #[error("a shard panicked while it began anew")]
    Lost,
}
