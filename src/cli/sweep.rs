//! `cachecast sweep`: every variant of a scenario, into CSV files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use clap::Args;

use crate::cli::Common;
use crate::cli::output::{Field, Format, Table, print, progress_bar, talk};
use crate::cli::run::skipped_words;
use crate::cli::sparkline::along_axis;
use crate::error::{Error, Result};
use crate::experiment::folder::Folder;
use crate::experiment::lifetimes;
use crate::experiment::metrics::{paired_difference, summarize};
use crate::experiment::play::Effort;
use crate::experiment::preflight;
use crate::experiment::sweep::{Plan, Rows};
use crate::experiment::tables::plain;
use crate::experiment::unknown_lifetime;

/// Play every variant of a scenario, with every seed, and write CSVs of hit ratio and latency
#[derive(Debug, Args)]
pub struct Sweep {
    /// A scenario file, or the name of a shipped one
    scenario: String,
    /// Folder for the CSV files [default: results/NAME]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on from what an interrupted sweep left in the folder
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    common: Common,
}

impl Sweep {
    pub(super) fn answer(&self) -> Result<()> {
        let loaded = super::load(&self.scenario, &self.common.changes()?)?;
        let plan = Plan::new(&loaded)?;
        let idle = preflight::idle_axis(&loaded);
        let once = plan.cells.iter().find_map(|cell| preflight::sampled_once(&cell.loaded));
        let general = idle.into_iter().chain(once);
        let path = self.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&loaded.name));
        let interrupted = on_interrupt();
        let folder = Folder::open(&loaded, &plan, &path, self.resume)?;
        self.common.warn(&general.chain(common_warnings(&plan)).collect::<Vec<_>>());
        if let Some(how) = lifetimes::said(&plan).filter(|_| !self.common.quiet) {
            talk(&how);
        }
        let effort = Effort::begin();
        let rows = self.play(&plan, &folder, &effort, &interrupted)?;
        let effort = effort.said();
        folder.finish(&rows)?;
        self.common.print(&table(&plan, &rows))?;
        if self.common.format() == Format::Table
            && let Some(shape) = along_axis(&plan, &rows)
        {
            print(&format!("\n{shape}"))?;
        }
        if !self.common.quiet {
            if unknown_lifetime::is_covered(&plan) {
                talk("lifetime_unknown.csv: means over a constant lifetime anywhere from 5 to 60 minutes");
            }
            let (cells, seeds) = (plan.cells.len(), plan.seeds);
            talk(&format!("{cells} cells x {seeds} seeds in {effort}; written to {}", path.display()));
        }
        Ok(())
    }

    /// Plays what is missing. Ctrl-C ends it with the finished rows saved.
    fn play(
        &self,
        plan: &Plan,
        folder: &Folder<'_>,
        effort: &Effort,
        interrupted: &AtomicBool,
    ) -> Result<Rows> {
        let finished = folder.finished();
        let bar = progress_bar(self.common.quiet);
        bar.set_length(plan.jobs() as u64);
        bar.set_position(finished.len() as u64);
        let skipped = Mutex::new(BTreeMap::new());
        let played = plan.play_measured(&finished, effort, |cell, seed, report| {
            bar.inc(1);
            if report.skipped.0 > 0 && seed == 0 {
                let mut skipped = skipped.lock().expect("nothing panics with the lock");
                skipped.insert(report.skipped.1.clone(), report.skipped.0);
            }
            // A row that cannot be saved now is played again after an interruption; the final files will tell.
            let _ = folder.add(cell, seed, &report.row);
            !interrupted.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        for (first, count) in skipped.into_inner().expect("nothing panics with the lock") {
            self.common.warn(&skipped_words(&(count, first)));
        }
        match played {
            Err(Error::Interrupted(_)) => {
                folder.save()?;
                let done = folder.finished().len();
                Err(Error::Interrupted(format!(
                    "{done} of {} runs are saved; the same command with --resume goes on from there",
                    plan.jobs()
                )))
            }
            other => other,
        }
    }
}

/// A flag that Ctrl-C raises; a second one ends the program at once.
fn on_interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    // A second handler (in a program that calls this twice) is refused; the first one goes on working.
    let _ = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    flag
}

