//! Usage table: CSV, a row a call, without bodies.
//!
//! Columns go by the names that people give them ([`TIMES`] and the like), in any order; of two that mean the same, the
//! first in this list counts. Others are passed over, and can be asked for. Lines that begin with `#` are comments. A row of a call
//! that failed (`http_ok`, `status`, `error`), or without a prompt's length, is left out and counted. Semicolons and tabs
//! separate as well as commas.

use std::io::{self, Read};
use std::path::Path;

use csv::{Reader, ReaderBuilder, StringRecord};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::input::call::Call;
use crate::input::calls::{Next, Trouble};
use crate::input::detect::open;
use crate::input::fields::{count, moment};
use crate::input::request_log::{Step, drop_false_ttft};
use crate::input::text_lines::{LINE_LIMIT, Parsed, Unpacked};
use crate::input::usage::{self, NAMES as COUNTS};
use crate::units::{SimTime, Span, Tokens, decimal_times};

/// When a call was sent.
const TIMES: [&str; 14] = [
    "time",
    "timestamp",
    "ts",
    "time_ms",
    "timestamp_ms",
    "admitted_ms",
    "sent_at",
    "start_utc",
    "start_time",
    "startTime",
    "started_at",
    "created_at",
    "created",
    "datetime",
];
const ENDS: [&str; 5] = ["end_utc", "end_time", "endTime", "ended_at", "completed_at"];
const KEYS: [&str; 2] = ["prompt_cache_key", "key"];
const SESSIONS: [&str; 6] =
    ["session", "session_id", "sessionId", "conversation", "conversation_id", "thread_id"];
const MODELS: [&str; 2] = ["model", "model_permaslug"];
/// What tells a whole prompt apart from others.
const PROMPTS: [&str; 7] =
    ["prompt_sha12", "prompt_sha256", "prompt_hash", "prompt_digest", "prompt_id", "prompt", "prefix"];
const TTFT_MS: [&str; 4] = ["ttft_ms", "first_token_latency_ms", "time_to_first_token_ms", "first_token_ms"];
const TOTAL_MS: [&str; 5] = ["total_ms", "total_latency_ms", "latency_ms", "elapsed_ms", "duration_ms"];
/// What says that a call failed.
const OUTCOMES: [&str; 5] = ["http_ok", "ok", "success", "status", "error"];
/// The longest text that identifies a prompt as it is; of a longer one, which may be the prompt itself, a digest does.
const LONGEST_NAME: usize = 64;

/// Reads a table row by row.
#[derive(Debug)]
pub(super) struct UsageTable {
    rows: Reader<Bounded>,
    header: Vec<String>,
    passed_over: Vec<String>,
    record: StringRecord,
    /// How far the CSV crate is behind with its line numbers: it takes the second byte of `\r\n` for the next row's.
    lines_behind: u64,
}

/// A file of which no more is read for one row than it may have: an open quote must not fill the memory.
#[derive(Debug)]
struct Bounded {
    source: Unpacked,
    /// Bytes that may still be read.
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let message = format!("a row is longer than {} MiB: a quote may be open", LINE_LIMIT >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let room = buffer.len().min(self.left);
        let read = self.source.bytes().read(&mut buffer[..room])?;
        self.left -= read;
        Ok(read)
    }
}

