//! Servers: those on this machine, and a running one.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use downpour_load::kernel::{children, open_files_limit};
use downpour_load::process::{PATIENCE, Process, command};
use downpour_load::server::Server;
use tempfile::TempDir;

use crate::cell::Contender;

/// A server that can be started any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) contender: Contender,
    pub(crate) version: String,
    program: PathBuf,
}

/// A server that takes part and listens. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Started {
    server: Server,
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
    pub(crate) fn start(&self, cpu: usize) -> anyhow::Result<Started> {
        match self.contender {
            Contender::Epoll | Contender::Uring => {
                let io = self.contender.to_string();
                let mut command = command(Some(cpu), &self.program);
                command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--io", &io]);
                Ok(self.started(Server::start(&mut command)?, None))
            }
            Contender::BetterSse => {
                let mut command = command(Some(cpu), "node");
                Ok(self.started(Server::start(command.arg(&self.program))?, None))
            }
            Contender::Nchan => self.start_nginx(cpu),
        }
    }

    fn started(&self, server: Server, folder: Option<TempDir>) -> Started {
        Started { server, contender: self.contender, _folder: folder }
    }

    /// nginx takes no port 0, and does not report that it listens.
    fn start_nginx(&self, cpu: usize) -> anyhow::Result<Started> {
        let folder = TempDir::new()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, nginx_conf(address, folder.path(), open_files_limit()?))?;
        let log = folder.path().join("error.log");
        let mut command = command(Some(cpu), &self.program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).arg("-e").arg(&log);
        let mut process = Process::start(command.stderr(Stdio::null()))?;
        let deadline = Instant::now() + START_TIME;
        while TcpStream::connect(address).is_err() || process.workers.is_empty() {
            if process.child().try_wait()?.is_some() || Instant::now() >= deadline {
                bail!("nginx does not serve: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            process.workers = children(process.id());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self.started(Server { process, address }, Some(folder)))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.server.process.end(PATIENCE);
    }
}

impl Started {
    /// The options of `downpour bench` that name the server and its processes.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let address = self.server.address;
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
        for pid in [&[self.server.id()], &self.server.process.workers[..]].concat() {
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
    fn nginx_writes_only_into_its_folder() {
        let text = nginx_conf("127.0.0.1:9".parse().unwrap(), Path::new("/tmp/x"), 20000);
        let paths: Vec<_> =
            text.lines().filter(|line| line.contains("_path") || line.contains("pid ")).collect();
        assert_eq!(paths.len(), 6);
        assert!(paths.iter().all(|line| line.contains(" /tmp/x/")), "{text}");
        assert!(text.contains("listen 127.0.0.1:9 ") && text.contains("worker_processes 1;"), "{text}");
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
