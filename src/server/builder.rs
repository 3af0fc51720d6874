//! How a server is set up: the settings, what they are when nobody says anything, and what must hold for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Io, ServeError, Server};
use crate::api::{Hosts, is_loopback};
use crate::frame::notice::KeepaliveStyle;
use crate::hub::SHARDS_MAX;

/// Below this the history's fixed-size parts leave no room for events, in bytes.
pub(crate) const HISTORY_BYTES_LEAST: usize = 1 << 20;
pub(crate) const BODY_MEMORY_LEAST: usize = 64 << 10;

/// Below this a queue could not even hold the events that the server itself sends, in bytes.
pub(crate) const OUTBOX_BYTES_LEAST: usize = 1 << 10;

/// The largest body, in bytes: its frame, in which each byte may become seven (a line of its own), stays below 4 GiB.
pub(crate) const BODY_BYTES_MAX: usize = 256 << 20;

/// Far above any machine's memory, far below overflow in sums of a few sizes, in bytes.
pub(crate) const BYTES_MAX: usize = 1 << 50;

/// Counts are kept in 32 bits where there are many of them.
pub(crate) const COUNT_MAX: usize = u32::MAX as usize;

/// The longest duration that is taken: short enough to be added to any instant; anything above it is a slip.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

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
    pub(super) listen: Vec<SocketAddr>,
    pub(super) listen_unix: Vec<PathBuf>,
    pub(super) hosts: Hosts,
    pub(super) is_insecure: bool,
    pub(super) trusts_user_parameter: bool,
    pub(super) shards: Option<usize>,
    pub(super) io: Io,
    pub(super) pin_shards: bool,
    pub(super) keepalive_interval: Option<Duration>,
    pub(super) keepalive_style: KeepaliveStyle,
    pub(super) retry_delay: Duration,
    pub(super) retry_jitter: Duration,
    pub(super) stream_age_max: Option<Duration>,
    pub(super) history_events_max: usize,
    pub(super) history_bytes_max: usize,
    pub(super) history_age_max: Option<Duration>,
    pub(super) outbox_bytes_max: usize,
    pub(super) outbox_frames_max: usize,
    pub(super) connections_max: Option<usize>,
    pub(super) stream_channels_max: usize,
    pub(super) channels_max: usize,
    pub(super) idempotency_keys_max: usize,
    pub(super) body_bytes_max: usize,
    pub(super) body_memory_bytes: usize,
    pub(super) head_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) stall_timeout: Option<Duration>,
    pub(super) publish_timeout: Duration,
    pub(super) drain_timeout: Duration,
}

impl Default for ServerBuilder {
    fn default() -> ServerBuilder {
        ServerBuilder {
            listen: Vec::new(),
            listen_unix: Vec::new(),
            hosts: Hosts::default(),
            is_insecure: false,
            trusts_user_parameter: false,
            shards: None,
            io: Io::Auto,
            pin_shards: false,
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_style: KeepaliveStyle::Event,
            retry_delay: Duration::from_secs(3),
            retry_jitter: Duration::ZERO,
            stream_age_max: None,
            history_events_max: 10_000,
            history_bytes_max: 256 << 20,
            history_age_max: None,
            outbox_bytes_max: 256 << 10,
            outbox_frames_max: 256,
            connections_max: None,
            stream_channels_max: 128,
            channels_max: 100_000,
            idempotency_keys_max: 1_000_000,
            body_bytes_max: 1 << 20,
            body_memory_bytes: 64 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Some(Duration::from_secs(120)),
            publish_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(8),
        }
    }
}

