//! `cachecast report` and `--report`, as a user gives them.

use std::path::Path;

use assert_cmd::Command;

const CALLS: &str = r#"
title = "How many buckets?"
duration = "10m"
seeds = 3
[client.key]
strategy = "buckets"
[client.workload.calls]
arrivals = { process = "poisson", rate = "40/min" }
[client.workload.calls.shared_prefix]
prefix_tokens = 3000
tail_tokens = 100
output_tokens = 50
[provider]
profile = "openai-classic"
[[sweep.axis]]
path = "client.key.buckets"
values = [1, 3, 9]
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("calls.toml"), CALLS).unwrap();
    folder
}

/// Standard output and error of a command that answers.
fn answers(folder: &Path, words: &[&str]) -> (String, String) {
    let output = Command::cargo_bin("cachecast").unwrap().args(words).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn data(page: &Path) -> serde_json::Value {
    let page = std::fs::read_to_string(page).unwrap();
    let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = begin + page[begin..].find("</script>").unwrap();
    serde_json::from_str(&page[begin..end]).unwrap()
}

fn figures(data: &serde_json::Value) -> Vec<&str> {
    data["figures"].as_array().unwrap().iter().map(|figure| figure["id"].as_str().unwrap()).collect()
}

#[test]
fn every_verb_that_answers_writes_a_report() {
    let folder = folder();
    let here = |path: &str| folder.path().join(path);
    answers(folder.path(), &["run", "calls.toml", "--report", "--out", "run", "--quiet"]);
    let run = data(&here("run/report.html"));
    assert_eq!(run["about"]["command"], "cachecast run calls.toml --report");
    assert_eq!(run["about"]["seeds"], 3);
    assert!(figures(&run).contains(&"waterfall") && figures(&run).contains(&"minutes"));
    answers(folder.path(), &["run", "calls.toml", "--trace", "calls.jsonl", "--seeds", "1", "--quiet"]);
    let described = ["--block-tokens", "1", "--time-unit", "ns"];
    let flags = std::fs::read_to_string(here("calls.jsonl")).unwrap();
    assert!(!flags.is_empty());
    let replay = ["replay", "calls.jsonl", "--what-if", "retention=24h", "--report", "--quiet"];
    answers(folder.path(), &[&replay[..], &described].concat());
    let replay = data(&here("results/replay-calls/report.html"));
    assert_eq!(replay["filter"]["columns"][0][1], "what_if");
    assert!(figures(&replay).contains(&"token_hit_ratio"));
    let over = "client.key.buckets=[1, 3]";
    answers(
        folder.path(),
        &["recommend", "calls.toml", "--over", over, "--seeds", "5", "--report", "--out", "best", "--quiet"],
    );
    let best = data(&here("best/report.html"));
    assert_eq!(figures(&best), ["objective", "regret", "front"]);
    let front = best["figures"].as_array().unwrap().iter().find(|figure| figure["id"] == "front").unwrap();
    assert!(front["recommended"].is_number(), "{front}");
    let observed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/observations/azure-study-requests.csv");
    let fit = ["fit", observed.to_str().unwrap(), "--scenario", "bucket-cardinality", "--rivals", "pool"];
    answers(folder.path(), &[&fit[..], &["--seeds", "60", "--report", "--out", "fit", "--quiet"]].concat());
    let fit = data(&here("fit/report.html"));
    assert_eq!(figures(&fit), ["posterior_explore", "posterior_pool", "checks"]);
}

#[test]
fn a_report_is_the_same_again_and_changes_no_result() {
    let folder = folder();
    answers(folder.path(), &["sweep", "calls.toml", "--out", "plain", "--quiet"]);
    answers(folder.path(), &["sweep", "calls.toml", "--out", "drawn", "--report", "--quiet"]);
    for file in ["cells.csv", "summary.csv"] {
        let read = |of: &str| std::fs::read(folder.path().join(of).join(file)).unwrap();
        assert_eq!(read("plain"), read("drawn"), "{file}");
    }
    let page = folder.path().join("drawn/report.html");
    let first = std::fs::read(&page).unwrap();
    let (said, warned) = answers(folder.path(), &["report", "drawn"]);
    assert_eq!((said.trim(), warned.as_str()), ("drawn/report.html", ""));
    assert_eq!(std::fs::read(&page).unwrap(), first);
    let (files, _) = answers(folder.path(), &["report", "drawn", "--format", "csv"]);
    assert!(files.starts_with("file,shows\ndrawn/report.html,everything\n"), "{files}");
    for file in files.lines().skip(1).map(|line| line.split(',').next().unwrap()) {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    let (_, warned) = answers(folder.path(), &["report", "plain", "--out", "elsewhere.html"]);
    assert!(
        warned.contains("warning: about.json is not there: the folder was made without --report"),
        "{warned}"
    );
    assert!(figures(&data(&folder.path().join("elsewhere.html"))).contains(&"token_hit_ratio"));
}

#[test]
fn a_sweep_put_together_from_parts_has_the_same_report() {
    let folder = folder();
    answers(folder.path(), &["sweep", "calls.toml", "--report", "--out", "whole", "--quiet"]);
    for shard in ["0/2", "1/2"] {
        answers(
            folder.path(),
            &["sweep", "calls.toml", "--report", "--shard", shard, "--out", "parts", "--quiet"],
        );
    }
    answers(folder.path(), &["merge", "parts", "--out", "merged", "--quiet"]);
    let mut compared = 0;
    for entry in std::fs::read_dir(folder.path().join("whole")).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |of: &str| std::fs::read(folder.path().join(of).join(&name)).unwrap();
        // The page says in which folder it stands.
        if name != "report.html" {
            assert!(read("whole") == read("merged"), "{name:?}");
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let folder = folder();
    for (words, said) in [
        (vec!["report", "nowhere"], "nowhere: is no folder"),
        (vec!["report", "."], ".: holds no results"),
        (vec!["run", "calls.toml", "--out", "x"], "--report"),
    ] {
        let output = Command::cargo_bin("cachecast")
            .unwrap()
            .args(&words)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{words:?}: {error}");
    }
}
