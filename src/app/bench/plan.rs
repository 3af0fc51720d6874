//! The plan of a run: the options with their defaults filled in, and checked against each other.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoints::{BatchFormat, Endpoints, UrlTemplate};
use super::mark::Intro;
use super::options::BenchOptions;
use super::spread::Spread;
use super::template::{Placeholder, Template};

/// A run of the bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) endpoints: Endpoints,
    pub(super) intro: Intro,
    pub(super) spread: Spread,
    pub(super) channels: Vec<String>,
    pub(super) subscribers: usize,
    pub(super) slow_subscribers: usize,
    pub(super) slow_bytes_per_second: usize,
    pub(super) sources: Sources,
    /// Streams opened in a second; `None` for as many as the server takes.
    pub(super) ramp: Option<f64>,
    /// Processes that read streams, including the first one.
    pub(super) processes: usize,
    /// Reading threads of each process.
    pub(super) threads: usize,
    /// CPUs for the readers, in turn, process by process; empty for any.
    pub(super) reader_cpus: Vec<usize>,
    pub(super) publisher_cpu: Option<usize>,
    pub(super) pace: Pace,
    pub(super) size: usize,
    pub(super) batch: u32,
    pub(super) publishers: usize,
    pub(super) pipeline: usize,
    pub(super) warm_up: Duration,
    pub(super) extent: Extent,
    pub(super) stall: Duration,
    pub(super) drain: Duration,
    pub(super) pids: Vec<u32>,
    /// One delivery in this many has its latency taken.
    pub(super) latency_sample: u64,
}

/// When an event may be published.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Pace {
    /// This many in a second.
    Rate(f64),
    /// While fewer than this many are in flight.
    Window(u64),
    /// When all streams that are not slow have the one before.
    Unbatched,
}

/// The length of the measured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Extent {
    Time(Duration),
    Events(u64),
}

/// The source addresses of streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sources {
    /// If the server is on a loopback address, one loopback address for every [`STREAMS_PER_SOURCE`]
    /// streams. Otherwise the kernel chooses.
    Auto,
    Addresses(Vec<Ipv4Addr>),
}

impl Plan {
    /// Fills in defaults. `seed` makes the run's marks unique.
    ///
    /// # Errors
    /// One sentence that names the conflicting options, and what would work.
    pub(super) fn new(options: &BenchOptions, seed: u64) -> Result<Plan, String> {
        let endpoints = endpoints(options)?;
        let names_channel = endpoints.publish_url.names_channel();
        let is_named = names_channel || endpoints.publish_body.has(Placeholder::Channel);
        let (channels, batch) = (options.channels, as_u32(options.batch));
        if channels > 1 && !endpoints.subscribe_url.names_channel() {
            return Err(format!("--channels {channels} needs {{channel}} in --subscribe-url"));
        }
        if channels > 1 && !is_named {
            return Err(format!(
                "--channels {channels} needs {{channel}} in --publish-url or --publish-body"
            ));
        }
        if !endpoints.publish_body.has(Placeholder::Data) {
            return Err("--publish-body needs {data}, which tells the events apart".to_owned());
        }
        let publishers = options.publishers;
        if publishers > channels {
            return Err(format!(
                "--publishers {publishers} are more than --channels {channels}: the events of a channel go over one \
                 connection, or they would lose their order"
            ));
        }
        if publishers > 1 && batch > 1 && !names_channel {
            return Err(format!(
                "--publishers {publishers} with --batch {batch} needs {{channel}} in --publish-url: a batch of many \
                 channels goes over one connection, or they would lose their order"
            ));
        }
        let (processes, subscribers) = (options.processes, options.subscribers);
        if processes > 1 && processes > subscribers {
            return Err(format!(
                "--processes {processes} are more than --subscribers {subscribers}: each is to read a stream at least"
            ));
        }
        if options.unbatched && batch > 1 {
            return Err(format!(
                "--unbatched and --batch {batch} contradict each other: it publishes one event at a time"
            ));
        }
        let pace = match (options.unbatched, options.rate) {
            (true, _) => Pace::Unbatched,
            (false, 0.0) => Pace::Window(as_u64(options.window)),
            (false, rate) => Pace::Rate(rate),
        };
        if let Pace::Window(window) = pace
            && window < u64::from(batch)
        {
            return Err(format!("--batch {batch} is more than --window {window} lets into flight"));
        }
        let extent = match options.events {
            Some(events) => Extent::Events(as_u64(events)),
            None => Extent::Time(options.duration.unwrap_or(DURATION)),
        };
        let default_sample = if matches!(pace, Pace::Window(_)) { SATURATED_SAMPLE } else { 1 };
        let plan = Plan {
            intro: Intro::new(seed),
            spread: Spread::new(as_u32(channels), if names_channel { batch } else { 1 }),
            channels: (0..channels).map(|at| format!("{}{at}", options.channel_prefix)).collect(),
            subscribers,
            slow_subscribers: share(options.subscribers, options.slow),
            slow_bytes_per_second: options.slow_rate,
            sources: match (options.sources, &options.source[..]) {
                (Some(count), _) => Sources::Addresses(loopback_sources(0..count)),
                (None, []) => Sources::Auto,
                (None, addresses) => Sources::Addresses(addresses.to_vec()),
            },
            ramp: Some(options.ramp).filter(|&ramp| ramp > 0.0),
            processes: options.processes,
            threads: options.threads,
            reader_cpus: options.cpus_readers.clone(),
            publisher_cpu: options.cpus_publisher,
            pace,
            size: options.size,
            batch,
            publishers,
            pipeline: options.pipeline,
            warm_up: options.warm_up,
            extent,
            stall: options.stall,
            drain: options.drain,
            pids: options.pids.clone(),
            latency_sample: options.latency_sample.map_or(default_sample, as_u64),
            endpoints,
        };
        Ok(plan)
    }

