//! `cachecast init`: what it writes loads, runs, makes sense and keeps to the schema, for every kind of traffic and under
//! every shipped provider; it writes over nothing.

use std::path::Path;

use assert_cmd::Command;
use cachecast::experiment::init::{Answers, KINDS, Topic};
use cachecast::experiment::preflight;
use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::Loaded;
use cachecast::experiment::sweep::Plan;
use cachecast::provider::profile::shipped;
use tempfile::TempDir;

fn trace() -> String {
    format!("{}/scenarios/traces/agents.jsonl", env!("CARGO_MANIFEST_DIR"))
}

/// Answers for a kind of traffic, with the defaults for all else.
fn answers(kind: &str, further: &[(Topic, &str)]) -> Answers {
    let mut answers = Answers::default();
    answers.answer(Topic::Workload, kind).unwrap();
    if kind == "trace" {
        answers.answer(Topic::Trace, &trace()).unwrap();
        answers.answer(Topic::BlockTokens, "128").unwrap();
    }
    further.iter().for_each(|(topic, text)| answers.answer(*topic, text).unwrap());
    answers
}

fn load(text: &str) -> Loaded {
    Loaded::from_text("mine", "mine.toml", text, Path::new(""), &[]).unwrap()
}

/// Warnings that the numbers are not worth reading.
fn hopeless(loaded: &Loaded) -> Vec<String> {
    let mut warnings = preflight::warnings(loaded);
    // That prices are relative is so for most vendors, whatever is asked.
    warnings.retain(|warning| !warning.contains("price"));
    warnings
}

#[test]
fn every_kind_of_traffic_runs_and_hits_and_its_variants_differ() {
    for (kind, _) in KINDS {
        let text = answers(kind, &[]).scenario("mine.toml", Some("scenario.schema.json")).unwrap();
        assert!(text.starts_with("#:schema scenario.schema.json\n"));
        let loaded = load(&text);
        assert_eq!(hopeless(&loaded), Vec::<String>::new(), "{kind}");
        let row = replicate(&loaded, 0, |_| ()).unwrap().row;
        let number = |name: &str| row.get(name).unwrap();
        assert!(number("requests") >= 80.0, "{kind}: {}", number("requests"));
        assert!(number("token_hit_ratio") > 0.3, "{kind}: {}", number("token_hit_ratio"));
        let plan = Plan::new(&loaded).unwrap();
        assert!(plan.cells.len() >= 6 && plan.outline.has_baseline(), "{kind}");
        let ratios: Vec<_> = plan
            .cells
            .iter()
            .map(|cell| replicate(&cell.loaded, 0, |_| ()).unwrap().row.get("token_hit_ratio").unwrap())
            .collect();
        assert!(ratios.iter().any(|ratio| *ratio != ratios[0]), "{kind}: {ratios:?}");
    }
}

#[test]
fn every_provider_suits_every_kind_of_traffic() {
    for profile in shipped() {
        for (kind, _) in KINDS {
            let text = answers(kind, &[(Topic::Provider, profile)]).scenario("mine.toml", None).unwrap();
            let loaded = load(&text);
            let report = replicate(&loaded, 0, |_| ()).unwrap();
            let hits = report.row.get("hit_requests").unwrap();
            // A hypothesis may be that nothing is read. Of a trace whose ends are not known, what stores at ends reads
            // nothing: a preflight says so.
            let is_hypothesis = profile.starts_with("hypothesis-");
            let is_warned = kind == "trace" && !hopeless(&loaded).is_empty();
            assert!(
                hits > 0.0 || is_hypothesis || is_warned,
                "{profile}, {kind}: {:?}",
                preflight::warnings(&loaded)
            );
        }
    }
}

#[test]
fn what_is_written_keeps_to_the_schema_and_explains_every_value() {
    let schema = cachecast::experiment::schema::scenario().unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (kind, _) in KINDS {
        for profile in ["openai-classic", "anthropic-5m"] {
            let text = answers(kind, &[(Topic::Provider, profile)]).scenario("mine.toml", None).unwrap();
            let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
            let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{kind}: {errors:?}");
            // Above every value, or above the values that it belongs to, stands a comment.
            let lines: Vec<_> = text.lines().collect();
            for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
                let above = lines[..at].iter().rev().take_while(|above| !above.is_empty());
                assert!(above.clone().any(|above| above.starts_with('#')), "{kind}: {line} is not explained");
            }
            assert!(lines.iter().all(|line| line.chars().count() <= 120), "{text}");
        }
    }
}

