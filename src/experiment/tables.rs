//! What a sweep writes: `cells.csv`, `summary.csv`; over bucket counts the two tables of the public study; over constant
//! lifetimes from 5 to 60 minutes the mean over an unknown one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::error::Result;
use crate::experiment::metrics::{COLUMNS, COMPARED, Row, paired_difference, summarize};
use crate::experiment::results::{number, write_read_csv};
use crate::experiment::statistics::Estimate;
use crate::experiment::sweep::{CellRows, Outline};
use crate::experiment::unknown_lifetime::{self, AVERAGED, Average, Unknown};
use crate::units::round_to;

/// Where the bucket count of a keying strategy stands.
const CARDINALITY: &str = "client.key.buckets";

/// Writes one table to a path.
pub type Writer = fn(&Outline, &dyn CellRows, &Path) -> Result<()>;

/// The tables of a sweep, with their places in a folder.
pub fn tables_of(outline: &Outline, folder: &Path) -> impl Iterator<Item = (PathBuf, Writer)> {
    let always: [(&str, Writer); 2] = [("cells.csv", write_cells), ("summary.csv", write_summary)];
    let study: [(&str, Writer); 2] = [
        ("cache_hit_ratio_vs_cardinality.csv", |outline, rows, path| {
            write_study(outline, rows, path, "cache_hit_ratio")
        }),
        ("ttft_p95_vs_cardinality.csv", |outline, rows, path| {
            write_study(outline, rows, path, "ttft_p95_ms")
        }),
    ];
    let unknown: [(&str, Writer); 1] = [("lifetime_unknown.csv", write_unknown_lifetime)];
    let over_buckets = outline.axes.iter().any(|axis| axis == CARDINALITY);
    let over_lifetimes = unknown_lifetime::is_covered(outline);
    let tables = always
        .into_iter()
        .chain(study.into_iter().filter(move |_| over_buckets))
        .chain(unknown.into_iter().filter(move |_| over_lifetimes));
    tables.map(|(name, write)| (folder.join(name), write))
}

/// A value as it stands in a CSV cell.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An enum as it is written in a file.
pub fn word(choice: &impl serde::Serialize) -> String {
    Value::try_from(choice).map_or(String::new(), |value| plain(&value))
}

/// The last keys of the paths, as many as tell them apart: the rest is noise in a table or a chart.
pub fn short_names(paths: &[String]) -> Vec<String> {
    short_names_beside(paths, &[])
}

/// The same, where some names are taken: by the metrics that stand beside the axes in a table.
pub fn short_names_beside(paths: &[String], taken: &[&str]) -> Vec<String> {
    let last = |path: &str, keys: usize| {
        let all: Vec<_> = path.split('.').collect();
        all[all.len().saturating_sub(keys)..].join(".")
    };
    let name = |path: &String| {
        let unique = |keys: &usize| {
            let name = last(path, *keys);
            paths.iter().filter(|other| last(other, *keys) == name).count() == 1
                && !taken.contains(&name.as_str())
        };
        (1..8).find(unique).map_or(path.clone(), |keys| last(path, keys))
    };
    paths.iter().map(name).collect()
}

/// One row for each cell and seed.
fn write_cells(outline: &Outline, rows: &dyn CellRows, path: &Path) -> Result<()> {
    let mut header = vec!["cell".to_string()];
    header.extend(outline.axes.iter().cloned());
    header.push("seed".into());
    header.extend(COLUMNS.iter().map(|column| column.name.to_string()));
    let lines_of = |index: usize| {
        let rows = match rows.of_cell(index) {
            Ok(rows) => rows,
            Err(error) => return vec![Err(error)],
        };
        let values: Vec<_> = outline.values(index).iter().map(plain).collect();
        let line = |(seed, row): (u64, Row)| {
            let numbers = row.0.iter().map(|value| number(*value));
            let mut line = vec![index.to_string()];
            line.extend(values.iter().cloned().chain([seed.to_string()]).chain(numbers));
            Ok(line)
        };
        (outline.base.scenario.seed..).zip(rows).map(line).collect()
    };
    write_read_csv(path, &header, (0..outline.cells()).flat_map(lines_of))
}

