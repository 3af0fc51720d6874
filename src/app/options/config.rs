//! The configuration of a server, put together from the merged options. Responsible for what must hold between
//! options, and for what is allowed but probably not meant.

use std::time::Duration;

use super::ConfigError;
use super::merge::Settings;
use super::table::{self, ALL, OptionSpec};
use super::values::{Bytes, ListenAddress};
use crate::app::logging::LogOptions;
use crate::server::ServerBuilder;

/// All that `downpour serve` is told, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeConfig {
    /// The server. It has at least one address or path to listen on, and none twice, except port 0, which
    /// is any free port.
    pub server: ServerBuilder,
    /// What is logged, and how.
    pub log: LogOptions,
}

impl ServeConfig {
    /// Puts the configuration together.
    pub(super) fn from_settings(settings: &Settings) -> Result<ServeConfig, ConfigError> {
        let mut config = ServeConfig::default();
        for spec in ALL {
            settings.fill(spec, &mut config)?;
        }
        config.check_listen(settings)?;
        config.check_hosts(settings)?;
        config.check_relations(settings)?;
        Ok(config)
    }

    fn check_listen(&self, settings: &Settings) -> Result<(), ConfigError> {
        let place = || settings.place(&table::LISTEN);
        let addresses = self.server.listen.iter().filter(|address| address.port() != 0);
        let paths = self.server.listen_unix.iter().cloned().map(ListenAddress::Unix);
        let listen: Vec<_> = addresses.copied().map(ListenAddress::Tcp).chain(paths).collect();
        if let Some((_, address)) = listen.iter().enumerate().find(|(at, one)| listen[..*at].contains(one)) {
            return Err(ConfigError::ListenTwice { place: place(), address: address.clone() });
        }
        match self.server.exposed_address().filter(|_| !self.server.is_insecure) {
            None => Ok(()),
            Some(address) => Err(ConfigError::Exposed { place: place(), address }),
        }
    }

