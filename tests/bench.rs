//! `downpour bench`, as a process: against our own server, and against one that plays tricks.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use common::{DriverKind, Server, wait_for};

/// What every load here is: small, soon over, and told as JSON.
const BRIEF: [&str; 5] = ["--warm-up", "0", "--ramp", "0", "--json"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.arg("bench").args(BRIEF).arg("-").args(arguments).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a load to its end: exit code, result, what was told.
fn bench(arguments: &[&str]) -> (Option<i32>, Value, String) {
    result(command(arguments).output().unwrap())
}

fn result(output: Output) -> (Option<i32>, Value, String) {
    let told = String::from_utf8(output.stderr).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, told)
}

/// Runs a load on a server of ours, on which nothing may go wrong.
fn bench_ours(arguments: &[&str]) -> Value {
    let server = Server::start(DriverKind::Epoll, &[]);
    let (url, pid) = (format!("http://{}", server.address()), server.pid().to_string());
    let ours = ["--url", &url, "--pid", &pid];
    let (code, json, told) = bench(&[&ours[..], arguments].concat());
    assert_eq!(code, Some(0), "{told}{json:#}");
    assert_eq!(json["findings"], serde_json::json!([]));
    json
}

fn assert_all_delivered(json: &Value, events: u64, subscribers: u64) {
    let run = &json["run"];
    assert_eq!(run["events"], events, "{json:#}");
    assert_eq!(run["deliveries"], events * subscribers, "{json:#}");
    assert_eq!(run["expectedDeliveries"], events * subscribers);
    for kind in ["lostUntold", "lostTold", "doubled", "reordered", "misdelivered", "gaps"] {
        assert_eq!(json["losses"]["fast"][kind], 0, "{kind}");
    }
}

#[test]
fn every_event_at_a_rate_is_delivered_and_the_result_is_complete() {
    let json = bench_ours(&["--subscribers", "20", "--events", "200", "--threads", "2"]);
    assert_all_delivered(&json, 200, 20);
    assert_eq!(json["run"]["latency"]["samples"], 4000, "every delivery has its latency");
    assert_eq!(json["run"]["requests"], 200);
    assert_eq!(json["connect"]["streams"], 20);
    assert_eq!(json["connect"]["latency"]["samples"], 20);
    assert_eq!(json["run"]["readers"].as_array().unwrap().len(), 2);
    assert_eq!(json["parameters"]["subscribers"], 20);
    assert_eq!(json["parameters"]["mode"], "rate");
    for (part, fields) in [
        ("machine", &["kernel", "cpu", "cpus"][..]),
        ("server", &["cpuNsPerDelivery", "voluntarySwitches", "memoryBefore", "memoryRamped", "memoryEnd"]),
        ("kernel", &["tcpBytesBefore", "tcpBytesRamped", "tcpBytesEnd", "droppedPackets"]),
        ("run", &["seconds", "eventsPerSecond", "deliveriesPerSecond", "publishLatency", "publishLateness"]),
    ] {
        fields.iter().for_each(|field| assert!(!json[part][field].is_null(), "{part}.{field}: {json:#}"));
    }
    assert!(json["server"]["cpuNsPerDelivery"].as_f64().unwrap() > 0.0);
    assert!(!json["version"].is_null() && !json["date"].is_null());
}

#[test]
fn events_of_many_channels_go_to_their_own_streams() {
    let load = ["--subscribers", "30", "--channels", "3", "--events", "90"];
    let json = bench_ours(&[&load[..], &["--sources", "2", "--publishers", "2"]].concat());
    assert_eq!(json["run"]["deliveries"], 900, "{json:#}");
    assert_eq!(json["losses"]["fast"]["misdelivered"], 0);
}

#[test]
fn batches_go_as_fast_as_the_window_lets_them() {
    for format in ["ndjson", "array"] {
        let load =
            ["--subscribers", "10", "--channels", "2", "--rate", "0", "--window", "64", "--batch", "16"];
        let json = bench_ours(&[&load[..], &["--events", "1000", "--batch-format", format]].concat());
        assert_eq!(json["run"]["deliveries"], 5000, "{format}: {json:#}");
        assert_eq!(json["parameters"]["latencySample"], 64);
        assert!(json["run"]["latency"]["samples"].as_u64().unwrap() < 1000);
    }
}

