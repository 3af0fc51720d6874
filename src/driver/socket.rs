//! Listening sockets and their options. Accepted sockets inherit the options, so none is set per
//! connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How the sockets of a listener behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Most connections that wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether small writes are sent at once (`TCP_NODELAY`, `tcp(7)`).
    pub nodelay: bool,
    /// Bytes that the kernel may hold for one peer (`SO_SNDBUF`, `socket(7)`, which doubles it for its
    /// own overhead).
    ///
    /// Without this, the kernel was measured to take 4.2 MB for a peer that had stopped reading.
    pub send_buffer_bytes: Option<usize>,
    /// A socket has room again below this many unsent bytes (`TCP_NOTSENT_LOWAT`, `tcp(7)`).
    pub notsent_lowat_bytes: Option<u32>,
    /// How long a peer may read nothing before the owner of its connection closes it. The kernel notices
    /// a peer that left the network after this time and within twice this time, if it is two seconds or
    /// more. `None` sets no limit.
    pub stall_timeout: Option<Duration>,
}

/// The kernel waits this much longer for a peer than the connection's owner. So if a peer is reachable
/// but does not read, the owner closes the connection first and gives the reason.
const PATIENCE_MORE: Duration = Duration::from_secs(10);

/// How long the kernel waits for an answer from the peer (`TCP_USER_TIMEOUT`, `tcp(7)`): to data, to a
/// probe of its closed window, or to a keepalive probe.
fn user_timeout(stall_timeout: Duration) -> Duration {
    // The kernel counts milliseconds in 31 bits.
    let longest = Duration::from_millis(1 << 30);
    (stall_timeout + PATIENCE_MORE.min(stall_timeout / 2)).min(longest)
}

/// When the kernel first probes a silent peer, before half of `stall_timeout`, and how often after that.
fn keepalive(stall_timeout: Duration) -> TcpKeepalive {
    let seconds = |duration: Duration| Duration::from_secs(duration.as_secs().clamp(1, 32_767));
    TcpKeepalive::new().with_time(seconds(stall_timeout * 2 / 5)).with_interval(seconds(stall_timeout / 10))
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            backlog: 4096,
            nodelay: true,
            send_buffer_bytes: None,
            notsent_lowat_bytes: None,
            stall_timeout: None,
        }
    }
}

/// A bound, listening socket that no driver has yet. Connections wait in its backlog from now on.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    pub(super) backlog: u32,
    /// `None` for a unix socket.
    address: Option<SocketAddr>,
}

impl Listener {
    /// Its TCP address, with the port that the kernel chose if 0 was asked for. `None` for a unix
    /// socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns true if and only if it is a unix socket. Only one shard has it, and that shard [hands
    /// connections over](super::Driver::hand_over) to the others.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.address.is_none()
    }

    /// Listens on a unix socket that is bound.
    pub(super) fn listen_unix(socket: Socket, options: &SocketOptions) -> io::Result<Listener> {
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Listener { socket, backlog: options.backlog, address: None })
    }
}

/// Listens on a TCP address.
///
/// # Errors
/// [`BindError`] names the address and the likely cause. Nothing listens after an error.
pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Listener, BindError> {
    let socket = open(address, options).map_err(|source| BindError::Socket { address, source })?;
    listen(socket, address, options)
}

/// Listens on a TCP address with `count` sockets. The kernel spreads connections over them
/// (`SO_REUSEPORT`, `socket(7)`).
///
/// The first socket is bound alone and shares its address only afterwards. So an address that another
/// process listens on is refused, whatever that process allows.
///
/// # Errors
/// As [`bind`]. Nothing listens after an error.
///
/// # Panics
/// If `count` is 0.
pub fn bind_many(
    address: SocketAddr,
    count: usize,
    options: &SocketOptions,
) -> Result<Vec<Listener>, BindError> {
    assert!(count > 0, "one socket listens at least");
    let first = bind(address, options)?;
    let address = first.address.unwrap_or(address);
    if count > 1 {
        first.socket.set_reuse_port(true).map_err(|source| BindError::Socket { address, source })?;
    }
    let mut listeners = vec![first];
    for _ in 1..count {
        let socket = open(address, options)
            .and_then(|socket| socket.set_reuse_port(true).map(|()| socket))
            .map_err(|source| BindError::Socket { address, source })?;
        listeners.push(listen(socket, address, options)?);
    }
    Ok(listeners)
}

fn listen(socket: Socket, address: SocketAddr, options: &SocketOptions) -> Result<Listener, BindError> {
    // Two sockets with `SO_REUSEADDR` may both bind. The second then fails to listen, with the same
    // error.
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX)))
        .map_err(|source| BindError::of(address, source))?;
    let bound = socket.local_addr().map_err(|source| BindError::Socket { address, source })?;
    Ok(Listener { socket, backlog: options.backlog, address: bound.as_socket().or(Some(address)) })
}

fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Connections of an earlier process in TIME-WAIT do not block the address. A process that listens
    // there does (`socket(7)`).
    socket.set_reuse_address(true)?;
    if matches!(address.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none()) {
        // `[::]` is every IPv6 address and no IPv4 address, as in nginx, so `0.0.0.0` can listen on the
        // same port.
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.notsent_lowat_bytes {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    if let Some(timeout) = options.stall_timeout {
        socket.set_tcp_user_timeout(Some(user_timeout(timeout)))?;
        socket.set_tcp_keepalive(&keepalive(timeout))?;
    }
    Ok(socket)
}

/// Returns true if and only if the connection has failed, not the accept. `accept(2)` returns errors
/// pending on the new connection, and asks callers to treat such a connection as if it had never come.
pub(super) fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
        )
    )
}

