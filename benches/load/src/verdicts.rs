//! A table of figures against their budgets, and whether all are met.

use std::fmt::Display;
use std::process::ExitCode;

use comfy_table::Table;

use crate::table::{markdown, texts};

/// The rows so far.
#[derive(Debug)]
pub struct Verdicts {
    table: Table,
    are_met: bool,
}

impl Verdicts {
    /// Begins a table with these columns, followed by one for the verdict.
    pub fn begin(columns: &[&str]) -> Verdicts {
        Verdicts { table: markdown(columns.iter().chain(&["verdict"])), are_met: true }
    }

    /// Adds a row: a field for each column, and whether the budget is met. Prints it too, as the next
    /// one may take minutes.
    pub fn push(&mut self, fields: &[&dyn Display], is_met: bool) {
        let verdict = if is_met { "met" } else { "missed" };
        let mut fields = texts(fields);
        println!("{}: {verdict}", fields.join(", "));
        fields.push(verdict.to_owned());
        self.table.add_row(fields);
        self.are_met &= is_met;
    }

    /// Prints the table. A failure if a budget is missed.
    pub fn finish(self) -> ExitCode {
        println!("\n{}", self.table);
        if self.are_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
