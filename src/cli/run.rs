//! `cachecast run`: one scenario, all its replications.

use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;

use crate::cli::Common;
use crate::cli::output::Table;
use crate::error::Result;
use crate::experiment::metrics::{COLUMNS, Column, Row, summarize};
use crate::experiment::requests::RequestLog;
use crate::experiment::run::{Report, replicate};
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
        let reports = play(&loaded, self.requests.as_deref())?;
        for (count, first) in reports.iter().map(|report| &report.skipped).take(1) {
            self.common.warn(&skipped_words(*count, first));
        }
        let rows: Vec<_> = reports.into_iter().map(|report| report.row).collect();
        self.common.print(&table(&rows))
    }
}

/// All replications; the requests of the first are written where asked.
pub(super) fn play(loaded: &Loaded, requests: Option<&std::path::Path>) -> Result<Vec<Report>> {
    let first = match requests {
        Some(path) => {
            let mut log = RequestLog::create(path)?;
            let report = replicate(loaded, 0, |outcome| log.write(outcome))?;
            log.finish()?;
            report
        }
        None => replicate(loaded, 0, |_| ())?,
    };
    let others = (1..loaded.scenario.seeds).into_par_iter().map(|seed| replicate(loaded, seed, |_| ()));
    let others: Vec<_> = others.collect::<Result<_>>()?;
    Ok(std::iter::once(first).chain(others).collect())
}

/// What to say of lines that were skipped.
pub(super) fn skipped_words(count: u64, first: &[String]) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    let more = count - first.len() as u64;
    let rest = (more > 0).then(|| format!("and {more} more bad lines were skipped"));
    first.iter().map(|message| format!("skipped: {message}")).chain(rest).collect()
}

/// One line a metric.
pub(super) fn table(rows: &[Row]) -> Table {
    let rows: Vec<_> = rows.iter().collect();
    let mut table = Table::new(["metric", "mean", "ci95", "meaning"]);
    for Column { name, meaning, .. } in COLUMNS {
        let Some(summary) = summarize(&rows, name) else { continue };
        let places = if name.ends_with("tokens") || name.ends_with("requests") { 0 } else { 4 };
        let number = |value: f64| format!("{value:.places$}");
        let half = summary.half_width.map(|half| format!("±{half:.places$}"));
        table.row([name.to_string(), number(summary.mean), half.unwrap_or_default(), meaning.to_string()]);
    }
    table
}
