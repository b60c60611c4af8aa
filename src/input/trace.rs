//! Trace: a recorded log of requests, one JSON object a line, read as a stream.
//!
//! This is the form of the Mooncake traces and of their relatives:
//!
//! ```text
//! {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 49]}
//! ```
//!
//! * `timestamp`: a number, quoted or not, in the trace's unit; every digit counts. Lines are in order of time.
//! * `input_length`, `output_length`: tokens; without the latter the answer has none.
//! * `hash_ids`: one id for each block of the prompt. Equal ids mean equal text only after equal prefixes, so
//!   both chained ids (an id stands for its whole prefix) and content ids (for its block alone) are understood.
//!   The last block may be partly filled, or left out. What no id names is unique to the request.
//! * `runs`: instead of `hash_ids`, `[[first, count], ...]` for stretches of consecutive ids.
//! * `session` (or `session_id`), `key` (or `prompt_cache_key`): strings or integers.
//! * `first256`: a digest of the first 256 tokens, for routing: equal strings, equal text.
//!
//! Other fields are ignored, and `null` counts as absent. Memory does not grow with the length of the file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::prompt::Run;
use crate::random::digest;
use crate::units::{SimTime, Span, Tokens, decimal_times};

/// The longest line that is read into memory, in bytes.
const LINE_LIMIT: usize = 64 << 20;
/// The most tokens a prompt, an answer or a block may have: sums of two still fit.
const MOST_TOKENS: Tokens = 1 << 31;
/// Times stay below this many nanoseconds (292 years), far from [`SimTime::NEVER`].
const TIME_LIMIT: u64 = 1 << 63;
/// How many messages about skipped lines are kept.
const KEPT_MESSAGES: usize = 5;
const BUFFER: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How to read a trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceFormat {
    /// The JSONL file, plain or gzip, relative to the file that names it.
    pub path: String,
    /// Tokens in the block that one id stands for (Mooncake: 512).
    pub block_tokens: Tokens,
    /// Unit of the timestamps.
    pub time_unit: TimeUnit,
    /// Whether equal ids of different sessions are the same text.
    #[serde(default)]
    pub ids: IdScope,
    /// Skip bad lines, and count them, instead of stopping at the first.
    #[serde(default)]
    pub skip_bad: bool,
}

impl TraceFormat {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> std::result::Result<(), (&'static str, String)> {
        if !(1..=MOST_TOKENS).contains(&self.block_tokens) {
            return Err(("block_tokens", format!("must be from 1 to {MOST_TOKENS} (Mooncake: 512)")));
        }
        Ok(())
    }
}

/// The unit of a trace's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    fn nanos(self) -> u64 {
        match self {
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
            Self::Ns => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ms => "milliseconds",
            Self::S => "seconds",
            Self::Ns => "nanoseconds",
        }
    }
}

/// Where an id means the same text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdScope {
    /// In this and every other trace of a scenario.
    #[default]
    Global,
    /// Only within this trace.
    Trace,
    /// Only within one session: no two sessions share anything, and every line must name its session.
    Session,
}

/// One request of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Line in the file, from 1.
    pub line: u64,
    /// When the request was sent, in the trace's own time.
    pub time: SimTime,
    /// Length of the prompt.
    pub prompt_tokens: Tokens,
    /// Length of the answer.
    pub output_tokens: Tokens,
    /// The blocks that the ids name. A partly filled last block counts as a full one, so that together the runs
    /// may be longer than the prompt.
    pub runs: Vec<Run>,
    /// Tokens at the start of the prompt that the ids name; the rest is unique to the request.
    pub named_tokens: Tokens,
    /// The session's name.
    pub session: Option<String>,
    /// The `prompt_cache_key` that was sent.
    pub key: Option<String>,
    /// Digest of `first256`.
    pub head: Option<u64>,
}

/// The bad lines that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// What was wrong with the first few.
    pub first: Vec<String>,
}

/// Reads a trace one request at a time.
#[derive(Debug)]
pub struct TraceReader {
    format: TraceFormat,
    path: PathBuf,
    source: Source,
    /// The bytes of the current line; more than the limit if it is too long.
    line: Vec<u8>,
    number: u64,
    /// Time of the last good request.
    last: SimTime,
    requests: u64,
    skipped: Skipped,
}

#[derive(Debug)]
enum Source {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl Source {
    fn bytes(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(decoder) => decoder,
        }
    }
}

/// The fields of a line as they are written. Numbers stay text, because a JSON number is a float past 2^53, and
/// because a message should show what stands in the file. (One `borrow` gives all fields the line's lifetime.)
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    input_length: Option<&'a RawValue>,
    output_length: Option<&'a RawValue>,
    hash_ids: Option<&'a RawValue>,
    runs: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    session_id: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    prompt_cache_key: Option<&'a RawValue>,
    first256: Option<&'a RawValue>,
}

