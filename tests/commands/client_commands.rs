//! `downpour publish` and `downpour subscribe` against a server that plays a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use clap::Parser;
use downpour::app::client::ClientError;
use downpour::app::command::{Cli, CliCommand};
use downpour::app::subscribe;

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
/// One step of the script: it handles the next connection, whose request has come.
type Step = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// Accepts a connection for each step. Returns the requests as text: head and body, without chunk
/// framing.
fn play(steps: Vec<Step>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (requests, received) = mpsc::channel();
    thread::spawn(move || {
        for step in steps {
            let mut socket = listener.accept().unwrap().0;
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = read_request(&mut BufReader::new(socket.try_clone().unwrap()));
            requests.send(request).unwrap();
            step(&mut socket);
        }
    });
    (url, received)
}

/// Answers with these bytes and closes.
fn answer(bytes: impl Into<String>) -> Step {
    let bytes = bytes.into();
    Box::new(move |socket| socket.write_all(bytes.as_bytes()).unwrap())
}

/// Answers with this JSON body.
fn json(status: &str, body: &str) -> Step {
    answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Answers with 404, which ends a subscription.
fn gone() -> Step {
    json("404 Not Found", r#"{"status":404,"detail":"no such thing is served"}"#)
}

fn read_request(reader: &mut impl BufRead) -> String {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut request).unwrap(), 0, "a head ends with a blank line: {request}");
    }
    let head = request.to_lowercase();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        request.push_str(std::str::from_utf8(&body).unwrap());
    } else if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        while let Some(chunk) = read_chunk(reader) {
            request.push_str(&chunk);
        }
    }
    request
}

fn read_chunk(reader: &mut impl BufRead) -> Option<String> {
    let mut size = String::new();
    reader.read_line(&mut size).unwrap();
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(size);
    (size > 0).then(|| String::from_utf8(chunk).unwrap())
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_downpour"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a command to its end. Returns exit code, standard output, and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = start(arguments).wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn publish_sends_an_envelope_and_prints_the_answer() {
    let (url, requests) = play(vec![json("200 OK", r#"{"success":true,"id":"t.1","receivers":2}"#)]);
    let (code, out, told) = run(&[
        "publish",
        "--url",
        &url,
        "--channel",
        "news",
        "--event",
        "e",
        "--id",
        "7",
        "--key",
        "k",
        "hellö\n2",
    ]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    assert_eq!(out, "{\"success\":true,\"id\":\"t.1\",\"receivers\":2}\n");
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /publish HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert_eq!(body_of(&request), r#"{"channel":"news","event":"e","id":"7","key":"k","text":"hellö\n2"}"#);
}

#[test]
fn publish_tells_why_the_server_refused() {
    let problem =
        r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"id must not be empty"}"#;
    let (url, _requests) = play(vec![json("400 Bad Request", problem)]);
    let (code, out, told) = run(&["publish", "--url", &url, "hello"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(told, "error: the server answered 400 Bad Request: id must not be empty\n");
}

#[test]
fn publish_follows_no_redirect() {
    let moved =
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, _requests) = play(vec![answer(moved)]);
    let (code, _, told) = run(&["publish", "--url", &url, "hello"]);
    assert_eq!((code, told.as_str()), (Some(1), "error: the server answered 302 Found\n"));
}

#[test]
fn publish_tells_that_nobody_is_there() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, told) = run(&["publish", "--url", &format!("http://{address}"), "hello"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        told,
        format!(
            "error: no answer from http://{address}/publish\n  because: Connection refused (os error 111)\n"
        )
    );
}

#[test]
fn publish_streams_lines_while_they_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut command = start(&["publish", "--url", &url, "-"]);
    let mut input = command.stdin.take().unwrap();
    let line = "{\"channel\":\"news\",\"data\":1}\n";
    input.write_all(line.as_bytes()).unwrap();
    let mut socket = listener.accept().unwrap().0;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    assert!(head.to_lowercase().contains("\r\ncontent-type: application/x-ndjson\r\n"), "{head}");
    assert_eq!(read_chunk(&mut reader).as_deref(), Some(line)); // Standard input is still open.
    input.write_all(line.as_bytes()).unwrap();
    assert_eq!(read_chunk(&mut reader).as_deref(), Some(line));
    drop(input);
    assert_eq!(read_chunk(&mut reader), None);
    json("200 OK", "{\"success\":true,\"published\":2}")(&mut socket);
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"{\"success\":true,\"published\":2}\n");
}

#[test]
fn publish_refuses_a_target_for_lines_that_have_their_own() {
    let (code, _, told) = run(&["publish", "--channel", "news", "-"]);
    assert_eq!(code, Some(2));
    assert!(told.starts_with("error: --channel cannot be used with \"-\""), "{told}");
}

#[test]
fn subscribe_shows_events_at_once_and_resumes_after_the_last_one() {
    let (proceed, may_proceed) = mpsc::channel::<()>();
    let first: Step = Box::new(move |socket| {
        socket.write_all(STREAM_HEAD.as_bytes()).unwrap();
        socket.write_all(b"retry: 1\nevent: greeting\nid: t.1\ndata: hello\n\n").unwrap();
        may_proceed.recv_timeout(PATIENCE).unwrap();
        socket.write_all(b"data: cut off").unwrap();
    });
    let second = answer(format!("{STREAM_HEAD}id: t.2\ndata: a\ndata: b\n\n"));
    let (url, requests) = play(vec![first, second, gone()]);
    let mut command = start(&[
        "subscribe",
        "--url",
        &url,
        "--channel",
        "news",
        "--channel",
        "a&b",
        "--last-event-id",
        "t.0",
        "--json",
    ]);
    let mut out = BufReader::new(command.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"event\":\"greeting\",\"id\":\"t.1\",\"data\":\"hello\"}\n");
    proceed.send(()).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "{\"event\":\"message\",\"id\":\"t.2\",\"data\":\"a\\nb\"}\n");
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, b"error: the server answered 404 Not Found: no such thing is served\n");
    for id in ["t.0", "t.1", "t.2"] {
        let request = requests.recv().unwrap();
        assert!(request.starts_with("GET /sse?channel=news&channel=a%26b HTTP/1.1\r\n"), "{request}");
        let head = request.to_lowercase();
        assert!(head.contains("\r\naccept: text/event-stream\r\n"), "{request}");
        assert!(head.contains(&format!("\r\nlast-event-id: {id}\r\n")), "{id}: {request}");
    }
}