/// One row for each cell: every metric's mean and half-width, then the differences to the baseline.
fn write_summary(outline: &Outline, rows: &dyn CellRows, path: &Path) -> Result<()> {
    let mut header = vec!["cell".to_string()];
    header.extend(outline.axes.iter().cloned());
    header.push("seeds".into());
    let with_interval = |name: String| [name.clone(), format!("{name}_ci95")];
    header.extend(COLUMNS.iter().flat_map(|column| with_interval(column.name.to_string())));
    if outline.has_baseline() {
        header.extend(COMPARED.iter().flat_map(|name| with_interval(format!("{name}_vs_baseline"))));
    }
    let line = |index: usize| {
        let mut line = vec![index.to_string()];
        line.extend(outline.values(index).iter().map(plain));
        let of_cell = rows.of_cell(index)?;
        line.push(of_cell.len().to_string());
        let of_cell: Vec<_> = of_cell.iter().collect();
        for column in COLUMNS {
            line.extend(estimate_fields(summarize(&of_cell, column.name)));
        }
        if let Some(baseline) = outline.baseline_of(index) {
            let of_baseline = rows.of_cell(baseline)?;
            let of_baseline: Vec<_> = of_baseline.iter().collect();
            for name in COMPARED {
                line.extend(estimate_fields(paired_difference(&of_cell, &of_baseline, name)));
            }
        }
        Ok(line)
    };
    write_read_csv(path, &header, (0..outline.cells()).map(line))
}

/// Mean and half-width as CSV fields.
fn estimate_fields(estimate: Option<Estimate>) -> [String; 2] {
    let rounded = |value: Option<f64>| number(value.map(|value| round_to(value, 6)));
    [rounded(estimate.map(|e| e.mean)), rounded(estimate.and_then(|e| e.half_width))]
}

/// One row for each group of cells that differ in a constant lifetime alone: means, with their half-widths, over a
/// lifetime that is unknown but the same for all requests, anywhere from 5 to 60 minutes.
fn write_unknown_lifetime(outline: &Outline, rows: &dyn CellRows, path: &Path) -> Result<()> {
    let average = Average::of(outline);
    let swept = average.as_ref().map(|average| average.lifetimes.axis);
    let others: Vec<_> = (0..outline.axes.len()).filter(|axis| Some(*axis) != swept).collect();
    let mut header: Vec<_> = others.iter().map(|axis| outline.axes[*axis].clone()).collect();
    header.extend(["lifetimes".to_string(), "seeds".to_string()]);
    header.extend(AVERAGED.iter().flat_map(|name| [name.to_string(), format!("{name}_ci95")]));
    let line = |unknown: Result<Unknown>| {
        let Unknown { cell, swept, means } = unknown?;
        let values = outline.values(cell);
        let mut line: Vec<_> = others.iter().map(|axis| plain(&values[*axis])).collect();
        line.extend([swept.to_string(), outline.seeds.to_string()]);
        line.extend(means.iter().flat_map(|mean| estimate_fields(*mean)));
        Ok(line)
    };
    write_read_csv(path, &header, average.iter().flat_map(|average| average.groups(rows)).map(line))
}

/// The columns of the public bucketing study after retention and cardinality, in its order, and where ours come from;
/// a sum of two columns is written with a plus.
const STUDY: [(&str, &str); 6] = [
    ("cache_hit_ratio", "token_hit_ratio"),
    ("ttft_p95_ms", "ttft_p95_ms"),
    ("n_steady_state_records", "requests"),
    ("n_records", "requests+warmup_requests"),
    ("realized_admitted_per_bucket_rpm", "key_rpm_mean"),
    ("max_in_flight_observed", "max_in_flight"),
];

/// What we add at its end.
const BESIDE: [&str; 3] = ["total_p95_ms", "request_hit_ratio", "ceiling_lifetime_ratio"];

