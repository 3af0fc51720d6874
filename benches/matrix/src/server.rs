//! Servers: those on this machine, and a running one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::cell::Contender;
use crate::process::{Process, pinned};

/// A server that can be started any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) contender: Contender,
    pub(crate) version: String,
    program: PathBuf,
}

/// A server that listens on a loopback address. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    contender: Contender,
    /// The folder of nginx's configuration.
    _folder: Option<TempDir>,
}

impl Installed {
    /// Looks for the server's program; `downpour` is ours, `peers` the folder of the Node server.
    ///
    /// # Errors
    /// One sentence that names what is missing.
    pub(crate) fn find(contender: Contender, downpour: &Path, peers: &Path) -> anyhow::Result<Installed> {
        let (program, version) = match contender {
            Contender::Epoll | Contender::Uring => {
                let version = said_by(Command::new(downpour).arg("--version"))?;
                (downpour.to_owned(), version.trim_start_matches("downpour ").to_owned())
            }
            Contender::Nchan => {
                if !Path::new(NCHAN).exists() {
                    bail!("{NCHAN} is missing: the package libnginx-mod-nchan has it");
                }
                let version = said_by(Command::new("nginx").arg("-v"))?;
                let mut version = version.trim_start_matches("nginx version: ").to_owned();
                let mut query = Command::new("dpkg-query");
                // The version is unknown if the module was installed in another way.
                if let Ok(module) =
                    said_by(query.args(["-W", "-f", "nchan ${Version}", "libnginx-mod-nchan"]))
                {
                    version = format!("{version}, {module}");
                }
                ("nginx".into(), version)
            }
            Contender::BetterSse => {
                let package = peers.join("node_modules/better-sse/package.json");
                let text = fs::read_to_string(&package)
                    .with_context(|| format!("better-sse is not installed in {}", peers.display()))?;
                let package: serde_json::Value = serde_json::from_str(&text)?;
                let node = said_by(Command::new("node").arg("--version"))?;
                let version = package["version"].as_str().unwrap_or("?");
                (peers.join("server.js"), format!("{version} on Node {node}"))
            }
        };
        Ok(Installed { contender, version, program })
    }

    /// Starts the server on one CPU, and returns once it listens.
    ///
    /// # Errors
    /// Its output instead.
    pub(crate) fn start(&self, cpu: usize) -> anyhow::Result<Server> {
        match self.contender {
            Contender::Epoll | Contender::Uring => {
                let io = self.contender.to_string();
                let mut command = pinned(cpu, &self.program);
                command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--io", &io]);
                self.start_telling(command)
            }
            Contender::BetterSse => {
                let mut command = pinned(cpu, "node");
                command.arg(&self.program);
                self.start_telling(command)
            }
            Contender::Nchan => self.start_nginx(cpu),
        }
    }

    /// Starts a program that prints `listening on <address>` on standard error once it listens.
    fn start_telling(&self, mut command: Command) -> anyhow::Result<Server> {
        let mut process = Process::start(command.stderr(Stdio::piped()))?;
        let stderr = process.child().stderr.take().context("standard error is piped")?;
        let (sender, lines) = mpsc::channel();
        // It goes on without a receiver: the server must not block on its output.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + START_TIME;
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(address) = printed_address(&line) {
                return Ok(Server { process, address, contender: self.contender, _folder: None });
            }
            said.push(line);
        }
        bail!("{} does not serve: {}", self.contender, said.join(" "))
    }

    /// nginx takes no port 0, and does not report that it listens.
    fn start_nginx(&self, cpu: usize) -> anyhow::Result<Server> {
        let folder = TempDir::new()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, nginx_conf(address, folder.path(), open_files_limit()?))?;
        let log = folder.path().join("error.log");
        let mut command = pinned(cpu, &self.program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).arg("-e").arg(&log);
        let mut process = Process::start(command.stderr(Stdio::null()))?;
        let deadline = Instant::now() + START_TIME;
        while TcpStream::connect(address).is_err() || process.workers.is_empty() {
            if process.child().try_wait()?.is_some() || Instant::now() >= deadline {
                bail!("nginx does not serve: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            process.workers = children(process.pids()[0]);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Server { process, address, contender: self.contender, _folder: Some(folder) })
    }
}

impl Server {
    /// The options of `downpour bench` that name the server and its processes.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let address = self.address;
        let url = |path: &str| format!("http://{address}{path}");
        let mut arguments = match self.contender {
            Contender::Epoll | Contender::Uring => vec!["--url".to_owned(), url("")],
            Contender::Nchan => vec![
                "--subscribe-url".to_owned(),
                url("/sub?id={channel}"),
                "--publish-url".to_owned(),
                url("/pub?id={channel}"),
            ],
            Contender::BetterSse => vec![
                "--subscribe-url".to_owned(),
                url("/channels/{channel}"),
                "--publish-url".to_owned(),
                url("/channels/{channel}"),
            ],
        };
        for pid in self.process.pids() {
            arguments.extend(["--pid".to_owned(), pid.to_string()]);
        }
        arguments
    }
}

