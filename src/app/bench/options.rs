//! The options of `downpour bench` as they are given.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::client::ServerUrl;
use super::super::options::values::{Problem, bytes_within, count_within, duration, duration_above_zero};
use super::endpoints::{BatchFormat, HeaderTemplate, UrlTemplate};
use super::mark::Mark;
use super::plan::PROCESSES_MAX;

/// The options of `downpour bench`.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct BenchOptions {
    /// The address of a downpour server, which the URLs below are made of where they are not given.
    #[arg(long, env = "DOWNPOUR_URL", default_value = "http://127.0.0.1:8080", help_heading = SERVER)]
    pub(super) url: ServerUrl,
    /// Where streams are asked for; {channel} and {client} are replaced. Default: URL/sse?channel={channel}
    #[arg(long, value_name = "TEMPLATE", value_parser = UrlTemplate::parse, help_heading = SERVER)]
    pub(super) subscribe_url: Option<UrlTemplate>,
    /// Where events are POSTed; {channel} and {client} are replaced. Default: URL/channels/{channel}, for batches
    /// URL/publish
    #[arg(long, value_name = "TEMPLATE", value_parser = UrlTemplate::parse, help_heading = SERVER)]
    pub(super) publish_url: Option<UrlTemplate>,
    /// One event as it is published; {data}, {channel} and {client} are replaced. Default: {data}, for batches
    /// {"channel":"{channel}","text":"{data}"}
    #[arg(long, value_name = "TEMPLATE", help_heading = SERVER)]
    pub(super) publish_body: Option<String>,
    /// The content type of a publish. Default: text/plain; application/x-ndjson or application/json for batches
    #[arg(long, value_name = "TYPE", value_parser = content_type, help_heading = SERVER)]
    pub(super) content_type: Option<String>,
    /// How the events of a batch are joined: a line for each, or one JSON array.
    #[arg(long, value_name = "FORMAT", default_value = "ndjson", value_parser = batch_format, help_heading = SERVER)]
    pub(super) batch_format: BatchFormat,
    /// A header for every request, such as 'Authorization: Bearer KEY'; {channel} and {client} are replaced. May
    /// be repeated
    #[arg(long = "header", value_name = "HEADER", value_parser = HeaderTemplate::parse, help_heading = SERVER)]
    pub(super) headers: Vec<HeaderTemplate>,
    /// Ask for streams by HTTP/1.0, so that they come without chunked coding.
    #[arg(long = "http1.0", help_heading = SERVER)]
    pub(super) http10: bool,

    /// Streams to open; 0 measures publishing alone.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count_within(0..=10_000_000), help_heading = STREAMS)]
    pub(super) subscribers: usize,
    /// Channels; streams and events go round them.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=Mark::CHANNELS_MAX), help_heading = STREAMS)]
    pub(super) channels: usize,
    /// What the channels' names begin with; their number follows.
    #[arg(long, value_name = "TEXT", default_value = "bench-", value_parser = channel_prefix, help_heading = STREAMS)]
    pub(super) channel_prefix: String,
    /// Source addresses to connect from, 127.0.0.2 and up. The processes share them out.
    /// Default: for a server on 127.x one for every 20000 streams of each process
    #[arg(long, value_name = "N", value_parser = count_within(1..=200), conflicts_with = "source", help_heading = STREAMS)]
    pub(super) sources: Option<usize>,
    /// The same, address by address, separated by commas.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', help_heading = STREAMS)]
    pub(super) source: Vec<Ipv4Addr>,
    /// How fast streams are opened, such as 5000/s; 0 is as fast as the server takes them.
    #[arg(long, value_name = "RATE", default_value = "5000/s", value_parser = rate, help_heading = STREAMS)]
    pub(super) ramp: f64,
    /// Processes that read the streams, as each may have only so many open files; the first one publishes too.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=PROCESSES_MAX), help_heading = STREAMS)]
    pub(super) processes: usize,
    /// Threads of each process that read the streams.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=256), help_heading = STREAMS)]
    pub(super) threads: usize,
    /// CPUs that the reading threads run on, by number and separated by commas, one for each thread in turn, process by process. Default: any
    #[arg(long, value_name = "CPU", value_delimiter = ',', value_parser = count_within(0..=1023), help_heading = STREAMS)]
    pub(super) cpus_readers: Vec<usize>,
    /// Share of the streams that read slowly, such as 10%.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent, help_heading = STREAMS)]
    pub(super) slow: f64,
    /// Bytes a second that a slow stream reads.
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = bytes_within(1..=1 << 30), help_heading = STREAMS)]
    pub(super) slow_rate: usize,

    /// Events a second, over all channels; 0 is as fast as they are taken, with --window.
    #[arg(long, value_name = "RATE", default_value = "1000/s", value_parser = rate, help_heading = EVENTS)]
    pub(super) rate: f64,
    /// With --rate 0: events in flight at most, published but not yet received by the last stream that is not slow.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = count_within(1..=1 << 30), help_heading = EVENTS)]
    pub(super) window: usize,
    /// Publish each event only when every stream that is not slow has received the one before; --rate is not looked at.
    #[arg(long, help_heading = EVENTS)]
    pub(super) unbatched: bool,
    /// Bytes of an event's data. It begins with the event's number and the time it was sent.
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = bytes_within(Mark::BYTES..=16 << 20), help_heading = EVENTS)]
    pub(super) size: usize,
    /// Events in each request.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=100_000), help_heading = EVENTS)]
    pub(super) batch: usize,
    /// Connections to publish over; those of one channel go over the same one.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=10_000), help_heading = EVENTS)]
    pub(super) publishers: usize,
    /// The CPU that the publishing thread runs on. Default: any
    #[arg(long, value_name = "CPU", value_parser = count_within(0..=1023), help_heading = EVENTS)]
    pub(super) cpus_publisher: Option<usize>,
    /// Requests under way on each of them.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_within(1..=10_000), help_heading = EVENTS)]
    pub(super) pipeline: usize,

    /// Time of publishing before anything is measured.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, help_heading = TIME)]
    pub(super) warm_up: Duration,
    /// Time of publishing that is measured. Default: 10s
    #[arg(long, value_name = "DURATION", value_parser = duration_above_zero, conflicts_with = "events", help_heading = TIME)]
    pub(super) duration: Option<Duration>,
    /// Measure so many events, however long they take.
    #[arg(long, value_name = "N", value_parser = count_within(1..=1 << 40), help_heading = TIME)]
    pub(super) events: Option<usize>,
    /// Time without any progress after which what is waited for is given up.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration_above_zero, help_heading = TIME)]
    pub(super) stall: Duration,
    /// Time that slow streams get in the end to read what waits for them, at full speed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = TIME)]
    pub(super) drain: Duration,

    /// A process of the server, to measure its CPU time and memory. May be repeated, for servers of several.
    #[arg(long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..), help_heading = RESULT)]
    pub(super) pids: Vec<u32>,
    /// Take the latency of one delivery in so many. Default: 1; 64 with --rate 0
    #[arg(long, value_name = "N", value_parser = count_within(1..=1 << 20), help_heading = RESULT)]
    pub(super) latency_sample: Option<usize>,
    /// Write the result as JSON to this file; - is standard output, instead of the table.
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub(super) json: Option<PathBuf>,
}

