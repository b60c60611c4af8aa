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
        Content::Hashed { .. } => "#".into(),
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
fn a_response_is_usage_without_a_body() {
    let line = format!(
        r#"{{"id": "r1", "object": "response", "created_at": 5, "model": "m", "instructions": "Be kind.", "tools": [], "output": [], "previous_response_id": null, "usage": {USAGE}}}"#
    );
    let (kind, calls) = read(format!(
        "{line}\n{}",
        line.replace("null", "\"r1\"").replace("\"id\": \"r1\"", "\"id\": \"r2\"")
    ));
    assert_eq!((kind, calls[0].time, calls[0].body.is_none()), (LogKind::Log, millis(5000), true));
    assert_eq!(calls.iter().map(|call| call.session.as_deref()).collect::<Vec<_>>(), [Some("r1"); 2]);
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
    let crlf = "time,prompt_tokens\r\n1,5\r\n2,6\r\n";
    assert_eq!(read(crlf).1.iter().map(|call| call.line).collect::<Vec<_>>(), [2, 3]);
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

#[test]
fn a_gateway_log_of_litellm() {
    let line = r#"{"request_id": "1", "call_type": "acompletion", "startTime": "2026-01-31 00:00:00.5", "endTime": "2026-01-31 00:00:02",
        "completionStartTime": "2026-01-31T00:00:01Z", "model": "gpt-5", "prompt_tokens": 2000, "completion_tokens": 7,
        "messages": {}, "cache_hit": "False", "session_id": "s", "status": "success",
        "metadata": {"usage_object": {"prompt_tokens": 2000, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1920}}}}"#
        .replace('\n', " ");
    let (kind, calls) = read(&line);
    let call = &calls[0];
    assert_eq!((kind, call.time, call.body.is_none()), (LogKind::Gateway, millis(1_769_817_600_500), true));
    assert_eq!((call.ttft, call.total), (Some(Span(500_000_000)), Some(Span(1_500_000_000))));
    assert_eq!((call.usage.cached_tokens, call.session.as_deref()), (Some(1920), Some("s")));
    let kept = line.replace(
        "\"messages\": {}",
        r#""messages": [{"role": "user", "content": "Hi"}], "model_parameters": {"tools": [{"name": "f"}]}"#,
    );
    assert_eq!(texts(&read(kept).1[0]), r#"{"name":"f"}|Hi"#);
    let payload =
        r#"{"standard_logging_object": {"startTime": 1769817600.5, "prompt_tokens": 5, "trace_id": "t"}}"#;
    assert_eq!(read(payload).1[0].session.as_deref(), Some("t"));
    let own = line.replace("\"False\"", "\"True\"");
    let sample = sample(format!("{own}\n{line}"));
    let mut calls = Calls::open(&sample.path, None, false).unwrap();
    assert_eq!((calls.next_call().unwrap().unwrap().line, calls.without_usage()), (2, 1));
}

#[test]
fn a_gateway_log_of_openrouter() {
    let line = r#"{"data": {"id": "gen-1", "created_at": "2026-01-31T00:00:00.5+00:00", "model": "m", "tokens_prompt": 1900,
        "native_tokens_prompt": 2000, "native_tokens_cached": 1920, "native_tokens_completion": 7, "usage": 0.01,
        "latency": 500, "generation_time": 1200, "session_id": null}}"#
        .replace('\n', " ");
    for line in [&line, &line[9..line.len() - 1]] {
        let (kind, calls) = read(line);
        let usage = calls[0].usage;
        assert_eq!(
            (kind, usage.prompt_tokens, usage.cached_tokens),
            (LogKind::Gateway, Some(2000), Some(1920))
        );
        assert_eq!((calls[0].ttft, calls[0].total), (Some(Span(500_000_000)), Some(Span(1_700_000_000))));
        assert_eq!((calls[0].time, calls[0].session.as_deref()), (millis(1_769_817_600_500), None));
    }
}

