//! How a server is set up: the settings, what they are when nobody says anything, and what must hold for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::{
    BODY_BYTES, BODY_MEMORY, COUNT, HISTORY_BYTES, OUTBOX_BYTES, SHARDS, TIME, TIME_OR_ZERO, require,
    settings,
};
use super::{Io, ServeError, Server};
use crate::api::{Hosts, is_loopback};
use crate::frame::notice::KeepaliveStyle;

settings! {
    /// Sets a [`Server`] up. Each setting is that of the command line's `serve` which its description names, with the same
    /// default and bounds; [`ServerBuilder::bind`] checks them.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), downpour::ServeError> {
    /// let server = downpour::Server::builder()
    ///     .listen(([127, 0, 0, 1], 0)) // Any free port.
    ///     .shards(2)
    ///     .keepalive_interval(Duration::from_secs(15))
    ///     .history_age_max(Duration::from_secs(3600))
    ///     .bind()?;
    /// println!("listening on {}", server.addresses()[0]);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[must_use]
    pub struct ServerBuilder {
        /// With no path either, it is the default address.
        listen: Vec<SocketAddr>,
        listen_unix: Vec<PathBuf>,
        hosts: Hosts,
        is_insecure: bool,
        trusts_user_parameter: bool,
    }

    /// How many event loops there are, each a thread (`--shards`); `None`, the default, is one for each processor.
    shards: Option<usize> = None, SHARDS;
    /// How bytes go in and out (`--io`, auto). [`Server::io`] tells which it has become.
    io: Io = Io::Auto;
    /// Whether each event loop stays on one processor, in turn over those that the thread which starts the server may
    /// run on (`--pin-shards`, no).
    pin_shards: bool = false;
    /// Silence after which a stream is sent a ping (`--keepalive`, 30 s); `None` for none.
    keepalive_interval: Option<Duration> = Some(Duration::from_secs(30)), TIME;
    /// What such a ping is (`--keepalive-style`, an event).
    keepalive_style: KeepaliveStyle = KeepaliveStyle::Event;
    /// How long clients are told to wait before they reconnect (`--retry`, 3 s).
    retry_delay: Duration = Duration::from_secs(3), TIME;
    /// What is added to that at most, at random for each stream (`--retry-jitter`, nothing).
    retry_jitter: Duration = Duration::ZERO, TIME_OR_ZERO;
    /// Age at which a stream is ended, 20 % more or less at random (`--max-stream-age`); `None`, the default, is never.
    stream_age_max: Option<Duration> = None, TIME;
    /// Events retained for each channel (`--history-events`, 10 000).
    history_events_max: usize = 10_000, COUNT;
    /// Memory of the history of all channels together in bytes, counted as held (`--history-bytes`, 256 MiB).
    history_bytes_max: usize = 256 << 20, HISTORY_BYTES;
    /// Age at which an event is given up (`--history-age`); `None`, the default, is never.
    history_age_max: Option<Duration> = None, TIME;
    /// What may wait for one stream, in bytes (`--queue-bytes`, 256 KiB).
    outbox_bytes_max: usize = 256 << 10, OUTBOX_BYTES;
    /// The same, in events (`--queue-frames`, 256).
    outbox_frames_max: usize = 256, COUNT;
    /// Connections at once (`--max-connections`). `None`, the default, is as many as the process may have open files,
    /// less some. With epoll it is never more, with io_uring never more than that for each event loop. The command
    /// line raises that limit for its own process; a library leaves it alone.
    connections_max: Option<usize> = None, COUNT;
    /// Channels of one stream (`--max-channels-per-stream`, 128).
    stream_channels_max: usize = 128, COUNT;
    /// Channels that have subscribers or retained events (`--max-channels`, 100 000).
    channels_max: usize = 100_000, COUNT;
    /// Idempotency keys that are remembered (`--idempotency-keys`, 1 000 000).
    idempotency_keys_max: usize = 1_000_000, COUNT;
    /// The largest request body, and the largest batch of an application, in bytes (`--max-body`, 1 MiB).
    body_bytes_max: usize = 1 << 20, BODY_BYTES;
    /// What bodies that have not come whole and answers that are not read may take together, in bytes
    /// (`--body-memory`, 64 MiB). No address takes more than an eighth of it.
    body_memory_bytes: usize = 64 << 20, BODY_MEMORY;
    /// Time for the head of a request (`--head-timeout`, 10 s).
    head_timeout: Duration = Duration::from_secs(10), TIME;
    /// Time that a body may take (`--body-timeout`, 30 s).
    body_timeout: Duration = Duration::from_secs(30), TIME;
    /// Time that a connection without a stream is kept for its next request (`--idle-timeout`, 75 s).
    idle_timeout: Duration = Duration::from_secs(75), TIME;
    /// Time for which the full socket of a stream may take not one byte (`--stall-timeout`, 2 min); `None` for any. A
    /// peer that is gone from the network is noticed by it too.
    stall_timeout: Option<Duration> = Some(Duration::from_secs(120)), TIME;
    /// Time until a publish that is not accepted is given up, whoever publishes (`--publish-timeout`, 5 s).
    publish_timeout: Duration = Duration::from_secs(5), TIME;
    /// Time that a drain may take, in which streams get to finish (`--drain`, 8 s).
    drain_timeout: Duration = Duration::from_secs(8), TIME_OR_ZERO;
}

impl ServerBuilder {
    /// Adds an address to listen on (`--listen`); without any, and without a path, it is `127.0.0.1:8080`. Port 0 is any free port, which
    /// [`Server::addresses`] tells.
    pub fn listen(mut self, address: impl Into<SocketAddr>) -> ServerBuilder {
        self.listen.push(address.into());
        self
    }

