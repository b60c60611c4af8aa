//! `cachecast sweep`: every variant of a scenario, into CSV files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::cli::Common;
use crate::cli::output::{Table, estimate, progress_bar};
use crate::error::{Error, Result};
use crate::experiment::metrics::{paired_difference, summarize};
use crate::experiment::preflight;
use crate::experiment::sweep::{Folder, Plan, Rows, plain};

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
        self.common.warn(&common_warnings(&plan));
        let path = self.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&loaded.name));
        let folder = Folder::open(&plan, &path, self.resume)?;
        let rows = self.play(&plan, &folder)?;
        folder.finish(&rows)?;
        self.common.print(&table(&plan, &rows))?;
        if !self.common.quiet {
            eprintln!("{} cells x {} seeds written to {}", plan.cells.len(), plan.seeds, path.display());
        }
        Ok(())
    }

    /// Plays what is missing. Ctrl-C ends it with the finished rows saved.
    fn play(&self, plan: &Plan, folder: &Folder<'_>) -> Result<Rows> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        // A second handler (in a program that calls this twice) is refused; the first one goes on working.
        let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
        let finished = folder.finished();
        let bar = progress_bar(self.common.quiet);
        bar.set_length(plan.jobs() as u64);
        bar.set_position(finished.len() as u64);
        let played = plan.play(&finished, |cell, seed, row| {
            bar.inc(1);
            // A row that cannot be saved now is played again after an interruption; the final files will tell.
            let _ = folder.add(cell, seed, row);
            !interrupted.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
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

/// Warnings that hold in every cell: what only some variants deserve is what the sweep is there to show.
fn common_warnings(plan: &Plan) -> Vec<String> {
    let mut cells = plan.cells.iter().map(|cell| preflight::warnings(&cell.loaded));
    let first = cells.next().unwrap_or_default();
    cells.fold(first, |kept, warnings| kept.into_iter().filter(|w| warnings.contains(w)).collect())
}

/// The main numbers, one line a cell.
fn table(plan: &Plan, rows: &Rows) -> Table {
    let mut header: Vec<_> = plan.axes.iter().map(|axis| short_name(axis)).collect();
    header.extend(
        [
            "token_hit_ratio",
            "request_hit_ratio",
            "ceiling",
            "overflow",
            "ttft_p95_s",
            "total_p95_s",
            "cost_usd",
        ]
        .map(String::from),
    );
    if plan.baseline.is_some() {
        header.push("tokens vs baseline".into());
    }
    let mut table = Table::new(header);
    for (index, cell) in plan.cells.iter().enumerate() {
        let of_cell: Vec<_> = rows.0[index].iter().collect();
        let shown = |name: &str, places: usize| estimate(summarize(&of_cell, name), places);
        let seconds = |name: &str| {
            let estimate_ms = summarize(&of_cell, name);
            estimate(estimate_ms.map(|e| e.scaled(1e-3)), 2)
        };
        let mut line: Vec<_> = cell.values.iter().map(plain).collect();
        line.extend([shown("token_hit_ratio", 4), shown("request_hit_ratio", 4)]);
        line.push(
            summarize(&of_cell, "ceiling_lifetime_ratio").map_or(String::new(), |e| format!("{:.4}", e.mean)),
        );
        line.push(summarize(&of_cell, "overflow_share").map_or(String::new(), |e| format!("{:.4}", e.mean)));
        line.extend([seconds("ttft_p95_ms"), seconds("total_p95_ms"), shown("cost_usd", 4)]);
        if let Some(baseline) = &plan.baseline {
            let of_baseline: Vec<_> = rows.0[baseline[index]].iter().collect();
            line.push(estimate(paired_difference(&of_cell, &of_baseline, "token_hit_ratio"), 4));
        }
        table.row(line);
    }
    table
}

/// The last key of a path; in a table the rest is noise.
fn short_name(axis: &str) -> String {
    axis.rsplit('.').next().unwrap_or(axis).to_string()
}
