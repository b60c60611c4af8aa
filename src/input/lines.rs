//! Lines: a trace as JSONL, one JSON object a line, plain or gzip.
//!
//! The fields are described in [`trace`](crate::input::trace). What is read fast here is what a trace mostly consists
//! of, its ids; all else is left to the JSON crate, and every bad line gets a message that says what would be right.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::input::text_lines::{Parsed, TextLines};
use crate::input::trace::{Blocks, Description, MOST_TOKENS, Record, TIME_LIMIT, TimeUnit};
use crate::units::{SimTime, Tokens, decimal_times};

/// Reads a JSONL trace line by line.
#[derive(Debug)]
pub(super) struct Lines {
    description: Description,
    /// The line that is read.
    pub(super) text: TextLines,
}

/// The fields of a line as they are written. Numbers stay text, because a JSON number is a float past 2^53, and
/// because a message should show what stands in the file. (One `borrow` gives all fields the line's lifetime.)
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    input_length: Option<&'a RawValue>,
    output_length: Option<&'a RawValue>,
    named_length: Option<&'a RawValue>,
    hash_ids: Option<&'a RawValue>,
    runs: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    session_id: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    prompt_cache_key: Option<&'a RawValue>,
    first256: Option<&'a RawValue>,
}

impl Lines {
    /// The lines of a file that was opened and looked into.
    pub fn new(plain: BufReader<File>, description: Description) -> io::Result<Self> {
        Ok(Self { description, text: TextLines::new(plain)? })
    }

    /// Moves to the next line that is not blank; false at the end of the file.
    pub fn advance(&mut self) -> Parsed<bool> {
        self.text.advance()
    }

    /// Reads the current line into `record`.
    pub fn parse(&self, record: &mut Record) -> Parsed<()> {
        let line = parse_line(self.text.text()?)?;
        record.line = self.text.number;
        record.time = time(line.timestamp, self.description.time_unit)?;
        record.prompt_tokens = match line.input_length {
            Some(value) => tokens("input_length", value)?,
            None => return Err("`input_length` is missing: every request needs its prompt's tokens".into()),
        };
        record.output_tokens = line.output_length.map_or(Ok(0), |value| tokens("output_length", value))?;
        copy_text("session", line.session.or(line.session_id), &mut record.session)?;
        copy_text("key", line.key.or(line.prompt_cache_key), &mut record.key)?;
        copy_text("first256", line.first256, &mut record.first256)?;
        let length = match line.named_length {
            None => ("input_length", record.prompt_tokens),
            Some(value) => ("named_length", tokens("named_length", value)?),
        };
        if length.1 > record.prompt_tokens {
            return Err(format!(
                "`named_length` {} is above `input_length` {}",
                length.1, record.prompt_tokens
            ));
        }
        let mut blocks = Blocks::new(self.description.block_tokens, length, &mut record.runs);
        match (line.hash_ids, line.runs) {
            (None, None) => (),
            (Some(_), Some(_)) => {
                return Err("`hash_ids` and `runs` are both given: a line has one of the two".into());
            }
            (Some(ids), None) => push_ids(&mut blocks, ids.get())?,
            (None, Some(runs)) => push_runs(&mut blocks, runs.get())?,
        }
        record.named_tokens = blocks.named_tokens();
        Ok(())
    }
}

/// Pushes the ids of a JSON array. The array is known to be valid JSON, so that cutting it at its commas finds every
/// number, and whatever else it holds is no number.
fn push_ids(blocks: &mut Blocks, json: &str) -> Parsed<()> {
    let inside = json
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or_else(|| format!("`hash_ids` is {}: it must be an array of whole numbers", excerpt(json)))?
        .trim_ascii();
    if inside.is_empty() {
        return blocks.check_count(0);
    }
    let mut count = 0;
    // Bytes, because a trace is mostly ids, and what finds a char in a text is slow to start.
    for id in inside.as_bytes().split(|byte| *byte == b',') {
        let id = id.trim_ascii();
        let number = whole_number(id).ok_or_else(|| {
            let id = String::from_utf8_lossy(id);
            format!("`hash_ids` holds {}: ids are whole numbers from 0 to 2^64 - 1", excerpt(&id))
        })?;
        blocks.push(number, 1)?;
        count += 1;
    }
    blocks.check_count(count)
}

/// Pushes the stretches of a JSON array of [first, count].
fn push_runs(blocks: &mut Blocks, json: &str) -> Parsed<()> {
    let runs: Vec<(u64, u64)> = serde_json::from_str(json).map_err(|_| {
        format!("`runs` is {}: it must be [[first, count], ...] of whole numbers", excerpt(json))
    })?;
    blocks.check_count(runs.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count)))?;
    runs.into_iter().try_for_each(|(first, count)| blocks.push(first, count))
}

fn parse_line(text: &str) -> Parsed<Line<'_>> {
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

