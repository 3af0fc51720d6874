//! Streams that another process holds and reads: this bench, started again. One process may not have as
//! many open files as a row has streams.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use downpour_load::load::Load;
use downpour_load::readers::Readers;
use serde::{Deserialize, Serialize};

/// The first argument of such a process.
pub(crate) const WORD: &str = "hold-streams";

/// Printed once the streams are open, and after each run.
const DONE: &str = "done";

/// The first word of an order to publish at a rate.
const EVERY: &str = "every";

/// Latencies of a run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latency {
    fn of(mut latencies: Vec<Duration>) -> Latency {
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
        Latency { p50: at(50), p99: at(99) }
    }
}

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

    /// As [`Readers::run_at`]; the median and p99 of all latencies.
    pub(crate) fn run_at(&mut self, interval: Duration, events: usize) -> Latency {
        writeln!(self.orders, "{EVERY} {} {events}", interval.as_nanos()).expect("the holder reads orders");
        serde_json::from_str(&self.wait()).expect("it says latencies")
    }

    /// Returns what follows on the line.
    ///
    /// # Panics
    /// If the process has ended because a stream did, or an event was lost. It has printed which.
    fn wait(&mut self) -> String {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let rest = read.ok().and_then(|_| line.trim().strip_prefix(DONE));
        rest.unwrap_or_else(|| panic!("the process that reads streams has failed: {line}")).to_owned()
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
        let number = |word: &str| word.parse().expect("a number");
        match line.split(' ').collect::<Vec<_>>()[..] {
            [EVERY, interval_ns, events] => {
                let interval = Duration::from_nanos(interval_ns.parse().expect("a time"));
                let latency = Latency::of(readers.run_at(interval, number(events)));
                println!("{DONE}{}", serde_json::to_string(&latency).expect("it is plain data"));
            }
            [pace, requests] => {
                readers.run(number(pace), number(requests));
                println!("{DONE}");
            }
            _ => panic!("an order is two numbers, or {EVERY} and two numbers"),
        }
    }
}
