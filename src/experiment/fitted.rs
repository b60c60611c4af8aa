//! What a fit writes: tables of rivals and parameters, a fitted profile, and an ensemble of the accepted rivals.

use std::path::Path;

use toml::{Table, Value};

use crate::document::KeyPath;
use crate::error::Result;
use crate::experiment::fit::{Fit, Judged};
use crate::experiment::least_squares::LatencyLaw;
use crate::experiment::report_rule::{ReportCard, ReportRule};
use crate::experiment::results::{number, prepare_folder, write_csv, write_file};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::statistics::Estimate;
use crate::experiment::tables::plain;
use crate::units::round_to;

/// Writes all files of a fit into a folder. `source` names the observations.
pub fn write(fit: &Fit, loaded: &Loaded, source: &str, folder: &Path) -> Result<()> {
    prepare_folder(folder)?;
    if !fit.rivals.is_empty() {
        write_rivals(fit, &folder.join("rivals.csv"))?;
        write_parameters(fit, &folder.join("parameters.csv"))?;
        write_checks(fit, &folder.join("checks.csv"))?;
        write_file(&folder.join("ensemble.toml"), |out| out.write_all(ensemble(fit, source).as_bytes()))?;
    }
    if let Some(report) = &fit.report {
        write_report(report, &folder.join("report_rules.csv"))?;
    }
    if let Some(law) = &fit.latency {
        write_latency(law, &folder.join("latency.csv"))?;
    }
    write_file(&folder.join("fitted.toml"), |out| out.write_all(profile(fit, loaded, source).as_bytes()))
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn rounded(value: f64, places: u32) -> String {
    number(Some(round_to(value, places)))
}

fn yes(holds: bool) -> String {
    if holds { "yes" } else { "no" }.into()
}

fn write_rivals(fit: &Fit, path: &Path) -> Result<()> {
    let header = header(&[
        "rival",
        "over",
        "verdict",
        "p",
        "score",
        "behind_best",
        "log_likelihood",
        "parameters",
        "points",
        "best",
        "explained",
        "of",
        "deterministic",
        "first_contradiction",
        "meaning",
    ]);
    let lines = fit.rivals.iter().map(|judged| {
        let exact = judged.exact.as_ref();
        vec![
            judged.rival.name.into(),
            judged.rival.over.into(),
            fit.verdict(judged).into(),
            rounded(judged.p, 4),
            rounded(judged.score, 2),
            rounded(fit.rivals[0].score - judged.score, 2),
            rounded(judged.best_point().log_likelihood, 2),
            judged.counted.to_string(),
            judged.points.len().to_string(),
            best_values(judged),
            exact.map_or(String::new(), |exact| exact.explained.to_string()),
            exact.map_or(String::new(), |exact| exact.compared.to_string()),
            exact.map_or(String::new(), |exact| yes(exact.deterministic)),
            exact.and_then(|exact| exact.contradicted_at.clone()).unwrap_or_default(),
            judged.rival.meaning.into(),
        ]
    });
    write_csv(path, &header, lines)
}

/// The free values of a rival's best point.
pub fn best_values(judged: &Judged) -> String {
    let open = judged.parameters.iter().filter(|parameter| parameter.values.len() > 1);
    let words: Vec<_> =
        open.map(|parameter| format!("{}={}", parameter.path, plain(&parameter.best))).collect();
    words.join(" ")
}

fn write_parameters(fit: &Fit, path: &Path) -> Result<()> {
    let header = header(&["rival", "path", "value", "p", "in_95_set", "best", "makes_a_difference"]);
    let lines = fit.rivals.iter().flat_map(|judged| {
        judged.parameters.iter().flat_map(move |parameter| {
            parameter.values.iter().map(move |(value, p)| {
                vec![
                    judged.rival.name.into(),
                    parameter.path.to_string(),
                    plain(value),
                    rounded(*p, 4),
                    yes(parameter.accepted().contains(&value)),
                    yes(*value == parameter.best),
                    yes(!parameter.inert),
                ]
            })
        })
    });
    write_csv(path, &header, lines)
}

/// Observed against simulated, of the best rival and of those as good.
fn write_checks(fit: &Fit, path: &Path) -> Result<()> {
    let header =
        header(&["rival", "cell", "summary", "observed", "simulated_p05", "simulated_p50", "simulated_p95"]);
    let shown =
        fit.rivals.iter().enumerate().filter(|(n, judged)| *n == 0 || fit.verdict(judged) == "as good");
    let lines = shown.flat_map(|(_, judged)| {
        judged.best_point().checks.iter().map(|check| {
            let numbers = [check.observed].into_iter().chain(check.simulated).map(|value| rounded(value, 4));
            let words = [judged.rival.name.to_string(), check.cell.clone(), check.name.clone()];
            words.into_iter().chain(numbers).collect()
        })
    });
    write_csv(path, &header, lines)
}

fn write_report(report: &ReportCard, path: &Path) -> Result<()> {
    let header =
        header(&["report_step", "interval", "hidden_tokens", "explained", "readings", "first_contradiction"]);
    let hidden = |rule: &ReportRule| {
        let ranges = rule.hidden_tokens.iter();
        ranges.map(|(first, last)| format!("{first}..{last}")).collect::<Vec<_>>().join(" ")
    };
    let lines = report.rules.iter().map(|rule| {
        vec![
            rule.report_step.to_string(),
            rule.interval.to_string(),
            hidden(rule),
            rule.explained.to_string(),
            report.readings.to_string(),
            rule.contradicted_at.clone().unwrap_or_default(),
        ]
    });
    write_csv(path, &header, lines)
}

fn write_latency(law: &LatencyLaw, path: &Path) -> Result<()> {
    let lines = latency_lines(law).into_iter().map(|(name, value, half_width)| {
        vec![name.to_string(), rounded(value, 4), number(half_width.map(|half| round_to(half, 4)))]
    });
    write_csv(path, &header(&["number", "value", "ci95"]), lines)
}

/// The numbers of a law of latency, with the half-widths of their intervals.
pub fn latency_lines(law: &LatencyLaw) -> Vec<(&'static str, f64, Option<f64>)> {
    let estimate = |name, estimate: Estimate| (name, estimate.mean, estimate.half_width);
    let mut lines = vec![
        estimate("overhead_ms", law.overhead_ms),
        estimate("per_uncached_token_us", law.per_uncached_us),
    ];
    lines.extend(law.per_cached_us.map(|cached| estimate("per_cached_token_us", cached)));
    lines.extend(law.noise_sigma.map(|sigma| ("noise_sigma", sigma, None)));
    lines.push(("largest_residual_ms", law.largest_residual_ms, None));
    lines.push(("correlation_overhead_per_uncached", law.correlation, None));
    lines.push(("points", law.points as f64, None));
    lines
}

/// The best rival as a profile over the scenario's own.
fn profile(fit: &Fit, loaded: &Loaded, source: &str) -> String {
    let provider = &loaded.scenario.provider;
    let base = match provider.profile.ends_with(".toml") {
        true => {
            let path = loaded.folder.join(&provider.profile);
            std::path::absolute(&path).unwrap_or(path).display().to_string()
        }
        false => provider.profile.clone(),
    };
    let text = |text: &str| Value::String(text.into()).to_string();
    let mut lines = vec![
        format!(
            "# Fitted to {source}. Check what is not tagged `fit` here in the profile that this one extends."
        ),
        format!("extends = {}", text(&base)),
        format!("title = {}", text(&format!("{}, fitted to {source}", provider.title))),
    ];
    if let Some(best) = fit.rivals.first() {
        if !best.is_accepted() {
            lines.push("# No rival is plausible: this one, the least bad, is rejected at 5 %.".into());
        }
        lines.push(String::new());
        for change in best.best_changes() {
            lines.push(profile_line(best, &change, source, text));
        }
    }
    lines.extend(fit.latency.iter().flat_map(|law| latency_profile(law, source, text)));
    lines.join("\n") + "\n"
}

fn profile_line(best: &Judged, change: &Change, source: &str, text: impl Fn(&str) -> String) -> String {
    let Some(path) = below_provider(&change.path) else {
        return format!("# {} = {}: not a value of a profile", change.path, change.value);
    };
    let parameter = best.parameters.iter().find(|parameter| parameter.path == change.path);
    let (name, p) = (best.rival.name, round_to(best.p, 3));
    let evidence = match parameter {
        Some(parameter) if parameter.inert => format!("{source}: says nothing of it"),
        Some(parameter) => format!("{source}: 95 % set {} under rival {name}", parameter.set()),
        None => format!("{source}: rival {name}, p = {p}"),
    };
    let tag = if parameter.is_some_and(|parameter| parameter.inert) { "guess" } else { "fit" };
    format!("{path} = {{ value = {}, tag = \"{tag}\", source = {} }}", change.value, text(&evidence))
}

fn latency_profile(law: &LatencyLaw, source: &str, text: impl Fn(&str) -> String) -> Vec<String> {
    let span = |name: &str, nanos: Estimate| {
        let half = nanos.half_width.map_or(String::new(), |half| format!(" +- {}ns", half.round()));
        let value = text(&format!("{}ns", nanos.mean.max(0.0).round()));
        let evidence = text(&format!("{source}: least squares{half}"));
        format!("latency.{name} = {{ value = {value}, tag = \"fit\", source = {evidence} }}")
    };
    let mut lines = vec![
        String::new(),
        span("overhead", law.overhead_ms.scaled(1e6)),
        span("per_uncached_token", law.per_uncached_us.scaled(1e3)),
    ];
    lines.extend(law.per_cached_us.map(|cached| span("per_cached_token", cached.scaled(1e3))));
    lines.extend(law.noise_sigma.map(|sigma| {
        let evidence = text(&format!("{source}: spread of the logarithms"));
        format!(
            "latency.noise_sigma = {{ value = {}, tag = \"fit\", source = {evidence} }}",
            Value::Float(round_to(sigma.min(3.0), 4))
        )
    }));
    lines
}

/// A path below `provider`, if it is one.
fn below_provider(path: &KeyPath) -> Option<KeyPath> {
    let (first, below) = path.keys().split_first()?;
    (first == "provider" && !below.is_empty()).then(|| KeyPath::from_iter(below.iter().cloned()))
}

/// The accepted rivals as variants of the provider, each at its best point, with weights by their scores.
fn ensemble(fit: &Fit, source: &str) -> String {
    let mut members = Vec::new();
    let mut left_out = Vec::new();
    for (judged, weight) in fit.weights() {
        let Some(provider) = partial_provider(&judged.best_changes()) else {
            left_out.push(judged.rival.name);
            continue;
        };
        let mut member = Table::new();
        member.insert("name".into(), judged.rival.name.into());
        member.insert("weight".into(), Value::Float(weight));
        member.insert("provider".into(), Value::Table(provider));
        members.push(member);
    }
    let total: f64 = members.iter().filter_map(|member| member["weight"].as_float()).sum();
    for member in &mut members {
        let weight = member["weight"].as_float().unwrap_or(0.0) / total;
        member.insert("weight".into(), Value::Float(round_to(weight, 4)));
    }
    let mut text = format!(
        "# What the provider may be doing, by {source}: the rivals that are not rejected at 5 %, each at its best point,\n\
         # weighed with their scores. Each is laid over the provider of a scenario.\n"
    );
    if !left_out.is_empty() {
        text += &format!("# Left out, because a provider alone cannot say it: {}.\n", left_out.join(", "));
    }
    if members.is_empty() {
        return text + "# None is accepted.\n";
    }
    let members = members.into_iter().map(Value::Table).collect();
    let table = Table::from_iter([("member".to_string(), Value::Array(members))]);
    text + "\n" + &toml::to_string(&table).expect("a table is TOML")
}

/// The changes of a provider as the nested table that a scenario would hold; `None` if they change something else.
fn partial_provider(changes: &[Change]) -> Option<Table> {
    let mut provider = Table::new();
    for change in changes {
        let path = below_provider(&change.path)?;
        let (last, tables) = path.keys().split_last()?;
        let mut place = &mut provider;
        for key in tables {
            let inner = place.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            place = inner.as_table_mut()?;
        }
        place.insert(last.clone(), change.value.clone());
    }
    Some(provider)
}
