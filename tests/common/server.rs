//! A server process for one test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use procfs::ProcResult;
use procfs::process::Process;

use super::{Client, DriverKind, PATIENCE, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_downpour");

/// Bytes of a MiB.
pub(crate) const MIB: u64 = 1024 * 1024;

/// A running `downpour serve` on a free port of 127.0.0.1. Dropping this kills it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// The memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

/// `downpour serve` with these options and an empty environment.
pub(crate) fn serve_command(options: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve").args(options).env_clear();
    command
}

impl Server {
    /// Starts a server with this driver, and waits until it serves.
    pub(crate) fn start(io: DriverKind, options: &[&str]) -> Server {
        let mut command = serve_command(&["--listen", "127.0.0.1:0", "--io", io.word()]);
        command.args(options);
        Server::launch(command)
    }

    /// Starts a server that may have `descriptors_max` open files.
    pub(crate) fn start_with_descriptors(io: DriverKind, descriptors_max: u32, options: &[&str]) -> Server {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("ulimit -n {descriptors_max} && exec \"$0\" \"$@\"")).arg(BINARY);
        command.args(["serve", "--listen", "127.0.0.1:0", "--io", io.word()]).args(options).env_clear();
        Server::launch(command)
    }

    /// Runs `command`, a `serve`, and waits until it serves.
    pub(crate) fn launch(mut command: Command) -> Server {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, told) = mpsc::channel();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("listening on ") {
                    // Nobody receives this after the test has ended.
                    drop(tell.send(rest.split([' ', ',']).next().unwrap_or("").to_owned()));
                }
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        match told.recv_timeout(PATIENCE) {
            Ok(address) => Server { child, address: address.parse().unwrap(), log },
            Err(_) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the server does not serve: {}", log.lock().unwrap());
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends `TERM`, `INT` … to the server.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the server's end.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }

    /// Returns true if and only if the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// A metric without labels, as `/metrics` reports it now.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = Client::connect(self).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }

    /// The current memory (`proc_pid_smaps(5)`).
    pub(crate) fn memory(&self) -> Memory {
        let rollup = process(self.pid()).unwrap().smaps_rollup().unwrap().memory_map_rollup;
        let bytes = |name| rollup.iter().map(|map| map.extension.map[name]).sum();
        Memory { rss: bytes("Rss"), pss: bytes("Pss") }
    }

    /// The peak of resident memory, in bytes (`proc_pid_status(5)`).
    pub(crate) fn peak_rss(&self) -> u64 {
        process(self.pid()).unwrap().status().unwrap().vmhwm.unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("the server of the failed test wrote:\n{}", self.log());
        }
    }
}

/// The kernel's figures about a process (`proc(5)`).
pub(crate) fn process(pid: u32) -> ProcResult<Process> {
    Process::new(pid.try_into().unwrap())
}
