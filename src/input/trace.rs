//! Trace: a recorded log of requests, read as a stream.
//!
//! One JSON object a line is the form of the Mooncake traces and of their relatives:
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
//! * `named_length`: how many tokens at the start the ids name, where that is not all but a part of a block: what a
//!   run of this program writes (its ids stand for one token each).
//! * `runs`: instead of `hash_ids`, `[[first, count], ...]` for stretches of consecutive ids.
//! * `session` (or `session_id`), `key` (or `prompt_cache_key`): strings or integers.
//! * `first256`: a digest of the first 256 tokens, for routing: equal strings, equal text.
//!
//! Other fields are ignored, and `null` counts as absent.
//!
//! The same requests in columns ([`columns`](crate::input::columns)) are smaller and read faster; such a file says its
//! block size and units itself. Memory does not grow with the length of either.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::input::call::{Call, Usage};
use crate::input::columns::{Columns, PARQUET_MAGIC};
use crate::input::lines::Lines;
use crate::input::text_lines::BUFFER;
use crate::prompt::{Mark, Run};
use crate::random::{digest, fold};
use crate::units::{SimTime, Span, Tokens};

/// The most tokens a prompt, an answer or a block may have: sums of two still fit.
pub(super) const MOST_TOKENS: Tokens = 1 << 31;
/// Times stay below this many nanoseconds (292 years), far from [`SimTime::NEVER`].
pub(super) const TIME_LIMIT: u64 = 1 << 63;
/// How many messages about skipped lines are kept.
const KEPT_MESSAGES: usize = 5;

/// How to read a trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceFormat {
    /// The file, relative to the file that names it: JSONL, plain or gzip, or Parquet as `cachecast convert` writes it.
    pub path: String,
    /// Tokens in the block that one id stands for (Mooncake: 512); needed for JSONL.
    #[serde(default)]
    pub block_tokens: Option<Tokens>,
    /// Unit of the timestamps; needed for JSONL.
    #[serde(default)]
    pub time_unit: Option<TimeUnit>,
    /// Whether equal ids of different sessions are the same text; absent means global for JSONL.
    #[serde(default)]
    pub ids: Option<IdScope>,
    /// Skip bad lines, and count them, instead of stopping at the first.
    #[serde(default)]
    pub skip_bad: bool,
}

impl TraceFormat {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> std::result::Result<(), (&'static str, String)> {
        if self.block_tokens.is_some_and(|tokens| !(1..=MOST_TOKENS).contains(&tokens)) {
            return Err(("block_tokens", format!("must be from 1 to {MOST_TOKENS} (Mooncake: 512)")));
        }
        Ok(())
    }

    /// What the numbers of a JSONL file mean.
    fn of_lines(&self) -> std::result::Result<Description, String> {
        let (Some(block_tokens), Some(time_unit)) = (self.block_tokens, self.time_unit) else {
            return Err(
                "a JSONL trace needs `block_tokens` and `time_unit` (--block-tokens <N> and --time-unit \
                <TIME_UNIT>): tokens in one block of hash_ids, and the unit of the timestamps"
                    .into(),
            );
        };
        Ok(Description { block_tokens, time_unit, ids: self.ids.unwrap_or_default() })
    }

    /// Refuses to read a file that describes itself as if it were something else.
    fn agrees(&self, said: &Description) -> std::result::Result<(), String> {
        let Description { block_tokens, time_unit, ids } = *said;
        let other = if self.block_tokens.is_some_and(|tokens| tokens != block_tokens) {
            format!("block_tokens = {block_tokens}")
        } else if self.time_unit.is_some_and(|unit| unit != time_unit) {
            format!("time_unit = \"{}\"", time_unit.word())
        } else if self.ids.is_some_and(|scope| scope != ids) {
            format!("ids = \"{}\"", ids.word())
        } else {
            return Ok(());
        };
        Err(format!("the trace says itself that it has {other}: leave that out"))
    }
}

