//! Cells x seeds on every core, and what becomes of them: `cells.csv`, `summary.csv` and the study's tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::metrics::{COLUMNS, COMPARED, Row, paired_difference, summarize};
use crate::experiment::results::{number, prepare_folder, write_csv, write_file};
use crate::experiment::run::replicate;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::statistics::Estimate;
use crate::units::round_to;

/// Where the bucket count of a keying strategy stands.
const CARDINALITY: &str = "client.key.buckets";

/// The most runs of a sweep on one machine.
const MOST_RUNS: u64 = 10_000_000;

/// One variant of a scenario.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The axes' values, in the order of the axes.
    pub values: Vec<Value>,
    /// The scenario with these values.
    pub loaded: Loaded,
}

/// The cells of a sweep, checked, in the order of the files.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Paths of the axes.
    pub axes: Vec<String>,
    /// The variants.
    pub cells: Vec<Cell>,
    /// Replications of each cell.
    pub seeds: u32,
    /// For each cell, the cell it is compared with.
    pub baseline: Option<Vec<usize>>,
    name: String,
    fingerprint: u64,
}

/// All rows of a sweep: for each cell one row for each seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows(pub Vec<Vec<Row>>);

impl Plan {
    /// The cells of a scenario's sweep; a scenario without axes is one cell.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let sweep = &loaded.scenario.sweep;
        let mut axes = Vec::new();
        for (index, axis) in sweep.axis.iter().enumerate() {
            let place =
                |message: String| Error::input(format!("sweep.axis[{index}] ({})", axis.path), message);
            let path: KeyPath = axis.path.parse().map_err(place)?;
            if ["seed", "seeds", "sweep", "title"].contains(&path.keys()[0].as_str()) {
                return Err(place("cannot be an axis: it says how the sweep itself is played".into()));
            }
            if axes.iter().any(|(known, _)| *known == path) {
                return Err(place("this path has an axis already".into()));
            }
            axes.push((path, axis.values().map_err(place)?));
        }
        let runs = axes.iter().map(|(_, values)| values.len() as u64).product::<u64>();
        if runs.saturating_mul(u64::from(loaded.scenario.seeds)) > MOST_RUNS {
            return Err(Error::input(
                "sweep",
                format!("{runs} cells x {} seeds are more than {MOST_RUNS} runs", loaded.scenario.seeds),
            ));
        }
        let mut cells = Vec::new();
        for values in combinations(&axes) {
            let described: Vec<_> =
                axes.iter().zip(&values).map(|((path, _), value)| format!("{path} = {value}")).collect();
            let origin = format!("sweep cell {}", described.join(", "));
            let change = |((path, _), value): (&(KeyPath, _), &Value)| Change {
                path: path.clone(),
                value: value.clone(),
                origin: origin.clone(),
            };
            let changes: Vec<_> = axes.iter().zip(&values).map(change).collect();
            let loaded = loaded.with(&changes)?;
            cells.push(Cell { values, loaded });
        }
        let axes: Vec<_> = axes.into_iter().map(|(path, _)| path.to_string()).collect();
        let baseline = baseline_cells(loaded, &axes, &cells)?;
        let fingerprint = loaded.fingerprint()?;
        Ok(Self {
            axes,
            cells,
            seeds: loaded.scenario.seeds,
            baseline,
            name: loaded.name.clone(),
            fingerprint,
        })
    }

    /// Plays every cell with every seed. `known` holds rows of an earlier, interrupted run; `done` is told of each
    /// further row, and ends the sweep early by answering false.
    pub fn play(&self, known: &Finished, done: impl Fn(usize, u32, &Row) -> bool + Sync) -> Result<Rows> {
        let jobs: Vec<_> =
            (0..self.cells.len()).flat_map(|cell| (0..self.seeds).map(move |seed| (cell, seed))).collect();
        let stopped = AtomicBool::new(false);
        let rows: Vec<Row> = jobs
            .par_iter()
            .map(|&(cell, seed)| {
                if let Some(row) = known.0.get(&(cell, seed)) {
                    return Ok(row.clone());
                }
                if stopped.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted(String::new()));
                }
                let row = replicate(&self.cells[cell].loaded, seed, |_| ())?.row;
                if !done(cell, seed, &row) {
                    stopped.store(true, Ordering::Relaxed);
                }
                Ok(row)
            })
            .collect::<Result<_>>()?;
        Ok(Rows(rows.chunks(self.seeds as usize).map(<[Row]>::to_vec).collect()))
    }

    /// Number of (cell, seed) pairs.
    pub fn jobs(&self) -> usize {
        self.cells.len() * self.seeds as usize
    }
}

