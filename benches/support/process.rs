//! A server process on a CPU of its own, and how much of that it uses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Which CPUs the two sides run on, where that can be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinning {
    server: usize,
}

impl Pinning {
    /// Puts this process, and later threads of it, on the CPU `readers`, and says so. Servers go on the CPU `server`.
    /// `None` where there are not two, or no `taskset`.
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

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a program that says `listening on <address>` on standard error once it does.
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
            // It has ended by itself, as its standard error has.
            drop(child.wait());
            panic!("{} does not serve: {said}", program.display());
        };
        // What else it says is of no interest, but it must not wait for somebody to read it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Process { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all threads of the process so far (`/proc/PID/task/TID/schedstat`, by the nanosecond).
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
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
