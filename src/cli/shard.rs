//! Work shared out among many processes: the flags for it, what a shard does, and how a question is answered from parts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};

use crate::cli::output::talk;
use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::merge::{Parts, list};
use crate::experiment::metrics::{COLUMNS, Row};
use crate::experiment::part::{Job, Whole};
use crate::experiment::part_file::{Part, is_torn, write_part};
use crate::experiment::results::prepare_folder;
use crate::experiment::scenario::Loaded;
use crate::experiment::shard::Shard;

/// Where the engines of arrays say which task a process is: Slurm, and Kubernetes for an Indexed Job.
const ARRAYS: [&str; 2] = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];

/// Flags that make a command a part of one, with a value each; then those without.
const OF_A_PART: [&str; 4] = ["--shard", "--shards", "--out", "--format"];
const ALONE: [&str; 2] = ["--resume", "--quiet"];

/// Flags of verbs that can be shared out.
#[derive(Clone, Debug, Args)]
pub struct Sharding {
    /// Do one share of the work, K of N counted from 0, and write its rows into --out (a .csv, a .parquet, or a folder)
    /// for `cachecast merge`; `auto` takes K from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX
    #[arg(long, value_name = "K/N", requires = "out")]
    shard: Option<String>,
    /// Number of shards, with --shard auto
    #[arg(long, value_name = "N", requires = "shard")]
    shards: Option<u32>,
}

impl Sharding {
    /// The shard that is asked for; `None` asks for everything.
    pub fn shard(&self) -> Result<Option<Shard>> {
        let wrong = |message: String| Error::input("--shard", message);
        match (self.shard.as_deref(), self.shards) {
            (None, _) => Ok(None),
            (Some("auto"), Some(count)) => Shard::new(array_index()?, count).map(Some).map_err(wrong),
            (Some("auto"), None) => Err(wrong("`auto` needs the number of shards: add --shards N".into())),
            (Some(_), Some(_)) => {
                Err(Error::input("--shards", "belongs to --shard auto; K/N says it already"))
            }
            (Some(text), None) => text.parse().map(Some).map_err(wrong),
        }
    }
}

fn array_index() -> Result<u32> {
    // One that is there and empty says nothing.
    let value = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let known = ARRAYS.iter().find_map(|name| Some((name, value(name)?)));
    let Some((name, value)) = known else {
        let message =
            format!("`auto` needs {} in the environment: this is no task of an array", ARRAYS.join(" or "));
        return Err(Error::input("--shard", message));
    };
    value.parse().map_err(|_| Error::input(name, format!("`{value}` is no number of a task from 0 on")))
}

/// The command of this process, without what makes it a part of one, and where and how its answer appears.
pub fn command() -> Vec<String> {
    command_words().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn command_words() -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os().skip(1);
    let mut are_flags_over = false;
    std::iter::from_fn(move || {
        loop {
            let word = arguments.next()?;
            let text = word.to_string_lossy();
            are_flags_over |= text == "--";
            if !are_flags_over && OF_A_PART.contains(&&*text) {
                arguments.next();
            } else if are_flags_over
                || !ALONE.contains(&&*text)
                    && !OF_A_PART.iter().any(|flag| text.starts_with(&format!("{flag}=")))
            {
                return Some(word);
            }
        }
    })
}

/// The command, which a part remembers as text.
fn remembered_command() -> Result<Vec<String>> {
    let wrong = |word: OsString| {
        let message = "is no UTF-8, and a part must remember it: give the file another name";
        Error::input(word.display(), message)
    };
    command_words().map(|word| word.into_string().map_err(wrong)).collect()
}

/// The part that a shard writes: the file that is named, or one of its own in the folder that is.
#[derive(Clone, Debug)]
pub struct PartFile {
    shard: Shard,
    path: PathBuf,
    whole: Whole,
}

impl PartFile {
    /// Makes its folder, and checks that nothing but an older part is in its place. `rows` are those of all shards, if
    /// that is known.
    pub fn new(
        shard: Shard,
        out: &Path,
        digest: String,
        rows: Option<u64>,
        columns: Vec<String>,
    ) -> Result<Self> {
        let ending = out.extension().map(|ending| ending.to_ascii_lowercase());
        let is_file = ending.is_some_and(|ending| ending == "csv" || ending == "parquet");
        let path = if is_file { out.to_path_buf() } else { out.join(format!("part-{}.csv", shard.index)) };
        let whole = Whole { digest, rows, command: remembered_command()?, columns };
        let part = Self { shard, path, whole };
        refuse_no_folder(&part.folder())?;
        prepare_folder(&part.folder()).map_err(|error| Error::Unwritten(error.to_string()))?;
        part.refuse_other()?;
        Ok(part)
    }

