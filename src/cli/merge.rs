//! `cachecast merge`: the parts of many processes into the answer of one.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::cli::output::{Format, print, talk};
use crate::cli::{Cli, Verb, shard};
use crate::error::{Error, Result};
use crate::experiment::merge::{Parts, list};
use crate::experiment::shard::MOST_SHARDS;

/// Put the parts of a sharded sweep, fit, recommendation or screening together: the same bytes as from one process
#[derive(Debug, Args)]
#[command(after_help = "\
  cachecast sweep hot-key --shard 0/2 --out parts/         on any machine
  cachecast sweep hot-key --shard 1/2 --out parts/         on any other
  cachecast merge --missing --shards 2 parts/              prints the shards still to be played, as in 0,1
  cachecast merge --missing --shards 2 parts/ -- sweep hot-key    the same, of parts that must be of this command
  cachecast merge parts/ --out results/hot-key

A part remembers the command it is of, whose files must stand where they stood. recommend and fit ask for runs in rounds, as
later ones depend on earlier ones: play the shards that --missing names until it names none.
scenarios/cluster/ has the same for Slurm and Kubernetes.")]
pub struct Merge {
    /// Parts, or folders of parts
    #[arg(required = true, value_name = "PARTS")]
    parts: Vec<PathBuf>,
    /// Folder for the results [default: what the command itself would write to]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print the shards that have something to play, with commas between them, and on stderr how much is done
    #[arg(long, requires = "shards", conflicts_with = "out")]
    missing: bool,
    /// Number of shards, with --missing
    #[arg(
        long,
        value_name = "N",
        requires = "missing",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SHARDS))
    )]
    shards: Option<u32>,
    /// The command whose parts they must be, with --missing; it is read as a shard would read it
    #[arg(last = true, requires = "missing", value_name = "COMMAND")]
    command: Vec<OsString>,
    /// How to print the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print no warnings and no progress
    #[arg(long)]
    quiet: bool,
}

impl Merge {
    pub(super) fn answer(&self) -> Result<()> {
        if let Some(shards) = self.shards.filter(|_| self.missing) {
            return self.say_missing(shards);
        }
        let parts = Parts::open(&self.parts)?;
        parts.refuse_torn()?;
        if let Some(out) = &self.out {
            parts.refuse_among(out)?;
        }
        match self.verb(&parts)? {
            Verb::Sweep(sweep) => sweep.merge(&parts),
            Verb::Recommend(recommend) => shard::merge(&recommend, &parts),
            Verb::Sensitivity(sensitivity) => shard::merge(&sensitivity, &parts),
            Verb::Fit(fit) => shard::merge(&fit, &parts),
            _ => Err(no_parts(&parts)),
        }
    }

    /// The command that parts are of, with what this one says of the answer.
    fn verb(&self, parts: &Parts) -> Result<Verb> {
        let (verb, further) = parts.command()?.split_first().ok_or_else(|| no_parts(parts))?;
        // Flags go before what the command may have behind a `--`.
        let mut words = vec![OsString::from("cachecast"), verb.into()];
        words.extend(self.out.iter().flat_map(|out| [OsString::from("--out"), out.into()]));
        words.extend(self.format.iter().flat_map(|format| ["--format".into(), format.word().into()]));
        words.extend(self.quiet.then(|| "--quiet".into()));
        words.extend(further.iter().map(OsString::from));
        let mut verb = Cli::try_parse_from(words).map(|cli| cli.verb).map_err(|_| no_parts(parts))?;
        // A report says how the whole is made again, not how its parts were put together.
        if let Some(reported) = verb.reported() {
            reported.given = Some(parts.command()?.to_vec());
        }
        Ok(verb)
    }

    /// The command that is asked about: the one that is given, or else the one of the parts; there may be neither.
    fn asked(&self, parts: &Parts) -> Result<Option<Verb>> {
        if self.command.is_empty() {
            return if parts.files.is_empty() { Ok(None) } else { self.verb(parts).map(Some) };
        }
        let words = std::iter::once(OsString::from("cachecast")).chain(self.command.iter().cloned());
        let wrong = |error: clap::Error| {
            let message = error.to_string();
            Error::input("COMMAND", message.strip_prefix("error: ").unwrap_or(&message).trim_end())
        };
        Cli::try_parse_from(words).map(|cli| Some(cli.verb)).map_err(wrong)
    }

    fn say_missing(&self, shards: u32) -> Result<()> {
        // What is not there yet is where parts will be.
        let there: Vec<_> =
            self.parts.iter().filter(|path| path.symlink_metadata().is_ok()).cloned().collect();
        let parts = Parts::open(&there)?;
        parts.refuse_other_count(shards)?;
        let (parts, damaged) = parts.without_damaged()?;
        damaged.iter().for_each(|error| talk(&format!("warning: {error}")));
        let missing = match self.asked(&parts)? {
            None => parts.missing(shards),
            Some(Verb::Sweep(sweep)) => sweep.missing(&parts, shards)?,
            Some(Verb::Recommend(recommend)) => shard::missing(&recommend, &parts, shards)?,
            Some(Verb::Sensitivity(sensitivity)) => shard::missing(&sensitivity, &parts, shards)?,
            Some(Verb::Fit(fit)) => shard::missing(&fit, &parts, shards)?,
            Some(_) if self.command.is_empty() => return Err(no_parts(&parts)),
            Some(_) => {
                let message = "is none that can be shared out: sweep, fit, recommend and sensitivity can";
                return Err(Error::input("COMMAND", message));
            }
        };
        if !self.quiet {
            talk(&progress(&parts, shards, missing.len()));
        }
        match missing.is_empty() {
            true => Ok(()),
            false => print(&format!("{}\n", list(&missing))),
        }
    }
}

/// How much of an array is done.
fn progress(parts: &Parts, shards: u32, missing: usize) -> String {
    let done = shards as usize - missing;
    match parts.rows() {
        (rows, Some(of)) => {
            let share = 100.0 * rows as f64 / of.max(1) as f64;
            format!("{done} of {shards} shards, {rows} of {of} runs ({share:.0} %)")
        }
        _ if parts.files.is_empty() => format!("0 of {shards} shards"),
        // How many there will be depends on what comes out.
        (rows, None) if missing == 0 && rows > 0 => format!("{rows} runs: all that is asked for"),
        (rows, None) => format!("{rows} runs so far; {missing} of {shards} shards have more to play"),
    }
}

fn no_parts(parts: &Parts) -> Error {
    let (path, header) = &parts.files[0];
    let message = format!("is a part of `{}`, which this version cannot merge", header.command.join(" "));
    Error::input(path.display(), message)
}
