//! The committed results: what the README files show of them is what the files say, and each has its invariants.
//! (That the files themselves are what the program writes is compared byte for byte by the continuous integration.)

use std::collections::BTreeMap;
use std::path::Path;

use assert_cmd::Command;

type Rows = Vec<BTreeMap<String, String>>;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn rows(path: &str) -> Rows {
    csv::Reader::from_reader(read(path).as_bytes()).deserialize().map(Result::unwrap).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is {:?}", row[column]))
}

#[test]
fn every_row_conserves_tokens_and_stays_under_its_ceilings() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("results")).unwrap();
    let folders = folders.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    let swept = folders.filter(|entry| entry.path().join("cells.csv").is_file());
    let scenarios: Vec<_> = swept.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(scenarios.len() >= 10, "{scenarios:?}");
    for scenario in scenarios {
        let rows = rows(&format!("results/{scenario}/cells.csv"));
        assert!(!rows.is_empty());
        for row in &rows {
            let lost: f64 = row
                .keys()
                .filter(|column| column.starts_with("lost_"))
                .map(|column| number(row, column))
                .sum();
            let cached = number(row, "cached_tokens");
            assert_eq!(lost + cached, number(row, "prompt_tokens"), "{scenario}: {row:?}");
            assert!(cached <= number(row, "ceiling_lifetime_tokens"));
            assert!(number(row, "ceiling_lifetime_tokens") <= number(row, "ceiling_infinite_tokens"));
        }
    }
}

#[test]
fn an_idle_gap_beyond_the_longest_lifetime_never_hits_and_one_within_the_shortest_always_does() {
    for row in rows("results/idle-gap/summary.csv") {
        let gap = &row["client.workload.probe.arrivals.rate"]["every ".len()..];
        let gap: cachecast::units::Span = gap.parse().unwrap();
        let (shortest, longest) = match row["client.retention"].as_str() {
            "in_memory" => (300.0, 600.0),
            _ => (86_400.0, 86_400.0),
        };
        let misses = number(&row, "requests") - number(&row, "hit_requests");
        if gap.seconds() <= shortest {
            assert_eq!(misses, 1.0, "only the first request is cold: {row:?}");
        } else if gap.seconds() >= longest {
            assert_eq!(number(&row, "hit_requests"), 0.0, "{row:?}");
        } else {
            // A lifetime drawn from U(5 min, 10 min) outlives the gap with this chance.
            let expected = (longest - gap.seconds()) / (longest - shortest);
            let (hit, half) = (number(&row, "request_hit_ratio"), number(&row, "request_hit_ratio_ci95"));
            assert!((hit - expected).abs() < 2.0 * half, "{gap}: {hit} against {expected}");
        }
    }
}

#[test]
fn poisson_calls_hit_under_every_lifetime_as_the_closed_form_says_and_under_an_unknown_one_as_its_integral() {
    let shown = read("results/README.md");
    let gap = |row: &BTreeMap<String, String>| -> f64 {
        let rate = &row["client.workload.calls.arrivals.rate"]["every ".len()..];
        rate.parse::<cachecast::units::Span>().unwrap().seconds()
    };
    let rows_of_cells = rows("results/lifetimes/summary.csv");
    assert_eq!(rows_of_cells.len(), 120);
    for row in rows_of_cells {
        let lifetime: cachecast::units::Span = row["provider.retention.lifetime.constant"].parse().unwrap();
        let requests = number(&row, "requests");
        // The first request of all is cold.
        let expected = -libm::expm1(-lifetime.seconds() / gap(&row)) * (1.0 - 1.0 / requests);
        let (hit, half) = (number(&row, "request_hit_ratio"), number(&row, "request_hit_ratio_ci95"));
        assert!((hit - expected).abs() < 2.0 * half + 0.001, "{hit} against {expected}: {row:?}");
    }
    for row in rows("results/lifetimes/lifetime_unknown.csv") {
        let rate = 1.0 / gap(&row);
        let [shortest, longest] = [300.0, 3_600.0];
        let area = (libm::exp(-rate * shortest) - libm::exp(-rate * longest)) / rate;
        let expected = 1.0 - area / (longest - shortest);
        let (hit, half) = (number(&row, "request_hit_ratio"), number(&row, "request_hit_ratio_ci95"));
        // The chords between the swept values lie a little below the curve.
        assert!((hit - expected).abs() < half + 0.006, "{hit} against {expected}");
        let line = format!(
            "| {} | {:.3} ±{:.3} | {hit:.3} ±{half:.3} | {expected:.3} |",
            row["client.workload.calls.arrivals.rate"],
            number(&row, "token_hit_ratio"),
            number(&row, "token_hit_ratio_ci95"),
        );
        assert!(shown.contains(&line), "results/README.md lacks\n{line}");
    }
}

