//! The configuration of a server, put together from the merged options. Responsible for what each text means, for
//! what must hold between options, and for what is allowed but probably not meant.

use std::net::SocketAddr;
use std::time::Duration;

use super::ConfigError;
use super::merge::Settings;
use super::table::{self, OptionSpec};
use super::values::{
    Bytes, ListenAddress, bytes_within, choice, count_or_auto, count_within, duration, duration_above_zero,
    duration_or_off, host_name, listen_address,
};
use crate::api;
use crate::app::logging::{LogFormat, LogLevel, LogOptions};
use crate::frame::notice::KeepaliveStyle;
use crate::hub::SHARDS_MAX;
use crate::server::{
    BODY_BYTES_MAX, BODY_MEMORY_LEAST, BYTES_MAX, COUNT_MAX, HISTORY_BYTES_LEAST, Io, OUTBOX_BYTES_LEAST,
};

/// All that `downpour serve` is told, checked. Names say the unit; `None` says that a feature is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Where to listen: at least one address or path, none twice (but for port 0, which takes any free one).
    pub listen: Vec<ListenAddress>,
    /// Names that clients reach the server by, besides loopback ones.
    pub hosts: Hosts,
    /// Whether addresses that other machines reach are allowed, and to publish and manage through a proxy; true if any of
    /// `listen` or `hosts` is not loopback.
    pub insecure: bool,
    /// Whether subscribers may name their user wherever they come from.
    pub trusts_user_parameter: bool,
    /// Event loops; `None` for one a processor.
    pub shards: Option<usize>,
    /// How bytes go in and out.
    pub io: Io,
    /// Each event loop stays on one processor.
    pub pin_shards: bool,
    /// Silence after which a stream is sent a ping.
    pub keepalive_interval: Option<Duration>,
    /// What such a ping is.
    pub keepalive_style: KeepaliveStyle,
    /// What clients are told to wait before they reconnect; at least 1 ms.
    pub retry_delay: Duration,
    /// The most that is added to `retry_delay` at random.
    pub retry_jitter: Duration,
    /// Age at which a stream is ended, 20 % more or less.
    pub stream_age_max: Option<Duration>,
    /// Most events retained for each channel; at least 1.
    pub history_events_max: usize,
    /// Most bytes retained for all channels together, counted as held; at least 1 MiB.
    pub history_bytes_max: usize,
    /// Age at which an event is given up.
    pub history_age_max: Option<Duration>,
    /// Most bytes queued for one stream.
    pub outbox_bytes_max: usize,
    /// Most frames queued for one stream.
    pub outbox_frames_max: usize,
    /// Most connections at once; `None` is as many as the limit on open files allows.
    pub connections_max: Option<usize>,
    /// Most channels of one stream; not above `channels_max`.
    pub stream_channels_max: usize,
    /// Most channels at once.
    pub channels_max: usize,
    /// Most idempotency keys remembered; at least 1.
    pub idempotency_keys_max: usize,
    /// Largest request body, and largest line of NDJSON; not above `history_bytes_max`.
    pub body_bytes_max: usize,
    /// Most bytes held of unfinished bodies and unread answers together; at least 64 KiB.
    pub body_memory_bytes: usize,
    /// Time for the head of a request.
    pub head_timeout: Duration,
    /// Longest pause within a request body.
    pub body_timeout: Duration,
    /// Time without a request until a connection is closed.
    pub idle_timeout: Duration,
    /// Time for which the full socket of a stream may take nothing; `None` for any.
    pub stall_timeout: Option<Duration>,
    /// Time until a publish is answered with 503.
    pub publish_timeout: Duration,
    /// Time that open streams get to finish once the server is told to end; may be zero.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: LogOptions,
}

/// The names that `--host` allows, besides those of loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Whether `*` was given.
    pub any: bool,
    /// Names and addresses in lower case, without port and brackets.
    pub names: Vec<String>,
}