#[test]
fn unbatched_events_wait_for_every_stream() {
    let json = bench_ours(&["--subscribers", "10", "--unbatched", "--events", "100"]);
    assert_all_delivered(&json, 100, 10);
    assert_eq!(json["parameters"]["mode"], "unbatched");
}

#[test]
fn readers_and_publisher_run_on_the_cpus_they_are_given() {
    let cpu = downpour::driver::affinity::allowed_cpus().unwrap()[0].to_string();
    let load = ["--subscribers", "4", "--threads", "2", "--events", "50", "--cpus-publisher", &cpu];
    let json = bench_ours(&[&load[..], &["--cpus-readers", &cpu]].concat());
    assert_all_delivered(&json, 50, 4);
    assert_eq!(json["parameters"]["cpusReaders"][0].to_string(), cpu);
}

#[test]
fn streams_without_chunked_coding_are_read_too() {
    let json = bench_ours(&["--subscribers", "10", "--http1.0", "--events", "100", "--size", "2000"]);
    assert_all_delivered(&json, 100, 10);
    assert!(json["run"]["receivedBytesPerDelivery"].as_f64().unwrap() > 2000.0);
}

#[test]
fn slow_streams_are_counted_apart_and_read_the_rest_in_the_end() {
    let load = ["--subscribers", "10", "--slow", "20%", "--slow-rate", "100", "--events", "200"];
    let json = bench_ours(&[&load[..], &["--size", "1000"]].concat());
    let run = &json["run"];
    let (deliveries, late) = (run["deliveries"].as_u64().unwrap(), run["lateDeliveries"].as_u64().unwrap());
    assert!(deliveries >= 1600 && late > 0, "{json:#}");
    assert_eq!(deliveries + late, 2000);
    assert_eq!((&json["losses"]["slow"]["lostUntold"], &json["losses"]["unread"]), (&0.into(), &0.into()));
    assert_eq!(run["latency"]["samples"], 1600);
}

#[test]
fn publishing_alone_is_measured_without_streams() {
    let json = bench_ours(&["--subscribers", "0", "--rate", "0", "--pipeline", "8", "--events", "500"]);
    assert_eq!((&json["run"]["events"], &json["run"]["deliveries"]), (&500.into(), &0.into()));
    assert!(json["server"]["cpuNsPerEvent"].as_f64().unwrap() > 0.0);
    assert_eq!(json["run"]["publishLatency"]["samples"], 500);
}

#[test]
fn a_table_for_people_is_printed_where_no_json_is_asked_for_there() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let (url, path) = (format!("http://{}", server.address()), file.path().to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.args(["bench", "--url", &url, "--subscribers", "5", "--events", "50", "--warm-up", "0"]);
    let output = command.args(["--json", path]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("250 of 250") && table.contains("0 untold") && table.contains("p99.9"), "{table}");
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_all_delivered(&json, 50, 5);
}

/// What a server does to one event, once it has delivered enough others as it should.
#[derive(Clone, Copy, PartialEq)]
enum Trick {
    None,
    Lose,
    LoseAndTell,
    /// Keeps it from the streams of a further process of the bench alone: the first one connects from
    /// [`FIRST_SOURCE`].
    LoseOfAnother,
    /// Marks it as one of another channel.
    Misdeliver,
    Double,
    Reorder,
    EndStreams,
    RefusePublish,
}

/// Where the first process of the bench connects from on its own.
const FIRST_SOURCE: &str = "127.0.0.2";

/// The event that the trick is played on: one that is measured, as few are needed before.
const TRICKED: usize = 40;

/// A server of event streams that plays a trick: one channel, a thread for each connection.
struct Trickster {
    url: String,
    published: Arc<AtomicUsize>,
}

struct Stage {
    trick: Trick,
    streams: Mutex<Vec<TcpStream>>,
    held: Mutex<Option<String>>,
    published: Arc<AtomicUsize>,
}

