//! The report on a folder of results: its charts as SVG beside the CSV files they draw, and one page with all of them.
//!
//! Reading order: a [`table`] is a CSV file as far as it can be read; [`about`] says what made the folder, and [`inside`] what
//! happened in a run ([`session`]: in one of its sessions), both written with the results; a [`figure`] is a chart before it
//! is drawn, along an [`axis`]; [`variants`], [`looks`] and [`answers`] make them of tables; [`draw`] draws them, and [`page`]
//! puts them and the tables into one file.

pub mod table;
pub mod about;
pub mod session;
pub mod inside;
pub mod figure;
pub mod axis;
pub mod variants;
pub mod looks;
pub mod answers;
pub mod draw;
pub mod page;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::experiment::results::write_file;
use about::About;
use figure::Figure;
use table::{Known, Table};

/// Name of the page.
pub const PAGE: &str = "report.html";

/// Everything a report shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the folder.
    pub folder: String,
    /// The version that made this report.
    pub version: &'static str,
    /// Whether the page stands in the folder, so that it can link to the files there.
    pub beside: bool,
    /// What made the results.
    pub about: Option<About>,
    /// What is wrong with the folder.
    pub problems: Vec<String>,
    /// The recommendation in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub card: String,
    /// The numbers one asks for first.
    pub tiles: Vec<Tile>,
    /// By which columns of which table rows can be left out.
    pub filter: Option<Filter>,
    /// The charts.
    pub figures: Vec<Figure>,
    /// The tables they are drawn from, and others.
    pub tables: Vec<Table>,
}

/// A number that stands out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// The file it is in.
    pub file: String,
    /// Its row.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// Of which row it is, in words.
    pub of: String,
}

/// What rows can be chosen by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filter {
    /// The table.
    pub file: String,
    /// Column and short name of each choice.
    pub columns: Vec<(usize, String)>,
}

/// The files that a report shows, with the columns that it needs.
const KNOWN: [Known; 13] = [
    Known {
        file: "summary.csv",
        about: "every variant: the mean of each number over its replications, with the half-width of its 95 % interval",
        needed: &[
            "cell",
            "seeds",
            "prompt_tokens",
            "cached_tokens",
            "token_hit_ratio",
            "request_hit_ratio",
            "ttft_p95_ms",
            "total_p95_ms",
            "cost_usd",
        ],
    },
    Known {
        file: "lifetime_unknown.csv",
        about: "means over a constant lifetime anywhere from 5 to 60 minutes",
        needed: &["lifetimes", "token_hit_ratio"],
    },
    Known {
        file: "choices.csv",
        about: "every choice under every plausible provider",
        needed: &["provider", "seeds", "objective", "regret", "usd_per_day", "ttft_p95_s", "note"],
    },
    Known {
        file: "rivals.csv",
        about: "rival hypotheses of the provider",
        needed: &["rival", "verdict", "p"],
    },
    Known {
        file: "parameters.csv",
        about: "every value that was tried of every parameter",
        needed: &["rival", "path", "value", "p"],
    },
    Known {
        file: "checks.csv",
        about: "what was observed beside what is simulated",
        needed: &["rival", "cell", "summary", "observed", "simulated_p05", "simulated_p50", "simulated_p95"],
    },
    Known {
        file: "report_rules.csv",
        about: "rules of the report, and how many readings each explains",
        needed: &["report_step", "explained", "readings"],
    },
    Known { file: "latency.csv", about: "the law of the time to first token", needed: &["number", "value"] },
    Known { file: "inside.csv", about: "the variants that were looked into", needed: &["cell", "why"] },
    Known {
        file: "inside_minutes.csv",
        about: "requests of the keys that are used most, in the busiest minute of each stretch of time",
        needed: &["cell", "key", "at_s", "peak_rpm"],
    },
    Known {
        file: "inside_calls.csv",
        about: "one session, call by call",
        needed: &["cell", "of", "call", "prompt_tokens", "cached_tokens", "written_tokens"],
    },
    Known {
        file: "inside_fleet.csv",
        about: "requests by key and machine",
        needed: &["cell", "key", "machine", "requests"],
    },
    Known {
        file: "inside_machine.csv",
        about: "the machine that is used most",
        needed: &["cell", "machine", "at_s", "in_flight", "queued"],
    },
];