impl ServeConfig {
    /// Puts the configuration together.
    pub(super) fn from_settings(settings: &Settings) -> Result<ServeConfig, ConfigError> {
        let hosts = settings.many(&table::HOST, host_name)?;
        let config = ServeConfig {
            listen: settings.many(&table::LISTEN, listen_address)?,
            hosts: Hosts {
                any: hosts.iter().any(|name| name == "*"),
                names: hosts.into_iter().filter(|name| name != "*").collect(),
            },
            insecure: settings.switch(&table::INSECURE)?,
            trusts_user_parameter: settings.switch(&table::TRUST_USER_PARAMETER)?,
            shards: settings.one(&table::SHARDS, count_or_auto(1..=SHARDS_MAX))?,
            io: settings.one(&table::IO, choice(&Io::WORDS))?,
            pin_shards: settings.switch(&table::PIN_SHARDS)?,
            keepalive_interval: settings.one(&table::KEEPALIVE, duration_or_off)?,
            keepalive_style: settings.one(&table::KEEPALIVE_STYLE, choice(&KeepaliveStyle::WORDS))?,
            retry_delay: settings.one(&table::RETRY, duration_above_zero)?,
            retry_jitter: settings.one(&table::RETRY_JITTER, duration)?,
            stream_age_max: settings.one(&table::MAX_STREAM_AGE, duration_or_off)?,
            history_events_max: settings.one(&table::HISTORY_EVENTS, count_within(1..=COUNT_MAX))?,
            history_bytes_max: settings
                .one(&table::HISTORY_BYTES, bytes_within(HISTORY_BYTES_LEAST..=BYTES_MAX))?,
            history_age_max: settings.one(&table::HISTORY_AGE, duration_or_off)?,
            outbox_bytes_max: settings
                .one(&table::QUEUE_BYTES, bytes_within(OUTBOX_BYTES_LEAST..=BYTES_MAX))?,
            outbox_frames_max: settings.one(&table::QUEUE_FRAMES, count_within(1..=COUNT_MAX))?,
            connections_max: settings.one(&table::MAX_CONNECTIONS, count_or_auto(1..=COUNT_MAX))?,
            stream_channels_max: settings
                .one(&table::MAX_CHANNELS_PER_STREAM, count_within(1..=COUNT_MAX))?,
            channels_max: settings.one(&table::MAX_CHANNELS, count_within(1..=COUNT_MAX))?,
            idempotency_keys_max: settings.one(&table::IDEMPOTENCY_KEYS, count_within(1..=COUNT_MAX))?,
            body_bytes_max: settings.one(&table::MAX_BODY, bytes_within(1..=BODY_BYTES_MAX))?,
            body_memory_bytes: settings
                .one(&table::BODY_MEMORY, bytes_within(BODY_MEMORY_LEAST..=BYTES_MAX))?,
            head_timeout: settings.one(&table::HEAD_TIMEOUT, duration_above_zero)?,
            body_timeout: settings.one(&table::BODY_TIMEOUT, duration_above_zero)?,
            idle_timeout: settings.one(&table::IDLE_TIMEOUT, duration_above_zero)?,
            stall_timeout: settings.one(&table::STALL_TIMEOUT, duration_or_off)?,
            publish_timeout: settings.one(&table::PUBLISH_TIMEOUT, duration_above_zero)?,
            drain_timeout: settings.one(&table::DRAIN, duration)?,
            log: LogOptions {
                level: settings.one(&table::LOG_LEVEL, choice(&LogLevel::WORDS))?,
                format: settings.one(&table::LOG_FORMAT, choice(&LogFormat::WORDS))?,
            },
        };
        config.check_listen(settings)?;
        config.check_hosts(settings)?;
        config.check_relations(settings)?;
        Ok(config)
    }