impl Trickster {
    fn start(trick: Trick) -> Trickster {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let published = Arc::new(AtomicUsize::new(0));
        let (streams, held) = (Mutex::default(), Mutex::default());
        let stage = Arc::new(Stage { trick, streams, held, published: Arc::clone(&published) });
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let stage = Arc::clone(&stage);
                thread::spawn(move || stage.serve(socket));
            }
        });
        Trickster { url, published }
    }

    fn bench(&self, arguments: &[&str]) -> Child {
        let urls = [format!("{}/s", self.url), format!("{}/p", self.url)];
        let mut command = command(&["--subscribe-url", &urls[0], "--publish-url", &urls[1]]);
        command.args(["--subscribers", "4"]).args(arguments).spawn().unwrap()
    }
}

impl Stage {
    fn serve(&self, mut socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        while let Some((line, body)) = read_request(&mut reader) {
            if line.starts_with("GET") {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: welcome\n\n";
                socket.write_all(head.as_bytes()).unwrap();
                self.streams.lock().unwrap().push(socket);
                return;
            }
            let number = self.published.fetch_add(1, Ordering::SeqCst);
            let is_refused = self.trick == Trick::RefusePublish && number == TRICKED;
            let answer = match is_refused {
                true => "HTTP/1.1 507 Full\r\nContent-Length: 7\r\n\r\nno room",
                false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            };
            if !is_refused {
                self.deliver(number, &format!("data: {body}\n\n"));
            }
            if socket.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn deliver(&self, number: usize, event: &str) {
        let mut wire =
            self.held.lock().unwrap().take().map_or(event.to_owned(), |held| format!("{event}{held}"));
        if number == TRICKED {
            wire = match self.trick {
                Trick::None | Trick::RefusePublish | Trick::LoseOfAnother => wire,
                Trick::Lose | Trick::EndStreams => String::new(),
                Trick::LoseAndTell => "event: gap\ndata: {\"missed\":1}\n\n".to_owned(),
                Trick::Misdeliver => wire.replacen("-000000", "-000001", 1),
                Trick::Double => wire.repeat(2),
                Trick::Reorder => {
                    *self.held.lock().unwrap() = Some(wire);
                    String::new()
                }
            };
        }
        let mut streams = self.streams.lock().unwrap();
        if self.trick == Trick::EndStreams && number == TRICKED {
            streams.clear();
        }
        let is_kept_from_others = self.trick == Trick::LoseOfAnother && number == TRICKED;
        for stream in streams.iter_mut() {
            let is_first = || stream.peer_addr().is_ok_and(|peer| peer.ip().to_string() == FIRST_SOURCE);
            if is_kept_from_others && !is_first() {
                continue;
            }
            // A load that has ended reads no more.
            drop(stream.write_all(wire.as_bytes()));
        }
    }
}

/// The first line and the body of a request; `None` where no more come.
fn read_request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|&count| count > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, String::from_utf8(body).unwrap()))
}

fn bench_trick(trick: Trick) -> (Option<i32>, Value, String) {
    let child = Trickster::start(trick).bench(&["--events", "100", "--stall", "2s"]);
    result(child.wait_with_output().unwrap())
}

#[test]
fn any_server_without_tricks_is_found_honest() {
    let (code, json, told) = bench_trick(Trick::None);
    assert_eq!(code, Some(0), "{told}");
    assert_all_delivered(&json, 100, 4);
}

