//! `cachecast run`: one scenario, all its replications.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;

use crate::cli::Common;
use crate::cli::output::{Field, Table};
use crate::error::{Error, Result};
use crate::experiment::metrics::{COLUMNS, Column, summarize};
use crate::experiment::requests::RequestLog;
use crate::experiment::run::{Report, replicate};
use crate::experiment::sample::half_width;
use crate::experiment::scenario::Loaded;

/// Play one scenario and print its numbers with their 95 % intervals
#[derive(Debug, Args)]
pub struct Run {
    /// A scenario file, or the name of a shipped one
    scenario: String,
    /// Write one row for each request of the first replication, in the order of arrival
    #[arg(long, value_name = "OUT.csv")]
    requests: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Run {
    pub(super) fn answer(&self) -> Result<()> {
        let loaded = self.common.load(&self.scenario)?;
        let real = |path: &Path| path.canonicalize().ok();
        if let Some(requests) = self.requests.as_deref()
            && real(requests).is_some_and(|requests| real(Path::new(&self.scenario)) == Some(requests))
        {
            return Err(Error::input(requests.display(), "is the scenario itself: name another file"));
        }
        let reports = play(&loaded, self.requests.as_deref(), |report| {
            self.common.warn(&skipped_words(&report.skipped));
            Ok(())
        })?;
        self.common.print(&table(&loaded, &reports))
    }
}

/// All replications. The requests of the first are written where asked, once `accept` has seen its report.
pub(super) fn play(
    loaded: &Loaded,
    requests: Option<&Path>,
    accept: impl Fn(&Report) -> Result<()>,
) -> Result<Vec<Report>> {
    let mut log = requests.map(RequestLog::create).transpose()?;
    if let Some(log) = &log {
        // Ctrl-C leaves no unfinished file behind.
        let unfinished = log.unfinished();
        let _ = ctrlc::set_handler(move || {
            let _ = std::fs::remove_file(&unfinished);
            std::process::exit(130);
        });
    }
    let first = replicate(loaded, 0, |outcome| {
        if let Some(log) = &mut log {
            log.write(outcome);
        }
    })?;
    accept(&first)?;
    if let Some(log) = log {
        log.finish()?;
    }
    let others = (1..loaded.scenario.seeds).into_par_iter().map(|seed| replicate(loaded, seed, |_| ()));
    let others: Vec<_> = others.collect::<Result<_>>()?;
    Ok(std::iter::once(first).chain(others).collect())
}

/// What to say of lines that were skipped.
pub(super) fn skipped_words((count, first): &(u64, Vec<String>)) -> Vec<String> {
    let named = first.iter().map(|message| format!("skipped: {message}"));
    let total = (*count > 0).then(|| format!("{count} bad lines were skipped"));
    named.chain(total).collect()
}

/// One line a metric. Beside the interval over replications, which the error of a sample widens, stands that error
/// alone: what the full run of the same seeds would say.
pub(super) fn table(loaded: &Loaded, reports: &[Report]) -> Table {
    let rows: Vec<_> = reports.iter().map(|report| &report.row).collect();
    let estimated: Vec<_> = reports.iter().filter_map(|report| report.estimated.as_ref()).collect();
    let share = loaded.scenario.sampled();
    let sampled = share.map(|_| "sample_ci95");
    let mut table = Table::new(["metric", "mean", "ci95"].into_iter().chain(sampled).chain(["meaning"]));
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
