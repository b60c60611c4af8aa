//! `cachecast report`: charts and one page of a folder of results; and `--report` of the verbs that write one.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::output::{Format, Table, print, talk};
use crate::cli::shard::command;
use crate::error::{Error, Result};
use crate::experiment::folder::write_tables;
use crate::experiment::results::prepare_folder;
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::{Outline, Rows};
use crate::report::about::About;
use crate::report::inside::{self, Pick};
use crate::report::{PAGE, Report as Answer};

/// Draw the charts of a folder of results, and put them into one page with its tables
#[derive(Debug, Args)]
#[command(after_help = "\
Written are report.html, which needs no network and no server, and each chart as SVG beside the CSV file it draws. What
happened inside a run (minutes, machines, one session), the scenario and the command are in folders that were made with
--report:

  cachecast sweep bucket-cardinality --report && cachecast report results/bucket-cardinality --open

Measured cells can be drawn over simulated ones: a CSV file of scenario paths such as client.key.buckets, and of metrics such
as token_hit_ratio or total_p95_ms.")]
pub struct Report {
    /// The folder that sweep, run, recommend, fit or replay wrote its answer into
    #[arg(value_name = "RESULTS_DIR")]
    folder: PathBuf,
    /// Open the page in a browser
    #[arg(long)]
    open: bool,
    /// Write the page here [default: report.html in the folder]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Draw measured cells over the simulated ones
    #[arg(long, value_name = "CELLS.csv")]
    observed: Vec<PathBuf>,
    /// Print every file that was written, with what it shows [default: the path of the page alone]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
}

impl Report {
    pub(super) fn answer(&self) -> Result<()> {
        let page = self.out.clone().unwrap_or_else(|| self.folder.join(PAGE));
        let report = Answer::read(&self.folder, &self.observed)?;
        if !self.quiet {
            report.problems.iter().for_each(|problem| talk(&format!("warning: {problem}")));
        }
        report.write(&self.folder, &page)?;
        match self.format {
            Some(format) => self.files(&report, &page).print(format)?,
            None => print(&format!("{}\n", page.display()))?,
        }
        if self.open { open(&page) } else { Ok(()) }
    }

    /// What was written, and what it shows.
    fn files(&self, report: &Answer, page: &Path) -> Table {
        let mut table = Table::new(["file", "shows"]);
        table.row([page.display().to_string(), "everything".into()]);
        for figure in &report.figures {
            let file = self.folder.join(format!("{}.svg", figure.id));
            table.row([file.display().to_string(), figure.title.clone()]);
        }
        table
    }
}

/// Shows a file as the desktop does.
fn open(page: &Path) -> Result<()> {
    let page = std::path::absolute(page).map_err(|error| Error::io(page, "find", &error))?;
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let failed =
        |why: String| Error::input("--open", format!("{program} {why}: open {} yourself", page.display()));
    let status = std::process::Command::new(program)
        .arg(&page)
        .status()
        .map_err(|error| failed(format!("cannot be started ({error})")))?;
    // Windows' explorer answers 1 whatever it did.
    if status.success() || program == "explorer" { Ok(()) } else { Err(failed("refused".into())) }
}

/// The flags of a verb that can write a folder with its report.
#[derive(Clone, Debug, Args)]
pub struct Reported {
    /// Write the numbers as CSV, their charts as SVG, and a page of both (report.html) into the folder
    #[arg(long)]
    pub report: bool,
    /// The command whose parts are put together, if it is not this process's own
    #[arg(skip)]
    pub given: Option<Vec<String>>,
}

impl Reported {
    /// The command that makes the results again.
    pub fn command(&self) -> String {
        said(&self.given.clone().unwrap_or_else(command))
    }
}

/// The flags of a verb whose folder is there for its report alone.
#[derive(Clone, Debug, Args)]
pub struct ReportedInto {
    /// Write the numbers as CSV, their charts as SVG, and a page of both (report.html) into a folder
    #[arg(long)]
    pub report: bool,
    /// The folder for it [default: results/VERB-NAME]
    #[arg(long, value_name = "FOLDER", requires = "report")]
    out: Option<PathBuf>,
}

impl ReportedInto {
    /// The folder, if a report is wanted.
    pub fn folder(&self, verb: &str, name: &str) -> Option<PathBuf> {
        let default = || PathBuf::from("results").join(format!("{verb}-{name}"));
        self.report.then(|| self.out.clone().unwrap_or_else(default))
    }
}

/// The variants that are looked into.
const MOST_PICKS: usize = 4;

/// Writes variants that were played as a sweep would, with what happened inside the first of them.
pub fn write_variants(
    verb: &str,
    outline: &Outline,
    rows: &Rows,
    variants: &[&Loaded],
    folder: &Path,
    quiet: bool,
) -> Result<()> {
    prepare_folder(folder)?;
    write_tables(outline, rows, folder)?;
    let pick = |(cell, loaded): (usize, &&Loaded)| Pick { cell, why: "", loaded: (*loaded).clone() };
    let picks: Vec<_> = variants.iter().take(MOST_PICKS).enumerate().map(pick).collect();
    inside::write(&picks, folder)?;
    write_report(About::new(verb, &said(&command()), &outline.base)?, folder, quiet)
}

/// Writes what made a folder, and its report.
pub fn write_report(about: About, folder: &Path, quiet: bool) -> Result<()> {
    about.write(folder)?;
    let report = Answer::read(folder, &[])?;
    if !quiet {
        report.problems.iter().for_each(|problem| talk(&format!("warning: {problem}")));
    }
    let page = folder.join(PAGE);
    report.write(folder, &page)?;
    if !quiet {
        talk(&format!("report: {}", page.display()));
    }
    Ok(())
}

/// A command as it can be given again.
fn said(given: &[String]) -> String {
    let words = given.iter().map(|word| quoted(word));
    std::iter::once("cachecast".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_given_again() {
        let of = |words: &[&str]| said(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["sweep", "a b.toml", "--seeds", "4"]), "cachecast sweep 'a b.toml' --seeds 4");
        assert_eq!(of(&["run", "it's", "$(x)"]), r"cachecast run 'it'\''s' '$(x)'");
    }
}