    /// Adds the path of a unix socket to listen on (`--listen unix:/path`). Who may connect is decided by the permissions
    /// of its file, which is made with what the process' umask leaves, and of its directories. The socket of a process
    /// that has ended is replaced; the file is removed when the server ends.
    pub fn listen_unix(mut self, path: impl Into<PathBuf>) -> ServerBuilder {
        self.listen_unix.push(path.into());
        self
    }

    /// Adds a name that clients reach the server by (`--host`), beside those of loopback: requests to a loopback
    /// address with another `Host` are refused. One that is no loopback name needs [`ServerBuilder::insecure`].
    pub fn host(mut self, name: impl Into<String>) -> ServerBuilder {
        self.hosts.names.push(name.into().to_ascii_lowercase());
        self
    }

    /// Allows any name in `Host` (`--host '*'`), which needs [`ServerBuilder::insecure`].
    pub fn any_host(mut self) -> ServerBuilder {
        self.hosts.any = true;
        self
    }

    /// Allows addresses that other machines reach, other names than loopback's, and to publish and manage through a proxy
    /// (`--insecure`): anybody who reaches the server or the proxy may then do so.
    pub fn insecure(mut self) -> ServerBuilder {
        self.is_insecure = true;
        self
    }

    /// Lets whoever subscribes say by `userId` whose stream it is (`--trust-user-parameter`), also where other machines
    /// reach the server, and through a proxy: for a proxy that sets it itself.
    pub fn trust_user_parameter(mut self) -> ServerBuilder {
        self.trusts_user_parameter = true;
        self
    }

    /// Listens on the addresses. Connections wait from now on, and are served once the server runs. An address in use is
    /// tried again for 2 s before it is given up: a process that was killed may hold it for a moment.
    ///
    /// # Errors
    /// [`ServeError`] says which setting, address or call of the system is at fault. Nothing listens then.
    pub fn bind(mut self) -> Result<Server, ServeError> {
        if self.listen.is_empty() && self.listen_unix.is_empty() {
            self.listen.push(SocketAddr::from(([127, 0, 0, 1], 8080)));
        }
        self.check()?;
        Server::bind(self)
    }

    fn check(&self) -> Result<(), ServeError> {
        if let Some(address) = self.exposed_address().filter(|_| !self.is_insecure) {
            return Err(ServeError::Exposed { address });
        }
        if let Some(host) = self.exposed_host().filter(|_| !self.is_insecure) {
            return Err(ServeError::ExposedHost { host: host.to_owned() });
        }
        self.check_bounds()?;
        require(self.body_bytes_max <= self.history_bytes_max, "body_bytes_max", BODY_BYTES.rule)?;
        let rule = "must be at most channels_max: one stream cannot have more channels than there may be";
        require(self.stream_channels_max <= self.channels_max, "stream_channels_max", rule)
    }

    /// The first address that other machines reach.
    pub(crate) fn exposed_address(&self) -> Option<SocketAddr> {
        self.listen.iter().find(|address| !address.ip().to_canonical().is_loopback()).copied()
    }

    /// A name that is not loopback's, `*` for any.
    pub(crate) fn exposed_host(&self) -> Option<&str> {
        let named = self.hosts.names.iter().map(String::as_str).find(|name| !is_loopback(name));
        self.hosts.any.then_some("*").or(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: ServerBuilder) -> String {
        builder.listen(([127, 0, 0, 1], 0)).bind().unwrap_err().to_string()
    }

    #[test]
    fn a_setting_out_of_bounds_is_named() {
        let new = ServerBuilder::default;
        let (none, endless) = (Duration::ZERO, Duration::MAX);
        assert!(refusal(new().head_timeout(none)).starts_with("head_timeout must be from"));
        assert!(refusal(new().drain_timeout(endless)).starts_with("drain_timeout must be at most"));
        assert!(refusal(new().keepalive_interval(none)).starts_with("keepalive_interval"));
        assert!(refusal(new().retry_delay(none)).starts_with("retry_delay must be from"));
        assert!(refusal(new().shards(65)).starts_with("shards must be from 1 to 64"));
        assert!(refusal(new().history_events_max(0)).starts_with("history_events_max"));
        assert!(refusal(new().history_bytes_max(1 << 19)).starts_with("history_bytes_max"));
        assert!(refusal(new().outbox_bytes_max(1)).starts_with("outbox_bytes_max"));
        assert!(refusal(new().body_bytes_max(1 << 30)).starts_with("body_bytes_max"));
        assert!(refusal(new().body_memory_bytes(1 << 15)).starts_with("body_memory_bytes"));
        assert!(refusal(new().idempotency_keys_max(0)).starts_with("idempotency_keys_max"));
        assert!(refusal(new().channels_max(100)).starts_with("stream_channels_max"));
    }

    #[test]
    fn an_address_that_others_reach_needs_insecure() {
        let builder = ServerBuilder::default().listen(([0, 0, 0, 0], 0));
        assert!(matches!(builder.clone().bind(), Err(ServeError::Exposed { .. })));
        assert!(builder.insecure().bind().is_ok());
    }

    #[test]
    fn a_name_that_is_not_loopbacks_needs_insecure() {
        let builder = || ServerBuilder::default().listen(([127, 0, 0, 1], 0));
        for exposed in [builder().host("events.example"), builder().host("10.0.0.1"), builder().any_host()] {
            assert!(matches!(exposed.clone().bind(), Err(ServeError::ExposedHost { .. })), "{exposed:?}");
            assert!(exposed.insecure().bind().is_ok());
        }
        assert!(builder().host("app.localhost").host("127.0.0.2").host("::1").bind().is_ok());
    }
}
