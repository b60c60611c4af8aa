//! Every variant of a scenario, with every seed: what is to be played, and what came out.

use std::collections::BTreeMap;

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::scenario::{Change, Loaded};
use crate::random::fold;

/// The most runs of a sweep on one machine.
const MOST_RUNS: u64 = 10_000_000;

/// One variant of a scenario.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its number among all cells of the sweep.
    pub number: usize,
    /// The axes' values, in the order of the axes.
    pub values: Vec<Value>,
    /// The scenario with these values.
    pub loaded: Loaded,
}

/// A sweep before any of its cells is made: what there is to say of millions of them without holding one.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Paths of the axes.
    pub axes: Vec<String>,
    /// Replications of each cell.
    pub seeds: u32,
    /// Name of the scenario.
    pub name: String,
    /// The scenario that the values are laid over.
    pub base: Loaded,
    paths: Vec<(KeyPath, Vec<Value>)>,
    /// For each axis, which of its values the cell has that others are compared with; its own where there is none.
    baseline: Option<Vec<Option<usize>>>,
}

/// The cells of a sweep, or of a part of it, checked, in the order of the files.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The whole sweep.
    pub outline: Outline,
    /// The variants, in the order of their numbers.
    pub cells: Vec<Cell>,
}

/// The rows of a plan: for each cell one row for each seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows(pub Vec<Vec<Row>>);

/// Where the rows of a whole sweep are, in memory or elsewhere.
pub trait CellRows {
    /// One row for each seed of a cell.
    fn of_cell(&self, cell: usize) -> Result<Vec<Row>>;
}

impl CellRows for Rows {
    fn of_cell(&self, cell: usize) -> Result<Vec<Row>> {
        Ok(self.0[cell].clone())
    }
}

