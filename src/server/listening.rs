//! The sockets that a server listens on.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::{ServeError, ServerBuilder};
use crate::driver::socket::{BindError, Listener, SocketOptions, bind_many};
use crate::driver::unix::{SocketFile, UnixBindError, bind_unix};

/// How long a start waits in all for addresses in use. After a process that used io_uring was killed,
/// the kernel releases its ring on a thread of its own, and closes the listeners only then.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(25);

/// Unsent bytes of a stream above which the kernel calls its socket full. Without this bound it took 4.2
/// MB for a client that had stopped reading.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

/// Bytes of one stream that the kernel holds at most. It doubles them for its own overhead.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The sockets of a server.
pub(super) struct Listening {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) socket_files: Vec<SocketFile>,
    /// The listeners of each shard: those of the addresses, and in the first shard then those of the
    /// paths.
    pub(super) listeners: Vec<Vec<Listener>>,
}

/// Listens on all addresses, with a socket for each shard, and on all paths, with one socket each.
pub(super) fn listen(settings: &ServerBuilder, shards: usize) -> Result<Listening, ServeError> {
    let options = SocketOptions {
        send_buffer_bytes: Some(SEND_BUFFER_BYTES),
        notsent_lowat_bytes: Some(NOTSENT_LOWAT_BYTES),
        stall_timeout: settings.stall_timeout,
        ..SocketOptions::default()
    };
    let mut patience = Patience { left: PATIENCE, sleep: thread::sleep };
    let mut addresses = Vec::new();
    let mut by_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for &address in &settings.listen {
        let listeners = patience.listen(|| bind_many(address, shards, &options))?;
        addresses.extend(listeners[0].address());
        by_shard.iter_mut().zip(listeners).for_each(|(shard, listener)| shard.push(listener));
    }
    let mut socket_files = Vec::new();
    for path in &settings.listen_unix {
        let (listener, file) = patience.listen(|| bind_unix(path, &options))?;
        by_shard[0].push(listener);
        socket_files.push(file);
    }
    Ok(Listening { addresses, socket_files, listeners: by_shard })
}

/// The time that a start may still wait.
struct Patience<S> {
    left: Duration,
    sleep: S,
}

impl<S: FnMut(Duration)> Patience<S> {
    /// Tries to listen. Tries again while the address is in use and there is time left.
    fn listen<T, E: InUse>(&mut self, mut listen: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let mut is_logged = false;
        loop {
            match listen() {
                Err(error) if error.is_in_use() && !self.left.is_zero() => {
                    if !std::mem::replace(&mut is_logged, true) {
                        tracing::info!("{error}; trying again for {:?}", self.left);
                    }
                    let pause = self.left.min(PAUSE);
                    self.left -= pause;
                    (self.sleep)(pause);
                }
                listened => return listened,
            }
        }
    }
}

/// Errors that may mean that another socket listens on the address.
trait InUse: std::fmt::Display {
    fn is_in_use(&self) -> bool;
}

impl InUse for BindError {
    fn is_in_use(&self) -> bool {
        matches!(self, BindError::InUse { .. })
    }
}

impl InUse for UnixBindError {
    fn is_in_use(&self) -> bool {
        matches!(self, UnixBindError::InUse { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Listens on `address`, calling `sleep` between tries. Returns the time slept.
    fn slept(address: SocketAddr, mut sleep: impl FnMut(Duration)) -> (Duration, Result<(), BindError>) {
        let mut slept = Duration::ZERO;
        let sleep = |pause| {
            slept += pause;
            sleep(slept);
        };
        let mut patience = Patience { left: PATIENCE, sleep };
        let listened = patience.listen(|| bind_many(address, 2, &SocketOptions::default())).map(drop);
        (slept, listened)
    }

    #[test]
    fn an_address_that_becomes_free_in_time_is_listened_on() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let mut holder = Some(holder);
        let almost_all = PATIENCE - PAUSE;
        let (slept, listened) = slept(address, |slept| {
            holder.take_if(|_| slept >= almost_all);
        });
        listened.unwrap();
        assert_eq!(slept, almost_all);
    }

    #[test]
    fn an_address_that_stays_in_use_is_given_up_by_name() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let (slept, listened) = slept(address, |_| {});
        assert_eq!(slept, PATIENCE);
        assert!(listened.unwrap_err().to_string().contains(&address.to_string()));
    }

    #[test]
    fn several_addresses_in_use_wait_no_longer_than_one() {
        let holders = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (mut slept, mut tries) = (Duration::ZERO, 0);
        let mut patience = Patience { left: PATIENCE, sleep: |pause| slept += pause };
        for holder in &holders {
            let address = holder.local_addr().unwrap();
            let listen = || {
                tries += 1;
                bind_many(address, 1, &SocketOptions::default())
            };
            assert!(patience.listen(listen).is_err());
        }
        assert_eq!((slept, tries), (PATIENCE, PATIENCE.as_millis() / PAUSE.as_millis() + 2));
    }

    #[test]
    fn an_error_that_time_does_not_mend_is_returned_at_once() {
        let (slept, listened) = slept("192.0.2.1:0".parse().unwrap(), |_| {});
        assert!(matches!(listened, Err(BindError::NotOurs { .. })), "{listened:?}");
        assert_eq!(slept, Duration::ZERO);
        let directory = tempfile::tempdir().unwrap();
        let mut slept = false;
        let mut patience = Patience { left: PATIENCE, sleep: |_| slept = true };
        let missing = directory.path().join("missing/s");
        assert!(patience.listen(|| bind_unix(&missing, &SocketOptions::default())).is_err());
        assert!(!slept);
    }
}