/// Hit ratio and latency against cardinality, in the shape of the public study: its columns first, then ours, then the
/// half-width of the column the file is named for, then the further axes.
fn write_study(outline: &Outline, rows: &dyn CellRows, path: &Path, named: &str) -> Result<()> {
    let own = ["client.retention", CARDINALITY];
    let further: Vec<_> =
        (0..outline.axes.len()).filter(|axis| !own.contains(&outline.axes[*axis].as_str())).collect();
    let mut header = vec!["retention".to_string(), "cardinality".to_string()];
    header.extend(STUDY.iter().map(|(name, _)| name.to_string()));
    header.push("namespace".into());
    header.extend(BESIDE.map(String::from));
    header.push(format!("{named}_ci95"));
    header.extend(further.iter().map(|axis| outline.axes[*axis].clone()));
    let mut keys = Keys::new(outline);
    let line = |index: usize| {
        let rows = rows.of_cell(index)?;
        let rows: Vec<_> = rows.iter().collect();
        let estimate = |name: &str| estimate_fields(summarize(&rows, name));
        let sum = |names: &str| {
            let means = names.split('+').map(|name| summarize(&rows, name).map(|estimate| estimate.mean));
            number(means.sum::<Option<f64>>().map(|sum| round_to(sum, 6)))
        };
        let [retention, buckets] = keys.of(index)?;
        let mut line = vec![retention, buckets];
        line.extend(STUDY.iter().map(|(_, ours)| sum(ours)));
        line.push(outline.name.clone());
        line.extend(BESIDE.map(sum));
        let (_, ours) = STUDY.iter().find(|(name, _)| *name == named).expect("a column of the study");
        line.push(estimate(ours)[1].clone());
        let values = outline.values(index);
        line.extend(further.iter().map(|axis| plain(&values[*axis])));
        Ok(line)
    };
    write_read_csv(path, &header, (0..outline.cells()).map(line))
}

/// The first two columns of the study for every cell. Few cells are made for it: one for each combination of the values
/// that have a say in them.
struct Keys<'a> {
    outline: &'a Outline,
    /// The axes that have one.
    axes: Vec<usize>,
    known: BTreeMap<Vec<usize>, [String; 2]>,
}

impl<'a> Keys<'a> {
    fn new(outline: &'a Outline) -> Self {
        let says = ["retention", "zero_data_retention", "profile", "model", "models"];
        let has_a_say = |axis: &usize| {
            let path = &outline.axes[*axis];
            let is_table = |value: &Value| value.is_table();
            path == CARDINALITY
                || path.split('.').any(|key| says.contains(&key))
                || outline.values_of(*axis).iter().any(is_table)
        };
        let axes = (0..outline.axes.len()).filter(has_a_say).collect();
        Self { outline, axes, known: BTreeMap::new() }
    }

    /// Retention and number of buckets.
    fn of(&mut self, cell: usize) -> Result<[String; 2]> {
        let positions: Vec<_> = self.axes.iter().map(|axis| self.outline.position(cell, *axis)).collect();
        if let Some(known) = self.known.get(&positions) {
            return Ok(known.clone());
        }
        let loaded = self.outline.cell(cell)?.loaded;
        let client = &loaded.scenario.client;
        let retention = client.workload.values().next().map_or("", |workload| loaded.policy(workload));
        let keys = [retention.to_string(), client.key.buckets.to_string()];
        self.known.insert(positions, keys.clone());
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_axes_are_as_short_as_they_can_be() {
        let axes =
            ["client.workload.a.key.buckets", "client.workload.b.key.buckets", "provider.routing.rule"];
        let axes = axes.map(String::from);
        assert_eq!(short_names(&axes), ["a.key.buckets", "b.key.buckets", "rule"]);
        let beside = short_names_beside(&axes, &["rule", "overflow"]);
        assert_eq!(beside, ["a.key.buckets", "b.key.buckets", "routing.rule"]);
    }
}
