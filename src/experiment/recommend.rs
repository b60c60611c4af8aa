//! How many buckets: two formulas beside the simulation, under two rival routing rules.
//!
//! The formulas know only the rate. The simulation also knows that every bucket starts cold, cools down when it is
//! asked too seldom, and what overflow costs. It is played under `home` (the documented rule) and under `pool`
//! (which fits the public bucketing study better), because nobody outside knows which is true.

use std::sync::atomic::{AtomicUsize, Ordering};

use toml::Value;

use crate::client::key::Strategy;
use crate::error::{Error, Result};
use crate::experiment::metrics::{Row, paired_difference, summarize};
use crate::experiment::preflight::requests_per_minute;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::statistics::Estimate;
use crate::experiment::sweep::{Finished, Plan};
use crate::provider::routing::{Overflow, Routing};

/// Requests a minute that a bucket is filled to by the recommended formula, leaving a third of the limit free.
const COMFORTABLE_RPM: f64 = 10.0;

/// The highest rate that is simulated request by request.
const MOST_RPS: f64 = 1_000.0;

/// The most bucket counts that are simulated.
const MOST_CHOICES: usize = 24;

/// Token hit ratios closer than this are as good as equal: a tenth of a point.
pub const INDIFFERENCE: f64 = 0.001;

/// A choice as good as the best may be slower by this share of its time to first token.
const SLOWER: f64 = 0.05;

/// Choices whose time to first token (p95) is beyond this multiple of the fastest are not candidates.
const TOO_SLOW: f64 = 1.5;

/// With fewer replications an interval says next to nothing.
const LEAST_SEEDS: u32 = 5;

/// A recommendation with everything it rests on.
#[derive(Clone, Debug)]
pub struct Card {
    /// Mean requests a minute of the traffic.
    pub rpm: f64,
    /// ceil(rpm / limit): no bucket above the limit on average.
    pub minimum_buckets: u32,
    /// ceil(rpm / 10): room for bursts.
    pub recommended_buckets: u32,
    /// Whether anything overflows at all; without a limit the formulas mean nothing.
    pub limited: bool,
    /// The limit of the first formula.
    pub limit_rpm: u32,
    /// Replications behind every interval.
    pub seeds: u32,
    /// The choices under each routing rule.
    pub rules: Vec<RuleCard>,
}

/// What the simulation says under one routing rule.
#[derive(Clone, Debug)]
pub struct RuleCard {
    /// The rule's name.
    pub rule: &'static str,
    /// Every bucket count that was simulated.
    pub choices: Vec<Choice>,
    /// Position of the best choice: the highest token hit ratio among those that are not far slower than others.
    pub best: usize,
    /// Positions of the choices that are as good: with 95 % confidence (pointwise) within [`INDIFFERENCE`] of the
    /// best, and hardly slower. The best is among them.
    pub as_good: Vec<usize>,
    /// The scenario's own keying, where that is not buckets.
    pub written: Option<Choice>,
}

/// One bucket count.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The count.
    pub buckets: u32,
    /// Share of prompt tokens read from the cache.
    pub token_hit_ratio: Option<Estimate>,
    /// Share of requests with cached tokens.
    pub request_hit_ratio: Option<Estimate>,
    /// 95th percentile of the time to first token.
    pub ttft_p95_ms: Option<Estimate>,
    /// 95th percentile of the time to the end of the answer.
    pub total_p95_ms: Option<Estimate>,
    /// Cost of one day.
    pub usd_per_day: Option<Estimate>,
    /// Token hit ratio of the best choice minus that of this one, seed by seed.
    pub behind_best: Option<Estimate>,
    /// Time to first token (p95) of this choice minus that of the best, seed by seed.
    pub slower_than_best_ms: Option<Estimate>,
}