/// Every combination of the axes' values, the last axis turning fastest.
fn combinations(axes: &[(KeyPath, Vec<Value>)]) -> Vec<Vec<Value>> {
    axes.iter().fold(vec![Vec::new()], |combined, (_, values)| {
        let extend = |start: Vec<Value>| {
            values.iter().map(move |value| start.iter().cloned().chain([value.clone()]).collect())
        };
        combined.into_iter().flat_map(extend).collect()
    })
}

/// For each cell, the one that differs from it only in having the baseline's values.
fn baseline_cells(loaded: &Loaded, axes: &[String], cells: &[Cell]) -> Result<Option<Vec<usize>>> {
    let baseline = &loaded.scenario.sweep.baseline;
    if baseline.is_empty() {
        return Ok(None);
    }
    if let Some(path) = baseline.keys().find(|path| !axes.contains(path)) {
        let known = axes.join(", ");
        return Err(
            loaded.error("sweep.baseline", format!("`{path}` is not an axis of this sweep ({known})"))
        );
    }
    let wanted = |cell: &Cell| -> Vec<Value> {
        axes.iter()
            .zip(&cell.values)
            .map(|(axis, value)| baseline.get(axis).unwrap_or(value).clone())
            .collect()
    };
    let find = |cell: &Cell| {
        let wanted = wanted(cell);
        cells
            .iter()
            .position(|other| other.values == wanted)
            .ok_or_else(|| loaded.error("sweep.baseline", "its values are not among those of the axes"))
    };
    cells.iter().map(find).collect::<Result<_>>().map(Some)
}

/// A value as it stands in a CSV cell.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rows that are already there, by cell and seed.
#[derive(Clone, Debug, Default)]
pub struct Finished(BTreeMap<(usize, u32), Row>);

impl Finished {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The folder a sweep writes into, with the unfinished rows of a run that was stopped.
pub struct Folder<'a> {
    plan: &'a Plan,
    path: PathBuf,
    progress: Mutex<(Finished, Instant)>,
}

/// Rows are saved this often while a sweep runs.
const SAVE_EVERY: Duration = Duration::from_secs(5);

impl<'a> Folder<'a> {
    /// Makes the folder; with `resume`, takes over the rows an interrupted run left in it.
    pub fn open(plan: &'a Plan, path: &Path, resume: bool) -> Result<Self> {
        prepare_folder(path)?;
        let folder = Self {
            plan,
            path: path.to_path_buf(),
            progress: Mutex::new((Finished::default(), Instant::now())),
        };
        if resume {
            let finished = folder.read_unfinished()?;
            folder.progress.lock().expect("no panic while saving").0 = finished;
        }
        Ok(folder)
    }

    /// Rows that need not be played again.
    pub fn finished(&self) -> Finished {
        self.progress.lock().expect("no panic while saving").0.clone()
    }

    /// Takes a new row, and saves now and then.
    pub fn add(&self, cell: usize, seed: u32, row: &Row) -> Result<()> {
        let mut progress = self.progress.lock().expect("no panic while saving");
        progress.0.0.insert((cell, seed), row.clone());
        if progress.1.elapsed() >= SAVE_EVERY {
            self.write_unfinished(&progress.0)?;
            progress.1 = Instant::now();
        }
        Ok(())
    }

    /// Saves the rows there are, so that `--resume` can go on from them.
    pub fn save(&self) -> Result<()> {
        self.write_unfinished(&self.progress.lock().expect("no panic while saving").0)
    }

