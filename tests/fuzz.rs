//! Damaged files for every reader: nothing crashes, every message is one line, names the file, and keeps texts back.
//!
//! Each form has a sample; seeded damage (flipped and lost bytes, cuts, splices of another form, repeats, deep nesting,
//! odd numbers) makes a file of it, which is read in every way. `CACHECAST_FUZZ_SECONDS` says for how long (2 by
//! default), `CACHECAST_FUZZ_SEED` where to begin; a failure names the seed of its file.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cachecast::experiment::observations::Observations;
use cachecast::input::call::Call;
use cachecast::input::calls::{Calls, LogKind};
use cachecast::input::log::LogFormat;
use cachecast::input::trace::{Record, TimeUnit, TraceFormat, TraceReader};
use cachecast::input::writer::{Form, TraceWriter};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// A word that stands in the texts of every sample, and in no message.
const SECRET: &str = "Zanzibar";

/// The forms by name; `Zanzibar` is where people's texts are.
fn samples() -> Vec<Vec<u8>> {
    let text = [
        // Bodies of the three APIs.
        r#"{"model": "gpt-5", "instructions": "Zanzibar", "prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit", "ttl": "30m"}, "reasoning": {"effort": "low"},
          "tools": [{"type": "function", "name": "f", "parameters": {"Zanzibar": 1}}], "input": [{"role": "user", "content": [{"type": "input_text", "text": "Zanzibar", "prompt_cache_breakpoint": {}},
          {"type": "input_image", "image_url": "data:Zanzibar", "width": 10, "height": 20}]}, {"type": "reasoning", "summary": [], "encrypted_content": "Zanzibar"},
          {"type": "function_call", "name": "f", "arguments": "{\"Zanzibar\": 1}", "call_id": "c"}, {"type": "function_call_output", "call_id": "c", "output": "Zanzibar"}]}"#,
        r#"{"model": "gpt-5", "messages": [{"role": "system", "content": "Zanzibar"}, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "Zanzibar", "detail": "low"}}]},
          {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "Zanzibar"}}]}, {"role": "tool", "content": "Zanzibar"}]}"#,
        r#"{"model": "claude", "system": [{"type": "text", "text": "Zanzibar", "cache_control": {"ttl": "1h"}}], "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "Zanzibar"}}]},
          {"role": "assistant", "content": [{"type": "thinking", "thinking": "Zanzibar"}, {"type": "tool_use", "name": "f", "input": {"Zanzibar": 2}}]}, {"role": "user", "content": [{"type": "tool_result", "content": "Zanzibar"}]}]}"#,
        // A log.
        r#"{"time": "2026-01-31T00:00:00Z", "request": {"model": "m", "input": "Zanzibar", "previous_response_id": "r0"}, "response": {"id": "r1", "usage": {"input_tokens": 2000, "input_tokens_details": {"cached_tokens": 1920}, "output_tokens": 5}}}
{"ts": 1769817600.25, "session": "s", "body": "{\"messages\": [{\"role\": \"user\", \"content\": \"Zanzibar\"}]}", "usage": {"prompt_tokens": 2000, "prompt_tokens_details": {"cached_tokens": 1920}}}
{"timestamp": 1769817600500, "model": "m", "input_tokens": 4, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 9, "note": "Zanzibar", "status": 200}
"#,
        // Gateways.
        r#"{"call_type": "a", "startTime": "2026-01-31 00:00:00.5", "endTime": 1769817602.5, "model": "m", "prompt_tokens": 20, "messages": [{"role": "user", "content": "Zanzibar"}], "metadata": {"usage_object": {"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 5}}}, "cache_hit": "False", "status": "success"}
{"data": {"created_at": "2026-01-31T00:00:00Z", "native_tokens_prompt": 20, "native_tokens_cached": 5, "latency": 10, "generation_time": 20, "model": "Zanzibar"}}
"#,
        // Agents.
        r#"{"timestamp": "2026-01-31T00:00:00Z", "type": "session_meta", "payload": {"id": "s", "instructions": "Zanzibar"}}
{"timestamp": "2026-01-31T00:00:01Z", "type": "turn_context", "payload": {"model": "m", "effort": "low"}}
{"timestamp": "2026-01-31T00:00:01Z", "type": "response_item", "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Zanzibar"}]}}
{"timestamp": "2026-01-31T00:00:02Z", "type": "response_item", "payload": {"type": "function_call", "name": "f", "arguments": "Zanzibar"}}
{"timestamp": "2026-01-31T00:00:03Z", "type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": {"input_tokens": 9}, "last_token_usage": {"input_tokens": 9, "cached_input_tokens": 4}}}}
{"timestamp": "2026-01-31T00:00:04Z", "type": "compacted", "payload": {"message": "Zanzibar", "replacement_history": [{"role": "user", "content": "Zanzibar"}]}}
"#,
        r#"{"type": "user", "sessionId": "s", "uuid": "a", "parentUuid": null, "timestamp": "2026-01-31T00:00:00Z", "message": {"role": "user", "content": "Zanzibar"}}
{"type": "assistant", "sessionId": "s", "uuid": "b", "parentUuid": "a", "timestamp": "2026-01-31T00:00:01Z", "message": {"id": "m", "role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"Zanzibar": 1}}], "usage": {"input_tokens": 4, "cache_read_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 1}}}}
{"type": "user", "sessionId": "s", "uuid": "c", "parentUuid": "b", "timestamp": "2026-01-31T00:00:02Z", "message": {"role": "user", "content": [{"type": "tool_result", "content": "Zanzibar"}]}}
{"type": "user", "sessionId": "s", "uuid": "d", "parentUuid": "a", "timestamp": "2026-01-31T00:00:03Z", "message": {"role": "user", "content": "Zanzibar"}}
"#,
        // What `anonymize` writes.
        r#"{"anonymized": 1, "line": 3, "time_ns": 1769817600250000000, "session": "Zanzibar", "key": "k", "settings": {"model": "gpt-5", "text.format": "Zanzibar"}, "retention": "24h", "prompt_tokens": 20, "cached_tokens": 5, "ttft_ns": 5, "parts": [{"path": "input", "role": "user", "opens_message": true, "ends_message": true, "hash": "00000000000000ff", "stretches": [["00000000000000ff", 3], ["0123456789abcdef", 9]]}]}
{"anonymized": 1, "line": 4, "prompt": "Zanzibar", "explicit_only": true, "continues": true, "prompt_tokens": 9, "total_ns": 7}
"#,
        // Tables, the second of observations.
        "time,key,prompt_tokens,cached_tokens,note,http_ok\n1769817600,k,2000,1920,Zanzibar,1\n1769817601.5,k,,,\"Zanzi\nbar\",0\n",
        "# comment\ntime,prompt_tokens,cached_tokens,ttft_ms\n0,2000,0,100.5\n1.5,2000,1920,90\n",
        "prompt_tokens;input_tokens;completion_tokens\r\n5;4;3\r\n",
        // A trace.
        r#"{"timestamp": 0, "input_length": 900, "output_length": 5, "hash_ids": [1, 2], "session": "s"}
{"timestamp": 5, "input_length": 1100, "runs": [[1, 2], [9, 1]], "key": "k", "first256": "x"}
"#,
    ];
    let mut samples: Vec<Vec<u8>> = text.iter().map(|text| text.as_bytes().to_vec()).collect();
    let trace = samples[samples.len() - 1].clone();
    samples.push(packed(&trace));
    samples.push(columns(&trace));
    samples
}

