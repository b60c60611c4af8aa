//! Anonymized logs: they replay to the same bits, and hold no word of what they were made from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use cachecast::experiment::anonymize::Anonymizer;
use cachecast::experiment::results::Unpublished;
use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::input::call::{Call, Content};
use cachecast::input::calls::{Calls, LogKind};
use cachecast::input::log::{Log, LogFormat, LoggedCall};
use cachecast::input::salt::Salt;
use cachecast::input::trace::Record;
use cachecast::units::{Span, Tokens};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A log, and where its anonymized form is written.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new(content: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("log"), content).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `to` from `from`.
    fn anonymize(&self, from: &str, to: &str, round_times: Option<Span>) {
        let format = LogFormat { skip_bad: true, ..LogFormat::default() };
        let log = self.path(from);
        let anonymizer = Anonymizer { log: &log, format, round_times };
        let salt = Salt::of_words("salt");
        anonymizer.write(salt, Unpublished::beside(&self.path(to)).unwrap()).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
        command.args(args).current_dir(self.folder.path()).output().unwrap()
    }

    /// What the binary says when it succeeds.
    fn says(&self, args: &[&str]) -> String {
        let Output { status, stderr, .. } = self.run(args);
        let said = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "{args:?}: {said}");
        said
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn log(path: &Path, message_overhead: Tokens) -> Log {
    Log::read(path, &LogFormat { message_overhead, skip_bad: true, ..LogFormat::default() }).unwrap()
}

/// A log without its names.
fn structure(log: &Log) -> (Vec<Record>, Vec<Record>, Vec<LoggedCall>) {
    let calls = log.calls.iter().cloned().map(|call| LoggedCall { retention: None, ..call });
    (log.records(true), log.records(false), calls.collect())
}

/// Asserts that the anonymized form, and the anonymized form of that, play like the log itself.
fn plays_alike(case: &Case) {
    case.anonymize("log", "out", None);
    case.anonymize("out", "again", None);
    for overhead in [0, 1, 4] {
        let original = log(&case.path("log"), overhead);
        for name in ["out", "again"] {
            let anonymized = log(&case.path(name), overhead);
            assert_eq!(anonymized.kind, LogKind::Anonymized);
            assert_eq!(structure(&anonymized), structure(&original), "{name}, overhead {overhead}");
        }
    }
}

