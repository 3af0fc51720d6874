//! Listening on unix sockets: streams spread over the shards, the socket file's life, drains, and
//! refused paths.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{
    Client, DriverKind, EventStream, Server as TcpServer, for_each_driver, serve_command, wait_for,
};
use downpour::{ChannelName, Event, Server};
use tempfile::TempDir;

for_each_driver!(
    streams_over_a_unix_socket_spread_over_the_shards,
    a_stream_over_a_unix_socket_carries_more_than_any_buffer_holds,
    a_drain_tells_streams_over_unix_sockets_and_removes_the_file,
    a_path_in_use_is_refused_and_one_left_behind_is_replaced,
    a_server_may_have_nothing_but_unix_sockets,
    the_line_that_says_where_it_listens_names_the_path,
);

/// A path for a socket, in a temporary directory.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("downpour.sock");
    (directory, path)
}

fn option(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A server on a unix socket and, like all servers of these tests, on a port.
fn start(io: DriverKind, path: &Path, options: &[&str]) -> TcpServer {
    let listen = option(path);
    TcpServer::start(io, &[&["--listen", &listen], options].concat())
}

fn connect(path: &Path) -> Client {
    let stream = UnixStream::connect(path).unwrap();
    Client::over(TcpStream::from(OwnedFd::from(stream))) // The client does not depend on TCP.
}

fn subscribe(path: &Path, target: &str) -> EventStream {
    let request = format!("GET {target} HTTP/1.1\r\nHost: anything.example\r\n\r\n");
    EventStream::over(connect(path), &request, "")
}

/// The shard of a stream, from its client id.
fn shard_of(stream: &mut EventStream) -> usize {
    let connected: serde_json::Value = serde_json::from_str(&stream.expect("connected").data).unwrap();
    connected["clientId"].as_str().unwrap().split('-').nth(1).unwrap().parse().unwrap()
}

fn refused(options: &[&str], exit_code: i32) -> String {
    let Output { status, stderr, .. } = serve_command(options).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(exit_code), "{said}");
    said
}

