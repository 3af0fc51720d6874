//! The sockets that a server listens on.

use std::net::SocketAddr;

use super::{ServeError, ServerBuilder};
use crate::driver::socket::{Listener, SocketOptions, bind_many};
use crate::driver::unix::{SocketFile, bind_unix};

/// Bytes not yet sent that the kernel takes for one stream before it calls its socket full. Without a bound it was seen
/// to take 4.2 MB for a client that had stopped reading.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

/// Bytes of one stream that the kernel holds at most, which it doubles for its own overhead.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// What a server listens on.
pub(super) struct Listening {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) socket_files: Vec<SocketFile>,
    /// The listeners of each shard: of the addresses, and the first shard's those of the paths behind them.
    pub(super) of_shards: Vec<Vec<Listener>>,
}

/// Listens on all addresses, with a socket for each shard, and on all paths, each with one socket.
pub(super) fn listen(settings: &ServerBuilder, shards: usize) -> Result<Listening, ServeError> {
    let options = SocketOptions {
        send_buffer_bytes: Some(SEND_BUFFER_BYTES),
        notsent_lowat_bytes: Some(NOTSENT_LOWAT_BYTES),
        ..SocketOptions::default()
    };
    let mut addresses = Vec::new();
    let mut of_shards: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for &address in &settings.listen {
        let listeners = bind_many(address, shards, &options)?;
        addresses.extend(listeners[0].address());
        of_shards.iter_mut().zip(listeners).for_each(|(of_shard, listener)| of_shard.push(listener));
    }
    let mut socket_files = Vec::new();
    for path in &settings.listen_unix {
        let (listener, file) = bind_unix(path, &options)?;
        of_shards[0].push(listener);
        socket_files.push(file);
    }
    Ok(Listening { addresses, socket_files, of_shards })
}
