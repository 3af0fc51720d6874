//! Starts the servers that are measured: this one, and those that it is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Pinning, command};
use crate::server::Server;

/// How servers are started.
#[derive(Clone, Debug)]
pub struct Servers {
    pinning: Option<Pinning>,
    downpour: PathBuf,
    peers: PathBuf,
}

impl Servers {
    /// `downpour` is this server's program. Builds the peers with its profile, beside it.
    ///
    /// # Panics
    /// The peers cannot be built.
    pub fn build(downpour: &Path, pinning: Option<Pinning>) -> Servers {
        let target = downpour.ancestors().nth(2).expect("binaries are in a folder of the target folder");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--package", "downpour-peers", "--target-dir"]).arg(target);
        let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the peers cannot be built");
        Servers { pinning, downpour: downpour.to_owned(), peers: target.join("release/downpour-peers") }
    }

    /// A peer of this kind.
    pub fn peer(&self, kind: &str, arguments: &[String]) -> Server {
        let arguments: Vec<String> = [kind.to_owned()].into_iter().chain(arguments.iter().cloned()).collect();
        self.start(&self.peers, &arguments)
    }

    /// `downpour serve` with this driver and `shards` shards, for `streams` streams and a few more.
    pub fn own(&self, io: &str, shards: usize, streams: usize) -> Server {
        let (shards, connections) = (shards.to_string(), (streams + 64).to_string());
        let options = ["serve", "--listen", "127.0.0.1:0", "--keepalive", "0", "--io", io];
        let options = options.into_iter().chain(["--shards", &shards, "--max-connections", &connections]);
        self.start(&self.downpour, &options.map(String::from).collect::<Vec<_>>())
    }

    fn start(&self, program: &Path, arguments: &[String]) -> Server {
        let cpu = self.pinning.map(|pinning| pinning.server);
        Server::start(command(cpu, program).args(arguments)).unwrap_or_else(|error| panic!("{error:#}"))
    }
}
