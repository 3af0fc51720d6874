//! Processes that are pinned to a CPU, waited for with a deadline, and ended by their ids.

use std::env;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A program on one CPU. Variables that are options of `downpour` are removed.
pub(crate) fn pinned(cpu: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("DOWNPOUR_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A child process. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Processes started by the child. The child ends them, unless it is killed.
    pub(crate) workers: Vec<u32>,
}

/// How a wait for a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ended(ExitStatus),
    /// It took too long and was ended.
    TimedOut,
    /// This program was asked to stop, and has ended the process.
    Stopped,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Process> {
        Ok(Process { child: command.spawn()?, workers: Vec::new() })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The child and its workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        [&[self.child.id()], &self.workers[..]].concat()
    }

    /// Waits up to `timeout` for the end of the process.
    pub(crate) fn wait(&mut self, timeout: Duration, is_stopped: &Arc<AtomicBool>) -> io::Result<Waited> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Waited::Ended(status));
            }
            let is_asked_to_stop = is_stopped.load(Ordering::Relaxed);
            if is_asked_to_stop || Instant::now() >= deadline {
                self.end();
                return Ok(if is_asked_to_stop { Waited::Stopped } else { Waited::TimedOut });
            }
            thread::sleep(LOOK);
        }
    }

    /// Asks the process to end, and kills it if it does not.
    fn end(&mut self) {
        let has_ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)) | Err(_));
        if has_ended(&mut self.child) {
            return;
        }
        signal(self.child.id(), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while !has_ended(&mut self.child) {
            if Instant::now() >= deadline {
                self.workers.iter().for_each(|&worker| signal(worker, Signal::KILL));
                signal(self.child.id(), Signal::KILL);
                // No further handling is possible.
                drop(self.child.wait());
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
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

/// How long a process may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        Process::start(command.args(["-c", script]).stdin(Stdio::null())).unwrap()
    }

    #[test]
    fn a_process_is_waited_for_until_it_ends_or_its_time_is_up_or_all_is_to_stop() {
        let stop = Arc::new(AtomicBool::new(false));
        let long = Duration::from_secs(60);
        let Waited::Ended(status) = shell("exit 3").wait(long, &stop).unwrap() else { panic!("it ends") };
        assert_eq!(status.code(), Some(3));
        assert_eq!(shell("exec sleep 60").wait(Duration::ZERO, &stop).unwrap(), Waited::TimedOut);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(shell("exec sleep 60").wait(long, &stop).unwrap(), Waited::Stopped);
    }

    #[test]
    fn a_dropped_process_has_ended() {
        let process = shell("exec sleep 60");
        let folder = format!("/proc/{}", process.pids()[0]);
        assert!(std::path::Path::new(&folder).exists());
        drop(process);
        assert!(!std::path::Path::new(&folder).exists());
    }
}