/// Lines of a request log; texts may begin alike inside one part.
fn request_log() -> String {
    let body = |texts: &[&str]| -> Value {
        texts.iter().map(|text| json!({"role": "user", "content": text})).collect::<Vec<_>>().into()
    };
    let stem = "bramblewick oversees the quillstone ledger every fortnight and ".repeat(30);
    let one = format!("{stem} then marrowgate");
    let other = format!("{stem} then thistledown, and more of it");
    let usage =
        |prompt: u32| json!({"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": 128}});
    let lines = [
        json!({"time": 1.5, "session": "sess-zephyrine", "request": {"model": "gpt-5", "prompt_cache_key": "key-obsidian",
            "tools": [{"type": "function", "name": "tool_cormorant", "parameters": {"properties": {"prop_larkspur": {"enum": ["enum_sorrel"]}}}}],
            "instructions": "Speak as pemberlyn.", "input": body(&[&one])}, "usage": usage(9000)}),
        json!({"time": 2, "session": "sess-zephyrine", "request": {"model": "gpt-5", "prompt_cache_key": "key-obsidian",
            "tools": [{"type": "function", "name": "tool_cormorant", "parameters": {"properties": {"prop_larkspur": {"enum": ["enum_sorrel"]}}}}],
            "instructions": "Speak as pemberlyn.", "input": body(&[&other])}, "usage": usage(9100)}),
        // A repeated prompt, a truncated one, one that goes on, the same under other settings, at earlier times.
        json!({"time": 1, "request": {"model": "gpt-5", "input": body(&[&one])}}),
        json!({"time": 1, "request": {"model": "gpt-5", "input": body(&[&one])}}),
        json!({"time": 3, "request": {"model": "gpt-5", "input": body(&[&stem])}}),
        json!({"time": 4, "request": {"model": "gpt-5", "input": body(&[&one, "wolfsbane"])}, "ttft_ms": 12.5, "latency_ms": 900}),
        json!({"time": 5, "request": {"model": "deployment-hollyhock", "service_tier": "tier-juniper", "prompt_cache_retention": "retain-mistral9",
            "text": {"format": {"type": "json_schema", "name": "schema_ravensong"}}, "input": body(&[&one])}}),
        json!({"time": 5, "request": {"model": "ft:gpt-4o:gorsebush:custom", "input": body(&[&one])}}),
        // One text in one part and in two, marks, images, files, empty texts and no parts at all.
        json!({"time": 6, "request": {"model": "gpt-5", "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "foxglove foxglove", "prompt_cache_breakpoint": {}},
            {"type": "input_text", "text": " foxglove foxglove"},
            {"type": "input_image", "image_url": "https://img.saltmarsh.example/a", "width": 100, "height": 100},
            {"type": "input_file", "file_id": "file-peregrine", "filename": "tidewrack.pdf"}]}]}}),
        json!({"time": 7, "request": {"model": "gpt-5", "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "foxglove foxglove foxglove foxglove"},
            {"type": "input_image", "image_url": "https://img.saltmarsh.example/b", "detail": "low"}]}]}}),
        json!({"time": 8, "request": {"model": "gpt-5", "input": ""}}),
        json!({"time": 9, "request": {"model": "gpt-5", "input": []}}),
        json!({"time": 9.5, "request": {"input": [{"type": "reasoning", "encrypted_content": "sealedwhimbrel0123456789"},
            {"type": "function_call", "name": "tool_cormorant", "call_id": "call-nettle", "arguments": "{\"arg_yarrow\": 1}"},
            {"type": "function_call_output", "call_id": "call-nettle", "output": "says dunnock"},
            {"role": "assistant", "phase": "fieldfare", "content": "Finishes."}, {"type": "kind_lapwing", "field_stonechat": 1}]}}),
        // Calls without bodies, a continued one, one that failed.
        json!({"time": 10, "session": "sess-b", "usage": usage(3000)}),
        json!({"time": 11, "session": "sess-b", "usage": usage(3500)}),
        json!({"time": 12, "request": {"previous_response_id": "resp_turnstone", "input": "goes on"}, "usage": usage(4000)}),
        json!({"time": 13, "request": {"input": "failed"}, "error": {"message": "broken siskin"}, "note": "note-redpoll"}),
    ];
    let mut lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.insert(3, "{\"broken\": \"linnet".into());
    lines.join("\n")
}