impl UsageTable {
    /// Opens a table and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |error| Error::io(path, "read the file", &error);
        let mut source = Unpacked::new(open(path)?).map_err(unreadable)?;
        let start = source.bytes().fill_buf().map_err(unreadable)?;
        let start = String::from_utf8_lossy(start.get(..4096).unwrap_or(start)).into_owned();
        let lines_behind = start.split('\n').next().is_some_and(|line| line.ends_with('\r')).into();
        let mut rows = ReaderBuilder::new()
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .delimiter(delimiter(&start))
            .from_reader(Bounded { source, left: LINE_LIMIT });
        let header = rows.headers().map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            Error::input(format_args!("{}:{line}", path.display()), trouble(&error))
        })?;
        let header: Vec<String> =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
        let wrong = |message: String| Error::input(format_args!("{}:1", path.display()), message);
        let mut known = header.iter().enumerate().filter(|(_, name)| is_known(name));
        if let Some((_, twice)) = known.find(|(at, name)| header[..*at].contains(name)) {
            return Err(wrong(format!("the column `{twice}` is there twice")));
        }
        if !header.iter().any(|name| COUNTS.contains(&name.as_str())) {
            let example = "`time`, `prompt_tokens`, `cached_tokens`";
            return Err(wrong(format!(
                "has no column with tokens: a table of usage has columns such as {example}"
            )));
        }
        let passed_over = header.iter().filter(|name| !is_known(name)).cloned().collect();
        Ok(Self { rows, header, passed_over, record: StringRecord::new(), lines_behind })
    }

    /// Columns that say nothing here.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The next row.
    pub fn next(&mut self) -> Next {
        self.rows.get_mut().left = LINE_LIMIT;
        let there = self.rows.read_record(&mut self.record);
        let line_of = |at: Option<&csv::Position>| at.map_or(1, csv::Position::line) + self.lines_behind;
        match there {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = line_of(self.record.position());
                self.row(line).map(Some).map_err(|message| Trouble::Line(line, message))
            }
            Err(error) if error.is_io_error() => Err(Trouble::File(trouble(&error))),
            Err(error) => Err(Trouble::Line(line_of(error.position()), trouble(&error))),
        }
    }

    /// A field that is not empty, by the first of these names that the table has.
    fn field<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a str)> {
        names.iter().find_map(|name| {
            let at = self.header.iter().position(|column| column == name)?;
            let field = self.record.get(at)?;
            (!field.is_empty()).then_some((*name, field))
        })
    }

    fn row(&self, line: u64) -> Parsed<Step> {
        let number = |name: &str| -> Parsed<Option<Tokens>> {
            self.field(&[name]).map(|(_, field)| count(name, field)).transpose()
        };
        let time = |names: &[&str]| -> Parsed<Option<SimTime>> {
            self.field(names).map(|(name, field)| moment(name, field)).transpose()
        };
        let text = |names: &[&str]| self.field(names).map(|(_, field)| field.to_string());
        let millis = |names: &[&str]| decimal_times(self.field(names)?.1, 1_000_000).map(Span);
        let mut call = Call { line, time: time(&TIMES)?, ..Call::default() };
        call.session = text(&SESSIONS);
        call.key = text(&KEYS);
        call.prompt = text(&PROMPTS).map(identity);
        call.settings.prefix.extend(text(&MODELS).map(|model| ("model", model)));
        let end = time(&ENDS)?.zip(call.time).filter(|(end, start)| start <= end);
        call.total = millis(&TOTAL_MS).or(end.map(|(end, start)| end.since(start)));
        call.ttft = millis(&TTFT_MS);
        drop_false_ttft(&mut call);
        call.usage = usage::usage(number)?;
        let billed = call.usage.prompt_tokens.is_some_and(|tokens| tokens > 0);
        Ok(if billed && !self.failed() { Step::Call(Box::new(call)) } else { Step::WithoutUsage })
    }

    fn failed(&self) -> bool {
        OUTCOMES.iter().filter_map(|name| self.field(&[name])).any(|(name, field)| match name {
            "error" => true,
            "status" => {
                field.parse().is_ok_and(|code: u16| code >= 400)
                    || ["error", "failed", "failure"].contains(&field)
            }
            _ => ["0", "false", "False"].contains(&field),
        })
    }
}

/// What stands for a prompt.
fn identity(field: String) -> String {
    if field.len() <= LONGEST_NAME {
        return field;
    }
    Sha256::digest(field.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_known(name: &str) -> bool {
    let lists: [&[&str]; 9] =
        [&TIMES, &ENDS, &KEYS, &SESSIONS, &MODELS, &PROMPTS, &TTFT_MS, &TOTAL_MS, &OUTCOMES];
    COUNTS.contains(&name) || lists.iter().any(|list| list.contains(&name))
}

/// What is wrong with a row, without a word of it.
fn trouble(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields, but the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8 text: save the file as UTF-8".into(),
        csv::ErrorKind::Io(error) => format!("cannot read the file: {error}"),
        _ => "the row is no CSV".into(),
    }
}

/// Whether a text is the header of such a table.
pub(super) fn is_header(text: &str) -> bool {
    let text = text.lines().next().unwrap_or_default();
    let delimiter = delimiter(text) as char;
    let names = || text.split(delimiter).map(|name| name.trim().trim_matches('"'));
    names().count() > 1 && names().any(|name| COUNTS.contains(&name))
}

/// Whether a header names when requests were sent, how long their prompts were, and what was read of them.
pub(super) fn tells_requests(header: &str) -> bool {
    let delimiter = delimiter(header) as char;
    let names: Vec<_> = header.split(delimiter).map(|name| name.trim().trim_matches('"')).collect();
    names.iter().any(|name| TIMES.contains(name)) && usage::tells_reading(&names)
}

/// What separates the names of a header: the first line that is no comment.
fn delimiter(start: &str) -> u8 {
    let header = start.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let count = |delimiter: u8| header.bytes().filter(|byte| *byte == delimiter).count();
    // Of equals the last one counts: a header without any is one of commas.
    [b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_known_by_their_counts() {
        for header in ["time,prompt_tokens", "a;input_tokens;b", "\"ts\"\t\"cached_tokens\"\tprompt_tokens"] {
            assert!(is_header(header), "{header}");
        }
        for header in ["time,tokens", "prompt_tokens", "", "{\"a\": 1, \"b\": 2}"] {
            assert!(!is_header(header), "{header}");
        }
    }

    #[test]
    fn a_prompt_itself_is_not_kept() {
        assert_eq!(identity("6b3c02205a7c".into()), "6b3c02205a7c");
        let digest = identity("secret ".repeat(20));
        assert!(digest.len() == 32 && !digest.contains("secret"));
    }
}