fn packed(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A trace in columns.
fn columns(lines: &[u8]) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let [from, to] = ["trace.jsonl", "trace.parquet"].map(|name| folder.path().join(name));
    fs::write(from, lines).unwrap();
    let mut reader = TraceReader::open(&format("trace.jsonl"), folder.path()).unwrap();
    let file = fs::File::create(&to).unwrap();
    let mut writer = TraceWriter::new(file, Form::Columns, reader.description()).unwrap();
    let mut record = Record::default();
    while reader.read(&mut record).unwrap() {
        writer.write(&record).unwrap();
    }
    writer.finish().unwrap();
    fs::read(to).unwrap()
}

fn format(path: &str) -> TraceFormat {
    TraceFormat {
        path: path.into(),
        block_tokens: Some(512),
        time_unit: Some(TimeUnit::Ms),
        ids: None,
        skip_bad: false,
    }
}

/// Damages a file a few times over.
fn damage(rng: &mut impl Rng, mut file: Vec<u8>, samples: &[Vec<u8>]) -> Vec<u8> {
    for _ in 0..rng.random_range(0..5) {
        let at = rng.random_range(0..=file.len());
        let to = rng.random_range(at..=file.len().min(at + 200));
        match rng.random_range(0..9) {
            0 if at < file.len() => file[at] ^= 1 << rng.random_range(0..8),
            1 if at < file.len() => file[at] = b"{}[]\",:\\\n\r0-.eE\xff\0"[rng.random_range(0..17)],
            2 => drop(file.drain(at..to)),
            3 => file.truncate(at),
            4 => {
                let other = &samples[rng.random_range(0..samples.len())];
                let from = rng.random_range(0..=other.len());
                file.splice(at..at, other[from..].iter().copied());
            }
            5 => {
                let piece = file[at..to].repeat(rng.random_range(1..20));
                file.splice(at..at, piece);
            }
            6 => {
                let depth = rng.random_range(1..3000);
                let bracket = [&b"["[..], b"{\"a\":"][rng.random_range(0..2)];
                file.splice(at..at, bracket.repeat(depth));
            }
            _ => replace_a_number(rng, &mut file, at),
        }
    }
    file
}