impl Outline {
    /// What a scenario's sweep consists of; a scenario without axes is one cell.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let sweep = &loaded.scenario.sweep;
        let mut paths: Vec<(KeyPath, Vec<Value>)> = Vec::new();
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
            if paths.iter().any(|(known, _)| *known == path) {
                return Err(place("this path has an axis already".into()));
            }
            let values = axis.values().map_err(place)?;
            if let Some(twice) =
                values.iter().enumerate().find_map(|(at, v)| values[..at].contains(v).then_some(v))
            {
                return Err(place(format!("the value {twice} is there twice")));
            }
            paths.push((path, values));
        }
        let seeds = loaded.scenario.seeds;
        let cells = paths.iter().fold(1u64, |cells, (_, values)| cells.saturating_mul(values.len() as u64));
        if cells.saturating_mul(u64::from(seeds)) > MOST_RUNS {
            return Err(Error::input(
                "sweep",
                format!("{cells} cells x {seeds} seeds are more than {MOST_RUNS} runs"),
            ));
        }
        let axes: Vec<_> = paths.iter().map(|(path, _)| path.to_string()).collect();
        let (name, base) = (loaded.name.clone(), loaded.clone());
        let outline = Self { axes, seeds, name, base, paths, baseline: None };
        match baseline(loaded, &outline.axes, &outline.paths) {
            Ok(baseline) => Ok(Self { baseline, ..outline }),
            // An axis that is none of the scenario's is what is really wrong.
            Err(error) => outline.cell(0).and(Err(error)),
        }
    }

    /// Variants that were played otherwise than by a sweep, to be written as one: a cell for each of the values under a name,
    /// all compared with the first; or one cell alone. (What the values mean no scenario says: no cell can be made of them.)
    pub fn listed(base: &Loaded, values: Option<(&str, Vec<Value>)>) -> Self {
        let paths: Vec<_> =
            values.map(|(name, values)| (KeyPath::from_iter([name]), values)).into_iter().collect();
        Self {
            axes: paths.iter().map(|(path, _)| path.to_string()).collect(),
            seeds: base.scenario.seeds,
            name: base.name.clone(),
            base: base.clone(),
            baseline: (!paths.is_empty()).then(|| vec![Some(0)]),
            paths,
        }
    }

    /// The cell whose values are those that the scenario itself has, by its profile and by default too, if there is one.
    pub fn as_written(&self) -> Option<usize> {
        let resolved = Value::try_from(&self.base.scenario).ok();
        let place = |(axis, (path, values)): (usize, &(KeyPath, Vec<Value>))| {
            let by_default = || path.keys().iter().try_fold(resolved.as_ref()?, |value, key| value.get(key));
            let own = self.base.written(path).or_else(by_default)?;
            Some(values.iter().position(|value| value == own)? * self.stride(axis))
        };
        self.paths.iter().enumerate().map(place).sum()
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.paths.iter().map(|(_, values)| values.len()).product()
    }

    /// Number of (cell, seed) pairs.
    pub fn jobs(&self) -> usize {
        self.cells() * self.seeds as usize
    }

    /// The values of an axis.
    pub fn values_of(&self, axis: usize) -> &[Value] {
        &self.paths[axis].1
    }

    /// How far apart the numbers of two cells are that differ by one step on an axis; the last axis turns fastest.
    pub fn stride(&self, axis: usize) -> usize {
        self.paths[axis + 1..].iter().map(|(_, values)| values.len()).product()
    }

    /// Which value of an axis a cell has.
    pub fn position(&self, cell: usize, axis: usize) -> usize {
        cell / self.stride(axis) % self.values_of(axis).len()
    }

    /// The axes' values of a cell.
    pub fn values(&self, cell: usize) -> Vec<Value> {
        let value = |axis: usize| self.values_of(axis)[self.position(cell, axis)].clone();
        (0..self.paths.len()).map(value).collect()
    }

    /// Makes a cell.
    pub fn cell(&self, number: usize) -> Result<Cell> {
        let values = self.values(number);
        let described: Vec<_> =
            self.axes.iter().zip(&values).map(|(path, value)| format!("{path} = {value}")).collect();
        let origin = format!("sweep cell {}", described.join(", "));
        let change = |((path, _), value): (&(KeyPath, _), &Value)| Change {
            path: path.clone(),
            value: value.clone(),
            origin: origin.clone(),
        };
        let changes: Vec<_> = self.paths.iter().zip(&values).map(change).collect();
        Ok(Cell { number, values, loaded: self.base.with(&changes)? })
    }

    /// Whether cells are compared with others.
    pub fn has_baseline(&self) -> bool {
        self.baseline.is_some()
    }

    /// The cell that a cell is compared with: the one that differs from it only in having the baseline's values.
    pub fn baseline_of(&self, cell: usize) -> Option<usize> {
        let wanted = self.baseline.as_ref()?;
        let position = |axis: usize| wanted[axis].unwrap_or(self.position(cell, axis));
        Some((0..self.paths.len()).map(|axis| position(axis) * self.stride(axis)).sum())
    }

    /// A digest of everything the results follow from: the scenario, and what each value of an axis names of files.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut sum = self.base.fingerprint()?;
        let names_files = |path: &KeyPath| path.keys().iter().any(|key| key == "profile" || key == "trace");
        for (path, values) in self.paths.iter().filter(|(path, _)| names_files(path)) {
            for value in values {
                let origin = format!("sweep value {path} = {value}");
                let change = Change { path: path.clone(), value: value.clone(), origin };
                // A value that makes sense beside others only is what it is, and the cells say what is wrong with it.
                let of_value = self.base.with(&[change]).map_or(Ok(0), |loaded| loaded.fingerprint())?;
                sum = fold(sum, of_value);
            }
        }
        Ok(sum)
    }
}

impl Plan {
    /// All cells of a scenario's sweep.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let outline = Outline::new(loaded)?;
        let cells = 0..outline.cells();
        Self::of(outline, cells)
    }

    /// Some cells of a sweep, in the order of their numbers.
    pub fn of(outline: Outline, cells: impl IntoIterator<Item = usize>) -> Result<Self> {
        let cells = cells.into_iter().map(|number| outline.cell(number)).collect::<Result<_>>()?;
        Ok(Self { outline, cells })
    }

    /// Number of (cell, seed) pairs.
    pub fn jobs(&self) -> usize {
        self.cells.len() * self.outline.seeds as usize
    }

    /// Where a cell stands, by its number.
    pub fn find(&self, number: usize) -> Option<usize> {
        self.cells.binary_search_by_key(&number, |cell| cell.number).ok()
    }
}

/// For each axis, the position of the baseline's value; none for axes that the baseline leaves out.
fn baseline(
    loaded: &Loaded,
    axes: &[String],
    paths: &[(KeyPath, Vec<Value>)],
) -> Result<Option<Vec<Option<usize>>>> {
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
    let missing = || {
        let words: Vec<_> = baseline.iter().map(|(path, value)| format!("{path} = {value}")).collect();
        let message = format!("{} is not among the values of the axes", words.join(", "));
        loaded.error("sweep.baseline", message)
    };
    let position = |(axis, (_, values)): (&String, &(KeyPath, Vec<Value>))| match baseline.get(axis) {
        None => Ok(None),
        Some(wanted) => values.iter().position(|value| value == wanted).map(Some).ok_or_else(missing),
    };
    axes.iter().zip(paths).map(position).collect::<Result<_>>().map(Some)
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