impl Choice {
    fn new(buckets: u32, rows: &[&Row], best: &[&Row], day: f64) -> Self {
        Self {
            buckets,
            token_hit_ratio: summarize(rows, "token_hit_ratio"),
            request_hit_ratio: summarize(rows, "request_hit_ratio"),
            ttft_p95_ms: summarize(rows, "ttft_p95_ms"),
            total_p95_ms: summarize(rows, "total_p95_ms"),
            usd_per_day: summarize(rows, "cost_usd").map(|cost| cost.scaled(day)),
            behind_best: paired_difference(best, rows, "token_hit_ratio"),
            slower_than_best_ms: paired_difference(rows, best, "ttft_p95_ms"),
        }
    }

    fn is_as_good_as(&self, best: &Self) -> bool {
        let upper = |e: Estimate| e.mean + e.half_width.unwrap_or(0.0);
        let patience = best.ttft_p95_ms.map_or(0.0, |ttft| ttft.mean * SLOWER);
        self.behind_best.is_some_and(|behind| upper(behind) <= INDIFFERENCE)
            && self.slower_than_best_ms.is_some_and(|slower| upper(slower) <= patience)
    }
}

impl RuleCard {
    /// The choice to take: the fewest buckets among those as good as the best.
    pub fn recommended(&self) -> &Choice {
        &self.choices[self.as_good[0]]
    }
}

impl Card {
    /// Whether no choice ever hits: then the number of buckets is not what is wrong.
    pub fn is_hopeless(&self) -> bool {
        let hits = |choice: &Choice| choice.request_hit_ratio.is_some_and(|ratio| ratio.mean > 0.0);
        !self.rules.iter().any(|rule| rule.choices.iter().chain(&rule.written).any(hits))
    }

    /// The smallest bucket count that is as good as the best under every rule, if there is one.
    pub fn agreed(&self) -> Option<u32> {
        let (first, others) = self.rules.split_first()?;
        let everywhere = |index: &&usize| others.iter().all(|card| card.as_good.contains(index));
        first.as_good.iter().find(everywhere).map(|index| first.choices[*index].buckets)
    }

    /// The bucket count that loses least to the best where it loses most, with that loss in token hit ratio.
    pub fn least_regret(&self) -> (u32, f64) {
        let loss = |rule: &RuleCard, index: usize| {
            rule.choices[index].behind_best.map_or(f64::INFINITY, |behind| behind.mean)
        };
        let worst = |index: usize| self.rules.iter().map(|rule| loss(rule, index)).fold(0.0, f64::max);
        let choices = &self.rules[0].choices;
        let best = (0..choices.len()).min_by(|a, b| worst(*a).total_cmp(&worst(*b))).unwrap_or(0);
        (choices[best].buckets, worst(best))
    }
}

/// A scenario of one shared prefix, from the few numbers an operator knows.
pub fn scenario(rps: f64, prefix_tokens: u32, prompt_tokens: u32, output_tokens: u32) -> Result<String> {
    if !(rps > 0.0 && rps <= MOST_RPS) {
        let message = format!("`{rps}` must be above zero and at most {MOST_RPS}, in requests a second");
        return Err(Error::input("--rps", message));
    }
    if prefix_tokens == 0 || prefix_tokens > prompt_tokens {
        return Err(Error::input(
            "--prefix-tokens",
            format!("`{prefix_tokens}` must be from 1 to the {prompt_tokens} tokens of the prompt"),
        ));
    }
    let tail_tokens = prompt_tokens - prefix_tokens;
    // Counted after a warm-up of the longest in-memory lifetime: half an hour, longer where that is not a thousand
    // requests, shorter (and with fewer seeds) where it is far more than intervals need.
    let minutes_for = |requests: f64| requests / rps / 60.0;
    let counted = minutes_for(1_000.0).max(30.0f64.min(minutes_for(20_000.0).max(5.0)));
    let (minutes, seeds) = (10 + counted.ceil() as u64, if rps <= 20.0 { 20 } else { 8 });
    Ok(format!(
        "title = \"How many buckets?\"\nduration = \"{minutes}m\"\nwarmup = \"10m\"\nseeds = {seeds}\n\
         [client.key]\nstrategy = \"buckets\"\n\
         [client.workload.traffic]\narrivals = {{ process = \"poisson\", rate = \"{rps}/s\" }}\n\
         [client.workload.traffic.shared_prefix]\nprefix_tokens = {prefix_tokens}\ntail_tokens = {tail_tokens}\n\
         output_tokens = {output_tokens}\n\
         [provider]\nprofile = \"openai-classic\"\n"
    ))
}

