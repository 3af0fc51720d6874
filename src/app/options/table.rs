//! The options of `downpour serve`: what each is called, what it does, and what it is when nobody says anything.
//!
//! A row is all that the command line, the environment and the file need to know of an option. It says how
//! a text fills the configuration. Rules between options are in `config`.

use super::ServeConfig;
use super::fill::{count, count_or_auto, host, listen, size, time, time_or_off};
use super::values::{Problem, choice, switch};
use crate::app::logging::{LogFormat, LogLevel};
use crate::frame::notice::KeepaliveStyle;
use crate::server::{Io, bounds};

/// One option, under the one name it has everywhere.
#[derive(Debug)]
pub(super) struct OptionSpec {
    /// As on the command line, without the dashes: lower case with hyphens.
    pub(super) name: &'static str,
    /// What stands for the value in the help.
    pub(super) placeholder: &'static str,
    /// How often it may be given.
    pub(super) arity: Arity,
    /// The texts that hold when nobody gives any; parsed like any other.
    pub(super) default: &'static [&'static str],
    /// The group under which the help lists it.
    pub(super) heading: &'static str,
    /// Fills the configuration with one text, or says what is wrong with the text. Called for each text.
    pub(super) fill: fn(&mut ServeConfig, &str) -> Result<(), Problem>,
    /// What it does and when to change it, in words for somebody who has never run this server.
    pub(super) help: &'static str,
}

/// How often an option may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    /// One value.
    One,
    /// Several: repeated on the command line, an array in the file, a comma list in the environment.
    Many,
    /// A switch: its presence on the command line says `true`.
    Switch,
}

impl OptionSpec {
    /// The option's key in the file.
    pub(super) fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The option's environment variable.
    pub(super) fn variable(&self) -> String {
        format!("{}{}", super::VARIABLE_PREFIX, self.key().to_uppercase())
    }
}

const LISTENING: &str = "Listening";
const STREAMS: &str = "Streams";
const HISTORY: &str = "History (what a client that was away gets when it comes back)";
const SLOW_CLIENTS: &str = "Slow clients";
const LIMITS: &str = "Limits";
const TIME_LIMITS: &str = "Time limits";
const RUNNING: &str = "Stopping and logging";

/// Fills one field with a text: `setting: parser` within the bounds of that setting of the builder,
/// `field = parser` without bounds.
macro_rules! set {
    ($setting:ident: $parser:expr) => {
        |config, text| {
            config.server.$setting = $parser(text, bounds::$setting)?;
            Ok(())
        }
    };
    ($($field:ident).+ = $parser:expr) => {
        |config, text| {
            config.$($field).+ = $parser(text)?;
            Ok(())
        }
    };
}

macro_rules! options {
    ($($ident:ident: $name:literal $placeholder:literal $arity:ident $default:expr, $heading:ident, $fill:expr, $help:literal;)+) => {
        $(pub(super) static $ident: OptionSpec = OptionSpec {
            name: $name,
            placeholder: $placeholder,
            arity: Arity::$arity,
            default: &$default,
            heading: $heading,
            fill: $fill,
            help: $help,
        };)+
        /// Every option, in the order of the help.
        pub(super) static ALL: &[&OptionSpec] = &[$(&$ident),+];
    };
}