/// What the numbers of a trace mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Tokens in the block that one id stands for.
    pub block_tokens: Tokens,
    /// Unit of the timestamps, in JSONL.
    pub time_unit: TimeUnit,
    /// Where an id means the same text.
    pub ids: IdScope,
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
    pub(super) fn nanos(self) -> u64 {
        match self {
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
            Self::Ns => 1,
        }
    }

    /// The word for it in a file or a flag.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::S => "s",
            Self::Ns => "ns",
        }
    }

    pub(super) fn name(self) -> &'static str {
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

impl IdScope {
    /// The word for it in a file or a flag.
    pub fn word(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Trace => "trace",
            Self::Session => "session",
        }
    }
}

/// One request of a trace, as it stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Line in the JSONL file, from 1.
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
    /// What stands for the first 256 tokens.
    pub first256: Option<String>,
    /// Where segments of the prompt end, shallowest first; `None` where that is not known: of a trace file, or of a log
    /// without bodies.
    pub marks: Option<Vec<Mark>>,
}

impl Record {
    /// What stands for the first tokens, which routing looks at: `first256` where the trace has one, else the first
    /// block, whatever its size, of which `salted` is what its text is known by.
    pub fn head(&self, salted: impl FnOnce(&Run) -> Run) -> Option<u64> {
        let first_block =
            || self.runs.first().map(|first| fold(salted(first).content, u64::from(first.piece_tokens)));
        self.first256.as_ref().map(digest).or_else(first_block)
    }

    /// The request as a call without a body.
    pub fn call(&self) -> Call {
        let counts = (Some(self.prompt_tokens), Some(self.output_tokens));
        let usage = Usage { prompt_tokens: counts.0, output_tokens: counts.1, ..Usage::default() };
        Call {
            line: self.line,
            time: Some(self.time),
            session: self.session.clone(),
            key: self.key.clone(),
            head: self.head(|run| *run),
            usage,
            ..Call::default()
        }
    }
}

/// The bad lines that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// What was wrong with the first few.
    pub first: Vec<String>,
}

impl Skipped {
    /// Counts one, and keeps what was wrong if it is among the first.
    pub(super) fn add(&mut self, error: &Error) {
        self.count += 1;
        if self.first.len() < KEPT_MESSAGES {
            self.first.push(error.to_string());
        }
    }
}

/// Reads a trace one request at a time.
#[derive(Debug)]
pub struct TraceReader {
    description: Description,
    skip_bad: bool,
    path: PathBuf,
    source: Source,
    /// Time of the last good request.
    last: SimTime,
    requests: u64,
    skipped: Skipped,
}

#[derive(Debug)]
enum Source {
    Lines(Lines),
    Columns(Box<Columns>),
}

impl TraceReader {
    /// Opens the file of `format`, whose path is relative to `folder`.
    pub fn open(format: &TraceFormat, folder: &Path) -> Result<Self> {
        format.validate().map_err(|(field, message)| Error::input(field, message))?;
        let path = folder.join(&format.path);
        let wrong = |message: String| Error::input(path.display(), message);
        if path.is_dir() {
            return Err(wrong(
                "is a folder: a trace is one JSONL file, plain or gzip, or one Parquet file".into(),
            ));
        }
        let file = File::open(&path).map_err(|error| Error::io(&path, "open the trace", &error))?;
        let mut plain = BufReader::with_capacity(BUFFER, file);
        let unreadable = |error| Error::io(&path, "read the trace", &error);
        let (description, source) = if plain.fill_buf().map_err(unreadable)?.starts_with(&PARQUET_MAGIC) {
            let columns = Columns::new(plain.into_inner()).map_err(wrong)?;
            format.agrees(&columns.description).map_err(wrong)?;
            (columns.description, Source::Columns(Box::new(columns)))
        } else {
            let description = format.of_lines().map_err(wrong)?;
            (description, Source::Lines(Lines::new(plain, description).map_err(unreadable)?))
        };
        let skip_bad = format.skip_bad;
        let (last, skipped) = (SimTime::ZERO, Skipped::default());
        Ok(Self { description, skip_bad, path, source, last, requests: 0, skipped })
    }

