//! A server process on a CPU of its own, and its use of that CPU.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The CPUs of the two sides, if available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinning {
    server: usize,
}

impl Pinning {
    /// Puts this process, and its later threads, on the CPU `readers`, and prints so. Servers go on the
    /// CPU `server`. `None` if there are fewer than two CPUs, or no `taskset`.
    pub(crate) fn of(readers: usize, server: usize) -> Option<Pinning> {
        let own = std::process::id().to_string();
        let can = |arguments: &[&str]| {
            let mut taskset = Command::new("taskset");
            let status = taskset.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let is_pinned =
            can(&["-c", &server.to_string(), "true"]) && can(&["-cp", &readers.to_string(), &own]);
        is_pinned.then_some(Pinning { server })
    }
}

/// A running server. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a program that prints `listening on <address>` on standard error once it listens.
    pub(crate) fn start(pinning: Option<Pinning>, program: &Path, arguments: &[String]) -> Process {
        let mut command = match pinning {
            Some(Pinning { server }) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(server.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = String::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            said.push_str(&line);
            line.strip_prefix("listening on ")?.split([' ', ',']).next()?.parse().ok()
        });
        let Some(address) = address else {
            // It has ended, as its standard error has.
            drop(child.wait());
            panic!("{} does not serve: {said}", program.display());
        };
        // Its further output is not needed, but must be read so that it does not block.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Process { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all threads of the process so far (`/proc/PID/task/TID/schedstat`, in nanoseconds).
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).expect("the server runs");
        let nanoseconds = tasks.flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            first.expect("the kernel counts CPU time of threads (CONFIG_SCHED_INFO)")
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
