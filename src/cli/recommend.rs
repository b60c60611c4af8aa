//! `cachecast recommend`: how many buckets.

use clap::Args;

use crate::cli::output::{Field, Format, Table, estimate, print, progress_bar, talk, word};
use crate::cli::{Common, from_here};
use crate::client::key::Strategy;
use crate::error::{Error, Result};
use crate::experiment::preflight;
use crate::experiment::recommend::{Card, Choice, INDIFFERENCE, RuleCard, recommend, scenario};
use crate::experiment::scenario::{Change, Loaded, Scenario};
use crate::experiment::statistics::Estimate;

/// Say how many prompt_cache_key buckets to use: two formulas beside the simulation
#[derive(Debug, Args)]
#[command(
    after_help = "Give a scenario, or the numbers you know:\n  cachecast recommend --rps 1.4 --prefix-tokens 6600 --prompt-tokens 6687"
)]
pub struct Recommend {
    /// A scenario file, or the name of a shipped one
    #[arg(required_unless_present = "rps", conflicts_with_all = ["rps", "prefix_tokens", "prompt_tokens"])]
    scenario: Option<String>,
    /// Requests a second, all callers together
    #[arg(long, requires_all = ["prefix_tokens", "prompt_tokens"], allow_negative_numbers = true)]
    rps: Option<f64>,
    /// Tokens at the start of the prompt that all requests share (not cached_tokens: that is less by up to a step
    /// and the hidden system message)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    prefix_tokens: Option<u32>,
    /// Tokens of the whole prompt
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    prompt_tokens: Option<u32>,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 300)]
    output_tokens: u32,
    /// A shipped provider profile, or the path of a profile file
    #[arg(long, value_name = "PROFILE")]
    provider: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Recommend {
    pub(super) fn answer(&self) -> Result<()> {
        let loaded = self.load()?;
        let bar = progress_bar(self.common.quiet);
        let card = recommend(&loaded, |done, runs| {
            bar.set_length(runs as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let format = self.common.format.unwrap_or_else(Format::for_stdout);
        let mut words = format!("{}\n", headline(&card, &loaded));
        if format == Format::Table {
            for rule in &card.rules {
                words += &format!("\nUnder routing `{}`: {}\n", rule.rule, verdict(rule));
                words += &table(&card, std::slice::from_ref(rule), false).render(format);
            }
            return print(&format!("{words}\n{}\n", conclusion(&card)));
        }
        for rule in &card.rules {
            words += &format!("Under routing `{}`: {}\n", rule.rule, verdict(rule));
        }
        if !self.common.quiet {
            talk(&format!("{words}{}", conclusion(&card)));
        }
        table(&card, &card.rules, true).print(format)
    }

    fn load(&self) -> Result<Loaded> {
        let mut changes = self.common.changes()?;
        let provider = self
            .provider
            .as_deref()
            .map(|name| Change::new("provider.profile", from_here(name), "--provider"));
        changes.splice(0..0, provider);
        let loaded = match (&self.scenario, self.rps, self.prefix_tokens, self.prompt_tokens) {
            (Some(name), ..) => super::load(name, &changes)?,
            (None, Some(rps), Some(prefix), Some(prompt)) => {
                let text = scenario(rps, prefix, prompt, self.output_tokens)?;
                Loaded::from_text("recommend", "recommend", &text, std::path::Path::new(""), &changes)?
            }
            _ => {
                return Err(Error::input(
                    "recommend",
                    "give a scenario, or --rps, --prefix-tokens and --prompt-tokens",
                ));
            }
        };
        let bucketed = loaded.with(&[
            Change::new("client.key.strategy", "buckets", "recommend"),
            Change::new("client.key.buckets", 2, "recommend"),
        ])?;
        // Which bucket counts overflow or cool down is the question, not a warning.
        let about_traffic =
            |warning: &String| !warning.contains("each key") && !warning.contains("a key is used");
        self.common
            .warn(&preflight::warnings(&bucketed).into_iter().filter(about_traffic).collect::<Vec<_>>());
        Ok(loaded)
    }
}

fn headline(card: &Card, loaded: &Loaded) -> String {
    let Card { rpm, limited, minimum_buckets, recommended_buckets, limit_rpm, seeds, .. } = card;
    let Scenario { client, provider, .. } = &loaded.scenario;
    let mut words = format!(
        "{rpm:.1} requests a minute; profile {}, {}; {seeds} replications, 95 % intervals",
        provider.profile, provider.model
    );
    if *limited {
        words += &format!(
            "\n  minimum_buckets     = ceil(rpm / {limit_rpm}) = {minimum_buckets}\n  recommended_buckets = ceil(rpm / 10) = {recommended_buckets}"
        );
    }
    words += &format!(
        "\n  simulated: buckets assigned by {}, overflow {}, costs of the input side",
        word(&client.key.assign),
        word(&provider.routing.overflow)
    );
    if client.key.strategy != Strategy::Buckets {
        let strategy = word(&client.key.strategy);
        words +=
            &format!("\n  in place of client.key.strategy = {strategy}, which is shown as `as written`",);
    }
    words
}

/// What the simulation says under one rule.
fn verdict(rule: &RuleCard) -> String {
    let best = &rule.choices[rule.best];
    let edge = if rule.best + 1 == rule.choices.len() { ", the most that were tried" } else { "" };
    let mut words = format!(
        "best {}{edge}; as good (within {} points, hardly slower): {}",
        count(best.buckets),
        INDIFFERENCE * 100.0,
        ranges(rule)
    );
    let others = [rule.best.checked_sub(1), Some(rule.best + 1), (rule.best > 1).then_some(0)];
    let against: Vec<_> = others
        .into_iter()
        .flatten()
        .filter_map(|index| rule.choices.get(index))
        .map(|other| format!("{} over {}", points(other.behind_best), other.buckets))
        .chain(
            rule.written
                .as_ref()
                .map(|written| format!("{} over the key as written", points(written.behind_best))),
        )
        .collect();
    if !against.is_empty() {
        words += &format!("\n  its lead in points of token hit ratio, seed by seed: {}", against.join(", "));
    }
    words
}

fn count(buckets: u32) -> String {
    if buckets == 1 { "1 bucket".into() } else { format!("{buckets} buckets") }
}

/// The choices as good as the best, neighbours joined: "2-5, 8-18".
fn ranges(rule: &RuleCard) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &index in &rule.as_good {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let words = |&(first, last): &(usize, usize)| {
        let [first_count, last_count] = [first, last].map(|index| rule.choices[index].buckets);
        if first == last { first_count.to_string() } else { format!("{first_count}-{last_count}") }
    };
    ranges.iter().map(words).collect::<Vec<_>>().join(", ")
}

fn points(difference: Option<Estimate>) -> String {
    estimate(difference.map(|e| e.scaled(100.0)), 2)
}

fn table(card: &Card, rules: &[RuleCard], with_rule: bool) -> Table {
    let mut header = if with_rule { vec!["rule"] } else { vec![] };
    header.extend([
        "buckets",
        "token_hit_ratio",
        "request_hit_ratio",
        "behind_best",
        "ttft_p95_s",
        "total_p95_s",
        "usd_per_day",
        "note",
    ]);
    let mut table = Table::new(header);
    for rule in rules {
        if let Some(written) = &rule.written {
            table.row(line(rule, written, with_rule, "", "as written"));
        }
        for (index, choice) in rule.choices.iter().enumerate() {
            let notes = [
                (index == rule.best, "best"),
                (index != rule.best && rule.as_good.contains(&index), "as good"),
                (card.limited && choice.buckets == card.minimum_buckets, "minimum_buckets"),
                (card.limited && choice.buckets == card.recommended_buckets, "recommended_buckets"),
            ];
            let notes: Vec<_> = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
            table.row(line(rule, choice, with_rule, &choice.buckets.to_string(), &notes.join(", ")));
        }
    }
    table
}

/// One choice.
fn line(rule: &RuleCard, choice: &Choice, with_rule: bool, buckets: &str, note: &str) -> Vec<Field> {
    let seconds = |value: Option<Estimate>| Field::Estimate(value.map(|e| e.scaled(1e-3)), 2);
    let mut line: Vec<Field> = if with_rule { vec![rule.rule.into()] } else { vec![] };
    line.extend([
        buckets.into(),
        Field::Estimate(choice.token_hit_ratio, 4),
        Field::Estimate(choice.request_hit_ratio, 4),
        Field::Estimate(choice.behind_best, 4),
        seconds(choice.ttft_p95_ms),
        seconds(choice.total_p95_ms),
        Field::Estimate(choice.usd_per_day, 2),
        note.into(),
    ]);
    line
}

/// Whether the rules agree, and what to do if they do not.
fn conclusion(card: &Card) -> String {
    if card.is_hopeless() {
        return "Nothing hits, whatever the number of buckets: look at the warnings, and at what can be shared.".into();
    }
    let mut words = match card.agreed() {
        Some(buckets) => format!("Both rules agree: {}; no number does better.", count(buckets)),
        None => {
            let (buckets, loss) = card.least_regret();
            let best =
                |rule: &RuleCard| format!("`{}` wants {}", rule.rule, count(rule.recommended().buckets));
            format!(
                "The rules disagree, and nobody outside knows which is true: {}.\n\
                 Least regret: {}; whichever is true, that loses at most {:.2} points of token hit ratio to the best.",
                card.rules.iter().map(best).collect::<Vec<_>>().join(", "),
                count(buckets),
                100.0 * loss
            )
        }
    };
    let level = |rule: &RuleCard| {
        let behind = rule.written.as_ref().and_then(|written| written.behind_best);
        behind.is_some_and(|e| e.mean + e.half_width.unwrap_or(0.0) <= INDIFFERENCE)
    };
    if card.rules.iter().all(level) {
        words += "\nThe key as written does as well under both: there is no reason to change it.";
        return words;
    }
    let ahead = |rule: &&RuleCard| {
        let behind = rule.written.as_ref().and_then(|written| written.behind_best);
        behind.is_some_and(|e| e.mean + e.half_width.unwrap_or(0.0) < -INDIFFERENCE)
    };
    if let Some(rule) = card.rules.iter().find(ahead) {
        words +=
            &format!("\nUnder `{}` no number of buckets reaches the key as written: keep that.", rule.rule);
    }
    words
}
