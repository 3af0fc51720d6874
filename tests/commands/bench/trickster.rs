//! A server of event streams that plays a trick on one event. A load must find it out.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::{command, result, signal};
use crate::common::wait_for;

/// What the server does to one event, after it has delivered enough others properly.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Trick {
    None,
    Lose,
    LoseAndTell,
    /// Withholds it from the streams of a worker process of the bench: the first process connects from
    /// [`FIRST_SOURCE`].
    LoseOfAnother,
    /// Marks it as one of another channel.
    Misdeliver,
    Double,
    Reorder,
    EndStreams,
    RefusePublish,
}

/// The source address of the bench's first process.
pub(crate) const FIRST_SOURCE: &str = "127.0.0.2";

/// The event that the trick is played on. It is a measured one, as few come before.
pub(crate) const TRICKED: usize = 40;

/// A server of event streams that plays a trick: one channel, a thread for each connection.
pub(crate) struct Trickster {
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
    pub(crate) fn start(trick: Trick) -> Trickster {
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

    pub(crate) fn bench(&self, arguments: &[&str]) -> Child {
        let urls = [format!("{}/s", self.url), format!("{}/p", self.url)];
        let mut command = command(&["--subscribe-url", &urls[0], "--publish-url", &urls[1]]);
        // A group of its own, which gets the terminal's signals.
        command.process_group(0).args(["--subscribers", "4"]).args(arguments).spawn().unwrap()
    }

    /// Waits until enough events were published that some were measured.
    pub(crate) fn await_events(&self) {
        wait_for("events", || (self.published.load(Ordering::SeqCst) > 60).then_some(()));
    }

    /// Interrupts a load with all processes of its group, as Ctrl-C would. It must end with the figures
    /// so far.
    pub(crate) fn interrupt(&self, bench: Child) {
        self.await_events();
        signal("INT", -i64::from(bench.id()));
        let (code, json, told) = result(bench.wait_with_output().unwrap());
        assert_eq!(code, Some(0), "{told}");
        assert!(json["run"]["deliveries"].as_u64().unwrap() > 0);
        assert_eq!(json["run"]["deliveries"], json["run"]["expectedDeliveries"]);
        assert!(json["remarks"].to_string().contains("a signal ended the run"), "{json:#}");
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

/// The first line and the body of a request; `None` if no more come.
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

pub(crate) fn bench_trick(trick: Trick) -> (Option<i32>, Value, String) {
    let child = Trickster::start(trick).bench(&["--events", "100", "--stall", "2s"]);
    result(child.wait_with_output().unwrap())
}
