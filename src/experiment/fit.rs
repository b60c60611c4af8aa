//! What is the provider doing? Rivals and their free values, judged by what was observed.
//!
//! 1. **The report**: which rules explain every reading exactly ([`report_rule`](crate::experiment::report_rule)).
//! 2. **Latency**: least squares ([`least_squares`](crate::experiment::least_squares)).
//! 3. **Rivals**: every point of every rival's grids is played with K seeds through the engine, from the same log or the
//!    same set-ups ([`stage`](crate::experiment::stage)). Of each run a few summaries are taken
//!    ([`summaries`](crate::experiment::summaries)), and the observed ones are laid among them
//!    ([`plausibility`](crate::experiment::plausibility)).
//!
//! A point with p <= 0.05 is rejected. The 95 % set of a parameter holds the values with some point that is not
//! rejected (inversion of the test): where the rival is right and the truth on its grid, it holds the truth in 95 % of
//! cases or more, up to the K replications behind each p-value. Between grid values nothing is promised.
//!
//! What is stored, and what changes, is laid over home and over pool, the grids of both left open together, and judged
//! over the one that suits it better. (Grids of the routing that made no difference without it stay at one value.)
//!
//! That is many points, most of them hopeless: a first round of 39 replications drops those from which the observations
//! are far off ([`is_far_off`]). It drops the truth in at most 1 of 40 cases, whatever the distribution, and did so with
//! 1 of 3,000 known providers. A dropped point counts as p = 1/40; the likeliest one is played in full nevertheless.
//!
//! Rivals are ranked: those with a point that is not rejected first, then by score: the logarithm of the synthetic
//! likelihood at the best point, less half the logarithm of the number of rows for each parameter that makes a
//! difference (Schwarz's BIC, 1978, halved); what a rival changes of the store or the time counts as one.

use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::grid::Grid;
use crate::experiment::least_squares::LatencyLaw;
use crate::experiment::observations::Observations;
use crate::experiment::plausibility::{Cloud, is_far_off, p_value};
use crate::experiment::report_rule::{ReportCard, readings};
use crate::experiment::rivals::{EXPLORE, Rival, Rivals, telling_request};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::stage::{Played, Stage, Staged, prefix_tokens};
use crate::random::fold;

/// Points with a p-value up to this are rejected.
pub const LEVEL: f64 = 0.05;

/// Rivals whose scores differ by less cannot be told apart: odds of 20 to 1.
pub const INDIFFERENCE: f64 = 3.0;

/// The routing rivals that the others are laid over.
const BASES: [&str; 2] = ["home", "pool"];

/// Replications of every point, if nobody says otherwise.
pub const REPLICATIONS: u32 = 200;

/// With fewer a p-value of 5 % is no more than a word. The first round has no more.
pub const LEAST_REPLICATIONS: u32 = 39;

/// What is asked.
pub struct Question<'a> {
    /// The scenario that the observations are laid over.
    pub loaded: &'a Loaded,
    /// What was seen.
    pub observations: &'a Observations,
    /// Grids of the user's.
    pub free: Vec<Grid>,
    /// Names of the rivals that are asked about; all if there are none.
    pub only: Vec<String>,
    /// Replications of every point.
    pub replications: u32,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Fit {
    /// Replications of every point.
    pub replications: u32,
    /// Rows that were explained, or not.
    pub rows: usize,
    /// What the readings say of the report; missing without requests.
    pub report: Option<ReportCard>,
    /// The law of latency; missing without times to first token.
    pub latency: Option<LatencyLaw>,
    /// Rivals, the best first.
    pub rivals: Vec<Judged>,
    /// What to know of how the observations were read.
    pub notes: Vec<String>,
}

