//! A run as a line of the CSV: its load, its place, and its figures.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Contender, Pace, Run, Variant};
use crate::rate::{PIPELINE, Rate};
use crate::result::Report;

/// One line. Fields that were not measured are empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// When the run began, in the format of HTTP.
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: Option<u64>,
    pub(crate) repeat: u32,
    pub(crate) server: Contender,
    pub(crate) server_version: String,
    pub(crate) streams: u64,
    pub(crate) size_bytes: u64,
    pub(crate) channels: u64,
    pub(crate) variant: Variant,
    pub(crate) pace: Pace,
    pub(crate) rate_per_second: Option<f64>,
    pub(crate) window_events: Option<u64>,
    pub(crate) batch: u64,
    pub(crate) pipeline: u64,
    /// The duration asked for; `seconds` is the time until all streams had everything.
    pub(crate) duration_seconds: f64,
    pub(crate) seconds: Option<f64>,
    pub(crate) events: Option<u64>,
    pub(crate) events_per_second: Option<f64>,
    pub(crate) deliveries: Option<u64>,
    pub(crate) expected_deliveries: Option<u64>,
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) cpu_ns_per_delivery: Option<f64>,
    /// Of one CPU.
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) latency_p50_ns: Option<u64>,
    pub(crate) latency_p99_ns: Option<u64>,
    pub(crate) latency_max_ns: Option<u64>,
    pub(crate) lost_untold: Option<u64>,
    pub(crate) lost_told: Option<u64>,
    pub(crate) doubled: Option<u64>,
    pub(crate) reordered: Option<u64>,
    pub(crate) misdelivered: Option<u64>,
    pub(crate) slow_lost_untold: Option<u64>,
    pub(crate) slow_lost_told: Option<u64>,
    pub(crate) slow_unread: Option<u64>,
    /// Streams that ended unasked.
    pub(crate) streams_ended: Option<u64>,
    pub(crate) rss_bytes_per_stream: Option<f64>,
    pub(crate) connects_per_second: Option<f64>,
    pub(crate) connect_p99_ns: Option<u64>,
    /// Of the bench's one CPU.
    pub(crate) readers_cpu_share: Option<f64>,
    pub(crate) publisher_cpu_share: Option<f64>,
    pub(crate) dropped_packets: Option<u64>,
    /// What limits the meaning of the figures.
    pub(crate) notes: String,
    /// Why the run failed.
    pub(crate) findings: String,
}

/// The machine and the versions of a run.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) commit: String,
    pub(crate) server_version: String,
    pub(crate) duration_seconds: f64,
}

/// A row of fields that are always there, and of parts of a report that may be missing.
macro_rules! row {
    ({ $($name:ident: $value:expr,)* } $($part:ident: { $($of_part:ident: $($field:ident).+),* $(,)? })*) => {
        Row {
            $($name: $value,)*
            $($($of_part: $part.map(|part| part.$($field).+),)*)*
        }
    };
}

impl Row {
    /// The row of a run without figures; `trouble` is the reason.
    pub(crate) fn failed(run: Run, load: Rate, origin: &Origin, trouble: String) -> Row {
        let report = Report { findings: vec![trouble], ..Report::default() };
        Row::new(run, load, origin, &report)
    }

    pub(crate) fn new(run: Run, load: Rate, origin: &Origin, report: &Report) -> Row {
        let Report { machine, connect, run: measured, losses, server, kernel, .. } = report;
        let (measured, connect, server) = (measured.as_ref(), connect.as_ref(), server.as_ref());
        let latency = measured.and_then(|measured| measured.latency.as_ref());
        // Without streams nothing was counted.
        let losses = connect.and(losses.as_ref());
        let fast = losses.map(|losses| &losses.fast);
        let slow = losses.map(|losses| &losses.slow);
        row! {
            {
                date: report.date.clone(),
                commit: origin.commit.clone(),
                kernel: machine.kernel.clone(),
                cpu: machine.cpu.clone(),
                cpus: machine.cpus,
                repeat: run.repeat,
                server: run.contender,
                server_version: origin.server_version.clone(),
                streams: run.cell.streams,
                size_bytes: run.cell.size_bytes,
                channels: run.cell.channels,
                variant: run.cell.variant,
                pace: run.pace,
                rate_per_second: load.rate_per_second,
                window_events: load.window_events,
                batch: load.batch,
                pipeline: PIPELINE,
                duration_seconds: origin.duration_seconds,
                cpu_ns_per_delivery: server.and_then(|server| server.cpu_ns_per_delivery),
                rss_bytes_per_stream: server.and_then(|server| server.rss_bytes_per_stream),
                streams_ended: connect.map(|connect| connect.fast_ended + connect.slow_ended),
                connect_p99_ns: connect.and_then(|connect| Some(connect.latency.as_ref()?.p99_ns)),
                readers_cpu_share: measured.map(|run| run.readers.iter().map(|busy| busy.running).sum()),
                dropped_packets: kernel.as_ref().and_then(|kernel| kernel.dropped_packets),
                notes: report.remarks.join("; "),
                findings: report.findings.join("; "),
            }
            measured: {
                seconds: seconds,
                events: events,
                events_per_second: events_per_second,
                deliveries: deliveries,
                expected_deliveries: expected_deliveries,
                deliveries_per_second: deliveries_per_second,
                publisher_cpu_share: publisher.running,
            }
            latency: { latency_p50_ns: p50_ns, latency_p99_ns: p99_ns, latency_max_ns: max_ns }
            fast: {
                lost_untold: lost_untold,
                lost_told: lost_told,
                doubled: doubled,
                reordered: reordered,
                misdelivered: misdelivered,
            }
            slow: { slow_lost_untold: lost_untold, slow_lost_told: lost_told }
            losses: { slow_unread: unread }
            server: { server_cpu_share: cpu_share }
            connect: { connects_per_second: per_second }
        }
    }

