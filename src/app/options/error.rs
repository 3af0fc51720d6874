//! Why a configuration is refused.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::values::ListenAddress;

/// Why the options do not make a configuration. Always the operator's to mend, before anything listens; the process
/// ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A text that is not what the option takes.
    #[error("invalid value {value:?} for {place}: {problem}")]
    BadValue {
        /// The option, named as where it was given.
        place: String,
        /// The text that was given.
        value: String,
        /// What is allowed.
        problem: String,
    },
    /// An option that needs a value was given an empty list.
    #[error("{place} needs at least one value")]
    NoValue {
        /// The option, named as where it was given.
        place: String,
    },
    /// A key of the file that is no option.
    #[error("unknown key {key} in {}, line {line}{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key's line, counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A value in the file that is of another kind than the option's.
    #[error("{key} in {}, line {line} must be {expected}; found {found}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The key's line, counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// The kind that was found.
        found: &'static str,
        /// The kinds that are allowed.
        expected: &'static str,
    },
    /// The file could not be read.
    #[error("cannot read the configuration file {}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML", path.display())]
    FileNotToml {
        /// The file.
        path: PathBuf,
        /// The place and what was expected there.
        source: Box<toml::de::Error>,
    },
    /// A variable of ours that is not UTF-8.
    #[error("the environment variable {variable} is not valid UTF-8")]
    VariableNotText {
        /// The variable.
        variable: String,
    },
    /// An address that other machines can reach, without consent.
    #[error(
        "{place} {address} can be reached from other machines, and anybody who reaches it may publish; listen on \
         127.0.0.1 or [::1] instead, or add --insecure if everybody on that network may"
    )]
    Exposed {
        /// The option, named as where it was given.
        place: String,
        /// The address.
        address: SocketAddr,
    },
    /// A name by which others may reach the server, without consent.
    #[error(
        "{place} {host} is no loopback name, so others may reach the server by it, and publish; leave it out, or add \
         --insecure if everybody who reaches the server may"
    )]
    ExposedHost {
        /// The option, named as where it was given.
        place: String,
        /// The name, `*` for any.
        host: String,
    },
    /// The same address twice.
    #[error("{place} names {address} twice")]
    ListenTwice {
        /// The option, named as where it was given.
        place: String,
        /// The address.
        address: ListenAddress,
    },
    /// Two options that cannot both hold.
    #[error("{first} {first_value} and {second} {second_value} contradict each other: {rule}")]
    Contradiction {
        /// One option, named as where it was given.
        first: String,
        /// Its value.
        first_value: String,
        /// The other option, named as where it was given.
        second: String,
        /// Its value.
        second_value: String,
        /// What must hold between them.
        rule: &'static str,
    },
}
