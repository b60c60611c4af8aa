//! `cachecast run`: one scenario, all its replications.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;

use crate::cli::output::{Field, Format, Table, print, progress_bar};
use crate::cli::report::{ReportedInto, write_variants};
use crate::cli::sparkline::what_became;
use crate::cli::{Common, refuse_to_replace};
use crate::error::Result;
use crate::experiment::metrics::{COLUMNS, Column, summarize};
use crate::experiment::preflight;
use crate::experiment::requests::RequestLog;
use crate::experiment::run::{Report, replicate_requests, replicate_unwatched};
use crate::experiment::sample::half_width;
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::{Outline, Rows};
use crate::experiment::trace_log::TraceLog;
use crate::provider::profile::Provider;

/// Play one scenario and print its numbers with their 95 % intervals
#[derive(Debug, Args)]
pub struct Run {
    /// A scenario file, or the name of a shipped one
    scenario: String,
    /// Write one row for each request of the first replication, in the order of arrival
    #[arg(long, value_name = "OUT.csv")]
    requests: Option<PathBuf>,
    /// Write the requests of the first replication as a trace for `replay`: .parquet, .jsonl or .jsonl.gz
    #[arg(long, value_name = "OUT")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    reported: ReportedInto,
    #[command(flatten)]
    common: Common,
}

impl Run {
    pub(super) fn answer(&self) -> Result<()> {
        let loaded = self.common.load(&self.scenario)?;
        for written in [&self.requests, &self.trace].into_iter().flatten() {
            refuse_to_replace(&self.scenario, "scenario", written)?;
        }
        let logs = Logs::create(&loaded, self.requests.as_deref(), self.trace.as_deref())?;
        self.common.warn(&preflight::warnings(&loaded));
        let reports = play(&loaded, logs, self.common.quiet, |report| {
            self.common.warn(&warnings_of(&loaded, report));
            Ok(())
        })?;
        print_table(&self.common, &loaded, &reports)?;
        let Some(folder) = self.reported.folder("run", &loaded.name) else { return Ok(()) };
        let rows = Rows(vec![reports.into_iter().map(|report| report.row).collect()]);
        let outline = Outline::listed(&loaded, None);
        write_variants("run", &outline, &rows, &[&loaded], &folder, self.common.quiet)
    }
}

/// Prints the metrics, and for a person what became of the tokens.
pub(super) fn print_table(common: &Common, loaded: &Loaded, reports: &[Report]) -> Result<()> {
    common.print(&table(loaded, reports))?;
    let rows: Vec<_> = reports.iter().map(|report| &report.row).collect();
    match common.format() {
        Format::Table => print(&what_became(&rows).map_or(String::new(), |bars| format!("\n{bars}"))),
        _ => Ok(()),
    }
}

/// Where the requests of the first replication are written: as rows, and as a trace.
#[derive(Default)]
pub(super) struct Logs {
    requests: Option<RequestLog>,
    trace: Option<TraceLog>,
}

impl Logs {
    /// Unfinished files beside those that are asked for.
    pub fn create(loaded: &Loaded, requests: Option<&Path>, trace: Option<&Path>) -> Result<Self> {
        let requests = requests.map(RequestLog::create).transpose()?;
        let trace = trace.map(|path| TraceLog::create(path, loaded)).transpose()?;
        let unfinished =
            requests.iter().map(RequestLog::unfinished).chain(trace.iter().map(TraceLog::unfinished));
        remove_on_interrupt(unfinished.collect());
        Ok(Self { requests, trace })
    }
}