/// One rival with the verdict on it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The rival.
    pub rival: Rival,
    /// Every point of its grids.
    pub points: Vec<Point>,
    /// Position of the best point: the likeliest of those not rejected, or of all.
    pub best: usize,
    /// The largest p-value of its points that were played in full.
    pub p: f64,
    /// Likelihood of the best point less the penalty.
    pub score: f64,
    /// Parameters that make a difference, those of the routing it is laid over among them.
    pub counted: usize,
    /// Its free values.
    pub parameters: Vec<Parameter>,
    /// Which two of them go together among the points that are not rejected, as far as it is worth a word
    /// ([`TOGETHER`]): positions, and the correlation.
    pub correlations: Vec<(usize, usize, f64)>,
    /// The best point without unexplained misses: what it explains exactly.
    pub exact: Option<Exact>,
}

/// What a rule explains request by request.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    /// Requests that were compared.
    pub compared: usize,
    /// Those whose reading it gives, with some seed where it leaves a choice.
    pub explained: usize,
    /// Where the first one stands whose reading it never gives.
    pub contradicted_at: Option<String>,
    /// Whether it leaves no choice.
    pub deterministic: bool,
}

/// One point of a rival's grids.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its values, in the order of the grids.
    pub values: Vec<Value>,
    /// How plausible the observations are.
    pub p: f64,
    /// Logarithm of their synthetic likelihood.
    pub log_likelihood: f64,
    /// Observed against simulated.
    pub checks: Vec<Check>,
    /// What it explains request by request.
    pub exact: Option<Exact>,
    /// Whether the first round dropped it.
    pub dropped: bool,
    /// Digests of what was simulated in each round, the second one if it was played.
    fingerprints: (u64, Option<u64>),
}

/// One summary: observed, and quantiles of what was simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The cell.
    pub cell: String,
    /// What it is.
    pub name: String,
    /// The observed value.
    pub observed: f64,
    /// 5 %, 50 % and 95 % of the simulated ones.
    pub simulated: [f64; 3],
}

/// A free value of a rival.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its path.
    pub path: KeyPath,
    /// The values that were tried, with the largest p-value of a point that has it.
    pub values: Vec<(Value, f64)>,
    /// Its value at the best point.
    pub best: Value,
    /// Whether it changes nothing that was observed.
    pub inert: bool,
}

impl Judged {
    /// Whether some point is not rejected.
    pub fn is_accepted(&self) -> bool {
        self.p > LEVEL
    }

    /// The best point.
    pub fn best_point(&self) -> &Point {
        &self.points[self.best]
    }

    /// What its best point says of parameters that make no difference.
    fn inert(&self) -> Vec<Change> {
        let inert = |change: &Change| {
            self.parameters.iter().any(|parameter| parameter.path == change.path && parameter.inert)
        };
        self.best_changes().into_iter().filter(inert).collect()
    }

    /// What its best point changes in the scenario.
    pub fn best_changes(&self) -> Vec<Change> {
        self.rival.changes(&self.best_point().values)
    }
}

impl Point {
    /// The second round of a point, with what tells it apart in the first.
    fn after(mut self, first: &Self) -> Self {
        self.fingerprints = (first.fingerprints.0, Some(self.fingerprints.0));
        self
    }

    /// Whether the same was simulated, as far as both were played.
    fn gives_the_same(&self, other: &Self) -> bool {
        let (own, others) = (self.fingerprints, other.fingerprints);
        own.0 == others.0 && own.1.zip(others.1).is_none_or(|(own, other)| own == other)
    }
}

impl Parameter {
    /// The values that are not rejected.
    pub fn accepted(&self) -> Vec<&Value> {
        self.values.iter().filter(|(_, p)| *p > LEVEL).map(|(value, _)| value).collect()
    }

    /// The 95 % set in words: an interval of numbers where its values stand side by side, a list otherwise.
    pub fn set(&self) -> String {
        let accepted: Vec<usize> =
            (0..self.values.len()).filter(|index| self.values[*index].1 > LEVEL).collect();
        let word = |index: &usize| crate::experiment::tables::plain(&self.values[*index].0);
        let numeric = self.values.iter().all(|(value, _)| as_number(value).is_some());
        match (&accepted[..], numeric) {
            ([], _) => "none".into(),
            ([one], _) => word(one),
            ([first, .., last], true) if last - first + 1 == accepted.len() => {
                format!("{}..{}", word(first), word(last))
            }
            (all, _) => all.iter().map(word).collect::<Vec<_>>().join(", "),
        }
    }