/// Every form of log, its secrets words of their own.
fn logs() -> Vec<(LogKind, String)> {
    let request = json!({"model": "deployment-hollyhock", "prompt_cache_key": "key-obsidian", "instructions": "Speak as pemberlyn.",
        "input": [{"role": "user", "content": "A bramblewick."}]});
    let gateway = json!({"call_type": "acompletion", "startTime": 1_769_817_600.5, "endTime": 1_769_817_602, "model": "azure/hollyhock",
        "prompt_tokens": 2000, "session_id": "sess-zephyrine", "messages": [{"role": "user", "content": "A bramblewick."}],
        "model_parameters": {"tools": [{"name": "tool_cormorant"}]}, "api_base": "https://saltmarsh.example"});
    let openrouter = json!({"data": {"created_at": "2026-01-31T00:00:00Z", "native_tokens_prompt": 2000, "native_tokens_cached": 5,
        "model": "hollyhock", "id": "gen-turnstone", "session_id": "sess-zephyrine"}});
    let codex = [
        json!({"type": "session_meta", "payload": {"id": "sess-zephyrine", "cwd": "/home/larkspur", "base_instructions": {"text": "Speak as pemberlyn."}}}),
        json!({"type": "turn_context", "payload": {"model": "hollyhock", "effort": "effort-juniper"}}),
        json!({"type": "response_item", "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A bramblewick."}]}}),
        json!({"type": "response_item", "payload": {"type": "function_call", "name": "tool_cormorant", "call_id": "call-nettle", "arguments": "{\"arg_yarrow\": 1}"}}),
        json!({"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": {"input_tokens": 90}, "last_token_usage": {"input_tokens": 90}}}}),
        json!({"type": "response_item", "payload": {"type": "function_call_output", "call_id": "call-nettle", "output": "says dunnock"}}),
        json!({"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": {"input_tokens": 290}, "last_token_usage": {"input_tokens": 200}}}}),
    ];
    let codex = (1..).zip(codex).map(|(second, mut line)| {
        line["timestamp"] = json!(format!("2026-01-31T00:00:{second:02}Z"));
        line.to_string()
    });
    let claude = |uuid: &str, parent: Option<&str>, kind: &str, message: Value| {
        json!({"type": kind, "sessionId": "sess-zephyrine", "uuid": uuid, "parentUuid": parent, "cwd": "/home/larkspur",
            "timestamp": "2026-01-31T00:00:00Z", "message": message})
        .to_string()
    };
    let answer = |id: &str, content: Value| {
        json!({"role": "assistant", "id": id, "model": "hollyhock", "content": [content],
            "usage": {"input_tokens": 4, "cache_read_input_tokens": 90, "output_tokens": 9}})
    };
    let claude = [
        claude("uuid-gannet", None, "user", json!({"role": "user", "content": "A bramblewick."})),
        claude(
            "uuid-fulmar",
            Some("uuid-gannet"),
            "assistant",
            answer(
                "msg-turnstone",
                json!({"type": "tool_use", "name": "tool_cormorant", "id": "call-nettle", "input": {"arg_yarrow": 1}}),
            ),
        ),
        claude(
            "uuid-petrel",
            Some("uuid-fulmar"),
            "user",
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call-nettle", "content": "says dunnock"}]}),
        ),
        claude(
            "uuid-skua",
            Some("uuid-petrel"),
            "assistant",
            answer("msg-whimbrel", json!({"type": "text", "text": "Finishes."})),
        ),
    ];
    let table = "time,key,session,model,prompt_tokens,cached_tokens,prompt_hash,secret_linnet\n\
        1769817600,key-obsidian,sess-zephyrine,hollyhock,2000,1920,prompt-pemberlyn,note-redpoll\n\
        1769817601.25,key-obsidian,sess-zephyrine,hollyhock,2100,1920,prompt-pemberlyn,\n\
        1769817602,key-other,sess-zephyrine,gpt-5,2200,0,prompt-marrowgate,\n";
    vec![
        (LogKind::Request, request.to_string()),
        (LogKind::Log, request_log()),
        (LogKind::Gateway, format!("{gateway}\n{openrouter}\n")),
        (LogKind::Codex, codex.collect::<Vec<_>>().join("\n")),
        (LogKind::ClaudeCode, claude.join("\n")),
        (LogKind::UsageTable, table.to_string()),
    ]
}

/// Words of the logs above, in texts, names, keys, ids, URLs and settings.
const SECRETS: &str = "bramblewick oversees quillstone ledger fortnight marrowgate thistledown zephyrine obsidian cormorant \
    larkspur sorrel pemberlyn wolfsbane hollyhock juniper mistral9 ravensong gorsebush foxglove saltmarsh peregrine tidewrack \
    whimbrel nettle yarrow dunnock fieldfare lapwing stonechat turnstone siskin redpoll linnet gannet fulmar petrel skua \
    sess-b key-other Speak Finishes home example custom json_schema";

#[test]
fn every_form_plays_alike_and_keeps_its_secrets() {
    for (kind, content) in logs() {
        let case = Case::new(&content);
        assert_eq!(Calls::detect(&case.path("log")).unwrap(), kind);
        plays_alike(&case);
        for name in ["out", "again"] {
            let written = case.read(name).to_lowercase();
            let found = SECRETS.split_whitespace().find(|word| written.contains(&word.to_lowercase()));
            assert_eq!(found, None, "{kind:?}: {written}");
            assert!(!written.contains("salt"));
        }
    }
    let all: String = logs().into_iter().map(|(_, content)| content).collect();
    let unused = SECRETS.split_whitespace().find(|word| !all.contains(word));
    assert_eq!(unused, None, "a word that stands nowhere proves nothing");
}

