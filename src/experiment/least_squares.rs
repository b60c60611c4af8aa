//! Time to first token as `overhead + a x uncached + b x cached`, by least squares with intervals.
//!
//! The noise of the model multiplies: long times spread more than short ones, and so weigh less. The weights are found in
//! turns (iteratively reweighted least squares): at first every run weighs the same, then as the inverse square of the
//! time that the law before gives it.

use crate::error::{Error, Result};
use crate::experiment::observations::{Latency, Runs};
use crate::experiment::statistics::{Estimate, t_quantile};

/// How often the weights are found anew: enough for the first four digits not to change any more.
const TURNS: usize = 10;

/// No point weighs more than a time of this share of the mean would.
const LEAST_SHARE: f64 = 0.05;

/// The fitted law.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyLaw {
    /// Time that no token accounts for, in ms.
    pub overhead_ms: Estimate,
    /// Time for each uncached token, in us.
    pub per_uncached_us: Estimate,
    /// Time for each cached token, in us; missing if none was ever cached.
    pub per_cached_us: Option<Estimate>,
    /// Standard deviation of the logarithm of time over law, of single runs; missing where rows are means of unknown
    /// numbers of runs.
    pub noise_sigma: Option<f64>,
    /// Largest residual, in ms.
    pub largest_residual_ms: f64,
    /// Number of points.
    pub points: usize,
    /// Correlation of the estimates of overhead and per_uncached.
    pub correlation: f64,
}

impl LatencyLaw {
    /// The law of these points, each weighed with the number of runs behind it and by its noise.
    pub fn fit(points: &[Latency], file: &str) -> Result<Self> {
        let refused = |message: String| Err(Error::input(file, message));
        let varies = |of: fn(&Latency) -> f64| points.iter().any(|point| of(point) != of(&points[0]));
        let cached = varies(|point| point.cached_tokens);
        let unknowns = if cached { 3 } else { 2 };
        if points.len() <= unknowns {
            let message = format!(
                "{} points for {unknowns} numbers (overhead, time for each token): at least {} are needed",
                points.len(),
                unknowns + 1
            );
            return refused(message);
        }
        if !varies(|point| point.uncached_tokens) {
            return refused(
                "`uncached_tokens` is the same in every row: nothing says what a token costs".into(),
            );
        }
        let scale = points.iter().map(|p| p.uncached_tokens.max(p.cached_tokens)).fold(1.0, f64::max);
        let row = |point: &Latency| {
            let mut row = vec![1.0, point.uncached_tokens / scale];
            row.extend(cached.then_some(point.cached_tokens / scale));
            row
        };
        let rows: Vec<_> = points.iter().map(|point| (row(point), point.ttft_ms)).collect();
        let runs: Vec<_> = points.iter().map(runs).collect();
        let Some(line) = reweighted(&rows, &runs) else {
            let message = "`uncached_tokens` and `cached_tokens` move together: vary one without the other";
            return refused(message.into());
        };
        let degrees = points.len() - unknowns;
        let t = t_quantile(0.95, degrees);
        let estimate = |index: usize, unit: f64| Estimate {
            mean: line.solution[index] * unit,
            half_width: Some(t * (line.variance * line.inverse[index][index]).sqrt() * unit),
        };
        let per_token = 1e3 / scale;
        let law = |point: &Latency| dot(&row(point), &line.solution);
        Ok(Self {
            overhead_ms: estimate(0, 1.0),
            per_uncached_us: estimate(1, per_token),
            per_cached_us: cached.then(|| estimate(2, per_token)),
            noise_sigma: noise(points, law, degrees),
            largest_residual_ms: points.iter().map(|p| (p.ttft_ms - law(p)).abs()).fold(0.0, f64::max),
            points: points.len(),
            correlation: line.inverse[0][1] / (line.inverse[0][0] * line.inverse[1][1]).sqrt(),
        })
    }
}

/// How many runs a point is the mean of; 1 where nobody says.
fn runs(point: &Latency) -> f64 {
    if let Runs::Mean(count) = point.runs { count } else { 1.0 }
}