/// Simulates bucket counts under both rules; `progress` is told of the runs done and the runs to do.
pub fn recommend(loaded: &Loaded, progress: impl Fn(usize, usize) + Sync) -> Result<Card> {
    let workloads = &loaded.scenario.client.workload;
    if loaded.scenario.seeds < LEAST_SEEDS {
        return Err(loaded.error("seeds", format!("must be {LEAST_SEEDS} or more for a recommendation")));
    }
    if let Some((name, _)) = workloads.iter().find(|(_, workload)| workload.key.is_some()) {
        let message =
            "a recommendation turns client.key, which this workload does not use: take its own key out";
        return Err(loaded.error(&format!("client.workload.{name}.key"), message));
    }
    let rates: Option<Vec<f64>> = workloads.values().map(requests_per_minute).collect();
    let rpm: f64 = rates
        .ok_or_else(|| {
            loaded.error("client.workload", "a recommendation needs generated traffic, not a trace")
        })?
        .iter()
        .sum();
    let limit_rpm = loaded.scenario.provider.routing.limit_rpm;
    let buckets_at = |per_bucket: f64| (rpm / per_bucket).ceil().max(1.0).min(f64::from(u32::MAX)) as u32;
    let (minimum_buckets, recommended_buckets) =
        (buckets_at(f64::from(limit_rpm)), buckets_at(COMFORTABLE_RPM));
    let counts = choices(minimum_buckets, recommended_buckets);
    let rules = ["home", "pool"];
    let written = usize::from(loaded.scenario.client.key.strategy != Strategy::Buckets);
    let runs = (counts.len() + written) * loaded.scenario.seeds as usize * rules.len();
    let done = AtomicUsize::new(0);
    let tick = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, runs);
    let rules = rules.iter().map(|rule| rule_card(loaded, rule, &counts, &tick)).collect::<Result<_>>()?;
    let seeds = loaded.scenario.seeds;
    let limited = loaded.scenario.provider.routing.overflow != Overflow::None;
    Ok(Card { limited, rpm, minimum_buckets, recommended_buckets, limit_rpm, seeds, rules })
}

