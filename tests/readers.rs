//! Files as people have them -> calls: every form, and what is said of bad ones.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use cachecast::input::call::{Call, Content};
use cachecast::input::calls::{Calls, LogKind};
use cachecast::units::{SimTime, Span};
use tempfile::TempDir;

/// A file of its own for each test.
struct Sample {
    _folder: TempDir,
    path: PathBuf,
}

fn sample(content: impl AsRef<[u8]>) -> Sample {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sample");
    fs::write(&path, content).unwrap();
    Sample { _folder: folder, path }
}

/// The form, and every call.
fn read(content: impl AsRef<[u8]>) -> (LogKind, Vec<Call>) {
    let sample = sample(content);
    let mut calls = Calls::open(&sample.path, None, false).unwrap();
    let mut read = Vec::new();
    while let Some(call) = calls.next_call().unwrap() {
        read.push(call);
    }
    (calls.kind(), read)
}

/// What is said of the first bad line or of the file, from the file's name on.
fn refusal_as(kind: Option<LogKind>, content: impl AsRef<[u8]>) -> String {
    let sample = sample(content);
    let error = match Calls::open(&sample.path, kind, false) {
        Err(error) => error,
        Ok(mut calls) => loop {
            match calls.next_call() {
                Ok(Some(_)) => (),
                Ok(None) => panic!("nothing is wrong"),
                Err(error) => break error,
            }
        },
    };
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    let at = message.find("/sample").expect("the file is named");
    message[at + 1..].to_string()
}

fn refusal(content: impl AsRef<[u8]>) -> String {
    refusal_as(None, content)
}

/// The texts of a call, joined; what is no text as its tokens.
fn texts(call: &Call) -> String {
    let body = call.body.as_ref().expect("a call with a body");
    let text = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        Content::Sized { tokens, .. } => format!("[{tokens}]"),
    };
    body.parts.iter().map(|part| text(&part.content)).collect::<Vec<_>>().join("|")
}

fn millis(time: u64) -> Option<SimTime> {
    Some(SimTime(time * 1_000_000))
}

const BODY: &str = r#"{"model": "gpt-5", "input": "Hi there", "prompt_cache_key": "k"}"#;
const USAGE: &str =
    r#"{"input_tokens": 2000, "input_tokens_details": {"cached_tokens": 1920}, "output_tokens": 7}"#;

#[test]
fn one_body_over_one_line_or_many() {
    for content in [BODY.to_string(), BODY.replace(", ", ",\n  "), format!("\u{feff}\n{BODY}\n\n")] {
        let (kind, calls) = read(content);
        assert_eq!((kind, calls.len()), (LogKind::Request, 1));
        assert_eq!((texts(&calls[0]).as_str(), calls[0].key.as_deref()), ("Hi there", Some("k")));
        assert_eq!((calls[0].time, calls[0].usage.prompt_tokens), (None, None));
    }
}

