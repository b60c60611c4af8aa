//! A race among choices: replications are added only where they still decide something.
//!
//! All choices meet the same seeds (common random numbers) and are compared with the best so far, seed by seed, on the
//! seeds that both have: a choice that left early is never judged by its luck with fewer. A choice leaves the race when
//! it is clearly worse (its difference lies above zero, with 95 % confidence for all choices and rounds together:
//! Bonferroni) or settled (the 95 % interval of its difference is narrower than the indifference); the others get more
//! replications, up to a cap. The intervals that are shown are pointwise.

use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::metrics::{Row, statistic};
use crate::experiment::objective::{Constraint, Objective};
use crate::experiment::part::Job;
use crate::experiment::run::replicate_unwatched;
use crate::experiment::scenario::Loaded;
use crate::experiment::statistics::{Estimate, t_quantile};
use crate::units::Span;

/// How a race is run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is to be best.
    pub objective: Objective,
    /// What must be kept to.
    pub constraints: Vec<Constraint>,
    /// Differences below this are none: in the objective's unit, or a share of the best's value.
    pub indifference: Indifference,
    /// Replications to begin with.
    pub first_seeds: u32,
    /// Most replications of a choice.
    pub most_seeds: u32,
}

/// A difference that does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Indifference {
    /// In the objective's unit.
    Absolute(f64),
    /// As a share of the best choice's value.
    Share(f64),
}

/// Choices whose time to first token (p95) is beyond this multiple of the fastest are no candidates.
const TOO_SLOW: f64 = 1.5;

/// How often any choice of a race may leave as worse that is not.
const WRONGLY: f64 = 0.05;

/// How a choice stands at the end.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its replications.
    pub rows: Vec<Row>,
    /// The objective, in its own sense.
    pub value: Option<Estimate>,
    /// How much worse than the best it is, seed by seed; less is better, 0 for the best.
    pub behind: Option<Estimate>,
    /// Whether it is shown to keep to the constraints, and is not far slower than the fastest.
    pub feasible: bool,
    /// Whether it is far slower than the fastest.
    pub too_slow: bool,
}

impl Standing {
    /// How much worse than the best it may be, with 95 % confidence.
    pub fn behind_at_most(&self) -> f64 {
        self.behind.map_or(f64::INFINITY, |behind| behind.mean + behind.half_width.unwrap_or(0.0))
    }
}

/// The end of a race.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The choices, in their order.
    pub standings: Vec<Standing>,
    /// The best feasible choice; `None` if none is feasible.
    pub best: Option<usize>,
    /// The indifference, in the objective's unit.
    pub indifference: f64,
    /// What the objective's terms were scaled with.
    scales: Vec<f64>,
}

impl Finish {
    /// Whether a choice is as good as the best: within the indifference with 95 % confidence.
    pub fn is_as_good(&self, index: usize) -> bool {
        let standing = &self.standings[index];
        self.best == Some(index) || standing.feasible && standing.behind_at_most() <= self.indifference
    }

    /// How much worse than another a choice is, on the seeds that both have.
    pub fn worse_by(&self, objective: &Objective, index: usize, other: usize) -> Option<Estimate> {
        let [rows, others] = [index, other].map(|index| &self.standings[index].rows);
        behind(objective, &self.scales, rows, others)
    }
}

/// Where the runners of a race get their replications.
pub struct Track<'a> {
    /// The desk.
    pub desk: &'a Desk,
    /// The number of the first choice in this race.
    pub first: u64,
    /// How many choices there are in all races together.
    pub cells: u64,
}

/// Runs a race; `ran` is told of every replication that is played.
pub fn race(
    choices: &[Loaded],
    rules: &Rules,
    track: &Track<'_>,
    ran: &(impl Fn() + Sync),
) -> Result<Finish> {
    let rows = vec![Vec::new(); choices.len()];
    let rounds = rules.rounds();
    let looks = rounds.len() * (choices.len() - 1).max(1);
    let clearly = 1.0 - WRONGLY / looks as f64;
    let mut runners =
        Runners { rules, track, rows, day: day_factor(&choices[0]), scales: Vec::new(), clearly };
    let mut active: Vec<usize> = (0..choices.len()).collect();
    runners.run(choices, &active, rounds[0], ran)?;
    runners.scales = runners.first_scales()?;
    for seeds in rounds {
        runners.run(choices, &active, seeds, ran)?;
        let mut best = runners.best();
        // A new best is judged by as many replications as those that it is compared with.
        while let Some(newcomer) = best.filter(|best| runners.rows[*best].len() < seeds as usize) {
            runners.run(choices, &[newcomer], seeds, ran)?;
            best = runners.best();
        }
        active = (0..choices.len()).filter(|index| !runners.is_settled(*index, best)).collect();
        if active.is_empty() {
            break;
        }
        active.extend(best);
    }
    let best = runners.best();
    Ok(runners.finish(best))
}

impl Rules {
    /// The replications after each round.
    fn rounds(&self) -> Vec<u32> {
        let most = self.most_seeds;
        let next = |seeds: &u32| (*seeds < most).then(|| most.min(seeds + (seeds / 2).max(5)));
        std::iter::successors(Some(self.first_seeds.min(most)), next).collect()
    }
}

/// The choices while they run.
struct Runners<'a> {
    rules: &'a Rules,
    track: &'a Track<'a>,
    rows: Vec<Vec<Row>>,
    day: f64,
    /// What the objective's terms are scaled with, from the first round on.
    scales: Vec<f64>,
    /// Confidence with which a choice leaves the race as worse.
    clearly: f64,
}