/// The bucket counts to simulate: all up to twice the recommended one or, if those are too many, about equally
/// spaced ratios of them; both formulas' answers and their neighbours always.
fn choices(minimum: u32, recommended: u32) -> Vec<u32> {
    let most = recommended.saturating_mul(2).max(4);
    let mut counts: Vec<u32> = if most as usize <= MOST_CHOICES {
        (1..=most).collect()
    } else {
        let ratio = libm::pow(f64::from(most), 1.0 / (MOST_CHOICES as f64 - 7.0));
        let spaced = (0..MOST_CHOICES - 6).map(|step| libm::pow(ratio, step as f64).round() as u32);
        let near = |count: u32| [count - 1, count, count + 1];
        spaced.chain(near(minimum.max(2))).chain(near(recommended)).collect()
    };
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn rule_card(
    loaded: &Loaded,
    rule: &'static str,
    counts: &[u32],
    tick: &(impl Fn() + Sync),
) -> Result<RuleCard> {
    let written = loaded.scenario.client.key.strategy;
    let Routing { pool, machines, .. } = loaded.scenario.provider.routing;
    let under_rule = loaded.with(&[
        Change::new("provider.routing.rule", rule, "recommend"),
        Change::new("provider.routing.pool", i64::from(pool.min(machines)), "recommend"),
        Change::new("attribution", false, "recommend"),
        Change::new("sweep", toml::Table::new(), "recommend"),
    ])?;
    let play = |loaded: &Loaded| {
        Plan::new(loaded)?.play(&Finished::default(), |_, _, _| {
            tick();
            true
        })
    };
    let values: Vec<Value> = counts.iter().map(|count| Value::Integer(i64::from(*count))).collect();
    let axis = toml::Table::from_iter([
        ("path".to_string(), Value::String("client.key.buckets".into())),
        ("values".to_string(), Value::Array(values)),
    ]);
    let rows = play(&under_rule.with(&[
        Change::new("client.key.strategy", "buckets", "recommend"),
        Change::new("sweep.axis", vec![axis], "recommend"),
    ])?)?;
    let rows: Vec<Vec<&Row>> = rows.0.iter().map(|rows| rows.iter().collect()).collect();
    let best = best_of(&rows);
    let day = day_factor(loaded);
    let choice = |buckets, of_choice: &[&Row]| Choice::new(buckets, of_choice, &rows[best], day);
    let choices: Vec<_> = counts.iter().zip(&rows).map(|(count, rows)| choice(*count, rows)).collect();
    let as_good = |index: &usize| *index == best || choices[*index].is_as_good_as(&choices[best]);
    let as_good = (0..choices.len()).filter(as_good).collect();
    let written = match written {
        Strategy::Buckets => None,
        _ => {
            let rows = play(&under_rule)?;
            Some(choice(0, &rows.0[0].iter().collect::<Vec<_>>()))
        }
    };
    Ok(RuleCard { rule, choices, best, as_good, written })
}

/// The highest token hit ratio among the choices that are not far slower than the fastest; of equals, the fewest
/// buckets.
fn best_of(rows: &[Vec<&Row>]) -> usize {
    let mean = |index: usize, name: &str| summarize(&rows[index], name).map_or(0.0, |estimate| estimate.mean);
    let fastest = (0..rows.len()).map(|index| mean(index, "ttft_p95_ms")).fold(f64::INFINITY, f64::min);
    let candidates = (0..rows.len()).filter(|index| mean(*index, "ttft_p95_ms") <= TOO_SLOW * fastest);
    let ratio = |index: &usize| mean(*index, "token_hit_ratio");
    candidates.rev().max_by(|a, b| ratio(a).total_cmp(&ratio(b))).unwrap_or(0)
}

/// How often the counted part of a run fits into a day.
fn day_factor(loaded: &Loaded) -> f64 {
    let counted = loaded.scenario.duration - loaded.scenario.warmup;
    86_400.0 / counted.seconds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_formulas_of_the_public_study() {
        let text = scenario(1.4, 6_600, 6_687, 300).unwrap();
        let loaded =
            Loaded::from_text("r", "r", &text, Path::new(""), &[Change::new("seeds", 5, "test")]).unwrap();
        let card = recommend(&loaded, |_, _| ()).unwrap();
        assert_eq!((card.minimum_buckets, card.recommended_buckets), (6, 9));
        for rule in &card.rules {
            assert!(rule.as_good.contains(&rule.best));
            assert_eq!(rule.choices[rule.best].behind_best.unwrap().mean, 0.0);
        }
    }

    #[test]
    fn choices_hold_both_answers_and_stay_few() {
        for (minimum, recommended) in [(1, 1), (6, 9), (8, 12), (400, 600), (1, 1_000_000)] {
            let choices = choices(minimum, recommended);
            assert!(choices.len() <= MOST_CHOICES + 2 && choices[0] == 1);
            assert!([1, minimum, recommended].iter().all(|count| choices.contains(count)), "{choices:?}");
            assert!(choices.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        assert!(scenario(0.0, 1, 2, 3).unwrap_err().to_string().starts_with("--rps: "));
        assert!(scenario(1.0, 9, 2, 3).unwrap_err().to_string().starts_with("--prefix-tokens: "));
    }
}
