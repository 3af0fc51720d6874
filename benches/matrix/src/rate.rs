//! The load of a run, as options of `downpour bench`.

use std::time::Duration;

use crate::cell::{Pace, Run, Variant};

/// The load of a cell and a pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Events a second, at half capacity.
    pub(crate) rate_per_second: Option<f64>,
    /// Most events in flight, at saturation.
    pub(crate) window_events: Option<u64>,
    /// Events of one request.
    pub(crate) batch: u64,
}

impl Rate {
    /// `saturated_events` is how many events a second the same server took for the same cell. Only half
    /// capacity uses it.
    pub(crate) fn of(run: Run, saturated_events: f64) -> Rate {
        let window = window_events(run);
        match run.pace {
            Pace::Unbatched => Rate { rate_per_second: None, window_events: None, batch: 1 },
            Pace::Saturated => {
                Rate { rate_per_second: None, window_events: Some(window), batch: batch_max(run, window) }
            }
            Pace::Half => {
                let rate = (saturated_events / 2.0).max(RATE_MIN);
                // As few events in a request as keep requests from being the load.
                let batch = (rate / REQUESTS_MAX).ceil() as u64;
                let batch = batch.clamp(1, batch_max(run, window));
                Rate { rate_per_second: Some(rate), window_events: None, batch }
            }
        }
    }

    /// The options of `downpour bench` for this load, without those that name the server and the CPUs.
    pub(crate) fn arguments(self, run: Run, warm_up: Duration, duration: Duration) -> Vec<String> {
        let cell = run.cell;
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--subscribers", cell.streams.to_string());
        option("--channels", cell.channels.to_string());
        option("--size", cell.size_bytes.to_string());
        option("--ramp", "0".to_owned());
        option("--pipeline", PIPELINE.to_string());
        option("--batch", self.batch.to_string());
        option("--warm-up", format!("{}ms", warm_up.as_millis()));
        option("--duration", format!("{}ms", duration.as_millis()));
        match (self.rate_per_second, self.window_events) {
            (Some(rate), _) => option("--rate", format!("{rate:.3}/s")),
            (None, Some(window)) => {
                option("--rate", "0".to_owned());
                option("--window", window.to_string());
            }
            (None, None) => arguments.push("--unbatched".to_owned()),
        }
        match cell.variant {
            Variant::Plain => {}
            Variant::Http10 => arguments.push("--http1.0".to_owned()),
            Variant::Slow => arguments.extend(["--slow", "10%", "--drain", "2s"].map(str::to_owned)),
        }
        arguments
    }
}

/// Enough events that streams always wait with a good part of a second of work, and few enough that the
/// history holds them all. More would only make runs longer.
fn window_events(run: Run) -> u64 {
    let cell = run.cell;
    let in_flight = if run.contender.is_peer() { IN_FLIGHT_BYTES_OF_PEERS } else { IN_FLIGHT_BYTES };
    let events = in_flight * cell.channels / (cell.streams * cell.size_bytes);
    events.min(RETAINED_BYTES / cell.size_bytes).clamp(2, WINDOW_MAX)
}

/// Peers take one event in each request. For others the window has several requests, none of them large.
fn batch_max(run: Run, window: u64) -> u64 {
    if run.contender.is_peer() {
        return 1;
    }
    (window / 4).min(REQUEST_BYTES / run.cell.size_bytes).clamp(1, BATCH_MAX)
}

/// Requests under way: enough that half capacity does not wait for answers.
pub(crate) const PIPELINE: u64 = 64;

/// Bytes of events in flight, counted once for each of their streams.
const IN_FLIGHT_BYTES: u64 = 256 << 20;
const IN_FLIGHT_BYTES_OF_PEERS: u64 = 4 << 20;

/// Bytes of events in flight, counted once: well below the server's default of `--history-bytes`.
const RETAINED_BYTES: u64 = 64 << 20;

const WINDOW_MAX: u64 = 1 << 16;

const REQUEST_BYTES: u64 = 256 << 10;

const BATCH_MAX: u64 = 64;

/// Requests a second, at half capacity, above which a request has several events.
const REQUESTS_MAX: f64 = 2000.0;

/// The smallest number of events a second that may be asked for.
const RATE_MIN: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell, Contender};

    fn run(contender: Contender, pace: Pace, streams: u64, size_bytes: u64, channels: u64) -> Run {
        let cell = Cell { variant: Variant::Plain, size_bytes, channels, streams };
        Run { cell, pace, contender, repeat: 1 }
    }

    fn arguments(run: Run, saturated_events: f64) -> String {
        let load = Rate::of(run, saturated_events);
        load.arguments(run, Duration::from_millis(300), Duration::from_secs(2)).join(" ")
    }

    #[test]
    fn windows_follow_from_what_all_streams_have_to_get() {
        let window = |contender, streams, size, channels| {
            let load = Rate::of(run(contender, Pace::Saturated, streams, size, channels), 0.0);
            (load.window_events.unwrap(), load.batch)
        };
        assert_eq!(window(Contender::Epoll, 1_000, 64, 1), (4194, 64));
        assert_eq!(window(Contender::Epoll, 15_000, 16 << 10, 1), (2, 1));
        assert_eq!(window(Contender::Uring, 10_000, 64, 10_000), (1 << 16, 64));
        assert_eq!(window(Contender::Uring, 10_000, 16 << 10, 10_000), (4096, 16));
        assert_eq!(window(Contender::Nchan, 1_000, 64, 1), (65, 1), "peers get one event in a request");
    }

    #[test]
    fn half_capacity_is_half_the_rate_in_requests_as_small_as_can_be() {
        let load = |contender, events| {
            let load = Rate::of(run(contender, Pace::Half, 10_000, 64, 1_000), events);
            (load.rate_per_second.unwrap(), load.batch)
        };
        assert_eq!(load(Contender::Epoll, 1000.0), (500.0, 1));
        assert_eq!(load(Contender::Epoll, 4000.0), (2000.0, 1));
        assert_eq!(load(Contender::Epoll, 4001.0), (2000.5, 2));
        assert_eq!(load(Contender::Epoll, 10e6), (5e6, 64));
        assert_eq!(load(Contender::Nchan, 10e6), (5e6, 1));
        assert_eq!(load(Contender::Epoll, 0.0), (0.1, 1), "a rate of 0 would mean saturation");
    }

    #[test]
    fn the_options_of_a_run_are_those_of_its_pace_and_variant() {
        let start = "--subscribers 1000 --channels 1 --size 64 --ramp 0 --pipeline 64 --batch";
        let times = "--warm-up 300ms --duration 2000ms";
        let of = |pace| run(Contender::Epoll, pace, 1_000, 64, 1);
        assert_eq!(arguments(of(Pace::Unbatched), 0.0), format!("{start} 1 {times} --unbatched"));
        assert_eq!(arguments(of(Pace::Saturated), 0.0), format!("{start} 64 {times} --rate 0 --window 4194"));
        assert_eq!(arguments(of(Pace::Half), 3.0), format!("{start} 1 {times} --rate 1.500/s"));
        let variant = |variant| {
            let mut run = of(Pace::Unbatched);
            run.cell.variant = variant;
            arguments(run, 0.0)
        };
        assert!(variant(Variant::Http10).ends_with("--unbatched --http1.0"));
        assert!(variant(Variant::Slow).ends_with("--unbatched --slow 10% --drain 2s"));
    }
}
