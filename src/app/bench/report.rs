//! The result of a run: the options, the machine, the figures, and the faults.

use std::collections::BTreeMap;

use serde::Serialize;

use super::course::{Course, Measured};
use super::found::Found;
use super::latency::Summary;
use super::parameters::Parameters;
use super::plan::Plan;
use super::process::{Machine, Memory, ThreadTime};
use super::sequence::Tally;
use super::verdict;
use crate::http::http_date;

/// The result, in the form of its JSON. Figures that could not be measured are null.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) date: String,
    pub(super) machine: Machine,
    /// The server's `Server` header.
    pub(super) server_header: Option<String>,
    pub(super) parameters: Parameters,
    /// Why the exit code is not 0; empty if it is.
    pub(super) findings: Vec<String>,
    /// What limits the meaning of the figures.
    pub(super) remarks: Vec<String>,
    pub(super) connect: Connect,
    pub(super) run: Option<Run>,
    pub(super) losses: Losses,
    pub(super) server: Option<Server>,
    pub(super) kernel: KernelFigures,
    pub(super) failures: BTreeMap<String, u64>,
}

/// The streams and how they were opened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connect {
    pub(super) streams: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// From the start of a connection to the head of its stream.
    pub(super) latency: Option<Summary>,
    /// Streams that are not slow and ended unasked.
    pub(super) fast_ended: u64,
    pub(super) slow_ended: u64,
}

/// The measured part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// From its first event until all streams that are not slow had the last one.
    pub(super) seconds: f64,
    pub(super) events: u64,
    pub(super) events_per_second: f64,
    pub(super) requests: u64,
    /// Events received in that time, counted for each stream.
    pub(super) deliveries: u64,
    pub(super) deliveries_per_second: f64,
    /// Measured events that slow streams received after it.
    pub(super) late_deliveries: u64,
    /// Events that were published, counted for each stream of their channel.
    pub(super) expected_deliveries: u64,
    pub(super) received_bytes_per_delivery: Option<f64>,
    /// From before a publish was written until its event was read, for streams that are not slow.
    pub(super) latency: Option<Summary>,
    /// The share of these deliveries whose latency was taken.
    pub(super) latency_share: f64,
    /// From before a publish was written until its answer was read.
    pub(super) publish_latency: Option<Summary>,
    /// How much later than planned publishes were sent, if they have a rate.
    pub(super) publish_lateness: Option<Summary>,
    pub(super) readers: Vec<Busy>,
    pub(super) publisher: Busy,
}

/// How a thread of the bench spent its time, in shares.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Busy {
    /// On a CPU.
    pub(super) running: f64,
    /// Ready to run, without a CPU.
    pub(super) waiting_for_cpu: f64,
}

/// Faults in the delivery of events.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Losses {
    pub(super) fast: Tally,
    pub(super) slow: Tally,
    /// Events that slow streams had not read when their time was over.
    pub(super) unread: u64,
}

/// The server's processes in the measured part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Server {
    pub(super) cpu_seconds: f64,
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    /// Of one CPU.
    pub(super) cpu_share: f64,
    pub(super) cpu_ns_per_delivery: Option<f64>,
    pub(super) cpu_ns_per_event: Option<f64>,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
    pub(super) memory_before: Option<Memory>,
    pub(super) memory_ramped: Option<Memory>,
    pub(super) memory_end: Option<Memory>,
    /// Growth during the ramp, for each stream.
    pub(super) rss_bytes_per_stream: Option<f64>,
    pub(super) pss_bytes_per_stream: Option<f64>,
}

/// The kernel's counts for the whole machine; those of TCP have both ends of each connection.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KernelFigures {
    pub(super) tcp_bytes_before: u64,
    pub(super) tcp_bytes_ramped: u64,
    pub(super) tcp_bytes_end: Option<u64>,
    /// Packets dropped in the measured part because a CPU's backlog was full.
    pub(super) dropped_packets: Option<u64>,
}

impl Report {
    pub(super) fn new(plan: &Plan, parameters: Parameters, course: Course, all: Found) -> Report {
        let connect = connect(&course, &all);
        let run = course.measured.as_ref().map(|measured| run(plan, &course, measured, &all));
        let measured = course.measured.as_ref();
        let losses = Losses { fast: all.fast, slow: all.slow, unread: all.unread };
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            date: String::from_utf8_lossy(&http_date(course.began)).into_owned(),
            machine: Machine::this(),
            server_header: all.server.clone(),
            parameters,
            findings: verdict::findings(&course, &connect, &losses),
            remarks: Vec::new(),
            server: measured
                .filter(|_| !plan.pids.is_empty())
                .map(|part| server(&course, part, connect.streams)),
            connect,
            run,
            losses,
            kernel: KernelFigures {
                tcp_bytes_before: course.kernel_before.tcp_bytes,
                tcp_bytes_ramped: course.kernel_ramped.tcp_bytes,
                tcp_bytes_end: measured.map(|part| part.end.kernel.tcp_bytes),
                dropped_packets: measured.map(|part| {
                    part.end.kernel.dropped_packets.saturating_sub(part.start.kernel.dropped_packets)
                }),
            },
            failures: all.failures,
        };
        report.remarks = verdict::remarks(plan, &course, &report);
        report
    }
}