impl TraceReader {
    /// Opens the file of `format`, whose path is relative to `folder`.
    pub fn open(format: &TraceFormat, folder: &Path) -> Result<Self> {
        format.validate().map_err(|(field, message)| Error::input(field, message))?;
        let path = folder.join(&format.path);
        if path.is_dir() {
            return Err(Error::input(
                path.display(),
                "is a folder: a trace is one JSONL file, plain or gzip",
            ));
        }
        let file = File::open(&path).map_err(|error| Error::io(&path, "open the trace", &error))?;
        let mut plain = BufReader::with_capacity(BUFFER, file);
        let start = plain.fill_buf().map_err(|error| Error::io(&path, "read the trace", &error))?;
        let source = if start.starts_with(&GZIP_MAGIC) {
            Source::Gzip(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain))))
        } else {
            Source::Plain(plain)
        };
        Ok(Self {
            format: format.clone(),
            path,
            source,
            line: Vec::new(),
            number: 0,
            last: SimTime::ZERO,
            requests: 0,
            skipped: Skipped::default(),
        })
    }

    /// Reads the next request into `record`, whose buffers are used again; false at the end of the file. After
    /// an error the record holds nothing of use; reading can go on behind a bad line.
    pub fn read(&mut self, record: &mut Record) -> Result<bool> {
        while self.next_line()? {
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            match self.parse(record) {
                Ok(()) => {
                    self.last = record.time;
                    self.requests += 1;
                    return Ok(true);
                }
                Err(message) => self.reject(message)?,
            }
        }
        if self.requests == 0 && self.skipped.count == 0 {
            let message = "the trace is empty: a trace has one JSON object a line for each request";
            return Err(Error::input(self.path.display(), message));
        }
        Ok(false)
    }

    /// The bad lines so far; none unless the format says to skip them.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Moves to the next line; false at the end of the file.
    fn next_line(&mut self) -> Result<bool> {
        self.number += 1;
        self.line.clear();
        match fill_line(self.source.bytes(), &mut self.line) {
            Ok(more) => Ok(more),
            Err(error) => Err(self.at_line(match self.source {
                Source::Plain(_) => format!("cannot read the trace: {error}"),
                Source::Gzip(_) => {
                    format!("cannot unpack the trace: {error}; the gzip file is damaged or cut off")
                }
            })),
        }
    }

    fn at_line(&self, message: String) -> Error {
        Error::input(format_args!("{}:{}", self.path.display(), self.number), message)
    }

    /// Stops at a bad line, or counts it.
    fn reject(&mut self, message: String) -> Result<()> {
        let error = self.at_line(message);
        if !self.format.skip_bad {
            return Err(error);
        }
        self.skipped.count += 1;
        if self.skipped.first.len() < KEPT_MESSAGES {
            self.skipped.first.push(error.to_string());
        }
        Ok(())
    }

    /// Reads the current line into `record`; the error is the message without its place.
    fn parse(&self, record: &mut Record) -> std::result::Result<(), String> {
        if self.line.len() > LINE_LIMIT {
            return Err(format!(
                "the line is longer than {} MiB, the limit of one request",
                LINE_LIMIT >> 20
            ));
        }
        let line = parse_line(&self.line)?;
        record.line = self.number;
        record.time = time(line.timestamp, self.format.time_unit)?;
        record.prompt_tokens = match line.input_length {
            Some(value) => tokens("input_length", value)?,
            None => return Err("`input_length` is missing: every request needs its prompt's tokens".into()),
        };
        record.output_tokens = line.output_length.map_or(Ok(0), |value| tokens("output_length", value))?;
        let session = line.session.or(line.session_id);
        copy_text("session", session, &mut record.session)?;
        copy_text("key", line.key.or(line.prompt_cache_key), &mut record.key)?;
        record.head = match line.first256 {
            Some(value) => Some(digest(text("first256", value)?.as_bytes())),
            None => None,
        };
        self.read_ids(&line, record)?;
        if record.time < self.last {
            let (from, to) = (Span(self.last.0), Span(record.time.0));
            return Err(format!("`timestamp` goes back from {from} to {to}: lines must be in order of time"));
        }
        Ok(())
    }

    /// Reads `hash_ids` or `runs` into the record's runs.
    fn read_ids(&self, line: &Line, record: &mut Record) -> std::result::Result<(), String> {
        let mut blocks = Blocks {
            runs: &mut record.runs,
            piece_tokens: self.format.block_tokens,
            offset: 0,
            largest_id: u64::MAX,
        };
        blocks.runs.clear();
        if self.format.ids == IdScope::Session {
            let session = record
                .session
                .as_ref()
                .ok_or("`session` (or `session_id`) is missing: ids local to a session need their session")?;
            blocks.keep_apart(digest(session));
        }
        let (prompt_tokens, block_tokens) = (record.prompt_tokens, self.format.block_tokens);
        let fits = |count| check_count(count, prompt_tokens, block_tokens);
        let count = match (line.hash_ids, line.runs) {
            (None, None) => 0,
            (Some(_), Some(_)) => {
                return Err("`hash_ids` and `runs` are both given: a line has one of the two".into());
            }
            (Some(ids), None) => {
                let count = blocks.push_ids(ids.get())?;
                fits(count)?;
                count
            }
            (None, Some(runs)) => blocks.push_runs(runs.get(), fits)?,
        };
        let named = (count * u64::from(block_tokens)).min(u64::from(prompt_tokens));
        record.named_tokens = Tokens::try_from(named).unwrap_or(prompt_tokens);
        Ok(())
    }
}

