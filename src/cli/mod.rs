//! The command line: arguments in, one library call, tables out. stdout is data, stderr is talk.

mod anonymize;
mod check;
mod convert;
mod diff;
mod fit;
mod init;
mod layout;
mod list;
mod logged;
mod merge;
mod output;
mod progress;
mod recommend;
mod recommend_json;
mod replay;
mod report;
mod run;
mod schema;
mod sensitivity;
mod shard;
mod sparkline;
mod sweep;
mod what_if;

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::document::nearest;
use crate::error::{Error, Result};
use crate::experiment::scenario::{Change, Loaded};
use output::{Format, talk};

const HELP: &str = "\
{about}

{usage-heading} {usage}

What will happen?
  run          Play one scenario and print its numbers with intervals
  sweep        Play every variant of a scenario, and write CSVs
  replay       Play a recorded trace, or a log of your own, under other choices

What should I do?
  recommend    The best of your choices, and what they cost if you are mistaken
  sensitivity  Which unknown of the provider moves the answer most

What is the provider doing?
  fit          Fit its unknown numbers to observations, rank rival hypotheses

What is in my requests?
  diff         Find where two requests part, or where prefixes of a log broke
  check        Find what keeps them from being cached: a linter for your CI
  anonymize    Write a log with hashes in place of text and names, to share it
  convert      Write a trace as Parquet, which replays faster, or as JSONL

On many machines:
  merge        Put the parts of a sharded run together, or say which are missing

Show and set up:
  report       Draw a folder of results: charts, and one page to filter them in
  list         Providers, scenarios, and the paths that can be set or swept
  init         Write a commented scenario, by a few questions or flags
  schema       JSON Schema of scenarios and profiles, for editors

Options:
{options}

Exit codes: 0 answered; 1 `check` found something; 2 bad input (one message
says where and what would be right); 75 a part could not be written: try
again; 130 interrupted.
'cachecast VERB --help', or 'cachecast help VERB', says more about each.
";

/// Forecast what a hosted LLM prompt cache will do, before you deploy a keying strategy.
#[derive(Debug, Parser)]
#[command(name = "cachecast", version, help_template = HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Sweep(sweep::Sweep),
    Replay(replay::Replay),
    Recommend(recommend::Recommend),
    Sensitivity(sensitivity::Sensitivity),
    Fit(fit::Fit),
    Diff(diff::Diff),
    Check(check::Check),
    Anonymize(anonymize::Anonymize),
    Convert(convert::Convert),
    Merge(merge::Merge),
    Report(report::Report),
    List(list::List),
    Init(init::Init),
    Schema(schema::Schema),
}

/// What a verb that could answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its answer, whatever it says.
    Answered,
    /// Something that a user wants to hear of in the exit code.
    Found,
}

impl Verb {
    /// The flags for a report, of verbs that can be played in parts.
    fn reported(&mut self) -> Option<&mut report::Reported> {
        match self {
            Self::Sweep(sweep) => Some(&mut sweep.reported),
            Self::Recommend(recommend) => Some(&mut recommend.reported),
            Self::Fit(fit) => Some(&mut fit.reported),
            _ => None,
        }
    }

    fn answer(&self) -> Result<Verdict> {
        match self {
            Self::Run(run) => run.answer(),
            Self::Sweep(sweep) => sweep.answer(),
            Self::Replay(replay) => replay.answer(),
            Self::Recommend(recommend) => recommend.answer(),
            Self::Sensitivity(sensitivity) => sensitivity.answer(),
            Self::Fit(fit) => fit.answer(),
            Self::Diff(diff) => diff.answer(),
            Self::Check(check) => return check.answer(),
            Self::Anonymize(anonymize) => anonymize.answer(),
            Self::Convert(convert) => convert.answer(),
            Self::Merge(merge) => merge.answer(),
            Self::Report(report) => report.answer(),
            Self::List(list) => list.answer(),
            Self::Init(init) => init.answer(),
            Self::Schema(schema) => schema.answer(),
        }?;
        Ok(Verdict::Answered)
    }
}

/// Flags that mean the same everywhere.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Change a value of the scenario: any path of `cachecast list axes`, such as client.key.buckets=8
    #[arg(long = "set", value_name = "PATH=VALUE")]
    changes: Vec<String>,
    /// Replications, in place of the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    seeds: Option<u32>,
    /// Simulate this share of the keys, such as 1/64, and estimate what all of them do; the same as --set sample=SHARE
    #[arg(long, value_name = "SHARE")]
    sample: Option<String>,
    /// How to print the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print no warnings and no progress
    #[arg(long)]
    quiet: bool,
}

impl Common {
    /// What the flags lay over a scenario.
    fn changes(&self) -> Result<Vec<Change>> {
        let seeds = self.seeds.map(|seeds| Ok(Change::new("seeds", i64::from(seeds), "--seeds")));
        let sample = self.sample.as_ref().map(|share| Ok(Change::new("sample", share.as_str(), "--sample")));
        self.changes.iter().map(|change| Change::parse(change)).chain(seeds).chain(sample).collect()
    }

