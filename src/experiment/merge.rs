//! Parts put together again: which shards are missing, and the folder that a single sweep would have written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::part::{Header, Job};
use crate::experiment::part_file::{Part, is_torn};
use crate::experiment::spool::{Put, Spool};
use crate::experiment::sweep::Outline;

/// The parts of one work.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Files with what they say of themselves, in the order of their names.
    pub files: Vec<(PathBuf, Header)>,
    /// Parts whose header is cut off, so that nobody knows whose they are.
    torn: Vec<PathBuf>,
}

impl Parts {
    /// The parts that are named, and those in the folders that are named; all must be of one work, and played by this
    /// version.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut files: Vec<(PathBuf, Header)> = Vec::new();
        let mut torn = Vec::new();
        for path in files_of(paths)? {
            let Some(part) = Part::open(&path)? else {
                if is_torn(&path)? {
                    torn.push(path);
                    continue;
                }
                let message = "is no part, such as `--shard K/N --out FOLDER` writes: move it out of their folder, or name \
                               the parts alone";
                return Err(Error::input(path.display(), message));
            };
            let header = part.header;
            refuse_version(&path, &header)?;
            if let Some((first, known)) = files.first() {
                refuse_foreign(&path, &header, first, known)?;
            }
            files.push((path, header));
        }
        Ok(Self { files, torn })
    }

    /// Refuses parts whose header is cut off.
    pub fn refuse_torn(&self) -> Result<()> {
        self.torn.first().map_or(Ok(()), |path| Err(torn(path)))
    }

    /// Refuses to write results where the parts are.
    pub fn refuse_among(&self, folder: &Path) -> Result<()> {
        let Ok(real) = folder.canonicalize() else { return Ok(()) };
        let is_there = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path.parent() == Some(&real));
        if !self.files.iter().any(|(path, _)| is_there(path)) {
            return Ok(());
        }
        let message = "is where the parts are: name another folder for the results with --out";
        Err(Error::input(folder.display(), message))
    }

    /// The command that all are parts of; the error says that there are none.
    pub fn command(&self) -> Result<&[String]> {
        let none = || Error::input("PARTS", "there are no parts there");
        self.files.first().map(|(_, header)| header.command.as_slice()).ok_or_else(none)
    }

    /// Refuses parts of another scenario, or of another state of it.
    pub fn refuse_other_than(&self, digest: &str) -> Result<()> {
        let Some((path, header)) = self.files.first().filter(|(_, header)| header.digest != digest) else {
            return Ok(());
        };
        let message = format!(
            "belongs to another scenario or question than is asked now: it is a part of `{}`, as that was when it was \
             played; delete the parts, or name another folder",
            header.command.join(" ")
        );
        Err(Error::input(path.display(), message))
    }

    /// Refuses parts of an array of another size.
    pub fn refuse_other_count(&self, shards: u32) -> Result<()> {
        match self.files.iter().find(|(_, header)| header.shard.count != shards) {
            Some((path, header)) => {
                let message = format!("is shard {}, and no part of {shards} shards", header.shard);
                Err(Error::input(path.display(), message))
            }
            None => Ok(()),
        }
    }

    /// Reads every part to its end: the damaged ones are put out, and named.
    pub fn without_damaged(self) -> Result<(Self, Vec<Error>)> {
        let mut damaged: Vec<Error> = self.torn.iter().map(|path| torn(path)).collect();
        let mut files = Vec::new();
        for (path, header) in self.files {
            match Part::open(&path)?.map(Part::check) {
                Some(Ok(())) => files.push((path, header)),
                Some(Err(error)) => damaged.push(error),
                None => damaged.push(Error::input(path.display(), "is no part any more")),
            }
        }
        Ok((Self { files, torn: Vec::new() }, damaged))
    }

    /// The shards of an array that have no part.
    pub fn missing(&self, shards: u32) -> Vec<u32> {
        let there: BTreeSet<u32> = self.files.iter().map(|(_, header)| header.shard.index).collect();
        (0..shards).filter(|shard| !there.contains(shard)).collect()
    }

    /// Rows that are there, and all there will be, where that is known; parts of one shard count once.
    pub fn rows(&self) -> (u64, Option<u64>) {
        let of_shard: BTreeMap<u32, u64> =
            self.files.iter().map(|(_, header)| (header.shard.index, header.rows)).collect();
        (of_shard.values().sum(), self.files.first().and_then(|(_, header)| header.of))
    }

    /// All rows of all parts; two that contradict each other are refused.
    pub fn read_all(&self) -> Result<BTreeMap<Job, Row>> {
        let mut rows: BTreeMap<Job, Row> = BTreeMap::new();
        let mut from: BTreeMap<Job, usize> = BTreeMap::new();
        for (number, (path, _)) in self.files.iter().enumerate() {
            let Some(mut part) = Part::open(path)? else { continue };
            while let Some((job, row)) = part.read()? {
                match rows.get(&job) {
                    Some(known) if *known != row => return Err(self.conflict(job, number, from[&job])),
                    Some(_) => (),
                    None => {
                        from.insert(job, number);
                        rows.insert(job, row);
                    }
                }
            }
        }
        Ok(rows)
    }

    /// All rows of a sweep, in their places in a file in `folder`; holes and contradictions are refused.
    pub fn spool(&self, outline: &Outline, folder: &Path) -> Result<Spool> {
        let mut spool = Spool::new(folder, outline.cells(), outline.seeds)?;
        for (number, (path, _)) in self.files.iter().enumerate() {
            let Some(mut part) = Part::open(path)? else { continue };
            while let Some((job, row)) = part.read()? {
                match spool.put(number as u32, job, &row)? {
                    Put::Taken | Put::Known => (),
                    Put::Conflict(other) => return Err(self.conflict(job, number, other as usize)),
                    Put::Nowhere => {
                        let message = format!("{} is no run of this sweep", said(job));
                        return Err(Error::input(path.display(), message));
                    }
                }
            }
        }
        match spool.filled() == outline.jobs() as u64 {
            true => Ok(spool),
            false => Err(self.holes(&spool, outline.jobs())?),
        }
    }

    fn conflict(&self, job: Job, part: usize, other: usize) -> Error {
        let (path, other) = (&self.files[part].0, self.files[other].0.display());
        Error::input(path.display(), format!("has other numbers for {} than {other}", said(job)))
    }

    fn holes(&self, spool: &Spool, jobs: usize) -> Result<Error> {
        let shards = self.files.first().map_or(1, |(_, header)| header.shard.count);
        let (missing, hole) = (self.missing(shards), spool.first_hole()?);
        let which = match missing.is_empty() {
            true => "no shard is missing".into(),
            false => format!("shards {} of {shards} are missing", list(&missing)),
        };
        let first = hole.map_or(String::new(), |hole| format!(", the first of them {}", said(hole)));
        let without = jobs as u64 - spool.filled();
        Ok(Error::input("PARTS", format!("{which}: {without} of {jobs} runs have no row{first}")))
    }
}