options! {
    LISTEN: "listen" "ADDRESS:PORT|unix:PATH" Many ["127.0.0.1:8080"], LISTENING, listen,
        "Where to accept connections: an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080. May be given \
         several times. Port 0 takes any free port. An address that other machines can reach needs --insecure too. \
         unix:/run/downpour.sock is a socket in the file system: who may connect is decided by its file's permissions, \
         which are what the umask leaves.";
    HOST: "host" "NAME" Many [], LISTENING, host,
        "A name that clients reach this server by, such as events.example.org. May be given several times; * allows \
         any. Requests for other names are refused on a loopback address, so that no web page can talk to the server \
         through a visitor's browser (DNS rebinding). Loopback names and addresses are always allowed; any other name \
         needs --insecure too.";
    SHARDS: "shards" "N|auto" One ["auto"], LISTENING, set!(shards: count_or_auto),
        "How many event loops serve, each on a thread of its own. auto is one for each processor that the server may \
         run on.";
    IO: "io" "auto|epoll|uring" One ["auto"], LISTENING, set!(server.io = choice(&Io::WORDS)),
        "How bytes go in and out. With epoll each connection is an open file. With uring (Linux 6.1 or newer) none is, \
         and each event loop holds as many as the limit on open files says. auto is uring where --max-connections is \
         more than epoll can hold and the kernel offers all it needs; the log says which it is and why.";
    PIN_SHARDS: "pin-shards" "true|false" Switch ["false"], LISTENING, set!(server.pin_shards = switch),
        "Keep each event loop on one processor, in turn over those that the server may run on. For machines that do \
         little else; with other load beside it, the scheduler places the loops better.";
    INSECURE: "insecure" "true|false" Switch ["false"], LISTENING, set!(server.is_insecure = switch),
        "Listen on addresses that other machines can reach, and answer to other names than loopback ones, although \
         anybody there may then publish; and let requests that came through a proxy (by X-Forwarded-For, X-Real-IP, \
         Forwarded or Via) publish and manage. Only for networks you trust, or behind a proxy that checks who publishes.";
    TRUST_USER_PARAMETER: "trust-user-parameter" "true|false" Switch ["false"], LISTENING,
        set!(server.trusts_user_parameter = switch),
        "Let a subscriber name its user by the parameter userId also on addresses that other machines can reach, and \
         through a proxy. Only behind a proxy that checks the parameter or sets it itself.";

    KEEPALIVE: "keepalive" "DURATION" One ["30s"], STREAMS, set!(keepalive_interval: time_or_off),
        "Send a ping event on a stream that was silent for this long, so that proxies do not close it and lost \
         clients are noticed. Keep it below your proxy's read timeout (60s in nginx). 0 turns pings off.";
    KEEPALIVE_STYLE: "keepalive-style" "STYLE" One ["event"], STREAMS,
        set!(server.keepalive_style = choice(&KeepaliveStyle::WORDS)),
        "What is sent to a silent stream: event is an event of the type ping, which a client can listen for to notice \
         a dead connection; comment is a comment line, which no client hands over to the application.";
    RETRY: "retry" "DURATION" One ["3s"], STREAMS, set!(retry_delay: time),
        "How long clients are told to wait before they reconnect after a lost connection.";
    RETRY_JITTER: "retry-jitter" "DURATION" One ["0"], STREAMS, set!(retry_jitter: time),
        "Add up to this much, at random for each client, to --retry, so that not all clients come back in the same \
         moment. 0 adds nothing.";
    MAX_STREAM_AGE: "max-stream-age" "DURATION" One ["0"], STREAMS, set!(stream_age_max: time_or_off),
        "End streams that are this old (20 % more or less, at random); the client reconnects and misses nothing. \
         Useful behind load balancers that should spread clients anew. 0 lets streams live for ever.";

    HISTORY_EVENTS: "history-events" "N" One ["10000"], HISTORY, set!(history_events_max: count),
        "How many of its newest events each channel keeps. A client that reconnects gets what it missed, as long as \
         it is still kept.";
    HISTORY_BYTES: "history-bytes" "SIZE" One ["256MiB"], HISTORY, set!(history_bytes_max: size),
        "How much memory the history of all channels together may take; beyond it the oldest events are given up. \
         At least 1MiB.";
    HISTORY_AGE: "history-age" "DURATION" One ["0"], HISTORY, set!(history_age_max: time_or_off),
        "Give up events that are older than this. 0 keeps them for as long as the other two limits allow.";

    QUEUE_BYTES: "queue-bytes" "SIZE" One ["256KiB"], SLOW_CLIENTS, set!(outbox_bytes_max: size),
        "How much may wait in memory for one client that reads slower than events come. Beyond it the client reads \
         on from the history as it can, in order, and loses nothing that is still kept there. Others never wait for it.";
    QUEUE_FRAMES: "queue-frames" "N" One ["256"], SLOW_CLIENTS, set!(outbox_frames_max: count),
        "The same limit as a number of events.";

    MAX_CONNECTIONS: "max-connections" "N|auto" One ["auto"], LIMITS, set!(connections_max: count_or_auto),
        "How many connections are held at once; clients beyond it are told to come back later. auto is as many as \
         the limit on open files allows (see `ulimit -n`); more need --io uring and as many --shards.";
    MAX_CHANNELS_PER_STREAM: "max-channels-per-stream" "N" One ["128"], LIMITS,
        set!(stream_channels_max: count),
        "How many channels one stream may subscribe to.";
    MAX_CHANNELS: "max-channels" "N" One ["100000"], LIMITS, set!(channels_max: count),
        "How many channels may exist at once. A channel exists while it has subscribers or kept events.";
    IDEMPOTENCY_KEYS: "idempotency-keys" "N" One ["1000000"], LIMITS, set!(idempotency_keys_max: count),
        "How many idempotency keys are remembered, each for five minutes, so that a publish which is retried under the \
         same key is published once. Beyond it the oldest are given up first. Each takes about 140 bytes while it is \
         remembered.";
    MAX_BODY: "max-body" "SIZE" One ["1MiB"], LIMITS, set!(body_bytes_max: size),
        "The largest request body, and with it the largest event. Larger ones are answered with 413. A stream of \
         NDJSON may be of any length; each of its lines has this limit.";

    BODY_MEMORY: "body-memory" "SIZE" One ["64MiB"], LIMITS, set!(body_memory_bytes: size),
        "How much memory the request bodies that have not come whole and the answers that are not read may take together. \
         Beyond it requests are answered with 503. No address takes more than an eighth of it. At least 64KiB.";

    HEAD_TIMEOUT: "head-timeout" "DURATION" One ["10s"], TIME_LIMITS, set!(head_timeout: time),
        "How long a client may take to send the head of a request.";
    BODY_TIMEOUT: "body-timeout" "DURATION" One ["30s"], TIME_LIMITS, set!(body_timeout: time),
        "How long a client may take to send a request body. A body of NDJSON may take any time, but not pause this \
         long.";
    IDLE_TIMEOUT: "idle-timeout" "DURATION" One ["75s"], TIME_LIMITS, set!(idle_timeout: time),
        "How long a connection without a stream is kept open for the next request.";
    STALL_TIMEOUT: "stall-timeout" "DURATION" One ["2m"], TIME_LIMITS, set!(stall_timeout: time_or_off),
        "How long the full socket of a stream may take not one byte before it is closed; 0 is off. A client that is \
         gone from the network is noticed within twice that.";
    PUBLISH_TIMEOUT: "publish-timeout" "DURATION" One ["5s"], TIME_LIMITS, set!(publish_timeout: time),
        "How long a publisher waits until its event is accepted; then it is answered with 503.";

    DRAIN: "drain" "DURATION" One ["8s"], RUNNING, set!(drain_timeout: time),
        "On SIGTERM or Ctrl-C: how long open streams get to finish, all told. A second signal ends the server at once.";
    LOG_LEVEL: "log-level" "LEVEL" One ["info"], RUNNING, set!(log.level = choice(&LogLevel::WORDS)),
        "How much is logged to standard error: off, error, warn, info, debug or trace.";
    LOG_FORMAT: "log-format" "FORMAT" One ["text"], RUNNING, set!(log.format = choice(&LogFormat::WORDS)),
        "How log lines look: text for people, json for machines.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_spelled_alike_everywhere() {
        let mut names: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(MAX_CHANNELS_PER_STREAM.key(), "max_channels_per_stream");
        assert_eq!(MAX_CHANNELS_PER_STREAM.variable(), "DOWNPOUR_MAX_CHANNELS_PER_STREAM");
    }

    #[test]
    fn every_help_is_a_sentence() {
        for spec in ALL {
            assert!(spec.help.ends_with('.') && !spec.help.contains("  "), "{}: {}", spec.name, spec.help);
        }
    }

    #[test]
    fn the_manual_names_every_option() {
        let manual = include_str!("../../../docs/operations.md");
        for spec in ALL {
            let name = format!("| `--{}", spec.name);
            let mut rows = manual.split(&name).skip(1);
            assert!(rows.any(|row| row.starts_with([' ', '`'])), "{}", spec.name);
        }
    }

    /// Every option takes one of these texts, and it is not the option's default.
    const OTHERS: [&str; 9] = ["7s", "7", "7MiB", "true", "127.0.0.1:7", "epoll", "comment", "debug", "json"];

    #[test]
    fn every_option_fills_something_of_its_own() {
        let filled = |spec: &OptionSpec| {
            let config = OTHERS.iter().find_map(|text| {
                let mut config = ServeConfig::default();
                (spec.fill)(&mut config, text).ok().map(|()| config)
            });
            let config = config.unwrap_or_else(|| panic!("{} takes none of these texts", spec.name));
            assert_ne!(config, ServeConfig::default(), "{}", spec.name);
            config
        };
        let configs: Vec<ServeConfig> = ALL.iter().map(|spec| filled(spec)).collect();
        for (spec, config) in ALL.iter().zip(&configs) {
            let same = configs.iter().filter(|other| *other == config).count();
            assert_eq!(same, 1, "{} fills what another option fills", spec.name);
        }
    }
}