/// A solution of least squares.
struct Line {
    solution: Vec<f64>,
    /// Of the normal matrix: the covariance of the solution, for a variance of 1.
    inverse: Vec<Vec<f64>>,
    /// Of what weighs 1.
    variance: f64,
}

/// Least squares of rows with their results, weighed; `None` if the rows leave a number open.
fn weighted(rows: &[(Vec<f64>, f64)], weights: &[f64]) -> Option<Line> {
    let size = rows[0].0.len();
    let sum = |of: &dyn Fn(&[f64], f64) -> f64| -> f64 {
        rows.iter().zip(weights).map(|((row, result), weight)| weight * of(row, *result)).sum()
    };
    let matrix: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| sum(&|row, _| row[i] * row[j])).collect()).collect();
    let right: Vec<f64> = (0..size).map(|i| sum(&|row, result| row[i] * result)).collect();
    let inverse = inverse(&matrix)?;
    let solution: Vec<f64> = inverse.iter().map(|line| dot(line, &right)).collect();
    let squares = sum(&|row, result| squared(result - dot(row, &solution)));
    Some(Line { variance: squares / (rows.len() - size) as f64, solution, inverse })
}

/// Least squares where the noise is a share of the result.
fn reweighted(rows: &[(Vec<f64>, f64)], runs: &[f64]) -> Option<Line> {
    let total: f64 = rows.iter().zip(runs).map(|((_, result), runs)| runs * result).sum();
    let mean = total / runs.iter().sum::<f64>();
    let mut line = weighted(rows, runs)?;
    // Results of nothing but zero have no noise.
    for _ in 0..if mean > 0.0 { TURNS } else { 0 } {
        let weight = |((row, _), runs): (&(Vec<f64>, f64), &f64)| {
            runs * squared(mean / dot(row, &line.solution).max(LEAST_SHARE * mean))
        };
        line = weighted(rows, &rows.iter().zip(runs).map(weight).collect::<Vec<_>>())?;
    }
    Some(line)
}

/// The noise of single runs, from the spread of the logarithms. A mean of n runs spreads by a root of n less.
fn noise(points: &[Latency], law: impl Fn(&Latency) -> f64, degrees: usize) -> Option<f64> {
    let of = |point: &Latency| {
        let known = point.runs != Runs::Unknown && point.ttft_ms > 0.0 && law(point) > 0.0;
        known.then(|| runs(point) * squared(libm::log(point.ttft_ms / law(point))))
    };
    let squares: f64 = points.iter().map(of).sum::<Option<f64>>()?;
    Some((squares / degrees as f64).sqrt())
}

