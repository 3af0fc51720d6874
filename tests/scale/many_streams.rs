//! More streams in one process than it may have open files, through io_uring.
//!
//! The clients are other processes, each within its own limit: this test program, which holds streams if
//! a variable is set.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::common::{Client, DriverKind, EventStream, Server, process, wait_for};
use downpour::driver::descriptors::raise_open_files_limit;

/// The open files of the server.
const OPEN_FILES: u32 = 20_000;

const STREAMS: usize = 32_000;

const HOLDERS: usize = 2;

/// Most bytes of process memory for one stream: 256, and a share of the memory that becomes resident
/// with the first streams.
const STREAM_BYTES_MAX: f64 = 280.0;

/// Streams of one client address, well below its number of ports.
const STREAMS_PER_ADDRESS: usize = 8_000;

/// The variable that makes a process of this test hold streams: the server's address, and the process's
/// number.
const HOLDER: &str = "DOWNPOUR_TEST_HOLDER";

/// A process that holds streams. Dropping this kills it.
struct Holder {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(server: &Server, number: usize) -> Holder {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "many_streams::a_holder_holds_streams",
            "--nocapture",
            "--test-threads",
            "1",
        ]);
        command.env(HOLDER, format!("{} {number}", server.address()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Holder { process, output }
    }

    /// Waits until the process has printed this word.
    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the holder ended before {word:?}");
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Not a test by itself: the process started by [`Holder::start`] runs it.
#[test]
fn a_holder_holds_streams() {
    let Ok(task) = std::env::var(HOLDER) else { return };
    let (address, number) = task.split_once(' ').unwrap();
    let (address, number): (_, usize) = (address.parse().unwrap(), number.parse().unwrap());
    raise_open_files_limit().unwrap();
    let open = |at: usize| {
        let source = u8::try_from(at / STREAMS_PER_ADDRESS).unwrap();
        let client =
            Client::connect_from(address, [127, 0, 2 + u8::try_from(number).unwrap(), 1 + source], None);
        let mut stream = EventStream::over(client, "GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n", "");
        stream.expect("connected");
        stream
    };
    let mut streams: Vec<EventStream> = (0..STREAMS / HOLDERS).map(open).collect();
    println!("all open");
    for data in ["first", "second"] {
        streams.iter_mut().for_each(|stream| assert_eq!(stream.message(), data));
        println!("all have the {data}");
    }
    drop(std::io::stdin().read_line(&mut String::new())); // The test closes it.
}

/// `serve` with these options and `files` open files.
fn serve_with_files(files: u32, options: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    let serve = format!("ulimit -n {files} && exec \"$0\" serve --listen 127.0.0.1:0 {options}");
    command.args(["-c", &serve, env!("CARGO_BIN_EXE_downpour")]).env_clear();
    command
}

#[test]
fn auto_is_io_uring_where_open_files_do_not_suffice() {
    if !DriverKind::IoUring.is_available() {
        return;
    }
    for (options, io, why) in [
        ("--max-connections 300", "epoll", "open files allow all connections"),
        ("--max-connections 500", "uring", "500 connections are more than open files allow (300)"),
        ("--max-connections 500 --io epoll", "epoll", "the limit on open files allows 300 here"),
        ("--max-connections 5000 --io uring", "uring", "the limit on open files allows 600 here"),
    ] {
        let server = Server::launch(serve_with_files(400, &format!("--shards 2 {options}")));
        wait_for("the line that says which", || {
            server.log().contains(&format!(" io={io} shards=2\n")).then_some(())
        });
        assert!(server.log().contains(why), "{options}: {}", server.log());
    }
}

#[test]
fn io_uring_that_cannot_be_had_is_an_error_that_says_why() {
    if !DriverKind::IoUring.is_available() {
        return;
    }
    // Three standard streams, two of the signal watch, and the listener. The rest is too little for a ring.
    let output = serve_with_files(8, "--shards 1 --io uring").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("io_uring cannot be used here: file descriptors have run out (ulimit -n)"),
        "{said}"
    );
    assert!(!said.contains("listening on"), "{said}");
}

#[test]
fn more_streams_than_open_files_get_what_is_published() {
    if !DriverKind::IoUring.is_available() {
        return;
    }
    let connections = (STREAMS + 10).to_string();
    let options = ["--shards", "2", "--max-connections", &connections, "--keepalive", "0"];
    let server = Server::start_with_descriptors(DriverKind::IoUring, OPEN_FILES, &options);
    let (before, began) = (server.memory(), Instant::now());
    let mut holders: Vec<Holder> = (0..HOLDERS).map(|number| Holder::start(&server, number)).collect();
    holders.iter_mut().for_each(|holder| holder.expect("all open"));
    let (after, opened) = (server.memory(), began.elapsed());
    let files = process(server.pid()).unwrap().fd_count().unwrap();
    let mut publisher = Client::connect(&server); // An idle connection without a request is soon closed.
    for data in ["first", "second"] {
        let began = Instant::now();
        let (_, receivers) = publisher.publish_text("a", data);
        assert_eq!(receivers, STREAMS as u64);
        holders.iter_mut().for_each(|holder| holder.expect(&format!("all have the {data}")));
        println!("the {data} event is with {receivers} clients after {:?}", began.elapsed());
    }
    // All clients leave at once: more completions than a ring's queue holds.
    drop(holders);
    wait_for("the streams to end", || (publisher.publish_text("a", "nobody").1 == 0).then_some(()));
    let each = (after.rss as f64 - before.rss as f64) / STREAMS as f64;
    println!(
        "{STREAMS} streams, opened in {opened:?}, in a process with {files} open files of {OPEN_FILES}; {each:.0} B of RSS \
         for each"
    );
    assert!(files < 100, "a stream is no open file");
    assert!(each <= STREAM_BYTES_MAX, "a stream costs {each:.0} B");
}
