//! A running server on a loopback address, and the kernel's figures about it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::kernel;
use crate::process::{PATIENCE, Process};

/// A server that listens. Dropping this kills it.
#[derive(Debug)]
pub struct Server {
    /// The process that listens.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a program that prints `listening on <address>` on standard error once it listens.
    ///
    /// # Errors
    /// Its output instead.
    pub fn start(command: &mut Command) -> anyhow::Result<Server> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let line = words.join(" ");
        let mut process = Process::start(command.stderr(Stdio::piped()))
            .with_context(|| format!("{line} cannot be run"))?;
        let stderr = process.child().stderr.take().context("standard error is piped")?;
        let (sender, lines) = mpsc::channel();
        // It reads on without a receiver: the server must not block on its output.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(address) = printed_address(&line) {
                return Ok(Server { process, address });
            }
            said.push(line);
        }
        bail!("{line} does not serve: {}", said.join(" "))
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// CPU time of all threads of the process so far.
    ///
    /// # Panics
    /// The process has ended.
    pub fn cpu_time(&self) -> Duration {
        kernel::cpu_time(self.id()).expect("the server runs")
    }

    /// Resident memory of the process, in bytes, page by page.
    ///
    /// # Panics
    /// The process has ended.
    pub fn resident_bytes(&self) -> u64 {
        kernel::resident_bytes(self.id()).expect("the server runs")
    }
}

fn printed_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split([' ', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command;

    fn shell(script: &str) -> anyhow::Result<Server> {
        Server::start(command(None, "sh").args(["-c", script]))
    }

    #[test]
    fn a_server_that_ends_before_it_listens_is_quoted() {
        let script = "echo nothing to >&2; echo listening on >&2; echo see here >&2";
        let error = shell(script).unwrap_err().to_string();
        assert_eq!(error, format!("sh -c {script} does not serve: nothing to listening on see here"));
        let error = Server::start(&mut command(None, "/nowhere")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere cannot be run");
    }

    #[test]
    fn what_it_uses_is_read_and_it_ends_as_it_is_asked_to() {
        let said = "trap 'exit 3' TERM; echo listening on 127.0.0.1:9 io=epoll >&2;";
        let mut server = shell(&format!("{said} while :; do sleep 0.01; done")).unwrap();
        assert_eq!(server.address.port(), 9);
        assert!(server.resident_bytes() > 64 * 1024 && kernel::open_files(server.id()).unwrap() >= 3);
        assert!(kernel::peak_resident_bytes(server.id()).unwrap() > 64 * 1024);
        assert!(server.cpu_time() > Duration::ZERO);
        assert_eq!(server.process.end(PATIENCE).unwrap().code(), Some(3));
        assert!(kernel::cpu_time(server.id()).is_err());
    }
}
