//! What was seen of a provider: a CSV file of requests, of cells (set-ups with their figures), or of latencies; or a log
//! of a user's own ([`observed_log`](crate::experiment::observed_log)).
//!
//! The header of a CSV file says which. Lines that begin with `#` are comments.
//!
//! * **requests**: `time` (seconds) or `time_ms`, `prompt_tokens`, `cached_tokens` (empty: sent, but not known what was
//!   read), optionally `key`, `prefix` (identity of the shared prefix), `prefix_tokens` (its length), `output_tokens`,
//!   `ttft_ms`, `total_ms`, `cell`, and paths of the scenario that hold for a row's set-up.
//! * **cells**: paths of the scenario, and metrics of [`COLUMNS`]; a row is a set-up with what was observed in it.
//! * **latencies**: `ttft_ms`, `uncached_tokens`, `cached_tokens`, optionally `count`: a row is then a mean of so many
//!   runs (of an unknown number where it is empty).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::document::nearest;
use crate::error::{Error, Result};
use crate::experiment::metrics::COLUMNS;
use crate::experiment::observed_log::LoggedPrompt;
use crate::experiment::scenario::{Change, parse_value};
use crate::input::calls::Calls;
use crate::input::log::LogFormat;
use crate::units::{MOST_TOKENS, SimTime, Tokens, decimal_times};

/// Everything that was observed.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// The set-ups, in the order in which the files name them.
    pub cells: Vec<Cell>,
    /// Times to first token.
    pub latencies: Vec<Latency>,
    /// Names of the files, for the sources of fitted values.
    pub files: Vec<String>,
    /// What to know of how they were read.
    pub notes: Vec<String>,
    /// Models that logs name, with the number of their calls.
    pub models: BTreeMap<Option<String>, usize>,
}

/// One set-up: its changes of the scenario, and what was observed under it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name: the column `cell`, and its settings.
    pub name: String,
    /// The file.
    pub file: String,
    /// What the set-up changes.
    pub settings: Vec<Change>,
    /// The retention that all requests of a log asked for, until it is one of the settings.
    pub retention: Option<String>,
    /// What was observed.
    pub observed: Observed,
}

/// What was observed in a cell.
#[derive(Clone, Debug)]
pub enum Observed {
    /// Its requests, in the order of time.
    Requests(Vec<ObservedRequest>),
    /// Its figures.
    Figures(Vec<Figure>),
}

/// One request of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedRequest {
    /// Line in the file.
    pub line: u64,
    /// When it was sent, on the clock of its cell.
    pub time: SimTime,
    /// Its `prompt_cache_key`.
    pub key: Option<String>,
    /// Identity of the prefix that it shares with others; of a log, of what routing looks at.
    pub prefix: String,
    /// What it has in common with others.
    pub content: Content,
    /// Length of the prompt.
    pub prompt_tokens: Tokens,
    /// What was read; `None` if that is not known.
    pub cached_tokens: Option<Tokens>,
    /// Length of the answer.
    pub output_tokens: Tokens,
}

/// What a request has in common with others.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// So many tokens of its named prefix; `None` leaves their number to the scenario.
    Prefix(Option<Tokens>),
    /// What its log says.
    Logged(Box<LoggedPrompt>),
}

/// One figure of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of the metric.
    pub metric: &'static str,
    /// Its value.
    pub value: f64,
}

/// One time to first token, or the mean of some.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Tokens computed.
    pub uncached_tokens: f64,
    /// Tokens read from the cache.
    pub cached_tokens: f64,
    /// The time.
    pub ttft_ms: f64,
    /// What stands behind it.
    pub runs: Runs,
}

/// What a latency is the mean of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Runs {
    /// One run: itself.
    One,
    /// So many.
    Mean(f64),
    /// Nobody knows how many.
    Unknown,
}

const REQUEST_COLUMNS: [&str; 11] = [
    "time",
    "time_ms",
    "key",
    "prefix",
    "prefix_tokens",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "ttft_ms",
    "total_ms",
    "cell",
];
const LATENCY_COLUMNS: [&str; 5] = ["ttft_ms", "uncached_tokens", "cached_tokens", "count", "cell"];

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Requests,
    Cells,
    Latencies,
}

