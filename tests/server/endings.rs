//! Ends of connections over real sockets. A client receives the server's last answer although it still
//! sends. A client that has ended its own side gets what it asked for.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, wait_for};

for_each_driver!(
    a_refusal_is_heard_behind_a_body_of_any_usual_size,
    a_stream_ends_whole_for_a_client_that_has_ended_its_side,
    a_request_of_a_client_that_has_ended_its_side_is_answered,
    a_client_that_sends_too_much_on_its_stream_is_closed,
    what_is_turned_away_is_heard_out_briefly,
    the_publish_command_says_which_line_is_bad_however_much_follows,
    a_client_that_sends_on_does_not_outlive_a_drain,
);

const MIB: usize = 1024 * 1024;

fn a_refusal_is_heard_behind_a_body_of_any_usual_size(io: DriverKind) {
    let server = Server::start(io, &[]);
    for bytes in [5 * MIB, 50 * MIB] {
        let counted = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
        let mut client = Client::connect(&server);
        client.send(counted);
        // It sends all before it reads, as many clients do.
        let part = vec![b'x'; MIB];
        for _ in 0..bytes / MIB {
            client.send(&part);
        }
        assert_eq!(client.answer().status(), 413, "{bytes} bytes");
        assert_eq!(client.rest(), b"", "an end, and no reset");
    }
    let mut client = Client::connect(&server);
    client.send("POST /publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [format!("{MIB:x}\r\n").into_bytes(), vec![b'x'; MIB], b"\r\n".to_vec()].concat();
    (0..5).for_each(|_| client.send(&chunk));
    client.send("0\r\n\r\n");
    assert_eq!(client.answer().status(), 413, "chunked");
}

fn a_stream_ends_whole_for_a_client_that_has_ended_its_side(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    publisher.publish_text("a", "hello");
    assert_eq!(stream.message(), "hello");
    let client = stream.into_client();
    client.shutdown_write();
    let mut client = client;
    assert_eq!(client.rest(), b"\r\n0\r\n\r\n", "behind the end of the chunk before");
    wait_for("the stream's leave", || (publisher.publish_text("a", "x").1 == 0).then_some(()));
    wait_for("the reason", || closed(&server, "peer").filter(|&count| count == 1));
    // A client that asks for a stream and has already ended its side.
    let mut client = Client::connect(&server);
    client.send("GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.shutdown_write();
    assert!(client.rest().ends_with(b"\n\n\r\n0\r\n\r\n"));
}

fn a_request_of_a_client_that_has_ended_its_side_is_answered(io: DriverKind) {
    let server = Server::start(io, &[]);
    let line = "{\"channel\":\"a\",\"data\":1}\n";
    let lines = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n";
    let whole = [
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".to_owned(),
        format!("{lines}Content-Length: {}\r\n\r\n{line}{line}", 2 * line.len()),
        format!("{lines}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n0\r\n\r\n", line.len()),
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ];
    let broken_off = [
        (whole[0][..whole[0].len() - 1].to_owned(), "the request's body was whole"),
        (whole[1][..whole[1].len() - 1].to_owned(), "\"published\":1"),
        (whole[2][..whole[2].len() - 5].to_owned(), "\"published\":1"),
    ];
    let ask = |request: &str| {
        let mut client = Client::connect(&server);
        client.send(request);
        client.shutdown_write();
        String::from_utf8(client.rest()).unwrap()
    };
    for request in whole {
        let answer = ask(&request);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request:?}: {answer}");
    }
    for (request, detail) in broken_off {
        let answer = ask(&request);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(detail), "{request:?}: {answer}");
    }
}

/// The number of connections that were closed for this reason.
fn closed(server: &Server, reason: &str) -> Option<u64> {
    let metrics = Client::connect(server).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = String::from_utf8(metrics.body).unwrap();
    let mark = format!("reason=\"{reason}\"}} ");
    let line = metrics.lines().find(|line| line.contains("closed") && line.contains(&mark))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The bytes that a client can send before it is cut off, up to `bytes_max`.
fn send_until_cut_off(client: &mut Client, bytes_max: usize) -> usize {
    let part = vec![b'x'; 16 * 1024];
    let mut sent = 0;
    while sent < bytes_max && client.try_send(&part).is_ok() {
        sent += part.len();
    }
    sent
}

/// Bytes that the kernels of both sides take from a client without a reader.
const KERNEL_BYTES: usize = 32 * MIB;

fn a_client_that_sends_too_much_on_its_stream_is_closed(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let mut client = stream.into_client();
    assert!(send_until_cut_off(&mut client, 1024 * MIB) < KERNEL_BYTES);
    wait_for("the reason", || closed(&server, "sent-too-much").filter(|&count| count == 1));
    // Up to 64 KiB have no effect, and a client that sends a little more still reads a whole stream.
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let mut client = stream.into_client();
    client.send(vec![b'x'; 64 * 1024]);
    wait_for("the stream", || (Client::connect(&server).publish_text("a", "y").1 == 1).then_some(()));
    client.send("x");
    assert!(client.rest().ends_with(b"0\r\n\r\n"));
}

fn what_is_turned_away_is_heard_out_briefly(io: DriverKind) {
    let server = Server::start(io, &["--max-connections", "1"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let mut client = Client::connect(&server);
    client.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().status(), 429);
    assert!(send_until_cut_off(&mut client, 1024 * MIB) < KERNEL_BYTES);
    let mut client = EventStream::open(&server, "/channels/a");
    client.expect("overloaded");
    assert!(send_until_cut_off(&mut client.into_client(), 1024 * MIB) < KERNEL_BYTES);
}

fn the_publish_command_says_which_line_is_bad_however_much_follows(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"))
        .args(["publish", "--url", &format!("http://{}", server.address()), "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = command.stdin.take().unwrap();
    let good = "{\"channel\":\"a\",\"data\":1}\n";
    let feeding = thread::spawn(move || {
        input.write_all(format!("{good}nonsense\n").as_bytes()).unwrap();
        // It never ends, and at some point is no longer read.
        let many = good.repeat(10_000);
        while input.write_all(many.as_bytes()).is_ok() {}
    });
    let output = command.wait_with_output().unwrap();
    feeding.join().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 2: ") && told.contains("published before that: 1"), "{told}");
}

fn a_client_that_sends_on_does_not_outlive_a_drain(io: DriverKind) {
    let mut server = Server::start(io, &["--drain", "300ms"]);
    let mut client = Client::connect(&server);
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
    server.signal("TERM");
    // It neither ends nor pauses.
    while client.try_send("x").is_ok() {
        thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(server.wait_for_exit().success());
}
