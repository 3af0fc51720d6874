//! Source addresses of outgoing connections.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes `connect` choose a socket's port. `connect` knows both ends, so it can take any port that is
/// free for this pair, even one whose last connection is in TIME-WAIT. Call this before a bind to port 0
/// (`IP_BIND_ADDRESS_NO_PORT`, `ip(7)`).
///
/// Without it, the bind must find a port that was unused for a minute. With 13 000 ports in TIME-WAIT
/// that search took 2 ms for each connection.
///
/// # Errors
/// If the kernel does not know the option, which came with Linux 4.2, or `socket` is neither IPv4 nor
/// IPv6.
pub fn leave_port_to_connect(socket: &impl AsFd) -> io::Result<()> {
    let is_on: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of_val(&is_on)).expect("an int has few bytes");
    #[expect(unsafe_code, reason = "neither std nor socket2 has this option")]
    // SAFETY: `is_on` is ours and has `bytes` bytes. It lives through the call, which reads it and keeps
    // nothing. The descriptor is open, since `socket` is borrowed (`setsockopt(2)`).
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const is_on).cast(),
            bytes,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn the_port_comes_with_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        leave_port_to_connect(&socket).unwrap();
        let source = Ipv4Addr::new(127, 0, 0, 2);
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        let bound = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(bound(&socket), SocketAddr::from((source, 0)));
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        assert_eq!(bound(&socket).ip(), source);
        assert_ne!(bound(&socket).port(), 0);
    }
}