fn connect(course: &Course, all: &Found) -> Connect {
    let streams = all.connect_latency.len();
    let seconds = seconds(course.ramp_began_ns, all.last_begun_ns);
    Connect {
        streams,
        seconds,
        per_second: ratio(streams as f64, seconds).unwrap_or(0.0),
        latency: Summary::of(&all.connect_latency),
        fast_ended: all.fast_ended,
        slow_ended: all.slow_ended,
    }
}

fn run(plan: &Plan, course: &Course, measured: &Measured, all: &Found) -> Run {
    let end_ns = if measured.deliveries > 0 { measured.last_delivery_ns } else { measured.published_ns };
    let seconds = seconds(measured.start.at_ns, end_ns);
    let events = measured.places.end - measured.places.start;
    let expected = |channel: u32| {
        let published = plan.spread.published(channel, measured.places.end)
            - plan.spread.published(channel, measured.places.start);
        published * plan.subscribers_of(channel)
    };
    let channels = u32::try_from(plan.channels.len()).expect("channels are counted by a u32");
    let per_second = |count: u64| ratio(count as f64, seconds).unwrap_or(0.0);
    let wall_ns = measured.end.at_ns - measured.start.at_ns;
    let busy = |before: &ThreadTime, after: &ThreadTime| Busy {
        running: share(after.running_ns.saturating_sub(before.running_ns), wall_ns),
        waiting_for_cpu: share(after.waiting_ns.saturating_sub(before.waiting_ns), wall_ns),
    };
    Run {
        seconds,
        events,
        events_per_second: per_second(events),
        requests: measured.published.requests,
        deliveries: measured.deliveries,
        deliveries_per_second: per_second(measured.deliveries),
        late_deliveries: course.deliveries_in_all - measured.deliveries,
        expected_deliveries: (0..channels).map(expected).sum(),
        received_bytes_per_delivery: ratio(measured.received_bytes as f64, measured.deliveries as f64),
        latency: Summary::of(&all.latency),
        latency_share: 1.0 / plan.latency_sample as f64,
        publish_latency: Summary::of(&measured.published.answer_latency),
        publish_lateness: Summary::of(&measured.published.lateness),
        readers: measured.start.readers.iter().zip(&measured.end.readers).map(|(a, b)| busy(a, b)).collect(),
        publisher: busy(&measured.start.publisher, &measured.end.publisher),
    }
}

fn server(course: &Course, measured: &Measured, streams: u64) -> Server {
    let used = measured.end.usage - measured.start.usage;
    let events = measured.places.end - measured.places.start;
    let grown = |bytes: fn(&Memory) -> Option<u64>| {
        let (before, after) =
            (bytes(course.memory_before.as_ref()?)?, bytes(course.memory_ramped.as_ref()?)?);
        ratio(after as f64 - before as f64, streams as f64)
    };
    Server {
        cpu_seconds: used.cpu_ns as f64 / 1e9,
        user_seconds: used.user_ns as f64 / 1e9,
        system_seconds: used.system_ns as f64 / 1e9,
        cpu_share: share(used.cpu_ns, measured.end.at_ns - measured.start.at_ns),
        cpu_ns_per_delivery: ratio(used.cpu_ns as f64, measured.deliveries as f64),
        cpu_ns_per_event: ratio(used.cpu_ns as f64, events as f64),
        voluntary_switches: used.voluntary_switches,
        involuntary_switches: used.involuntary_switches,
        memory_before: course.memory_before,
        memory_ramped: course.memory_ramped,
        memory_end: course.memory_end,
        rss_bytes_per_stream: grown(|memory| Some(memory.rss_bytes)),
        pss_bytes_per_stream: grown(|memory| memory.pss_bytes),
    }
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}

