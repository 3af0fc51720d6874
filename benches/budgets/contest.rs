//! Servers that take turns, each with the streams of one load.

use std::time::Instant;

use crate::Bench;
use crate::holder::Holder;
use downpour_load::load::Load;
use downpour_load::server::Server;
use downpour_load::statistics::Interval;
use downpour_load::units::{TIMES, with_unit};
use downpour_load::window::{Pairs, STARTS, Window, fitting};

/// Requests of the first run. It shows how many fill a window.
const WARM_UP_REQUESTS: usize = 4;

/// Most rounds, as a multiple of those asked for, if pairs are discarded.
const ROUNDS_TIMES_MAX: usize = 2;

/// A server that takes part, with its streams.
#[derive(Debug)]
pub(crate) struct Contender {
    server: Server,
    holder: Holder,
    pace: usize,
    /// Requests of a window.
    requests: usize,
    /// Deliveries of a request.
    deliveries: usize,
    /// With one stream, nothing is left to do after a request until the next comes.
    has_pauses: bool,
    windows: Vec<Window>,
}

impl Contender {
    /// Opens the streams, and publishes at this pace until the server is warm. Finds how many requests
    /// fill a window.
    pub(crate) fn start(bench: &Bench, server: Server, load: &Load, pace: usize) -> Contender {
        let mut holder = Holder::open(server.address, load);
        holder.run(pace, WARM_UP_REQUESTS);
        let began = Instant::now();
        holder.run(pace, WARM_UP_REQUESTS);
        let requests = fitting(bench.window, WARM_UP_REQUESTS, began.elapsed());
        holder.run(pace, requests); // Until the history has grown to its size.
        let deliveries = load.paces()[pace].events * load.streams;
        Contender {
            server,
            holder,
            pace,
            requests,
            deliveries,
            has_pauses: load.streams == 1,
            windows: Vec::new(),
        }
    }

    fn measure(&mut self) {
        let Contender { server, holder, pace, requests, deliveries, has_pauses, windows } = self;
        let window = Window::of(server, || {
            holder.run(*pace, *requests);
            *requests * *deliveries
        });
        windows.push(Window { has_pauses: *has_pauses, ..window });
    }
}

/// CPU time for a delivery, for people.
fn cost(windows: &[Window]) -> String {
    match Interval::of(windows.iter().map(Window::cpu_ns)).map(|interval| interval.median) {
        Some(ns) => with_unit(ns, &TIMES),
        None => "–".to_owned(),
    }
}

/// The results of a contest over several starts.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The ratios of each pair of contenders.
    pub(crate) pairs: Vec<Pairs>,
    /// CPU time for a delivery by each contender, for people.
    pub(crate) costs: Vec<String>,
}

/// Holds a contest with a share of the rounds several times, each time with new contenders from `start`.
pub(crate) fn hold(bench: &Bench, start: impl Fn() -> Vec<Contender>, pairs: &[(usize, usize)]) -> Outcome {
    let mut found = vec![Pairs { ratios: Vec::new(), thrown: 0 }; pairs.len()];
    let mut windows: Vec<Vec<Window>> = Vec::new();
    for _ in 0..STARTS {
        let mut contenders = start();
        let of_start = take_turns(bench.rounds.div_ceil(STARTS), &mut contenders, pairs);
        for (found, more) in found.iter_mut().zip(of_start) {
            found.ratios.extend(more.ratios);
            found.thrown += more.thrown;
        }
        windows.resize(contenders.len(), Vec::new());
        for (windows, contender) in windows.iter_mut().zip(contenders) {
            windows.extend(contender.windows);
        }
    }
    Outcome { pairs: found, costs: windows.iter().map(|windows| cost(windows)).collect() }
}

/// Lets all take turns until each of these pairs, by their numbers, has `rounds` sound rounds, or twice
/// as many were made. Returns the pairs.
fn take_turns(rounds: usize, contenders: &mut [Contender], pairs: &[(usize, usize)]) -> Vec<Pairs> {
    for round in 0.. {
        // The first one changes, so that no server always follows the same other one.
        for place in 0..contenders.len() {
            let next = (place + round) % contenders.len();
            contenders[next].measure();
        }
        let of =
            |&(own, limit): &(usize, usize)| Pairs::of(&contenders[own].windows, &contenders[limit].windows);
        let found: Vec<Pairs> = pairs.iter().map(of).collect();
        let is_enough = found.iter().all(|pairs| pairs.ratios.len() >= rounds);
        if is_enough || round + 1 >= ROUNDS_TIMES_MAX * rounds {
            return found;
        }
    }
    unreachable!("rounds are bounded")
}