#[test]
fn a_server_that_loses_doubles_or_reorders_is_found_out() {
    for (trick, kind, words) in [
        (Trick::Lose, "lostUntold", "4 lost untold"),
        (Trick::Double, "doubled", "4 doubled"),
        (Trick::Reorder, "reordered", "4 reordered"),
    ] {
        let (code, json, told) = bench_trick(trick);
        assert_eq!(code, Some(1), "{told}");
        for other in ["lostUntold", "doubled", "reordered", "lostTold"] {
            assert_eq!(json["losses"]["fast"][other], if other == kind { 4 } else { 0 }, "{kind}: {other}");
        }
        let expected = format!("error: events did not come once and in order: {words}");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn an_event_on_a_stream_of_another_channel_is_found_out() {
    let (code, json, told) = bench_trick(Trick::Misdeliver);
    assert_eq!((code, &json["losses"]["fast"]["misdelivered"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("4 lost untold, 4 on a stream of another channel"), "{told}");
}

#[test]
fn what_a_server_loses_and_tells_is_no_fault() {
    let (code, json, told) = bench_trick(Trick::LoseAndTell);
    assert_eq!(code, Some(0), "{told}");
    let fast = &json["losses"]["fast"];
    assert_eq!((&fast["lostTold"], &fast["lostUntold"], &fast["gaps"]), (&4.into(), &0.into(), &4.into()));
    assert!(json["remarks"].to_string().contains("lost by streams"), "{json:#}");
}

#[test]
fn streams_that_end_and_publishes_that_are_refused_fail_the_run() {
    let (code, json, told) = bench_trick(Trick::EndStreams);
    assert_eq!((code, &json["connect"]["fastEnded"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("4 streams ended though nobody asked for it"), "{told}");
    let (code, json, told) = bench_trick(Trick::RefusePublish);
    assert_eq!(code, Some(1));
    assert!(told.contains("the server answered 507 to a publish: no room"), "{told}");
    assert_eq!(json["losses"]["fast"]["lostUntold"], 0, "what was refused is not lost");
    assert_eq!(json["run"]["deliveries"], json["run"]["expectedDeliveries"], "the figures so far are there");
}

#[test]
fn an_unbatched_event_that_is_lost_stalls_the_run_which_ends_by_itself() {
    let child = Trickster::start(Trick::Lose).bench(&["--unbatched", "--events", "100", "--stall", "300ms"]);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("nothing moved for 300ms (--stall): a stream did not get its event"), "{told}");
}

#[test]
fn a_signal_ends_a_run_with_the_figures_so_far() {
    let server = Trickster::start(Trick::None);
    let child = server.bench(&["--duration", "1h"]);
    wait_for("events", || (server.published.load(Ordering::SeqCst) > 60).then_some(()));
    signal("INT", child.id());
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{told}");
    assert!(json["run"]["deliveries"].as_u64().unwrap() > 0);
    assert_eq!(json["run"]["deliveries"], json["run"]["expectedDeliveries"]);
    assert!(json["remarks"].to_string().contains("a signal ended the run"), "{json:#}");
}

#[test]
fn processes_share_the_streams_and_tell_one_result() {
    let load = ["--subscribers", "21", "--events", "200", "--threads", "2"];
    let one = bench_ours(&load);
    for processes in ["2", "3"] {
        let json = bench_ours(&[&load[..], &["--processes", processes]].concat());
        assert_all_delivered(&json, 200, 21);
        assert_eq!(json["run"]["latency"]["samples"], 4200, "every delivery has its latency");
        assert_eq!(
            (&json["connect"]["streams"], &json["connect"]["latency"]["samples"]),
            (&21.into(), &21.into())
        );
        assert_eq!(json["parameters"]["processes"].to_string(), processes);
        let readers = json["run"]["readers"].as_array().unwrap();
        assert_eq!(readers.len(), 2 * processes.parse::<usize>().unwrap(), "each thread of each process");
        let latency = &json["run"]["latency"];
        assert!(latency["p50Ns"].as_u64().unwrap() > 0, "their clocks agree: {latency}");
        assert!(latency["maxNs"].as_u64().unwrap() < 60_000_000_000, "their clocks agree: {latency}");
        assert_eq!(structure(&json), structure(&one));
    }
}

/// The names of all fields, at their paths, of a result.
fn structure(json: &Value) -> Vec<String> {
    fn walk(json: &Value, path: &str, paths: &mut Vec<String>) {
        paths.push(path.to_owned());
        // A process's connections fail for reasons of their own, and readers are as many as threads.
        for (name, part) in json.as_object().into_iter().flatten() {
            walk(part, &format!("{path}.{name}"), paths);
        }
    }
    let mut paths = Vec::new();
    walk(json, "", &mut paths);
    paths
}

#[test]
fn processes_share_every_kind_of_load() {
    let channels = ["--subscribers", "31", "--channels", "4", "--processes", "3", "--events", "120"];
    let json = bench_ours(&channels);
    // The channels have 8, 8, 8 and 7 streams.
    assert_eq!(
        (&json["run"]["deliveries"], &json["losses"]["fast"]["misdelivered"]),
        (&930.into(), &0.into())
    );
    let load = ["--subscribers", "10", "--processes", "2"];
    let unbatched = bench_ours(&[&load[..], &["--unbatched", "--channels", "3", "--events", "99"]].concat());
    assert_eq!(unbatched["run"]["deliveries"], 33 * 10);
    let window = ["--rate", "0", "--window", "64", "--batch", "16", "--events", "960"];
    let json = bench_ours(&[&load[..], &window].concat());
    assert_all_delivered(&json, 960, 10);
    let slow = ["--slow", "20%", "--slow-rate", "100", "--size", "1000", "--events", "200"];
    let run = &bench_ours(&[&load[..], &slow].concat())["run"];
    assert_eq!(run["deliveries"].as_u64().unwrap() + run["lateDeliveries"].as_u64().unwrap(), 2000);
    assert_eq!(run["latency"]["samples"], 1600);
}

#[test]
fn an_event_that_only_a_further_process_misses_is_told() {
    let child = Trickster::start(Trick::LoseOfAnother).bench(&["--processes", "2", "--events", "100"]);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &2.into()), "{told}");
    assert!(told.contains("2 lost untold"), "{told}");
    assert_eq!(json["run"]["deliveries"], 398);
}

#[test]
fn with_processes_an_unbatched_event_that_is_lost_stalls_the_run_which_ends_by_itself() {
    let arguments = ["--processes", "2", "--unbatched", "--events", "100", "--stall", "300ms"];
    let child = Trickster::start(Trick::LoseOfAnother).bench(&arguments);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &2.into()), "{told}");
    assert!(told.contains("nothing moved for 300ms (--stall): a stream did not get its event"), "{told}");
}

/// The processes that `parent` has started, once there are as many.
fn children(parent: u32, count: usize) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    wait_for("processes", || {
        let all = std::fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let children: Vec<u32> = pids.filter(|&pid| parent_of(pid) == Some(parent)).collect();
        (children.len() == count).then_some(children)
    })
}

