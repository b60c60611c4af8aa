//! What a recommendation is to be best at, and what it must keep to.

use std::fmt;
use std::str::FromStr;

use crate::experiment::metrics::{Row, Statistic, statistic};
use crate::experiment::statistics::{Estimate, jackknife};
use crate::units::Span;

/// A number of a run that a choice is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name: cost, token_hit_ratio, request_hit_ratio, or ttft_ or total_ with mean, p50, p90, p95, p99.
    pub name: String,
    column: String,
    /// What it is measured in.
    pub unit: Unit,
}

/// Units of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share of one: more is better.
    Share,
    /// USD a day: less is better.
    UsdPerDay,
    /// Seconds: less is better.
    Seconds,
    /// Several metrics relative to the first choice's, weighted: less is better.
    Relative,
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_string();
        let timed = name.strip_prefix("ttft_").or(name.strip_prefix("total_"));
        let (column, unit) = match (name.as_str(), timed) {
            ("cost", _) => ("cost_usd".to_string(), Unit::UsdPerDay),
            ("token_hit_ratio" | "request_hit_ratio", _) => (name.clone(), Unit::Share),
            (_, Some("mean" | "p50" | "p90" | "p95" | "p99")) => (format!("{name}_ms"), Unit::Seconds),
            _ => {
                return Err(format!(
                    "`{name}` is no metric: write cost, token_hit_ratio, request_hit_ratio, or ttft_ or total_ with mean, p50, p90, p95 or p99"
                ));
            }
        };
        Ok(Self { name, column, unit })
    }
}

impl Metric {
    /// Whether more of it is better.
    fn more_is_better(&self) -> bool {
        self.unit == Unit::Share
    }

    /// From the unit of its column to its own; `day` is how often the counted part of a run fits into a day.
    fn scale(&self, day: f64) -> f64 {
        match self.unit {
            Unit::UsdPerDay => day,
            Unit::Seconds => 1e-3,
            Unit::Share | Unit::Relative => 1.0,
        }
    }

    /// Its estimate from some replications.
    pub fn estimate(&self, rows: &[&Row], day: f64) -> Option<Estimate> {
        let statistic = statistic(rows, &self.column)?;
        Some(jackknife(rows.len(), |left_out| statistic.of(left_out))?.scaled(self.scale(day)))
    }
}

/// What is to be as small as possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The metrics with their weights; a single one counts as it is.
    terms: Vec<(Metric, f64)>,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(inside) = text.trim().strip_prefix("weighted") else {
            return Ok(Self { terms: vec![(text.parse()?, 1.0)] });
        };
        let inside = inside.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let form = "write weighted(cost: 0.7, ttft_p95: 0.3)";
        let term = |part: &str| {
            let (metric, weight) = part.split_once(':').ok_or_else(|| format!("`{text}`: {form}"))?;
            let weight =
                weight.trim().parse().ok().filter(|weight: &f64| *weight > 0.0 && weight.is_finite());
            Ok((metric.parse()?, weight.ok_or_else(|| format!("`{text}`: weights are above zero; {form}"))?))
        };
        let terms = inside.ok_or_else(|| format!("`{text}`: {form}"))?.split(',').map(term);
        Ok(Self { terms: terms.collect::<Result<_, String>>()? })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.terms.as_slice() {
            [(metric, _)] => f.write_str(&metric.name),
            terms => {
                let words: Vec<_> =
                    terms.iter().map(|(metric, weight)| format!("{}: {weight}", metric.name)).collect();
                write!(f, "weighted({})", words.join(", "))
            }
        }
    }
}

impl Objective {
    /// What it is measured in.
    pub fn unit(&self) -> Unit {
        match self.terms.as_slice() {
            [(metric, _)] => metric.unit,
            _ => Unit::Relative,
        }
    }

    /// Whether more of it is better: then its losses, not its values, are made small.
    pub fn more_is_better(&self) -> bool {
        matches!(self.terms.as_slice(), [(metric, _)] if metric.more_is_better())
    }

    /// What each term is multiplied with, so that less is better and terms are comparable; `reference` is the
    /// choice that several terms are relative to.
    pub fn scales(&self, reference: &[&Row], day: f64) -> Option<Vec<f64>> {
        let scale = |(metric, weight): &(Metric, f64)| {
            let sign = if metric.more_is_better() { -1.0 } else { 1.0 };
            if self.terms.len() == 1 {
                return Some(sign * metric.scale(day));
            }
            let one = statistic(reference, &metric.column)?.of(None)?.abs();
            (one > 0.0).then_some(sign * weight / one)
        };
        self.terms.iter().map(scale).collect()
    }