/// Warnings that hold in every cell: what only some variants deserve is what the sweep is there to show.
fn common_warnings(plan: &Plan) -> Vec<String> {
    let mut cells = plan.cells.iter().map(|cell| preflight::warnings(&cell.loaded));
    let first = cells.next().unwrap_or_default();
    cells.fold(first, |kept, warnings| kept.into_iter().filter(|w| warnings.contains(w)).collect())
}

/// Columns that are shown where they are not all zero.
const RARE: [&str; 4] = ["extra_requests", "failed_requests", "given_up_requests", "contaminated_requests"];

/// Columns that a narrow terminal does without, the first ones first.
const SPARE: [&str; 6] =
    ["overflow", "total_p95_s", "ceiling", "request_hit_ratio", "cost_usd", "ttft_p95_s"];

/// The main numbers, one line a cell.
fn table(plan: &Plan, rows: &Rows) -> Table {
    let mut header = short_names(&plan.axes);
    let names = [
        "token_hit_ratio",
        "request_hit_ratio",
        "ceiling",
        "overflow",
        "ttft_p95_s",
        "total_p95_s",
        "cost_usd",
    ];
    header.extend(names.map(String::from));
    // What most sweeps have none of is shown where there is some.
    let has_some =
        |name: &&&str| rows.0.iter().flatten().any(|row| row.get(name).is_some_and(|value| value > 0.0));
    let rare: Vec<&str> = RARE.iter().filter(has_some).copied().collect();
    header.extend(rare.iter().map(ToString::to_string));
    if plan.baseline.is_some() {
        header.push("tokens_vs_baseline".into());
    }
    let mut table = Table::new(header).spare(SPARE);
    for (index, cell) in plan.cells.iter().enumerate() {
        let of_cell: Vec<_> = rows.0[index].iter().collect();
        let shown = |name: &str| Field::Estimate(summarize(&of_cell, name), 4);
        let mean = |name: &str| Field::Number(summarize(&of_cell, name).map(|e| e.mean), 4);
        let seconds = |name: &str| Field::Estimate(summarize(&of_cell, name).map(|e| e.scaled(1e-3)), 2);
        let mut line: Vec<Field> = cell.values.iter().map(|value| plain(value).into()).collect();
        line.extend([
            shown("token_hit_ratio"),
            shown("request_hit_ratio"),
            mean("ceiling_lifetime_ratio"),
            mean("overflow_share"),
            seconds("ttft_p95_ms"),
            seconds("total_p95_ms"),
            shown("cost_usd"),
        ]);
        let counted = |name: &&str| Field::Estimate(summarize(&of_cell, name), 0);
        line.extend(rare.iter().map(counted));
        if let Some(baseline) = &plan.baseline {
            let of_baseline: Vec<_> = rows.0[baseline[index]].iter().collect();
            line.push(Field::Estimate(paired_difference(&of_cell, &of_baseline, "token_hit_ratio"), 4));
        }
        table.row(line);
    }
    table
}

/// The last keys of the paths, as many as tell them apart: the rest is noise in a table.
pub(super) fn short_names(axes: &[String]) -> Vec<String> {
    let last = |axis: &str, keys: usize| {
        let all: Vec<_> = axis.split('.').collect();
        all[all.len().saturating_sub(keys)..].join(".")
    };
    let name = |axis: &String| {
        let unique =
            |keys: &usize| axes.iter().filter(|other| last(other, *keys) == last(axis, *keys)).count() == 1;
        (1..8).find(unique).map_or(axis.clone(), |keys| last(axis, keys))
    };
    axes.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_axes_are_as_short_as_they_can_be() {
        let axes =
            ["client.workload.a.key.buckets", "client.workload.b.key.buckets", "provider.routing.rule"];
        assert_eq!(short_names(&axes.map(String::from)), ["a.key.buckets", "b.key.buckets", "rule"]);
    }
}