fn squared(value: f64) -> f64 {
    value * value
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The inverse by elimination with the largest pivot; `None` if there is none.
fn inverse(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let size = matrix.len();
    let mut left = matrix.to_vec();
    let mut right: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let largest = matrix.iter().flatten().fold(0.0, |most: f64, cell| most.max(cell.abs()));
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| left[*a][column].abs().total_cmp(&left[*b][column].abs()))?;
        if left[pivot][column].abs() <= 1e-12 * largest {
            return None;
        }
        left.swap(column, pivot);
        right.swap(column, pivot);
        let divisor = left[column][column];
        left[column].iter_mut().chain(&mut right[column]).for_each(|cell| *cell /= divisor);
        let (pivot_left, pivot_right) = (left[column].clone(), right[column].clone());
        for line in (0..size).filter(|line| *line != column) {
            let factor = left[line][column];
            left[line].iter_mut().zip(&pivot_left).for_each(|(cell, pivot)| *cell -= factor * pivot);
            right[line].iter_mut().zip(&pivot_right).for_each(|(cell, pivot)| *cell -= factor * pivot);
        }
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, SessionKey};

    fn point(uncached_tokens: f64, cached_tokens: f64, ttft_ms: f64, runs: Runs) -> Latency {
        Latency { uncached_tokens, cached_tokens, ttft_ms, runs }
    }

    #[test]
    fn a_line_through_four_points_is_the_one_computed_by_hand() {
        // x = 0, 1, 2, 3, y = 1, 3, 4, 8: slope 2.2, intercept 0.7, residuals .3 .1 -1.1 .7,
        // their squares 1.8, variance .9, squared error of the slope .9 / 5, of the intercept .9 x 14 / 20.
        let rows = [(0.0, 1.0), (1.0, 3.0), (2.0, 4.0), (3.0, 8.0)].map(|(x, y)| (vec![1.0, x], y));
        let line = weighted(&rows, &[1.0; 4]).unwrap();
        let close =
            |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        close(line.solution[0], 0.7);
        close(line.solution[1], 2.2);
        close(line.variance * line.inverse[1][1], 0.9 / 5.0);
        close(line.variance * line.inverse[0][0], 0.9 * 14.0 / 20.0);
    }

    #[test]
    fn intervals_cover_where_the_noise_multiplies() {
        // Thirty prompts of 100 to 300,000 tokens, evenly by magnitude, with a noise of 30 %.
        let held = (0..400).filter(|trial| {
            let draws = SessionKey(5).turn(*trial);
            let observed = |index: u32| {
                let tokens = 100.0 * libm::pow(3_000.0, draws.uniform(Purpose::PromptTokens, index));
                let noise = libm::exp(0.3 * draws.normal(Purpose::Noise, index) - 0.045);
                point(tokens, 0.0, (1_100.0 + 0.02 * tokens) * noise, Runs::One)
            };
            let law = LatencyLaw::fit(&(0..30).map(observed).collect::<Vec<_>>(), "o.csv").unwrap();
            let slope = law.per_uncached_us;
            (slope.mean - 20.0).abs() <= slope.half_width.unwrap()
        });
        let held = held.count();
        assert!(held >= 368, "{held} of 400 within the 95 % interval");
    }

    #[test]
    fn three_numbers_come_back_and_means_weigh_by_their_runs() {
        let law = |u: f64, c: f64| 1_100.0 + 0.02 * u + 0.002 * c;
        let corners = [(0.0, 0.0), (1e5, 0.0), (0.0, 1e5), (1e5, 1e5), (5e4, 2e4)];
        let exact = corners.map(|(u, c)| point(u, c, law(u, c), Runs::Unknown));
        let fitted = LatencyLaw::fit(&exact, "o.csv").unwrap();
        assert!((fitted.overhead_ms.mean - 1_100.0).abs() < 1e-6);
        assert!((fitted.per_uncached_us.mean - 20.0).abs() < 1e-9);
        assert!((fitted.per_cached_us.unwrap().mean - 2.0).abs() < 1e-9);
        assert_eq!(fitted.noise_sigma, None, "means of unknown numbers of runs say nothing of the noise");
        // Twice the same point is one point of two runs.
        let runs = |points: &[(f64, f64, f64)]| {
            let points: Vec<_> = points.iter().map(|(u, y, n)| point(*u, 0.0, *y, Runs::Mean(*n))).collect();
            LatencyLaw::fit(&points, "o.csv").unwrap().per_uncached_us.mean
        };
        let twice = runs(&[(0.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 4.0, 1.0), (3.0, 5.0, 1.0)]);
        assert!((twice - runs(&[(0.0, 1.0, 1.0), (1.0, 4.0, 2.0), (3.0, 5.0, 1.0)])).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_solved_is_said() {
        let error = |points: &[Latency]| LatencyLaw::fit(points, "o.csv").unwrap_err().to_string();
        let flat = [5.0, 6.0, 7.0, 8.0].map(|y| point(10.0, 0.0, y, Runs::One));
        assert!(error(&flat).contains("the same in every row"));
        assert!(error(&flat[..2]).contains("2 points for 2 numbers"));
        let together = [1.0, 2.0, 3.0, 4.0].map(|x| point(x, x, x, Runs::One));
        assert!(error(&together).contains("move together"));
    }
}