    /// The channel of a subscriber: subscribers take channels in turn.
    pub(super) fn channel_of(&self, subscriber: usize) -> u32 {
        as_u32(subscriber % self.channels.len())
    }

    /// The number of streams of a channel.
    pub(super) fn subscribers_of(&self, channel: u32) -> u64 {
        self.among_first(self.subscribers, channel)
    }

    /// The number of them that are not slow.
    pub(super) fn fast_subscribers_of(&self, channel: u32) -> u64 {
        self.subscribers_of(channel) - self.among_first(self.slow_subscribers, channel)
    }

    fn among_first(&self, count: usize, channel: u32) -> u64 {
        let channels = self.channels.len();
        as_u64(count / channels + usize::from(count % channels > channel as usize))
    }

    /// Returns true if and only if the subscriber reads slowly. The first ones do.
    pub(super) fn is_slow(&self, subscriber: usize) -> bool {
        subscriber < self.slow_subscribers
    }

    /// The number of streams that a process of the run reads. The first process, 0, has at least as many
    /// as any other.
    pub(super) fn subscribers_in(&self, process: usize) -> usize {
        self.subscribers.saturating_sub(process).div_ceil(self.processes)
    }

    /// Descriptors that each process needs, with a few for itself. All get as many as the first one,
    /// which also publishes and has pipes to the others.
    pub(super) fn descriptors(&self) -> usize {
        self.descriptors_with(self.processes)
    }

    /// The smallest number of processes that each need at most `limit` descriptors; `None` if there is
    /// none.
    pub(super) fn processes_within(&self, limit: usize) -> Option<usize> {
        let allowed = PROCESSES_MAX.min(self.subscribers.max(1));
        (1..=allowed).find(|&processes| self.descriptors_with(processes) <= limit)
    }

    fn descriptors_with(&self, processes: usize) -> usize {
        let (streams, pipes) = (self.subscribers.div_ceil(processes), PIPES * (processes - 1));
        streams + self.publishers + pipes + DESCRIPTORS_SPARE + 2 * self.threads
    }
}

fn endpoints(options: &BenchOptions) -> Result<Endpoints, String> {
    let own = |path: &str| {
        let url = options.url.endpoint(path);
        UrlTemplate::parse(&url).map_err(|problem| format!("--url cannot be used for this: {problem}"))
    };
    let is_batch = options.batch > 1;
    let is_own = options.publish_url.is_none();
    let (own_path, own_body) = if is_batch {
        ("/publish", r#"{"channel":"{channel}","text":"{data}"}"#)
    } else {
        ("/channels/{channel}", "{data}")
    };
    let default_body = if is_own { own_body } else { "{data}" };
    let body = options.publish_body.clone().unwrap_or_else(|| default_body.to_owned());
    let batch_format = is_batch.then_some(options.batch_format);
    let content_type = options.content_type.clone().unwrap_or_else(|| {
        match batch_format {
            None => "text/plain",
            Some(BatchFormat::Ndjson) => "application/x-ndjson",
            Some(BatchFormat::Array) => "application/json",
        }
        .to_owned()
    });
    Ok(Endpoints {
        subscribe_url: options.subscribe_url.clone().map_or_else(|| own("/sse?channel={channel}"), Ok)?,
        publish_url: options.publish_url.clone().map_or_else(|| own(own_path), Ok)?,
        publish_body: Template::parse(&body),
        content_type,
        batch_format,
        headers: options.headers.clone(),
        is_http10: options.http10,
    })
}

/// The loopback addresses at these places from 127.0.0.2 on. 127.0.0.1 is for the server and the
/// publishers.
pub(super) fn loopback_sources(places: Range<usize>) -> Vec<Ipv4Addr> {
    let first = Ipv4Addr::new(127, 0, 0, 2).to_bits();
    places.map(|place| Ipv4Addr::from_bits(first + as_u32(place))).collect()
}

/// `percent` of `count`, rounded to the nearest.
fn share(count: usize, percent: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most `count`, and not below 0"
    )]
    let part = (count as f64 * percent / 100.0).round() as usize;
    part.min(count)
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).expect("the option's bound fits a u32")
}