    /// The ends of a grid of numbers that the 95 % set reaches, and may go on beyond: the lower (below zero there is
    /// nothing), and the upper.
    pub fn at_ends(&self) -> (bool, bool) {
        let numbers: Option<Vec<(f64, f64)>> =
            self.values.iter().map(|(value, p)| Some((as_number(value)?, *p))).collect();
        let mut numbers = numbers.unwrap_or_default();
        numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
        match numbers[..] {
            [(least, p_least), .., (_, p_most)] => (p_least > LEVEL && least > 0.0, p_most > LEVEL),
            _ => (false, false),
        }
    }
}

fn as_number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

/// Two parameters go together if their correlation is this strong ...
pub const TOGETHER: f64 = 0.5;

/// ... over so many points that are not rejected: among fewer a slope is as often the grid's as the provider's.
const LEAST_TOGETHER: usize = 10;

/// Answers a question; `progress` is told the points done and the points known of so far.
pub fn fit(question: &Question<'_>, progress: impl Fn(usize, usize) + Sync) -> Result<Fit> {
    let Question { loaded, observations, replications, .. } = question;
    if *replications < LEAST_REPLICATIONS {
        let message =
            format!("must be {LEAST_REPLICATIONS} or more: a p-value of 5 % needs that many replications");
        return Err(Error::input("--seeds", message));
    }
    let mut answer = Fit {
        replications: *replications,
        rows: observations.rows(),
        notes: observations.notes.clone(),
        ..Fit::default()
    };
    let file = observations.files.join(", ");
    if !observations.latencies.is_empty() {
        match LatencyLaw::fit(&observations.latencies, &file) {
            Ok(law) => answer.latency = Some(law),
            Err(error) if observations.cells.is_empty() => return Err(error),
            Err(error) => answer.notes.push(format!("no latency is fitted: {error}")),
        }
    }
    if observations.cells.is_empty() {
        return Ok(answer);
    }
    answer.report = report(loaded, observations)?;
    refuse_constant(observations, answer.report.as_ref(), &file)?;
    let stage = Stage::new(loaded, observations, *replications)?;
    answer.notes.extend(stage.notes.iter().cloned());
    let rivals = Rivals::new(loaded, observations, &question.free, &question.only)?;
    refuse_few_rows(&rivals, observations.rows(), &file)?;
    let done = (AtomicUsize::new(0), AtomicUsize::new(0));
    let judge_all = |rivals: Vec<Rival>| judge_all(&stage, rivals, answer.rows, &done, &progress);
    let mut judged = judge_all(rivals.routing())?;
    let bases: Vec<_> = judged.iter().filter(|base| BASES.contains(&base.rival.name)).collect();
    let over: Vec<Vec<Rival>> = match bases.is_empty() {
        true => vec![rivals.others()],
        false => bases.iter().map(|base| rivals.over(&base.rival, &base.inert())).collect::<Result<_>>()?,
    };
    let mut others = judge_all(over.concat())?;
    rank(&mut others);
    for other in others {
        // Over the routing that suits it best.
        if judged.iter().all(|known| known.rival.name != other.rival.name) {
            judged.push(other);
        }
    }
    rank(&mut judged);
    answer.rivals = judged;
    Ok(answer)
}

fn report(loaded: &Loaded, observations: &Observations) -> Result<Option<ReportCard>> {
    for (cell, request) in observations.requests() {
        prefix_tokens(loaded, cell, request)?;
    }
    let shared = |request: &_| {
        let cells = observations.cells.first().expect("there are requests");
        prefix_tokens(loaded, cells, request).expect("checked above")
    };
    let has_requests = observations.requests().next().is_some();
    Ok(has_requests.then(|| {
        let readings = readings(observations, shared);
        ReportCard::new(&readings).beside(&loaded.scenario.provider.write, &readings)
    }))
}

