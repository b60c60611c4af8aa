//! What a sample of the keys says of all of them, and how far off that may be.
//!
//! Every session counts, sampled or not, and the sample's totals are raised by the ratio of all sessions to its own
//! (not by the share asked for: that takes out the luck of the draw in how many there were). Keys that are too few to
//! sample are simulated whole and count as they are. The error comes from the spread between groups of keys: the
//! estimate is made again without each of them (the jackknife of random groups: Wolter, Introduction to Variance
//! Estimation, chapters 2 and 4).

use crate::client::sample::{GROUPS, Sample, Share, WHOLE};
use crate::experiment::metrics::{COLUMNS, Column, Row, Summary, statistic};
use crate::experiment::statistics::jackknife;
use crate::units::round_to;

/// How a column of the full run follows from those of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// A sum over requests or keys.
    Total,
    /// A mean, by the total it is a mean over.
    Mean(&'static str),
    /// A mean of times.
    MeanTime,
    /// A quantile of times.
    Quantile,
    /// The ratio of two other columns.
    Ratio(&'static str, &'static str),
    /// A maximum or a wait: the parts do not tell.
    Unknown,
}

impl Scale {
    fn of(column: &Column) -> Self {
        match (column.summary, column.name) {
            (Summary::Ratio(above, below), _) => Self::Ratio(above, below),
            (_, "machines_per_key" | "key_rpm_mean") => Self::Mean("keys"),
            (_, "ttft_mean_ms" | "total_mean_ms") => Self::MeanTime,
            (_, "key_rpm_peak" | "max_in_flight") => Self::Unknown,
            (_, name) if name.starts_with("ttft_p") || name.starts_with("total_p") => Self::Quantile,
            (_, name) if name.ends_with("_ms") => Self::Unknown,
            _ => Self::Total,
        }
    }
}

/// The row of the full run, as a sample has it.
#[derive(Clone, Debug)]
pub struct Estimated {
    /// The estimate.
    pub row: Row,
    /// The estimate again, without each group of the sample.
    pub without: Vec<Row>,
}

/// A share of the time to first token that nobody would miss.
const NEGLIGIBLE: f64 = 0.001;

/// The full run's row from those of what was simulated whole and of each group of the sample, in the order of the
/// groups. Times are left out unless the machines are as busy as in the full run and yet hardly anybody waits: who
/// waits for whom ties the groups together, and their spread would understate the error.
/// `quantiles` gives those of the times in the sample, all its groups together or without one.
pub fn estimate(
    parts: &[Row],
    sample: &Sample,
    is_as_busy: bool,
    quantiles: impl Fn(Option<usize>) -> Row,
) -> Estimated {
    let knows_times = is_as_busy && hardly_wait(parts);
    // Quantiles of two kinds of traffic do not add up.
    let knows_quantiles = knows_times && parts[usize::from(WHOLE)].get("requests") == Some(0.0);
    let without = |left_out: Option<usize>| {
        let is_in = |group: &usize| left_out != Some(*group);
        let taken: u64 = (0..GROUPS).filter(is_in).map(|group| sample.taken[group]).sum();
        let raised = sample.sessions as f64 / taken as f64;
        let mut weights = vec![raised; GROUPS + 1];
        weights[usize::from(WHOLE)] = 1.0;
        if let Some(group) = left_out {
            weights[group + 1] = 0.0;
        }
        let quantiles = knows_quantiles.then(|| quantiles(left_out));
        match taken {
            0 => Row(vec![None; COLUMNS.len()]),
            _ => raise(parts, &weights, knows_times, quantiles.as_ref()),
        }
    };
    Estimated { row: without(None), without: (0..GROUPS).map(|group| without(Some(group))).collect() }
}

/// Whether waits are a negligible part of the times to first token.
fn hardly_wait(parts: &[Row]) -> bool {
    let sum = |name: &str| -> f64 {
        parts.iter().filter_map(|part| Some(part.get(name)? * part.get("requests")?)).sum()
    };
    sum("wait_mean_ms") <= NEGLIGIBLE * sum("ttft_mean_ms")
}

/// The parts put together, each by its weight.
fn raise(parts: &[Row], weights: &[f64], knows_times: bool, quantiles: Option<&Row>) -> Row {
    let weighted = || parts.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    // A part without requests misses what others have, and adds nothing to it.
    let sum = |of: &dyn Fn(&Row) -> Option<f64>| {
        let values = weighted().filter_map(|(part, weight)| Some(weight * of(part)?));
        values.reduce(|sum, value| sum + value)
    };
    let total = |name: &str| sum(&|part| part.get(name));
    let share = |above: Option<f64>, below: Option<f64>| Some(above? / below.filter(|below| *below != 0.0)?);
    let mean = |name: &str, over: &str| {
        let above = sum(&|part| Some(part.get(name)? * part.get(over)?));
        let below = sum(&|part| part.get(name).and(part.get(over)));
        share(above, below)
    };
    let value = |column: &Column| match Scale::of(column) {
        Scale::Total => total(column.name),
        Scale::Mean(over) => mean(column.name, over),
        Scale::MeanTime => mean(column.name, "requests").filter(|_| knows_times),
        Scale::Quantile => quantiles.and_then(|quantiles| quantiles.get(column.name)),
        Scale::Ratio(above, below) => share(total(above), total(below)),
        Scale::Unknown => None,
    };
    Row(COLUMNS.iter().map(|column| value(column).map(|value| round_to(value, 6))).collect())
}

/// Half the width of the 95 % interval around what the full run of the same seeds would say, over replications. Groups
/// are left out of all of them together: they are as good as independent, and so is each group of one from all others.
pub fn half_width(replications: &[&Estimated], share: Share, name: &str) -> Option<f64> {
    let value = |row: &dyn Fn(&Estimated) -> &Row| {
        let rows: Vec<_> = replications.iter().map(|estimated| row(estimated)).collect();
        statistic(&rows, name)?.of(None)
    };
    let estimate = jackknife(GROUPS, |left_out| match left_out {
        None => value(&|estimated| &estimated.row),
        Some(group) => value(&|estimated| &estimated.without[group]),
    })?;
    // What has been simulated of the keys has no error: none is left when all are.
    Some(estimate.half_width? * (1.0 - share.value()).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_scale() {
        for column in COLUMNS {
            let is_total = ["requests", "tokens", "usd", "keys", "lines"]
                .iter()
                .any(|unit| column.name == *unit || column.name.ends_with(&format!("_{unit}")));
            assert_eq!(Scale::of(column) == Scale::Total, is_total, "{}", column.name);
        }
    }
}