fn as_u64(count: usize) -> u64 {
    count as u64
}

/// One source address has some 28 000 ports by default (`ip(7)`, `ip_local_port_range`). A connect tries
/// the 14 000 even ones first. Once these are taken, every connect tries all of them in vain before it
/// finds an odd one.
pub(super) const STREAMS_PER_SOURCE: usize = 14_000;

const DURATION: Duration = Duration::from_secs(10);

/// At saturation a sample is as good, and does not load the readers that it measures.
const SATURATED_SAMPLE: u64 = 64;

/// Most processes of a run.
pub(super) const PROCESSES_MAX: usize = 256;

/// Descriptors of the first process for each worker.
const PIPES: usize = 3;

/// Standard streams, the epoll instances, and files of /proc while they are read.
const DESCRIPTORS_SPARE: usize = 32;

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::super::parameters::Parameters;
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: BenchOptions,
    }

    /// The plan for these options.
    pub(in super::super) fn plan(arguments: &[&str]) -> Result<Plan, String> {
        plan_and_parameters(arguments).map(|(plan, _)| plan)
    }

    pub(in super::super) fn plan_and_parameters(arguments: &[&str]) -> Result<(Plan, Parameters), String> {
        let options = Command::try_parse_from([&["bench"], arguments].concat()).ok().unwrap().options;
        let plan = Plan::new(&options, 1)?;
        let parameters = Parameters::of(&options, &plan);
        Ok((plan, parameters))
    }

    fn published(plan: &Plan) -> (String, String, &str) {
        let text = |template: &Template| {
            let values = super::super::template::Values { channel: "CHANNEL", client: 0, data: b"DATA" };
            let mut out = Vec::new();
            template.render(&values, &mut out);
            String::from_utf8(out).unwrap()
        };
        (
            plan.endpoints.publish_url.to_string(),
            text(&plan.endpoints.publish_body),
            &plan.endpoints.content_type,
        )
    }

    #[test]
    fn the_defaults_fit_our_own_server() {
        let single = plan(&["--url", "http://127.0.0.1:9"]).unwrap();
        assert_eq!(single.endpoints.subscribe_url.to_string(), "http://127.0.0.1:9/sse?channel={channel}");
        let expected = ("http://127.0.0.1:9/channels/{channel}".to_owned(), "DATA".to_owned(), "text/plain");
        assert_eq!(published(&single), expected);
        let batch = plan(&["--url", "http://127.0.0.1:9", "--batch", "8"]).unwrap();
        let body = r#"{"channel":"CHANNEL","text":"DATA"}"#.to_owned();
        assert_eq!(
            published(&batch),
            ("http://127.0.0.1:9/publish".to_owned(), body, "application/x-ndjson")
        );
        assert_eq!((single.latency_sample, single.extent), (1, Extent::Time(DURATION)));
    }

    #[test]
    fn options_that_do_not_go_together_are_reported_by_name() {
        let other = ["--subscribe-url", "http://a/s", "--publish-url", "http://a/p"];
        for (arguments, words) in [
            (&["--channels", "2", other[0], other[1]][..], ["--channels 2", "--subscribe-url"]),
            (&["--channels", "2", other[2], other[3]], ["--channels 2", "--publish-url or --publish-body"]),
            (&["--publish-body", "x"], ["--publish-body", "{data}"]),
            (&["--publishers", "2"], ["--publishers 2", "--channels 1"]),
            (&["--publishers", "2", "--channels", "2", "--batch", "4"], ["--publishers 2", "--batch 4"]),
            (&["--unbatched", "--batch", "4"], ["--unbatched", "--batch 4"]),
            (&["--rate", "0", "--batch", "8", "--window", "4"], ["--batch 8", "--window 4"]),
        ] {
            let problem = plan(arguments).unwrap_err();
            assert!(words.iter().all(|word| problem.contains(word)), "{arguments:?}: {problem}");
        }
    }

    #[test]
    fn slow_streams_are_a_share_and_the_rest_is_counted_by_channel() {
        let plan = plan(&["--subscribers", "25", "--slow", "10%", "--channels", "4"]).unwrap();
        assert_eq!(plan.slow_subscribers, 3);
        for channel in 0..4 {
            let fast = (0..25).filter(|&at| plan.channel_of(at) == channel && !plan.is_slow(at)).count();
            assert_eq!(plan.fast_subscribers_of(channel), fast as u64, "channel {channel}");
        }
    }

    #[test]
    fn sources_count_up_from_the_second_loopback_address() {
        let sources = |arguments: &[&str]| plan(arguments).unwrap().sources;
        assert_eq!(sources(&[]), Sources::Auto);
        let two = Sources::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)]);
        assert_eq!(sources(&["--sources", "2"]), two);
        assert_eq!(sources(&["--source", "127.0.0.2,127.0.0.3"]), two);
    }
}
