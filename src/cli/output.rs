//! Tables as a person or a program wants them.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, TableStyle, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::experiment::results::number;
use crate::experiment::statistics::Estimate;
use crate::units::round_to;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values
    Csv,
    /// JSON
    Json,
    /// A Markdown table
    Markdown,
}

/// The flags for it, of verbs whose JSON is more than rows.
#[derive(Clone, Debug, clap::Args)]
pub struct Printed {
    /// How to print the answer [default: text on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Printed {
    /// What was asked for, or suits where it goes.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format.unwrap_or_else(Format::for_stdout) }
    }
}

impl Format {
    /// A terminal gets a table, a pipe gets CSV.
    pub fn for_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Table } else { Self::Csv }
    }
}

/// One field of a table.
#[derive(Clone, Debug)]
pub enum Field {
    /// Text, or a number that is exact as it is written.
    Text(String),
    /// A number, with the decimal places a person wants.
    Number(Option<f64>, usize),
    /// A mean and its half-width, with their decimal places: one field for a person, two for a program.
    Estimate(Option<Estimate>, usize),
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl Field {
    /// As a person reads it.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(value, places) => value.map_or(String::new(), |value| fixed(value, *places)),
            Self::Estimate(value, places) => estimate(*value, *places),
        }
    }

    /// As a program reads it: the value, and the half-width if this column has one.
    fn plain(&self, with_interval: bool) -> Vec<String> {
        let full = |value: Option<f64>| number(value.map(|value| round_to(value, 9)));
        let (value, half_width) = match self {
            Self::Text(text) => (text.clone(), None),
            Self::Number(value, _) => (full(*value), None),
            Self::Estimate(value, _) => (full(value.map(|e| e.mean)), value.and_then(|e| e.half_width)),
        };
        std::iter::once(value).chain(with_interval.then(|| full(half_width))).collect()
    }
}

/// Rows of fields under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Field>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<F: Into<Field>>(&mut self, fields: impl IntoIterator<Item = F>) {
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
                let (header, rows) = self.plain();
                for record in std::iter::once(header).chain(rows) {
                    writer.write_record(record).expect("memory takes every record");
                }
                String::from_utf8(writer.into_inner().expect("memory takes every record"))
                    .expect("text stays text")
            }
            Format::Json => {
                let (header, rows) = self.plain();
                let object = |row: Vec<String>| -> serde_json::Map<String, serde_json::Value> {
                    header.iter().cloned().zip(row.iter().map(|field| json_value(field))).collect()
                };
                let rows: Vec<_> = rows.into_iter().map(object).collect();
                format!("{}\n", serde_json::to_string_pretty(&rows).expect("text is JSON"))
            }
        }
    }

    /// The table as a person reads it in a file, however wide a terminal is.
    pub fn text(&self) -> String {
        format!("{}\n", self.aligned(presets::NOTHING, None))
    }

    /// Header and rows for programs: every column with an interval becomes two.
    fn plain(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let has_interval =
            |index: usize| self.rows.iter().any(|row| matches!(row.get(index), Some(Field::Estimate(..))));
        let intervals: Vec<bool> = (0..self.header.len()).map(has_interval).collect();
        let names = self.header.iter().zip(&intervals);
        let header = names.flat_map(|(name, interval)| {
            std::iter::once(name.clone()).chain(interval.then(|| format!("{name}_ci95")))
        });
        let fields = |row: &Vec<Field>| -> Vec<String> {
            row.iter().zip(&intervals).flat_map(|(field, interval)| field.plain(*interval)).collect()
        };
        (header.collect(), self.rows.iter().map(fields).collect())
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
            // A bar inside a Markdown cell would end it.
            let shown = |field: &Field| match style == presets::ASCII_MARKDOWN {
                true => field.shown().replace('|', "\\|"),
                false => field.shown(),
            };
            table.add_row(row.iter().map(shown));
        }
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let numeric = |row: &Vec<Field>| match row.get(index) {
                Some(Field::Text(text)) => text.is_empty() || text.parse::<f64>().is_ok(),
                _ => true,
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

/// Says a line on stderr. Nobody need listen.
pub fn talk(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
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
        Some(Estimate { mean, half_width: None }) => fixed(mean, places),
        Some(Estimate { mean, half_width: Some(half) }) => {
            format!("{} ±{half:.places$}", fixed(mean, places))
        }
    }
}

/// A number with so many decimal places; a zero has no sign.
fn fixed(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|digit| digit == b'0' || digit == b'.') => zero.to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_the_same() {
        let mut table = Table::new(["name", "value"]);
        let half = Estimate { mean: 1.5, half_width: Some(0.25) };
        table.row([Field::from("a,b"), Field::Estimate(Some(half), 2)]);
        table.row([Field::from("c"), Field::Estimate(None, 2)]);
        assert_eq!(table.render(Format::Csv), "name,value,value_ci95\n\"a,b\",1.5,0.25\nc,,\n");
        let json: serde_json::Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
        let expected = serde_json::json!([
            {"name": "a,b", "value": 1.5, "value_ci95": 0.25},
            {"name": "c", "value": null, "value_ci95": null},
        ]);
        assert_eq!(json, expected);
        assert!(table.render(Format::Markdown).contains("| a,b  | 1.50 ±0.25 |"));
        assert!(table.render(Format::Table).contains(" a,b   1.50 ±0.25"));
    }
}