impl Runners<'_> {
    /// Brings some choices up to so many replications.
    fn run(
        &mut self,
        choices: &[Loaded],
        active: &[usize],
        seeds: u32,
        ran: &(impl Fn() + Sync),
    ) -> Result<()> {
        let missing = |&index: &usize| {
            let has = self.rows[index].len() as u32;
            (has..seeds).map(move |seed| (index, seed))
        };
        let Track { desk, first, cells } = self.track;
        let job =
            |(index, replication): (usize, u32)| (Job { cell: first + index as u64, replication }, index);
        let jobs: Vec<(Job, usize)> = active.iter().flat_map(missing).map(job).collect();
        let rows = desk.rows(&jobs, *cells, |job, index| {
            let report = replicate_unwatched(&choices[*index], job.replication)?;
            ran();
            Ok(report.row)
        })?;
        for ((_, index), row) in jobs.iter().zip(rows) {
            self.rows[*index].push(row);
        }
        Ok(())
    }

    fn all(&self, index: usize) -> Vec<&Row> {
        self.rows[index].iter().collect()
    }

    fn value(&self, index: usize) -> Option<Estimate> {
        self.rules.objective.estimate(&self.all(index), &self.scales)
    }

    fn behind(&self, index: usize, best: usize) -> Option<Estimate> {
        behind(&self.rules.objective, &self.scales, &self.rows[index], &self.rows[best])
    }

    /// Several terms are relative to the first choice's first replications, and cannot be relative to nothing.
    fn first_scales(&self) -> Result<Vec<f64>> {
        let Rules { objective, .. } = self.rules;
        objective.scales(&self.all(0), self.day).ok_or_else(|| {
            let message = "one of its metrics is 0 or missing for the first choice, and nothing can be relative to that";
            Error::input("--objective", format!("`{objective}`: {message}"))
        })
    }

    /// Whether a choice is far slower than the fastest.
    fn is_too_slow(&self, index: usize) -> bool {
        let ttft = |index: usize| {
            statistic(&self.all(index), "ttft_p95_ms").and_then(|ttft| ttft.of(None)).unwrap_or(f64::INFINITY)
        };
        let fastest = (0..self.rows.len()).map(ttft).fold(f64::INFINITY, f64::min);
        ttft(index) > TOO_SLOW * fastest
    }

    /// Whether a choice keeps to every constraint; `None` while that is open.
    fn keeps(&self, index: usize) -> Option<bool> {
        let rows = self.all(index);
        let kept: Vec<_> =
            self.rules.constraints.iter().map(|constraint| constraint.holds(&rows, self.day)).collect();
        if kept.contains(&Some(false)) {
            return Some(false);
        }
        (!kept.contains(&None)).then_some(true)
    }

    fn is_feasible(&self, index: usize) -> bool {
        self.keeps(index) == Some(true) && !self.is_too_slow(index)
    }

    /// The best feasible choice so far, each compared with the best before it on the seeds that both have; of equals,
    /// the first.
    fn best(&self) -> Option<usize> {
        let feasible = (0..self.rows.len()).filter(|index| self.is_feasible(*index));
        let better = |best: usize, index: usize| match self.behind(index, best) {
            Some(behind) if behind.mean < 0.0 => index,
            None if self.value(best).is_none() => index,
            _ => best,
        };
        feasible.reduce(better)
    }

    fn indifference(&self, best: usize) -> f64 {
        match self.rules.indifference {
            Indifference::Absolute(difference) => difference,
            Indifference::Share(share) => self.value(best).map_or(0.0, |value| share * value.mean.abs()),
        }
    }

    /// Whether more replications of a choice would change nothing.
    fn is_settled(&self, index: usize, best: Option<usize>) -> bool {
        if self.is_too_slow(index) || self.keeps(index) == Some(false) {
            return true;
        }
        if self.keeps(index).is_none() {
            return false;
        }
        let Some(best) = best.filter(|best| *best != index) else { return true };
        let Some(behind) = self.behind(index, best) else { return true };
        // A single replication of something drawn from nothing is exact.
        let Some(half_width) = behind.half_width else { return true };
        let degrees = self.rows[index].len().min(self.rows[best].len()) - 1;
        let strict = half_width * t_quantile(self.clearly, degrees) / t_quantile(0.95, degrees);
        behind.mean - strict > 0.0 || half_width <= self.indifference(best)
    }

    fn finish(self, best: Option<usize>) -> Finish {
        let standing = |index: usize| Standing {
            rows: self.rows[index].clone(),
            value: self.value(index),
            behind: best.and_then(|best| self.behind(index, best)),
            feasible: self.is_feasible(index),
            too_slow: self.is_too_slow(index),
        };
        let indifference = best.map_or(0.0, |best| self.indifference(best));
        let standings = (0..self.rows.len()).map(standing).collect();
        Finish { standings, best, indifference, scales: self.scales }
    }
}

/// How much worse some replications are than others, on the seeds that both have.
fn behind(objective: &Objective, scales: &[f64], rows: &[Row], others: &[Row]) -> Option<Estimate> {
    let common = rows.len().min(others.len());
    let [rows, others]: [Vec<&Row>; 2] = [rows, others].map(|rows| rows[..common].iter().collect());
    objective.worse_by(&rows, &others, scales)
}

/// How often the counted part of a run fits into a day; 1 for a trace, which lasts as long as it lasts.
pub fn day_factor(loaded: &Loaded) -> f64 {
    match loaded.scenario.duration {
        Span::UNLIMITED => 1.0,
        duration => Span::DAY.seconds() / (duration - loaded.scenario.warmup).seconds(),
    }
}
