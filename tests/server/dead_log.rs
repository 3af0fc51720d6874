//! A log without a reader: standard error is closed, full, or was never open. Lines of the log may be
//! lost, and nothing else. Also the second signal to the first process of a container.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::common::{Client, DriverKind, EventStream, for_each_driver, process, serve_command, wait_for};
use tempfile::TempDir;

for_each_driver!(
    a_server_serves_and_drains_whatever_its_standard_error_is,
    an_interrupt_that_ends_the_logs_reader_too_is_a_drain,
    what_is_said_of_a_slow_stream_ends_nothing,
    what_a_log_has_lost_is_counted_and_reported_when_it_can_be_written_again,
    a_second_signal_ends_at_once_beside_a_log_that_nobody_reads,
    as_the_first_process_a_second_signal_ends_it_with_its_number,
);

const BINARY: &str = env!("CARGO_BIN_EXE_downpour");

/// A server on a unix socket, as it may be unable to print its port. Dropping this kills it.
struct Server {
    child: Child,
    path: PathBuf,
    _directory: TempDir,
}

impl Server {
    /// Runs the command with the words of `serve` appended.
    fn start(io: DriverKind, mut command: Command, options: &[&str], stderr: Stdio) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        command.args(["serve", "--io", io.word(), "--shards", "2"]);
        command.args(["--listen", &format!("unix:{}", path.display())]).args(options).env_clear();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let server = Server { child, path, _directory: directory };
        wait_for("the server", || UnixStream::connect(&server.path).ok());
        server
    }

    fn connect(&self) -> Client {
        let stream = UnixStream::connect(&self.path).unwrap();
        Client::over(TcpStream::from(OwnedFd::from(stream))) // The client does not depend on TCP.
    }

    fn subscribe(&self) -> EventStream {
        let mut stream = EventStream::over(self.connect(), "GET /channels/a HTTP/1.1\r\nHost: a\r\n\r\n", "");
        stream.expect("connected");
        stream
    }

    /// An unfinished request: a drain waits for it.
    fn begin_publish(&self) -> Client {
        let mut client = self.connect();
        client.send(
            "POST /channels/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        );
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client
    }

    /// Lines that the log has lost, from the metrics.
    fn lost_lines(&self) -> u64 {
        let metrics = self.connect().ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("downpour_log_lines_dropped_total "));
        line.unwrap_or_else(|| panic!("no such metric in {metrics}")).parse().unwrap()
    }

    /// Makes the server log more than can wait to be written.
    fn fill_the_log(&self) {
        wait_for("a line that is lost", || {
            (0..100).for_each(|_| drop(UnixStream::connect(&self.path).unwrap()));
            (self.lost_lines() > 0).then_some(())
        });
    }

    fn wait_until_draining(&self) {
        wait_for("the drain", || {
            let answer = self.connect().ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
            (answer.status() == 503).then_some(())
        });
    }

    fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn signal(name: &str, pid: u32) {
    let kill = format!("kill -{name} {pid}");
    assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
}

fn plain() -> Command {
    Command::new(BINARY)
}

/// With standard error redirected by the shell.
fn redirected(redirection: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), BINARY]);
    command
}

