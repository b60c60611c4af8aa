//! The flags that say how a user's own requests are read; the same for every verb that takes them.

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use crate::cli::from_here;
use crate::error::{Error, Result};
use crate::experiment::contract::Contracts;
use crate::input::calls::LogKind;
use crate::input::log::LogFormat;
use crate::input::render::{MESSAGE_OVERHEAD, Vocabulary};
use crate::units::Tokens;

/// How a log or a request body is read.
#[derive(Clone, Debug, Args)]
pub(super) struct Logged {
    /// What the file is [default: detected]
    #[arg(long, value_parser = PossibleValuesParser::new(LogKind::ALL.map(LogKind::word)))]
    pub kind: Option<String>,
    /// Count and name bad lines, and leave them out, instead of stopping at the first
    #[arg(long)]
    pub skip_bad: bool,
    /// Tokens that a message costs beside its content
    #[arg(long, value_name = "TOKENS", default_value_t = MESSAGE_OVERHEAD, value_parser = clap::value_parser!(u32).range(..=1_000))]
    pub message_overhead: Tokens,
    /// Which vocabulary counts tokens
    #[arg(long, value_enum, default_value_t = Words::O200kBase)]
    pub vocabulary: Words,
}

/// The vocabularies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Words {
    /// gpt-4o and later
    #[value(name = "o200k_base")]
    O200kBase,
    /// gpt-4 and gpt-3.5
    #[value(name = "cl100k_base")]
    Cl100kBase,
}

impl Logged {
    /// How to read a log.
    pub fn format(&self) -> LogFormat {
        let named = |word: &String| LogKind::ALL.into_iter().find(|kind| kind.word() == word);
        LogFormat {
            kind: self.kind.as_ref().and_then(named),
            vocabulary: match self.vocabulary {
                Words::O200kBase => Vocabulary::O200kBase,
                Words::Cl100kBase => Vocabulary::Cl100kBase,
            },
            message_overhead: self.message_overhead,
            skip_bad: self.skip_bad,
        }
    }
}

/// A file, or a line of one: `requests.jsonl:17`.
pub(super) fn line_of(name: &str) -> (&str, Option<u64>) {
    let split = name.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
    match split {
        Some((file, line)) if !Path::new(name).exists() => (file, Some(line)),
        _ => (name, None),
    }
}

/// The profile named by `--provider`, or else for each model the first shipped one that has it.
pub(super) fn contracts(provider: Option<&str>) -> Result<Contracts> {
    Contracts::new(provider.map(from_here).as_deref(), Path::new("")).map_err(|error| match error {
        Error::Input { place, message } if place == "provider.profile" => Error::input("--provider", message),
        other => other,
    })
}
