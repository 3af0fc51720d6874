//! Figures against their budgets: line by line, and as a table at the end.

use crate::{Driver, EPOLL, URING};
use downpour_load::statistics::Interval;
use downpour_load::table::markdown;
use downpour_load::units::grouped;
use downpour_load::window::Pairs;

/// A budget.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

/// The units of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// A multiple of the figure it is compared with.
    Times,
    Bytes,
    Milliseconds,
    PerSecond,
}

/// The figure of one driver in one row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// `None` if nothing valid was measured.
    pub(crate) interval: Option<Interval>,
    pub(crate) budget: Budget,
    pub(crate) unit: Unit,
    /// Further remarks.
    pub(crate) note: String,
}

#[derive(Debug)]
struct Row {
    what: String,
    /// In the order of [`EPOLL`] and [`URING`].
    cells: [Option<Figure>; 2],
}

/// All rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Figure {
    /// Ratios of paired windows, with a note about discarded ones. Without any there is no verdict.
    pub(crate) fn of_pairs(pairs: Pairs, at_most: f64, note: &str) -> Figure {
        let Pairs { ratios, thrown } = pairs;
        let (count, interval) = (ratios.len(), Interval::of(ratios));
        let mut note = note.to_owned();
        if thrown > 0 {
            let separator = if note.is_empty() { "" } else { ", " };
            note += &format!("{separator}{count} pairs, {thrown} thrown away");
        }
        Figure { interval, budget: Budget::AtMost(at_most), unit: Unit::Times, note }
    }

    /// Returns true if the budget lies within the interval or above it.
    fn holds(&self) -> Option<bool> {
        let interval = self.interval?;
        Some(match self.budget {
            Budget::AtMost(most) => interval.lower <= most,
            Budget::AtLeast(least) => interval.upper >= least,
        })
    }

    fn verdict(&self) -> &'static str {
        match self.holds() {
            Some(true) => "holds",
            Some(false) => "missed",
            None => "not measured",
        }
    }

    fn budget(&self) -> String {
        match self.budget {
            Budget::AtMost(most) => format!("≤ {}", self.unit.limit(most)),
            Budget::AtLeast(least) => format!("≥ {}", self.unit.limit(least)),
        }
    }

    fn measured(&self) -> String {
        let Some(Interval { lower, median, upper }) = self.interval else { return "–".to_owned() };
        let [median, lower, upper] = [median, lower, upper].map(|value| self.unit.text(value));
        format!("{median} ({lower}–{upper})")
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Times => format!("{value:.3}"),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::PerSecond => grouped(value),
        }
    }

    fn limit(self, value: f64) -> String {
        match self {
            Unit::Times => format!("{value:.2} ×"),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Milliseconds => format!("{value:.1} ms"),
            Unit::PerSecond => format!("{} /s", grouped(value)),
        }
    }
}

impl Report {
    pub(crate) fn new() -> Report {
        Report { rows: Vec::new() }
    }

    /// Adds and prints the figure of a driver.
    pub(crate) fn add(&mut self, what: &str, driver: Driver, figure: Figure) {
        let (measured, budget, verdict) = (figure.measured(), figure.budget(), figure.verdict());
        let note = if figure.note.is_empty() { String::new() } else { format!(" [{}]", figure.note) };
        println!("{what}, {}: {measured}, budget {budget}: {verdict}{note}", driver.name);
        let at = self.rows.iter().position(|row| row.what == what).unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), cells: [None, None] });
            self.rows.len() - 1
        });
        self.rows[at].cells[usize::from(driver == URING)] = Some(figure);
    }

    /// The table of all rows, in Markdown.
    pub(crate) fn print_table(&self) {
        let mut table = markdown(["what", "budget", EPOLL.name, URING.name]);
        for Row { what, cells } in &self.rows {
            let mut budgets: Vec<String> = cells.iter().flatten().map(Figure::budget).collect();
            budgets.dedup();
            let [epoll, uring] = cells.each_ref().map(|cell| {
                let Some(figure) = cell else { return "–".to_owned() };
                let note = if figure.note.is_empty() { String::new() } else { format!("; {}", figure.note) };
                format!("{}: {}{note}", figure.verdict(), figure.measured())
            });
            table.add_row([what, &budgets.join("; "), &epoll, &uring]);
        }
        println!("\n{table}");
    }
}
