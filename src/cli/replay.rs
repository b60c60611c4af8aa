//! `cachecast replay`: a recorded trace against a provider.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, IntoDeserializer};

use rustc_hash::FxHashMap;

use crate::cli::logged::{Logged, contracts};
use crate::cli::output::talk;
use crate::cli::report::{ReportedInto, write_variants};
use crate::cli::run::{Logs, play, print_table, skipped_words, warnings_of};
use crate::cli::what_if::Answer;
use crate::cli::{Common, refuse_to_replace};
use crate::error::{Error, Result};
use crate::experiment::preflight;
use crate::experiment::run::Report;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::sweep::{Outline, Rows};
use crate::experiment::what_if::{self, Sessions, Validation, Variant, WhatIf, goes_by_session};
use crate::input::calls::{Calls, LogKind};
use crate::input::log::Log;
use crate::input::trace::{Description, IdScope, Record, TraceFormat, TraceReader};
use crate::input::writer::Form;
use crate::random::digest;
use crate::units::Span;

/// Play a recorded trace, or a log of your own, against a provider
#[derive(Debug, Args)]
#[command(
    after_help = "A trace has one JSON object a line: timestamp, input_length, output_length, hash_ids (or runs), \
and optionally session, key, first256. It may be gzipped, or made Parquet by `cachecast convert`, which needs no flags that \
describe it. A log is what you have: requests with their usage as JSON lines, a gateway's log, a session of an agent, a CSV of \
usage. The recorded keys are used unless client.key.strategy is set.\n\nOf a log, the first thing said is how well the simulator \
gives the cached_tokens that were billed: a what-if on a provider that does not fit is worth nothing.\n\n  \
cachecast replay requests.jsonl --what-if 'key=buckets(8)' --what-if retention=24h --what-if breakpoints=after-system"
)]
pub struct Replay {
    /// The trace (JSONL, plain or gzip, or Parquet), or the log
    #[arg(value_name = "TRACE|LOG")]
    trace: String,
    /// A shipped provider profile, or the path of a profile file [default: openai-classic; of a log, the one that has its model]
    #[arg(long)]
    provider: Option<String>,
    /// Other choices to compare with: key=none|constant|session|call|buckets(8), retention=24h, breakpoints=after-system,
    /// provider=NAME, model=NAME, any path=value; several at once with `;` between them
    #[arg(long = "what-if", value_name = "CHOICE")]
    what_ifs: Vec<String>,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    logged: Logged,
    /// Idle lifetime in place of the provider's: "300s", "uniform(5m..10m)", "unlimited"
    #[arg(long, value_name = "SPAN")]
    lifetime: Option<String>,
    /// Write one row for each request as it was sent (of no what-if), in the order of processing
    #[arg(long, value_name = "OUT.csv")]
    requests: Option<PathBuf>,
    #[command(flatten)]
    reported: ReportedInto,
    #[command(flatten)]
    common: Common,
}

/// Hardly a trace has more requests a minute: a hundred thousand a second.
const MOST_RPM: f64 = 6e6;

/// Hardly a trace is longer: a year.
const LONGEST: Span = Span(365 * Span::DAY.0);

