//! The figures as Markdown: a table for each pace, one for the streams, and notes for reading them.

use std::collections::BTreeSet;
use std::fmt::Write;

use downpour_load::statistics::Quartiles;
use downpour_load::table::markdown;
use downpour_load::units::{BYTES, COUNTS, TIMES, Unit, grouped, in_unit, join, size, unit_of};

use crate::cell::{Cell, Contender, Pace, Variant};
use crate::figures::{Figures, Metric};
use crate::plot::Drawn;
use crate::row::Row;

/// Writes all figures, with links to the plots beside the file.
pub(crate) fn summary(rows: &[Row], plots: &[Drawn]) -> String {
    let figures = Figures::of(rows);
    let mut text = introduction(rows);
    for Drawn { file, title, .. } in plots {
        // Writing into a string does not fail.
        let _ = write!(text, "\n![{title}]({file})\n");
    }
    for table in TABLES {
        push_table(table, &figures, &mut text);
    }
    text
}

/// A table, with a column for each server.
struct Table {
    title: &'static str,
    /// The runs of the table.
    pace: Pace,
    /// The parts of a field, one after the other.
    parts: &'static [Part],
}

struct Part {
    metric: Metric,
    units: &'static [Unit],
    /// Follows the unit.
    per: &'static str,
}

impl Part {
    /// A figure by itself.
    const fn of(metric: Metric, units: &'static [Unit]) -> Part {
        Part { metric, units, per: "" }
    }

    /// A count for each second.
    const fn each_second(metric: Metric) -> Part {
        Part { metric, units: &COUNTS, per: "/s" }
    }
}

const TABLES: [&Table; 4] = [
    &Table {
        title: "Each event alone: server CPU for a delivery",
        pace: Pace::Unbatched,
        parts: &[Part::of(|row| row.cpu_ns_per_delivery, &TIMES)],
    },
    &Table {
        title: "As fast as taken: deliveries each second; server CPU for a delivery",
        pace: Pace::Saturated,
        parts: &[
            Part::each_second(|row| row.deliveries_per_second),
            Part::of(|row| row.cpu_ns_per_delivery, &TIMES),
        ],
    },
    &Table {
        title: "Half as fast: latency p50; p99",
        pace: Pace::Half,
        parts: &[
            Part::of(|row| Some(row.latency_p50_ns? as f64), &TIMES),
            Part::of(|row| Some(row.latency_p99_ns? as f64), &TIMES),
        ],
    },
    &Table {
        title: "Streams: resident memory of the process for one; connections each second",
        pace: Pace::Unbatched,
        parts: &[
            Part::of(|row| row.rss_bytes_per_stream, &BYTES),
            Part::each_second(|row| row.connects_per_second),
        ],
    },
];

fn introduction(rows: &[Row]) -> String {
    let distinct = |field: fn(&Row) -> String| {
        let values: BTreeSet<String> = rows.iter().map(field).filter(|value| !value.is_empty()).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    };
    let versions = distinct(|row| match row.server {
        Contender::Epoll | Contender::Uring => format!("downpour {}", row.server_version),
        Contender::Nchan => row.server_version.clone(),
        Contender::BetterSse => format!("better-sse {}", row.server_version),
    });
    let repeats = match rows.iter().map(|row| row.repeat).max().unwrap_or(0) {
        0..=1 => "One run each.".to_owned(),
        repeats => format!("Medians of {repeats} runs, in brackets the quartiles."),
    };
    let (commits, machines) = (
        distinct(|row| row.commit.clone()),
        distinct(|row| match (row.cpus, &row.cpu, &row.kernel) {
            (Some(cpus), cpu, kernel) => format!("{cpus} CPUs ({cpu}), {kernel}"),
            (None, ..) => String::new(),
        }),
    );
    format!(
        "Commit {commits}; {machines}; {versions}. {repeats}\n\
         `*`: the CPU of the bench was the limit in one of them. `†`: events were lost, told or untold, or came twice or in \
         another order in one of them. `–`: not run, or without a result.\n"
    )
}

