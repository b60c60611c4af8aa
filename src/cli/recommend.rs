//! `cachecast recommend`: how many buckets.

use clap::Args;

use crate::cli::Common;
use crate::cli::output::{Format, Table, estimate, print, progress_bar};
use crate::error::{Error, Result};
use crate::experiment::preflight;
use crate::experiment::recommend::{Card, Choice, RuleCard, recommend, scenario};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::statistics::Estimate;

/// Say how many prompt_cache_key buckets to use: two formulas beside the simulation
#[derive(Debug, Args)]
#[command(
    after_help = "Give a scenario, or the numbers you know:\n  cachecast recommend --rps 1.4 --prefix-tokens 6528 --prompt-tokens 6687"
)]
pub struct Recommend {
    /// A scenario file, or the name of a shipped one
    #[arg(required_unless_present = "rps", conflicts_with_all = ["rps", "prefix_tokens", "prompt_tokens"])]
    scenario: Option<String>,
    /// Requests a second, all callers together
    #[arg(long, requires_all = ["prefix_tokens", "prompt_tokens"])]
    rps: Option<f64>,
    /// Tokens at the start of the prompt that all requests share
    #[arg(long, value_name = "N")]
    prefix_tokens: Option<u32>,
    /// Tokens of the whole prompt
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<u32>,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 300)]
    output_tokens: u32,
    /// A shipped provider profile, or the path of a profile file (with --rps)
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
        if format != Format::Table {
            return table(&card, &card.rules, true).print(format);
        }
        let mut text = format!("{}\n\n", headline(&card, &loaded));
        for rule in &card.rules {
            text += &format!("Under routing `{}`: {}\n", rule.rule, verdict(rule));
            text += &table(&card, std::slice::from_ref(rule), false).render(format);
            text.push('\n');
        }
        print(&format!("{text}{}\n", conclusion(&card)))
    }

    fn load(&self) -> Result<Loaded> {
        let mut changes = self.common.changes()?;
        let provider =
            self.provider.as_deref().map(|name| Change::new("provider.profile", name, "--provider"));
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
        let one_bucket = loaded.with(&[Change::new("client.key.strategy", "buckets", "recommend")])?;
        // Which bucket counts overflow or cool down is the question, not a warning.
        let about_traffic =
            |warning: &String| !warning.contains("each key") && !warning.contains("a key is used");
        self.common
            .warn(&preflight::warnings(&one_bucket).into_iter().filter(about_traffic).collect::<Vec<_>>());
        Ok(loaded)
    }
}

fn headline(card: &Card, loaded: &Loaded) -> String {
    let Card { rpm, minimum_buckets, recommended_buckets, limit_rpm, seeds, .. } = card;
    format!(
        "{rpm:.1} requests a minute, profile {}, {seeds} replications, 95 % intervals\n\
         \x20 minimum_buckets     = ceil(rpm / {limit_rpm}) = {minimum_buckets}\n\
         \x20 recommended_buckets = ceil(rpm / 10) = {recommended_buckets}",
        loaded.scenario.provider.profile
    )
}

/// What the simulation says under one rule.
fn verdict(rule: &RuleCard) -> String {
    let best = &rule.choices[rule.best];
    let mut words = format!("best simulated: {} buckets", best.buckets);
    if rule.as_good.len() > 1 {
        words += &format!("; not told apart from it with certainty: {}", ranges(rule));
    }
    let mut against = vec![];
    let neighbours = [rule.best.checked_sub(1), Some(rule.best + 1), (rule.best != 0).then_some(0)];
    for other in neighbours.into_iter().flatten().filter_map(|index| rule.choices.get(index)) {
        let difference = format!("{} {}", other.buckets, points(other.behind_best));
        if !against.contains(&difference) {
            against.push(difference);
        }
    }
    words
        + &format!(
            "\n  its lead in points of token hit ratio, seed by seed, over {}",
            against.join("; over ")
        )
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
        for (index, choice) in rule.choices.iter().enumerate() {
            let seconds = |value: Option<Estimate>| estimate(value.map(|e| e.scaled(1e-3)), 2);
            let notes = [
                (index == rule.best, "best"),
                (index != rule.best && rule.as_good.contains(&index), "as good"),
                (choice.buckets == card.minimum_buckets, "minimum_buckets"),
                (choice.buckets == card.recommended_buckets, "recommended_buckets"),
            ];
            let notes: Vec<_> = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
            let Choice { buckets, token_hit_ratio, request_hit_ratio, behind_best, .. } = choice;
            let mut line = if with_rule { vec![rule.rule.to_string()] } else { vec![] };
            line.extend([
                buckets.to_string(),
                estimate(*token_hit_ratio, 4),
                estimate(*request_hit_ratio, 4),
                estimate(*behind_best, 4),
                seconds(choice.ttft_p95_ms),
                seconds(choice.total_p95_ms),
                estimate(choice.usd_per_day, 2),
                notes.join(", "),
            ]);
            table.row(line);
        }
    }
    table
}

/// Whether the rules agree, and what it costs if the wrong one was believed.
fn conclusion(card: &Card) -> String {
    if let Some(buckets) = card.agreed() {
        return format!("Both rules agree: {buckets} buckets are as good as any.");
    }
    let mut words = String::from("The rules disagree, and nobody outside knows which is true:");
    for (this, other) in [(0, 1), (1, 0)].map(|(a, b)| (&card.rules[a], &card.rules[b])) {
        let buckets = this.recommended().buckets;
        let cost = other.choice(buckets).and_then(|choice| choice.behind_best);
        words += &format!(
            "\n  {buckets} buckets suit `{}`; if `{}` is true they lose {} points of token hit ratio to its best",
            this.rule,
            other.rule,
            points(cost)
        );
    }
    words
}