impl Observations {
    /// Reads files one after another; those that are no tables of observations are logs.
    pub fn from_files<P: AsRef<Path>>(paths: &[P], format: &LogFormat) -> Result<Self> {
        let mut observations = Self::default();
        for path in paths {
            let path = path.as_ref();
            if is_log(path, format)? {
                observations.add_log(path, format)?;
                continue;
            }
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::io(path, "read observations", &error))?;
            observations.add(&path.display().to_string(), &text)?;
        }
        Ok(observations)
    }

    /// Adds one file's text.
    pub fn add(&mut self, file: &str, text: &str) -> Result<()> {
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let broken = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            Error::input(format!("{file}:{line}"), format!("is no CSV: {}", in_words(&error)))
        };
        let header: Vec<String> = reader.headers().map_err(broken)?.iter().map(String::from).collect();
        if header.iter().all(String::is_empty) {
            return Err(Error::input(file, "is empty: a header and one row or more are needed"));
        }
        let form = form_of(file, &header)?;
        let mut rows = 0;
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            let row = Row { file, line, header: &header, fields: record.iter().collect() };
            match form {
                Form::Requests => self.add_request(&row)?,
                Form::Cells => self.add_figures(&row)?,
                Form::Latencies => self.latencies.push(row.latency()?),
            }
            rows += 1;
        }
        if rows == 0 {
            return Err(Error::input(file, "has a header and no rows: one row or more is needed"));
        }
        self.files.push(file.to_string());
        Ok(())
    }

    fn add_request(&mut self, row: &Row<'_>) -> Result<()> {
        let request = row.request()?;
        if let (Some(ttft_ms), Some(cached)) = (row.number("ttft_ms")?, request.cached_tokens) {
            self.latencies.push(Latency {
                uncached_tokens: f64::from(request.prompt_tokens - cached),
                cached_tokens: f64::from(cached),
                ttft_ms,
                runs: Runs::One,
            });
        }
        let name = row.cell_name();
        let same = |cell: &&mut Cell| cell.file == row.file && cell.name == name;
        if let Some(Cell { observed: Observed::Requests(requests), .. }) = self.cells.iter_mut().find(same) {
            let before = requests.last().expect("a cell begins with a request");
            if request.time < before.time {
                let message = format!(
                    "`time` goes backwards: line {} of the same cell is later; sort the rows, or tell cells apart in \
                     a column `cell`",
                    before.line
                );
                return Err(row.error(message));
            }
            requests.push(request);
            return Ok(());
        }
        let observed = Observed::Requests(vec![request]);
        self.cells.push(Cell {
            name,
            file: row.file.to_string(),
            settings: row.settings()?,
            retention: None,
            observed,
        });
        Ok(())
    }

    fn add_figures(&mut self, row: &Row<'_>) -> Result<()> {
        let mut figures = Vec::new();
        for metric in row.header.iter().filter_map(|name| metric(name)) {
            figures.extend(row.number(metric)?.map(|value| Figure { metric, value }));
        }
        if figures.is_empty() {
            return Err(row.error("holds no figure: fill in one of the observed metrics"));
        }
        let name = row.cell_name();
        if self.cells.iter().any(|cell| cell.file == row.file && cell.name == name) {
            return Err(
                row.error(format!("the cell `{name}` is there twice: tell them apart in a column `cell`"))
            );
        }
        let observed = Observed::Figures(figures);
        self.cells.push(Cell {
            name,
            file: row.file.to_string(),
            settings: row.settings()?,
            retention: None,
            observed,
        });
        Ok(())
    }

    /// Rows that the provider's rules must explain: requests with a reading, and figures.
    pub fn rows(&self) -> usize {
        self.cells.iter().map(|cell| cell.observed.rows()).sum()
    }

    /// All requests, each with its cell.
    pub fn requests(&self) -> impl Iterator<Item = (&Cell, &ObservedRequest)> {
        self.cells.iter().flat_map(|cell| match &cell.observed {
            Observed::Requests(requests) => requests.iter().map(|request| (cell, request)).collect(),
            Observed::Figures(_) => Vec::new(),
        })
    }
}

