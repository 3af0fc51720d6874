//! Opening streams: sockets, source addresses, and the schedule.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::driver::source::leave_port_to_connect;

use super::plan::{Plan, STREAMS_PER_SOURCE, Sources, loopback_sources};

/// Opens connections to one address.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    address: SocketAddr,
    /// Connections of this process use these in turn; empty if the kernel chooses.
    sources: Vec<SocketAddr>,
    processes: usize,
}

impl Connector {
    /// The connector of one process of the run, with source addresses of its own if there are enough.
    ///
    /// # Errors
    /// One sentence, if the sources are of another family than the address.
    pub(super) fn new(plan: &Plan, process: usize, address: SocketAddr) -> Result<Connector, String> {
        let addresses = match &plan.sources {
            Sources::Addresses(addresses) if addresses.len() >= plan.processes => {
                let cut = |process: usize| process * addresses.len() / plan.processes;
                addresses[cut(process)..cut(process + 1)].to_vec()
            }
            Sources::Addresses(addresses) => addresses.clone(),
            Sources::Auto if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) => {
                let each = plan.subscribers_in(0).div_ceil(STREAMS_PER_SOURCE);
                loopback_sources(process * each..(process + 1) * each)
            }
            Sources::Auto => Vec::new(),
        };
        if address.is_ipv6() && !addresses.is_empty() {
            return Err(format!("--sources are IPv4 addresses, and --subscribe-url is at {address}"));
        }
        let sources = addresses.into_iter().map(|ip| SocketAddr::new(ip.into(), 0)).collect();
        Ok(Connector { address, sources, processes: plan.processes })
    }

    /// Begins a connection. A slow reader's has a small receive buffer.
    pub(super) fn connect(&self, subscriber: usize, is_slow: bool) -> Result<TcpStream, ConnectError> {
        let domain = Domain::for_address(self.address);
        let failed = |source| ConnectError::Failed { address: self.address, source };
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None).map_err(failed)?;
        if is_slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES).map_err(failed)?;
        }
        let within = subscriber / self.processes;
        let source = (!self.sources.is_empty()).then(|| self.sources[within % self.sources.len()]);
        if let Some(source) = source {
            leave_port_to_connect(&socket).map_err(failed)?;
            socket.bind(&source.into()).map_err(|error| self.out_of_ports(error, Some(source)))?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(self.out_of_ports(error, source)),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn out_of_ports(&self, error: io::Error, source: Option<SocketAddr>) -> ConnectError {
        if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) {
            let source = source.map_or("the kernel's choice".to_owned(), |source| source.ip().to_string());
            return ConnectError::OutOfPorts { source_address: source, source: error };
        }
        ConnectError::Failed { address: self.address, source: error }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(
        "the ports of the source address {source_address} ran out, or it is none of this machine's: give more by \
         --sources ({source})"
    )]
    OutOfPorts { source_address: String, source: io::Error },
    #[error("no connection to {address}: {source}")]
    Failed { address: SocketAddr, source: io::Error },
}

/// Sends a request that is far smaller than any socket's buffer; `false` while the connection is not
/// established.
pub(super) fn send_whole(socket: &mut TcpStream, request: &[u8]) -> io::Result<bool> {
    match socket.write(request) {
        Ok(count) if count == request.len() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::WriteZero, "the request was not taken whole")),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The schedule of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    began_ns: u64,
    per_second: Option<f64>,
}

impl Ramp {
    pub(super) fn new(began_ns: u64, per_second: Option<f64>) -> Ramp {
        Ramp { began_ns, per_second }
    }

    /// When the connection at `place` of all readers is due, in ns.
    pub(super) fn due_ns(self, place: usize) -> u64 {
        let Some(per_second) = self.per_second else { return self.began_ns };
        self.began_ns + seconds_to_ns(place as f64 / per_second)
    }
}

/// Non-negative seconds as ns.
pub(super) fn seconds_to_ns(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let ns = (seconds * 1e9) as u64;
    ns
}

/// The receive buffer of a stream that hardly reads. The kernel doubles it for its overhead (`tcp(7)`).
const SLOW_RECEIVE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn each_process_has_source_addresses_of_its_own_where_there_are_enough() {
        let sources = |arguments: &[&str]| {
            let plan = plan(&[arguments, &["--processes", "3"]].concat()).unwrap();
            let of =
                |process| Connector::new(&plan, process, "127.0.0.1:80".parse().unwrap()).unwrap().sources;
            [0, 1, 2].map(|process| {
                let last = of(process).into_iter().map(|source| source.to_string());
                last.map(|source| source.trim_start_matches("127.0.").to_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(sources(&[]), ["0.2:0", "0.3:0", "0.4:0"]);
        let many = ["--subscribers", "9000000"];
        assert!(sources(&many[..])[2].ends_with("2.133:0 2.134:0"), "{:?}", sources(&many[..])[2]);
        assert_eq!(sources(&["--sources", "4"]), ["0.2:0", "0.3:0", "0.4:0 0.5:0"]);
        let shared = "0.2:0 0.3:0";
        assert_eq!(sources(&["--sources", "2"]), [shared; 3], "they are too few");
    }

    #[test]
    fn no_source_address_has_more_streams_than_a_connect_finds_ports_for_quickly() {
        for (subscribers, sources) in [("1", 1), ("14000", 1), ("14001", 2), ("1000000", 72)] {
            let plan = plan(&["--subscribers", subscribers]).unwrap();
            let connector = Connector::new(&plan, 0, "127.0.0.1:80".parse().unwrap()).unwrap();
            assert_eq!(connector.sources.len(), sources, "{subscribers}");
        }
    }

    #[test]
    fn a_ramp_spaces_connections_evenly() {
        let ramp = Ramp::new(1000, Some(1000.0));
        assert_eq!([0, 1, 500].map(|place| ramp.due_ns(place)), [1000, 1_001_000, 500_001_000]);
        assert_eq!(Ramp::new(1000, None).due_ns(500), 1000);
    }
}
