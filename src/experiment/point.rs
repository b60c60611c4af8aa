//! One point of a rival's grids: played in every cell, with the observations laid among what it gave.

use toml::Value;

use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::plausibility::{Cloud, is_far_off, p_value};
use crate::experiment::rivals::Rival;
use crate::experiment::stage::{Played, Stage, Staged};
use crate::random::fold;

/// With fewer replications a p-value of 5 % is no more than a word. The first round has no more.
pub const LEAST_REPLICATIONS: u32 = 39;

/// Which points are played, and how often.
#[derive(Clone, Copy, PartialEq)]
pub enum Round {
    /// All, a few times.
    First,
    /// Those that are left, with all replications.
    Second,
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
    pub(super) fingerprints: (u64, Option<u64>),
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

impl Point {
    /// The second round of a point, with what tells it apart in the first.
    pub fn after(mut self, first: &Self) -> Self {
        self.fingerprints = (first.fingerprints.0, Some(self.fingerprints.0));
        self
    }

    /// Whether the same was simulated, as far as both were played.
    pub fn gives_the_same(&self, other: &Self) -> bool {
        let (own, others) = (self.fingerprints, other.fingerprints);
        own.0 == others.0 && own.1.zip(others.1).is_none_or(|(own, other)| own == other)
    }

    /// Names of the numbers of a row.
    pub fn columns(stage: &Stage) -> Vec<String> {
        let checks = stage.cells.iter().flat_map(|cell| &cell.names).enumerate();
        let quantiles =
            checks.flat_map(|(index, _)| ["q05", "q50", "q95"].map(|name| format!("check{index}_{name}")));
        COLUMNS.iter().map(ToString::to_string).chain(quantiles).collect()
    }

    /// All that was found by playing it once, in the order of [`columns`](Self::columns): a part keeps it so.
    pub fn row(&self, stage: &Stage) -> Row {
        let halves = |digest: u64| [(digest >> 32) as f64, f64::from(digest as u32)];
        let [high, low] = halves(self.fingerprints.0);
        let mut row = vec![Some(self.p), Some(self.log_likelihood), Some(f64::from(u8::from(self.dropped)))];
        row.extend([Some(high), Some(low)]);
        let exact = self.exact.as_ref();
        row.push(exact.map(|exact| exact.compared as f64));
        row.push(exact.map(|exact| exact.explained as f64));
        row.push(exact.map(|exact| f64::from(u8::from(exact.deterministic))));
        let place = exact.and_then(|exact| stage.find(exact.contradicted_at.as_deref()?));
        row.push(place.map(|(cell, _)| cell as f64));
        row.push(place.map(|(_, line)| line as f64));
        row.extend(self.checks.iter().flat_map(|check| check.simulated).map(Some));
        Row(row)
    }

    /// A point from its row.
    pub fn of_row(values: &[Value], row: &Row, stage: &Stage) -> Result<Self> {
        let damaged = || Error::input("a part", "has a row that is none of this question's");
        let there = |value: Option<f64>| value.ok_or_else(damaged);
        let [p, log_likelihood, dropped, high, low, compared, explained, deterministic, cell, line] =
            row.0.first_chunk().ok_or_else(damaged)?;
        let contradicted_at = match (cell, line) {
            (Some(cell), Some(line)) => Some(stage.place(*cell as usize, *line as u64).ok_or_else(damaged)?),
            _ => None,
        };
        let exact = match compared {
            Some(compared) => Some(Exact {
                compared: *compared as usize,
                explained: there(*explained)? as usize,
                contradicted_at,
                deterministic: there(*deterministic)? != 0.0,
            }),
            None => None,
        };
        let mut quantiles = row.0[COLUMNS.len()..].chunks_exact(3);
        let mut checks = Vec::new();
        for cell in &stage.cells {
            for (name, observed) in cell.names.iter().zip(&cell.observed) {
                let mut simulated = [0.0; 3];
                for (to, from) in simulated.iter_mut().zip(quantiles.next().ok_or_else(damaged)?) {
                    *to = there(*from)?;
                }
                let (cell, name) = (cell.name.clone(), name.clone());
                checks.push(Check { cell, name, observed: *observed, simulated });
            }
        }
        Ok(Self {
            values: values.to_vec(),
            p: there(*p)?,
            log_likelihood: there(*log_likelihood)?,
            checks,
            exact,
            dropped: there(*dropped)? != 0.0,
            fingerprints: ((there(*high)? as u64) << 32 | there(*low)? as u64, None),
        })
    }
}

/// The numbers of a row that every point has.
const COLUMNS: [&str; 10] = [
    "p",
    "log_likelihood",
    "dropped",
    "digest_high",
    "digest_low",
    "compared",
    "explained",
    "deterministic",
    "contradicted_cell",
    "contradicted_line",
];

/// Plays one point in every cell, and lays the observations among what it gave.
pub fn judge(stage: &Stage, rival: &Rival, values: &[Value], round: Round) -> Result<Point> {
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
