//! Figures from rows: a median with quartiles for each repeated run.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use downpour_load::statistics::Quartiles;

use crate::cell::{Cell, Contender, Pace};
use crate::row::Row;

/// Rows by their run.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    rows: BTreeMap<(Cell, Pace, Contender), Vec<&'a Row>>,
}

/// A figure of a row.
pub(crate) type Metric = fn(&Row) -> Option<f64>;

impl<'a> Figures<'a> {
    pub(crate) fn of(rows: &'a [Row]) -> Figures<'a> {
        let mut by_run: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            let run = row.run();
            by_run.entry((run.cell, run.pace, run.contender)).or_default().push(row);
        }
        Figures { rows: by_run }
    }

    /// The rows of one repeated run.
    pub(crate) fn rows(&self, cell: Cell, pace: Pace, contender: Contender) -> &[&'a Row] {
        self.rows.get(&(cell, pace, contender)).map_or(&[], |rows| rows)
    }

    /// Of the rows that have the figure; `None` if none has.
    pub(crate) fn quartiles(
        &self,
        cell: Cell,
        pace: Pace,
        contender: Contender,
        metric: Metric,
    ) -> Option<Quartiles> {
        let numbers: Vec<f64> =
            self.rows(cell, pace, contender).iter().filter_map(|row| metric(row)).collect();
        (!numbers.is_empty()).then(|| Quartiles::of(numbers))
    }

    /// The cells that were run.
    pub(crate) fn cells(&self) -> BTreeSet<Cell> {
        self.rows.keys().map(|(cell, _, _)| *cell).collect()
    }

    /// The servers that were run.
    pub(crate) fn contenders(&self) -> BTreeSet<Contender> {
        self.rows.keys().map(|(_, _, contender)| *contender).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::{row, run};

    #[test]
    fn medians_and_quartiles_are_of_the_repetitions_of_one_run() {
        let cpu = |repeat, contender, pace, ns| Row {
            cpu_ns_per_delivery: ns,
            ..row(run(contender, pace, repeat))
        };
        let mut rows: Vec<Row> = [5.0, 1.0, 2.0, 4.0, 3.0]
            .into_iter()
            .zip(1..)
            .map(|(ns, repeat)| cpu(repeat, Contender::Epoll, Pace::Half, Some(ns)))
            .collect();
        rows.push(cpu(6, Contender::Epoll, Pace::Half, None));
        rows.push(cpu(1, Contender::Uring, Pace::Half, Some(100.0)));
        rows.push(cpu(1, Contender::Uring, Pace::Saturated, None));
        let figures = Figures::of(&rows);
        let cell = rows[0].run().cell;
        let quartiles = |contender, pace| {
            let found = figures.quartiles(cell, pace, contender, |row| row.cpu_ns_per_delivery);
            found.map(|found| (found.lower, found.median, found.upper))
        };
        assert_eq!(quartiles(Contender::Epoll, Pace::Half), Some((2.0, 3.0, 4.0)));
        assert_eq!(quartiles(Contender::Uring, Pace::Half), Some((100.0, 100.0, 100.0)));
        assert_eq!(quartiles(Contender::Uring, Pace::Saturated), None, "it has no figure");
        assert_eq!(quartiles(Contender::Nchan, Pace::Half), None, "it was not run");
        assert_eq!(figures.contenders().len(), 2);
        assert_eq!(figures.rows(cell, Pace::Half, Contender::Epoll).len(), 6);
    }

    #[test]
    fn a_median_of_two_lies_between_them() {
        let found = Quartiles::of([1.0, 2.0]);
        assert_eq!((found.lower, found.median, found.upper), (1.25, 1.5, 1.75));
    }
}