/// The main tables: without one of them a folder holds no results.
const MAIN: [&str; 4] = ["summary.csv", "choices.csv", "rivals.csv", "latency.csv"];

/// What the public study measured in the traffic of this shipped scenario.
const STUDY: (&str, [(&str, &str); 2]) = (
    "bucket-cardinality",
    [
        ("azure-study-cells.csv", include_str!("../../scenarios/observations/azure-study-cells.csv")),
        ("azure-study-latencies.csv", include_str!("../../scenarios/observations/azure-study-latencies.csv")),
    ],
);

impl Report {
    /// Reads a folder of results. `observed` are files of measured cells, to be drawn over what is simulated.
    pub fn read(folder: &Path, observed: &[PathBuf]) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::input(
                folder.display(),
                "is no folder: name one that sweep, run, recommend, fit or replay wrote its answer into",
            ));
        }
        if !MAIN.iter().any(|file| folder.join(file).exists()) {
            let message = format!("holds no results: a report is made of {}", MAIN.join(", "));
            return Err(Error::input(folder.display(), message));
        }
        let mut problems = Vec::new();
        let about = About::read(folder, &mut problems);
        let tables: Vec<_> =
            KNOWN.iter().filter_map(|known| Table::read(folder, known, &mut problems)).collect();
        let measured = measured(about.as_ref(), observed, &mut problems)?;
        let card = std::fs::read(folder.join("card.txt")).unwrap_or_default();
        let name = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        let mut report = Self {
            folder: name.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
            version: about::VERSION,
            beside: true,
            about,
            problems,
            card: String::from_utf8_lossy(&card).into_owned(),
            tiles: Vec::new(),
            filter: None,
            figures: Vec::new(),
            tables,
        };
        report.figures = report.all_figures(&measured);
        report.tiles = report.all_tiles();
        report.filter = report.its_filter();
        Ok(report)
    }

    /// A table by its file.
    pub fn table(&self, file: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.file == file)
    }

    fn all_figures(&self, measured: &[Table]) -> Vec<Figure> {
        let summary = self.table("summary.csv");
        let mut figures = Vec::new();
        figures.extend(self.table("choices.csv").map_or(Vec::new(), answers::recommendation));
        figures.extend(summary.map_or(Vec::new(), |summary| variants::figures(summary, measured)));
        figures.extend(self.table("lifetime_unknown.csv").and_then(answers::unknown_lifetime));
        figures.extend(self.table("parameters.csv").map_or(Vec::new(), answers::posteriors));
        figures.extend(self.table("checks.csv").and_then(answers::checks));
        if let Some(inside) = self.table("inside.csv") {
            figures.extend(looks::figures(inside, summary, |file| self.table(file).cloned()));
        }
        figures
    }

    fn all_tiles(&self) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let mut tile = |label: &str, table: &Table, row: usize, column: &str, of: String| {
            let column = table.column(column).filter(|column| !table.text(row, *column).is_empty());
            if let Some(column) = column {
                tiles.push(Tile { label: label.into(), file: table.file.clone(), row, column, of });
            }
        };
        if let Some(summary) = self.table("summary.csv") {
            let axes = variants::axes(summary);
            let extremes = [
                ("best token hit ratio", "token_hit_ratio", -1.0),
                ("worst token hit ratio", "token_hit_ratio", 1.0),
                ("fastest: ttft p95", "ttft_p95_ms", 1.0),
                ("cheapest", "cost_usd", 1.0),
            ];
            if summary.rows.len() > 1 {
                for (label, column, sign) in extremes {
                    if let Some(row) = least(summary, column, sign) {
                        tile(label, summary, row, column, variants::row_name(summary, &axes, row));
                    }
                }
            } else {
                let shown = [
                    "token_hit_ratio",
                    "ceiling_lifetime_ratio",
                    "request_hit_ratio",
                    "ttft_p95_ms",
                    "total_p95_ms",
                ];
                for column in shown.into_iter().chain(["cost_usd", "saving_ratio"]) {
                    tile(&column.replace('_', " "), summary, 0, column, String::new());
                }
            }
        }
        if let Some(choices) = self.table("choices.csv") {
            let words = |row: usize| choices.named(row, "note").split(", ").any(|word| word == "recommended");
            if let Some(row) = (0..choices.rows.len()).find(|row| words(*row)) {
                let of = format!("recommended: {}", answers::choice_name(choices, row));
                for column in ["token_hit_ratio", "ttft_p95_s", "usd_per_day", "regret"] {
                    tile(&column.replace('_', " "), choices, row, column, of.clone());
                }
            }
        }
        if let Some(rivals) = self.table("rivals.csv") {
            for row in 0..rivals.rows.len().min(3) {
                let of = format!("{}: {}", rivals.named(row, "rival"), rivals.named(row, "verdict"));
                tile("p-value", rivals, row, "p", of);
            }
        }
        if let Some(latency) = self.table("latency.csv") {
            for row in 0..latency.rows.len().min(3) {
                tile(&latency.named(row, "number").replace('_', " "), latency, row, "value", String::new());
            }
        }
        tiles
    }

    fn its_filter(&self) -> Option<Filter> {
        let of = |table: &Table, columns: Vec<usize>| {
            let paths: Vec<_> = columns.iter().map(|column| table.columns[*column].name.clone()).collect();
            let names = crate::experiment::tables::short_names(&paths);
            let choices =
                columns.into_iter().zip(names).filter(|(column, _)| table.distinct(*column).len() > 1);
            Filter { file: table.file.clone(), columns: choices.collect() }
        };
        let summary = self.table("summary.csv").map(|table| of(table, variants::axes(table)));
        let choices = self.table("choices.csv").map(|table| {
            of(table, table.column("provider").into_iter().chain(answers::chosen(table)).collect())
        });
        let rivals =
            self.table("rivals.csv").map(|table| of(table, table.column("rival").into_iter().collect()));
        [summary, choices, rivals].into_iter().flatten().find(|filter| !filter.columns.is_empty())
    }

    /// Writes the charts into the folder, and the page to a file.
    pub fn write(&self, folder: &Path, page: &Path) -> Result<()> {
        for figure in &self.figures {
            let Some(table) = self.table(&figure.file) else { continue };
            let svg = draw::svg(figure, table)?;
            write_file(&folder.join(format!("{}.svg", figure.id)), |out| out.write_all(svg.as_bytes()))?;
        }
        let place = |path: &Path| path.canonicalize().ok();
        let parent = page.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let html = page::html(&Self { beside: place(parent) == place(folder), ..self.clone() })?;
        write_file(page, |out| out.write_all(html.as_bytes()))
    }
}