fn streams_over_a_unix_socket_spread_over_the_shards(io: DriverKind) {
    let (_directory, path) = place();
    let server = start(io, &path, &["--shards", "2"]);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let mut streams: Vec<EventStream> =
        (0..12).map(|_| subscribe(&path, "/sse?channel=a&userId=jane")).collect();
    let mut on_shards = BTreeMap::new();
    streams.iter_mut().for_each(|stream| *on_shards.entry(shard_of(stream)).or_insert(0) += 1);
    assert_eq!(on_shards, BTreeMap::from([(0, 6), (1, 6)]));
    let mut over_tcp = EventStream::open(&server, "/channels/a");
    over_tcp.expect("connected");

    // Any shard answers requests, also several over one connection and with any Host.
    for _ in 0..4 {
        let mut client = connect(&path);
        for _ in 0..3 {
            let answer = client
                .ask("POST /channels/a HTTP/1.1\r\nHost: anything.example\r\nContent-Length: 5\r\n\r\nhello");
            assert!(answer.text().ends_with(r#","receivers":13}"#), "{}", answer.text());
        }
    }
    for stream in streams.iter_mut().chain([&mut over_tcp]) {
        (0..12).for_each(|_| assert_eq!(stream.message(), "hello"));
    }
}

fn a_stream_over_a_unix_socket_carries_more_than_any_buffer_holds(io: DriverKind) {
    let (_directory, path) = place();
    let _server = start(io, &path, &["--shards", "2"]);
    let mut streams: Vec<EventStream> = (0..2).map(|_| subscribe(&path, "/channels/a")).collect();
    let mut publisher = connect(&path);
    let text = "x".repeat(10_000);
    for n in 0..500 {
        publisher.publish_text("a", &format!("{n} {text}"));
    }
    for stream in &mut streams {
        stream.expect("connected");
        (0..500).for_each(|n| assert_eq!(stream.message(), format!("{n} {text}")));
    }
}

fn a_drain_tells_streams_over_unix_sockets_and_removes_the_file(io: DriverKind) {
    let (_directory, path) = place();
    let mut server = start(io, &path, &["--shards", "2"]);
    let mut streams: Vec<EventStream> = (0..4).map(|_| subscribe(&path, "/channels/a")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.expect("connected")));
    // An unfinished request holds the drain up while new clients connect.
    let mut held = connect(&path);
    held.send("POST /channels/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(held.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    held.send("h");
    server.signal("TERM");
    for stream in &mut streams {
        assert_eq!(stream.expect("shutdown").data, r#"{"reason":"drain"}"#);
        stream.expect_end();
    }
    for _ in 0..4 {
        subscribe(&path, "/channels/a").expect("shutdown");
    }
    held.send("i");
    assert!(held.answer().status() >= 200);
    drop((streams, held));
    assert!(server.wait_for_exit().success());
    assert!(!path.exists());
}

fn a_path_in_use_is_refused_and_one_left_behind_is_replaced(io: DriverKind) {
    let (_directory, path) = place();
    drop(UnixListener::bind(&path).unwrap()); // The file of a dead process.
    let mut first = start(io, &path, &[]);
    let said = refused(&["--listen", &option(&path)], 1);
    assert!(said.contains(&format!("{} is in use: another process listens there", option(&path))), "{said}");
    assert_eq!(connect(&path).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);

    first.signal("KILL");
    first.wait_for_exit();
    assert!(path.exists(), "nobody removed it");
    // The kernel releases a ring, and its listener, some time after its process has ended.
    wait_for("the end of the listener", || UnixStream::connect(&path).is_err().then_some(()));
    let _second = start(io, &path, &[]);
    assert_eq!(connect(&path).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
}

#[test]
fn what_is_no_path_for_a_socket_is_reported() {
    let (directory, path) = place();
    fs::write(&path, "data").unwrap();
    let said = refused(&["--listen", &option(&path)], 1);
    assert!(said.contains("there is a file already that is no socket; it is left alone"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"data");
    let said = refused(&["--listen", &option(&directory.path().join("missing/s"))], 1);
    assert!(said.contains("its directory does not exist"), "{said}");
    let said = refused(&["--listen", &format!("unix:/{}", "x".repeat(107))], 2);
    assert!(said.contains("at most 107 bytes, this one has 108"), "{said}");
    let said = refused(&["--listen", "unix:"], 2);
    assert!(said.contains("a file's path must follow unix:"), "{said}");
}

fn a_server_may_have_nothing_but_unix_sockets(io: DriverKind) {
    let (directory, path) = place();
    let other = directory.path().join("other.sock");
    let server =
        Server::builder().listen_unix(&path).listen_unix(&other).shards(2).io(io.choice()).bind().unwrap();
    assert!(server.addresses().is_empty());
    assert_eq!(server.unix_paths().collect::<Vec<_>>(), [path.as_path(), other.as_path()]);
    let running = server.start().unwrap();
    let mut streams = [subscribe(&path, "/channels/a"), subscribe(&other, "/channels/a")];
    streams.iter_mut().for_each(|stream| drop(stream.expect("connected")));
    let news = ChannelName::parse("a").unwrap();
    running.handle().publish(&news, &Event::new("hello")).unwrap();
    streams.iter_mut().for_each(|stream| assert_eq!(stream.message(), "hello"));
    running.handle().drain();
    drop(streams);
    running.wait().unwrap();
    assert!(!path.exists() && !other.exists());
}

#[test]
fn a_server_that_is_dropped_before_it_runs_leaves_no_file() {
    let (_directory, path) = place();
    drop(Server::builder().listen_unix(&path).bind().unwrap());
    assert!(!path.exists());
}

fn the_line_that_says_where_it_listens_names_the_path(io: DriverKind) {
    let (_directory, path) = place();
    let server = start(io, &path, &["--shards", "2"]);
    let line = format!("listening on {}, {} io={} shards=2\n", server.address(), option(&path), io.word());
    wait_for("the line", || server.log().contains(&line).then_some(()));
    let check = Command::new(env!("CARGO_BIN_EXE_downpour"))
        .args(["check", "--listen", &option(&path)])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.starts_with(&format!("listen = {} (from: command line)\n", option(&path))), "{said}");
}
