//! The folder a sweep writes into, and the unfinished rows that `--resume` goes on from.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::experiment::metrics::{COLUMNS, Row};
use crate::experiment::results::{number, prepare_folder, write_file};
use crate::experiment::sweep::{CellRows, Finished, Outline, Plan, Rows};
use crate::experiment::tables::tables_of;

/// The folder a sweep writes into, with the unfinished rows of a run that was stopped.
pub struct Folder<'a> {
    plan: &'a Plan,
    path: PathBuf,
    /// What the saved rows belong to.
    stamp: String,
    progress: Mutex<(Finished, Instant)>,
}

/// Rows are saved this often while a sweep runs.
const SAVE_EVERY: Duration = Duration::from_secs(5);

impl<'a> Folder<'a> {
    /// Makes the folder for a sweep; with `resume`, takes over the rows an interrupted run left in it.
    pub fn open(plan: &'a Plan, path: &Path, resume: bool) -> Result<Self> {
        // A trace that is not there is found before a folder is made for it.
        let outline = &plan.outline;
        let fingerprint = outline.fingerprint()?;
        let stamp = format!("{} {} {fingerprint:016x}", outline.name, env!("CARGO_PKG_VERSION"));
        prepare(outline, path)?;
        let folder = Self {
            plan,
            path: path.to_path_buf(),
            stamp,
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
        write_tables(&self.plan.outline, rows, &self.path)?;
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
        let stamp = &self.stamp;
        write_file(&self.unfinished_path(), |out| {
            writeln!(out, "{stamp}")?;
            for ((cell, seed), row) in &finished.0 {
                let numbers: Vec<_> = row.0.iter().map(|value| number(*value)).collect();
                writeln!(out, "{cell},{seed},{}", numbers.join(","))?;
            }
            Ok(())
        })
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
        if stamp != self.stamp {
            let message = "belongs to another scenario or version; run without --resume, or into another folder with --out";
            return Err(Error::input(path.display(), message));
        }
        let row = |(index, line): (usize, &str)| {
            let broken = || {
                Error::input(
                    format!("{}:{}", path.display(), index + 1),
                    "is no row of this sweep: the file is damaged; run without --resume",
                )
            };
            let mut fields = line.split(',');
            let cell: usize = fields.next().and_then(|field| field.parse().ok()).ok_or_else(broken)?;
            let seed: u32 = fields.next().and_then(|field| field.parse().ok()).ok_or_else(broken)?;
            let number = |field: &str| match field {
                "" => Ok(None),
                field => field.parse().map(Some).map_err(|_| broken()),
            };
            let row: Vec<_> = fields.map(number).collect::<Result<_>>()?;
            let fits =
                row.len() == COLUMNS.len() && cell < self.plan.cells.len() && seed < self.plan.outline.seeds;
            if fits { Ok(((cell, seed), Row(row))) } else { Err(broken()) }
        };
        lines.map(row).collect::<Result<_>>().map(Finished)
    }
}

/// Makes the folder that the tables of a sweep go into.
pub fn prepare(outline: &Outline, path: &Path) -> Result<()> {
    refuse_another_sweep(outline, path)?;
    prepare_folder(path)?;
    match tables_of(outline, path).find(|(table, _)| table.is_dir()) {
        Some((table, _)) => Err(Error::input(table.display(), "is a folder, and would be a file of results")),
        None => Ok(()),
    }
}

/// Writes the tables of a sweep into its folder.
pub fn write_tables(outline: &Outline, rows: &dyn CellRows, path: &Path) -> Result<()> {
    tables_of(outline, path).try_for_each(|(path, write)| write(outline, rows, &path))
}

/// A folder of another name with the results of other axes is not this sweep's to overwrite.
fn refuse_another_sweep(outline: &Outline, path: &Path) -> Result<()> {
    let file = path.join("cells.csv");
    let Ok(mut known) = csv::Reader::from_path(&file) else { return Ok(()) };
    let Ok(header) = known.headers() else { return Ok(()) };
    let axes: Vec<_> = header.iter().skip(1).take_while(|column| *column != "seed").collect();
    let is_a_sweep = header.get(0) == Some("cell") && header.iter().any(|column| column == "seed");
    let is_its_own = path.file_name().is_some_and(|name| *name == *outline.name);
    if !is_a_sweep || is_its_own || axes == outline.axes {
        return Ok(());
    }
    let message =
        format!("holds the results of another sweep, over {}: name another folder", axes.join(", "));
    Err(Error::input(path.display(), message))
}