/// A full standard error, and its reader.
fn full() -> (UnixStream, UnixStream) {
    let (reader, mut stderr) = UnixStream::pair().unwrap();
    stderr.set_nonblocking(true).unwrap();
    for bytes in [4096, 1] {
        while stderr.write(&b"x".repeat(bytes)).is_ok() {}
    }
    assert_eq!(stderr.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    (reader, stderr)
}

fn a_server_serves_and_drains_whatever_its_standard_error_is(io: DriverKind) {
    let (_reader, blocking) = full();
    blocking.set_nonblocking(false).unwrap();
    let (_other_reader, nonblocking) = full();
    for (what, command, stderr) in [
        ("closed", redirected("2>&-"), Stdio::null()),
        ("not for writing", redirected("2</dev/null"), Stdio::null()),
        ("a full disk", redirected("2>/dev/full"), Stdio::null()),
        ("a reader that is gone", plain(), UnixStream::pair().map(|(_, stderr)| stderr_of(stderr)).unwrap()),
        ("a reader that does not read", plain(), stderr_of(blocking)),
        ("the same, and it does not block", plain(), stderr_of(nonblocking)),
    ] {
        println!("standard error is {what}");
        let is_full = what.contains("not read") || what.contains("not block");
        let mut server = Server::start(io, command, &["--log-level", "trace"], stderr);
        let mut stream = server.subscribe();
        if is_full {
            server.fill_the_log();
        }
        server.connect().publish_text("a", "hello");
        assert_eq!(stream.message(), "hello");
        signal("TERM", server.child.id());
        stream.expect("shutdown");
        stream.expect_end();
        drop(stream);
        assert_eq!(server.wait_for_exit().code(), Some(0), "{what}");
    }
}

fn stderr_of(socket: UnixStream) -> Stdio {
    OwnedFd::from(socket).into()
}

/// As Ctrl-C to `downpour serve 2>&1 | tee log`.
fn an_interrupt_that_ends_the_logs_reader_too_is_a_drain(io: DriverKind) {
    for _ in 0..5 {
        let (reader, stderr) = UnixStream::pair().unwrap();
        let mut server = Server::start(io, plain(), &[], stderr_of(stderr));
        let mut stream = server.subscribe();
        drop(reader);
        signal("INT", server.child.id());
        stream.expect("shutdown");
        drop(stream);
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
}

fn what_is_said_of_a_slow_stream_ends_nothing(io: DriverKind) {
    let (reader, stderr) = UnixStream::pair().unwrap();
    let mut server = Server::start(io, plain(), &["--queue-bytes", "16KiB"], stderr_of(stderr));
    let mut slow = server.connect();
    slow.send("GET /channels/news HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.take_through(b"\n\n");
    let mut other = server.subscribe();
    // So far all lines could be written.
    let mut said = BufReader::new(reader).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("listening on ")));
    drop(said);
    let before = server.lost_lines();
    assert_eq!(before, 0);
    let mut publisher = server.connect();
    for _ in 0..200 {
        publisher.publish_text("news", &"x".repeat(8 * 1024));
    }
    wait_for("the line of the slow stream", || (server.lost_lines() > 0).then_some(()));
    publisher.publish_text("a", "still here");
    assert_eq!(other.message(), "still here");
    assert!(server.child.try_wait().unwrap().is_none());
    drop(slow);
    signal("TERM", server.child.id());
    other.expect("shutdown");
    drop((other, publisher));
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

fn what_a_log_has_lost_is_counted_and_reported_when_it_can_be_written_again(io: DriverKind) {
    let (reader, stderr) = full();
    stderr.set_nonblocking(false).unwrap();
    let mut server = Server::start(io, plain(), &["--log-level", "trace"], stderr_of(stderr));
    server.fill_the_log();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(first.contains(&format!("{} serves", io.word())), "{first}");
    assert!(lines.any(|line| line.starts_with("listening on unix:")), "in its place, as ever");
    let told = lines.find(|line| line.contains("lines were lost")).unwrap();
    let count: u64 = told.split("lines=").nth(1).unwrap().parse().unwrap();
    assert!((1..=server.lost_lines()).contains(&count), "{told}");
    signal("TERM", server.child.id());
    assert!(lines.any(|line| line.ends_with(" drained")), "the last line is written before the end");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

fn a_second_signal_ends_at_once_beside_a_log_that_nobody_reads(io: DriverKind) {
    let (_reader, stderr) = full();
    stderr.set_nonblocking(false).unwrap();
    let mut server = Server::start(io, plain(), &["--drain", "1h"], stderr_of(stderr));
    let _held = server.begin_publish();
    signal("TERM", server.child.id());
    server.wait_until_draining();
    signal("INT", server.child.id());
    assert_eq!(server.wait_for_exit().signal(), Some(2));
}

/// A command that runs its words as the first process of a namespace; `None` if this process may not
/// make one.
fn first_process() -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child=KILL", "--"]);
        command
    };
    let tried = unshare().arg("/bin/true").output().unwrap();
    if !tried.status.success() {
        let reason = String::from_utf8_lossy(&tried.stderr).into_owned();
        let is_strict = std::env::var_os("DOWNPOUR_TEST_STRICT").is_some_and(|strict| strict == "1");
        assert!(!is_strict, "{reason}");
        println!("skipped: this process may not make a namespace of processes: {reason}");
        return None;
    }
    let mut command = unshare();
    command.arg(BINARY);
    Some(command)
}

/// The process that `unshare` has started.
fn only_child(unshare: u32) -> u32 {
    let children = || process(unshare).unwrap().task_main_thread().unwrap().children().unwrap();
    wait_for("the first process", || children().first().copied())
}

fn as_the_first_process_a_second_signal_ends_it_with_its_number(io: DriverKind) {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let Some(command) = first_process() else { return };
        let mut server = Server::start(io, command, &["--drain", "1h"], Stdio::null());
        let pid = only_child(server.child.id());
        let _held = server.begin_publish();
        signal("TERM", pid);
        server.wait_until_draining();
        signal(name, pid);
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(code), "{status}");
    }
}

#[test]
fn as_the_first_process_a_signal_before_it_listens_ends_it_with_its_number() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // A server gives an address up after 2 s. If the signal came too late for that, another server is
    // tried.
    for _ in 0..5 {
        let Some(mut command) = first_process() else { return };
        command.args(["serve", "--listen", &address]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut unshare = command.spawn().unwrap();
        let pid = only_child(unshare.id());
        wait_for("the watch for signals", || (catches(pid, SIGTERM) != Some(false)).then_some(()));
        // It may have ended by now.
        drop(Command::new("/bin/sh").args(["-c", &format!("kill -TERM {pid}")]).output());
        let status = wait_for("the server's end", || unshare.try_wait().unwrap());
        match status.code() {
            Some(143) => return,
            code => assert_eq!(code, Some(1), "{status}"),
        }
    }
    panic!("no signal ended a server that waited for its address");
}

const SIGTERM: u32 = 15;

/// Returns whether a process has a handler for a signal (`proc_pid_status(5)`); `None` if it has ended.
fn catches(pid: u32, signal: u32) -> Option<bool> {
    let mask = process(pid).and_then(|process| process.status()).ok()?.sigcgt;
    Some(mask >> (signal - 1) & 1 == 1)
}

#[test]
fn an_error_is_reported_by_the_exit_code_where_nobody_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let taken = format!("unix:{}", path.display());
    let gone = || UnixStream::pair().unwrap().1;
    let (_reader, not_read) = full();
    not_read.set_nonblocking(false).unwrap();
    for (options, stderr, code) in [
        (["--keepalive", "soon"], gone(), 2),
        (["--listen", &taken], gone(), 1),
        (["--listen", &taken], not_read, 1),
    ] {
        let mut command = serve_command(&options);
        let status = command.stdout(Stdio::null()).stderr(stderr_of(stderr)).status().unwrap();
        assert_eq!(status.code(), Some(code), "{options:?}");
    }
}