impl Observed {
    fn rows(&self) -> usize {
        match self {
            Self::Requests(requests) => requests.iter().filter(|one| one.cached_tokens.is_some()).count(),
            Self::Figures(figures) => figures.len(),
        }
    }
}

/// How much of a file is looked at to see whether it is a log.
const LOOKED_AT: u64 = 1 << 16;

/// Whether a file is a log, and no table of observations.
fn is_log(path: &Path, format: &LogFormat) -> Result<bool> {
    if format.kind.is_some() {
        return Ok(true);
    }
    let unreadable = |error| Error::io(path, "read observations", &error);
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LOOKED_AT).read_to_end(&mut start).map_err(unreadable)?;
    if start.starts_with(&[0x1f, 0x8b]) || start.starts_with(b"PAR1") {
        return Ok(true);
    }
    let text = String::from_utf8_lossy(&start);
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let header = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let names: Vec<String> = header.split(',').map(|name| name.trim().to_string()).collect();
    let is_table = form_of("", &names).is_ok();
    Ok(header.starts_with(['{', '[']) || !is_table && Calls::is_usage_of_requests(header))
}

/// A field as a message shows it: what is no number may be anything, a prompt's text among it.
fn shown(field: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if field.len() <= 30 && field.chars().all(is_number) { format!("`{field}`") } else { "no number".into() }
}

/// A column as a message shows it: a name of one word, as columns have, or none.
fn column_name(name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.len() <= 60 && name.chars().all(is_word) {
        format!("`{name}`")
    } else {
        "with no plain name".into()
    }
}

/// A metric's own name.
fn metric(name: &str) -> Option<&'static str> {
    COLUMNS.iter().map(|column| column.name).find(|known| *known == name)
}

/// Whether a column is a path of the scenario.
fn is_path(name: &str) -> bool {
    name.contains('.') || ["duration", "warmup"].contains(&name)
}

/// What a header announces; an unknown column is an error that names the nearest known one.
fn form_of(file: &str, header: &[String]) -> Result<Form> {
    let has = |name: &str| header.iter().any(|column| column == name);
    if let Some(twice) =
        header.iter().enumerate().find_map(|(at, name)| header[..at].contains(name).then_some(name))
    {
        return Err(Error::input(
            format!("{file}:1"),
            format!("the column {} is there twice", column_name(twice)),
        ));
    }
    let form = if has("time") || has("time_ms") {
        Form::Requests
    } else if has("uncached_tokens") && !header.iter().any(|name| is_path(name)) {
        Form::Latencies
    } else {
        Form::Cells
    };
    let metrics = || COLUMNS.iter().map(|column| column.name);
    let known: Vec<&str> = match form {
        Form::Requests => REQUEST_COLUMNS.to_vec(),
        Form::Latencies => LATENCY_COLUMNS.to_vec(),
        Form::Cells => std::iter::once("cell").chain(metrics()).collect(),
    };
    let paths_too = form != Form::Latencies;
    let unknown = |name: &&String| !(known.contains(&name.as_str()) || paths_too && is_path(name));
    if let Some(name) = header.iter().find(unknown) {
        let candidates = known.iter().chain(&REQUEST_COLUMNS).copied();
        let hint =
            nearest(name, candidates).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let (what, of) = match form {
            Form::Requests => ("a log of requests", REQUEST_COLUMNS.join(", ")),
            Form::Latencies => ("a table of latencies", LATENCY_COLUMNS.join(", ")),
            Form::Cells => ("a table of cells", "cell, metrics such as token_hit_ratio".into()),
        };
        let paths = if paths_too { ", and paths such as client.key.buckets" } else { "" };
        let message = format!("the column {} is not known: {what} has {of}{paths}{hint}", column_name(name));
        return Err(Error::input(format!("{file}:1"), message));
    }
    let needed: &[&str] = match form {
        Form::Requests => &["prompt_tokens", "cached_tokens"],
        Form::Latencies => &["ttft_ms", "cached_tokens"],
        Form::Cells => &[],
    };
    if let Some(lacking) = needed.iter().find(|name| !has(name)) {
        return Err(Error::input(format!("{file}:1"), format!("lacks the column `{lacking}`")));
    }
    if form == Form::Cells && !header.iter().any(|name| metric(name).is_some()) {
        let message = "holds nothing observed: requests have `time`, `prompt_tokens` and `cached_tokens`, cells a \
                       metric such as `token_hit_ratio`, latencies `ttft_ms`, `uncached_tokens` and `cached_tokens`";
        return Err(Error::input(format!("{file}:1"), message));
    }
    Ok(form)
}