fn signal(signal: &str, pid: u32) {
    let kill = format!("kill -{signal} {pid}");
    assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_further_process_that_is_killed_ends_the_run_with_what_became_of_it() {
    for load in [
        &["--duration", "1h"][..],
        &["--duration", "1h", "--unbatched"],
        &["--duration", "1h", "--rate", "0"],
    ] {
        let server = Trickster::start(Trick::None);
        let child = server.bench(&[&["--processes", "3"], load].concat());
        let pids = children(child.id(), 2);
        wait_for("events", || (server.published.load(Ordering::SeqCst) > 60).then_some(()));
        signal("KILL", *pids.iter().max().unwrap());
        let (code, json, told) = result(child.wait_with_output().unwrap());
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("process 3 of 3 ended before its time (signal: 9 (SIGKILL))"), "{told}");
        assert_eq!(json["findings"].as_array().unwrap().len(), 1, "{json:#}");
        wait_for("the other one's end", || (!pids.iter().any(|&pid| is_running(pid))).then_some(()));
    }
}

#[test]
fn further_processes_end_with_the_first_one() {
    let server = Trickster::start(Trick::None);
    let mut child = server.bench(&["--processes", "3", "--duration", "1h"]);
    let pids = children(child.id(), 2);
    wait_for("events", || (server.published.load(Ordering::SeqCst) > 60).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("their end", || (!pids.iter().any(|&pid| is_running(pid))).then_some(()));
}

#[test]
fn a_signal_ends_all_processes_with_the_figures_so_far() {
    let server = Trickster::start(Trick::None);
    let child = server.bench(&["--processes", "2", "--duration", "1h"]);
    let pids = children(child.id(), 1);
    wait_for("events", || (server.published.load(Ordering::SeqCst) > 60).then_some(()));
    signal("INT", child.id());
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{told}");
    assert!(json["run"]["deliveries"].as_u64().unwrap() > 0);
    assert_eq!(json["run"]["deliveries"], json["run"]["expectedDeliveries"]);
    assert!(json["remarks"].to_string().contains("a signal ended the run"), "{json:#}");
    assert!(!is_running(pids[0]));
}

#[test]
fn a_worker_that_nobody_gives_orders_to_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    let output = command.arg("bench-worker").env_clear().stdin(Stdio::null()).output().unwrap();
    let (code, _, told) = result(output);
    assert_eq!(code, Some(1));
    assert!(told.contains("a worker of `downpour bench --processes N` got no orders"), "{told}");
}

