//! Which unknown of the provider moves the answer most? Elementary effects, after Morris (Technometrics 33, 1991).
//!
//! A trajectory starts at a random combination of plausible values, and changes one unknown after another to another
//! of its values. Each change has an effect on the answer; the mean of the absolute effects over trajectories says how
//! much an unknown matters, wherever the others stand. Values need no order, so that rules can be unknown as well as
//! numbers. All runs of a trajectory meet the same seed.

use rayon::prelude::*;
use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::grid::Grid;
use crate::experiment::metrics::{Row, summarize};
use crate::experiment::objective::Metric;
use crate::experiment::race::day_factor;
use crate::experiment::run::replicate_unwatched;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::statistics::{Estimate, Sum, jackknife};
use crate::experiment::tables::plain;
use crate::provider::routing::Overflow;
use crate::random::{Purpose, SessionKey, fold};

/// Who asks, for messages.
const ORIGIN: &str = "sensitivity";

/// How much one unknown matters.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The unknown.
    pub unknown: Grid,
    /// Mean absolute effect of changing it to another of its values.
    pub absolute: Estimate,
    /// Mean effect, with its sign: near zero where effects of both signs cancel.
    pub signed: Estimate,
    /// The greatest effect met, and the change that had it.
    pub greatest: (f64, String),
}

/// The unknowns that are screened where none are named: how requests find their machine, how long things live, what is
/// stored and when it can be read. Unknowns that mean nothing for this scenario are left out.
pub fn plausible(loaded: &Loaded) -> Vec<Grid> {
    let unknown =
        |path: &str, values: Vec<Value>| Grid::new(path.parse().expect("a written path"), values, ORIGIN);
    let words = |words: &[&str]| words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>();
    let numbers = |numbers: &[i64]| numbers.iter().map(|number| Value::Integer(*number)).collect::<Vec<_>>();
    let shares = |shares: &[f64]| shares.iter().map(|share| Value::Float(*share)).collect::<Vec<_>>();
    let mut unknowns = vec![
        unknown("provider.routing.rule", words(&["home", "pool"])),
        unknown("provider.routing.machines", numbers(&[16, 64, 256, 1024])),
        unknown("provider.routing.pool", numbers(&[4, 5, 6])),
        unknown("provider.routing.explore", shares(&[0.0, 0.01, 0.03])),
        unknown("provider.write.semantics", words(&["partial_prefix", "whole_body", "breakpoints"])),
        unknown("provider.write.when", words(&["always", "on_miss"])),
        unknown("provider.write.visible", words(&["arrival", "first_token", "completion"])),
    ];
    if loaded.scenario.provider.routing.overflow != Overflow::None {
        unknowns.push(unknown("provider.routing.rate_count", words(&["admitted", "arrivals", "tumbling"])));
        unknowns.push(unknown("provider.routing.limit_rpm", numbers(&[10, 15, 20, 30])));
        unknowns.push(unknown("provider.routing.overflow", words(&["cascade", "random"])));
    }
    let mut policies: Vec<_> =
        loaded.scenario.client.workload.values().map(|workload| loaded.policy(workload)).collect();
    policies.sort_unstable();
    policies.dedup();
    for policy in policies {
        let lifetimes = match policy {
            "in_memory" => words(&["uniform(5m..10m)", "5m", "10m", "uniform(5m..60m)"]),
            "24h" => words(&["30m", "2h", "24h"]),
            _ => continue,
        };
        let path = KeyPath::from_iter(["provider", "retention", "lifetime", policy]);
        unknowns.push(Grid::new(path, lifetimes, ORIGIN));
    }
    unknowns
}

/// Screens some unknowns, the greatest first. `trajectories` is 2 or more; `progress` is told of runs done and to do.
pub fn screen(
    loaded: &Loaded,
    unknowns: &[Grid],
    metric: &Metric,
    trajectories: u32,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Vec<Effect>> {
    if let Some(unknown) = unknowns.iter().find(|unknown| unknown.values.len() < 2) {
        let message = format!("`{}` needs two values or more to matter", unknown.path);
        return Err(Error::input("--over", message));
    }
    for (index, Grid { path, values, .. }) in unknowns.iter().enumerate() {
        let wrong = |message: &str| Err(Error::input("--over", format!("`{path}` {message}")));
        if path.keys()[0] != "provider" {
            return wrong("is no unknown of the provider's: only provider.* is");
        }
        if unknowns[..index].iter().any(|other| other.path == *path) {
            return wrong("is there twice");
        }
        if (1..values.len()).any(|at| values[..at].contains(&values[at])) {
            return wrong("has a value twice");
        }
    }
    let bare = loaded.with(&[
        Change::new("attribution", false, ORIGIN),
        Change::new("sweep", toml::Table::new(), ORIGIN),
    ])?;
    let runs = trajectories as usize * (unknowns.len() + 1);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let tick = || progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, runs);
    let played =
        (0..trajectories).into_par_iter().map(|number| trajectory(&bare, unknowns, metric, number, &tick));
    let trajectories: Vec<Vec<(f64, String)>> = played.collect::<Result<_>>()?;
    let effect = |(index, unknown): (usize, &Grid)| {
        let of_unknown = || trajectories.iter().map(|effects| &effects[index]);
        let mean = |values: Vec<f64>| {
            let sum = Sum::of(values.into_iter().map(Some)).expect("nothing is missing");
            jackknife(trajectories.len(), |left_out| sum.mean(left_out)).expect("there are trajectories")
        };
        let greatest = of_unknown().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
        Effect {
            unknown: unknown.clone(),
            absolute: mean(of_unknown().map(|(effect, _)| effect.abs()).collect()),
            signed: mean(of_unknown().map(|(effect, _)| *effect).collect()),
            greatest: greatest.cloned().unwrap_or_default(),
        }
    };
    let mut effects: Vec<_> = unknowns.iter().enumerate().map(effect).collect();
    effects.sort_by(|a, b| b.absolute.mean.total_cmp(&a.absolute.mean));
    Ok(effects)
}

