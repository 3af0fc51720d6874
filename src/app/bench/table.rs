//! The result for people.

use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::latency::Summary;
use super::process::Memory;
use super::report::{Busy, Report};
use super::sequence::Tally;

/// More reading threads than this are not shown each.
const READERS_SHOWN_MAX: usize = 4;

/// Writes the result as a table of names and figures, followed by what limits their meaning.
pub(super) fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let failures =
        report.failures.iter().map(|(failure, count)| ("connections", format!("{count} x {failure}")));
    let rows = rows(report).into_iter().chain(failures);
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).add_rows(rows.map(|(name, figure)| [name.to_owned(), figure]));
    writeln!(out, "{table}")?;
    for remark in &report.remarks {
        writeln!(out, "note: {remark}")?;
    }
    out.flush()
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let connect = &report.connect;
    let mut rows = vec![(
        "streams",
        format!("{} in {:.2} s, {}/s", connect.streams, connect.seconds, count(connect.per_second)),
    )];
    push_latency(&mut rows, "  connect", connect.latency.as_ref());
    if let Some(run) = &report.run {
        rows.push(("measured", format!("{:.2} s", run.seconds)));
        rows.push(("events", format!("{}, {}/s", run.events, count(run.events_per_second))));
        rows.push(("deliveries", deliveries(report)));
        push_latency(&mut rows, "  latency", run.latency.as_ref());
        if run.latency.is_some() && run.latency_share < 1.0 {
            rows.push(("  sampled", format!("{:.2} % of the deliveries", 100.0 * run.latency_share)));
        }
        push_latency(&mut rows, "publish answered", run.publish_latency.as_ref());
        push_latency(&mut rows, "publish late by", run.publish_lateness.as_ref());
    }
    push_tally(&mut rows, "events lost", &report.losses.fast);
    if report.losses.slow != Tally::default() || report.losses.unread > 0 {
        push_tally(&mut rows, "  by slow streams", &report.losses.slow);
        rows.push(("  not read in time", report.losses.unread.to_string()));
    }
    push_server(&mut rows, report);
    if let Some(run) = &report.run {
        rows.push(("reading threads", busy_readers(&run.readers)));
        rows.push(("publishing thread", busy(&run.publisher)));
    }
    rows
}

fn deliveries(report: &Report) -> String {
    let Some(run) = &report.run else { return String::new() };
    let per_second = count(run.deliveries_per_second);
    let mut text = format!("{} of {}, {per_second}/s", run.deliveries, run.expected_deliveries);
    if run.late_deliveries > 0 {
        text.push_str(&format!("; {} later", run.late_deliveries));
    }
    text
}

fn push_server(rows: &mut Vec<(&'static str, String)>, report: &Report) {
    if let Some(server) = &report.server {
        let each = server.cpu_ns_per_delivery.or(server.cpu_ns_per_event).unwrap_or(0.0);
        let unit = if server.cpu_ns_per_delivery.is_some() { "delivery" } else { "event" };
        rows.push((
            "server CPU",
            format!("{each:.0} ns for each {unit}, {:.1} % of one CPU", 100.0 * server.cpu_share),
        ));
        let (user, system) = (server.user_seconds, server.system_seconds);
        rows.push(("  user, system", format!("{user:.2} s, {system:.2} s")));
        let (voluntary, involuntary) = (server.voluntary_switches, server.involuntary_switches);
        rows.push(("  switches", format!("{voluntary} voluntary, {involuntary} involuntary")));
        let parts = [server.memory_before, server.memory_ramped, server.memory_end];
        let parts: Vec<String> = parts.iter().flatten().map(memory).collect();
        rows.push(("server memory", format!("{} (before, with streams, at the end)", parts.join(", "))));
        if let Some(bytes) = server.rss_bytes_per_stream {
            rows.push(("  for each stream", format!("{bytes:.0} bytes of RSS")));
        }
    }
    let kernel = &report.kernel;
    let parts = [Some(kernel.tcp_bytes_before), Some(kernel.tcp_bytes_ramped), kernel.tcp_bytes_end];
    let parts: Vec<String> = parts.iter().flatten().map(|&bytes| mebibytes(bytes)).collect();
    rows.push(("kernel TCP memory", format!("{} (both ends of all)", parts.join(", "))));
}

fn push_latency(rows: &mut Vec<(&'static str, String)>, name: &'static str, summary: Option<&Summary>) {
    if let Some(summary) = summary {
        let parts = [
            ("p50", summary.p50_ns),
            ("p90", summary.p90_ns),
            ("p99", summary.p99_ns),
            ("p99.9", summary.p999_ns),
            ("max", summary.max_ns),
        ];
        let parts = parts.map(|(name, ns)| format!("{name} {}", time(ns)));
        rows.push((name, parts.join("  ")));
    }
}

fn push_tally(rows: &mut Vec<(&'static str, String)>, name: &'static str, tally: &Tally) {
    let mut text = format!(
        "{} untold, {} told ({} gaps); {} doubled, {} reordered",
        tally.lost_untold, tally.lost_told, tally.gaps, tally.doubled, tally.reordered
    );
    for (count, what) in
        [(tally.misdelivered, "of another channel"), (tally.told_in_excess, "told but not lost")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    rows.push((name, text));
}

fn busy(busy: &Busy) -> String {
    let (running, waiting) = (100.0 * busy.running, 100.0 * busy.waiting_for_cpu);
    format!("{running:.1} % of a CPU, {waiting:.1} % waiting for one")
}

/// Few threads each, of many the least and the most busy: the table stays as wide as a terminal.
fn busy_readers(readers: &[Busy]) -> String {
    let by_running = |a: &&Busy, b: &&Busy| a.running.total_cmp(&b.running);
    let ends = [readers.iter().min_by(by_running), readers.iter().max_by(by_running)];
    match (readers.len() <= READERS_SHOWN_MAX, ends) {
        (false, [Some(least), Some(most)]) => {
            format!("{}, from {} to {}", readers.len(), busy(least), busy(most))
        }
        _ => readers.iter().map(busy).collect::<Vec<_>>().join("; "),
    }
}

fn memory(memory: &Memory) -> String {
    mebibytes(memory.rss_bytes)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

fn count(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reading_threads_are_shown_by_the_least_and_the_most_busy() {
        let readers = |count: u32| -> Vec<Busy> {
            (1..=count).map(|n| Busy { running: f64::from(n) / 100.0, waiting_for_cpu: 0.0 }).collect()
        };
        assert_eq!(
            busy_readers(&readers(2)),
            "1.0 % of a CPU, 0.0 % waiting for one; 2.0 % of a CPU, 0.0 % waiting for one"
        );
        assert_eq!(
            busy_readers(&readers(64)),
            "64, from 1.0 % of a CPU, 0.0 % waiting for one to 64.0 % of a CPU, 0.0 % waiting for one"
        );
    }
}