/// All replications. The requests of the first are written once `accept` has seen its report.
pub(super) fn play(
    loaded: &Loaded,
    logs: Logs,
    quiet: bool,
    accept: impl Fn(&Report) -> Result<()>,
) -> Result<Vec<Report>> {
    let bar = progress_bar(quiet);
    bar.set_length(u64::from(loaded.scenario.seeds));
    let Logs { requests: mut log, mut trace } = logs;
    let first = if log.is_none() && trace.is_none() {
        replicate_unwatched(loaded, 0)?
    } else {
        replicate_requests(loaded, 0, &mut |outcome, request, tree| {
            if let Some(log) = &mut log {
                log.write(outcome);
            }
            if let Some(trace) = &mut trace {
                trace.write(outcome.arrival, request, tree);
            }
        })?
    };
    bar.inc(1);
    bar.suspended(|| accept(&first))?;
    log.map_or(Ok(()), RequestLog::finish)?;
    trace.map_or(Ok(()), TraceLog::finish)?;
    let others = (1..loaded.scenario.seeds).into_par_iter().map(|seed| {
        let report = replicate_unwatched(loaded, seed);
        bar.inc(1);
        report
    });
    let others: Vec<_> = others.collect::<Result<_>>()?;
    bar.finish_and_clear();
    Ok(std::iter::once(first).chain(others).collect())
}

/// Ctrl-C leaves no unfinished file behind.
pub(super) fn remove_on_interrupt(unfinished: Vec<PathBuf>) {
    if unfinished.is_empty() {
        return;
    }
    let _ = ctrlc::set_handler(move || {
        for file in &unfinished {
            let _ = std::fs::remove_file(file);
        }
        std::process::exit(130);
    });
}

/// What to say of lines that were skipped.
pub(super) fn skipped_words((count, first): &(u64, Vec<String>)) -> Vec<String> {
    let named = first.iter().map(|message| format!("skipped: {message}"));
    let total = (*count > 0).then(|| format!("{count} bad lines were skipped"));
    named.chain(total).collect()
}

/// What a first replication warns of: lines that were skipped, and waits.
pub(super) fn warnings_of(loaded: &Loaded, report: &Report) -> Vec<String> {
    skipped_words(&report.skipped).into_iter().chain(waiting_words(loaded, report)).collect()
}

/// What to say where waiting is most of the time to first token: what sessions do then follows from the size of the fleet,
/// which nobody knows.
fn waiting_words(loaded: &Loaded, report: &Report) -> Option<String> {
    let [wait, ttft] = ["wait_mean_ms", "ttft_mean_ms"].map(|name| report.row.get(name));
    let wait = wait.filter(|wait| ttft.is_some_and(|ttft| *wait > ttft / 2.0))?;
    let Provider { routing, latency, .. } = &loaded.scenario.provider;
    Some(format!(
        "requests wait {:.1} s on average for a slot: a fleet of {} machines with {} slots each is too small for this \
         traffic, and both numbers are guesses (provider.routing.machines, provider.latency.slots)",
        wait / 1e3,
        routing.machines,
        latency.slots
    ))
}

/// One line a metric. Beside the interval over replications, which the error of a sample widens, stands that error
/// alone: what the full run of the same seeds would say.
fn table(loaded: &Loaded, reports: &[Report]) -> Table {
    let rows: Vec<_> = reports.iter().map(|report| &report.row).collect();
    let estimated: Vec<_> = reports.iter().filter_map(|report| report.estimated.as_ref()).collect();
    let share = loaded.scenario.sampled();
    let sampled = share.map(|_| "sample_ci95");
    let mut table = Table::new(["metric", "mean", "ci95"].into_iter().chain(sampled).chain(["meaning"]))
        .spare(["meaning"]);
    for Column { name, meaning, .. } in COLUMNS {
        let Some(summary) = summarize(&rows, name) else { continue };
        let places = if name.ends_with("tokens") || name.ends_with("requests") { 0 } else { 4 };
        let number = |value| Field::Number(value, places);
        let mut line = vec![Field::from(*name), number(Some(summary.mean)), number(summary.half_width)];
        line.extend(share.map(|share| number(half_width(&estimated, share, name))));
        line.push(Field::from(*meaning));
        table.row(line);
    }
    table
}
