//! The server under load: one process on a free port of loopback, and the kernel's figures about it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running server. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the program, and returns once it listens.
    ///
    /// # Errors
    /// Its output instead.
    pub(crate) fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Server> {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DOWNPOUR_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("{} cannot be run", program.display()))?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let stderr = server.child.stderr.take().context("standard error is piped")?;
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
                server.address = address;
                return Ok(server);
            }
            said.push(line);
        }
        bail!("{} does not serve: {}", program.display(), said.join(" "))
    }

    /// Resident memory, open files, and CPU time so far.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let folder = format!("/proc/{}", self.child.id());
        let files = fs::read_dir(format!("{folder}/fd")).context("the server is gone")?.count();
        let tasks = fs::read_dir(format!("{folder}/task"))?.flatten();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        let cpu_time = Duration::from_nanos(nanoseconds.sum());
        let text = fs::read_to_string(format!("{folder}/smaps_rollup"))?;
        Ok(Usage { resident_bytes: resident_bytes(&text)?, files, cpu_time })
    }

    /// Drains the server.
    ///
    /// # Errors
    /// It does not end in time.
    pub(crate) fn drain(&mut self) -> anyhow::Result<ExitStatus> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the server has not ended {} s after SIGTERM", PATIENCE.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The resources of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) files: usize,
    pub(crate) cpu_time: Duration,
}

/// Counted page by page (`smaps_rollup`), not the kernel's running estimate.
fn resident_bytes(smaps_rollup: &str) -> anyhow::Result<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB"));
    let kib: u64 = line.context("the kernel counts resident memory")?.trim().parse()?;
    Ok(kib * 1024)
}

fn printed_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split([' ', ',']).next()?.parse().ok()
}

/// Longest time for a start and for an end.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> anyhow::Result<Server> {
        Server::start(Path::new("sh"), &["-c".to_owned(), script.to_owned()])
    }

    #[test]
    fn a_server_that_ends_before_it_listens_is_quoted() {
        let error = shell("echo nothing to >&2; echo see here >&2").unwrap_err().to_string();
        assert_eq!(error, "sh does not serve: nothing to see here");
    }

    #[test]
    fn what_it_uses_is_read_and_its_end_is_its_own_or_that_of_its_owner() {
        let told = "trap 'exit 3' TERM; echo listening on 127.0.0.1:9 io=epoll >&2;";
        let mut server = shell(&format!("{told} while :; do sleep 0.01; done")).unwrap();
        assert_eq!(server.address.port(), 9);
        let usage = server.usage().unwrap();
        assert!(usage.resident_bytes > 64 * 1024 && usage.files >= 3, "{usage:?}");
        assert_eq!(server.drain().unwrap().code(), Some(3));

        let server = shell(&format!("{told} exec sleep 60")).unwrap();
        let folder = format!("/proc/{}", server.child.id());
        assert!(Path::new(&folder).exists());
        drop(server);
        assert!(!Path::new(&folder).exists());
    }
}
