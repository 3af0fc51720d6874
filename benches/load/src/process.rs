//! Processes that run on a CPU of their own, are waited for with a deadline, and are ended by their ids.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A program without standard input and output, on one CPU if one is given. Variables that are options
/// of `downpour` are removed.
pub fn command(cpu: Option<usize>, program: impl AsRef<OsStr>) -> Command {
    let mut command = match cpu {
        Some(cpu) => {
            let mut command = Command::new("taskset");
            command.arg("-c").arg(cpu.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    };
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("DOWNPOUR_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Returns true if and only if processes may run on this CPU, as `taskset` says.
///
/// # Errors
/// There is no `taskset`.
pub fn may_run_on(cpu: usize) -> io::Result<bool> {
    taskset(&["-c", &cpu.to_string(), "true"])
}

/// The CPU of servers, if they have one of their own.
#[derive(Clone, Copy, Debug)]
pub struct Pinning {
    pub(crate) server: usize,
}

impl Pinning {
    /// Puts this process, and its later threads, on the CPU `readers`. Servers go on the CPU `server`.
    /// Prints which CPUs these are. `None` if there are fewer than two CPUs, or no `taskset`.
    pub fn of(readers: usize, server: usize) -> Option<Pinning> {
        let own = std::process::id().to_string();
        let is_pinned = may_run_on(server).unwrap_or(false)
            && taskset(&["-cp", &readers.to_string(), &own]).unwrap_or(false);
        if is_pinned {
            println!("readers on CPU {readers}, servers on CPU {server}");
        } else {
            println!("without two CPUs and taskset: readers and servers are not kept apart");
        }
        is_pinned.then_some(Pinning { server })
    }
}

fn taskset(arguments: &[&str]) -> io::Result<bool> {
    let mut taskset = Command::new("taskset");
    let status = taskset.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.map(|status| status.success())
}

/// A child process. Dropping this kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Processes started by the child. The child ends them, unless it is killed.
    pub workers: Vec<u32>,
}

/// How a wait for a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It took too long and was ended.
    TimedOut,
    /// This program was asked to stop, and has ended the process.
    Stopped,
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        Ok(Process { child: command.spawn()?, workers: Vec::new() })
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The id of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits up to `timeout` for the end of the process.
    ///
    /// # Errors
    /// The kernel does not say how it is.
    pub fn wait(&mut self, timeout: Duration, is_stopped: &AtomicBool) -> io::Result<Waited> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Waited::Ended(status));
            }
            let is_asked_to_stop = is_stopped.load(Ordering::Relaxed);
            if is_asked_to_stop || Instant::now() >= deadline {
                self.end(PATIENCE);
                return Ok(if is_asked_to_stop { Waited::Stopped } else { Waited::TimedOut });
            }
            thread::sleep(LOOK);
        }
    }

    /// Asks the process to end, and kills it if it has not ended after `patience`. Its status, if it
    /// ended when asked.
    pub fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let ended = |child: &mut Child| child.try_wait().ok().flatten();
        if let Some(status) = ended(&mut self.child) {
            return Some(status);
        }
        signal(self.child.id(), Signal::TERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = ended(&mut self.child) {
                return Some(status);
            }
            thread::sleep(LOOK);
        }
        self.kill();
        None
    }

    fn kill(&mut self) {
        // Nobody but the child ends its workers, and nobody but this process reuses the child's id.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.workers.iter().for_each(|&worker| signal(worker, Signal::KILL));
        }
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile, as wanted.
        let _ = kill_process(pid, signal);
    }
}

/// How often processes are checked for their end. This program runs beside what is measured, and must
/// not disturb it.
const LOOK: Duration = Duration::from_millis(20);

/// How long a process may take to start, or to end when asked to.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(command(None, "sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_process_is_waited_for_until_it_ends_or_its_time_is_up_or_all_is_to_stop() {
        let stop = AtomicBool::new(false);
        let long = Duration::from_secs(60);
        let Waited::Ended(status) = shell("exit 3").wait(long, &stop).unwrap() else { panic!("it ends") };
        assert_eq!(status.code(), Some(3));
        assert_eq!(shell("exec sleep 60").wait(Duration::ZERO, &stop).unwrap(), Waited::TimedOut);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(shell("exec sleep 60").wait(long, &stop).unwrap(), Waited::Stopped);
    }

    #[test]
    fn a_process_that_does_not_end_when_asked_is_killed() {
        let mut process = shell("exec sleep 60");
        assert_eq!(process.end(Duration::ZERO), None);
        assert_eq!(process.end(Duration::ZERO).unwrap().code(), None, "a signal has ended it");
    }

    #[test]
    fn a_dropped_process_has_ended() {
        let process = shell("exec sleep 60");
        let folder = format!("/proc/{}", process.id());
        assert!(Path::new(&folder).exists());
        drop(process);
        assert!(!Path::new(&folder).exists());
    }
}