    fn check_hosts(&self, settings: &Settings) -> Result<(), ConfigError> {
        match self.server.exposed_host().filter(|_| !self.server.is_insecure) {
            None => Ok(()),
            Some(host) => {
                Err(ConfigError::ExposedHost { place: settings.place(&table::HOST), host: host.to_owned() })
            }
        }
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
        if self.server.body_bytes_max > self.server.history_bytes_max {
            return contradiction(
                &table::MAX_BODY,
                &table::HISTORY_BYTES,
                "an event that is taken must find a place in the history",
            );
        }
        if self.server.stream_channels_max > self.server.channels_max {
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
        let server = &self.server;
        let mut warnings = Vec::new();
        let quarter = server.history_bytes_max / 4;
        if server.outbox_bytes_max > quarter {
            warnings.push(format!(
                "queue-bytes {} is more than a quarter of history-bytes {}: a few slow clients can hold more than \
                 the history does, and what they wait for may be given up before they read it",
                Bytes(server.outbox_bytes_max),
                Bytes(server.history_bytes_max)
            ));
        }
        if server.body_bytes_max > quarter {
            warnings.push(format!(
                "max-body {} is more than a quarter of history-bytes {}: a few large events push everything else \
                 out of the history",
                Bytes(server.body_bytes_max),
                Bytes(server.history_bytes_max)
            ));
        }
        if server.body_bytes_max > server.body_memory_bytes / 8 {
            warnings.push(format!(
                "max-body {} is more than an eighth of body-memory {}, which is all that one address may hold: larger \
                 bodies that do not come at once are answered 503",
                Bytes(server.body_bytes_max),
                Bytes(server.body_memory_bytes)
            ));
        }
        match server.keepalive_interval {
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
        if server.is_insecure && server.exposed_address().is_none() && server.exposed_host().is_none() {
            warnings.push(
                "insecure is not needed for these addresses and hosts; it lets whoever reaches a proxy before this \
                 server publish"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The default of nginx' `proxy_read_timeout`, the shortest among the proxies in common use.
const PROXY_READ_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::merge::{Given, Layer, Origin};
    use super::*;
    use crate::api::Hosts;
    use crate::app::logging::{LogFormat, LogLevel};
    use crate::frame::notice::KeepaliveStyle;
    use crate::server::{Io, Server};

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
        let server = Server::builder()
            .listen(([127, 0, 0, 1], 8080))
            .shards(None)
            .io(Io::Auto)
            .pin_shards(false)
            .keepalive_interval(seconds(30))
            .keepalive_style(KeepaliveStyle::Event)
            .retry_delay(seconds(3))
            .retry_jitter(Duration::ZERO)
            .stream_age_max(None)
            .history_events_max(10_000)
            .history_bytes_max(256 << 20)
            .history_age_max(None)
            .outbox_bytes_max(256 << 10)
            .outbox_frames_max(256)
            .connections_max(None)
            .stream_channels_max(128)
            .channels_max(100_000)
            .idempotency_keys_max(1_000_000)
            .body_bytes_max(1 << 20)
            .body_memory_bytes(64 << 20)
            .head_timeout(seconds(10))
            .body_timeout(seconds(30))
            .idle_timeout(seconds(75))
            .stall_timeout(seconds(120))
            .publish_timeout(seconds(5))
            .drain_timeout(seconds(8));
        assert!(!server.is_insecure && !server.trusts_user_parameter && server.hosts == Hosts::default());
        let log = LogOptions { level: LogLevel::Info, format: LogFormat::Text };
        let expected = ServeConfig { server, log };
        assert_eq!(config(&[]), expected);
        assert_eq!(expected.warnings(), Vec::<String>::new());
    }

    #[test]
    fn an_address_that_others_reach_needs_insecure() {
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            assert!(refusal(&[("listen", address)]).contains("add --insecure"), "{address}");
            assert!(config(&[("listen", address), ("insecure", "true")]).server.is_insecure);
        }
        for address in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
            assert_eq!(config(&[("listen", address)]).server.listen.len(), 1, "{address}");
        }
    }

    #[test]
    fn a_name_that_is_not_loopbacks_needs_insecure() {
        for host in ["events.example.org", "*", "10.0.0.7", "localhost evil.localhost.example"] {
            let told = refusal(&[("host", host)]);
            assert!(told.starts_with("--host ") && told.contains("add --insecure"), "{told}");
            let config = config(&[("host", host), ("insecure", "true")]);
            assert!(config.server.is_insecure && config.warnings().is_empty(), "{host}");
        }
        for host in ["localhost", "app.localhost", "127.0.0.2", "::1"] {
            assert!(!config(&[("host", host)]).server.is_insecure, "{host}");
        }
        assert!(config(&[("trust-user-parameter", "true")]).server.trusts_user_parameter);
    }

    #[test]
    fn a_unix_socket_is_no_address_that_others_reach() {
        let config = config(&[("listen", "unix:/run/a.sock 127.0.0.1:80"), ("insecure", "true")]);
        assert_eq!(config.server.listen_unix, [Path::new("/run/a.sock")]);
        assert!(config.warnings()[0].starts_with("insecure is not needed"));
    }

    #[test]
    fn the_same_address_twice_is_refused_unless_its_port_is_free_to_choose() {
        assert!(refusal(&[("listen", "127.0.0.1:80 127.0.0.1:80")]).contains("twice"));
        assert!(refusal(&[("listen", "unix:/a unix:/a")]).ends_with("names unix:/a twice"));
        assert_eq!(config(&[("listen", "127.0.0.1:0 127.0.0.1:0")]).server.listen.len(), 2);
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
        assert_eq!(config(&[("history-bytes", "1MiB")]).server.history_bytes_max, 1 << 20);
        assert!(refusal(&[("history-bytes", "1048575")]).contains("from 1MiB to"));
        assert!(refusal(&[("head-timeout", "0")]).contains("cannot be 0"));
        assert_eq!(config(&[("idempotency-keys", "1")]).server.idempotency_keys_max, 1);
        assert!(refusal(&[("idempotency-keys", "0")]).contains("from 1 to"));
        assert_eq!(config(&[("drain", "0")]).server.drain_timeout, Duration::ZERO);
        assert_eq!(config(&[("max-connections", "7")]).server.connections_max, Some(7));
        assert!(refusal(&[("log-level", "inf")]).contains("did you mean info?"));
        assert_eq!(config(&[("io", "uring")]).server.io, Io::Uring);
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
        let style = config(&[("keepalive-style", "comment")]).server.keepalive_style;
        assert_eq!(style, KeepaliveStyle::Comment);
        let told = refusal(&[("keepalive-style", "coment")]);
        assert!(told.ends_with("it must be one of event, comment; did you mean comment?"), "{told}");
    }

    #[test]
    fn a_star_among_the_hosts_allows_any() {
        let hosts = config(&[("host", "A.example *"), ("insecure", "true")]).server.hosts;
        assert_eq!(hosts, Hosts { any: true, names: vec!["a.example".to_owned()] });
    }
}