fn share(part_ns: u64, whole_ns: u64) -> f64 {
    ratio(part_ns as f64, whole_ns as f64).unwrap_or(0.0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::course::Snapshot;
    use super::super::latency;
    use super::super::plan::tests::plan_and_parameters;
    use super::super::process::{Kernel, Usage};
    use super::super::publisher::Published;
    use super::super::table;
    use super::*;

    const MS: u64 = 1_000_000;

    fn snapshot(at_ms: u64, cpu_ms: u64, reader_ms: u64) -> Snapshot {
        Snapshot {
            at_ns: at_ms * MS,
            usage: Usage { cpu_ns: cpu_ms * MS, user_ns: cpu_ms * MS / 4, ..Usage::default() },
            kernel: Kernel { tcp_bytes: 8192, dropped_packets: 0 },
            publisher: ThreadTime { running_ns: reader_ms * MS / 10, waiting_ns: 0 },
            readers: vec![ThreadTime { running_ns: reader_ms * MS, waiting_ns: reader_ms * MS / 50 }],
        }
    }

    /// Two seconds of 100 events to 10 streams, with a reader that ran for `reader_ms` of it.
    pub(in super::super) fn course(reader_ms: u64) -> Course {
        let memory = |rss_bytes| Some(Memory { rss_bytes, pss_bytes: None });
        let mut answer_latency = latency::histogram();
        answer_latency.saturating_record(MS);
        let published = Published { requests: 100, answer_latency, lateness: latency::histogram() };
        Course {
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            ramp_began_ns: 500 * MS,
            memory_before: memory(1000),
            memory_ramped: memory(3000),
            measured: Some(Measured {
                start: snapshot(1000, 0, 0),
                end: snapshot(3000, 500, reader_ms),
                places: 5..105,
                published_ns: 2990 * MS,
                last_delivery_ns: 3000 * MS,
                deliveries: 1000,
                received_bytes: 100_000,
                published,
            }),
            deliveries_in_all: 1000,
            ..Course::default()
        }
    }

    fn found(fast: Tally) -> Found {
        let (mut connect_latency, mut latency) = (latency::histogram(), latency::histogram());
        (0..10).for_each(|_| connect_latency.saturating_record(MS));
        latency.saturating_record_n(2 * MS, 1000);
        Found {
            fast,
            slow: Tally::default(),
            latency,
            connect_latency,
            last_begun_ns: 1000 * MS,
            fast_ended: 0,
            slow_ended: 0,
            unread: 0,
            failures: BTreeMap::new(),
            server: Some("x".to_owned()),
        }
    }

    pub(in super::super) fn report(course: Course, fast: Tally) -> Report {
        let arguments = ["--subscribers", "10", "--rate", "50", "--pid", "1"];
        let (plan, parameters) = plan_and_parameters(&arguments).unwrap();
        Report::new(&plan, parameters, course, found(fast))
    }

    #[test]
    fn figures_are_of_the_measured_part() {
        let report = report(course(100), Tally::default());
        let (run, server) = (report.run.as_ref().unwrap(), report.server.as_ref().unwrap());
        assert_eq!((run.seconds, run.events, run.events_per_second), (2.0, 100, 50.0));
        assert_eq!((run.deliveries_per_second, run.expected_deliveries), (500.0, 1000));
        assert_eq!((server.cpu_ns_per_delivery, server.cpu_share), (Some(500_000.0), 0.25));
        assert_eq!((server.rss_bytes_per_stream, server.pss_bytes_per_stream), (Some(200.0), None));
        assert_eq!((report.connect.streams, report.connect.per_second), (10, 20.0));
        assert_eq!((report.findings.len(), report.remarks.len()), (0, 0), "{:?}", report.remarks);
    }

    #[test]
    fn the_table_has_a_line_for_each_figure() {
        let mut out = Vec::new();
        table::write(&report(course(1900), Tally::default()), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let fields = |line: &str| line.split(['│', '┆']).map(|field| field.trim_end().to_owned()).collect();
        let lines: Vec<Vec<String>> = text.lines().map(fields).collect();
        for (name, figure) in [
            (" streams", " 10 in 0.50 s, 20.0/s"),
            (" deliveries", " 1000 of 1000, 500/s"),
            (" events lost", " 0 untold, 0 told (0 gaps); 0 doubled, 0 reordered"),
            (" server CPU", " 500000 ns for each delivery, 25.0 % of one CPU"),
            ("   for each stream", " 200 bytes of RSS"),
            (" reading threads", " 95.0 % of a CPU, 1.9 % waiting for one"),
        ] {
            assert!(
                lines.iter().any(|line| *line == ["", name, figure, ""]),
                "{name} is missing in:\n{text}"
            );
        }
        assert!(text.contains("p50 2.0") && text.contains("note: a reading thread"), "{text}");
    }
}