fn time(value: Option<&RawValue>, unit: TimeUnit) -> Parsed<SimTime> {
    let value = value.ok_or("`timestamp` is missing: every request needs its time")?.get();
    let number = unquoted(value).unwrap_or(value).trim_ascii();
    // Most times are whole numbers of their unit: no need for decimals.
    let whole = whole_number(number.as_bytes()).and_then(|whole| whole.checked_mul(unit.nanos()));
    whole
        .or_else(|| decimal_times(number, unit.nanos()))
        .filter(|nanos| *nanos < TIME_LIMIT)
        .map(SimTime)
        .ok_or_else(|| {
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

fn tokens(name: &str, value: &RawValue) -> Parsed<Tokens> {
    let number = value.get().parse().ok().filter(|tokens| *tokens <= MOST_TOKENS);
    number.ok_or_else(|| {
        format!("`{name}` is {}: it must be a whole number from 0 to {MOST_TOKENS}", excerpt(value.get()))
    })
}

/// The text of a JSON string, or the digits of a JSON integer.
fn text<'a>(name: &str, value: &'a RawValue) -> Parsed<Cow<'a, str>> {
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
fn copy_text(name: &str, value: Option<&RawValue>, to: &mut Option<String>) -> Parsed<()> {
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

/// Writes a JSONL trace line by line.
pub(super) struct LineWriter<W: Write> {
    out: Packed<W>,
    time_unit: TimeUnit,
    /// Number of the last line.
    number: u64,
}

/// Most lines that may have been left out before a request: a larger gap is damage.
const MOST_BLANK_LINES: u64 = 100_000_000;

enum Packed<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
}

impl<W: Write> LineWriter<W> {
    /// Lines into `out`, with times in this unit.
    pub fn new(out: W, gzip: bool, time_unit: TimeUnit) -> Self {
        let out =
            if gzip { Packed::Gzip(GzEncoder::new(out, Compression::default())) } else { Packed::Plain(out) };
        Self { out, time_unit, number: 0 }
    }

    /// Writes a request, whose runs are as they were read. Where lines before it were left out, blank ones stand for
    /// them: a request without a session is known by its line.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let out: &mut dyn Write = match &mut self.out {
            Packed::Plain(out) => out,
            Packed::Gzip(out) => out,
        };
        if record.line.saturating_sub(self.number) > MOST_BLANK_LINES {
            let message =
                format!("more than {MOST_BLANK_LINES} lines are missing before line {}", record.line);
            return Err(io::Error::other(message));
        }
        while self.number + 1 < record.line {
            out.write_all(b"\n")?;
            self.number += 1;
        }
        self.number += 1;
        write_line(out, record, self.time_unit)
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<()> {
        match self.out {
            Packed::Plain(mut out) => out.flush(),
            Packed::Gzip(out) => out.finish()?.flush(),
        }
    }
}

fn write_line(out: &mut dyn Write, record: &Record, unit: TimeUnit) -> io::Result<()> {
    let Record { time, prompt_tokens, output_tokens, runs, named_tokens, session, key, first256, .. } =
        record;
    out.write_all(b"{\"timestamp\":")?;
    write_time(out, *time, unit)?;
    write!(out, ",\"input_length\":{prompt_tokens},\"output_length\":{output_tokens}")?;
    for (name, text) in [("session", session), ("key", key), ("first256", first256)] {
        if let Some(text) = text {
            write!(out, ",\"{name}\":")?;
            serde_json::to_writer(&mut *out, text)?;
        }
    }
    if !names_all(record) {
        write!(out, ",\"named_length\":{named_tokens}")?;
    }
    for (index, run) in runs.iter().enumerate() {
        let before = if index == 0 { ",\"runs\":[" } else { "," };
        write!(out, "{before}[{},{}]", run.content, run.pieces)?;
    }
    out.write_all(if runs.is_empty() { b"}\n" } else { b"]}\n" })
}

/// Whether the ids name the whole prompt, but for a part of a block: that needs no `named_length`.
fn names_all(record: &Record) -> bool {
    let Record { runs, prompt_tokens, named_tokens, .. } = record;
    let ids: u64 = runs.iter().map(|run| u64::from(run.tokens())).sum();
    let left_out = prompt_tokens - named_tokens;
    runs.last().is_none_or(|run| {
        left_out < run.piece_tokens && u64::from(*named_tokens) == ids.min(u64::from(*prompt_tokens))
    })
}

/// Writes a time as a decimal with every digit it has.
fn write_time(out: &mut dyn Write, time: SimTime, unit: TimeUnit) -> io::Result<()> {
    let (whole, rest) = (time.0 / unit.nanos(), time.0 % unit.nanos());
    if rest == 0 {
        return write!(out, "{whole}");
    }
    let width = unit.nanos().ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    write!(out, "{whole}.{}", fraction.trim_end_matches('0'))
}
