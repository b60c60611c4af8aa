//! `cachecast schema`: what editors complete and check with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::output::{print, talk};
use crate::error::Result;
use crate::experiment::{results, schema};

/// Print the JSON Schema of scenario or profile files: editors complete and check with it
#[derive(Debug, Args)]
#[command(
    after_help = "A TOML file names its schema in its first line, which is a comment to everything but an editor (Taplo, Even Better \
TOML):\n\n  #:schema scenario.schema.json\n\nDraft 7. What only a whole file tells is left to `cachecast check FILE`."
)]
pub struct Schema {
    /// Of which files
    #[arg(value_enum, default_value_t = What::Scenario)]
    what: What,
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say nothing of what was written
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Scenarios
    Scenario,
    /// Provider profiles
    Profile,
}

impl Schema {
    pub(super) fn answer(&self) -> Result<()> {
        let schema = match self.what {
            What::Scenario => schema::scenario(),
            What::Profile => schema::profile(),
        };
        let text = schema::text(&schema?);
        let Some(file) = &self.out else { return print(&text) };
        results::write_file(file, |out| out.write_all(text.as_bytes()))?;
        if !self.quiet {
            talk(&format!("written to {}", file.display()));
        }
        Ok(())
    }
}
