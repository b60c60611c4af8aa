//! Which unknown of the provider moves the answer most? Elementary effects, after Morris (Technometrics 33, 1991).
//!
//! A trajectory starts at a random combination of plausible values, and changes one unknown after another to another
//! of its values. Each change has an effect on the answer; the mean of the absolute effects over trajectories says how
//! much an unknown matters, wherever the others stand. Values need no order, so that rules can be unknown as well as
//! numbers. All runs of a trajectory meet the same seed.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::grid::Grid;
use crate::experiment::metrics::{Row, summarize};
use crate::experiment::objective::Metric;
use crate::experiment::part::Job;
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

/// What a screening rests on.
pub struct Screening<'a> {
    /// The scenario.
    pub loaded: &'a Loaded,
    /// The unknowns.
    pub unknowns: &'a [Grid],
    /// The answer.
    pub metric: &'a Metric,
    /// Random combinations to start from, 2 or more.
    pub trajectories: u32,
}

/// What a screening says.
pub struct Screened {
    /// How much each unknown matters, the greatest first.
    pub effects: Vec<Effect>,
    /// The answer of the scenario as it is written, for comparison; a scenario without a single request has none.
    pub as_written: Option<Estimate>,
}

/// Screens some unknowns with replications from a desk; `progress` is told of runs played and to play.
pub fn screen(
    Screening { loaded, unknowns, metric, trajectories }: &Screening<'_>,
    desk: &Desk,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Screened> {
    check(unknowns)?;
    let bare = loaded.with(&[
        Change::new("attribution", false, ORIGIN),
        Change::new("sweep", toml::Table::new(), ORIGIN),
    ])?;
    let paths: Vec<_> = (0..*trajectories).map(|number| Trajectory::draw(&bare, unknowns, number)).collect();
    // Of every trajectory the runs in their order, and beside them the scenario as it is written.
    let steps = unknowns.len() as u64 + 1;
    let on_path = |(path, replication): (&Trajectory, u32)| {
        let at = path.stations();
        at.into_iter().zip(0..).map(move |(at, cell)| (Job { cell, replication }, Some(at)))
    };
    let written = (0..loaded.scenario.seeds).map(|replication| (Job { cell: steps, replication }, None));
    let runs: Vec<(Job, Option<Vec<usize>>)> =
        paths.iter().zip(0..).flat_map(on_path).chain(written).collect();
    let done = AtomicUsize::new(0);
    let rows = desk.rows(&runs, steps + 1, |job, at| {
        let change = |(unknown, value): (&Grid, &usize)| unknown.change(&unknown.values[*value]);
        let changes: Vec<_> = at.iter().flat_map(|at| unknowns.iter().zip(at).map(change)).collect();
        let row = replicate_unwatched(&bare.with(&changes)?, job.replication)?.row;
        progress(done.fetch_add(1, Relaxed) + 1, runs.len());
        Ok(row)
    })?;
    let (on_paths, written) = rows.split_at(paths.len() * steps as usize);
    let answer =
        |row: &Row| metric.estimate(&[row], day_factor(loaded)).map_or(0.0, |estimate| estimate.mean);
    let effects: Vec<_> = paths
        .iter()
        .zip(on_paths.chunks(steps as usize))
        .map(|(path, rows)| path.effects(unknowns, &rows.iter().map(answer).collect::<Vec<_>>()))
        .collect();
    let written: Vec<&Row> = written.iter().collect();
    let as_written =
        summarize(&written, "requests").and_then(|_| metric.estimate(&written, day_factor(loaded)));
    Ok(Screened { effects: summed_up(unknowns, &effects), as_written })
}

fn check(unknowns: &[Grid]) -> Result<()> {
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
    Ok(())
}

/// How much each unknown matters over all trajectories, the greatest first.
fn summed_up(unknowns: &[Grid], trajectories: &[Vec<(f64, String)>]) -> Vec<Effect> {
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
    effects
}

/// One trajectory: where it starts, and which unknown is changed to which of its values, one after another.
struct Trajectory {
    start: Vec<usize>,
    changes: Vec<(usize, usize)>,
}

impl Trajectory {
    fn draw(loaded: &Loaded, unknowns: &[Grid], number: u32) -> Self {
        let draws = SessionKey(fold(loaded.scenario.seed, 0x5e15)).turn(number);
        let below = |attempt: usize, n: usize| draws.below(Purpose::Route, attempt as u32, n as u64) as usize;
        let start: Vec<usize> =
            unknowns.iter().enumerate().map(|(index, unknown)| below(index, unknown.values.len())).collect();
        // In which order they are changed is drawn as well.
        let mut order: Vec<usize> = (0..unknowns.len()).collect();
        order.sort_by_key(|index| draws.bits(Purpose::Bucket, *index as u32));
        let change = |index: usize| {
            let values = unknowns[index].values.len();
            (index, (start[index] + 1 + below(unknowns.len() + index, values - 1)) % values)
        };
        let changes = order.into_iter().map(change).collect();
        Self { start, changes }
    }

    /// Which value each unknown has, at the start and after every change.
    fn stations(&self) -> Vec<Vec<usize>> {
        let mut stations = vec![self.start.clone()];
        for (index, value) in &self.changes {
            let mut at = stations.last().expect("it starts somewhere").clone();
            at[*index] = *value;
            stations.push(at);
        }
        stations
    }

    /// The effect of each unknown, in their order, with the change that had it; `answers` are those at the stations.
    fn effects(&self, unknowns: &[Grid], answers: &[f64]) -> Vec<(f64, String)> {
        let mut effects = vec![(0.0, String::new()); unknowns.len()];
        for ((index, to), answers) in self.changes.iter().zip(answers.windows(2)) {
            let Grid { values, .. } = &unknowns[*index];
            let change = format!("{} -> {}", plain(&values[self.start[*index]]), plain(&values[*to]));
            effects[*index] = (answers[1] - answers[0], change);
        }
        effects
    }
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
        let screen = |unknowns: &[Grid]| {
            let screening = Screening { loaded: &loaded, unknowns, metric: &metric, trajectories: 6 };
            screen(&screening, &Desk::alone(), |_, _| ())
        };
        let Screened { effects, as_written } = screen(&unknowns).unwrap();
        assert_eq!(effects[0].unknown, unknowns[1]);
        // 86 calls, of which all but the first hit or none.
        let all = 85.0 / 86.0;
        assert!((effects[0].absolute.mean - all).abs() < 1e-6 && effects[0].absolute.half_width < Some(1e-6));
        assert!(effects[0].signed.mean.abs() <= all + 1e-6);
        assert_eq!((effects[1].absolute.mean, effects[1].greatest.0), (0.0, 0.0));
        // Lifetimes are drawn from 5 to 10 minutes: many of the calls hit.
        assert!((0.1..0.9).contains(&as_written.unwrap().mean));
        assert!(screen(&[unknown("provider.routing.rule", &["home"])]).is_err());
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
