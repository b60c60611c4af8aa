//! How a user's own log is read: flags that mean the same wherever one is taken.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use crate::input::calls::LogKind;
use crate::input::log::LogFormat;
use crate::input::render::{MESSAGE_OVERHEAD, Vocabulary};
use crate::units::Tokens;

/// The flags that say how a log is read.
#[derive(Debug, Clone, Args)]
pub(super) struct Logged {
    /// What the log is [default: detected]
    #[arg(long, value_parser = PossibleValuesParser::new(LogKind::ALL.map(LogKind::word)))]
    kind: Option<String>,
    /// Count and name bad lines, and leave them out, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Tokens that a message costs beside its content
    #[arg(long, value_name = "TOKENS", default_value_t = MESSAGE_OVERHEAD, value_parser = clap::value_parser!(u32).range(..=1_000))]
    message_overhead: Tokens,
    /// Which vocabulary counts tokens
    #[arg(long, value_enum, default_value_t = Words::O200kBase)]
    vocabulary: Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Words {
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
        let kind = |word: &str| LogKind::ALL.into_iter().find(|kind| kind.word() == word);
        LogFormat {
            kind: self.kind.as_deref().and_then(kind),
            vocabulary: match self.vocabulary {
                Words::O200kBase => Vocabulary::O200kBase,
                Words::Cl100kBase => Vocabulary::Cl100kBase,
            },
            message_overhead: self.message_overhead,
            skip_bad: self.skip_bad,
        }
    }
}
