//! `cachecast check` as a user runs it: exit codes, formats, scenarios, and that no text gets out.
#![cfg(unix)]

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

/// What a run of the program said.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// The rules that fired, in their order.
    fn rules(&self) -> Vec<String> {
        let rows: Vec<Value> = serde_json::from_str(&self.stdout).unwrap();
        rows.iter().map(|row| row["rule"].as_str().unwrap().to_string()).collect()
    }
}

fn check(files: &[(&str, String)], args: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
    let done = command.arg("check").args(args).current_dir(folder.path()).output().unwrap();
    let [stdout, stderr] = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Said { code: done.status.code(), stdout, stderr }
}

/// A body that no rule objects to, with other fields laid over it.
fn body(changes: Value) -> String {
    let mut body = json!({"model": "gpt-5.2", "prompt_cache_retention": "24h", "instructions": "steady ".repeat(1_500),
        "input": [{"role": "user", "content": "Go on."}]});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

#[test]
fn exit_codes_say_what_came_of_it() {
    let sound = ("sound.json", body(json!({})));
    let short = ("short.json", body(json!({"instructions": "brief"})));
    let files = [sound, short];
    let code = |args: &[&str]| check(&files, args).code;
    assert_eq!(code(&["sound.json"]), Some(0));
    assert_eq!(code(&["sound.json", "short.json"]), Some(1));
    assert_eq!(code(&["short.json", "--level", "error"]), Some(0));
    assert_eq!(code(&["short.json", "--ignore", "CC007"]), Some(0));
    assert_eq!(code(&["short.json", "--rules", "hot-key,CC001"]), Some(0));
    assert_eq!(code(&["short.json", "--rules", "below-minimum"]), Some(1));
    assert_eq!(code(&["--list-rules"]), Some(0));
}

#[test]
fn bad_input_is_one_message_and_exit_code_2() {
    let files = [("bad.jsonl", "{\"model\": \n".to_string()), ("sound.json", body(json!({})))];
    for (args, words) in [
        (&["absent.json"][..], "there is no such file"),
        (&["bad.jsonl"], "bad.jsonl"),
        (&["sound.json", "--rules", "CC099"], "--rules CC099: is no rule"),
        (&["sound.json", "--provider", "openai"], "is neither a shipped profile"),
        (&[], "Usage"),
        (&["--list-rules", "sound.json"], "cannot be used with"),
    ] {
        let said = check(&files, args);
        assert!(said.code == Some(2) && said.stdout.is_empty(), "{args:?}: {}", said.stdout);
        assert!(said.stderr.contains(words), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn every_format_says_the_same_and_says_it_again() {
    let files = [("short.json", body(json!({"instructions": "brief"})))];
    let json = check(&files, &["short.json", "--json"]);
    assert_eq!(json.stdout, check(&files, &["short.json", "--format", "json"]).stdout);
    let rows: Value = serde_json::from_str(&json.stdout).unwrap();
    let row = &rows[0];
    assert_eq!(
        [&row["rule"], &row["name"], &row["severity"], &row["file"]],
        ["CC007", "below-minimum", "warning", "short.json"]
    );
    assert!(row["line"].is_null() && row["count"] == 1 && row.get("text").is_none());
    assert!(["message", "fix", "source"].iter().all(|name| row[name].as_str().unwrap().len() > 20));
    assert_eq!(json.stderr, "0 errors, 1 warning, 0 notes\n");
    let table = check(&files, &["short.json", "--format", "table", "--quiet"]);
    assert!(table.stdout.starts_with("short.json: warning CC007 below-minimum\n") && table.stderr.is_empty());
    assert!(check(&files, &["short.json"]).stdout.starts_with("rule,name,severity,file,line,path,token,"));
    let nothing = check(&[("sound.json", body(json!({})))], &["sound.json", "--json"]);
    assert_eq!(
        (nothing.stdout.as_str(), nothing.stderr.as_str()),
        ("[]\n", "0 errors, 0 warnings, 0 notes\n")
    );
    let rules = check(&[], &["--list-rules"]).stdout;
    assert_eq!(rules.lines().count(), 23);
}

/// A log in which every text is secret, and most rules fire.
fn secret_log() -> String {
    let secret = "xyzzysecret";
    let call = |n: u64| {
        let tool = |name: String| {
            json!({"type": "function", "name": name, "description": format!("{secret} {n}"), "parameters": {
                "type": "object", "properties": {secret: {"type": "string", "default": "2026-11-20T20:43:43Z"}}}})
        };
        let stamp =
            format!("{secret} 20:43:{:02} {secret} 0190f5fe-7c00-7a00-8000-{n:012x} {secret}", n + 10);
        let models = ["gpt-5.2", "gpt-5.6-terra", "gpt-5.5"];
        json!({"time": 1_763_671_423 + n, "session": secret, "user": secret, "request": {
            "model": models[n as usize % 3],
            "prompt_cache_key": if n % 10 == 9 { secret.into() } else { format!("{secret}-{n}") }, "prompt_cache_retention": "in_memory", "user": secret,
            "tools": [tool(format!("{secret}_a{n}")), tool(format!("{secret}_b"))],
            "text": {"format": {"type": "json_schema", "name": secret, "schema": {secret: n}}},
            "reasoning": {"effort": "high"}, "metadata": {secret: secret},
            "instructions": format!("{stamp} {}", format!("{secret} ").repeat(500 + 400 * (n as usize % 2))),
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": stamp, "prompt_cache_breakpoint": {"mode": "explicit"}}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": secret}]},
                {"role": "assistant", "content": secret, "phase": "commentary"},
                {"role": "assistant", "content": format!("{secret} {n}")},
                {"type": "function_call", "name": secret, "arguments": format!("{{\"{secret}\":1}}"), "call_id": secret},
                {"type": "function_call_output", "call_id": secret, "output": secret},
                {"role": "user", "content": secret}
            ]}})
        .to_string()
    };
    (0..30).map(|n| call(n) + "\n").collect()
}