/// Readings that are all the same say nothing of routing, lifetimes or stores.
fn refuse_constant(observations: &Observations, report: Option<&ReportCard>, file: &str) -> Result<()> {
    let mut readings: Vec<_> =
        observations.requests().filter_map(|(_, request)| request.cached_tokens).collect();
    let figures = observations.rows() > readings.len();
    readings.sort_unstable();
    readings.dedup();
    let known = report.map_or(String::new(), |report| report.sentences().join(" "));
    match (&readings[..], figures) {
        ([], false) => {
            Err(Error::input(file, "no request has its `cached_tokens`: there is nothing to explain"))
        }
        ([one], false) => Err(Error::input(
            file,
            format!(
                "every `cached_tokens` is {one}: observations without variance fit nothing beyond the rule of the \
                 report. {known} Observe hits and misses: fresh keys, rests of minutes, high rates"
            ),
        )),
        _ => Ok(()),
    }
}

/// As many rows as numbers to find are too few.
fn refuse_few_rows(rivals: &Rivals, rows: usize, file: &str) -> Result<()> {
    let most = rivals.all().into_iter().max_by_key(Rival::free).filter(|rival| rows < rival.free());
    let Some(rival) = most else { return Ok(()) };
    let paths: Vec<_> = rival.grids.iter().map(|grid| grid.path.to_string()).collect();
    Err(Error::input(
        file,
        format!(
            "{rows} rows for the {} free parameters of rival `{}` ({}): observe more, or fix some with --free \
             PATH=[VALUE]",
            rival.free(),
            rival.name,
            paths.join(", ")
        ),
    ))
}

/// Accepted rivals first, then by score; equal ones stay in the order in which they are told.
fn rank(judged: &mut [Judged]) {
    judged.sort_by(|a, b| b.is_accepted().cmp(&a.is_accepted()).then(b.score.total_cmp(&a.score)));
}

/// Which points are played, and how often.
#[derive(Clone, Copy, PartialEq)]
enum Round {
    /// All, a few times.
    First,
    /// Those that are left, with all replications.
    Second,
}

/// Plays every point of these rivals: all in a first round of few replications, and with all replications those that
/// are left.
fn judge_all(
    stage: &Stage,
    rivals: Vec<Rival>,
    rows: usize,
    (done, known): &(AtomicUsize, AtomicUsize),
    progress: &(impl Fn(usize, usize) + Sync),
) -> Result<Vec<Judged>> {
    known.fetch_add(rivals.iter().map(|rival| rival.points().len()).sum(), Ordering::Relaxed);
    let play = |rival: &Rival, values: &[Value], round: Round| {
        let point = judge(stage, rival, values, round);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, known.load(Ordering::Relaxed));
        point
    };
    let both_rounds = |rival: Rival| {
        let all = rival.points();
        let first = all.par_iter().map(|values| play(&rival, values, Round::First));
        let first: Vec<Point> = first.collect::<Result<_>>()?;
        let left = left(&rival, &first);
        known.fetch_add(left.len(), Ordering::Relaxed);
        let second = |(index, point): (usize, Point)| match left.contains(&index) {
            true => Ok(play(&rival, &point.values, Round::Second)?.after(&point)),
            false => Ok(point),
        };
        let points = first.into_par_iter().enumerate().map(second).collect::<Result<_>>()?;
        Ok(Judged::new(rival, points, rows))
    };
    rivals.into_par_iter().map(both_rounds).collect()
}

/// The points that a first round leaves: those that are not far off, or else the likeliest; and for what a rival explains
/// exactly the likeliest without unexplained misses.
fn left(rival: &Rival, points: &[Point]) -> Vec<usize> {
    let near = |point: &Point| !point.dropped;
    let some_near = points.iter().any(near);
    let best = likeliest(points, |point| near(point) || !some_near);
    let exact = likeliest(points, |point| unexplained_misses(rival, point) == 0.0);
    (0..points.len()).filter(|index| near(&points[*index]) || [best, exact].contains(&Some(*index))).collect()
}