/// Puts an odd value in place of the next number.
fn replace_a_number(rng: &mut impl Rng, file: &mut Vec<u8>, at: usize) {
    const ODD: [&str; 14] = [
        "-1",
        "0",
        "1e400",
        "1e2147483647",
        "18446744073709551616",
        "2147483648",
        "4294967295",
        "0.5",
        "null",
        "\"Zanzibar\"",
        "[]",
        "{}",
        "99999999999999999999999999999999999999999999",
        "1.5e-2147483648",
    ];
    let Some(start) = file[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) else {
        return;
    };
    let digits = file[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    file.splice(start..start + digits, ODD[rng.random_range(0..ODD.len())].bytes());
}

/// Whether a message is what a message must be.
fn check(message: &str, file: &Path) {
    assert!(message.contains(&*file.to_string_lossy()), "no file in: {message}");
    assert!(!message.contains('\n') && message.len() < 1000, "not one line: {message}");
    assert!(!message.contains(SECRET), "a text in: {message}");
}

fn read_calls(file: &Path, kind: Option<LogKind>, skip_bad: bool) {
    let mut calls = match Calls::open(file, kind, skip_bad) {
        Ok(calls) => calls,
        Err(error) => return check(&error.to_string(), file),
    };
    loop {
        match calls.next_call() {
            Ok(Some(call)) => check_call(&call),
            Ok(None) => break,
            Err(error) => {
                check(&error.to_string(), file);
                break;
            }
        }
    }
    calls.skipped().first.iter().for_each(|message| check(message, file));
}

fn check_call(call: &Call) {
    assert!(call.usage.check().is_ok());
    let parts = call.body.iter().flat_map(|body| &body.parts);
    let mut inside = false;
    for part in parts {
        assert!(!part.path.contains(SECRET), "a text in the path {}", part.path);
        assert!(!(inside && part.opens_message), "a message opens in a message at {}", part.path);
        inside = (inside || part.opens_message) && !part.ends_message;
    }
}

fn read_trace(folder: &Path, file: &Path, name: &str) {
    for plain in [
        format(name),
        TraceFormat { skip_bad: true, ..format(name) },
        TraceFormat { block_tokens: None, time_unit: None, ..format(name) },
    ] {
        let mut reader = match TraceReader::open(&plain, folder) {
            Ok(reader) => reader,
            Err(error) => {
                check_trace(&error.to_string(), file);
                continue;
            }
        };
        let mut record = Record::default();
        loop {
            match reader.read(&mut record) {
                Ok(true) => (),
                Ok(false) => break,
                Err(error) => {
                    check_trace(&error.to_string(), file);
                    break;
                }
            }
        }
    }
}

/// A trace has no texts: its messages may show what stands there.
fn check_trace(message: &str, file: &Path) {
    assert!(message.contains(&*file.to_string_lossy()), "no file in: {message}");
    assert!(!message.contains('\n') && message.len() < 1000, "not one line: {message}");
}

fn read_every_way(folder: &Path, name: &str, content: &[u8]) {
    let file = folder.join(name);
    fs::write(&file, content).unwrap();
    read_calls(&file, None, false);
    for kind in LogKind::ALL {
        read_calls(&file, Some(kind), true);
    }
    read_trace(folder, &file, name);
    if let Err(error) = Observations::from_files(&[&file], &LogFormat::default()) {
        // These messages show a bad field as it stands there, however long.
        assert!(error.to_string().contains(&*file.to_string_lossy()));
    }
}

#[test]
fn damaged_files_never_crash_a_reader() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |value| value.parse().expect("a whole number"))
    };
    let (seconds, first) = (number("CACHECAST_FUZZ_SECONDS", 2), number("CACHECAST_FUZZ_SEED", 0));
    let (folder, samples) = (TempDir::new().unwrap(), samples());
    let begun = Instant::now();
    for seed in first.. {
        if begun.elapsed() > Duration::from_secs(seconds) {
            assert!(seed > first, "time for one file");
            eprintln!("{} files", seed - first);
            break;
        }
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let sample = samples[rng.random_range(0..samples.len())].clone();
        let file = damage(rng, sample, &samples);
        let read = || read_every_way(folder.path(), "sample", &file);
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
            eprintln!("CACHECAST_FUZZ_SEED={seed} fails, on a file of {} bytes", file.len());
            std::panic::resume_unwind(panic);
        }
    }
}
