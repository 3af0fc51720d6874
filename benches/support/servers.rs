//! Starts the servers that are measured: this one, and those that it is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Pinning, Process};

pub(crate) const DOWNPOUR: &str = env!("CARGO_BIN_EXE_downpour");

/// How servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) pinning: Option<Pinning>,
    peers: PathBuf,
}

impl Servers {
    /// Builds the peers with the server's profile, beside it.
    pub(crate) fn build(pinning: Option<Pinning>) -> Servers {
        let target =
            Path::new(DOWNPOUR).ancestors().nth(2).expect("binaries stand in a folder of the target's");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--package", "downpour-peers", "--target-dir"]).arg(target);
        let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the peers cannot be built");
        Servers { pinning, peers: target.join("release/downpour-peers") }
    }

    /// A peer of this kind.
    pub(crate) fn peer(&self, kind: &str, arguments: &[String]) -> Process {
        let arguments: Vec<String> = [kind.to_owned()].into_iter().chain(arguments.iter().cloned()).collect();
        Process::start(self.pinning, &self.peers, &arguments)
    }

    /// `downpour serve` with this driver and `shards` shards, for `streams` streams and a few more.
    pub(crate) fn own(&self, io: &str, shards: usize, streams: usize) -> Process {
        let (shards, connections) = (shards.to_string(), (streams + 64).to_string());
        let options = ["serve", "--listen", "127.0.0.1:0", "--keepalive", "0", "--io", io];
        let options = options.into_iter().chain(["--shards", &shards, "--max-connections", &connections]);
        Process::start(self.pinning, Path::new(DOWNPOUR), &options.map(String::from).collect::<Vec<_>>())
    }
}

/// A positive number from the environment.
pub(crate) fn number(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return default };
    match text.parse() {
        Ok(number) if number > 0 => number,
        _ => panic!("{name} is {text:?}: a number from 1 on was expected"),
    }
}