/// One trajectory: the effect of each unknown, in their order, with the change that had it.
fn trajectory(
    loaded: &Loaded,
    unknowns: &[Grid],
    metric: &Metric,
    number: u32,
    tick: &(impl Fn() + Sync),
) -> Result<Vec<(f64, String)>> {
    let draws = SessionKey(fold(loaded.scenario.seed, 0x5e15)).turn(number);
    let below = |attempt: usize, n: usize| draws.below(Purpose::Route, attempt as u32, n as u64) as usize;
    let mut at: Vec<usize> =
        unknowns.iter().enumerate().map(|(index, unknown)| below(index, unknown.values.len())).collect();
    let answer = |at: &[usize]| -> Result<f64> {
        let change = |(unknown, value): (&Grid, &usize)| unknown.change(&unknown.values[*value]);
        let loaded = loaded.with(&unknowns.iter().zip(at).map(change).collect::<Vec<_>>())?;
        let row: Row = replicate_unwatched(&loaded, number)?.row;
        tick();
        Ok(metric.estimate(&[&row], day_factor(&loaded)).map_or(0.0, |estimate| estimate.mean))
    };
    // In which order they are changed is drawn as well.
    let mut order: Vec<usize> = (0..unknowns.len()).collect();
    order.sort_by_key(|index| draws.bits(Purpose::Bucket, *index as u32));
    let mut effects = vec![(0.0, String::new()); unknowns.len()];
    let mut before = answer(&at)?;
    for index in order {
        let Grid { values, .. } = &unknowns[index];
        let from = at[index];
        at[index] = (from + 1 + below(unknowns.len() + index, values.len() - 1)) % values.len();
        let after = answer(&at)?;
        effects[index] =
            (after - before, format!("{} -> {}", plain(&values[from]), plain(&values[at[index]])));
        before = after;
    }
    Ok(effects)
}

/// The answer of the scenario as it is written, for comparison.
pub fn as_written(loaded: &Loaded, metric: &Metric, replications: u32) -> Result<Option<Estimate>> {
    let bare = loaded.with(&[Change::new("attribution", false, ORIGIN)])?;
    let play = |replication| Ok(replicate_unwatched(&bare, replication)?.row);
    let rows: Vec<Row> = (0..replications).into_par_iter().map(play).collect::<Result<_>>()?;
    let rows: Vec<&Row> = rows.iter().collect();
    // A scenario without a single request has no answer.
    Ok(summarize(&rows, "requests").and_then(|_| metric.estimate(&rows, day_factor(loaded))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Calls of one prefix every 7 minutes, on one machine: a lifetime of 5 minutes reads nothing, one of 10 all.
    const GAP: &str = r#"
        duration = "10h"
        client.retention = "in_memory"
        client.workload.calls.arrivals = { process = "fixed", rate = "every 7m" }
        [client.workload.calls.shared_prefix]
        prefix_tokens = 6_000
        tail_tokens = 100
        output_tokens = 10
        [provider]
        profile = "openai-classic"
    "#;

    #[test]
    fn what_decides_everything_comes_first_and_what_decides_nothing_has_no_effect() {
        let loaded = Loaded::from_text("gap", "gap.toml", GAP, Path::new(""), &[]).unwrap();
        let unknown = |path: &str, values: &[&str]| Grid::new(path.parse().unwrap(), values.to_vec(), ORIGIN);
        let unknowns = [
            unknown("provider.routing.rate_count", &["admitted", "arrivals", "tumbling"]),
            unknown("provider.retention.lifetime.in_memory", &["5m", "10m"]),
        ];
        let metric: Metric = "request_hit_ratio".parse().unwrap();
        let effects = screen(&loaded, &unknowns, &metric, 6, |_, _| ()).unwrap();
        assert_eq!(effects[0].unknown, unknowns[1]);
        // 86 calls, of which all but the first hit or none.
        let all = 85.0 / 86.0;
        assert!((effects[0].absolute.mean - all).abs() < 1e-6 && effects[0].absolute.half_width < Some(1e-6));
        assert!(effects[0].signed.mean.abs() <= all + 1e-6);
        assert_eq!((effects[1].absolute.mean, effects[1].greatest.0), (0.0, 0.0));
        assert!(
            screen(&loaded, &[unknown("provider.routing.rule", &["home"])], &metric, 6, |_, _| ()).is_err()
        );
    }

    #[test]
    fn unknowns_that_mean_nothing_are_left_out() {
        let with = |path: &str, value: &str| {
            let changes = [Change::new(path, value, "test")];
            plausible(&Loaded::from_text("gap", "gap.toml", GAP, Path::new(""), &changes).unwrap())
        };
        let all = with("client.retention", "in_memory").len();
        assert_eq!(with("provider.routing.overflow", "none").len(), all - 3);
    }
}