/// The published rows of the study: retention, buckets, token hit ratio, p50 and p95 of the whole response in seconds.
const PUBLISHED: [(&str, &str, f64, f64, f64); 4] = [
    ("in_memory", "1", 0.9334, 19.5, 106.4),
    ("in_memory", "8", 0.9586, 6.8, 16.6),
    ("24h", "1", 0.9612, 5.7, 9.9),
    ("24h", "8", 0.9612, 6.0, 15.5),
];

#[test]
fn the_comparison_with_the_published_study_shows_what_the_files_say() {
    let rows = rows("results/bucket-cardinality/summary.csv");
    let shown = read("results/README.md");
    for (retention, buckets, published, p50, p95) in PUBLISHED {
        let cell = |rule: &str| {
            let fits = |row: &&BTreeMap<String, String>| {
                row["client.retention"] == retention
                    && row["client.key.buckets"] == buckets
                    && row["provider.routing.rule"] == rule
            };
            rows.iter().find(fits).unwrap()
        };
        let ratio = |rule: &str| {
            let row = cell(rule);
            format!("{:.4} ±{:.4}", number(row, "token_hit_ratio"), number(row, "token_hit_ratio_ci95"))
        };
        let seconds = |column: &str| number(cell("home"), column) / 1e3;
        let line = format!(
            "| {retention} | {buckets} | {published:.4} | {} | {} | {p50:.1} / {p95:.1} s | {:.1} / {:.1} s |",
            ratio("home"),
            ratio("pool"),
            seconds("total_p50_ms"),
            seconds("total_p95_ms"),
        );
        assert!(shown.contains(&line), "results/README.md lacks\n{line}");
    }
}

#[test]
fn after_the_change_of_june_only_another_layout_or_a_mark_above_the_block_hits() {
    let rows = rows("results/regime-change/summary.csv");
    let shown = read("results/README.md");
    assert_eq!(rows.len(), 96);
    const ABOVE: &str = r#"["context", "history"]"#;
    let of = |rewritten: &str, semantics: &str, changes: bool| -> Vec<&BTreeMap<String, String>> {
        let fits = |row: &&BTreeMap<String, String>| {
            row["client.breakpoints"] != ABOVE
                && row["client.workload.agent.volatility.status_rewritten"] == rewritten
                && row["regime.0.provider.write.semantics"] == semantics
                && (row["regime.0.at"] == "2d") == changes
        };
        rows.iter().filter(fits).collect()
    };
    for rewritten in ["call", "turn"] {
        // Of eight combinations of retention, key and marks, none makes a difference.
        let ratio = |semantics: &str, changes: bool| -> f64 {
            let rows = of(rewritten, semantics, changes);
            let ratios: Vec<_> = rows.iter().map(|row| number(row, "token_hit_ratio")).collect();
            let is_best = |row: &&&BTreeMap<String, String>| {
                row["client.retention"] == "24h" && row["client.key.strategy"] == "per_session"
            };
            let best = number(rows.iter().find(is_best).unwrap(), "token_hit_ratio");
            assert_eq!(ratios.len(), 8);
            assert!(ratios.iter().all(|ratio| (ratio - best).abs() < 0.005), "{ratios:?}");
            best
        };
        let (none, whole) = (ratio("whole_body", false), ratio("whole_body", true));
        let line = format!(
            "| with every {rewritten} | {none:.3} | {whole:.3} | {:.3} |",
            ratio("breakpoints", true)
        );
        assert!(shown.contains(&line), "results/README.md lacks\n{line}");
    }
    // A mark above the block reads under breakpoints what partial prefixes read.
    let marked = rows.iter().filter(|row| row["client.breakpoints"] == ABOVE);
    let marked: Vec<_> =
        marked.filter(|row| row["regime.0.provider.write.semantics"] == "breakpoints").collect();
    for row in marked.iter().filter(|row| row["regime.0.at"] == "2d") {
        let is_unchanged = |other: &&&BTreeMap<String, String>| {
            let axes = |row: &BTreeMap<String, String>| {
                let axes = row.iter().filter(|(name, _)| name.starts_with("client."));
                axes.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
            };
            other["regime.0.at"] != "2d" && axes(other) == axes(row)
        };
        let unchanged = marked.iter().find(is_unchanged).unwrap();
        let difference = number(row, "token_hit_ratio") - number(unchanged, "token_hit_ratio");
        assert!(difference.abs() < 0.005, "{row:?}");
    }
    for semantics in ["whole_body", "breakpoints"] {
        for row in of("call", semantics, true) {
            let lost = number(row, "prompt_tokens") - number(row, "cached_tokens");
            let elsewhere = number(row, "lost_new_tokens") + number(row, "lost_changed_tokens");
            assert!(number(row, "lost_unwritten_tokens") > 0.98 * (lost - elsewhere), "{row:?}");
        }
    }
}

