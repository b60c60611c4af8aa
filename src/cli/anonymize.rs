//! `cachecast anonymize`: a log of one's own as one that can be shared.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::logged::Logged;
use crate::cli::output::{Format, Table, talk};
use crate::cli::refuse_to_replace;
use crate::cli::run::{remove_on_interrupt, skipped_words};
use crate::error::Result;
use crate::experiment::anonymize::{Anonymizer, Replaced};
use crate::experiment::results::Unpublished;
use crate::input::salt::Salt;
use crate::units::Span;

/// Write a log of your own with hashes in place of text and names, to share it
#[derive(Debug, Args)]
#[command(after_help = "\
Replaying what is written gives the same numbers as replaying LOG, bit for bit, under any --message-overhead and the \
--vocabulary given here (unless times were rounded).

Replaced by salted hashes: all text, tools and schemas among it (in stretches that end where prompts part), images and \
files, sessions, keys, ids, and each setting that is not a word of a vendor's own (a model's name of your own making, \
too). What is in LOG and in no prompt is left out.

Still visible: when calls were made and how long they took, the roles and lengths of all parts, what they have in common, \
where they are marked, usage, names of vendors' models, retention. Equal texts have equal hashes.

The salt is random and written nowhere, so that the output is another each time and hashes cannot be tested against \
guesses. With --salt, sessions and keys have the same names in all files with those words: keep the words secret.")]
pub struct Anonymize {
    /// The log: whatever has calls in it, plain or gzip (bodies, JSON lines, a gateway's log, sessions of agents, CSV)
    log: String,
    /// The file to write: JSON lines
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Hash with these words in place of a random salt, for the same names in several files
    #[arg(long, value_name = "WORDS", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    salt: Option<String>,
    /// Round times down to this, such as 1s or 1m; numbers then may change, the order of calls does not
    #[arg(long, value_name = "SPAN", value_parser = unit)]
    round_times: Option<Span>,
    #[command(flatten)]
    logged: Logged,
    /// Print what was done to stdout, in this form
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Say nothing of what was done
    #[arg(long)]
    quiet: bool,
}

impl Anonymize {
    pub(super) fn answer(&self) -> Result<()> {
        refuse_to_replace(&self.log, "log", &self.out)?;
        let salt = self.salt.as_ref().map_or_else(Salt::random, |words| Ok(Salt::of_words(words)))?;
        let anonymizer = Anonymizer {
            log: Path::new(&self.log),
            format: self.logged.format(),
            round_times: self.round_times,
        };
        let file = Unpublished::beside(&self.out)?;
        remove_on_interrupt(vec![file.unfinished()]);
        let replaced = anonymizer.write(salt, file)?;
        if !self.quiet {
            let skipped = &replaced.skipped;
            for words in skipped_words(&(skipped.count, skipped.first.clone())) {
                talk(&format!("warning: {words}"));
            }
            if self.format.is_none() {
                talk(&words(&replaced));
            }
        }
        if let Some(format) = self.format {
            return table(&replaced, &self.out).print(format);
        }
        Ok(())
    }
}

/// What was replaced, as a row.
fn table(replaced: &Replaced, out: &Path) -> Table {
    let Replaced { kind, calls, bodies, stretches, sessions, keys, without_usage, skipped, .. } = replaced;
    let counts = [calls, bodies, without_usage, &skipped.count].map(u64::to_string);
    let [calls, bodies, left_out, skipped] = counts;
    let [stretches, sessions, keys] = [stretches, sessions, keys].map(usize::to_string);
    let names = ["calls", "bodies", "stretches", "sessions", "keys", "left_out", "skipped"];
    let mut table = Table::new(["out", "form"].into_iter().chain(names));
    let first = [out.display().to_string(), kind.word().to_string()];
    table.row(first.into_iter().chain([calls, bodies, stretches, sessions, keys, left_out, skipped]));
    table
}

/// What was replaced, in a sentence.
fn words(replaced: &Replaced) -> String {
    let Replaced { kind, calls, bodies, stretches, sessions, keys, without_usage, .. } = replaced;
    let left_out = match without_usage {
        0 => String::new(),
        left_out => format!("; {left_out} left out, which failed or say nothing"),
    };
    format!(
        "{}: {calls} calls written, with hashes in place of the text of {bodies} ({stretches} stretches), {sessions} \
         sessions and {keys} keys{left_out}",
        kind.name()
    )
}

fn unit(text: &str) -> std::result::Result<Span, String> {
    let span: Span = text.parse()?;
    if span == Span::ZERO || span == Span::UNLIMITED {
        return Err("it must be longer than nothing, such as 1s or 1m".into());
    }
    Ok(span)
}