/// Where the ids of one line go: consecutive ones into one run.
struct Blocks<'a> {
    runs: &'a mut Vec<Run>,
    piece_tokens: Tokens,
    /// Added to every id.
    offset: u64,
    /// So that id + offset fits.
    largest_id: u64,
}

impl Blocks<'_> {
    /// Moves the ids of a session to a place of its own. An offset keeps consecutive ids consecutive; ids and
    /// offset have 63 bits each, so that their sum fits. Two sessions of n blocks overlap with a chance of
    /// n / 2^62 only.
    fn keep_apart(&mut self, session: u64) {
        self.offset = session >> 1;
        self.largest_id = u64::MAX >> 1;
    }

    fn push(&mut self, first: u64, pieces: u32) -> std::result::Result<(), String> {
        let last = first.checked_add(u64::from(pieces) - 1);
        if last.is_none_or(|last| last > self.largest_id) {
            return Err(format!("{first} is too large an id: the largest here is {}", self.largest_id));
        }
        let content = first + self.offset;
        match self.runs.last_mut() {
            Some(run) if run.content.checked_add(u64::from(run.pieces)) == Some(content) => {
                run.pieces += pieces
            }
            _ => self.runs.push(Run { content, pieces, piece_tokens: self.piece_tokens }),
        }
        Ok(())
    }

    /// Pushes the ids of a JSON array and returns how many they are. The array is known to be valid JSON, so
    /// that cutting it at its commas finds every number, and whatever else it holds is no number.
    fn push_ids(&mut self, json: &str) -> std::result::Result<u64, String> {
        let inside = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(|| {
            format!("`hash_ids` is {}: it must be an array of whole numbers", excerpt(json))
        })?;
        if inside.trim_ascii().is_empty() {
            return Ok(0);
        }
        let mut count = 0;
        // Bytes, because a trace is mostly ids, and what finds a char in a text is slow to start.
        for id in inside.as_bytes().split(|byte| *byte == b',') {
            let id = id.trim_ascii();
            let number = whole_number(id).ok_or_else(|| {
                let id = String::from_utf8_lossy(id);
                format!("`hash_ids` holds {}: ids are whole numbers from 0 to 2^64 - 1", excerpt(&id))
            })?;
            self.push(number, 1)?;
            count += 1;
        }
        Ok(count)
    }

    /// Pushes the stretches of a JSON array of [first, count] and returns how many ids they are, after `fits`
    /// agreed to that many.
    fn push_runs(
        &mut self,
        json: &str,
        fits: impl Fn(u64) -> std::result::Result<(), String>,
    ) -> std::result::Result<u64, String> {
        let runs: Vec<(u64, u64)> = serde_json::from_str(json).map_err(|_| {
            format!("`runs` is {}: it must be [[first, count], ...] of whole numbers", excerpt(json))
        })?;
        let total = runs.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
        fits(total)?;
        for (first, count) in runs {
            match u32::try_from(count) {
                Ok(pieces) if pieces > 0 => self.push(first, pieces)?,
                _ => return Err(format!("`runs` holds [{first}, {count}]: a run has one id or more")),
            }
        }
        Ok(total)
    }
}