/// The likeliest of the points that `may` be it; of equally likely ones the first.
fn likeliest(points: &[Point], may: impl Fn(&Point) -> bool) -> Option<usize> {
    let eligible = points.iter().enumerate().filter(|(_, point)| may(point));
    let more = |best: Option<(usize, f64)>, (index, point): (usize, &Point)| match best {
        Some((_, most)) if point.log_likelihood <= most => best,
        _ => Some((index, point.log_likelihood)),
    };
    eligible.fold(None, more).map(|(index, _)| index)
}

/// The share of unexplained misses at a point.
fn unexplained_misses(rival: &Rival, point: &Point) -> f64 {
    let misses = rival.grids.iter().position(|grid| grid.path.to_string() == EXPLORE);
    misses.and_then(|at| as_number(&point.values[at])).unwrap_or(0.0)
}

/// Plays one point in every cell, and lays the observations among what it gave.
fn judge(stage: &Stage, rival: &Rival, values: &[Value], round: Round) -> Result<Point> {
    let changes = rival.changes(values);
    let replications = match round {
        Round::First => LEAST_REPLICATIONS,
        Round::Second => stage.replications,
    };
    let mut distances = vec![0.0; replications as usize + 1];
    let mut to_others = distances.clone();
    let mut point = Point {
        values: values.to_vec(),
        p: 0.0,
        log_likelihood: 0.0,
        checks: Vec::new(),
        exact: None,
        dropped: false,
        fingerprints: (0, None),
    };
    for (number, cell) in stage.cells.iter().enumerate() {
        let played = stage.play(number, &changes, replications)?;
        let cloud =
            Cloud { simulated: &played.vectors, observed: &cell.observed, resolution: &cell.resolution };
        distances.iter_mut().zip(cloud.distances()).for_each(|(sum, distance)| *sum += distance);
        if round == Round::First {
            to_others
                .iter_mut()
                .zip(cloud.distances_to_others())
                .for_each(|(sum, distance)| *sum += distance);
        }
        point.log_likelihood += cloud.log_likelihood();
        let bits = played.vectors.iter().flatten().map(|value| value.to_bits());
        point.fingerprints.0 = bits.fold(point.fingerprints.0, fold);
        point.checks.extend(checks(cell, &played));
        if played.compared > 0 {
            point.exact.get_or_insert_default().add(played);
        }
    }
    point.dropped = round == Round::First && is_far_off(&to_others);
    point.p = if point.dropped { 1.0 / distances.len() as f64 } else { p_value(&distances) };
    Ok(point)
}

/// Observed against simulated, number by number.
fn checks<'a>(cell: &'a Staged, played: &'a Played) -> impl Iterator<Item = Check> + 'a {
    cell.names.iter().enumerate().map(|(index, name)| Check {
        cell: cell.name.clone(),
        name: name.clone(),
        observed: cell.observed[index],
        simulated: quantiles(played.vectors.iter().map(|vector| vector[index]).collect()),
    })
}

impl Default for Exact {
    /// Nothing compared yet.
    fn default() -> Self {
        Self { compared: 0, explained: 0, contradicted_at: None, deterministic: true }
    }
}

impl Exact {
    /// Adds what one cell gave.
    fn add(&mut self, played: Played) {
        self.compared += played.compared;
        self.explained += played.explained;
        self.deterministic &= played.deterministic;
        self.contradicted_at = self.contradicted_at.take().or(played.contradicted_at);
    }
}

/// The 5 %, 50 % and 95 % quantiles.
fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.05, 0.5, 0.95].map(|level| values[((values.len() - 1) as f64 * level).round() as usize])
}

