//! Oracles from outside: recorded traces with reference answers of an independent replay, and public readings.
//!
//! These read a folder that is not part of this repository: `CACHECAST_SHARED` names it, `../shared` otherwise. They
//! are compiled only with the feature `shared-data`, and then fail, not skip, where the folder is missing.

use std::path::{Path, PathBuf};

use cachecast::experiment::desk::Desk;
use cachecast::experiment::fit::{Question, fit};
use cachecast::experiment::lifetimes::obstacle;
use cachecast::experiment::observations::Observations;
use cachecast::experiment::run::{replicate, replicate_lifetimes};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::input::calls::{Calls, LogKind};
use cachecast::input::log::LogFormat;
use cachecast::provider::profile::{Profile, Provider};
use cachecast::simulation::outcome::Outcome;
use cachecast::units::{SimTime, Span};
use sha2::{Digest, Sha256};

fn shared(path: &str) -> PathBuf {
    let folder = std::env::var("CACHECAST_SHARED").unwrap_or_else(|_| "../shared".into());
    Path::new(&folder).join(path)
}

fn text(path: &str) -> String {
    let path = shared(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A trace under `ideal`.
fn recorded(trace: &str, block_tokens: u32, lifetime: &str) -> Loaded {
    let file = |field: &str| format!("client.workload.trace.trace.file.{field}");
    let path = shared(trace);
    let changes = [
        Change::new("provider.profile", "ideal", "test"),
        Change::new("provider.retention.lifetime.ideal", lifetime, "test"),
        Change::new(&file("path"), path.display().to_string(), "test"),
        Change::new(&file("block_tokens"), i64::from(block_tokens), "test"),
        Change::new(&file("time_unit"), "ms", "test"),
    ];
    Loaded::from_text("replay", "replay", "", Path::new(""), &changes).unwrap()
}

/// The hit blocks of a replay: their checksum, request by request, and their sum.
#[derive(Clone, Default)]
struct HitBlocks {
    checksum: Sha256,
    sum: u64,
}

impl HitBlocks {
    fn count(&mut self, outcome: &Outcome, block_tokens: u32) {
        let hit_blocks = outcome.cached.div_ceil(block_tokens);
        self.checksum.update(format!("{hit_blocks}\n"));
        self.sum += u64::from(hit_blocks);
    }

    fn answer(self) -> (String, u64) {
        (self.checksum.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), self.sum)
    }
}

/// Replays a trace under `ideal`.
fn replay(trace: &str, block_tokens: u32, lifetime: &str) -> (String, u64) {
    let mut hits = HitBlocks::default();
    let loaded = recorded(trace, block_tokens, lifetime);
    replicate(&loaded, 0, |outcome| hits.count(outcome, block_tokens)).unwrap();
    hits.answer()
}

#[test]
fn every_lifetime_in_one_pass_replays_a_recorded_trace_exactly() {
    let lifetimes = [
        "1s",
        "5s",
        "15s",
        "30s",
        "1m",
        "2m",
        "3m",
        "4m",
        "300s",
        "7m",
        "600s",
        "15m",
        "20m",
        "30m",
        "40m",
        "50m",
        "3600s",
        "2h",
        "86400s",
        "unlimited",
    ];
    let names =
        [("300s", "idle_300_le"), ("600s", "idle_600_le"), ("3600s", "idle_3600_le"), ("unlimited", "inf")];
    let folder = "data/traces/mooncake-synthetic";
    let reference: serde_json::Value =
        serde_json::from_str(&text(&format!("{folder}/reference.json"))).unwrap();
    let block_tokens = reference["block_tokens"].as_u64().unwrap() as u32;
    let trace = format!("{folder}/synthetic_trace.jsonl");
    let loaded = recorded(&trace, block_tokens, "1s");
    assert_eq!(obstacle(&loaded, "ideal"), None);
    let spans: Vec<Span> = lifetimes.iter().map(|lifetime| lifetime.parse().unwrap()).collect();
    let mut hits = vec![HitBlocks::default(); lifetimes.len()];
    let count = |number: usize, outcome: &Outcome| hits[number].count(outcome, block_tokens);
    let reports = replicate_lifetimes(&loaded, 0, &spans, count).unwrap();
    for ((lifetime, report), hits) in lifetimes.iter().zip(reports).zip(hits) {
        let alone = replicate(&recorded(&trace, block_tokens, lifetime), 0, |_| ()).unwrap();
        assert_eq!(report.row, alone.row, "{lifetime}");
        if let Some((_, policy)) = names.iter().find(|(span, _)| span == lifetime) {
            let expected = &reference["all"]["policies"][policy];
            let (checksum, blocks) = hits.answer();
            assert_eq!(expected["hit_blocks"], blocks, "{policy}");
            assert_eq!(expected["per_request_sha256"], checksum, "{policy}");
        }
    }
}

#[test]
fn recorded_traces_replay_exactly_request_by_request() {
    let traces = [
        ("mooncake-synthetic", "synthetic_trace.jsonl"),
        ("mooncake-conversation-head", "conversation_head_1000.jsonl"),
        ("lmcache-agent", "lmcache_agent_blk128.jsonl"),
    ];
    let lifetimes = [
        ("inf", "unlimited"),
        ("idle_300_le", "300s"),
        ("idle_600_le", "600s"),
        ("idle_3600_le", "3600s"),
        ("idle_86400_le", "86400s"),
    ];
    for (folder, file) in traces {
        let reference: serde_json::Value =
            serde_json::from_str(&text(&format!("data/traces/{folder}/reference.json"))).unwrap();
        let block_tokens = reference["block_tokens"].as_u64().unwrap() as u32;
        for (policy, lifetime) in lifetimes {
            let (checksum, blocks) = replay(&format!("data/traces/{folder}/{file}"), block_tokens, lifetime);
            let expected = &reference["all"]["policies"][policy];
            assert_eq!(expected["hit_blocks"], blocks, "{folder} {policy}");
            assert_eq!(expected["per_request_sha256"], checksum, "{folder} {policy}");
        }
    }
}

fn classic() -> Provider {
    Profile::load("openai-classic", Path::new("")).unwrap().provider("openai-classic").unwrap()
}

#[test]
fn every_public_hit_is_the_reading_of_the_classic_profile() {
    let rules = classic().write;
    let mut reader =
        csv::Reader::from_path(shared("data/openai-cache-probe/openai_cache_probe.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|field| field == name).unwrap();
    let (prompt, cached) = (column("prompt_tokens"), column("cached_tokens"));
    // Each repeats an earlier prompt, so that all of it is shared; misses are the provider's routing and expiry. One
    // prompt (2,130 tokens) was read 1,024 deep only, after its full repeat had missed: its other boundaries lived
    // on another machine or not at all.
    let hits: Vec<(u32, u32)> = reader
        .records()
        .map(Result::unwrap)
        .filter_map(|row| Some((row[prompt].parse().ok()?, row[cached].parse().ok()?)))
        .filter(|(_, cached)| *cached > 0)
        .collect();
    assert_eq!(hits.len(), 7);
    let explained =
        hits.iter().filter(|(prompt, cached)| rules.report(rules.boundary(*prompt), *prompt) == *cached);
    assert_eq!(explained.count(), 6, "{hits:?}");
}

#[test]
fn the_probe_is_fitted_as_a_log_and_its_hits_give_the_hidden_tokens() {
    let path = shared("data/openai-cache-probe/openai_cache_probe.csv");
    let mut observations = Observations::from_files(&[&path], &LogFormat::default()).unwrap();
    let loaded = observations.scenario(&[]).unwrap();
    observations.lay_over(&loaded);
    assert_eq!(loaded.scenario.provider.profile, "openai-classic");
    let question = Question {
        loaded: &loaded,
        observations: &observations,
        free: Vec::new(),
        only: vec!["home".into(), "random".into()],
        replications: 39,
    };
    let answer = fit(&question, &Desk::alone(), |_, _| ()).unwrap();
    let card = answer.report.as_ref().unwrap();
    // Six of them repeat a prompt that was hit whenever it was sent again soon. The seventh follows a repeat that missed:
    // how deep it could have read is not known, and the rule gives it at some depth.
    let rule = card.rules.iter().find(|rule| (rule.report_step, rule.interval) == (128, 128)).unwrap();
    assert_eq!((card.readings, rule.explained, &rule.contradicted_at), (7, 7, &None));
    assert_eq!(rule.hidden_tokens, [(69, 85)]);
    let words = answer.sentences().join("\n");
    let own = "hidden_tokens 75) explains 7 of 7. 7 of them fit report_step 128, interval 128, hidden_tokens 69..85 mod 128.";
    assert!(words.contains(own), "{words}");
    assert!(
        words.contains("have no body: prompts of one session (or of one identity) are taken to begin alike")
    );
    // A repeat at once that missed, and a beginning that only the log's author knows to be shared.
    let home = answer.rivals.iter().find(|judged| judged.rival.name == "home").unwrap();
    assert!(
        home.exact.as_ref().unwrap().contradicted_at.as_ref().unwrap().contains("openai_cache_probe.csv:")
    );
}

#[test]
fn latency_defaults_lie_on_the_measured_trend() {
    let latency = classic().latency;
    let mut reader = csv::Reader::from_path(shared("data/openai-cookbook-ttft/ttft_binned.csv")).unwrap();
    let mut rows = 0;
    for row in reader.records().map(Result::unwrap) {
        let (tokens, measured): (u64, f64) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        let per_token =
            if &row[0] == "uncached" { latency.per_uncached_token } else { latency.per_cached_token };
        let ttft = (latency.overhead + per_token.times(tokens)).millis();
        // One intercept serves both series; fitted alone, the cached one would lie 0.22 s higher.
        let tolerance = if &row[0] == "uncached" { 0.05 } else { 0.23 };
        assert!((ttft / measured - 1.0).abs() < tolerance, "{row:?}: {ttft}");
        rows += 1;
    }
    assert_eq!(rows, 16);
}

#[test]
fn the_probe_reads_as_a_table_of_usage() {
    let path = shared("data/openai-cache-probe/openai_cache_probe.csv");
    let mut calls = Calls::open(&path, None, false).unwrap();
    let read: Vec<_> = std::iter::from_fn(|| calls.next_call().unwrap()).collect();
    assert_eq!((calls.kind(), read.len(), calls.without_usage()), (LogKind::UsageTable, 28, 14));
    let hit = &read[3];
    assert_eq!(
        (hit.line, hit.prompt.as_deref(), hit.usage.cached_tokens),
        (19, Some("a345bc1d93cc"), Some(1408))
    );
    assert_eq!((hit.time, hit.total), (Some(SimTime(1_761_899_629_014_782_000)), Some(Span(1_228_000_000))));
    assert!(calls.passed_over().contains(&"strategy".to_string()));
}

#[test]
fn check_finds_the_hot_keys_of_real_agents() {
    // Counted apart, by a window of 60 s over each first256: 209 of 1,619 requests beyond the 15th, of 15 heads.
    let trace = shared("data/traces/lmcache-agent/lmcache_agent_blk128.jsonl");
    let flags =
        ["--block-tokens", "128", "--time-unit", "ms", "--rules", "hot-key", "--format", "json", "--quiet"];
    let mut command = assert_cmd::Command::cargo_bin("cachecast").unwrap();
    let output = command.arg("check").arg(trace).args(flags).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings[0]["count"], 209, "{findings}");
    let message = findings[0]["message"].as_str().unwrap();
    assert!(message.contains("up to 30 a minute") && message.ends_with("so hot: 15"), "{message}");
}