    /// What the trace's numbers mean.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Reads the next request into `record`, whose buffers are used again; false at the end of the file. After
    /// an error the record holds nothing of use; reading can go on behind a bad line.
    pub fn read(&mut self, record: &mut Record) -> Result<bool> {
        while self.advance()? {
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

    /// Moves to the next line or row; false at the end of the file.
    fn advance(&mut self) -> Result<bool> {
        let moved = match &mut self.source {
            Source::Lines(lines) => lines.advance(),
            Source::Columns(columns) => columns.advance(),
        };
        moved.map_err(|message| self.here(message))
    }

    fn here(&self, message: String) -> Error {
        let path = self.path.display();
        match &self.source {
            Source::Lines(lines) => Error::input(format_args!("{path}:{}", lines.text.number), message),
            Source::Columns(columns) => Error::input(format_args!("{path}: row {}", columns.row), message),
        }
    }

    /// Stops at a bad line, or counts it.
    fn reject(&mut self, message: String) -> Result<()> {
        let error = self.here(message);
        if !self.skip_bad {
            return Err(error);
        }
        self.skipped.add(&error);
        Ok(())
    }

    /// Reads the current line or row into `record`; the error is the message without its place.
    fn parse(&mut self, record: &mut Record) -> std::result::Result<(), String> {
        match &mut self.source {
            Source::Lines(lines) => lines.parse(record)?,
            Source::Columns(columns) => columns.parse(record)?,
        }
        if self.description.ids == IdScope::Session {
            check_local_ids(record)?;
        }
        if record.time < self.last {
            let (from, to) = (Span(self.last.0), Span(record.time.0));
            return Err(format!("`timestamp` goes back from {from} to {to}: lines must be in order of time"));
        }
        Ok(())
    }
}

/// The most that an id may be which means something within its session only: such ids are moved, each session's to a
/// place of its own, and must still fit.
const LARGEST_LOCAL_ID: u64 = u64::MAX >> 1;

fn check_local_ids(record: &Record) -> std::result::Result<(), String> {
    if record.session.is_none() {
        return Err(
            "`session` (or `session_id`) is missing: ids local to a session need their session".into()
        );
    }
    let last = |run: &Run| run.content + u64::from(run.pieces - 1);
    match record.runs.iter().find(|run| last(run) > LARGEST_LOCAL_ID) {
        Some(run) => Err(too_large(run.content.max(LARGEST_LOCAL_ID + 1), LARGEST_LOCAL_ID)),
        None => Ok(()),
    }
}

fn too_large(id: u64, largest: u64) -> String {
    format!("{id} is too large an id: the largest here is {largest}")
}

/// Where the ids of one request go: consecutive ones into one run.
pub(super) struct Blocks<'a> {
    block_tokens: Tokens,
    /// The field that says how many tokens they name, and what it says.
    length: (&'static str, Tokens),
    runs: &'a mut Vec<Run>,
}

impl<'a> Blocks<'a> {
    /// Puts the blocks of so many tokens into `runs`, in place of what is there.
    pub fn new(block_tokens: Tokens, length: (&'static str, Tokens), runs: &'a mut Vec<Run>) -> Self {
        runs.clear();
        Self { block_tokens, length, runs }
    }

    /// Tokens that the blocks name; the last one may be filled in part only.
    pub fn named_tokens(&self) -> Tokens {
        let blocks: u64 = self.runs.iter().map(|run| u64::from(run.pieces)).sum();
        let named = (blocks * u64::from(self.block_tokens)).min(u64::from(self.length.1));
        Tokens::try_from(named).unwrap_or(self.length.1)
    }

    /// Pushes `count` consecutive ids; of a request, no more than its prompt may have.
    pub fn push(&mut self, first: u64, count: u64) -> std::result::Result<(), String> {
        let Some(pieces) = u32::try_from(count).ok().filter(|pieces| *pieces > 0) else {
            return Err(format!("`runs` holds [{first}, {count}]: a run has one id or more"));
        };
        if first.checked_add(count - 1).is_none() {
            return Err(too_large(first, u64::MAX));
        }
        match self.runs.last_mut() {
            Some(run) if run.content.checked_add(u64::from(run.pieces)) == Some(first) => {
                run.pieces += pieces
            }
            _ => self.runs.push(Run { content: first, pieces, piece_tokens: self.block_tokens }),
        }
        Ok(())
    }

    /// Checks the number of ids against the length of what they name.
    pub fn check_count(&self, count: u64) -> std::result::Result<(), String> {
        let &Self { block_tokens, length: (field, length), .. } = self;
        let down = u64::from(length / block_tokens);
        let up = u64::from(length.div_ceil(block_tokens));
        if count == down || count == up {
            return Ok(());
        }
        let right = if down == up {
            format!("{up} (blocks of {block_tokens} tokens)")
        } else {
            format!(
                "{up} (last block of {block_tokens} tokens partly filled) or {down} (last block left out)"
            )
        };
        Err(format!(
            "the number of ids is {count}, but `{field}` {length} needs {right}; --block-tokens may be wrong"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;
    use crate::input::text_lines::LINE_LIMIT;

    /// Blocks of 100 tokens, milliseconds.
    fn format() -> TraceFormat {
        TraceFormat {
            path: "trace.jsonl".into(),
            block_tokens: Some(100),
            time_unit: Some(TimeUnit::Ms),
            ids: None,
            skip_bad: false,
        }
    }

    fn sessions() -> TraceFormat {
        TraceFormat { ids: Some(IdScope::Session), ..format() }
    }

    fn seconds() -> TraceFormat {
        TraceFormat { time_unit: Some(TimeUnit::S), ..format() }
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
            marks: None,
            first256: Some("3ea9".into()),
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
            record(&TraceFormat { time_unit: Some(unit), ..format() }, &line).time.0
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
        let ones = TraceFormat { block_tokens: Some(1), ..format() };
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
        assert_eq!(named(950, r#"[1, 2, 3], "named_length": 250"#), (250, 300));
        assert_eq!(named(950, r#"[1, 2], "named_length": 250"#), (200, 200));
        assert_eq!(named(99, "[]"), (0, 0));
        assert_eq!(named(0, "[ ]"), (0, 0));
        assert_eq!(record(&format(), r#"{"timestamp": 1, "input_length": 250}"#).named_tokens, 0);
        assert_eq!(record(&format(), r#"{"timestamp": 1, "input_length": 0}"#).named_tokens, 0);
    }

    #[test]
    fn ids_of_a_session_may_be_those_of_another() {
        let line = |session: &str| {
            format!(r#"{{"timestamp": 1, "input_length": 300, "session": {session}, "hash_ids": [0, 1, 2]}}"#)
        };
        let read = records(&sessions(), [line("1"), line("2"), line("\"1\"")].join("\n"));
        assert!(read.iter().all(|record| record.runs.len() == 1 && record.runs[0].pieces == 3));
        assert_eq!(read[0].session, read[2].session, "a session is known by its text");
        assert_eq!(read[0].runs, read[1].runs, "the recording keeps them apart");
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
            place.starts_with("trace.jsonl:") && message.starts_with("cannot unpack the file: "),
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
        field(r#""named_length": 251"#, "`named_length` 251 is above `input_length` 250");
        let named = r#""named_length": 150, "hash_ids": [1, 2, 3]"#;
        field(
            named,
            "the number of ids is 3, but `named_length` 150 needs 2 (last block of 100 tokens partly",
        );
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
            let message = open(&TraceFormat { block_tokens: Some(block_tokens), ..format() });
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
        let Source::Lines(lines) = &reader.source else { panic!("these are lines") };
        assert!(lines.text.line.capacity() <= 2 * LINE_LIMIT + 2);
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
        assert_eq!(
            (read.time_unit, read.ids, read.skip_bad),
            (Some(TimeUnit::Ns), Some(IdScope::Session), true)
        );
        assert!(toml::from_str::<TraceFormat>(&format!("{text}\nblocks = 3")).is_err());
    }
}