#[test]
fn what_is_public_is_kept() {
    let case = Case::new(&request_log());
    case.anonymize("log", "out", None);
    let read = |name: &str| -> Vec<Call> {
        let mut calls = Calls::open(&case.path(name), None, true).unwrap();
        std::iter::from_fn(|| calls.next_call().unwrap()).collect()
    };
    let (original, written) = (read("log"), read("out"));
    assert_eq!((original.len(), written.len()), (16, 16));
    for (original, written) in original.iter().zip(&written) {
        let facts = |call: &Call| (call.line, call.time, call.usage, call.ttft, call.total, call.continues);
        assert_eq!(facts(original), facts(written));
        let parts = |call: &Call| -> Vec<_> {
            let parts = call.body.iter().flat_map(|body| &body.parts);
            parts
                .map(|part| {
                    (part.path.clone(), part.role, part.opens_message, part.ends_message, part.marked)
                })
                .collect()
        };
        assert_eq!(parts(original), parts(written));
    }
    assert_eq!(written[0].settings.prefix["model"], "gpt-5");
    let secret = &written[6].settings;
    assert!(
        secret.prefix["model"].starts_with("model-") && secret.prefix["text.format"].starts_with("format-")
    );
    assert!(secret.retention.as_ref().unwrap().starts_with("retention-"));
    // What two prompts say alike has one hash, wherever it is cut.
    let digest = |call: &Call, part: usize| match call.body.as_ref().unwrap().parts[part].content {
        Content::Hashed { digest, .. } => digest,
        _ => panic!("the text is not hashed"),
    };
    assert_eq!(digest(&written[0], 1), digest(&written[1], 1));
    assert_eq!(digest(&written[2], 0), digest(&written[5], 0));
    assert_ne!(digest(&written[2], 0), digest(&written[4], 0));
}

/// All numbers of a replay.
fn replayed(log: &Log, profile: &str) -> String {
    let records: Arc<[Record]> = log.records(true).into();
    let changes = [
        Change::new("client.key.strategy", "recorded", "a log"),
        Change::new("client.workload.trace.trace.file.path", "log", "a log"),
        Change::new("provider.profile", profile, "a test"),
    ];
    let loaded = Loaded::from_log("log", records, &changes).unwrap();
    let mut outcomes = String::new();
    let report = replicate(&loaded, 0, |outcome| outcomes += &format!("{outcome:?}\n")).unwrap();
    format!("{:?}\n{outcomes}", report.row)
}

#[test]
fn replays_are_equal_bit_for_bit() {
    for (kind, content) in logs() {
        let case = Case::new(&content);
        case.anonymize("log", "out", None);
        for profile in ["openai-classic", "openai-5.6", "anthropic-5m"] {
            let [original, anonymized] =
                ["log", "out"].map(|name| replayed(&log(&case.path(name), 4), profile));
            assert_eq!(original, anonymized, "{kind:?} under {profile}");
        }
    }
}

#[test]
fn rounded_times_keep_the_order() {
    let line = |time: f64, session: &str| {
        json!({"time": time, "session": session, "usage": {"prompt_tokens": 5}}).to_string()
    };
    let case = Case::new(&[line(61.9, "c"), line(61.1, "b"), line(125.0, "d"), line(3.5, "a")].join("\n"));
    case.anonymize("log", "out", Some(Span::MINUTE));
    let rounded = log(&case.path("out"), 4);
    let facts: Vec<_> = rounded.calls.iter().map(|call| (call.line, call.time.seconds())).collect();
    assert_eq!(facts, [(4, 0.0), (2, 60.0), (1, 60.0), (3, 120.0)]);
}