    /// The estimate of some replications, in the objective's own sense (a hit ratio as it is).
    pub fn estimate(&self, rows: &[&Row], scales: &[f64]) -> Option<Estimate> {
        let sign = if self.more_is_better() { -1.0 } else { 1.0 };
        Some(jackknife(rows.len(), self.value(rows, scales)?)?.scaled(sign))
    }

    /// How much worse some replications are than others of the same seeds (common random numbers).
    pub fn worse_by(&self, rows: &[&Row], others: &[&Row], scales: &[f64]) -> Option<Estimate> {
        let (these, those) = (self.value(rows, scales)?, self.value(others, scales)?);
        jackknife(rows.len().min(others.len()), |left_out| Some(these(left_out)? - those(left_out)?))
    }

    /// The sum of its scaled terms over all replications, or all but one: less is better.
    fn value(&self, rows: &[&Row], scales: &[f64]) -> Option<impl Fn(Option<usize>) -> Option<f64>> {
        let statistics: Vec<Statistic> =
            self.terms.iter().map(|(metric, _)| statistic(rows, &metric.column)).collect::<Option<_>>()?;
        let scales = scales.to_vec();
        Some(move |left_out| {
            let terms = statistics.iter().zip(&scales);
            terms.map(|(statistic, scale)| Some(statistic.of(left_out)? * scale)).sum()
        })
    }
}

/// A bound on a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// What is bounded.
    pub metric: Metric,
    /// Whether it must be below the bound; above it otherwise.
    pub below: bool,
    /// The bound, in the metric's unit.
    pub bound: f64,
}

impl FromStr for Constraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write a metric, < or >, and a bound: \"ttft_p95 < 3s\", \"token_hit_ratio > 0.8\", \"cost < 20\" (USD a day)";
        let below = text.contains('<');
        let (metric, bound) =
            text.split_once(['<', '>']).ok_or_else(|| format!("`{text}` is no constraint: {form}"))?;
        let metric: Metric = metric.parse()?;
        let bound = bound.trim_start_matches('=').trim();
        let number = match metric.unit {
            Unit::Seconds => bound.parse::<Span>()?.seconds(),
            _ => bound
                .parse()
                .ok()
                .filter(|bound: &f64| bound.is_finite())
                .ok_or_else(|| format!("`{bound}` is no number: {form}"))?,
        };
        Ok(Self { metric, below, bound: number })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.below { "<" } else { ">" };
        let unit = if self.metric.unit == Unit::Seconds { "s" } else { "" };
        write!(f, "{} {sign} {}{unit}", self.metric.name, self.bound)
    }
}

impl Constraint {
    /// Whether some replications keep to it; `None` where their 95 % interval lies on both sides of the bound.
    pub fn holds(&self, rows: &[&Row], day: f64) -> Option<bool> {
        let Estimate { mean, half_width } = self.metric.estimate(rows, day)?;
        let half_width = half_width.unwrap_or(0.0);
        let (low, high) = (mean - half_width, mean + half_width);
        let (kept, broken) = match self.below {
            true => (high <= self.bound, low > self.bound),
            false => (low >= self.bound, high < self.bound),
        };
        (kept || broken).then_some(kept)
    }

    /// Two constraints that nothing can keep to at once.
    pub fn contradiction(all: &[Self]) -> Option<(&Self, &Self)> {
        let apart = |upper: &Self, lower: &Self| {
            upper.below && !lower.below && upper.metric == lower.metric && upper.bound <= lower.bound
        };
        all.iter().find_map(|upper| Some((upper, all.iter().find(|lower| apart(upper, lower))?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_and_constraints_are_read_and_shown() {
        for text in ["cost", "ttft_p95", "token_hit_ratio", "weighted(cost: 0.7, ttft_p95: 0.3)"] {
            assert_eq!(text.parse::<Objective>().unwrap().to_string(), text);
        }
        for text in ["price", "ttft", "weighted(cost)", "weighted(cost: 0)", "weighted"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
        for (text, shown) in [
            ("ttft_p95 < 3s", "ttft_p95 < 3s"),
            ("ttft_p95<=500ms", "ttft_p95 < 0.5s"),
            ("token_hit_ratio > 0.8", "token_hit_ratio > 0.8"),
        ] {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), shown);
        }
        for text in ["ttft_p95", "ttft_p95 < 3", "cost < cheap", "hits > 1"] {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_below_another_contradicts_it() {
        let all = |texts: &[&str]| -> Vec<Constraint> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        assert!(Constraint::contradiction(&all(&["ttft_p95 < 1s", "ttft_p95 > 2s"])).is_some());
        assert!(Constraint::contradiction(&all(&["ttft_p95 < 3s", "ttft_p95 > 2s", "cost < 1"])).is_none());
    }
}
