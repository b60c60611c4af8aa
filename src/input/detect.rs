//! Detection: the first lines of a file -> its form.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::input::anonymized;
use crate::input::body;
use crate::input::calls::LogKind;
use crate::input::columns::PARQUET_MAGIC;
use crate::input::fields::Fields;
use crate::input::text_lines::{BUFFER, LINE_LIMIT, Parsed, TextLines, Unpacked, text_of};
use crate::input::usage_table;

/// Lines that are looked at: what an agent notes before its first request is shorter.
const LINES: u32 = 200;

/// Which form a file has.
pub(super) fn detect(path: &Path) -> Result<LogKind> {
    let mut plain = open(path)?;
    let start = plain.fill_buf().map_err(|error| Error::io(path, "read the file", &error))?;
    if start.starts_with(&PARQUET_MAGIC) {
        return Ok(LogKind::Trace);
    }
    let mut lines = TextLines::new(plain).map_err(|error| Error::io(path, "read the file", &error))?;
    let wrong = |line: u64, message: &str| Error::input(format_args!("{}:{line}", path.display()), message);
    let mut first = None;
    for looked in 0..LINES {
        if !lines.advance().map_err(|message| Error::input(path.display(), message))? {
            if looked == 0 {
                return Err(Error::input(path.display(), "is empty: there is no request in it"));
            }
            break;
        }
        match look(&lines) {
            Ok(Some(LogKind::Request)) => {
                let more = lines.advance().map_err(|message| Error::input(path.display(), message))?;
                return Ok(if more { LogKind::Log } else { LogKind::Request });
            }
            Ok(Some(kind)) => return Ok(kind),
            Ok(None) => (),
            Err(message) => {
                if looked == 0 && whole(path).is_ok_and(|text| Fields::parse(&text).is_ok()) {
                    return Ok(LogKind::Request);
                }
                first.get_or_insert((lines.number, message));
            }
        }
    }
    let known = "is no form that is known: a request body, JSON lines of (time, request, usage), a log of LiteLLM or \
                 OpenRouter, a session of Codex or Claude Code, or a CSV of usage";
    Err(first.map_or_else(
        || Error::input(path.display(), known),
        |(line, message)| wrong(line, &format!("the line {message}; and the file {known}")),
    ))
}

/// What form a line is of; none if lines of its kind do not tell.
fn look(lines: &TextLines) -> Parsed<Option<LogKind>> {
    let text = lines.text().map_err(|message| format!("cannot be read ({message})"))?;
    if text.starts_with('#') {
        return Ok(None);
    }
    if text.starts_with('[') {
        return Err("begins a JSON array: write one object a line".into());
    }
    if !text.starts_with('{') && usage_table::is_header(text) {
        return Ok(Some(LogKind::UsageTable));
    }
    Ok(classify(&Fields::parse(text)?))
}

/// The form that an object is of.
pub(super) fn classify(fields: &Fields<'_>) -> Option<LogKind> {
    let any = |names: &[&str]| names.iter().any(|name| fields.has(name));
    let of_type = |types: &[&str]| fields.text("type").is_some_and(|kind| types.contains(&kind.as_str()));
    if anonymized::is_entry(fields) {
        Some(LogKind::Anonymized)
    } else if fields.has("timestamp") && fields.has("input_length") {
        Some(LogKind::Trace)
    } else if fields.has("payload")
        && of_type(&["session_meta", "response_item", "event_msg", "turn_context", "compacted"])
    {
        Some(LogKind::Codex)
    } else if fields.has("type")
        && (any(&["sessionId", "leafUuid", "parentUuid"]) || fields.has("uuid") && fields.has("message"))
        || of_type(&["file-history-snapshot", "queue-operation"])
    {
        Some(LogKind::ClaudeCode)
    } else if is_gateway(fields) || fields.object("data").is_some_and(|data| is_gateway(&data)) {
        Some(LogKind::Gateway)
    } else if body::is_body(fields) && !any(&["usage", "response", "prompt_tokens", "input_tokens"]) {
        Some(LogKind::Request)
    } else if body::is_body(fields)
        || any(&["request", "body", "request_body", "usage", "prompt_tokens", "input_tokens"])
        || fields.within("response", |response| response.has("usage") || response.has("body")) == Some(true)
        || ["params", "payload", "req"].iter().any(|name| fields.within(name, body::is_body) == Some(true))
    {
        Some(LogKind::Log)
    } else {
        None
    }
}

fn is_gateway(fields: &Fields<'_>) -> bool {
    let any = |names: &[&str]| names.iter().any(|name| fields.has(name));
    let openrouter = ["native_tokens_prompt", "nativeTokensPrompt", "tokens_prompt", "tokensPrompt"];
    let litellm =
        ["call_type", "litellm_call_id", "completionStartTime", "model_group", "custom_llm_provider"];
    any(&openrouter) || any(&["standard_logging_object"]) || fields.has("startTime") && any(&litellm)
}

/// Opens a file for reading.
pub(super) fn open(path: &Path) -> Result<BufReader<File>> {
    if path.is_dir() {
        return Err(Error::input(path.display(), "is a folder: name one file"));
    }
    let file = File::open(path).map_err(|error| Error::io(path, "open the file", &error))?;
    Ok(BufReader::with_capacity(BUFFER, file))
}

/// The whole text of a file that holds one request.
pub(super) fn whole(path: &Path) -> Result<String> {
    let wrong = |message: String| Error::input(path.display(), message);
    let mut source = Unpacked::new(open(path)?).map_err(|error| Error::io(path, "read the file", &error))?;
    let mut bytes = Vec::new();
    let read = source.bytes().take(LINE_LIMIT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(source.trouble(&error)))?;
    if bytes.len() > LINE_LIMIT {
        return Err(wrong(format!("is longer than {} MiB, the limit of one request", LINE_LIMIT >> 20)));
    }
    text_of(&bytes).map(String::from).map_err(wrong)
}
