//! Time to first token as `overhead + a x uncached + b x cached`, by least squares with intervals.

use crate::error::{Error, Result};
use crate::experiment::observations::{Latency, Runs};
use crate::experiment::statistics::{Estimate, t_quantile};

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
    /// The law of these points, each weighed with the number of runs behind it.
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
        let Some(inverse) = inverse(&normal_matrix(points, row, unknowns)) else {
            let message = "`uncached_tokens` and `cached_tokens` move together: vary one without the other";
            return refused(message.into());
        };
        let right: Vec<f64> = (0..unknowns)
            .map(|i| points.iter().map(|point| weight(point) * row(point)[i] * point.ttft_ms).sum())
            .collect();
        let solution: Vec<f64> = inverse.iter().map(|line| dot(line, &right)).collect();
        let law = |point: &Latency| dot(&row(point), &solution);
        let degrees = points.len() - unknowns;
        let squares: f64 = points.iter().map(|p| weight(p) * squared(p.ttft_ms - law(p))).sum();
        let variance = squares / degrees as f64;
        let t = t_quantile(0.95, degrees);
        let estimate = |index: usize, unit: f64| Estimate {
            mean: solution[index] * unit,
            half_width: Some(t * (variance * inverse[index][index]).sqrt() * unit),
        };
        let per_token = 1e3 / scale;
        Ok(Self {
            overhead_ms: estimate(0, 1.0),
            per_uncached_us: estimate(1, per_token),
            per_cached_us: cached.then(|| estimate(2, per_token)),
            noise_sigma: noise(points, law, degrees),
            largest_residual_ms: points.iter().map(|p| (p.ttft_ms - law(p)).abs()).fold(0.0, f64::max),
            points: points.len(),
            correlation: inverse[0][1] / (inverse[0][0] * inverse[1][1]).sqrt(),
        })
    }
}

/// How much a point weighs: as many runs as it is the mean of.
fn weight(point: &Latency) -> f64 {
    if let Runs::Mean(count) = point.runs { count } else { 1.0 }
}

/// The noise of single runs, from the spread of the logarithms. A mean of n runs spreads by a root of n less.
fn noise(points: &[Latency], law: impl Fn(&Latency) -> f64, degrees: usize) -> Option<f64> {
    let of = |point: &Latency| {
        let known = point.runs != Runs::Unknown && point.ttft_ms > 0.0 && law(point) > 0.0;
        known.then(|| weight(point) * squared(libm::log(point.ttft_ms / law(point))))
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

fn normal_matrix(points: &[Latency], row: impl Fn(&Latency) -> Vec<f64>, size: usize) -> Vec<Vec<f64>> {
    let mut matrix = vec![vec![0.0; size]; size];
    for point in points {
        let row = row(point);
        for (line, left) in matrix.iter_mut().zip(&row) {
            for (cell, right) in line.iter_mut().zip(&row) {
                *cell += weight(point) * left * right;
            }
        }
    }
    matrix
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

    fn point(uncached_tokens: f64, cached_tokens: f64, ttft_ms: f64, runs: Runs) -> Latency {
        Latency { uncached_tokens, cached_tokens, ttft_ms, runs }
    }

    #[test]
    fn a_line_through_four_points_is_the_one_computed_by_hand() {
        // x = 0, 1, 2, 3 (thousands), y = 1, 3, 4, 8 (hundreds): slope 2.2, intercept 0.7, residuals .3 .1 -1.1 .7,
        // their squares 1.8, variance .9, error of the slope sqrt(.9 / 5), of the intercept sqrt(.9 x 14 / 20).
        let points = [(0.0, 100.0), (1e3, 300.0), (2e3, 400.0), (3e3, 800.0)];
        let law = LatencyLaw::fit(&points.map(|(x, y)| point(x, 0.0, y, Runs::One)), "o.csv").unwrap();
        let close =
            |value: f64, expected: f64| assert!((value - expected).abs() < 1e-3, "{value} {expected}");
        let t = 4.302_653;
        close(law.overhead_ms.mean, 70.0);
        close(law.per_uncached_us.mean, 220.0);
        close(law.per_uncached_us.half_width.unwrap(), 100.0 * t * (0.9f64 / 5.0).sqrt());
        close(law.overhead_ms.half_width.unwrap(), 100.0 * t * (0.9f64 * 14.0 / 20.0).sqrt());
        close(law.largest_residual_ms, 110.0);
        assert_eq!((law.per_cached_us, law.points), (None, 4));
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