#[test]
fn rates_of_all_sizes_make_a_run_that_is_long_enough_and_not_too_long() {
    for (rate, kind) in [
        ("1/d", "chat"),
        ("3000/s", "shared_prefix"),
        ("500/s", "chat"),
        ("2/h", "agent"),
        ("1000/s", "shared_prefix"),
        ("5/s", "chat"),
        ("30/min", "fork_tree"),
    ] {
        let text = answers(kind, &[(Topic::Rate, rate)]).scenario("mine.toml", None).unwrap();
        let loaded = load(&text);
        let workload = loaded.scenario.client.workload.values().next().unwrap();
        let minutes = loaded.scenario.duration.seconds() / 60.0;
        let requests = preflight::requests_per_minute(workload).unwrap() * minutes;
        let sessions = workload.arrivals.as_ref().unwrap().rate.per_minute() * minutes;
        assert!(sessions >= 300.0 || loaded.scenario.duration.to_string() == "7d", "{rate}: {sessions}");
        assert!(requests <= 3e6, "{rate}: {requests}");
        assert!(loaded.scenario.warmup.seconds() >= 600.0, "a lifetime in memory");
    }
}

#[test]
fn where_there_is_no_key_to_send_none_is_sold() {
    for profile in shipped() {
        let has_none =
            ["anthropic-5m", "anthropic-1h", "deepseek", "gemini-implicit", "groq"].contains(&profile);
        for (kind, _) in KINDS {
            let of_profile = answers(kind, &[(Topic::Provider, profile)]);
            assert_eq!(of_profile.needs(Topic::Key), !has_none, "{profile}");
            let text = of_profile.scenario("mine.toml", None).unwrap();
            let loaded = load(&text);
            let plan = Plan::new(&loaded).unwrap();
            let sells_keys = plan.outline.axes.iter().any(|axis| axis.starts_with("client.key"));
            assert_eq!(sells_keys, !has_none, "{profile}, {kind}: {:?}", plan.outline.axes);
            assert!(plan.outline.has_baseline(), "{profile}, {kind}");
            if !has_none {
                continue;
            }
            assert!(text.contains("strategy = \"none\"") && !text.contains("cachecast recommend"), "{text}");
            // What is varied in place of the key makes a difference.
            let rows = plan.cells.iter().map(|cell| replicate(&cell.loaded, 0, |_| ()).unwrap().row);
            let ratios: Vec<_> = rows.map(|row| row.get("token_hit_ratio").unwrap()).collect();
            let differ = ratios.iter().any(|ratio| *ratio != ratios[0]);
            assert!(differ || kind == "trace", "{profile}, {kind}: {ratios:?}");
        }
    }
}

