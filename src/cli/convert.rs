//! `cachecast convert`: a trace from one form into another.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::output::{Format, Table, talk};
use crate::cli::refuse_to_replace;
use crate::cli::replay::Described;
use crate::cli::run::{remove_on_interrupt, skipped_words};
use crate::error::Result;
use crate::experiment::convert::{TraceFile, convert};
use crate::input::trace::{Description, TraceReader};

/// Write a trace as Parquet, which is smaller and replays faster, or back as JSONL
#[derive(Debug, Args)]
#[command(
    after_help = "OUT says its form: .parquet, .jsonl or .jsonl.gz. Both forms replay alike. Parquet keeps the description \
of the trace (block size, unit, ids), and of each request its line, time, token counts, ids, session, key and first256, the \
names as they stand in the trace; other fields are left out."
)]
pub struct Convert {
    /// The trace: JSONL, plain or gzip, or Parquet
    trace: String,
    /// The file to write: .parquet, .jsonl or .jsonl.gz
    out: PathBuf,
    #[command(flatten)]
    described: Described,
    /// Count and name bad lines, and leave them out, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Print what was written to stdout, in this form
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print no warnings, and not how to replay what was written
    #[arg(long)]
    quiet: bool,
}

impl Convert {
    pub(super) fn answer(&self) -> Result<()> {
        let out = &self.out;
        let mut reader =
            TraceReader::open(&self.described.format(&self.trace, self.skip_bad), Path::new(""))?;
        let description = *reader.description();
        refuse_to_replace(&self.trace, "trace", out)?;
        let file = TraceFile::create(out, &description)?;
        remove_on_interrupt(vec![file.unfinished()]);
        let requests = convert(&mut reader, file)?;
        if !self.quiet {
            let skipped = reader.skipped();
            for words in skipped_words(&(skipped.count, skipped.first.clone())) {
                talk(&format!("warning: {words}"));
            }
        }
        let flags = Described::flags(out, &description);
        if let Some(format) = self.format {
            let mut table = Table::new(["out", "requests", "skipped", "block_tokens", "time_unit", "ids"]);
            let Description { block_tokens, time_unit, ids } = description;
            let numbers = [requests, reader.skipped().count, u64::from(block_tokens)].map(|n| n.to_string());
            let [requests, skipped, block_tokens] = numbers;
            let words = [time_unit.word().to_string(), ids.word().to_string()];
            table.row([out.display().to_string(), requests, skipped, block_tokens].into_iter().chain(words));
            return table.print(format);
        }
        if !self.quiet {
            talk(&format!(
                "{requests} requests written; cachecast replay {}{flags} plays them",
                out.display()
            ));
        }
        Ok(())
    }
}