#[test]
fn what_cannot_be_done_is_told() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let url = format!("http://{}", server.address());
    let subscribe = format!("{url}/nowhere");
    for (arguments, words) in [
        (&["--url", &url, "--subscribe-url", &subscribe][..], ["came to no stream"; 2]),
        (&["--url", "http://127.0.0.1:1"], ["no connection to publish over to 127.0.0.1:1", "refused"]),
        (&["--url", &url, "--pid", "4000000000"], ["cannot measure the processes [4000000000] (--pid)"; 2]),
        (&["--url", &url, "--source", "192.0.2.1"], ["came to no stream"; 2]),
    ] {
        let (code, json, told) = bench(arguments);
        let seen = format!("{told}{json:#}");
        assert_eq!(code, Some(1), "{seen}");
        assert!(words.iter().all(|word| seen.contains(word)), "{arguments:?}: {seen}");
    }
    let (_, json, _) = bench(&["--url", &url, "--subscribe-url", &subscribe]);
    assert!(json["failures"].to_string().contains("it answered 404"), "{json:#}");
    let (_, json, _) = bench(&["--url", &url, "--source", "192.0.2.1"]);
    assert!(json["failures"].to_string().contains("give more by --sources"), "{json:#}");
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_opened() {
    let limited = |arguments: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n 100 && exec \"$0\" bench {arguments}")]);
        let (code, _, told) =
            result(command.arg(env!("CARGO_BIN_EXE_downpour")).env_clear().output().unwrap());
        assert_eq!(code, Some(1));
        told
    };
    let told = limited("--subscribers 300");
    assert!(
        told.contains(
            "this load needs 335 open files, and the limit is 100: raise it (ulimit -n 335), lower --subscribers, or \
             take --processes 6"
        ),
        "{told}"
    );
    let told = limited("--subscribers 300 --processes 2");
    assert!(told.contains("needs 188 open files in each of 2 processes, and the limit is 100"), "{told}");
    let told = limited("--subscribers 5000");
    assert!(told.contains("raise it (ulimit -n 5035) or lower --subscribers"), "{told}");
}

#[test]
fn with_processes_there_are_more_streams_than_one_may_have() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let mut command = Command::new("/bin/sh");
    let load = "--subscribers 120 --events 20 --warm-up 0 --processes 3 --json -";
    let run = format!("ulimit -n 100 && exec \"$0\" bench --url http://{} {load}", server.address());
    let command = command.args(["-c", &run]).arg(env!("CARGO_BIN_EXE_downpour")).env_clear();
    let (code, json, told) = result(command.output().unwrap());
    assert_eq!(code, Some(0), "{told}");
    assert_all_delivered(&json, 20, 120);
}

#[test]
fn bad_options_are_told_with_what_is_allowed() {
    for (arguments, words) in [
        (&["--subscribers", "many"][..], ["--subscribers", "many", "whole number from 0"]),
        (&["--rate", "fast"], ["--rate", "fast", "5000/s"]),
        (&["--slow", "10"], ["--slow", "10", "0% to 100%"]),
        (&["--size", "8"], ["--size", "8", "from 36 bytes"]),
        (&["--subscribe-url", "https://a/"], ["--subscribe-url", "https://a/", "TLS"]),
        (&["--header", "x"], ["--header", "'x'", "Authorization"]),
        (&["--duration", "0"], ["--duration", "0", "1ms"]),
        (&["--duration", "1s", "--events", "5"], ["--duration", "--events", "cannot be used with"]),
        (&["--cpus-readers", "1023"], ["--cpus-readers 1023", "no CPU", "may run on"]),
        (&["--unbatched", "--batch", "2"], ["--unbatched", "--batch 2", "contradict"]),
        (&["--publish-body", "x"], ["--publish-body", "{data}", "needs"]),
        (&["--processes", "0"], ["--processes", "0", "whole number from 1 to 256"]),
        (&["--processes", "257"], ["--processes", "257", "whole number from 1 to 256"]),
        (&["--processes", "3", "--subscribers", "2"], ["--processes 3", "--subscribers 2", "at least"]),
    ] {
        let (code, _, told) = bench(arguments);
        assert_eq!(code, Some(2), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
    }
}
