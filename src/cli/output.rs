//! Tables as a person or a program wants them.

use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{CellAlignment, presets};

use crate::cli::layout::{Sheet, paragraphs};
use crate::cli::progress::Progress;
use crate::error::{Error, Result, printable};
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
    /// How to print the answer; a table has sentences, too [default: table on a terminal, csv elsewhere]
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
    /// As `--format` takes it.
    pub fn word(self) -> String {
        self.to_possible_value().expect("every format has a name").get_name().to_string()
    }

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
    /// Columns that a narrow terminal can do without, the first ones first.
    spare: Vec<usize>,
    /// What a person reads in place of a column's name.
    titles: Vec<(usize, String)>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Names the columns that a narrow terminal can do without, the first ones first. (What a user named comes before
    /// what is measured: of two columns of a name the last is meant.)
    pub fn spare<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let column = |name: S| self.header.iter().rposition(|known| known == name.as_ref());
        self.spare = names.into_iter().filter_map(column).collect();
        self
    }

    /// Gives a column, where it is there, another heading for a person; programs find it by its name.
    pub fn titled(mut self, name: &str, title: &str) -> Self {
        let column = self.header.iter().rposition(|known| known == name);
        self.titles.extend(column.map(|column| (column, title.to_string())));
        self
    }

    /// The headings that a person reads.
    fn headings(&self) -> Vec<String> {
        let mut headings = self.header.clone();
        self.titles.iter().for_each(|(column, title)| headings[*column].clone_from(title));
        headings
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
            Format::Table => self.sheet().laid_out(console_width(), bold),
            Format::Markdown => self.markdown(),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                let (header, rows) = self.plain();
                for record in std::iter::once(header).chain(rows) {
                    writer.write_record(record).expect("memory takes every record");
                }
                String::from_utf8(writer.into_inner().expect("memory takes every record"))
                    .expect("text stays text")
            }
            Format::Json => format!("{:#}\n", self.objects()),
        }
    }

    /// The rows as JSON: an object each, with the columns of the CSV.
    pub fn objects(&self) -> serde_json::Value {
        let (header, rows) = self.plain();
        let object = |row: Vec<String>| -> serde_json::Value {
            header.iter().cloned().zip(row.iter().map(|field| json_value(field))).collect()
        };
        rows.into_iter().map(object).collect()
    }

    /// The table as a person reads it in a file, however wide a terminal is.
    pub fn text(&self) -> String {
        self.sheet().laid_out(None, str::to_string)
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

    /// For a person: the words of a name stand apart, so that a narrow column breaks between them.
    fn sheet(&self) -> Sheet {
        let fields = |row: &Vec<Field>| row.iter().map(|field| printable(&field.shown())).collect();
        Sheet {
            header: self.headings().iter().map(|name| printable(&name.replace('_', " "))).collect(),
            rows: self.rows.iter().map(fields).collect(),
            numeric: (0..self.header.len()).map(|column| self.is_numeric(column)).collect(),
            spare: self.spare.clone(),
        }
    }

    fn is_numeric(&self, column: usize) -> bool {
        self.rows.iter().all(|row| match row.get(column) {
            Some(Field::Text(text)) => text.is_empty() || text.parse::<f64>().is_ok(),
            _ => true,
        })
    }

    fn markdown(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        // A bar inside a cell would end it.
        let safe = |text: &str| printable(text).replace('|', "\\|");
        table.set_header(self.headings().iter().map(|name| safe(name)));
        for row in &self.rows {
            table.add_row(row.iter().map(|field| safe(&field.shown())));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if self.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_string() + "\n");
        lines.collect()
    }
}

/// Prints to stdout. A reader that has heard enough (a closed pipe) is no error.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::input("stdout", error)),
        _ => Ok(()),
    }
}

/// Says a line on stderr. Nobody need listen. Names in it are what their authors made them: nothing of them commands the
/// terminal, or passes for a line of its own.
pub fn talk(line: &str) {
    let signs = [("error: ", AnsiColor::Red), ("warning: ", AnsiColor::Yellow)];
    let is_colored = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let sign = signs.iter().find(|(sign, _)| is_colored && line.starts_with(sign));
    let line = paragraphs(&printable(line), width_of(std::io::stderr()));
    let line = match sign {
        Some((sign, color)) => {
            painted(sign, color.on_default().bold()) + line.strip_prefix(sign).unwrap_or_default()
        }
        None => line,
    };
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says an answer's lines on stderr.
pub fn talk_lines(text: &str) {
    text.split('\n').for_each(talk);
}

/// Lines of text, with what would command a terminal as text, too.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// How far a verb is, on stderr.
pub fn progress_bar(quiet: bool) -> Progress {
    Progress::begin(quiet)
}

/// A text in a style, for a terminal.
fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether colours are wanted on stdout: on a terminal, unless NO_COLOR or its like says no.
fn is_colored() -> bool {
    AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// A text of a table or an answer that stands out on stdout, where it may.
pub fn bold(text: &str) -> String {
    if is_colored() && !text.is_empty() { painted(text, Style::new().bold()) } else { text.to_string() }
}

/// A word on stdout whose colour says once more what the word says.
pub fn colored(word: &str, color: AnsiColor) -> String {
    if is_colored() { painted(word, color.on_default().bold()) } else { word.to_string() }
}

/// Sentences for a person, broken between words where stdout is a terminal.
pub fn sentences(text: &str) -> String {
    paragraphs(&printable_lines(text), console_width())
}

/// Columns of the terminal, if stdout is one.
pub fn console_width() -> Option<usize> {
    width_of(std::io::stdout())
}

#[cfg(unix)]
fn width_of(stream: impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

#[cfg(windows)]
fn width_of(stream: impl std::os::windows::io::AsHandle) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

/// Numbers as numbers, nothing as null, the rest as text.
fn json_value(field: &str) -> serde_json::Value {
    if field.is_empty() {
        return serde_json::Value::Null;
    }
    field.parse::<serde_json::Number>().map_or_else(|_| field.into(), serde_json::Value::Number)
}

/// A number as JSON, rounded as in results files.
pub fn number_json(value: f64) -> serde_json::Value {
    number(Some(round_to(value, 9))).parse().map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// A value of a scenario as JSON.
pub fn value_json(value: &toml::Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A mean with its half-width as JSON.
pub fn estimate_json(estimate: Estimate) -> serde_json::Value {
    serde_json::json!({ "mean": number_json(estimate.mean), "ci95": estimate.half_width.map(number_json) })
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
