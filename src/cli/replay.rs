//! `cachecast replay`: a recorded trace against a provider.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::cli::Common;
use crate::cli::run::{play, skipped_words, table};
use crate::error::{Error, Result};
use crate::experiment::preflight;
use crate::experiment::scenario::{Change, Loaded};
use crate::input::trace::{Description, IdScope, TraceFormat};
use crate::input::writer::Form;

/// Play a recorded trace against a provider
#[derive(Debug, Args)]
#[command(
    after_help = "A trace has one JSON object a line: timestamp, input_length, output_length, hash_ids (or runs), \
and optionally session, key, first256. It may be gzipped, or made Parquet by `cachecast convert`, which needs no flags that \
describe it. The recorded keys are used unless client.key.strategy is set."
)]
pub struct Replay {
    /// The trace: JSONL, plain or gzip, or Parquet
    trace: String,
    /// A shipped provider profile, or the path of a profile file
    #[arg(long, default_value = "openai-classic")]
    provider: String,
    #[command(flatten)]
    described: Described,
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
        let reports = play(&loaded, self.requests.as_deref(), None, |report| {
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
        let mut changes = self.described.recorded(&self.trace);
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

/// The flags that say what the numbers of a JSONL trace mean; Parquet says it itself.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Described {
    /// Tokens in one block of hash_ids; needed for JSONL
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub block_tokens: Option<u32>,
    /// Unit of the timestamps: ms, s or ns; needed for JSONL
    #[arg(long, value_parser = ["ms", "s", "ns"])]
    pub time_unit: Option<String>,
    /// Whether equal ids of different sessions are the same text: global, or session [default: global]
    #[arg(long, value_parser = ["global", "session"])]
    pub ids: Option<String>,
}

impl Described {
    /// A scenario of one trace.
    pub fn recorded(&self, trace: &str) -> Vec<Change> {
        let block_tokens = self.block_tokens.map(i64::from);
        let described = [
            block_tokens.map(|tokens| Change::new(&file("block_tokens"), tokens, "--block-tokens")),
            self.time_unit.as_deref().map(|unit| Change::new(&file("time_unit"), unit, "--time-unit")),
            self.ids.as_deref().map(|ids| Change::new(&file("ids"), ids, "--ids")),
        ];
        let fixed = [
            Change::new("client.key.strategy", "recorded", "a trace"),
            Change::new(&file("path"), trace, "TRACE"),
        ];
        fixed.into_iter().chain(described.into_iter().flatten()).collect()
    }

    /// How to read a trace.
    pub fn format(&self, trace: &str, skip_bad: bool) -> TraceFormat {
        let Self { block_tokens, time_unit, ids } = self;
        TraceFormat {
            path: trace.into(),
            block_tokens: *block_tokens,
            time_unit: time_unit.as_deref().map(named),
            ids: ids.as_deref().map(named),
            skip_bad,
        }
    }

    /// The flags with which a trace of this description is read.
    pub fn flags(path: &Path, description: &Description) -> String {
        if Form::of(path) == Ok(Form::Columns) {
            return String::new();
        }
        let Description { block_tokens, time_unit, ids } = description;
        let ids = if *ids == IdScope::Global { String::new() } else { format!(" --ids {}", ids.word()) };
        format!(" --block-tokens {block_tokens} --time-unit {}{ids}", time_unit.word())
    }
}

/// The unit or scope of this name, which was one of the possible values.
fn named<T: DeserializeOwned>(name: &str) -> T {
    T::deserialize(name.into_deserializer()).unwrap_or_else(|_: ValueError| unreachable!("a possible value"))
}