#[test]
fn no_text_gets_out_unless_asked_for() {
    let files = [("log.jsonl", secret_log())];
    for format in ["table", "json", "csv", "markdown"] {
        let said = check(&files, &["log.jsonl", "--format", format]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        for text in ["xyzzy", "20:43", "0190f5fe", "2026-11-20T"] {
            assert!(!said.stdout.contains(text) && !said.stderr.contains(text), "{text}: {}", said.stdout);
        }
    }
    let said = check(&files, &["log.jsonl", "--json"]);
    let rules = said.rules();
    for rule in ["CC002", "CC004", "CC012", "CC015", "CC016", "CC017", "CC019"] {
        assert!(rules.iter().any(|fired| fired == rule), "{rule}: {rules:?}");
    }
    let rows: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    assert!(rows.len() < 40, "the same finding in many lines is one: {}", rows.len());
    let shown = check(&files, &["log.jsonl", "--json", "--show-text"]);
    assert!(shown.stdout.contains("20:43:10") && !shown.stdout.contains("xyzzy"), "the matched piece alone");
}

#[test]
fn a_broken_line_shows_none_of_its_text() {
    let files = [("log.jsonl", format!("{}{}", secret_log(), "{\"request\": {\"input\": \"xyzzysecret\n"))];
    let said = check(&files, &["log.jsonl"]);
    assert!(said.code == Some(2) && !said.stderr.contains("xyzzy") && said.stderr.contains("log.jsonl:31"));
    let skipped = check(&files, &["log.jsonl", "--skip-bad", "--json"]);
    assert!(
        skipped.code == Some(1) && skipped.stderr.contains("1 bad lines were skipped"),
        "{}",
        skipped.stderr
    );
}

/// The rules that fire on a shipped scenario.
fn of_scenario(name: &str) -> Vec<String> {
    let said = check(&[], &[name, "--json"]);
    let mut rules = said.rules();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn shipped_scenarios_have_the_findings_they_are_about() {
    assert_eq!(of_scenario("bucket-cardinality"), ["CC003"]);
    assert_eq!(of_scenario("key-strategies"), ["CC003"]);
    assert_eq!(of_scenario("head-timestamp"), ["CC004"]);
    assert_eq!(of_scenario("retention-gap"), ["CC001"]);
    assert_eq!(of_scenario("lifetimes"), ["CC018"]);
    for sound in
        ["idle-gap", "chat", "keep-alive", "fan-out", "fork-tree", "gateway", "compaction", "breakpoints"]
    {
        assert!(of_scenario(sound).is_empty(), "{sound}");
    }
    let said = check(&[], &["bucket-cardinality", "--format", "table"]);
    assert!(said.stdout.starts_with("scenarios/bucket-cardinality.toml:"), "{}", said.stdout);
    assert!(said.stdout.contains("client.workload."), "{}", said.stdout);
}

#[test]
fn a_scenario_is_refused_where_its_sweep_would_be() {
    let scenario = fs::read_to_string(format!("{}/scenarios/chat.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for (axis, words) in [
        ("path = 'client.key.bukets'\nvalues = [1]", "buckets"),
        ("path = 'client.key.buckets'\nvalues = [4, -1]", "client.key.buckets"),
        ("path = 'client.key.buckets'\nvalues = [4, 4]", "the value 4 is there twice"),
    ] {
        let text = format!("{scenario}\n[[sweep.axis]]\n{axis}\n");
        let said = check(&[("s.toml", text)], &["s.toml"]);
        assert_eq!(said.code, Some(2), "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains(words), "{}", said.stderr);
    }
}