#[test]
fn a_log_in_the_shapes_that_people_write() {
    let text = BODY.replace('"', "\\\"");
    for line in [
        format!(r#"{{"time": "2026-01-31T00:00:00.5Z", "request": {BODY}, "usage": {USAGE}}}"#),
        format!(r#"{{"ts": 1769817600.5, "body": {BODY}, "response": {{"id": "r", "usage": {USAGE}}}}}"#),
        format!(r#"{{"timestamp": 1769817600500, "request_body": "{text}", "usage": {USAGE}}}"#),
        format!(
            r#"{{"created_at": 1769817600500000, "custom_id": "1", "method": "POST", "request": {{"url": "/v1", "body": {BODY}}}, "response": {{"status_code": 200, "body": {{"usage": {USAGE}}}}}}}"#
        ),
        format!(
            r#"{{"start_time": "1769817600500000000", "params": {BODY}, "input_tokens": 2000, "cached_tokens": 1920, "output_tokens": 7}}"#
        ),
        format!(r#"{{"time": 1769817600.5, "usage": {USAGE}, {}"#, &BODY[1..]),
    ] {
        let (kind, calls) = read(format!("{line}\n{line}\n"));
        assert_eq!((kind, calls.len()), (LogKind::Log, 2), "{line}");
        let call = &calls[1];
        assert_eq!((call.line, call.time), (2, millis(1_769_817_600_500)), "{line}");
        let usage = call.usage;
        let counts = (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens);
        assert_eq!(counts, (Some(2000), Some(1920), Some(7)), "{line}");
        assert_eq!((texts(call).as_str(), call.key.as_deref()), ("Hi there", Some("k")));
        assert_eq!(call.settings.prefix["model"], "gpt-5");
    }
}

#[test]
fn a_log_without_bodies_or_without_usage() {
    let line = r#"{"time": 1, "session": 7, "prompt_cache_key": "k", "model": "m", "ttft_ms": 500.5, "latency_ms": 900,
        "usage": {"prompt_tokens": 1500}}"#;
    let (_, calls) = read(line.replace('\n', " "));
    let call = &calls[0];
    assert_eq!(
        (call.body.is_none(), call.session.as_deref(), call.key.as_deref()),
        (true, Some("7"), Some("k"))
    );
    assert_eq!((call.ttft, call.total), (Some(Span(500_500_000)), Some(Span(900_000_000))));
    let not_streamed = line.replace("500.5", "900").replace('\n', " ");
    assert_eq!(read(not_streamed).1[0].ttft, None, "a first token with the last one was not timed");
    let bodies = format!("{BODY}\n{BODY}\n");
    let (kind, calls) = read(&bodies);
    assert_eq!((kind, calls.len(), calls[1].usage.prompt_tokens), (LogKind::Log, 2, None));
}

#[test]
fn a_chain_of_responses_is_a_session() {
    let entry = |id: &str, before: &str| {
        format!(
            r#"{{"time": 1, "request": {{"input": "x", "previous_response_id": {before}}}, "response": {{"id": "{id}", "usage": {USAGE}}}}}"#
        )
    };
    let lines = [entry("a", "null"), entry("b", "\"a\""), entry("c", "\"b\""), entry("d", "null")].join("\n");
    let (_, calls) = read(lines);
    let sessions: Vec<_> = calls.iter().map(|call| call.session.as_deref().unwrap()).collect();
    assert_eq!(sessions, ["a", "a", "a", "d"]);
    assert_eq!(calls.iter().map(|call| call.continues).collect::<Vec<_>>(), [false, true, true, false]);
}

#[test]
fn failed_calls_are_left_out_and_counted() {
    let lines = [
        format!(r#"{{"time": 1, "request": {BODY}, "error": {{"message": "secret"}}}}"#),
        format!(r#"{{"time": 1, "request": {BODY}, "status": 429}}"#),
        format!(r#"{{"time": 1, "request": {BODY}, "status": 200}}"#),
        r#"{"time": 1, "usage": {"prompt_tokens": 0}}"#.to_string(),
    ];
    let sample = sample(lines.join("\n"));
    let mut calls = Calls::open(&sample.path, Some(LogKind::Log), false).unwrap();
    assert_eq!(calls.next_call().unwrap().unwrap().line, 3);
    assert!(calls.next_call().unwrap().is_none());
    assert_eq!(calls.without_usage(), 3);
}

#[test]
fn a_table_under_many_names() {
    let rows = "# a comment\ntimestamp,key,conversation_id,model,prompt_tokens,cached_tokens,total_ms,prompt_hash,note,http_ok\n\
        1769817600500,k,s,gpt-5,2000,1920,800.5,abc,\"a, b\",1\n\
        1769817600500,k,s,gpt-5,,,,abc,,0\n";
    for rows in [rows.to_string(), rows.replace(',', "\t").replace("a\t b", "a, b")] {
        let sample = sample(rows);
        let mut calls = Calls::open(&sample.path, None, false).unwrap();
        assert_eq!((calls.kind(), calls.passed_over()), (LogKind::UsageTable, &["note".to_string()][..]));
        let call = calls.next_call().unwrap().unwrap();
        assert_eq!(
            (call.line, call.time, call.total),
            (3, millis(1_769_817_600_500), Some(Span(800_500_000)))
        );
        assert_eq!((call.key.as_deref(), call.session.as_deref()), (Some("k"), Some("s")));
        assert_eq!((call.prompt.as_deref(), call.usage.cached_tokens), (Some("abc"), Some(1920)));
        assert!(calls.next_call().unwrap().is_none());
        assert_eq!(calls.without_usage(), 1);
    }
    let anthropic = "ts;input_tokens;cache_read_input_tokens;cache_creation_input_tokens\n5;10;80;20\n";
    let usage = read(anthropic).1[0].usage;
    assert_eq!(
        (usage.prompt_tokens, usage.cached_tokens, usage.written_tokens),
        (Some(110), Some(80), Some(20))
    );
}

#[test]
fn a_trace_is_named() {
    let line = r#"{"timestamp": 1, "input_length": 5, "hash_ids": [1]}"#;
    let sample = sample(line);
    assert_eq!(Calls::detect(&sample.path).unwrap(), LogKind::Trace);
    assert!(refusal(line).starts_with("sample: is a recorded trace"));
}

#[test]
fn files_that_hold_nothing_known() {
    assert_eq!(refusal(""), "sample: is empty: there is no request in it");
    assert_eq!(refusal("\n \n"), "sample: is empty: there is no request in it");
    assert!(
        refusal("hello secret\n")
            .starts_with("sample:1: the line is not a JSON object; and the file is no form")
    );
    assert!(refusal("{\"a\": 1}\n").starts_with("sample: is no form that is known: a request body,"));
    assert!(refusal("time,name\n1,2\n").starts_with("sample:1: the line is not a JSON object"));
    assert!(
        refusal("time,prompt_tokens\n").starts_with("sample: holds no call: it was read as a table of usage")
    );
    assert!(
        refusal_as(Some(LogKind::UsageTable), "a,b\n").starts_with("sample:1: has no column with tokens")
    );
    let folder = TempDir::new().unwrap();
    assert!(
        Calls::open(folder.path(), None, false)
            .unwrap_err()
            .to_string()
            .ends_with("is a folder: name one file")
    );
}

#[test]
fn bad_lines_say_where_and_what_but_not_the_text() {
    let good = format!(r#"{{"time": 1, "request": {BODY}, "usage": {USAGE}}}"#);
    for (bad, message) in [
        (
            r#"{"time": 1, "request": {"input": "secret"#,
            "the line is cut off: its JSON object does not end by column 40",
        ),
        (
            r#"{"time": 1, "request": "{\"input\": \"secret"}"#,
            "the line: `request` is a text that begins like a JSON",
        ),
        (
            r#"{"time": "secret", "usage": {"prompt_tokens": 5}}"#,
            "the line: `time` is no such thing: it must be a time",
        ),
        (
            r#"{"time": 1, "usage": {"prompt_tokens": -5}}"#,
            "the line: `prompt_tokens` is -5: it must be a whole",
        ),
        (
            r#"{"time": 1, "usage": {"prompt_tokens": "secret"}}"#,
            "the line: `prompt_tokens` is no such thing",
        ),
        (
            r#"{"time": 1, "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}}"#,
            "the line: 6 cached tokens of a prompt of 5 tokens cannot be",
        ),
        (
            r#"{"time": 1, "secret": 5}"#,
            "the line: holds neither a request (`request`, `body`, ...) nor usage",
        ),
        (
            r#"{"time": 1, "request": {"messages": [{"content": 1}]}}"#,
            "the line: `request`: `messages[0].content` is no",
        ),
        (r#"["secret"]"#, "the line is not a JSON object"),
        (
            r#"{"type": "event_msg", "payload": {}}"#,
            "the line is of a rollout of Codex, but the file is a log of req",
        ),
        (
            r#"{"type": "user", "sessionId": "secret"}"#,
            "the line is of a session of Claude Code, but the file is a",
        ),
        (
            r#"{"timestamp": 1, "input_length": 1}"#,
            "the line is of a recorded trace, but the file is a log of",
        ),
    ] {
        let refused = refusal(format!("{good}\n{bad}\n{good}"));
        assert!(refused.starts_with(&format!("sample:2: {message}")), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    let refused = refusal([good.as_bytes(), b"\n{\"time\": \"\xff\"}"].concat());
    assert!(refused.starts_with("sample:2: the line is not UTF-8 text at byte 11"), "{refused}");
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refusal(utf16).contains("it looks like UTF-16"));
    assert!(refusal("{\n \"input\": [\n  \"x\"").starts_with("sample:1: the line is cut off"));
    let body = "{\n \"input\": \"x\",\n oops}";
    assert!(
        refusal_as(Some(LogKind::Request), body)
            .starts_with("sample:3: the request is not valid JSON at column 2")
    );
}

#[test]
fn bad_lines_can_be_skipped() {
    let good = format!(r#"{{"time": 1, "request": {BODY}, "usage": {USAGE}}}"#);
    let sample = sample([&good, "{", "", "x", r#"{"timestamp": 1, "input_length": 1}"#, &good].join("\n"));
    let mut calls = Calls::open(&sample.path, None, true).unwrap();
    let lines: Vec<_> = std::iter::from_fn(|| calls.next_call().unwrap()).map(|call| call.line).collect();
    assert_eq!((lines, calls.skipped().count), (vec![1, 6], 3));
    assert!(calls.skipped().first[0].contains("sample:2: the line is cut off"));
    assert!(calls.skipped().first[2].contains("sample:5: the line is of a recorded trace"));
    let rows = format!("time,prompt_tokens,cached_tokens\n1,5,6\n1,5\n{}\n1,5,-1\n2,5,5\n", "1,x,1");
    let sample = self::sample(rows);
    let mut calls = Calls::open(&sample.path, None, true).unwrap();
    assert_eq!(calls.next_call().unwrap().unwrap().line, 6);
    assert!(calls.next_call().unwrap().is_none());
    assert_eq!(calls.skipped().count, 4);
    assert!(calls.skipped().first[1].ends_with("sample:3: the row has 2 fields, but the header has 3"));
}

#[test]
fn an_endless_line_is_refused_without_holding_it() {
    let good = format!(r#"{{"time": 1, "request": {BODY}, "usage": {USAGE}}}"#);
    let sample = sample(format!("{good}\n"));
    let mut file = File::options().append(true).open(&sample.path).unwrap();
    // A hole in the file reads as zero bytes.
    file.set_len(2 << 30).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    write!(file, "\n{good}\n").unwrap();
    let mut calls = Calls::open(&sample.path, None, true).unwrap();
    let lines: Vec<_> = std::iter::from_fn(|| calls.next_call().unwrap()).map(|call| call.line).collect();
    assert_eq!(lines, [1, 3]);
    assert!(
        calls.skipped().first[0]
            .ends_with("sample:2: the line is longer than 64 MiB, the limit of one request")
    );
}

#[test]
fn an_open_quote_does_not_fill_the_memory() {
    let sample = sample("time,prompt_tokens\n1,5\n\"");
    File::options().append(true).open(&sample.path).unwrap().set_len(2 << 30).unwrap();
    let mut calls = Calls::open(&sample.path, None, true).unwrap();
    assert_eq!(calls.next_call().unwrap().unwrap().usage.prompt_tokens, Some(5));
    let message = calls.next_call().unwrap_err().to_string();
    assert!(
        message.ends_with("cannot read the file: a row is longer than 64 MiB: a quote may be open"),
        "{message}"
    );
}