/// A line of a rollout, so many seconds after 00:00:00.
fn noted(second: u32, kind: &str, payload: &str) -> String {
    format!(r#"{{"timestamp": "1970-01-01T00:00:{second:02}Z", "type": "{kind}", "payload": {payload}}}"#)
}

fn counted(second: u32, total: u32, last: u32, cached: u32) -> String {
    let payload = format!(
        r#"{{"type": "token_count", "info": {{"total_token_usage": {{"input_tokens": {total}}}, "last_token_usage":
        {{"input_tokens": {last}, "cached_input_tokens": {cached}, "output_tokens": 3}}}}}}"#
    );
    noted(second, "event_msg", &payload.replace('\n', " "))
}

#[test]
fn a_rollout_of_codex() {
    let said = |role: &str, text: &str| {
        format!(
            r#"{{"type": "message", "role": "{role}", "content": [{{"type": "input_text", "text": "{text}"}}]}}"#
        )
    };
    let lines = [
        noted(0, "session_meta", r#"{"id": "s1", "base_instructions": {"text": "Base."}}"#),
        noted(0, "turn_context", r#"{"model": "gpt-5-codex", "effort": "high"}"#),
        noted(1, "response_item", &said("user", "Hello")),
        noted(1, "event_msg", r#"{"type": "token_count", "info": null}"#),
        noted(2, "response_item", r#"{"type": "reasoning", "summary": [], "encrypted_content": "abcdef"}"#),
        noted(
            3,
            "response_item",
            r#"{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}"#,
        ),
        counted(3, 100, 100, 0),
        noted(5, "response_item", r#"{"type": "function_call_output", "call_id": "c", "output": "42"}"#),
        counted(5, 100, 100, 0),
        noted(6, "response_item", &said("assistant", "Done")),
        counted(7, 230, 130, 100),
        noted(8, "compacted", r#"{"message": "Summary."}"#),
        noted(9, "response_item", &said("user", "More")),
        noted(10, "response_item", &said("assistant", "Wait")),
        noted(11, "response_item", &said("user", "No")),
        noted(12, "response_item", &said("assistant", "Well")),
        counted(13, 300, 70, 0),
    ];
    let (kind, calls) = read(lines.join("\n"));
    assert_eq!((kind, calls.len()), (LogKind::Codex, 3));
    let facts: Vec<_> =
        calls.iter().map(|call| (call.line, call.time.unwrap(), call.usage.prompt_tokens)).collect();
    let at = |second: u64| millis(second * 1000).unwrap();
    assert_eq!(facts, [(3, at(1), Some(100)), (8, at(5), Some(130)), (15, at(11), Some(70))]);
    assert_eq!(texts(&calls[0]), "Base.|Hello");
    let call = r#"{"type":"function_call","name":"f","arguments":"{}","call_id":"c"}"#;
    assert_eq!(texts(&calls[1]), format!("Base.|Hello|[1]|{call}|42"));
    assert_eq!(texts(&calls[2]), "Base.|Summary.|More|Wait|No");
    assert_eq!((calls[0].session.as_deref(), calls[0].key.as_deref()), (Some("s1"), Some("s1")));
    assert_eq!((calls[1].usage.cached_tokens, calls[1].total), (Some(100), Some(Span::from_seconds(2))));
    assert_eq!(calls[0].settings.prefix["reasoning.effort"], "high");
    let nothing = [&lines[0], &lines[1]].map(String::as_str).join("\n");
    assert!(refusal(nothing).starts_with("sample: holds no call: it was read as a rollout of Codex"));
    let wrong = lines.join("\n").replace("\"cached_input_tokens\": 100", "\"cached_input_tokens\": 500");
    assert!(refusal(wrong).starts_with("sample:11: the line: 500 cached tokens of a prompt of 130"));
}

/// A line of a Claude Code session.
fn written(second: u32, kind: &str, ids: [&str; 2], message: &str) -> String {
    let [uuid, parent] = ids;
    let parent = if parent.is_empty() { "null".into() } else { format!("\"{parent}\"") };
    format!(
        r#"{{"type": "{kind}", "sessionId": "s1", "uuid": "{uuid}", "parentUuid": {parent}, "isSidechain": false, "timestamp": "1970-01-01T00:00:{second:02}.000Z", "message": {message}}}"#
    )
}

fn answer(id: &str, block: &str, read: u32) -> String {
    format!(
        r#"{{"role": "assistant", "id": "{id}", "model": "claude-opus-5", "content": [{block}], "usage": {{"input_tokens": 4, "cache_read_input_tokens": {read}, "cache_creation_input_tokens": 50, "output_tokens": 9, "cache_creation": {{"ephemeral_1h_input_tokens": 50}}}}}}"#
    )
}

#[test]
fn a_session_of_claude_code() {
    let user = |text: &str| format!(r#"{{"role": "user", "content": "{text}"}}"#);
    let result =
        r#"{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]}"#;
    let text = |text: &str| format!(r#"{{"type": "text", "text": "{text}"}}"#);
    let call = r#"{"type": "tool_use", "id": "t", "name": "f", "input": {}}"#;
    let lines = [
        r#"{"type": "summary", "summary": "x", "leafUuid": "z"}"#.to_string(),
        written(1, "user", ["a", ""], &user("Hello")),
        written(2, "assistant", ["b", "a"], &answer("m1", &text("Let me see"), 0)),
        written(3, "assistant", ["c", "b"], &answer("m1", call, 0)),
        written(4, "user", ["d", "c"], result),
        written(6, "assistant", ["e", "d"], &answer("m2", &text("It is 42"), 54)),
        written(7, "user", ["f", "e"], &user("Wrong way")),
        written(8, "assistant", ["g", "f"], &answer("m3", &text("Oh"), 90)),
        written(9, "user", ["h", "e"], &user("Right way")),
        written(10, "assistant", ["i", "h"], &answer("m4", &text("Ah"), 90)),
        written(10, "assistant", ["j", "h"], &answer("m1", &text("again"), 0)),
        r#"{"type": "system", "subtype": "compact_boundary", "sessionId": "s1", "uuid": "k", "parentUuid": null}"#.into(),
        written(12, "user", ["l", "k"], &user("Summary")),
        written(13, "assistant", ["m", "l"], &answer("m5", &text("Yes"), 0)),
    ];
    let (kind, calls) = read(lines.join("\n"));
    assert_eq!((kind, calls.len()), (LogKind::ClaudeCode, 5));
    let prompts: Vec<_> = calls.iter().map(texts).collect();
    let call = r#"{"type":"tool_use","name":"f","input":{}}"#;
    let wanted = [
        "Hello".to_string(),
        format!("Hello|Let me see|{call}|42"),
        format!("Hello|Let me see|{call}|42|It is 42|Wrong way"),
        format!("Hello|Let me see|{call}|42|It is 42|Right way"),
        "Summary".to_string(),
    ];
    assert_eq!(prompts, wanted);
    assert_eq!(calls.iter().map(|call| call.line).collect::<Vec<_>>(), [2, 5, 7, 9, 13]);
    let first = &calls[0];
    assert_eq!((first.time, first.total), (millis(1000), Some(Span::from_seconds(2))));
    assert_eq!((first.usage.prompt_tokens, calls[1].usage.prompt_tokens), (Some(54), Some(108)));
    assert_eq!((first.session.as_deref(), first.settings.retention.as_deref()), (Some("s1"), Some("1h")));
    let flags = |call: &Call| -> Vec<_> {
        let parts = &call.body.as_ref().unwrap().parts;
        parts.iter().map(|part| (part.opens_message, part.ends_message, part.marked)).collect()
    };
    let one = (true, true, false);
    assert_eq!(flags(&calls[1]), [one, (true, false, false), (false, true, false), (true, true, true)]);
}

#[test]
fn agents_of_claude_code_are_sessions_of_their_own() {
    let user = r#"{"role": "user", "content": "Go"}"#;
    let text = r#"{"type": "text", "text": "ok"}"#;
    let agent =
        |line: String| line.replace("\"isSidechain\": false", "\"isSidechain\": true, \"agentId\": \"x\"");
    let lines = [
        written(1, "user", ["a", ""], user),
        agent(written(2, "user", ["b", ""], user)),
        written(3, "assistant", ["c", "a"], &answer("m1", text, 0)),
        agent(written(4, "assistant", ["d", "b"], &answer("m2", text, 0))),
    ];
    let (_, calls) = read(lines.join("\n"));
    let facts: Vec<_> = calls.iter().map(|call| (call.session.as_deref().unwrap(), texts(call))).collect();
    assert_eq!(facts, [("s1", "Go".to_string()), ("s1/x", "Go".to_string())]);
}