/// Appends the next line without its end to `line`; false at the end of the file. Of a line over the limit, only
/// the first byte too many is kept.
fn fill_line(source: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let read = Read::take(&mut *source, LINE_LIMIT as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_LIMIT {
        source.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

fn parse_line(bytes: &[u8]) -> std::result::Result<Line<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| match error.error_len() {
        Some(_) => {
            let byte = error.valid_up_to() + 1;
            format!("the line is not UTF-8 text at byte {byte}: a trace is JSONL, plain or gzip")
        }
        None => "the line is cut off in the middle of a character".into(),
    })?;
    // Some editors put a byte order mark before the first line.
    let text = text.trim_start_matches('\u{feff}').trim_ascii_start();
    if !text.starts_with('{') {
        let example = r#"{"timestamp": 0, "input_length": 900, "hash_ids": [1, 2]}"#;
        return Err(format!("the line is not a JSON object: a request is written like {example}"));
    }
    serde_json::from_str(text).map_err(|error| {
        let column = error.column();
        if error.is_eof() {
            return format!("the line is cut off: its JSON object does not end by column {column}");
        }
        // The line number of serde_json counts inside this line.
        let message = error.to_string();
        let message = message.strip_suffix(&format!(" at line 1 column {column}")).unwrap_or(&message);
        format!("the line is not valid JSON for a request at column {column}: {message}")
    })
}

fn time(value: Option<&RawValue>, unit: TimeUnit) -> std::result::Result<SimTime, String> {
    let value = value.ok_or("`timestamp` is missing: every request needs its time")?.get();
    let number = unquoted(value).unwrap_or(value).trim_ascii();
    // Most times are whole numbers of their unit: no need for decimals.
    let whole = whole_number(number.as_bytes()).and_then(|whole| whole.checked_mul(unit.nanos()));
    whole.or_else(|| decimal_times(number, unit.nanos())).filter(|nanos| *nanos < TIME_LIMIT).map(SimTime).ok_or_else(|| {
        format!(
            "`timestamp` is {}: it must be a number of {} from 0 to 292 years; --time-unit may be wrong",
            excerpt(value),
            unit.name()
        )
    })
}

/// The number that these digits are; `None` if there are other bytes, no digits, or too many.
fn whole_number(digits: &[u8]) -> Option<u64> {
    let push = |number: u64, digit: &u8| {
        let value = digit.wrapping_sub(b'0');
        if value > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(value)) }
    };
    let (first, rest) = digits.split_first()?;
    rest.iter().try_fold(push(0, first)?, push)
}

fn tokens(name: &str, value: &RawValue) -> std::result::Result<Tokens, String> {
    let number = value.get().parse().ok().filter(|tokens| *tokens <= MOST_TOKENS);
    number.ok_or_else(|| {
        format!("`{name}` is {}: it must be a whole number from 0 to {MOST_TOKENS}", excerpt(value.get()))
    })
}

/// The text of a JSON string, or the digits of a JSON integer.
fn text<'a>(name: &str, value: &'a RawValue) -> std::result::Result<Cow<'a, str>, String> {
    let json = value.get();
    let wrong = || format!("`{name}` is {}: it must be a string or an integer", excerpt(json));
    match unquoted(json) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(json).map(Cow::Owned).map_err(|_| wrong()),
        None => {
            let digits = json.strip_prefix('-').unwrap_or(json);
            if digits.bytes().all(|c| c.is_ascii_digit()) { Ok(Cow::Borrowed(json)) } else { Err(wrong()) }
        }
    }
}

/// Puts a text, if there is one, into the buffer of the one before.
fn copy_text(
    name: &str,
    value: Option<&RawValue>,
    to: &mut Option<String>,
) -> std::result::Result<(), String> {
    match value {
        Some(value) => {
            let text = text(name, value)?;
            let buffer = to.get_or_insert_default();
            buffer.clear();
            buffer.push_str(&text);
        }
        None => *to = None,
    }
    Ok(())
}

/// What stands between the quotes of a JSON string, escapes and all; `None` if it is no string.
fn unquoted(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// The beginning of a value, short enough for a message.
fn excerpt(json: &str) -> Cow<'_, str> {
    match json.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}...", &json[..end])),
        None => Cow::Borrowed(json),
    }
}

