//! Every variant of a scenario, with every seed: what is to be played, and what came out.

use std::collections::BTreeMap;

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::scenario::{Change, Loaded};

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
    /// Name of the scenario.
    pub name: String,
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
            if loaded.flagged.contains(&path) {
                return Err(place(
                    "is set by --set and swept too: leave out the flag, or take the axis out".into(),
                ));
            }
            if axes.iter().any(|(known, _)| *known == path) {
                return Err(place("this path has an axis already".into()));
            }
            let values = axis.values().map_err(place)?;
            if let Some(twice) =
                values.iter().enumerate().find_map(|(at, v)| values[..at].contains(v).then_some(v))
            {
                return Err(place(format!("the value {twice} is there twice")));
            }
            axes.push((path, values));
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
        Ok(Self { axes, cells, seeds: loaded.scenario.seeds, baseline, name: loaded.name.clone() })
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
        let missing = || {
            let words: Vec<_> = baseline.iter().map(|(path, value)| format!("{path} = {value}")).collect();
            let message = format!("{} is not among the values of the axes", words.join(", "));
            loaded.error("sweep.baseline", message)
        };
        cells.iter().position(|other| other.values == wanted).ok_or_else(missing)
    };
    cells.iter().map(find).collect::<Result<_>>().map(Some)
}

/// Rows that are already there, by cell and seed.
#[derive(Clone, Debug, Default)]
pub struct Finished(pub BTreeMap<(usize, u32), Row>);

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