/// One row with its place.
struct Row<'a> {
    file: &'a str,
    line: u64,
    header: &'a [String],
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::input(format!("{}:{}", self.file, self.line), message)
    }

    /// A field that is there and not empty.
    fn field(&self, name: &str) -> Option<&str> {
        let at = self.header.iter().position(|column| column == name)?;
        Some(self.fields[at]).filter(|field| !field.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(field) = self.field(name) else { return Ok(None) };
        match field.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Some(value)),
            _ => {
                Err(self.error(format!("`{name}` is {}: it must be a number of zero or more", shown(field))))
            }
        }
    }

    fn tokens(&self, name: &str) -> Result<Option<Tokens>> {
        let Some(field) = self.field(name) else { return Ok(None) };
        let tokens = field.parse().ok().filter(|tokens| *tokens <= MOST_TOKENS);
        tokens.map(Some).ok_or_else(|| {
            self.error(format!(
                "`{name}` is {}: it must be a whole number from 0 to {MOST_TOKENS}",
                shown(field)
            ))
        })
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(format!("`{name}` is empty")))
    }

    fn time(&self) -> Result<SimTime> {
        let (name, scale) = if self.header.iter().any(|name| name == "time") {
            ("time", 1_000_000_000)
        } else {
            ("time_ms", 1_000_000)
        };
        let field = self.needed(name, self.field(name))?;
        let nanos = decimal_times(field, scale).filter(|nanos| *nanos < 1 << 62);
        let unit = if name == "time" { "seconds" } else { "milliseconds" };
        nanos.map(SimTime).ok_or_else(|| {
            self.error(format!(
                "`{name}` is {}: it must be a number of {unit} from 0 to 146 years",
                shown(field)
            ))
        })
    }

    fn request(&self) -> Result<ObservedRequest> {
        let prompt_tokens = self.needed("prompt_tokens", self.tokens("prompt_tokens")?)?;
        let cached_tokens = self.tokens("cached_tokens")?;
        let prefix_tokens = self.tokens("prefix_tokens")?;
        if prompt_tokens == 0 {
            return Err(self.error("`prompt_tokens` is 0: a prompt has one token or more"));
        }
        for (name, part) in [("cached_tokens", cached_tokens), ("prefix_tokens", prefix_tokens)] {
            if let Some(part) = part.filter(|part| *part > prompt_tokens) {
                return Err(self.error(format!(
                    "`{name}` is {part}, above the {prompt_tokens} of `prompt_tokens`: a part cannot be longer than \
                     the prompt"
                )));
            }
        }
        Ok(ObservedRequest {
            line: self.line,
            time: self.time()?,
            key: self.field("key").map(String::from),
            prefix: self.field("prefix").unwrap_or_default().to_string(),
            content: Content::Prefix(prefix_tokens),
            prompt_tokens,
            cached_tokens,
            output_tokens: self.tokens("output_tokens")?.unwrap_or(0),
        })
    }

    fn latency(&self) -> Result<Latency> {
        let number = |name: &str| self.needed(name, self.number(name)?);
        let runs = match (self.header.iter().any(|name| name == "count"), self.number("count")?) {
            (false, _) => Runs::One,
            (true, None) => Runs::Unknown,
            (true, Some(count)) if count >= 1.0 => Runs::Mean(count),
            (true, Some(_)) => return Err(self.error("`count` must be 1 or more")),
        };
        Ok(Latency {
            uncached_tokens: number("uncached_tokens")?,
            cached_tokens: number("cached_tokens")?,
            ttft_ms: number("ttft_ms")?,
            runs,
        })
    }

    /// The scenario's values in this row.
    fn settings(&self) -> Result<Vec<Change>> {
        let origin = format!("{}:{}", self.file, self.line);
        let paths =
            self.header.iter().zip(&self.fields).filter(|(name, field)| is_path(name) && !field.is_empty());
        let change = |(name, field): (&String, &&str)| {
            let path = name.parse().map_err(|message| self.error(message))?;
            Ok(Change { path, value: parse_value(field), origin: origin.clone() })
        };
        paths.map(change).collect()
    }

    /// The name of its cell: what tells it from others.
    fn cell_name(&self) -> String {
        let named = self.header.iter().zip(&self.fields);
        let named = named.filter(|(name, _)| is_path(name) || *name == "cell");
        // What a row leaves out keeps its place: a value of another column is another cell.
        named.map(|(_, field)| if field.is_empty() { "-" } else { *field }).collect::<Vec<_>>().join(" ")
    }
}

