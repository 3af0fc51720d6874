//! A Markdown table of figures against their budgets, row by row, and whether all are met.

use std::fmt::Display;
use std::process::ExitCode;

/// The rows so far. They are printed as they come.
#[derive(Debug)]
pub(crate) struct Verdicts {
    are_met: bool,
}

impl Verdicts {
    /// Begins a table with these columns, followed by one for the verdict.
    pub(crate) fn begin(columns: &[&str]) -> Verdicts {
        println!("| {} | verdict |\n|{}", columns.join(" | "), " --- |".repeat(columns.len() + 1));
        Verdicts { are_met: true }
    }

    /// Adds a row: a field for each column, and whether the budget is met.
    pub(crate) fn push(&mut self, fields: &[&dyn Display], is_met: bool) {
        self.are_met &= is_met;
        fields.iter().for_each(|field| print!("| {field} "));
        println!("| {} |", if is_met { "met" } else { "missed" });
    }

    /// A failure if a budget is missed.
    pub(crate) fn exit_code(self) -> ExitCode {
        if self.are_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