/// The row with the least (or, with a negative sign, the largest) number in a column; the first of equals.
fn least(table: &Table, column: &str, sign: f64) -> Option<usize> {
    let column = table.column(column)?;
    let numbers = (0..table.rows.len()).filter_map(|row| Some((row, table.number(row, column)?)));
    let there: Vec<_> = numbers
        .filter(|(_, number)| *number != 0.0 || sign < 0.0 || !table.columns[column].name.ends_with("usd"))
        .collect();
    there.into_iter().min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1))).map(|(row, _)| row)
}

/// Cells that somebody measured: those of the public study for its scenario, and the files of the user.
fn measured(about: Option<&About>, observed: &[PathBuf], problems: &mut Vec<String>) -> Result<Vec<Table>> {
    let known = Known { file: "", about: "measured cells", needed: &[] };
    let mut tables = Vec::new();
    if about.is_some_and(|about| about.verb == "sweep" && about.name == STUDY.0) {
        for (file, text) in STUDY.1 {
            tables.extend(Table::parse(&Known { file, ..known }, text.as_bytes(), Some(b'#'), problems));
        }
    }
    for path in observed {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read observations", &error))?;
        let name = path.display().to_string();
        let mut found = Vec::new();
        let table = Table::parse(&known, &bytes, Some(b'#'), &mut found);
        let Some(table) = table.filter(|_| found.is_empty()) else {
            let message = found.first().map_or("is empty", |said| said.trim_start_matches(": "));
            return Err(Error::input(name, message));
        };
        if !table.columns.iter().any(|column| column.name.contains('.')) {
            let message = "names no scenario path, such as client.key.buckets: a table of measured cells has paths and metrics";
            return Err(Error::input(name, message));
        }
        tables.push(Table { file: name, ..table });
    }
    Ok(tables)
}

#[cfg(test)]
mod tests;