    fn load(&self, scenario: &str) -> Result<Loaded> {
        load(scenario, &self.changes()?)
    }

    fn warn(&self, warnings: &[String]) {
        self.as_warnings(warnings).iter().for_each(|line| talk(line));
    }

    /// The lines that warn; none where nobody wants to hear of them.
    fn as_warnings(&self, warnings: &[String]) -> Vec<String> {
        let heard = warnings.iter().filter(|_| !self.quiet);
        heard.map(|warning| format!("warning: {warning}")).collect()
    }

    /// How the answer is printed: as asked, or as suits where it goes.
    fn format(&self) -> Format {
        self.format.unwrap_or_else(Format::for_stdout)
    }

    fn print(&self, table: &output::Table) -> Result<()> {
        table.print(self.format())
    }
}

/// Names a file in the folder of shipped scenarios and takes its text in.
macro_rules! scenario {
    ($name:literal) => {
        ($name, include_str!(concat!("../../scenarios/", $name, ".toml")))
    };
}

/// The scenarios that come with the program.
const SHIPPED: &[(&str, &str)] = &[
    scenario!("bucket-cardinality"),
    scenario!("hot-key"),
    scenario!("idle-gap"),
    scenario!("chat"),
    scenario!("retention-gap"),
    scenario!("key-strategies"),
    scenario!("keep-alive"),
    scenario!("fan-out"),
    scenario!("fork-tree"),
    scenario!("gateway"),
    scenario!("tail-volatility"),
    scenario!("edit-revert"),
    scenario!("mutation-depth"),
    scenario!("head-timestamp"),
    scenario!("compaction"),
    scenario!("breakpoints"),
    scenario!("regime-change"),
    scenario!("lifetimes"),
];

/// A profile named by a flag: a file is looked for from here, not from beside the scenario.
fn from_here(profile: &str) -> String {
    if !profile.ends_with(".toml") {
        return profile.to_string();
    }
    std::path::absolute(profile).map_or(profile.to_string(), |path| path.display().to_string())
}

/// Refuses to write over the file that is read; `what` says what that is.
fn refuse_to_replace(read: &str, what: &str, written: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    match real(written) {
        Some(file) if real(Path::new(read)).as_ref() == Some(&file) => {
            Err(Error::input(written.display(), format!("is the {what} itself: name another file")))
        }
        _ => Ok(()),
    }
}

/// A scenario by the path of its file, or by the name of a shipped one.
fn load(scenario: &str, changes: &[Change]) -> Result<Loaded> {
    let is_file = Path::new(scenario).is_file();
    if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == scenario && !is_file) {
        let file = format!("scenarios/{name}.toml");
        return Loaded::from_text(name, &file, text, Path::new(""), changes);
    }
    let path = PathBuf::from(scenario);
    if !path.exists() {
        let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let hint = nearest(scenario, names.iter().copied())
            .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let message = format!(
            "there is no such file, and no shipped scenario of that name ({}){hint}",
            names.join(", ")
        );
        return Err(Error::input(scenario, message));
    }
    Loaded::from_file(&path, changes)
}

/// Names the verb that was meant where two letters have changed places, or a letter is another.
fn suggest(error: &mut clap::Error) {
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let command = Cli::command();
    let verbs = command.get_subcommands().map(|verb| (strsim::osa_distance(word, verb.get_name()), verb));
    if let Some((1, verb)) = verbs.min_by_key(|(distance, _)| *distance) {
        let verbs = ContextValue::Strings(vec![verb.get_name().to_string()]);
        error.insert(ContextKind::SuggestedSubcommand, verbs);
    }
}

/// Runs the program; the exit code.
pub fn main() -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            suggest(&mut error);
            // Nothing to be done if the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    match cli.verb.answer() {
        Ok(Verdict::Answered) => 0,
        Ok(Verdict::Found) => 1,
        Err(error) => {
            talk(&format!("error: {error}"));
            match error {
                Error::Interrupted(_) => 130,
                Error::Unwritten(_) => 75,
                Error::Input { .. } | Error::Waiting(_) => 2,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_verb() {
        let command = Cli::command();
        command.clone().debug_assert();
        let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_string()).collect();
        assert!(verbs.iter().all(|verb| HELP.contains(&format!("\n  {verb} "))), "{verbs:?}");
        assert!(HELP.lines().all(|line| line.chars().count() <= 80), "a narrow terminal breaks no word");
    }

    #[test]
    fn shipped_scenarios_load() {
        for (name, _) in SHIPPED {
            let loaded = load(name, &[]).unwrap();
            assert!(!loaded.scenario.title.is_empty(), "{name} says its question");
        }
    }
}
