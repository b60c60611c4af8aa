//! `cachecast replay`: a recorded trace against a provider.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Common;
use crate::cli::run::{play, skipped_words, table};
use crate::error::{Error, Result};
use crate::experiment::preflight;
use crate::experiment::scenario::{Change, Loaded};

/// Play a recorded trace against a provider
#[derive(Debug, Args)]
#[command(
    after_help = "A trace has one JSON object a line: timestamp, input_length, output_length, hash_ids (or runs), \
and optionally session, key, first256. It may be gzipped. The recorded keys are used unless client.key.strategy is set."
)]
pub struct Replay {
    /// The trace: JSONL, plain or gzip
    trace: String,
    /// A shipped provider profile, or the path of a profile file
    #[arg(long, default_value = "openai-classic")]
    provider: String,
    /// Tokens in one block of hash_ids
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    block_tokens: u32,
    /// Unit of the timestamps: ms, s or ns
    #[arg(long, value_parser = ["ms", "s", "ns"])]
    time_unit: String,
    /// Whether equal ids of different sessions are the same text: global, or session
    #[arg(long, default_value = "global", value_parser = ["global", "session"])]
    ids: String,
    /// Idle lifetime in place of the provider's: "300s", "uniform(5m..10m)", "unlimited"
    #[arg(long, value_name = "SPAN")]
    lifetime: Option<String>,
    /// Count and name bad lines instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Write one row for each request, in the order of processing
    #[arg(long, value_name = "OUT.csv")]
    requests: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Replay {
    pub(super) fn answer(&self) -> Result<()> {
        let loaded = self.load()?;
        self.common.warn(&preflight::warnings(&loaded));
        let reports = play(&loaded, self.requests.as_deref(), |report| {
            self.common.warn(&skipped_words(&report.skipped));
            match report.row.get("requests") {
                Some(0.0) => Err(Error::input(&self.trace, "no request of this trace is counted")),
                _ => Ok(()),
            }
        })?;
        self.common.print(&table(&loaded, &reports))
    }

    /// The trace as a scenario.
    fn load(&self) -> Result<Loaded> {
        let mut changes = recorded(&self.trace, self.block_tokens, &self.time_unit, &self.ids);
        changes.push(Change::new("provider.profile", self.provider.as_str(), "--provider"));
        changes.push(Change::new(&file("skip_bad"), self.skip_bad, "--skip-bad"));
        changes.extend(self.common.changes()?);
        let mut loaded = Loaded::from_text("replay", "replay", "", Path::new(""), &changes)?;
        if let Some(lifetime) = &self.lifetime {
            let workload = loaded.scenario.client.workload.values().next().expect("the trace");
            let policy = loaded.policy(workload).to_string();
            let path = format!("provider.retention.lifetime.{policy}");
            let changes = [
                Change::new(&path, lifetime.as_str(), "--lifetime"),
                // A lifetime that is asked for is that of a policy that is asked for.
                Change::new("client.retention", policy.as_str(), "--lifetime"),
            ];
            loaded = loaded.with(&changes)?;
        }
        if self.common.seeds.is_none() && loaded.is_deterministic() {
            loaded = loaded.with(&[Change::new("seeds", 1, "replay")])?;
        }
        Ok(loaded)
    }
}

/// Path of a field of the one trace of a scenario.
fn file(field: &str) -> String {
    format!("client.workload.trace.trace.file.{field}")
}

/// A scenario of one trace, by the flags that describe its file.
pub(super) fn recorded(trace: &str, block_tokens: u32, time_unit: &str, ids: &str) -> Vec<Change> {
    vec![
        Change::new("client.key.strategy", "recorded", "a trace"),
        Change::new(&file("path"), trace, "TRACE"),
        Change::new(&file("block_tokens"), i64::from(block_tokens), "--block-tokens"),
        Change::new(&file("time_unit"), time_unit, "--time-unit"),
        Change::new(&file("ids"), ids, "--ids"),
    ]
}
