//! Streams that another process holds and reads: this bench, started again. One process may not have as
//! many open files as a row has streams.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use downpour_load::load::Load;
use downpour_load::readers::Readers;

/// The first argument of such a process.
pub(crate) const WORD: &str = "hold-streams";

/// Printed once the streams are open, and after each run.
const DONE: &str = "done";

/// Each holder has a source address of its own, with all its ports.
static SOURCES: AtomicU16 = AtomicU16::new(0);

/// A process with readers. Dropping this kills it, which resets its streams.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    /// Returns when all streams are open.
    pub(crate) fn open(address: SocketAddr, load: &Load) -> Holder {
        let [high, low] = SOURCES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let source = Ipv4Addr::new(127, 1, high, low.max(1));
        let load = serde_json::to_string(load).expect("it is plain data");
        let mut command = Command::new(std::env::current_exe().expect("the bench is a file"));
        command.args([WORD, &address.to_string(), &source.to_string(), &load]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs already");
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut holder = Holder { child, orders, answers };
        holder.wait();
        holder
    }

    /// As [`Readers::run`].
    pub(crate) fn run(&mut self, pace: usize, requests: usize) {
        writeln!(self.orders, "{pace} {requests}").expect("the holder reads orders");
        self.wait();
    }

    /// # Panics
    /// If the process has ended because a stream did, or an event was lost. It has printed which.
    fn wait(&mut self) {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        assert!(read.is_ok() && line.trim() == DONE, "the process that reads streams has failed: {line}");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs such a process.
pub(crate) fn hold(words: &[String]) {
    let [address, source, load] = words else { panic!("{WORD} needs an address, a source and a load") };
    let load: Load = serde_json::from_str(load).expect("a load was given");
    let (address, source) = (address.parse().expect("an address"), source.parse().expect("a source"));
    let mut readers = Readers::open(address, source, &load);
    println!("{DONE}");
    for line in std::io::stdin().lines() {
        let line = line.expect("orders are text");
        let (pace, requests) = line.split_once(' ').expect("an order is two numbers");
        readers.run(pace.parse().expect("a pace"), requests.parse().expect("a number of requests"));
        println!("{DONE}");
    }
}
