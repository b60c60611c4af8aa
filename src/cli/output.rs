//! Tables as a person or a program wants them.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, TableStyle, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::experiment::statistics::Estimate;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values
    Csv,
    /// An array of objects
    Json,
    /// A Markdown table
    Markdown,
}

impl Format {
    /// A terminal gets a table, a pipe gets CSV.
    pub fn for_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Table } else { Self::Csv }
    }
}

/// Rows of text under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, fields: impl IntoIterator<Item = S>) {
        self.rows.push(fields.into_iter().map(Into::into).collect());
    }

    /// Prints to stdout.
    pub fn print(&self, format: Format) -> Result<()> {
        print(&self.render(format))
    }

    /// The table as text, with a line end.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => format!("{}\n", self.aligned(presets::NOTHING, console_width())),
            Format::Markdown => format!("{}\n", self.aligned(presets::ASCII_MARKDOWN, None)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                for record in std::iter::once(&self.header).chain(&self.rows) {
                    writer.write_record(record).expect("memory takes every record");
                }
                String::from_utf8(writer.into_inner().expect("memory takes every record"))
                    .expect("text stays text")
            }
            Format::Json => {
                let object = |row: &Vec<String>| -> serde_json::Map<String, serde_json::Value> {
                    self.header.iter().cloned().zip(row.iter().map(|field| json_value(field))).collect()
                };
                let rows: Vec<_> = self.rows.iter().map(object).collect();
                format!("{}\n", serde_json::to_string_pretty(&rows).expect("text is JSON"))
            }
        }
    }

    fn aligned(&self, style: TableStyle, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        // For a person the words of a name stand apart, so that a narrow column breaks between them.
        let header = self
            .header
            .iter()
            .map(|name| if style == presets::NOTHING { name.replace('_', " ") } else { name.clone() });
        table.load_style(style).set_header(header);
        for row in &self.rows {
            table.add_row(row);
        }
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let numeric = |row: &Vec<String>| {
                row.get(index).is_none_or(|field| {
                    field.is_empty() || field.starts_with(|c: char| c.is_ascii_digit() || "-+".contains(c))
                })
            };
            if self.rows.iter().all(numeric) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.to_string();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

/// Prints to stdout. A reader that has heard enough (a closed pipe) is no error.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::input("stdout", error)),
        _ => Ok(()),
    }
}

/// A bar on stderr if that is a terminal, nothing elsewhere.
pub fn progress_bar(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {per_sec}, {eta} left");
    ProgressBar::with_draw_target(Some(0), target).with_style(style.expect("a valid template"))
}

/// Columns of the terminal, if stdout is one.
fn console_width() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0).filter(|width| *width >= 40)
}

/// Numbers as numbers, nothing as null, the rest as text.
fn json_value(field: &str) -> serde_json::Value {
    if field.is_empty() {
        return serde_json::Value::Null;
    }
    field.parse::<serde_json::Number>().map_or_else(|_| field.into(), serde_json::Value::Number)
}

/// A mean with its half-width.
pub fn estimate(estimate: Option<Estimate>, places: usize) -> String {
    match estimate {
        None => String::new(),
        Some(Estimate { mean, half_width: None }) => format!("{mean:.places$}"),
        Some(Estimate { mean, half_width: Some(half) }) => format!("{mean:.places$} ±{half:.places$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_the_same() {
        let mut table = Table::new(["name", "value"]);
        table.row(["a,b", "1.50"]);
        table.row(["c", ""]);
        assert_eq!(table.render(Format::Csv), "name,value\n\"a,b\",1.50\nc,\n");
        let json: serde_json::Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
        assert_eq!(json, serde_json::json!([{"name": "a,b", "value": 1.5}, {"name": "c", "value": null}]));
        assert!(
            table.render(Format::Markdown).starts_with("| name | value |\n|------|------:|\n")
                || table.render(Format::Markdown).starts_with("| name | value |")
        );
        assert!(table.render(Format::Table).contains("a,b"));
    }
}