#[test]
fn fits_of_public_observations_say_what_the_readme_says() {
    let shown = read("results/README.md");
    let requests = rows("results/fit-azure-requests/rivals.csv");
    for row in requests.iter().filter(|row| number(row, "behind_best") < 100.0) {
        let at = row["first_contradiction"].rsplit(':').next().unwrap();
        let line = format!(
            "| {} | {} | {:.3} | {:.2} | {} of {} | line {at} |",
            row["rival"],
            row["verdict"],
            number(row, "p"),
            number(row, "behind_best"),
            row["explained"],
            row["of"]
        );
        assert!(shown.contains(&line), "results/README.md lacks\n{line}");
    }
    let study = rows("results/fit-azure-study/rivals.csv");
    assert!(study.iter().all(|row| row["verdict"] == "rejected"));
    let home = study.iter().find(|row| row["rival"] == "home").unwrap();
    assert!(shown.contains(&format!("`home` is {} units behind it", home["behind_best"])));
    let law = rows("results/fit-ttft/latency.csv");
    let estimate = |index: usize, places: usize| {
        let (value, half) = (number(&law[index], "value"), number(&law[index], "ci95"));
        format!("{value:.places$} ±{half:.places$}")
    };
    assert!(shown.contains(&format!("{} us an uncached token, {} us", estimate(1, 1), estimate(2, 1))));
}

#[test]
fn fitted_profiles_load_and_ensembles_lie_over_their_scenario() {
    use cachecast::provider::profile::{Profile, Tag};
    for name in ["fit-azure-requests", "fit-azure-study", "fit-ttft"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(name);
        let profile = Profile::load("fitted.toml", &folder).unwrap();
        profile.provider("fitted.toml").unwrap().validate().unwrap();
        assert!(
            profile.evidence.values().any(|one| one.tag == Tag::Fit && one.source.contains("observations/"))
        );
        let Ok(ensemble) = std::fs::read_to_string(folder.join("ensemble.toml")) else { continue };
        let ensemble: toml::Table = ensemble.parse().unwrap();
        let Some(members) = ensemble.get("member").and_then(toml::Value::as_array) else { continue };
        let weights: f64 = members.iter().map(|member| member["weight"].as_float().unwrap()).sum();
        assert!((weights - 1.0).abs() < 1e-3, "{name}: {weights}");
        for member in members {
            let mut provider = member["provider"].as_table().unwrap().clone();
            provider.insert("profile".into(), "azure-classic".into());
            let scenario = toml::toml! {
                duration = "1h"
                [client.workload.w]
                arrivals = { process = "fixed", rate = "1/min" }
                shared_prefix = { prefix_tokens = 3000, tail_tokens = 9, output_tokens = 9 }
            };
            let scenario = format!("{scenario}\n[provider]\n{}", nested(&provider, "provider"));
            cachecast::experiment::scenario::Loaded::from_text("e", "e", &scenario, Path::new(""), &[])
                .unwrap();
        }
    }
}

/// A table as the body of the section of that name.
fn nested(table: &toml::Table, name: &str) -> String {
    let (tables, plain): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
    let plain: String = plain.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let below = |(key, value): &(&String, &toml::Value)| {
        let name = format!("{name}.{key}");
        format!("[{name}]\n{}", nested(value.as_table().unwrap(), &name))
    };
    plain + &tables.iter().map(below).collect::<String>()
}

/// What the program says to these arguments, as a table.
fn said(args: &[&str]) -> String {
    let mut command = Command::cargo_bin("cachecast").unwrap();
    let output = command.args(args).args(["--quiet", "--format", "table"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_shows_real_output() {
    let readme = read("README.md");
    let folder = tempfile::tempdir().unwrap();
    let table = said(&["sweep", "chat", "--out", folder.path().to_str().unwrap()]);
    assert!(readme.contains(&table), "README.md lacks\n{table}");

    // Of the recommendation it shows the words, without the tables.
    let card = said(&["recommend", "--rps", "1.4", "--prefix-tokens", "6600", "--prompt-tokens", "6687"]);
    let (_, block) = readme.split_once("$ cachecast recommend").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    for line in block.lines().skip(1) {
        assert!(card.lines().any(|said| said == line), "README.md shows {line:?}, but the answer is\n{card}");
    }

    // Of the fit it shows the tables, without the notes.
    let fit = said(&[
        "fit",
        "scenarios/observations/azure-study-requests.csv",
        "--scenario",
        "bucket-cardinality",
        "--rivals",
        "home,pool",
    ]);
    let (_, block) = readme.split_once("$ cachecast fit scenarios").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    for line in block.lines().skip(1) {
        assert!(fit.lines().any(|said| said == line), "README.md shows {line:?}, but the answer is\n{fit}");
    }
}