    /// Writes the results and drops what was saved on the way.
    pub fn finish(&self, rows: &Rows) -> Result<()> {
        write_cells(self.plan, rows, &self.path.join("cells.csv"))?;
        write_summary(self.plan, rows, &self.path.join("summary.csv"))?;
        if self.plan.axes.iter().any(|axis| axis == CARDINALITY) {
            write_study(self.plan, rows, &self.path)?;
        }
        match std::fs::remove_file(self.unfinished_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&self.unfinished_path(), "remove", &error))
            }
            _ => Ok(()),
        }
    }

    fn unfinished_path(&self) -> PathBuf {
        self.path.join("unfinished.csv")
    }

    /// First line: what the rows belong to. Then one row for each cell and seed.
    fn write_unfinished(&self, finished: &Finished) -> Result<()> {
        let stamp = self.stamp();
        write_file(&self.unfinished_path(), |out| {
            writeln!(out, "{stamp}")?;
            for ((cell, seed), row) in &finished.0 {
                let numbers: Vec<_> = row.0.iter().map(|value| number(*value)).collect();
                writeln!(out, "{cell},{seed},{}", numbers.join(","))?;
            }
            Ok(())
        })
    }

    fn stamp(&self) -> String {
        format!("{} {} {:016x}", self.plan.name, env!("CARGO_PKG_VERSION"), self.plan.fingerprint)
    }

    fn read_unfinished(&self) -> Result<Finished> {
        let path = self.unfinished_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Finished::default()),
            Err(error) => return Err(Error::io(&path, "read", &error)),
        };
        let mut lines = text.lines().enumerate();
        let stamp = lines.next().map_or("", |(_, line)| line);
        if stamp != self.stamp() {
            let message = "belongs to another scenario or version; run without --resume, or into another folder with --out";
            return Err(Error::input(path.display(), message));
        }
        let row = |(index, line): (usize, &str)| {
            let broken =
                || Error::input(format!("{}:{}", path.display(), index + 1), "is no row of this sweep");
            let mut fields = line.split(',');
            let cell: usize = fields.next().and_then(|field| field.parse().ok()).ok_or_else(broken)?;
            let seed: u32 = fields.next().and_then(|field| field.parse().ok()).ok_or_else(broken)?;
            let number = |field: &str| match field {
                "" => Ok(None),
                field => field.parse().map(Some).map_err(|_| broken()),
            };
            let row: Vec<_> = fields.map(number).collect::<Result<_>>()?;
            let fits = row.len() == COLUMNS.len() && cell < self.plan.cells.len() && seed < self.plan.seeds;
            if fits { Ok(((cell, seed), Row(row))) } else { Err(broken()) }
        };
        lines.map(row).collect::<Result<_>>().map(Finished)
    }
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

/// The columns of the public bucketing study, and where ours come from.
const STUDY: [(&str, &str); 7] = [
    ("cache_hit_ratio", "token_hit_ratio"),
    ("ttft_p95_ms", "ttft_p95_ms"),
    ("n_steady_state_records", "requests"),
    ("realized_admitted_per_bucket_rpm", "key_rpm_mean"),
    ("max_in_flight_observed", "max_in_flight"),
    ("total_p95_ms", "total_p95_ms"),
    ("request_hit_ratio", "request_hit_ratio"),
];

/// Hit ratio and latency against cardinality, in the shape of the public study: first its columns, then ours,
/// then the further axes.
fn write_study(plan: &Plan, rows: &Rows, folder: &Path) -> Result<()> {
    let own = ["client.retention", CARDINALITY];
    let further: Vec<_> =
        (0..plan.axes.len()).filter(|axis| !own.contains(&plan.axes[*axis].as_str())).collect();
    for (file, first) in [
        ("cache_hit_ratio_vs_cardinality.csv", "cache_hit_ratio"),
        ("ttft_p95_vs_cardinality.csv", "ttft_p95_ms"),
    ] {
        let mut header = vec!["retention".to_string(), "cardinality".to_string()];
        header.extend(STUDY.iter().map(|(name, _)| name.to_string()));
        header.push(format!("{first}_ci95"));
        header.extend(further.iter().map(|axis| plan.axes[*axis].clone()));
        let lines = plan.cells.iter().zip(&rows.0).map(|(cell, rows)| {
            let rows: Vec<_> = rows.iter().collect();
            let client = &cell.loaded.scenario.client;
            let retention =
                client.workload.values().next().map_or("", |workload| cell.loaded.policy(workload));
            let mut line = vec![retention.to_string(), client.key.buckets.to_string()];
            let estimate = |name: &str| estimate_fields(summarize(&rows, name));
            line.extend(STUDY.iter().map(|(_, ours)| estimate(ours)[0].clone()));
            let (_, ours) = STUDY.iter().find(|(name, _)| *name == first).expect("a column of the study");
            line.push(estimate(ours)[1].clone());
            line.extend(further.iter().map(|axis| plain(&cell.values[*axis])));
            line
        });
        write_csv(&folder.join(file), &header, lines)?;
    }
    Ok(())
}
