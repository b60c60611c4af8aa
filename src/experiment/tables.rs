//! What a sweep writes: `cells.csv`, `summary.csv`; over bucket counts the two tables of the public study; over constant
//! lifetimes from 5 to 60 minutes the mean over an unknown one.

use std::path::{Path, PathBuf};

use toml::Value;

use crate::error::Result;
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::metrics::{COLUMNS, COMPARED, paired_difference, summarize};
use crate::experiment::results::{number, write_csv};
use crate::experiment::statistics::Estimate;
use crate::experiment::sweep::{Plan, Rows};
use crate::experiment::unknown_lifetime::{self, AVERAGED, Unknown};
use crate::units::round_to;

/// Where the bucket count of a keying strategy stands.
const CARDINALITY: &str = "client.key.buckets";

/// Writes one table to a path.
pub type Writer = fn(&Plan, &Rows, &Path) -> Result<()>;

/// The tables of a plan, with their places in a folder.
pub fn tables_of(plan: &Plan, folder: &Path) -> impl Iterator<Item = (PathBuf, Writer)> {
    let always: [(&str, Writer); 2] = [("cells.csv", write_cells), ("summary.csv", write_summary)];
    let study: [(&str, Writer); 2] = [
        ("cache_hit_ratio_vs_cardinality.csv", |plan, rows, path| {
            write_study(plan, rows, path, "cache_hit_ratio")
        }),
        ("ttft_p95_vs_cardinality.csv", |plan, rows, path| write_study(plan, rows, path, "ttft_p95_ms")),
    ];
    let unknown: [(&str, Writer); 1] = [("lifetime_unknown.csv", write_unknown_lifetime)];
    let over_buckets = plan.axes.iter().any(|axis| axis == CARDINALITY);
    let over_lifetimes = unknown_lifetime::is_covered(plan);
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

/// One row for each cell and seed.
fn write_cells(plan: &Plan, rows: &Rows, path: &Path) -> Result<()> {
    let mut header = vec!["cell".to_string()];
    header.extend(plan.axes.iter().cloned());
    header.push("seed".into());
    header.extend(COLUMNS.iter().map(|column| column.name.to_string()));
    let lines = plan.cells.iter().zip(&rows.0).enumerate().flat_map(|(index, (cell, rows))| {
        (cell.loaded.scenario.seed..).zip(rows).map(move |(seed, row)| {
            let mut line = vec![index.to_string()];
            line.extend(cell.values.iter().map(plain));
            line.push(seed.to_string());
            line.extend(row.0.iter().map(|value| number(*value)));
            line
        })
    });
    write_csv(path, &header, lines)
}

/// One row for each cell: every metric's mean and half-width, then the differences to the baseline.
fn write_summary(plan: &Plan, rows: &Rows, path: &Path) -> Result<()> {
    let mut header = vec!["cell".to_string()];
    header.extend(plan.axes.iter().cloned());
    header.push("seeds".into());
    let with_interval = |name: String| [name.clone(), format!("{name}_ci95")];
    header.extend(COLUMNS.iter().flat_map(|column| with_interval(column.name.to_string())));
    if plan.baseline.is_some() {
        header.extend(COMPARED.iter().flat_map(|name| with_interval(format!("{name}_vs_baseline"))));
    }
    let lines = plan.cells.iter().enumerate().map(|(index, cell)| {
        let mut line = vec![index.to_string()];
        line.extend(cell.values.iter().map(plain));
        line.push(plan.seeds.to_string());
        let of_cell: Vec<_> = rows.0[index].iter().collect();
        for column in COLUMNS {
            line.extend(estimate_fields(summarize(&of_cell, column.name)));
        }
        if let Some(baseline) = &plan.baseline {
            let of_baseline: Vec<_> = rows.0[baseline[index]].iter().collect();
            for name in COMPARED {
                line.extend(estimate_fields(paired_difference(&of_cell, &of_baseline, name)));
            }
        }
        line
    });
    write_csv(path, &header, lines)
}

/// Mean and half-width as CSV fields.
fn estimate_fields(estimate: Option<Estimate>) -> [String; 2] {
    let rounded = |value: Option<f64>| number(value.map(|value| round_to(value, 6)));
    [rounded(estimate.map(|e| e.mean)), rounded(estimate.and_then(|e| e.half_width))]
}

/// One row for each group of cells that differ in a constant lifetime alone: means, with their half-widths, over a
/// lifetime that is unknown but the same for all requests, anywhere from 5 to 60 minutes.
fn write_unknown_lifetime(plan: &Plan, rows: &Rows, path: &Path) -> Result<()> {
    let unknown = unknown_lifetime::over_unknown_lifetime(plan, rows);
    let swept = Lifetimes::of(plan).map(|lifetimes| lifetimes.axis);
    let others: Vec<_> = (0..plan.axes.len()).filter(|axis| Some(*axis) != swept).collect();
    let mut header: Vec<_> = others.iter().map(|axis| plan.axes[*axis].clone()).collect();
    header.extend(["lifetimes".to_string(), "seeds".to_string()]);
    header.extend(AVERAGED.iter().flat_map(|name| [name.to_string(), format!("{name}_ci95")]));
    let lines = unknown.iter().map(|Unknown { cell, swept, means }| {
        let values = &plan.cells[*cell].values;
        let mut line: Vec<_> = others.iter().map(|axis| plain(&values[*axis])).collect();
        line.extend([swept.to_string(), plan.seeds.to_string()]);
        line.extend(means.iter().flat_map(|mean| estimate_fields(*mean)));
        line
    });
    write_csv(path, &header, lines)
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
fn write_study(plan: &Plan, rows: &Rows, path: &Path, named: &str) -> Result<()> {
    let own = ["client.retention", CARDINALITY];
    let further: Vec<_> =
        (0..plan.axes.len()).filter(|axis| !own.contains(&plan.axes[*axis].as_str())).collect();
    let mut header = vec!["retention".to_string(), "cardinality".to_string()];
    header.extend(STUDY.iter().map(|(name, _)| name.to_string()));
    header.push("namespace".into());
    header.extend(BESIDE.map(String::from));
    header.push(format!("{named}_ci95"));
    header.extend(further.iter().map(|axis| plan.axes[*axis].clone()));
    let lines = plan.cells.iter().zip(&rows.0).map(|(cell, rows)| {
        let rows: Vec<_> = rows.iter().collect();
        let estimate = |name: &str| estimate_fields(summarize(&rows, name));
        let sum = |names: &str| {
            let means = names.split('+').map(|name| summarize(&rows, name).map(|estimate| estimate.mean));
            number(means.sum::<Option<f64>>().map(|sum| round_to(sum, 6)))
        };
        let client = &cell.loaded.scenario.client;
        let retention = client.workload.values().next().map_or("", |workload| cell.loaded.policy(workload));
        let mut line = vec![retention.to_string(), client.key.buckets.to_string()];
        line.extend(STUDY.iter().map(|(_, ours)| sum(ours)));
        line.push(plan.name.clone());
        line.extend(BESIDE.map(sum));
        let (_, ours) = STUDY.iter().find(|(name, _)| *name == named).expect("a column of the study");
        line.push(estimate(ours)[1].clone());
        line.extend(further.iter().map(|axis| plain(&cell.values[*axis])));
        line
    });
    write_csv(path, &header, lines)
}
