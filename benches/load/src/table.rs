//! The look of tables: Markdown, as documents have them.

use std::fmt::Display;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

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