/// A number of two digits or more.
fn rounded(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A time in its unit, from nanoseconds to days.
fn spoken(seconds: f64) -> String {
    let (time, unit) = match seconds {
        0.0..100e-6 => (seconds * 1e9, "ns"),
        0.0..0.1 => (seconds * 1e3, "ms"),
        0.0..100.0 => (seconds, "s"),
        0.0..6e3 => (seconds / 60.0, "min"),
        0.0..360e3 => (seconds / 3.6e3, "h"),
        _ => (seconds / 86.4e3, "days"),
    };
    format!("{} {unit}", rounded(time))
}

impl Replay {
    pub(super) fn answer(&self) -> Result<()> {
        let what_ifs: Vec<_> = self.what_ifs.iter().map(|text| WhatIf::parse(text)).collect::<Result<_>>()?;
        if self.is_trace()? { self.replay_trace(&what_ifs) } else { self.replay_log(&what_ifs) }
    }

    /// Whether the file is a trace, as its flags or its first lines say.
    fn is_trace(&self) -> Result<bool> {
        let Described { block_tokens, time_unit, ids } = &self.described;
        if self.logged.kind.is_none() && (block_tokens.is_some() || time_unit.is_some() || ids.is_some()) {
            return Ok(true);
        }
        let kind = self.logged.format().kind.map_or_else(|| Calls::detect(Path::new(&self.trace)), Ok)?;
        Ok(kind == LogKind::Trace)
    }

    fn replay_trace(&self, what_ifs: &[WhatIf]) -> Result<()> {
        let trace = self.trace()?;
        let loaded = self.settled(trace.clone(), &WhatIf::actual())?;
        let others: Vec<_> =
            what_ifs.iter().map(|what_if| self.settled(trace.clone(), what_if)).collect::<Result<_>>()?;
        // The trace is read for its sessions only where a choice asks for them.
        let sessions =
            if others.iter().any(goes_by_session) { self.sessions()? } else { Sessions::default() };
        let of_sessions = self.check_sessions(&loaded, what_ifs, &others, &sessions)?;
        let logs = Logs::create(&loaded, self.requests.as_deref(), None)?;
        self.common.warn(&[of_sessions, preflight::warnings(&loaded)].concat());
        let reports = play(&loaded, logs, self.common.quiet, |report| {
            self.common.warn(&warnings_of(&loaded, report));
            match report.row.get("requests") {
                Some(0.0) => Err(Error::input(&self.trace, "no request of this trace is counted")),
                _ => {
                    self.say_pace(report);
                    Ok(())
                }
            }
        })?;
        if what_ifs.is_empty() {
            print_table(&self.common, &loaded, &reports)?;
        }
        let rows = reports.into_iter().map(|report| report.row).collect();
        let actual = Variant { what_if: WhatIf::actual(), loaded, rows };
        if what_ifs.is_empty() {
            return self.report(&[actual]);
        }
        self.say(LogKind::Trace, None, actual, what_ifs, others)
    }

    /// Says how many requests came in how long: of a wrong unit of time nothing else would tell.
    fn say_pace(&self, report: &Report) {
        let (gaps, seconds) = (report.sent.saturating_sub(1), report.span.seconds());
        // One request, or all at one moment, have no pace.
        if gaps == 0 || seconds == 0.0 {
            return;
        }
        let rpm = gaps as f64 / seconds * 60.0;
        let rate = match rpm {
            0.0..1.0 => format!("one every {}", spoken(60.0 / rpm)),
            _ => format!("{} a minute", rounded(rpm)),
        };
        let pace = format!("{}: {} requests in {}, {rate}", self.trace, report.sent, spoken(seconds));
        if rpm > MOST_RPM || report.span > LONGEST {
            self.common.warn(&[format!("{pace}: is its unit of time right?")]);
        } else if !self.common.quiet {
            talk(&pace);
        }
    }

    /// What the lines of the trace say of their sessions.
    fn sessions(&self) -> Result<Sessions> {
        let format = self.described.format(&self.trace, self.logged.skip_bad);
        let mut lines = TraceReader::open(&format, Path::new(""))?;
        let (mut record, mut sessions) = (Record::default(), Sessions::default());
        while lines.read(&mut record)? {
            sessions.count(record.session.as_ref().map(digest));
        }
        Ok(sessions)
    }

    /// Checks the choices that need sessions; what to say of them.
    fn check_sessions(
        &self,
        actual: &Loaded,
        what_ifs: &[WhatIf],
        others: &[Loaded],
        sessions: &Sessions,
    ) -> Result<Vec<String>> {
        let check = |(what_if, other)| sessions.check(what_if, [actual, other], &self.trace).transpose();
        what_ifs.iter().zip(others).filter_map(check).collect()
    }

    fn replay_log(&self, what_ifs: &[WhatIf]) -> Result<()> {
        if let Some(written) = &self.requests {
            refuse_to_replace(&self.trace, "log", written)?;
        }
        let mut known = contracts(self.provider.as_deref())?;
        let log = Log::read(Path::new(&self.trace), &self.logged.format())?;
        let (kind, skipped) = (log.kind, (log.skipped.count, log.skipped.first.clone()));
        let replay = what_if::Replay::new(log, &mut known, &self.common.changes()?);
        let mut said = Vec::new();
        let mut scenario = |what_if: &WhatIf| {
            let (loaded, words) = replay.scenario(what_if)?;
            said.extend(words);
            self.settled(loaded, what_if)
        };
        let loaded = scenario(&WhatIf::actual())?;
        let others: Vec<_> = what_ifs.iter().map(scenario).collect::<Result<_>>()?;
        said.extend(self.check_sessions(&loaded, what_ifs, &others, &replay.sessions())?);
        let logs = Logs::create(&loaded, self.requests.as_deref(), None)?;
        let of_log = [known.stranger_words(), replay.notes.clone(), skipped_words(&skipped)];
        self.common.warn(&[said, of_log.concat()].concat());
        let of_actual = preflight::warnings(&loaded);
        self.common.warn(&of_actual);
        for (what_if, other) in what_ifs.iter().zip(&others) {
            let more = preflight::warnings(other).into_iter().filter(|warning| !of_actual.contains(warning));
            self.common.warn(&more.map(|warning| format!("{}: {warning}", what_if.name)).collect::<Vec<_>>());
        }
        if self.requests.is_some() {
            play(&loaded.with(&[Change::new("seeds", 1, "--requests")])?, logs, self.common.quiet, |_| {
                Ok(())
            })?;
        }
        let (actual, validation) = what_if::play(WhatIf::actual(), loaded, &replay.logged())?;
        self.say(kind, (validation.compared > 0).then_some(validation), actual, what_ifs, others)
    }

    /// Plays the other choices, and says what all of them came to.
    fn say(
        &self,
        kind: LogKind,
        validation: Option<Validation>,
        actual: Variant,
        what_ifs: &[WhatIf],
        others: Vec<Loaded>,
    ) -> Result<()> {
        let mut variants = vec![actual];
        for (what_if, loaded) in what_ifs.iter().zip(others) {
            variants.push(what_if::play(what_if.clone(), loaded, &FxHashMap::default())?.0);
        }
        let answer = Answer { file: &self.trace, form: kind.name(), validation, variants };
        answer.print(self.common.format(), self.common.quiet)?;
        self.report(&answer.variants)
    }

    /// Writes the variants as a sweep over what was asked, each compared with what was sent.
    fn report(&self, variants: &[Variant]) -> Result<()> {
        let name = Path::new(&self.trace).file_stem().map_or("trace".into(), |stem| stem.to_string_lossy());
        let Some(folder) = self.reported.folder("replay", &name) else { return Ok(()) };
        let loaded = &variants[0].loaded;
        let names = variants.iter().map(|variant| variant.what_if.name.as_str().into()).collect();
        let outline = Outline::listed(loaded, Some(("what_if", names)));
        let rows = Rows(variants.iter().map(|variant| variant.rows.clone()).collect());
        let loadeds: Vec<_> = variants.iter().map(|variant| &variant.loaded).collect();
        write_variants("replay", &outline, &rows, &loadeds, &folder, self.common.quiet)
    }

    /// The trace as a scenario.
    fn trace(&self) -> Result<Loaded> {
        let mut changes = self.described.recorded(&self.trace);
        let provider = self.provider.as_deref().unwrap_or("openai-classic");
        changes.push(Change::new("provider.profile", provider, "--provider"));
        changes.push(Change::new(&file("skip_bad"), self.logged.skip_bad, "--skip-bad"));
        changes.extend(self.common.changes()?);
        Loaded::from_text("replay", "replay", "", Path::new(""), &changes)
    }

    /// With the lifetime asked for, other choices over it, and one replication where all are the same.
    fn settled(&self, loaded: Loaded, what_if: &WhatIf) -> Result<Loaded> {
        let loaded = self.with_lifetime(loaded)?.with(&what_if.changes)?;
        if self.common.seeds.is_none() && loaded.is_deterministic() {
            return loaded.with(&[Change::new("seeds", 1, "replay")]);
        }
        Ok(loaded)
    }

    fn with_lifetime(&self, loaded: Loaded) -> Result<Loaded> {
        let Some(lifetime) = &self.lifetime else { return Ok(loaded) };
        let workload = loaded.scenario.client.workload.values().next().expect("the trace");
        let policy = loaded.policy(workload).to_string();
        let path = format!("provider.retention.lifetime.{policy}");
        loaded.with(&[
            Change::new(&path, lifetime.as_str(), "--lifetime"),
            // A lifetime that is asked for is that of a policy that is asked for.
            Change::new("client.retention", policy.as_str(), "--lifetime"),
        ])
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