/// A CSV error without its own line number, which counts otherwise.
fn in_words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields, and the header {expected_len}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Observations> {
        let mut observations = Observations::default();
        observations.add("o.csv", text).map(|()| observations)
    }

    #[test]
    fn requests_of_one_set_up_are_one_cell() {
        let text = "# a comment\ntime,key,client.retention,prompt_tokens,cached_tokens,ttft_ms\n\
                    0.5,a,24h,2000,0,900\n0,a,in_memory,2000,,800\n7.25,b,24h,2000,1920,700\n";
        let observations = read(text).unwrap();
        assert_eq!(observations.cells.len(), 2);
        let Observed::Requests(requests) = &observations.cells[0].observed else { panic!("requests") };
        assert_eq!(requests[1].time, SimTime(7_250_000_000));
        assert_eq!((requests[1].line, requests[1].key.as_deref()), (5, Some("b")));
        assert_eq!(observations.cells[0].settings[0].value, toml::Value::String("24h".into()));
        assert_eq!((observations.rows(), observations.latencies.len()), (2, 2), "one reading is not known");
    }

    #[test]
    fn cells_and_latencies_are_told_by_their_columns() {
        let cells = read("client.key.buckets,token_hit_ratio,total_p50_ms\n1,0.9,\n8,0.95,6000\n").unwrap();
        assert_eq!((cells.cells.len(), cells.rows()), (2, 3));
        let latencies = read("ttft_ms,uncached_tokens,cached_tokens,count\n900,10,0,\n900,10,0,5\n").unwrap();
        assert_eq!(latencies.latencies[0].runs, Runs::Unknown);
        assert_eq!(latencies.latencies[1].runs, Runs::Mean(5.0));
    }

    #[test]
    fn bad_input_is_named_with_file_line_and_what_would_be_right() {
        let header = "time,prompt_tokens,cached_tokens\n";
        for (text, words) in [
            (String::new(), "o.csv: is empty"),
            (header.into(), "o.csv: has a header and no rows"),
            ("tme,prompt_tokens,cached_tokens\n".into(), "did you mean `time`?"),
            ("time,promt_tokens,cached_tokens\n".into(), "o.csv:1: the column `promt_tokens` is not known"),
            ("time,prompt_tokens\n0,1\n".into(), "lacks the column `cached_tokens`"),
            ("client.key.buckets\n3\n".into(), "holds nothing observed"),
            ("client.key.buckets,token_hit_rato\n3,1\n".into(), "did you mean `token_hit_ratio`?"),
            (format!("{header}0,100,101\n"), "o.csv:2: `cached_tokens` is 101, above the 100"),
            (format!("{header}5,100,0\n4,100,0\n"), "o.csv:3: `time` goes backwards: line 2"),
            (format!("{header}-5,100,0\n"), "o.csv:2: `time` is `-5`"),
            (format!("{header}0,1e9,0\n"), "o.csv:2: `prompt_tokens` is `1e9`"),
            (format!("{header}0,,0\n"), "o.csv:2: `prompt_tokens` is empty"),
            (format!("{header}0,100\n"), "o.csv:2: is no CSV: the row has 2 fields, and the header 3"),
            ("time,time,prompt_tokens\n".into(), "the column `time` is there twice"),
            ("a.b,token_hit_ratio\n1,nan\n".into(), "o.csv:2: `token_hit_ratio` is no number"),
            ("a.b,token_hit_ratio\n1,\n".into(), "o.csv:2: holds no figure"),
            ("a.b,token_hit_ratio\n1,1\n1,1\n".into(), "o.csv:3: the cell `1` is there twice"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