#[test]
fn bad_lines_of_an_anonymized_log_are_named() {
    let good = r#"{"anonymized":1,"line":1,"time_ns":5,"parts":[{"path":"input","role":"user","hash":"00000000000000ff","stretches":[["00000000000000ff",3]]}]}"#;
    for (from, to, message) in [
        ("\"anonymized\":1", "\"anonymized\":2", "the line: is of version 2 of this form"),
        ("\"time_ns\":5", "\"time_ns\":9223372036854775808", "the line: `time_ns` is no time"),
        ("\"00000000000000ff\",3", "\"secret\",3", "the line: is not the JSON that is expected"),
        ("\"time_ns\":5", "\"secret\":5", "the line: is not the JSON that is expected"),
        (
            "\"time_ns\":5",
            "\"settings\":{\"secret\":\"5\"}",
            "the line: `settings` has a name that is none of model",
        ),
        (",3]", ",4294967295]", "the line: the prompt is longer than"),
        (
            "\"parts\"",
            "\"cached_tokens\":5,\"prompt_tokens\":4,\"parts\"",
            "the line: 5 cached tokens of a prompt of 4",
        ),
        (",\"parts\":", ",\"parts\":null,\"x\":", "the line: is not the JSON that is expected"),
    ] {
        let case = Case::new(&format!("{good}\n{}", good.replace(from, to)));
        let Err(error) = Log::read(&case.path("log"), &LogFormat::default()) else { panic!("{to} is read") };
        let error = error.to_string();
        assert!(error.contains(&format!("log:2: {message}")) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_verb_writes_what_can_be_shared() {
    let case = Case::new(&request_log());
    let said = case.says(&["anonymize", "log", "--out", "out", "--skip-bad"]);
    assert!(
        said.contains("a log of requests: 16 calls written, with hashes in place of the text of 14 ("),
        "{said}"
    );
    assert!(said.contains("1 bad lines were skipped") && said.contains("; 1 left out"), "{said}");
    assert!(!said.contains("linnet"));
    case.says(&["anonymize", "log", "--out", "other", "--skip-bad", "--quiet"]);
    assert_ne!(case.read("out"), case.read("other"), "another salt each time");
    for name in ["one", "two"] {
        assert_eq!(
            case.says(&["anonymize", "log", "--out", name, "--skip-bad", "--quiet", "--salt", "a secret"]),
            ""
        );
    }
    assert_eq!(case.read("one"), case.read("two"));
    assert_eq!(structure(&log(&case.path("one"), 4)), structure(&log(&case.path("out"), 4)));
    for (args, words) in [
        (&["--out", "log"][..], "is the log itself: name another file"),
        (&["--out", "new"], "log:4: the line is cut off"),
        (&["--out", "no/new"], "the folder `no` is not there"),
        (&["--out", "new", "--kind", "trace"], "is a recorded trace"),
        (&["--out", "new", "--round-times", "0s"], "it must be longer than nothing"),
        (&["--out", "new", "--salt", ""], "a value is required"),
        (&["--out", "new", "--vocabulary", "x"], "possible values: o200k_base"),
    ] {
        let Output { status, stderr, .. } = case.run(&[&["anonymize", "log"], args].concat());
        let said = String::from_utf8(stderr).unwrap();
        assert!(status.code() == Some(2) && said.contains(words), "{args:?}: {said}");
        assert!(!case.path("new").exists());
    }
}

/// Prompts over few words, in parts of which some begin messages: they often begin alike, end inside others, and have
/// the same text in other parts.
fn bodies() -> impl Strategy<Value = Vec<Vec<Vec<String>>>> {
    let text = prop::collection::vec(prop::sample::select(vec![" a", " b", " c"]), 0..6)
        .prop_map(|words| words.concat());
    let message = prop::collection::vec(text, 0..4);
    prop::collection::vec(prop::collection::vec(message, 0..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn random_prompts_play_alike(bodies in bodies(), groups in prop::collection::vec(0u8..3, 12), times in prop::collection::vec(0u8..9, 12)) {
        let lines = bodies.iter().zip(groups.iter().zip(&times)).map(|(messages, (group, time))| {
            let messages: Vec<_> = messages.iter().enumerate().map(|(at, blocks)| {
                let blocks: Vec<_> = blocks.iter().map(|text| match text.len() {
                    10 => json!({"type": "input_image", "image_url": text, "detail": "low"}),
                    8 => json!({"type": "input_text", "text": text, "prompt_cache_breakpoint": {}}),
                    _ => json!({"type": "input_text", "text": text}),
                }).collect();
                json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": blocks})
            }).collect();
            let model = format!("m{group}");
            json!({"time": time, "session": group, "prompt_cache_key": model, "request": {"model": model, "input": messages}}).to_string()
        });
        plays_alike(&Case::new(&lines.collect::<Vec<_>>().join("\n")));
    }
}