/// A rate per second, with or without `/s`.
fn rate(text: &str) -> Result<f64, Problem> {
    const ALLOWED: &str =
        "a rate is a number from 0 to 1000000000 of times a second, such as 5000/s or 0.5/s";
    let digits = text.strip_suffix("/s").unwrap_or(text);
    number(digits).filter(|rate| *rate <= 1e9).ok_or_else(|| ALLOWED.to_owned())
}

/// A share in percent.
fn percent(text: &str) -> Result<f64, Problem> {
    const ALLOWED: &str = "a share is a number from 0% to 100%, such as 10%";
    let digits = text.strip_suffix('%').ok_or(ALLOWED)?;
    number(digits).filter(|percent| *percent <= 100.0).ok_or_else(|| ALLOWED.to_owned())
}

/// Digits, optionally with a point: `parse` alone would take `inf`, `-0` and `1e3` too.
fn number(digits: &str) -> Option<f64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits.parse().ok().filter(|_| is_plain)
}

/// Names that mean the same in URLs, in JSON and in headers, so that no template has to escape them.
fn channel_prefix(text: &str) -> Result<String, Problem> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if text.len() <= 200 && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err("it has at most 200 letters, digits and - . _ ~".to_owned())
}

fn content_type(text: &str) -> Result<String, Problem> {
    if !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("a media type such as application/json is expected".to_owned())
}

fn batch_format(text: &str) -> Result<BatchFormat, Problem> {
    match text {
        "ndjson" => Ok(BatchFormat::Ndjson),
        "array" => Ok(BatchFormat::Array),
        _ => Err("it must be one of ndjson, array".to_owned()),
    }
}

const SERVER: &str = "The server";
const STREAMS: &str = "Streams";
const EVENTS: &str = "Events";
const TIME: &str = "Time";
const RESULT: &str = "Result";

const NOTES: &str = "\
Examples:
  downpour bench --subscribers 10000 --rate 1000/s --pid 4711
  downpour bench --subscribers 2000 --rate 0 --batch 64 --json result.json
  downpour bench --subscribers 1000 --unbatched --events 10000
  downpour bench --subscribers 60000 --processes 4 --rate 100/s
  downpour bench --subscribe-url 'http://127.0.0.1:9000/sub/{channel}' --publish-url 'http://127.0.0.1:9000/pub/{channel}'

Every stream is held against the numbers of its events: lost, doubled and reordered ones are counted on each, and what a \
'gap' event says is missing is counted apart. Latency is from before a request is written until its event was read.

Its own work must not be the limit: the result says how busy the reading threads were. --cpus-readers and \
--cpus-publisher keep them off the server's CPUs. Streams are plain HTTP over TCP, without compression; the limit on open files, \
which each of the --processes has for itself, and the ports of a source address (--sources) bound their number.

Ctrl-C ends a run with the figures so far.
Exit codes: 0 the load ran as asked and nothing was lost untold, doubled or reordered; 1 otherwise; 2 wrong options.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares_are_plain_numbers() {
        assert_eq!((rate("5000/s"), rate("0.5"), rate("0")), (Ok(5000.0), Ok(0.5), Ok(0.0)));
        for text in ["", "/s", "-1", "1e3", "inf", "NaN", "5000/m", "1000000001"] {
            assert!(rate(text).unwrap_err().contains("5000/s"), "{text}");
        }
        assert_eq!((percent("10%"), percent("0%")), (Ok(10.0), Ok(0.0)));
        for text in ["10", "101%", "-1%", "%"] {
            assert!(percent(text).unwrap_err().contains("10%"), "{text}");
        }
    }

    #[test]
    fn channel_names_need_no_escaping() {
        assert!(channel_prefix("a-B.c_d~1").is_ok() && channel_prefix("").is_ok());
        assert!(channel_prefix("a/b").is_err() && channel_prefix("a\"b").is_err());
    }
}