    /// Refuses to write over anything but an older part of the same shard, whole or not.
    fn refuse_other(&self) -> Result<()> {
        let refused = |message: String| Err(Error::input(self.path.display(), message));
        let Ok(known) = self.path.symlink_metadata() else { return Ok(()) };
        if !known.is_file() {
            return refused("is there already and is no plain file: name another file with --out".into());
        }
        let Some(part) = Part::open(&self.path)? else {
            let is_torn = is_torn(&self.path)?;
            return if is_torn {
                Ok(())
            } else {
                refused("is there already and is no part: name another file".into())
            };
        };
        let header = part.header;
        if (&header.digest, &header.columns) != (&self.whole.digest, &self.whole.columns) {
            let command = header.command.join(" ");
            return refused(format!(
                "is a part of `{command}`, and belongs to another scenario or another state of it: delete it, or name \
                 another place with --out"
            ));
        }
        if header.shard != self.shard {
            let message = format!("is shard {} already, and this is {}", header.shard, self.shard);
            return refused(format!("{message}: delete it, or name another place with --out"));
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_path_buf()
    }

    /// Its rows, if it is there, whole, and of this shard.
    pub fn known(&self) -> Result<Option<BTreeMap<Job, Row>>> {
        if !self.path.is_file() {
            return Ok(None);
        }
        let part = Part::open(&self.path)?.filter(|part| {
            let header = &part.header;
            let same = (&header.digest, &header.columns) == (&self.whole.digest, &self.whole.columns);
            same && header.shard == self.shard && header.version == env!("CARGO_PKG_VERSION")
        });
        // A damaged one is as good as none.
        Ok(part.and_then(|part| part.read_all().ok()))
    }

    /// Writes it.
    pub fn write(&self, rows: &BTreeMap<Job, Row>) -> Result<()> {
        let written = write_part(&self.path, &self.whole, self.shard, rows);
        written.map_err(|error| Error::Unwritten(error.to_string()))
    }

    /// Who and where it is, for a person.
    pub fn said(&self) -> String {
        format!("shard {}: {}", self.shard, self.path.display())
    }
}

/// Refuses a folder that cannot be made, as something else has its place or that of one above it.
fn refuse_no_folder(folder: &Path) -> Result<()> {
    let known = folder.ancestors().find_map(|path| Some((path, path.metadata().ok()?)));
    match known.filter(|(_, known)| !known.is_dir()) {
        Some((path, _)) => Err(Error::input(path.display(), "is no folder: name another place with --out")),
        None => Ok(()),
    }
}

/// Names of the numbers of rows that simulations give.
pub fn metrics() -> Vec<String> {
    COLUMNS.iter().map(|column| column.name.to_string()).collect()
}

/// A digest of what the rows of a question follow from: its scenario, and whatever else it says.
pub fn digest(verb: &str, loaded: &Loaded, question: &impl std::fmt::Debug) -> Result<String> {
    struct Sum(Sha256);
    impl std::fmt::Write for Sum {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.update(text);
            Ok(())
        }
    }
    let mut sum = Sum(Sha256::new());
    write!(sum, "{:016x} {question:?}", loaded.fingerprint()?).expect("a sum takes everything");
    let sum = sum.0.finalize();
    let bytes: String = sum[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{verb}-{bytes}"))
}

/// A verb whose replications can be played by many processes.
pub trait Shared {
    /// The question, read.
    type Asked;
    /// The answer.
    type Answer;

    /// Reads the question.
    fn ask(&self) -> Result<Self::Asked>;

    /// A digest of everything the rows follow from, and the names of their numbers.
    fn rows(&self, asked: &Self::Asked) -> Result<(String, Vec<String>)>;

    /// Answers with replications from a desk.
    fn play(&self, asked: &Self::Asked, desk: &Desk) -> Result<Self::Answer>;

    /// Writes and prints the answer.
    fn tell(&self, asked: &Self::Asked, answer: &Self::Answer) -> Result<()>;
}

/// Answers a question, or does a shard's share of what it asks for next.
pub fn answer<V: Shared>(verb: &V, sharding: &Sharding, out: Option<&Path>, quiet: bool) -> Result<()> {
    let shard = sharding.shard()?;
    let asked = verb.ask()?;
    let Some((shard, out)) = shard.zip(out) else {
        return verb.tell(&asked, &verb.play(&asked, &Desk::alone())?);
    };
    let (digest, columns) = verb.rows(&asked)?;
    let file = PartFile::new(shard, out, digest, None, columns)?;
    let parts = Parts::open(&[file.folder()])?;
    parts.refuse_other_than(&file.whole.digest)?;
    parts.refuse_other_count(shard.count)?;
    // A damaged part is as good as none: its shard is missing.
    let (parts, _) = parts.without_damaged()?;
    let desk = Desk::of_shard(shard, parts.read_all()?);
    let waits = match verb.play(&asked, &desk) {
        Ok(_) => "; everything is known".into(),
        Err(Error::Waiting(why)) => format!("; {why}"),
        Err(error) => return Err(error),
    };
    let (known, played) = (file.known()?, desk.played());
    let count = played.len();
    if known.is_none() || count > 0 {
        file.write(&known.into_iter().flatten().chain(played).collect())?;
    }
    if !quiet {
        talk(&format!("{}: {count} runs played{waits}", file.said()));
    }
    Ok(())
}

/// Answers a question from all its parts.
pub fn merge<V: Shared>(verb: &V, parts: &Parts) -> Result<()> {
    let (asked, desk) = from_parts(verb, parts)?;
    match verb.play(&asked, &desk) {
        Err(Error::Waiting(why)) => {
            let count = parts.files[0].1.shard.count;
            let message =
                format!("shards {} of {count} have runs to play: {why}", list(&desk.wanted_of(count)));
            Err(Error::input("PARTS", message))
        }
        answer => verb.tell(&asked, &answer?),
    }
}

/// The shards, of so many, that have runs to play before a question can be answered.
pub fn missing<V: Shared>(verb: &V, parts: &Parts, shards: u32) -> Result<Vec<u32>> {
    let (asked, desk) = from_parts(verb, parts)?;
    match verb.play(&asked, &desk) {
        Ok(_) => Ok(Vec::new()),
        Err(Error::Waiting(_)) => Ok(desk.wanted_of(shards)),
        Err(error) => Err(error),
    }
}

fn from_parts<V: Shared>(verb: &V, parts: &Parts) -> Result<(V::Asked, Desk)> {
    let asked = verb.ask()?;
    let (digest, _) = verb.rows(&asked)?;
    parts.refuse_other_than(&digest)?;
    Ok((asked, Desk::of_parts(parts.read_all()?)))
}
