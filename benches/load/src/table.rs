//! The look of tables: Markdown, as documents have them.

use std::fmt::Display;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// A table in Markdown with these columns and no rows yet. It prints without a line break at its end.
pub fn markdown(columns: impl IntoIterator<Item = impl Display>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(texts(columns));
    table
}

/// The fields of a row.
pub fn texts(fields: impl IntoIterator<Item = impl Display>) -> Vec<String> {
    fields.into_iter().map(|field| field.to_string()).collect()
}

/// Puts the figures of all columns but the first at the right.
pub fn align_figures(table: &mut Table) {
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
}
