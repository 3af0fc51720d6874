//! Every option with its effective value, for the result.

use std::time::Duration;

use serde::Serialize;

use super::endpoints::BatchFormat;
use super::options::BenchOptions;
use super::plan::{Extent, Pace, Plan};

/// Every option with its effective value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    subscribe_url: String,
    publish_url: String,
    publish_body: String,
    content_type: String,
    http10: bool,
    subscribers: usize,
    slow_subscribers: usize,
    slow_rate_bytes: usize,
    channels: usize,
    channel_prefix: String,
    ramp_per_second: Option<f64>,
    processes: usize,
    reader_threads: usize,
    cpus_readers: Vec<usize>,
    cpus_publisher: Option<usize>,
    mode: &'static str,
    rate_per_second: Option<f64>,
    window_events: Option<u64>,
    size_bytes: usize,
    batch: u32,
    batch_format: &'static str,
    publishers: usize,
    pipeline: usize,
    warm_up_seconds: f64,
    duration_seconds: Option<f64>,
    events: Option<u64>,
    stall_seconds: f64,
    drain_seconds: f64,
    latency_sample: u64,
    pids: Vec<u32>,
}

impl Parameters {
    /// The options that `plan` was made from.
    pub(super) fn of(options: &BenchOptions, plan: &Plan) -> Parameters {
        let (duration, events) = match plan.extent {
            Extent::Time(time) => (Some(time), None),
            Extent::Events(events) => (None, Some(events)),
        };
        Parameters {
            subscribe_url: plan.endpoints.subscribe_url.to_string(),
            publish_url: plan.endpoints.publish_url.to_string(),
            publish_body: plan.endpoints.publish_body.to_string(),
            content_type: plan.endpoints.content_type.clone(),
            http10: plan.endpoints.is_http10,
            subscribers: plan.subscribers,
            slow_subscribers: plan.slow_subscribers,
            slow_rate_bytes: plan.slow_bytes_per_second,
            channels: options.channels,
            channel_prefix: options.channel_prefix.clone(),
            ramp_per_second: plan.ramp,
            processes: plan.processes,
            reader_threads: plan.threads,
            cpus_readers: plan.reader_cpus.clone(),
            cpus_publisher: plan.publisher_cpu,
            mode: match plan.pace {
                Pace::Rate(_) => "rate",
                Pace::Window(_) => "window",
                Pace::Unbatched => "unbatched",
            },
            rate_per_second: if let Pace::Rate(rate) = plan.pace { Some(rate) } else { None },
            window_events: if let Pace::Window(events) = plan.pace { Some(events) } else { None },
            size_bytes: plan.size,
            batch: plan.batch,
            batch_format: match options.batch_format {
                BatchFormat::Ndjson => "ndjson",
                BatchFormat::Array => "array",
            },
            publishers: plan.publishers,
            pipeline: plan.pipeline,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            duration_seconds: duration.as_ref().map(Duration::as_secs_f64),
            events,
            stall_seconds: plan.stall.as_secs_f64(),
            drain_seconds: plan.drain.as_secs_f64(),
            latency_sample: plan.latency_sample,
            pids: plan.pids.clone(),
        }
    }
}