    /// The run of this row.
    pub(crate) fn run(&self) -> Run {
        let &Row { variant, size_bytes, channels, streams, pace, server: contender, repeat, .. } = self;
        Run { cell: Cell { variant, size_bytes, channels, streams }, pace, contender, repeat }
    }

    /// Returns true if and only if events were lost, doubled, reordered or misdelivered to streams that
    /// are not slow.
    pub(crate) fn has_losses(&self) -> bool {
        [self.lost_untold, self.lost_told, self.doubled, self.reordered, self.misdelivered]
            .into_iter()
            .flatten()
            .any(|count| count > 0)
    }

    /// Returns true if and only if the bench's CPU was nearly full, so that the bench may have been the
    /// limit, not the server.
    pub(crate) fn is_limited_by_bench(&self) -> bool {
        let share = self.readers_cpu_share.unwrap_or(0.0) + self.publisher_cpu_share.unwrap_or(0.0);
        share > BENCH_CPU_SHARE_MAX
    }
}

/// Reads all rows of a CSV.
///
/// # Errors
/// A line is not in our format. The last one may have been cut off by a power failure or a full disk.
pub(crate) fn read(csv: impl std::io::Read) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::Reader::from_reader(csv);
    let rows = reader.deserialize().enumerate();
    rows.map(|(at, row)| row.with_context(|| format!("row {} cannot be read", at + 1))).collect()
}

/// Writes rows, `with_header` if they are the first.
pub(crate) fn write(rows: &[Row], with_header: bool, csv: impl std::io::Write) -> anyhow::Result<()> {
    let mut writer = csv::WriterBuilder::new().has_headers(with_header).from_writer(csv);
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.flush()?)
}

const BENCH_CPU_SHARE_MAX: f64 = 0.95;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::result::tests::REPORT;

    /// A row as a run of `downpour bench` makes it.
    pub(crate) fn row(run: Run) -> Row {
        let origin =
            Origin { commit: "abc".to_owned(), server_version: "1, \"x\"".to_owned(), duration_seconds: 2.0 };
        Row::new(run, Rate::of(run, 100.0), &origin, &serde_json::from_str(REPORT).unwrap())
    }

    pub(crate) fn run(contender: Contender, pace: Pace, repeat: u32) -> Run {
        let cell = Cell { variant: Variant::Plain, size_bytes: 64, channels: 1, streams: 1000 };
        Run { cell, pace, contender, repeat }
    }

    #[test]
    fn a_row_says_what_was_asked_and_what_was_measured() {
        let row = row(run(Contender::Epoll, Pace::Half, 2));
        assert_eq!((row.run(), row.rate_per_second), (run(Contender::Epoll, Pace::Half, 2), Some(50.0)));
        assert_eq!((row.cpu_ns_per_delivery, row.latency_p99_ns), (Some(4810.5), Some(6_220_152)));
        assert_eq!((row.lost_untold, row.slow_lost_told, row.slow_unread), (Some(1), Some(7), Some(3)));
        assert_eq!((row.rss_bytes_per_stream, row.connects_per_second), (Some(254.0), Some(8809.5)));
        assert_eq!((row.streams_ended, row.dropped_packets), (Some(3), Some(9)));
        assert_eq!((&row.notes[..], &row.findings[..]), ("a note; another", "a finding"));
        assert!(row.has_losses() && row.is_limited_by_bench());
    }

    #[test]
    fn rows_are_read_as_they_were_written_also_those_that_were_appended() {
        let first = row(run(Contender::BetterSse, Pace::Saturated, 1));
        let origin =
            Origin { commit: "abc".to_owned(), server_version: String::new(), duration_seconds: 2.0 };
        let failed = run(Contender::Uring, Pace::Unbatched, 1);
        let trouble = "it said \"no\",\nand ended".to_owned();
        let failed = Row::failed(failed, Rate::of(failed, 0.0), &origin, trouble);
        assert_eq!((failed.deliveries, failed.lost_untold, failed.has_losses()), (None, None, false));
        let mut csv = Vec::new();
        write(std::slice::from_ref(&first), true, &mut csv).unwrap();
        write(std::slice::from_ref(&failed), false, &mut csv).unwrap();
        assert_eq!(read(&csv[..]).unwrap(), [first, failed]);
        let text = String::from_utf8(csv).unwrap();
        assert!(text.starts_with("date,commit,kernel,cpu,cpus,repeat,server,"), "{text}");
        assert!(text.contains(",better-sse,") && text.contains(",plain,saturated,"), "{text}");
    }

    #[test]
    fn a_row_that_was_cut_off_is_named() {
        let mut csv = Vec::new();
        write(&[row(run(Contender::Epoll, Pace::Half, 1))], true, &mut csv).unwrap();
        csv.extend_from_slice(b"Sun, 22 Nov");
        let error = read(&csv[..]).unwrap_err();
        assert_eq!(error.to_string(), "row 2 cannot be read");
    }
}