impl Judged {
    fn new(rival: Rival, points: Vec<Point>, rows: usize) -> Self {
        let p = points.iter().filter(|point| !point.dropped).map(|point| point.p).fold(0.0, f64::max);
        let best = likeliest(&points, |point| !point.dropped && (p <= LEVEL || point.p > LEVEL));
        let best = best.expect("a rival has a point left");
        let parameters: Vec<_> =
            (0..rival.grids.len()).map(|index| parameter(&rival, &points, best, index)).collect();
        // What is changed of the store counts as a number of its own: without need the routing rival is to be preferred.
        let counted = usize::from(!rival.over.is_empty())
            + parameters.iter().filter(|parameter| parameter.values.len() > 1 && !parameter.inert).count();
        let score = points[best].log_likelihood - 0.5 * counted as f64 * libm::log(rows.max(1) as f64);
        let exact = likeliest(&points, |point| !point.dropped && unexplained_misses(&rival, point) == 0.0);
        let exact = exact.and_then(|index| points[index].exact.clone());
        let correlations = correlations(&points, rival.grids.len());
        Self { rival, points, best, p, score, counted, parameters, correlations, exact }
    }
}

fn parameter(rival: &Rival, points: &[Point], best: usize, index: usize) -> Parameter {
    let grid = &rival.grids[index];
    let profile = |value: &Value| {
        let with = points.iter().filter(|point| point.values[index] == *value);
        (value.clone(), with.map(|point| point.p).fold(0.0, f64::max))
    };
    let others = |point: &Point| -> Vec<Value> {
        let mut others = point.values.clone();
        others.remove(index);
        others
    };
    // Inert if every point gives what its first sibling gives.
    let mut first: Vec<(Vec<Value>, &Point)> = Vec::new();
    let inert = points.iter().all(|point| {
        let others = others(point);
        match first.iter().find(|(known, _)| *known == others) {
            Some((_, sibling)) => sibling.gives_the_same(point),
            None => {
                first.push((others, point));
                true
            }
        }
    });
    Parameter {
        path: grid.path.clone(),
        values: grid.values.iter().map(profile).collect(),
        best: points[best].values[index].clone(),
        inert,
    }
}

/// Pearson's correlation of two numeric parameters over the points that are not rejected, where it is worth a word.
fn correlations(points: &[Point], parameters: usize) -> Vec<(usize, usize, f64)> {
    let accepted: Vec<_> = points.iter().filter(|point| point.p > LEVEL).collect();
    let column = |index: usize| -> Option<Vec<f64>> {
        accepted.iter().map(|point| as_number(&point.values[index])).collect()
    };
    let pairs = (0..parameters).flat_map(|one| (one + 1..parameters).map(move |other| (one, other)));
    let correlation =
        |(one, other): (usize, usize)| Some((one, other, pearson(&column(one)?, &column(other)?)?));
    let strong = |(_, _, correlation): &(usize, usize, f64)| correlation.abs() >= TOGETHER;
    match accepted.len() {
        LEAST_TOGETHER.. => pairs.filter_map(correlation).filter(strong).collect(),
        _ => Vec::new(),
    }
}

fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| of(a - mean_a, b - mean_b)).sum()
    };
    let (aa, bb, ab) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