#[test]
fn subscribe_shows_fields_in_lines_for_people() {
    let stream = answer(format!("{STREAM_HEAD}retry: 1\n\nid: 1\ndata: a\ndata: b\n\n"));
    let (url, _requests) = play(vec![stream, gone()]);
    let (code, out, _) = run(&["subscribe", "--url", &url]);
    assert_eq!((code, out.as_str()), (Some(1), "event: message\nid: 1\ndata: a\ndata: b\n\n"));
}

#[test]
fn subscribe_takes_the_type_of_a_stream_in_any_case_and_with_any_parameters() {
    for content_type in ["Text/Event-Stream", "text/event-stream; charset=utf-8", "TEXT/EVENT-STREAM ;a=b"] {
        let stream =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\nretry: 1\ndata: here\n\n");
        let (url, _requests) = play(vec![answer(stream), gone()]);
        let (code, shown, told) = run(&["subscribe", "--url", &url]);
        assert_eq!(code, Some(1), "{content_type}: {told}");
        assert!(shown.contains("data: here\n") && told.contains("no such thing is served"), "{shown}{told}");
    }
}

#[test]
fn subscribe_gives_up_on_what_is_no_stream() {
    let (url, _requests) = play(vec![json("200 OK", "{}")]);
    let (code, _, told) = run(&["subscribe", "--url", &url]);
    assert_eq!(code, Some(1));
    assert_eq!(told, format!("error: {url}/sse is no event stream: its content type is application/json\n"));
}

#[test]
fn subscribe_ends_quietly_when_nobody_reads_on() {
    let endless: Step = Box::new(|socket| {
        socket.write_all(STREAM_HEAD.as_bytes()).unwrap();
        while socket.write_all(b"data: hello\n\n").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let (url, _requests) = play(vec![endless]);
    let mut command = start(&["subscribe", "--url", &url]);
    let mut out = BufReader::new(command.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let output = command.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn subscribe_waits_as_long_as_the_stream_asked_and_tells_a_lost_server_once() {
    let close: fn() -> Step = || Box::new(|_| ());
    let stream = answer(format!("{STREAM_HEAD}retry: 70\ndata: x\n\n"));
    let (url, requests) = play(vec![close(), close(), stream, close(), gone()]);
    let cli = Cli::try_parse_from(["downpour", "subscribe", "--url", &url]).unwrap();
    let CliCommand::Subscribe(options) = cli.command else { panic!("a subscription was asked for") };
    let (mut out, mut notices, mut delays) = (Vec::new(), Vec::new(), Vec::new());
    let error = subscribe::run(&options, &mut out, &mut notices, |delay| delays.push(delay.as_millis()));
    assert!(matches!(error, Err(ClientError::Refused { .. })), "{error:?}");
    assert_eq!(delays, [3000, 3000, 70, 70]);
    assert_eq!(out, b"event: message\ndata: x\n\n");
    let notices = String::from_utf8(notices).unwrap();
    let told: Vec<&str> = notices.lines().collect();
    assert_eq!(told.len(), 2, "{notices}");
    assert!(
        told[0].ends_with("trying again every 3s") && told[1].ends_with("trying again every 70ms"),
        "{notices}"
    );
    assert_eq!(requests.iter().count(), 5);
}

/// Longer than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