/// Why an address cannot be listened on. The operator can mend every variant.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there (`EADDRINUSE`).
    #[error("{address} is in use: another process listens there, perhaps another downpour")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// Ports below 1024 need privileges (`EACCES`).
    #[error(
        "not allowed to listen on {address}: \
         ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
    )]
    NotAllowed {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// No interface of this machine has the address (`EADDRNOTAVAIL`).
    #[error("no network interface of this machine has the address of {address}")]
    NotOurs {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// A socket could not be made, or refused an option: file descriptors ran out, or the kernel lacks
    /// the address family.
    #[error("cannot listen on {address}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
}

impl BindError {
    fn of(address: SocketAddr, source: io::Error) -> BindError {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => BindError::InUse { address, source },
            Some(libc::EACCES) => BindError::NotAllowed { address, source },
            Some(libc::EADDRNOTAVAIL) => BindError::NotOurs { address, source },
            _ => BindError::Socket { address, source },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Checks the options of a socket whose listener has a stall timeout of two minutes.
    pub(in crate::driver) fn notices_that_a_peer_is_gone(socket: &Socket) {
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(130)));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(48), "before half of it");
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(12));
    }

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn the_address_names_the_port_that_the_kernel_chose() {
        let listener = bind(ANY_PORT.parse().unwrap(), &SocketOptions::default()).unwrap();
        assert_ne!(listener.address().unwrap().port(), 0);
    }

    #[test]
    fn connections_are_spread_over_sockets_that_share_an_address() {
        let listeners = bind_many(ANY_PORT.parse().unwrap(), 2, &SocketOptions::default()).unwrap();
        let address = listeners[0].address().unwrap();
        assert_eq!(Some(address), listeners[1].address());
        let connections: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted: Vec<usize> = listeners
            .iter()
            .map(|listener| std::iter::from_fn(|| listener.socket.accept().ok()).count())
            .collect();
        assert_eq!(accepted.iter().sum::<usize>(), connections.len());
        assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
    }

    #[test]
    fn an_address_that_is_shared_within_a_process_is_refused_to_others() {
        let listeners = bind_many(ANY_PORT.parse().unwrap(), 2, &SocketOptions::default()).unwrap();
        let again = bind_many(listeners[0].address().unwrap(), 2, &SocketOptions::default());
        assert!(matches!(again, Err(BindError::InUse { .. })), "{again:?}");
    }

    #[test]
    fn an_address_in_use_is_refused_by_name() {
        let first = bind(ANY_PORT.parse().unwrap(), &SocketOptions::default()).unwrap();
        let taken = first.address().unwrap();
        let error = bind(taken, &SocketOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::InUse { address, .. } if address == taken), "{error:?}");
        assert!(error.to_string().contains(&taken.to_string()));
    }

    #[test]
    fn all_addresses_of_either_family_share_a_port() {
        if let Err(error) = std::net::TcpListener::bind("[::1]:0") {
            return println!("skipped: there is no IPv6 here: {error}");
        }
        for (first, other) in [("0.0.0.0:0", "[::]"), ("[::]:0", "0.0.0.0")] {
            // A port that is free in one family may be in use in the other.
            let shared = (0..50).any(|_| {
                let first = bind_many(first.parse().unwrap(), 2, &SocketOptions::default()).unwrap();
                let taken = first[0].address().unwrap();
                assert!(matches!(bind(taken, &SocketOptions::default()), Err(BindError::InUse { .. })));
                let other = format!("{other}:{}", taken.port()).parse().unwrap();
                bind_many(other, 2, &SocketOptions::default()).is_ok()
            });
            assert!(shared, "{other} beside {first}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_refused_by_name() {
        let error = bind("192.0.2.1:0".parse().unwrap(), &SocketOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::NotOurs { .. }), "{error:?}");
    }

    /// A connection's owner gives up first, and the kernel after it. A peer that is gone is noticed in
    /// time.
    #[test]
    fn the_kernel_is_more_patient_than_those_who_own_the_connections_and_not_for_long() {
        let seconds = Duration::from_secs;
        assert_eq!(user_timeout(seconds(120)), seconds(130));
        assert_eq!(user_timeout(seconds(4)), seconds(6));
        for stall_timeout in [2, 3, 5, 10, 30, 120, 3600, 86_400].map(seconds) {
            let (user, probes) = (user_timeout(stall_timeout), format!("{:?}", keepalive(stall_timeout)));
            assert!(user > stall_timeout && user < 2 * stall_timeout, "{user:?}, {probes}");
        }
        let endless = seconds(10 * 365 * 86_400);
        assert!(user_timeout(endless).as_millis() < 1 << 31);
        for stall_timeout in [Duration::from_millis(1), endless] {
            let options = SocketOptions { stall_timeout: Some(stall_timeout), ..SocketOptions::default() };
            bind(ANY_PORT.parse().unwrap(), &options).unwrap();
        }
    }

    #[test]
    fn an_address_is_free_again_while_old_connections_linger() {
        let listener = bind(ANY_PORT.parse().unwrap(), &SocketOptions::default()).unwrap();
        let address = listener.address().unwrap();
        let peer = std::net::TcpStream::connect(address).unwrap();
        drop(listener.socket.accept().unwrap()); // We close first, so the connection lingers on our side.
        drop(peer);
        drop(listener);
        bind(address, &SocketOptions::default()).unwrap();
    }
}