fn push_table(table: &Table, figures: &Figures<'_>, text: &mut String) {
    let contenders = figures.contenders();
    let labels = contenders.iter().map(|contender| contender.label());
    let mut rows = markdown(["streams", "data", "channels"].into_iter().chain(labels));
    for cell in figures.cells() {
        let fields: Vec<String> =
            contenders.iter().map(|&contender| field(table, figures, cell, contender)).collect();
        if fields.iter().any(|field| field != NOTHING) {
            let Cell { streams, size_bytes, channels, variant } = cell;
            let (streams, channels, size) = (grouped(streams), grouped(channels), size(size_bytes));
            let variant = match variant {
                Variant::Plain => "",
                Variant::Http10 => ", HTTP/1.0",
                Variant::Slow => ", 10\u{a0}% slow",
            };
            rows.add_row([vec![streams, format!("{size}{variant}"), channels], fields].concat());
        }
    }
    if !rows.is_empty() {
        let _ = write!(text, "\n### {}\n\n{rows}\n", table.title);
    }
}

fn field(table: &Table, figures: &Figures<'_>, cell: Cell, contender: Contender) -> String {
    let rows = figures.rows(cell, table.pace, contender);
    let parts = table.parts.iter().filter_map(|part| {
        let quartiles = figures.quartiles(cell, table.pace, contender, part.metric)?;
        Some(spread(quartiles, rows.len(), part))
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return NOTHING.to_owned();
    }
    let mark =
        |is_marked: fn(&Row) -> bool, mark| if rows.iter().any(|row| is_marked(row)) { mark } else { "" };
    format!("{}{}{}", parts.join("; "), mark(Row::is_limited_by_bench, "*"), mark(Row::has_losses, "†"))
}

/// The median, and with several runs the quartiles, in the same unit.
fn spread(quartiles: Quartiles, runs: usize, part: &Part) -> String {
    let unit = unit_of(quartiles.median, part.units);
    let [lower, median, upper] =
        [quartiles.lower, quartiles.median, quartiles.upper].map(|number| in_unit(number, unit));
    let median = join(&median, unit) + part.per;
    if runs == 1 { median } else { format!("{median} ({lower}–{upper})") }
}

const NOTHING: &str = "–";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::{row, run};

    #[test]
    fn tables_have_medians_with_quartiles_and_marks() {
        let clean = |contender, pace, repeat, cpu| Row {
            cpu_ns_per_delivery: Some(cpu),
            lost_untold: Some(0),
            readers_cpu_share: Some(0.5),
            ..row(run(contender, pace, repeat))
        };
        let mut rows = vec![
            clean(Contender::Epoll, Pace::Unbatched, 1, 4700.0),
            clean(Contender::Epoll, Pace::Unbatched, 2, 4810.0),
            clean(Contender::Epoll, Pace::Unbatched, 3, 5000.0),
            clean(Contender::Uring, Pace::Saturated, 1, 39.2),
        ];
        rows[3].readers_cpu_share = Some(0.99);
        rows[3].reordered = Some(1);
        let plot = Drawn { file: "cpu.svg", title: "CPU", svg: String::new() };
        let text = summary(&rows, &[plot]).replace('\u{a0}', " ");
        assert!(
            text.starts_with(
                "Commit abc; 2 CPUs (A CPU), Linux 6.18; downpour 1, \"x\". Medians of 3 runs, in brackets"
            ),
            "{text}"
        );
        for line in [
            "![CPU](cpu.svg)",
            "| streams | data | channels | downpour, epoll | downpour, io_uring |",
            "| 1 000 | 64 B | 1 | 4.81 µs (4.75–4.91) | – |",
            "| 1 000 | 64 B | 1 | – | 4.00 k/s; 39.2 ns*† |",
            "| 1 000 | 64 B | 1 | 254 B (254–254); 8.81 k/s (8.81–8.81) | – |",
        ] {
            let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert!(text.lines().any(|found| fields(found) == fields(line)), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains("Half as fast"), "a table without lines is left out:\n{text}");
    }
}