    fn check_listen(&self, settings: &Settings) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(settings.empty(&table::LISTEN));
        }
        for (index, address) in self.listen.iter().enumerate() {
            let place = || settings.place(&table::LISTEN);
            let is_any_port = matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
            if !is_any_port && self.listen[..index].contains(address) {
                return Err(ConfigError::ListenTwice { place: place(), address: address.clone() });
            }
            if !self.insecure
                && let ListenAddress::Tcp(address) = *address
                && !is_loopback(address)
            {
                return Err(ConfigError::Exposed { place: place(), address });
            }
        }
        Ok(())
    }

    fn check_hosts(&self, settings: &Settings) -> Result<(), ConfigError> {
        match self.exposed_host().filter(|_| !self.insecure) {
            None => Ok(()),
            Some(host) => {
                Err(ConfigError::ExposedHost { place: settings.place(&table::HOST), host: host.to_owned() })
            }
        }
    }

    /// A name of `hosts` that is not loopback's.
    fn exposed_host(&self) -> Option<&str> {
        let named = self.hosts.names.iter().map(String::as_str).find(|name| !api::is_loopback(name));
        self.hosts.any.then_some("*").or(named)
    }

    fn check_relations(&self, settings: &Settings) -> Result<(), ConfigError> {
        let contradiction = |first: &OptionSpec, second: &OptionSpec, rule| {
            let text = |spec| settings.setting(spec).values.join(", ");
            Err(ConfigError::Contradiction {
                first: settings.place(first),
                first_value: text(first),
                second: settings.place(second),
                second_value: text(second),
                rule,
            })
        };
        if self.body_bytes_max > self.history_bytes_max {
            return contradiction(
                &table::MAX_BODY,
                &table::HISTORY_BYTES,
                "an event that is taken must find a place in the history",
            );
        }
        if self.stream_channels_max > self.channels_max {
            return contradiction(
                &table::MAX_CHANNELS_PER_STREAM,
                &table::MAX_CHANNELS,
                "one stream cannot have more channels than there may be",
            );
        }
        Ok(())
    }

    /// What is allowed but probably not meant: a sentence each, which names the options.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let quarter = self.history_bytes_max / 4;
        if self.outbox_bytes_max > quarter {
            warnings.push(format!(
                "queue-bytes {} is more than a quarter of history-bytes {}: a few slow clients can hold more than \
                 the history does, and what they wait for may be given up before they read it",
                Bytes(self.outbox_bytes_max),
                Bytes(self.history_bytes_max)
            ));
        }
        if self.body_bytes_max > quarter {
            warnings.push(format!(
                "max-body {} is more than a quarter of history-bytes {}: a few large events push everything else \
                 out of the history",
                Bytes(self.body_bytes_max),
                Bytes(self.history_bytes_max)
            ));
        }
        if self.body_bytes_max > self.body_memory_bytes / 8 {
            warnings.push(format!(
                "max-body {} is more than an eighth of body-memory {}, which is all that one address may hold: larger \
                 bodies that do not come at once are answered 503",
                Bytes(self.body_bytes_max),
                Bytes(self.body_memory_bytes)
            ));
        }
        match self.keepalive_interval {
            None => warnings.push(
                "keepalive is off: proxies close streams that are silent (nginx after 60s), and lost clients are \
                 noticed late"
                    .to_owned(),
            ),
            Some(interval) if interval >= PROXY_READ_TIMEOUT => warnings.push(
                "keepalive is not below 60s: proxies may close silent streams before a ping comes (nginx waits 60s)"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        let is_exposed = |listen: &ListenAddress| match listen {
            ListenAddress::Tcp(address) => !is_loopback(*address),
            ListenAddress::Unix(_) => false,
        };
        if self.insecure && !self.listen.iter().any(is_exposed) && self.exposed_host().is_none() {
            warnings.push(
                "insecure is not needed for these addresses and hosts; it lets whoever reaches a proxy before this \
                 server publish"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Whether only this machine reaches the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The default of nginx' `proxy_read_timeout`, the shortest among the proxies in common use.
const PROXY_READ_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::merge::{Given, Layer, Origin};
    use super::*;

    fn settings(options: &[(&'static str, &str)]) -> Settings {
        let mut layer = Layer::new();
        for &(name, value) in options {
            let values = value.split(' ').map(str::to_owned).collect();
            layer.insert(name, Given { values, origin: Origin::CommandLine });
        }
        Settings::merge([layer])
    }

    fn config(options: &[(&'static str, &str)]) -> ServeConfig {
        ServeConfig::from_settings(&settings(options)).unwrap()
    }

    fn refusal(options: &[(&'static str, &str)]) -> String {
        ServeConfig::from_settings(&settings(options)).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let seconds = Duration::from_secs;
        let expected = ServeConfig {
            listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            hosts: Hosts::default(),
            insecure: false,
            trusts_user_parameter: false,
            shards: None,
            io: Io::Auto,
            pin_shards: false,
            keepalive_interval: Some(seconds(30)),
            keepalive_style: KeepaliveStyle::Event,
            retry_delay: seconds(3),
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
            head_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(75),
            stall_timeout: Some(seconds(120)),
            publish_timeout: seconds(5),
            drain_timeout: seconds(8),
            log: LogOptions { level: LogLevel::Info, format: LogFormat::Text },
        };
        assert_eq!(config(&[]), expected);
        assert_eq!(expected.warnings(), Vec::<String>::new());
    }

    #[test]
    fn an_address_that_others_reach_needs_insecure() {
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            assert!(refusal(&[("listen", address)]).contains("add --insecure"), "{address}");
            assert!(config(&[("listen", address), ("insecure", "true")]).insecure);
        }
        for address in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
            assert_eq!(config(&[("listen", address)]).listen.len(), 1, "{address}");
        }
    }

    #[test]
    fn a_name_that_is_not_loopbacks_needs_insecure() {
        for host in ["events.example.org", "*", "10.0.0.7", "localhost evil.localhost.example"] {
            let told = refusal(&[("host", host)]);
            assert!(told.starts_with("--host ") && told.contains("add --insecure"), "{told}");
            let config = config(&[("host", host), ("insecure", "true")]);
            assert!(config.insecure && config.warnings().is_empty(), "{host}");
        }
        for host in ["localhost", "app.localhost", "127.0.0.2", "::1"] {
            assert!(!config(&[("host", host)]).insecure, "{host}");
        }
        assert!(config(&[("trust-user-parameter", "true")]).trusts_user_parameter);
    }

    #[test]
    fn a_unix_socket_is_no_address_that_others_reach() {
        let config = config(&[("listen", "unix:/run/a.sock 127.0.0.1:80"), ("insecure", "true")]);
        assert_eq!(config.listen[0], ListenAddress::Unix("/run/a.sock".into()));
        assert!(config.warnings()[0].starts_with("insecure is not needed"));
    }

    #[test]
    fn the_same_address_twice_is_refused_unless_its_port_is_free_to_choose() {
        assert!(refusal(&[("listen", "127.0.0.1:80 127.0.0.1:80")]).contains("twice"));
        assert!(refusal(&[("listen", "unix:/a unix:/a")]).ends_with("names unix:/a twice"));
        assert_eq!(config(&[("listen", "127.0.0.1:0 127.0.0.1:0")]).listen.len(), 2);
    }

    #[test]
    fn contradictions_name_both_options_and_both_values() {
        let told = refusal(&[("max-body", "2MiB"), ("history-bytes", "1MiB")]);
        assert!(told.starts_with("--max-body 2MiB and --history-bytes 1MiB contradict each other"), "{told}");
        let told = refusal(&[("max-channels", "100")]);
        assert!(told.contains("--max-channels-per-stream 128 and --max-channels 100"), "{told}");
    }

    #[test]
    fn bounds_are_inclusive() {
        assert_eq!(config(&[("history-bytes", "1MiB")]).history_bytes_max, 1 << 20);
        assert!(refusal(&[("history-bytes", "1048575")]).contains("from 1MiB to"));
        assert!(refusal(&[("head-timeout", "0")]).contains("cannot be 0"));
        assert_eq!(config(&[("idempotency-keys", "1")]).idempotency_keys_max, 1);
        assert!(refusal(&[("idempotency-keys", "0")]).contains("from 1 to"));
        assert_eq!(config(&[("drain", "0")]).drain_timeout, Duration::ZERO);
        assert_eq!(config(&[("max-connections", "7")]).connections_max, Some(7));
        assert!(refusal(&[("log-level", "inf")]).contains("did you mean info?"));
        assert_eq!(config(&[("io", "uring")]).io, Io::Uring);
        assert!(refusal(&[("io", "io_uring")]).contains("it must be one of auto, epoll, uring"));
    }

    #[test]
    fn a_queue_above_a_quarter_of_the_history_is_a_warning() {
        let history = ("history-bytes", "4MiB");
        assert!(config(&[history, ("queue-bytes", "1MiB")]).warnings().is_empty());
        let warnings = config(&[history, ("queue-bytes", "1048577")]).warnings();
        assert!(
            warnings[0].starts_with("queue-bytes 1048577 bytes is more than a quarter of history-bytes 4MiB")
        );
        assert!(config(&[history, ("max-body", "2MiB")]).warnings()[0].starts_with("max-body"));
    }

    #[test]
    fn what_is_probably_not_meant_is_a_warning() {
        assert!(config(&[("keepalive", "0")]).warnings()[0].starts_with("keepalive is off"));
        assert!(config(&[("keepalive", "60s")]).warnings()[0].contains("not below 60s"));
        assert!(config(&[("insecure", "true")]).warnings()[0].starts_with("insecure is not needed"));
    }

    #[test]
    fn a_keepalive_is_an_event_or_a_comment() {
        let style = config(&[("keepalive-style", "comment")]).keepalive_style;
        assert_eq!(style, KeepaliveStyle::Comment);
        let told = refusal(&[("keepalive-style", "coment")]);
        assert!(told.ends_with("it must be one of event, comment; did you mean comment?"), "{told}");
    }

    #[test]
    fn a_star_among_the_hosts_allows_any() {
        let hosts = config(&[("host", "A.example *"), ("insecure", "true")]).hosts;
        assert_eq!(hosts, Hosts { any: true, names: vec!["a.example".to_owned()] });
    }
}
