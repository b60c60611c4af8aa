//! What comes out over a lifetime that is constant but unknown.
//!
//! Providers say that an unused prefix is kept for 5 to 60 minutes, and no more. If one lifetime in that range holds for
//! all requests and each is as likely as any other, the expected result is the mean of a swept curve over it: an
//! integral, by the trapezoid rule over the swept values. A lifetime that every request draws anew (`uniform(5m..60m)`)
//! is another model: there the longest of several expiries counts, not the latest touch.

use crate::error::Result;
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::metrics::{Row, summarize_weighted};
use crate::experiment::statistics::Estimate;
use crate::experiment::sweep::{CellRows, Outline};
use crate::units::Span;

/// The shortest and the longest lifetime that are possible.
pub const POSSIBLE: (Span, Span) = (Span::from_seconds(5 * 60), Span::from_seconds(60 * 60));

/// The metrics that are averaged.
pub const AVERAGED: [&str; 3] = ["token_hit_ratio", "request_hit_ratio", "cost_usd"];

/// One group of cells, averaged over its lifetimes.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// A cell of the group: it has the group's values on all other axes.
    pub cell: usize,
    /// Swept lifetimes within the possible range.
    pub swept: usize,
    /// The means, in the order of [`AVERAGED`].
    pub means: [Option<Estimate>; AVERAGED.len()],
}

/// How a sweep over constant lifetimes is averaged.
#[derive(Clone, Debug)]
pub struct Average {
    /// The axis.
    pub lifetimes: Lifetimes,
    /// The weight of each of its values.
    weights: Vec<f64>,
    /// How many of them are possible.
    possible: usize,
}

impl Average {
    /// That of a sweep; `None` where no axis of lifetimes covers the possible ones.
    pub fn of(outline: &Outline) -> Option<Self> {
        let lifetimes = Lifetimes::of(outline)?;
        let weights = weights(&lifetimes.lifetimes, POSSIBLE)?;
        let is_possible = |lifetime: &&Span| (POSSIBLE.0..=POSSIBLE.1).contains(*lifetime);
        let possible = lifetimes.lifetimes.iter().filter(is_possible).count();
        Some(Self { lifetimes, weights, possible })
    }

    /// For every group of cells that differ in a constant lifetime alone its means over the possible ones.
    pub fn groups<'a>(&'a self, rows: &'a dyn CellRows) -> impl Iterator<Item = Result<Unknown>> + 'a {
        self.lifetimes.groups().map(|group| self.group(&group, rows))
    }

    fn group(&self, group: &[usize], rows: &dyn CellRows) -> Result<Unknown> {
        let weighted = self.weights.iter().zip(group).filter(|(weight, _)| **weight > 0.0);
        let read = |(weight, cell): (&f64, &usize)| Ok((*weight, rows.of_cell(*cell)?));
        let read: Vec<(f64, Vec<Row>)> = weighted.map(read).collect::<Result<_>>()?;
        let weighted: Vec<(f64, Vec<&Row>)> =
            read.iter().map(|(weight, rows)| (*weight, rows.iter().collect())).collect();
        let means = AVERAGED.map(|name| summarize_weighted(&weighted, name));
        Ok(Unknown { cell: group[0], swept: self.possible, means })
    }
}

/// Whether an axis of a sweep covers all possible lifetimes.
pub fn is_covered(outline: &Outline) -> bool {
    Average::of(outline).is_some()
}

/// The weight of each swept lifetime in the mean over a range, by the trapezoid rule on the straight lines between
/// them: so that the ends of the range, where they were not swept, are interpolated. `None` if the range is not covered.
pub fn weights(swept: &[Span], (from, to): (Span, Span)) -> Option<Vec<f64>> {
    let mut order: Vec<usize> = (0..swept.len()).collect();
    order.sort_by_key(|index| swept[*index]);
    let (first, last) = (*order.first()?, *order.last()?);
    if swept[first] > from || swept[last] < to {
        return None;
    }
    let mut weights = vec![0.0; swept.len()];
    for pair in order.windows(2) {
        let [low, high] = [pair[0], pair[1]];
        let (begin, end) = (swept[low].max(from), swept[high].min(to));
        if begin >= end {
            continue;
        }
        // The mean of a straight line over a part is its value at the middle of the part.
        let middle = (begin.seconds() + end.seconds()) / 2.0;
        let high_share = (middle - swept[low].seconds()) / (swept[high] - swept[low]).seconds();
        let share = (end - begin).seconds() / (to - from).seconds();
        weights[low] += share * (1.0 - high_share);
        weights[high] += share * high_share;
    }
    Some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(values: &[u64]) -> Vec<Span> {
        values.iter().map(|minutes| Span::from_seconds(60 * minutes)).collect()
    }

    fn mean(swept: &[Span], curve: impl Fn(f64) -> f64) -> f64 {
        let weights = weights(swept, POSSIBLE).unwrap();
        swept.iter().zip(weights).map(|(lifetime, weight)| weight * curve(lifetime.seconds())).sum()
    }

    #[test]
    fn straight_lines_are_averaged_exactly_whatever_was_swept() {
        for swept in [&[5, 60][..], &[60, 5], &[1, 7, 90], &[0, 200], &[5, 5, 20, 20, 60], &[4, 6, 59, 61]] {
            let line = mean(&minutes(swept), |seconds| 2.0 + seconds / 60.0);
            assert!((line - 34.5).abs() < 1e-12, "{swept:?}: {line}");
        }
    }

    #[test]
    fn a_range_that_was_not_covered_has_no_mean() {
        for swept in [&[][..], &[5], &[6, 60], &[5, 59], &[70, 80]] {
            assert_eq!(weights(&minutes(swept), POSSIBLE), None);
        }
    }

    #[test]
    fn poisson_calls_hit_as_the_integral_says() {
        // Under a lifetime T a call hits with 1 - e^(-rate T); the mean over T from a to b has this closed form.
        let rate = 1.0 / 1200.0;
        let (a, b) = (300.0, 3600.0);
        let exact = 1.0 - (libm::exp(-rate * a) - libm::exp(-rate * b)) / (rate * (b - a));
        let every_minute = minutes(&(3..=70).collect::<Vec<_>>());
        let curve = |seconds: f64| 1.0 - libm::exp(-rate * seconds);
        assert!((mean(&every_minute, curve) - exact).abs() < 1e-4);
        // Between few values the chord of a concave curve lies below it, by a little.
        let shipped = minutes(&[4, 5, 7, 10, 15, 20, 30, 40, 50, 60, 120]);
        let below = exact - mean(&shipped, curve);
        assert!((0.0..0.005).contains(&below), "{below}");
    }
}
