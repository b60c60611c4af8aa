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
//! are far off ([`is_far_off`](crate::experiment::plausibility::is_far_off)). It drops the truth in at most 1 of 40
//! cases, whatever the distribution, and did so with 1 of 3,000 known providers. A dropped point counts as p = 1/40; the
//! likeliest one is played in full nevertheless.
//!
//! Rivals are ranked: those with a point that is not rejected first, then by score: the logarithm of the synthetic
//! likelihood at the best point, less half the logarithm of the number of rows for each parameter that makes a
//! difference (Schwarz's BIC, 1978, halved); what a rival changes of the store or the time counts as one.

use std::sync::atomic::{AtomicUsize, Ordering};
use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::grid::Grid;
use crate::experiment::least_squares::LatencyLaw;
use crate::experiment::metrics::Row;
use crate::experiment::observations::Observations;
use crate::experiment::part::Job;
use crate::experiment::point::{Exact, LEAST_REPLICATIONS, Point, Round, judge};
use crate::experiment::report_rule::{ReportCard, readings};
use crate::experiment::rivals::{EXPLORE, Rival, Rivals, telling_request};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::stage::{Stage, prefix_tokens};

/// Points with a p-value up to this are rejected.
pub const LEVEL: f64 = 0.05;

/// Rivals whose scores differ by less cannot be told apart: odds of 20 to 1.
pub const INDIFFERENCE: f64 = 3.0;

/// The routing rivals that the others are laid over.
const BASES: [&str; 2] = ["home", "pool"];

/// Replications of every point, if nobody says otherwise.
pub const REPLICATIONS: u32 = 200;

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

/// Answers a question with points from a desk; `progress` is told of those played and those known of so far.
pub fn fit(question: &Question<'_>, desk: &Desk, progress: impl Fn(usize, usize) + Sync) -> Result<Fit> {
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
    let (done, known) = Default::default();
    let play = Play { stage: &stage, desk, rows: answer.rows, done, known, progress: &progress };
    let (mut judged, next) = judge_all(&play, rivals.routing(), 0)?;
    let bases: Vec<_> = judged.iter().filter(|base| BASES.contains(&base.rival.name)).collect();
    let over: Vec<Vec<Rival>> = match bases.is_empty() {
        true => vec![rivals.others()],
        false => bases.iter().map(|base| rivals.over(&base.rival, &base.inert())).collect::<Result<_>>()?,
    };
    let (mut others, _) = judge_all(&play, over.concat(), next)?;
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

/// Names of the numbers that the rows of a question have.
pub fn columns(question: &Question<'_>) -> Result<Vec<String>> {
    let Question { loaded, observations, replications, .. } = question;
    Stage::new(loaded, observations, *replications).map(|stage| Point::columns(&stage))
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

/// Plays every point of these rivals: all in a first round of few replications, and with all replications those that
/// are left. `first` is the number of the first job; the answer has that of the next.
fn judge_all(play: &Play<'_>, rivals: Vec<Rival>, first: u64) -> Result<(Vec<Judged>, u64)> {
    let points: Vec<(usize, Vec<Value>)> = (rivals.iter().enumerate())
        .flat_map(|(number, rival)| rival.points().into_iter().map(move |values| (number, values)))
        .collect();
    let job = |index: usize| Job { cell: first + index as u64, replication: 0 };
    let all: Vec<_> = points.iter().enumerate().map(|(index, point)| (job(index), point)).collect();
    let mut judged = play.points(&rivals, &all, Round::First)?;
    // The points of each rival stand side by side.
    let mut left_points = Vec::new();
    for (number, rival) in rivals.iter().enumerate() {
        let begin = points.partition_point(|(of, _)| *of < number);
        let end = points.partition_point(|(of, _)| *of <= number);
        left_points.extend(left(rival, &judged[begin..end]).into_iter().map(|index| begin + index));
    }
    let again: Vec<_> =
        left_points.iter().map(|index| (job(points.len() + index), &points[*index])).collect();
    for (index, point) in left_points.iter().zip(play.points(&rivals, &again, Round::Second)?) {
        judged[*index] = point.after(&judged[*index]);
    }
    let mut judged = judged.into_iter();
    let next = first + 2 * points.len() as u64;
    let of_rival = |rival: Rival| {
        let points = judged.by_ref().take(rival.points().len()).collect();
        Judged::new(rival, points, play.rows)
    };
    Ok((rivals.into_iter().map(of_rival).collect(), next))
}

/// What points are played with.
struct Play<'a> {
    stage: &'a Stage,
    desk: &'a Desk,
    /// Rows that were observed.
    rows: usize,
    /// Points that are played, and those that are known of.
    done: AtomicUsize,
    known: AtomicUsize,
    progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl Play<'_> {
    /// Some points, each of a rival by its number.
    fn points(
        &self,
        rivals: &[Rival],
        jobs: &[(Job, &(usize, Vec<Value>))],
        round: Round,
    ) -> Result<Vec<Point>> {
        self.known.fetch_add(jobs.len(), Ordering::Relaxed);
        let rows = self.desk.rows(jobs, 0, |_, (rival, values)| {
            let point = judge(self.stage, &rivals[*rival], values, round)?;
            (self.progress)(
                self.done.fetch_add(1, Ordering::Relaxed) + 1,
                self.known.load(Ordering::Relaxed),
            );
            Ok(point.row(self.stage))
        })?;
        let point = |((_, (_, values)), row): (&(Job, &(usize, Vec<Value>)), &Row)| {
            Point::of_row(values, row, self.stage)
        };
        jobs.iter().zip(&rows).map(point).collect()
    }
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