fn torn(path: &Path) -> Error {
    Error::input(path.display(), "the part is damaged: its header cannot be read; play its shard again")
}

fn said(job: Job) -> String {
    format!("cell {}, replication {}", job.cell, job.replication)
}

/// Numbers with commas between them, as `sbatch --array` takes them.
pub fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The files that are named and those in the folders that are named, in the order of their names; what is hidden is being
/// written, or what a killed process left.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    for path in paths {
        if !path.is_dir() {
            files.insert(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| Error::io(path, "read the folder", &error);
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let is_hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let ending = file.extension().map(|ending| ending.to_ascii_lowercase());
            if !is_hidden && ending.is_some_and(|ending| ending == "csv" || ending == "parquet") {
                files.insert(file);
            }
        }
    }
    Ok(files.into_iter().collect())
}

fn refuse_version(path: &Path, header: &Header) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    if header.version == own {
        return Ok(());
    }
    let message = format!("was played by version {}, and this is version {own}", header.version);
    Err(Error::input(path.display(), message))
}

/// Refuses a part of another work than the first one.
pub fn refuse_foreign(path: &Path, header: &Header, first: &Path, known: &Header) -> Result<()> {
    let first = first.display();
    if (&header.digest, &header.columns) != (&known.digest, &known.columns) {
        let message = format!("belongs to another scenario than {first}: delete it, or name another folder");
        return Err(Error::input(path.display(), message));
    }
    if header.shard.count != known.shard.count {
        let message = format!("is shard {}, and {first} is shard {}", header.shard, known.shard);
        return Err(Error::input(path.display(), message));
    }
    Ok(())
}