macro_rules! settings {
    ($($(#[$docs:meta])+ $name:ident: $argument:ty;)+) => {
        $(
            $(#[$docs])+
            pub fn $name(mut self, $name: $argument) -> ServerBuilder {
                self.$name = $name.into();
                self
            }
        )+
    };
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

    settings! {
        /// How many event loops there are, each a thread (`--shards`); `None`, the default, is one for each processor.
        shards: impl Into<Option<usize>>;
        /// How bytes go in and out (`--io`, auto). [`Server::io`] tells which it has become.
        io: Io;
        /// Whether each event loop stays on one processor, in turn over those that the thread which starts the server may
        /// run on (`--pin-shards`, no).
        pin_shards: bool;
        /// Silence after which a stream is sent a ping (`--keepalive`, 30 s); `None` for none.
        keepalive_interval: impl Into<Option<Duration>>;
        /// What such a ping is (`--keepalive-style`, an event).
        keepalive_style: KeepaliveStyle;
        /// How long clients are told to wait before they reconnect (`--retry`, 3 s).
        retry_delay: Duration;
        /// What is added to that at most, at random for each stream (`--retry-jitter`, nothing).
        retry_jitter: Duration;
        /// Age at which a stream is ended, 20 % more or less at random (`--max-stream-age`); `None`, the default, is never.
        stream_age_max: impl Into<Option<Duration>>;
        /// Events retained for each channel (`--history-events`, 10 000).
        history_events_max: usize;
        /// Memory of the history of all channels together in bytes, counted as held (`--history-bytes`, 256 MiB).
        history_bytes_max: usize;
        /// Age at which an event is given up (`--history-age`); `None`, the default, is never.
        history_age_max: impl Into<Option<Duration>>;
        /// What may wait for one stream, in bytes (`--queue-bytes`, 256 KiB).
        outbox_bytes_max: usize;
        /// The same, in events (`--queue-frames`, 256).
        outbox_frames_max: usize;
        /// Connections at once (`--max-connections`). `None`, the default, is as many as the process may have open files,
        /// less some. With epoll it is never more, with io_uring never more than that for each event loop. The command
        /// line raises that limit for its own process; a library leaves it alone.
        connections_max: impl Into<Option<usize>>;
        /// Channels of one stream (`--max-channels-per-stream`, 128).
        stream_channels_max: usize;
        /// Channels that have subscribers or retained events (`--max-channels`, 100 000).
        channels_max: usize;
        /// Idempotency keys that are remembered (`--idempotency-keys`, 1 000 000).
        idempotency_keys_max: usize;
        /// The largest request body, and the largest batch of an application, in bytes (`--max-body`, 1 MiB).
        body_bytes_max: usize;
        /// What bodies that have not come whole and answers that are not read may take together, in bytes
        /// (`--body-memory`, 64 MiB). No address takes more than an eighth of it.
        body_memory_bytes: usize;
        /// Time for the head of a request (`--head-timeout`, 10 s).
        head_timeout: Duration;
        /// Time that a body may take (`--body-timeout`, 30 s).
        body_timeout: Duration;
        /// Time that a connection without a stream is kept for its next request (`--idle-timeout`, 75 s).
        idle_timeout: Duration;
        /// Time for which the full socket of a stream may take not one byte (`--stall-timeout`, 2 min); `None` for any. A
        /// peer that is gone from the network is noticed by it too.
        stall_timeout: impl Into<Option<Duration>>;
        /// Time until a publish that is not accepted is given up, whoever publishes (`--publish-timeout`, 5 s).
        publish_timeout: Duration;
        /// Time that a drain may take, in which streams get to finish (`--drain`, 8 s).
        drain_timeout: Duration;
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
        if let Some(&address) = self.listen.iter().find(|address| !address.ip().to_canonical().is_loopback())
            && !self.is_insecure
        {
            return Err(ServeError::Exposed { address });
        }
        let any = self.hosts.any.then_some("*");
        let named = self.hosts.names.iter().map(String::as_str).find(|name| !is_loopback(name));
        if let Some(host) = any.or(named).filter(|_| !self.is_insecure) {
            return Err(ServeError::ExposedHost { host: host.to_owned() });
        }
        let least = Duration::from_millis(1);
        let durations = [
            ("keepalive_interval", self.keepalive_interval.unwrap_or(least)),
            ("retry_delay", self.retry_delay),
            ("stream_age_max", self.stream_age_max.unwrap_or(least)),
            ("history_age_max", self.history_age_max.unwrap_or(least)),
            ("head_timeout", self.head_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
            ("stall_timeout", self.stall_timeout.unwrap_or(least)),
            ("publish_timeout", self.publish_timeout),
        ];
        for (setting, duration) in durations {
            let is_within = (least..=DURATION_MAX).contains(&duration);
            require(is_within, setting, "must be from a millisecond to ten years")?;
        }
        for (setting, duration) in
            [("retry_jitter", self.retry_jitter), ("drain_timeout", self.drain_timeout)]
        {
            require(duration <= DURATION_MAX, setting, "must be at most ten years")?;
        }
        let counts = [
            ("history_events_max", self.history_events_max),
            ("outbox_frames_max", self.outbox_frames_max),
            ("connections_max", self.connections_max.unwrap_or(1)),
            ("stream_channels_max", self.stream_channels_max),
            ("channels_max", self.channels_max),
            ("idempotency_keys_max", self.idempotency_keys_max),
        ];
        for (setting, count) in counts {
            require((1..=COUNT_MAX).contains(&count), setting, "must be from 1 to 4294967295")?;
        }
        let shards = self.shards.unwrap_or(1);
        require((1..=SHARDS_MAX).contains(&shards), "shards", "must be from 1 to 64")?;
        let history = HISTORY_BYTES_LEAST..=BYTES_MAX;
        require(history.contains(&self.history_bytes_max), "history_bytes_max", "must be 1 MiB at least")?;
        let outbox = OUTBOX_BYTES_LEAST..=BYTES_MAX;
        require(outbox.contains(&self.outbox_bytes_max), "outbox_bytes_max", "must be 1 KiB at least")?;
        let body = 1..=self.history_bytes_max.min(BODY_BYTES_MAX);
        let rule = "must be from 1 to 256 MiB and history_bytes_max: an event that is taken must find a place in the history";
        require(body.contains(&self.body_bytes_max), "body_bytes_max", rule)?;
        let memory = BODY_MEMORY_LEAST..=BYTES_MAX;
        require(memory.contains(&self.body_memory_bytes), "body_memory_bytes", "must be 64 KiB at least")?;
        let rule = "must be at most channels_max: one stream cannot have more channels than there may be";
        require(self.stream_channels_max <= self.channels_max, "stream_channels_max", rule)
    }
}

fn require(holds: bool, setting: &'static str, rule: &'static str) -> Result<(), ServeError> {
    if holds { Ok(()) } else { Err(ServeError::Setting { setting, rule }) }
}

const _: () = assert!(SHARDS_MAX == 64, "the rule for shards says so");

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