/// Runs the program without a terminal: code, stdout, stderr.
fn init(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
    let done = command.arg("init").args(args).current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn flags_make_a_file_and_nothing_is_written_over() {
    let folder = TempDir::new().unwrap();
    let mine = folder.path().join("mine.toml");
    let flags = ["--workload", "chat", "--users", "2000", "--prefix-tokens", "4000", "--rate", "40/min"];
    let to = |more: &[&'static str]| [&flags, more].concat();
    let (code, stdout, stderr) = init(&folder, &to(&["--out", "mine.toml"]));
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("Next: cachecast run mine.toml"), "{stderr}");
    let text = std::fs::read_to_string(&mine).unwrap();
    for line in ["users = 2000", "prefix_tokens = 4000", "rate = \"40/min\"", "cachecast run mine.toml"] {
        assert!(text.contains(line), "{line}");
    }
    let schema = folder.path().join("scenario.schema.json");
    assert!(std::fs::read_to_string(&schema).unwrap().contains("\"cachecast scenario\""));
    std::fs::write(&mine, "mine").unwrap();
    std::fs::write(&schema, "mine, too").unwrap();
    let (code, _, stderr) = init(&folder, &to(&["--out", "mine.toml"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("mine.toml: is there already") && stderr.contains("--force"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    let (code, _, stderr) = init(&folder, &to(&["--out", "other.toml"]));
    assert!(code == 0 && stderr.contains("scenario.schema.json is there already"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&schema).unwrap(), "mine, too");
    let (code, _, stderr) = init(&folder, &to(&["--out", "mine.toml", "--force", "--quiet"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), text);
    assert!(std::fs::read_to_string(&schema).unwrap().contains("\"cachecast scenario\""));
}

#[test]
fn without_a_file_it_goes_to_stdout_as_data() {
    let folder = TempDir::new().unwrap();
    let (code, stdout, stderr) = init(&folder, &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("[client.workload.chat.chat]") && !stdout.contains("#:schema"), "{stdout}");
    load(&stdout);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_trace_is_found_from_where_the_scenario_is() {
    let folder = TempDir::new().unwrap();
    for place in ["data", "scenarios"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
    }
    std::fs::copy(trace(), folder.path().join("data/t.jsonl")).unwrap();
    let flags = ["--trace", "data/t.jsonl", "--block-tokens", "128"];
    for out in ["mine.toml", "scenarios/mine.toml", "data/mine.toml"] {
        let (code, _, stderr) = init(&folder, &[&flags[..], &["--out", out]].concat());
        assert_eq!(code, 0, "{stderr}");
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
        let done = command.args(["run", out, "--seeds", "1"]).current_dir(folder.path()).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{out}: {done:?}");
    }
}

#[test]
fn wrong_answers_are_named_with_what_would_be_right() {
    let folder = TempDir::new().unwrap();
    let cases: [(&[&str], &str); 20] = [
        (
            &["--workload", "chats"],
            "--workload: `chats` is none of shared_prefix, chat, agent, fork_tree, trace; did you mean `chat`?",
        ),
        (&["--users", "many"], "--users: `many` is not a whole number of 1 or more"),
        (&["--rate", "20"], "--rate: `20` is not a rate: write a number above zero over a unit"),
        (&["--prefix-tokens", "6k"], "--prefix-tokens: `6k` is not a whole number"),
        (&["--turns", "gauss(3)"], "--turns: `gauss` is no distribution"),
        (&["--calls", "5"], "--calls: is nothing that a workload of the kind chat has"),
        (&["--workload", "trace"], "--trace: is needed"),
        (&["--trace", "none.jsonl"], "--trace: `none.jsonl` is no file"),
        (&["--provider", "openai-clasic"], "--provider: `openai-clasic` is none of openai-classic"),
        (
            &["--retention", "2h"],
            "--retention: `gpt-5.2` does not support retention `2h`; it supports in_memory, 24h",
        ),
        (&["--key", "per_usr"], "did you mean `per_user`?"),
        (&["--out", "mine"], "--out: let mine end in .toml"),
        (&["--out", "a\nb.toml"], "--out: a\\nb.toml holds a line break"),
        (
            &["--retention", "24h\n# x"],
            "--retention: `24h\\n# x` is not to be written: it holds a line break",
        ),
        (&["--users", "5\u{1b}1"], "--users: `5\\u{1b}1` is not to be written: it holds a control character"),
        (
            &["--rate", "100000/s", "--workload", "shared_prefix"],
            "--rate: `100000/s` makes 6000000 requests a minute, too many to begin with: write 200000/min or less",
        ),
        (&["--rate", "0.00001/d"], "--rate: `0.00001/d` is so little that nothing would be sent: write 1/d"),
        (&["--workload", "fork_tree", "--branching", "100,100,100"], "--branching: makes trees of more than"),
        (
            &["--turns", "1000000"],
            "--turns: `1000000` makes 1000000 calls of one start: let it be 10000 or less",
        ),
        (&["--provider", "deepseek", "--key", "per_user"], "--key: deepseek has no prompt_cache_key to send"),
    ];
    for (flags, words) in cases {
        let (code, stdout, stderr) = init(&folder, flags);
        assert_eq!((code, stdout.as_str()), (2, ""), "{flags:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(words), "{flags:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