impl Fit {
    /// What a rival is beside the best one.
    pub fn verdict(&self, rival: &Judged) -> &'static str {
        let best = &self.rivals[0];
        match (rival.is_accepted(), best.score - rival.score) {
            (false, _) => "rejected",
            (true, _) if std::ptr::eq(rival, best) => "best",
            (true, behind) if behind < INDIFFERENCE => "as good",
            (true, _) => "less likely",
        }
    }

    /// The answer in plain sentences.
    pub fn sentences(&self) -> Vec<String> {
        let mut words = self.notes.clone();
        words.extend(self.report.iter().flat_map(ReportCard::sentences));
        let Some(best) = self.rivals.first() else { return words };
        let name = best.rival.name;
        if !best.is_accepted() {
            words.push(format!(
                "No rival is plausible: every point of every grid is rejected at 5 %. `{name}` comes closest; what the \
                 provider does is something else."
            ));
        }
        for rival in self.rivals[1..].iter().filter(|rival| self.verdict(rival) == "as good") {
            words.push(format!(
                "These observations cannot tell `{name}` from `{}`. This would: {}.",
                rival.rival.name,
                telling_request(name, rival.rival.name)
            ));
        }
        // If none is as good, the next best may still be asked for by a request of its own.
        if let Some(next) = self.rivals.get(1).filter(|next| self.verdict(next) != "as good") {
            words.push(format!(
                "To make sure that it is `{name}` and not `{}`, send this: {}.",
                next.rival.name,
                telling_request(name, next.rival.name)
            ));
        }
        for parameter in
            best.parameters.iter().filter(|parameter| parameter.inert && parameter.values.len() > 1)
        {
            words.push(format!("These observations say nothing of {}.", parameter.path));
        }
        for parameter in best.parameters.iter().filter(|parameter| !parameter.inert) {
            let (end, beyond) = match parameter.at_ends() {
                (false, false) => continue,
                (true, false) => ("the lower end", "less"),
                (false, true) => ("the upper end", "more"),
                (true, true) => ("both ends", "less and more"),
            };
            words.push(format!(
                "The 95 % set of {} reaches {end} of its grid: {beyond} may be as plausible (--free).",
                parameter.path
            ));
        }
        for (one, other, correlation) in &best.correlations {
            let path = |index: &usize| &best.parameters[*index].path;
            words.push(format!(
                "{} and {} go together: correlation {correlation:.2} over the points that are not rejected.",
                path(one),
                path(other)
            ));
        }
        words
    }

    /// The weights of the accepted rivals by their scores, those below a thousandth left out; they add up to 1.
    pub fn weights(&self) -> Vec<(&Judged, f64)> {
        let accepted = || self.rivals.iter().filter(|rival| rival.is_accepted());
        let most = accepted().map(|rival| rival.score).fold(f64::NEG_INFINITY, f64::max);
        let weight = |rival: &Judged| libm::exp(rival.score - most);
        let total: f64 = accepted().map(weight).sum();
        let kept: Vec<_> = accepted()
            .map(|rival| (rival, weight(rival) / total))
            .filter(|(_, weight)| *weight >= 1e-3)
            .collect();
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        kept.into_iter().map(|(rival, weight)| (rival, weight / total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_grid_are_ends_and_zero_is_none() {
        let with = |values: &[(f64, f64)]| Parameter {
            path: EXPLORE.parse().unwrap(),
            values: values.iter().map(|(value, p)| ((*value).into(), *p)).collect(),
            best: values[0].0.into(),
            inert: false,
        };
        assert_eq!(with(&[(0.0, 0.9), (0.1, 0.5), (0.2, 0.01)]).at_ends(), (false, false));
        assert_eq!(with(&[(0.1, 0.9), (0.2, 0.01)]).at_ends(), (true, false));
        // Whatever their order.
        assert_eq!(with(&[(0.3, 0.2), (0.1, 0.9), (0.2, 0.01)]).at_ends(), (true, true));
        assert_eq!(with(&[(0.1, 0.9)]).at_ends(), (false, false));
    }

    #[test]
    fn parameters_go_together_where_many_points_say_so() {
        let point = |values: [i64; 2]| Point {
            values: values.map(Value::from).to_vec(),
            p: 1.0,
            log_likelihood: 0.0,
            checks: Vec::new(),
            exact: None,
            dropped: false,
            fingerprints: (0, None),
        };
        let line = |count: i64| (0..count).map(|n| point([n, -2 * n])).collect::<Vec<_>>();
        assert_eq!(correlations(&line(9), 2), []);
        let [(0, 1, correlation)] = correlations(&line(10), 2)[..] else { panic!("one pair") };
        assert!((correlation + 1.0).abs() < 1e-9);
        let square: Vec<_> = (0..16).map(|n| point([n / 4, n % 4])).collect();
        assert_eq!(correlations(&square, 2), []);
    }
}