/// The first line that a program prints, on either of its outputs.
fn said_by(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{program} cannot be run"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned();
    if !output.status.success() {
        bail!("{program} failed: {said}");
    }
    Ok(said)
}

fn printed_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split([' ', ',']).next()?.parse().ok()
}

/// The children of a process with one thread.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn open_files_limit() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/limits")?;
    hard_open_files_limit(&text).context("/proc/self/limits does not say how many files may be open")
}

fn hard_open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// One worker. It keeps as many events of a channel as are ever in flight.
fn nginx_conf(address: SocketAddr, folder: &Path, open_files: u64) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|name| format!("  {name}_temp_path {folder}/{name};\n")).collect();
    format!(
        "load_module {NCHAN};
daemon off;
worker_processes 1;
worker_rlimit_nofile {open_files};
pid {folder}/nginx.pid;
events {{ worker_connections {open_files}; }}
http {{
  access_log off;
{temporary}  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 256m;
  server {{
    listen {address} backlog=4096;
    location = /sub {{ nchan_subscriber eventsource; nchan_channel_id $arg_id; }}
    location = /pub {{ nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 4096; }}
  }}
}}
"
    )
}

/// The path in Debian's package of the module.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

const START_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_on_open_files_is_found() {
        let limits = "Max processes   1   2   processes\nMax open files            1024                 20000                files     \n";
        assert_eq!(hard_open_files_limit(limits), Some(20000));
        assert!(open_files_limit().unwrap() > 0);
    }

    #[test]
    fn nginx_writes_only_into_its_folder() {
        let text = nginx_conf("127.0.0.1:9".parse().unwrap(), Path::new("/tmp/x"), 20000);
        let paths: Vec<_> =
            text.lines().filter(|line| line.contains("_path") || line.contains("pid ")).collect();
        assert_eq!(paths.len(), 6);
        assert!(paths.iter().all(|line| line.contains(" /tmp/x/")), "{text}");
        assert!(text.contains("listen 127.0.0.1:9 ") && text.contains("worker_processes 1;"), "{text}");
    }

    #[test]
    fn a_server_that_ends_before_it_listens_is_quoted() {
        let installed =
            Installed { contender: Contender::BetterSse, version: String::new(), program: "x".into() };
        let mut command = Command::new("sh");
        command.args(["-c", "echo nothing to >&2; echo listening on >&2; echo see here >&2"]);
        let error = installed.start_telling(command).unwrap_err().to_string();
        assert_eq!(error, "better-sse does not serve: nothing to listening on see here");
        let told = printed_address("listening on 127.0.0.1:8080 io=epoll shards=1");
        assert_eq!(told, Some(([127, 0, 0, 1], 8080).into()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let nowhere = Path::new("/nowhere");
        let missing = |contender| Installed::find(contender, nowhere, nowhere).unwrap_err().to_string();
        assert_eq!(missing(Contender::BetterSse), "better-sse is not installed in /nowhere");
        assert_eq!(missing(Contender::Epoll), "/nowhere cannot be run");
        let failed = said_by(Command::new("sh").args(["-c", "echo no; exit 1"])).unwrap_err().to_string();
        assert_eq!(failed, "sh failed: no");
    }
}