/// Checks the number of ids against the length of the prompt.
fn check_count(count: u64, prompt_tokens: Tokens, block_tokens: Tokens) -> std::result::Result<(), String> {
    let down = u64::from(prompt_tokens / block_tokens);
    let up = u64::from(prompt_tokens.div_ceil(block_tokens));
    if count == down || count == up {
        return Ok(());
    }
    let right = if down == up {
        format!("{up} (blocks of {block_tokens} tokens)")
    } else {
        format!("{up} (last block of {block_tokens} tokens partly filled) or {down} (last block left out)")
    };
    Err(format!(
        "the number of ids is {count}, but `input_length` {prompt_tokens} needs {right}; --block-tokens may be wrong"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// Blocks of 100 tokens, milliseconds.
    fn format() -> TraceFormat {
        TraceFormat {
            path: "trace.jsonl".into(),
            block_tokens: 100,
            time_unit: TimeUnit::Ms,
            ids: IdScope::Global,
            skip_bad: false,
        }
    }

    fn sessions() -> TraceFormat {
        TraceFormat { ids: IdScope::Session, ..format() }
    }

    fn seconds() -> TraceFormat {
        TraceFormat { time_unit: TimeUnit::S, ..format() }
    }

    /// Writes a trace and reads it up to its end or its first error.
    fn read_all(format: &TraceFormat, content: impl AsRef<[u8]>) -> Result<(Vec<Record>, Skipped)> {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(&format.path), content).unwrap();
        let mut reader = TraceReader::open(format, folder.path())?;
        let (mut record, mut records) = (Record::default(), Vec::new());
        while reader.read(&mut record)? {
            records.push(record.clone());
        }
        Ok((records, reader.skipped().clone()))
    }

    fn records(format: &TraceFormat, content: impl AsRef<[u8]>) -> Vec<Record> {
        read_all(format, content).unwrap().0
    }

    /// The only record of a trace of one line.
    fn record(format: &TraceFormat, line: &str) -> Record {
        let mut records = records(format, line);
        assert_eq!(records.len(), 1, "{line}");
        records.remove(0)
    }

    /// The end of the place and the message that a trace is refused with.
    fn refusal(format: &TraceFormat, content: impl AsRef<[u8]>) -> (String, String) {
        let Err(Error::Input { place, message }) = read_all(format, content) else {
            panic!("the trace is read without an error")
        };
        (place.rsplit(['/', '\\']).next().unwrap().to_string(), message)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn run(content: u64, pieces: u32) -> Run {
        Run { content, pieces, piece_tokens: 100 }
    }

    const GOOD: &str = r#"{"timestamp": 5, "input_length": 250, "hash_ids": [7, 8, 9]}"#;

    #[test]
    fn a_line_becomes_a_record() {
        let line = r#"{"timestamp": 27482, "input_length": 650, "output_length": 52, "other": {"a": [1]},
            "hash_ids": [46, 47, 3, 4, 5, 9], "session": "s", "key": "k", "first256": "3ea9"}"#;
        let expected = Record {
            line: 2,
            time: SimTime(27_482_000_000),
            prompt_tokens: 650,
            output_tokens: 52,
            runs: vec![run(46, 2), run(3, 3), run(9, 1)],
            named_tokens: 600,
            session: Some("s".into()),
            key: Some("k".into()),
            head: Some(digest("3ea9")),
        };
        let content = format!("\n{}\r\n  \n", line.replace('\n', " "));
        assert_eq!(records(&format(), content), [expected]);
    }

    #[test]
    fn absent_and_null_are_the_same_and_leave_nothing_of_the_line_before() {
        let full = r#"{"timestamp": 1, "input_length": 100, "output_length": 5, "hash_ids": [1], "session": 1, "key": 2, "first256": "a"}"#;
        let bare = r#"{"timestamp": 1, "input_length": 100}"#;
        let null = r#"{"timestamp": 1, "input_length": 100, "output_length": null, "hash_ids": null, "runs": null, "session": null, "key": null, "first256": null}"#;
        let read = records(&format(), [full, bare, null, full].join("\n"));
        let expected = Record { line: 2, time: SimTime(1_000_000), prompt_tokens: 100, ..Record::default() };
        assert_eq!(read[1], expected);
        assert_eq!(read[2], Record { line: 3, ..expected });
        assert_eq!(read[3], Record { line: 4, ..read[0].clone() });
    }

    #[test]
    fn names_are_strings_or_integers_under_any_of_their_field_names() {
        let names = |fields: &str| {
            let line = format!(r#"{{"timestamp": 1, "input_length": 0, {fields}}}"#);
            let Record { session, key, .. } = record(&format(), &line);
            (session.unwrap_or_default(), key.unwrap_or_default())
        };
        let both = |session: &str, key: &str| (session.to_string(), key.to_string());
        assert_eq!(names(r#""session": "12", "key": -3"#), both("12", "-3"));
        assert_eq!(names(r#""session_id": 12, "prompt_cache_key": "a\"b\u00e9""#), both("12", "a\"bé"));
        assert_eq!(names(r#""session_id": 7"#), both("7", ""));
        assert_eq!(names(r#""session_id": "b", "session": "a""#), both("a", ""));
    }

    #[test]
    fn times_keep_every_digit_past_two_to_the_53() {
        let time = |unit, timestamp: &str| {
            let line = format!(r#"{{"timestamp": {timestamp}, "input_length": 0}}"#);
            record(&TraceFormat { time_unit: unit, ..format() }, &line).time.0
        };
        assert_eq!(time(TimeUnit::Ns, "\"1760428221546000001\""), 1_760_428_221_546_000_001);
        assert_eq!(time(TimeUnit::Ns, "1760428221546000001"), 1_760_428_221_546_000_001);
        assert_eq!(time(TimeUnit::S, "1760428221.546000001"), 1_760_428_221_546_000_001);
        assert_eq!(time(TimeUnit::S, "\"1760428221.546000001\""), 1_760_428_221_546_000_001);
        assert_eq!(time(TimeUnit::Ms, "1760428221546.000001"), 1_760_428_221_546_000_001);
        assert_eq!(time(TimeUnit::Ms, "1.5e3"), 1_500_000_000);
        assert_eq!(time(TimeUnit::S, "0.30000000000000004"), 300_000_000);
        assert_eq!(time(TimeUnit::S, "1e-400"), 0);
        assert_eq!(time(TimeUnit::Ns, "9223372036854775807"), (1 << 63) - 1);
    }

    #[test]
    fn runs_and_hash_ids_say_the_same() {
        let of = |ids: &str| record(&format(), &format!(r#"{{"timestamp": 1, "input_length": 600, {ids}}}"#));
        let ids = of(r#""hash_ids": [4, 5, 6, 7, 1, 18446744073709551615]"#);
        assert_eq!(ids.runs, [run(4, 4), run(1, 1), run(u64::MAX, 1)]);
        assert_eq!(ids, of(r#""runs": [[4, 4], [1, 1], [18446744073709551615, 1]]"#));
        assert_eq!(ids, of(r#""runs": [[4, 1], [5, 3], [1, 1], [18446744073709551615, 1]]"#));
        let most = r#"{"timestamp": 1, "input_length": 2147483648, "runs": [[0, 2147483648]]}"#;
        let ones = TraceFormat { block_tokens: 1, ..format() };
        assert_eq!(record(&ones, most).runs, [Run { content: 0, pieces: 1 << 31, piece_tokens: 1 }]);
    }

    #[test]
    fn the_last_block_may_be_partly_filled_or_left_out() {
        let named = |length: u32, ids: &str| {
            let line = format!(r#"{{"timestamp": 1, "input_length": {length}, "hash_ids": {ids}}}"#);
            let record = record(&format(), &line);
            (record.named_tokens, record.runs.iter().map(|run| run.tokens()).sum::<Tokens>())
        };
        assert_eq!(named(250, "[1, 2, 3]"), (250, 300));
        assert_eq!(named(250, "[1, 2]"), (200, 200));
        assert_eq!(named(300, "[1, 2, 3]"), (300, 300));
        assert_eq!(named(99, "[]"), (0, 0));
        assert_eq!(named(0, "[ ]"), (0, 0));
        assert_eq!(record(&format(), r#"{"timestamp": 1, "input_length": 250}"#).named_tokens, 0);
        assert_eq!(record(&format(), r#"{"timestamp": 1, "input_length": 0}"#).named_tokens, 0);
    }

    #[test]
    fn ids_of_two_sessions_never_meet() {
        let line = |session: &str| {
            format!(r#"{{"timestamp": 1, "input_length": 300, "session": {session}, "hash_ids": [0, 1, 2]}}"#)
        };
        let read = records(&sessions(), [line("1"), line("2"), line("\"1\"")].join("\n"));
        assert!(read.iter().all(|record| record.runs.len() == 1 && record.runs[0].pieces == 3));
        assert_eq!(read[0].runs, read[2].runs, "a session is known by its text");
        assert!(read[0].runs[0].content.abs_diff(read[1].runs[0].content) > 3);
        let large = format!(
            r#"{{"timestamp": 1, "input_length": 200, "session": 1, "runs": [[{}, 2]]}}"#,
            (1u64 << 63) - 2
        );
        assert_eq!(record(&sessions(), &large).runs[0].pieces, 2);
    }

    #[test]
    fn gzip_is_recognised_by_its_content() {
        let content = format!("{GOOD}\n{GOOD}\n");
        let mut packed = gzip(content.as_bytes());
        // Two members, as `cat a.gz b.gz` makes them.
        packed.extend(gzip(content.as_bytes()));
        assert_eq!(records(&format(), &packed), records(&format(), content.repeat(2)));
        let (place, message) = refusal(&format(), &packed[..packed.len() - 12]);
        assert!(
            place.starts_with("trace.jsonl:") && message.starts_with("cannot unpack the trace: "),
            "{message}"
        );
        // What cannot be read is not a bad line.
        let lenient = TraceFormat { skip_bad: true, ..format() };
        assert_eq!(refusal(&lenient, &packed[..packed.len() - 12]).1, message);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let bad = |format: &TraceFormat, line: &str, start: &str| {
            let (place, message) = refusal(format, format!("\n{line}"));
            assert_eq!(place, "trace.jsonl:2", "{line}");
            assert!(message.starts_with(start), "{line}\n{message}");
            assert!(message.len() < 300, "{message}");
        };
        let field = |field: &str, start: &str| {
            bad(&format(), &format!(r#"{{"timestamp": 1, "input_length": 250, {field}}}"#), start);
        };
        bad(
            &format(),
            r#"{"timestamp": 1, "input_le"#,
            "the line is cut off: its JSON object does not end by column 26",
        );
        bad(&format(), r#"{"timestamp": 1, "input_length": 25"#, "the line is cut off");
        bad(
            &format(),
            r#"{"timestamp": 1 "input_length": 2}"#,
            "the line is not valid JSON for a request at column 17: expected `,` or `}`",
        );
        bad(
            &format(),
            &format!("{GOOD} {GOOD}"),
            "the line is not valid JSON for a request at column 62: trailing characters",
        );
        bad(&format(), "[1, 2]", "the line is not a JSON object");
        field(
            r#""timestamp": 2"#,
            "the line is not valid JSON for a request at column 49: duplicate field `timestamp`",
        );
        bad(&format(), r#"{"input_length": 1}"#, "`timestamp` is missing");
        bad(&format(), r#"{"timestamp": null, "input_length": 1}"#, "`timestamp` is missing");
        bad(&format(), r#"{"timestamp": 1}"#, "`input_length` is missing");
        field(
            r#""output_length": -1"#,
            "`output_length` is -1: it must be a whole number from 0 to 2147483648",
        );
        field(r#""hash_ids": [1, 2], "runs": [[1, 2]]"#, "`hash_ids` and `runs` are both given");
        field(r#""hash_ids": {"a": 1}"#, "`hash_ids` is {\"a\": 1}: it must be an array");
        field(r#""hash_ids": [1, -2]"#, "`hash_ids` holds -2: ids are whole numbers");
        field(r#""hash_ids": [1, 2.0]"#, "`hash_ids` holds 2.0: ids are whole numbers");
        field(r#""hash_ids": [1, 18446744073709551616]"#, "`hash_ids` holds 18446744073709551616: ids are");
        field(r#""runs": [1, 2]"#, "`runs` is [1, 2]: it must be [[first, count], ...]");
        field(r#""runs": [[1, 2], [3, 0]]"#, "`runs` holds [3, 0]: a run has one id or more");
        field(r#""runs": [[18446744073709551615, 2]]"#, "18446744073709551615 is too large an id");
        field(r#""session": [1]"#, "`session` is [1]: it must be a string or an integer");
        field(r#""key": 1.5"#, "`key` is 1.5: it must be a string or an integer");
        field(r#""key": "\ud800""#, "`key` is \"\\ud800\": it must be a string or an integer");
        field(r#""first256": true"#, "`first256` is true: it must be a string or an integer");
        bad(&sessions(), GOOD, "`session` (or `session_id`) is missing");
        let large = r#"{"timestamp": 1, "input_length": 1, "session": 1, "hash_ids": [9223372036854775808]}"#;
        bad(
            &sessions(),
            large,
            "9223372036854775808 is too large an id: the largest here is 9223372036854775807",
        );
    }

    #[test]
    fn bad_numbers_say_what_is_wrong() {
        for length in ["-5", "2147483649", "99999999999999999999", "1.5", "\"12\"", "[1]"] {
            let (_, message) = refusal(&format(), format!(r#"{{"timestamp": 1, "input_length": {length}}}"#));
            assert_eq!(
                message,
                format!("`input_length` is {length}: it must be a whole number from 0 to 2147483648")
            );
        }
        for timestamp in
            ["-5", "true", "\"\"", "\"12:30\"", "1e300", "1e2147483647", "1.5e-2147483648", "9223372037"]
        {
            let line = format!(r#"{{"timestamp": {timestamp}, "input_length": 1}}"#);
            let (_, message) = refusal(&seconds(), line);
            let start =
                format!("`timestamp` is {timestamp}: it must be a number of seconds from 0 to 292 years");
            assert!(message.starts_with(&start), "{message}");
        }
        let long = format!(r#"{{"timestamp": 1, "input_length": "{}"}}"#, "é".repeat(10_000));
        assert!(refusal(&format(), long).1.len() < 200);
    }

    #[test]
    fn a_length_that_contradicts_the_ids_names_the_right_counts() {
        let message = |length: u32, ids: &str| {
            refusal(&format(), format!(r#"{{"timestamp": 1, "input_length": {length}, {ids}}}"#)).1
        };
        assert_eq!(
            message(250, r#""hash_ids": [1]"#),
            "the number of ids is 1, but `input_length` 250 needs 3 (last block of 100 tokens partly filled) or 2 (last block left out); --block-tokens may be wrong"
        );
        assert_eq!(
            message(300, r#""hash_ids": [1, 2]"#),
            "the number of ids is 2, but `input_length` 300 needs 3 (blocks of 100 tokens); --block-tokens may be wrong"
        );
        assert!(
            message(0, r#""hash_ids": [1]"#)
                .starts_with("the number of ids is 1, but `input_length` 0 needs 0")
        );
        let huge = r#""runs": [[0, 18446744073709551615], [0, 18446744073709551615]]"#;
        assert!(message(250, huge).starts_with("the number of ids is 18446744073709551615, but"));
    }

    #[test]
    fn time_stands_still_but_never_goes_back() {
        let lines = |times: [u32; 3]| {
            times.map(|time| format!(r#"{{"timestamp": {time}, "input_length": 1}}"#)).join("\n")
        };
        assert_eq!(records(&format(), lines([3000, 3000, 3001])).len(), 3);
        let message = "`timestamp` goes back from 3s to 2999ms: lines must be in order of time";
        assert_eq!(refusal(&format(), lines([1, 3000, 2999])), ("trace.jsonl:3".into(), message.into()));
    }

    #[test]
    fn text_must_be_utf8() {
        let line = [&b"{\"timestamp\": 1, \"input_length\": 1, \"key\": \"\xff\"}"[..], b"\n"].concat();
        let (place, message) = refusal(&format(), line);
        assert_eq!(place, "trace.jsonl:1");
        assert!(message.starts_with("the line is not UTF-8 text at byte 45"), "{message}");
        let cut = b"{\"timestamp\": 1, \"input_length\": 1, \"key\": \"\xc3";
        assert_eq!(refusal(&format(), cut).1, "the line is cut off in the middle of a character");
        assert_eq!(records(&format(), format!("\u{feff}{GOOD}")).len(), 1, "a byte order mark is no harm");
    }

    #[test]
    fn files_that_hold_no_trace_are_refused() {
        for content in [String::new(), "\n \r\n".into()] {
            let (place, message) = refusal(&format(), content);
            assert_eq!(place, "trace.jsonl");
            assert!(message.starts_with("the trace is empty"), "{message}");
        }
        let folder = TempDir::new().unwrap();
        let open = |format: &TraceFormat| TraceReader::open(format, folder.path()).unwrap_err().to_string();
        assert!(open(&format()).contains("trace.jsonl: cannot open the trace: "));
        assert!(open(&TraceFormat { path: ".".into(), ..format() }).contains("is a folder: a trace is one"));
        for block_tokens in [0, MOST_TOKENS + 1] {
            let message = open(&TraceFormat { block_tokens, ..format() });
            assert_eq!(message, "block_tokens: must be from 1 to 2147483648 (Mooncake: 512)");
        }
    }

    #[test]
    fn bad_lines_can_be_skipped() {
        let lenient = TraceFormat { skip_bad: true, ..format() };
        let early = GOOD.replace(": 5", ": 4");
        let lines = [GOOD, "{", "", &early, "x", "y", "z", "[]", GOOD, "{\"timestamp\": 5,"];
        let (records, skipped) = read_all(&lenient, lines.join("\n")).unwrap();
        assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [1, 9]);
        assert_eq!((skipped.count, skipped.first.len()), (7, 5));
        assert!(skipped.first[0].contains("trace.jsonl:2: the line is cut off"));
        assert!(skipped.first[1].contains("trace.jsonl:4: `timestamp` goes back from 5ms to 4ms"));
        let (records, skipped) = read_all(&lenient, "x").unwrap();
        assert_eq!((records.len(), skipped.count), (0, 1));
    }

    #[test]
    fn an_endless_line_is_refused_without_holding_it() {
        let folder = TempDir::new().unwrap();
        let mut file = File::create(folder.path().join("trace.jsonl")).unwrap();
        // A hole in the file reads as zero bytes.
        file.seek(SeekFrom::Start(3 * LINE_LIMIT as u64)).unwrap();
        writeln!(file, "\n{GOOD}").unwrap();
        let mut reader = TraceReader::open(&format(), folder.path()).unwrap();
        let mut record = Record::default();
        let message = reader.read(&mut record).unwrap_err().to_string();
        assert!(message.ends_with("trace.jsonl:1: the line is longer than 64 MiB, the limit of one request"));
        assert!(reader.line.capacity() <= 2 * LINE_LIMIT + 2);
        assert!(reader.read(&mut record).unwrap() && record.line == 2);
        assert!(!reader.read(&mut record).unwrap());
    }

    #[test]
    fn a_line_of_just_the_limit_is_read() {
        let mut line = GOOD.to_string() + &" ".repeat(LINE_LIMIT - GOOD.len());
        assert_eq!(records(&format(), format!("{line}\n")).len(), 1);
        line.push(' ');
        assert!(refusal(&format(), line).1.starts_with("the line is longer than 64 MiB"));
    }

    #[test]
    fn the_format_reads_from_toml() {
        let read: TraceFormat =
            toml::from_str("path = 'trace.jsonl'\nblock_tokens = 100\ntime_unit = 'ms'").unwrap();
        assert_eq!(read, format());
        let text = "path = 'a'\nblock_tokens = 1\ntime_unit = 'ns'\nids = 'session'\nskip_bad = true";
        let read: TraceFormat = toml::from_str(text).unwrap();
        assert_eq!((read.time_unit, read.ids, read.skip_bad), (TimeUnit::Ns, IdScope::Session, true));
        assert!(toml::from_str::<TraceFormat>(&format!("{text}\nblocks = 3")).is_err());
    }
}
