//! `cachecast sweep`: every variant of a scenario, into CSV files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use clap::Args;

use crate::cli::Common;
use crate::cli::output::{Field, Format, Table, print, progress_bar, talk};
use crate::cli::report::{Reported, write_report};
use crate::cli::run::skipped_words;
use crate::cli::shard::{PartFile, Sharding, metrics};
use crate::cli::sparkline::along_axis;
use crate::error::{Error, Result};
use crate::experiment::folder::{Folder, prepare, write_tables};
use crate::experiment::lifetimes;
use crate::experiment::merge::Parts;
use crate::experiment::metrics::{Row, paired_difference, summarize};
use crate::experiment::part::Job;
use crate::experiment::play::Effort;
use crate::experiment::preflight::{self, has_relative_prices};
use crate::experiment::same_traffic;
use crate::experiment::shard::Shard;
use crate::experiment::spool::Spool;
use crate::experiment::sweep::{Cell, CellRows, Finished, Outline, Plan, Rows};
use crate::experiment::tables::{plain, short_names_beside};
use crate::experiment::unknown_lifetime;
use crate::report::about::About;
use crate::report::inside;

/// Play every variant of a scenario, with every seed, and write CSVs of hit ratio and latency
#[derive(Debug, Args)]
pub struct Sweep {
    /// A scenario file, or the name of a shipped one
    scenario: String,
    /// Folder for the CSV files [default: results/NAME]; with --shard, the part
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on from what an interrupted sweep left in the folder; with --shard, do nothing where the part is there already
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    sharding: Sharding,
    #[command(flatten)]
    pub(super) reported: Reported,
    #[command(flatten)]
    common: Common,
}

/// So many cells are printed at a time: a merge holds no more of millions than of a few.
const SHOWN_AT_ONCE: usize = 1_000;

impl Sweep {
    pub(super) fn answer(&self) -> Result<()> {
        let shard = self.sharding.shard()?;
        let loaded = super::load(&self.scenario, &self.common.changes()?)?;
        if let Some(shard) = shard {
            return self.answer_part(Outline::new(&loaded)?, shard);
        }
        let plan = Plan::new(&loaded)?;
        let path = self.folder(&plan.outline);
        let interrupted = on_interrupt();
        let folder = Folder::open(&plan, &path, self.resume)?;
        self.warn(&plan);
        let said = || same_traffic::said(&plan).or_else(|| lifetimes::said(&plan));
        if let Some(how) = (!self.common.quiet).then(said).flatten() {
            talk(&how);
        }
        let effort = Effort::begin();
        let finished = folder.finished();
        // A row that cannot be saved now is played again after an interruption; the final files will tell.
        let keep = |cell: usize, seed: u32, row: &Row| drop(folder.add(cell, seed, row));
        let rows = match self.play(&plan, &finished, &effort, &interrupted, keep) {
            Err(Error::Interrupted(_)) => {
                folder.save()?;
                let done = folder.finished().len();
                return Err(Error::Interrupted(format!(
                    "{done} of {} runs are saved; the same command with --resume goes on from there",
                    plan.jobs()
                )));
            }
            other => other?,
        };
        let effort = effort.said();
        folder.finish(&rows)?;
        self.print(&plan.outline, &rows)?;
        self.say_written(&plan.outline, &format!(" in {effort}"), &path);
        self.report(&plan.outline, &rows, &path)
    }

    /// Plays a shard's share, and writes it as a part.
    fn answer_part(&self, outline: Outline, shard: Shard) -> Result<()> {
        let out = self.out.as_deref().expect("--shard requires it");
        let jobs = outline.jobs() as u64;
        let file = PartFile::new(shard, out, digest(&outline)?, Some(jobs), metrics())?;
        if self.resume && file.known()?.is_some() {
            if !self.common.quiet {
                talk(&format!("{} is there already", file.said()));
            }
            return Ok(());
        }
        let plan = shard.plan(outline)?;
        self.warn(&plan);
        let interrupted = on_interrupt();
        let effort = Effort::begin();
        let rows = match self.play(&plan, &Finished::default(), &effort, &interrupted, |_, _, _| ()) {
            Err(Error::Interrupted(_)) => return Err(Error::Interrupted("no part is written".into())),
            other => other?,
        };
        let of_cell = |(cell, rows): (&Cell, Vec<Row>)| {
            let job = |replication| Job { cell: cell.number as u64, replication };
            (0..).map(job).zip(rows).collect::<Vec<_>>()
        };
        file.write(&plan.cells.iter().zip(rows.0).flat_map(of_cell).collect())?;
        if !self.common.quiet {
            let effort = effort.said();
            talk(&format!("{}: {} of {jobs} runs in {effort}", file.said(), plan.jobs()));
        }
        Ok(())
    }

    /// The shards, of so many, that have no part yet.
    pub(super) fn missing(&self, parts: &Parts, shards: u32) -> Result<Vec<u32>> {
        self.outline_of(parts)?;
        Ok(parts.missing(shards))
    }

    /// The sweep as it is now, which parts must be of.
    fn outline_of(&self, parts: &Parts) -> Result<Outline> {
        let loaded = super::load(&self.scenario, &self.common.changes()?)?;
        let outline = Outline::new(&loaded)?;
        parts.refuse_other_than(&digest(&outline)?)?;
        Ok(outline)
    }

    /// Writes what the whole sweep would have written, from its parts.
    pub(super) fn merge(&self, parts: &Parts) -> Result<()> {
        let outline = self.outline_of(parts)?;
        let path = self.folder(&outline);
        parts.refuse_among(&path)?;
        let is_new = !path.exists();
        prepare(&outline, &path)?;
        let rows = parts.spool(&outline, &path).inspect_err(|_| {
            // An empty folder is all there is of it yet.
            if is_new {
                let _ = std::fs::remove_dir(&path);
            }
        })?;
        write_tables(&outline, &rows, &path)?;
        match outline.cells() {
            ..=SHOWN_AT_ONCE => self.print(&outline, &rows)?,
            cells => self.print_in_pieces(&outline, &rows, cells, &path)?,
        }
        self.say_written(&outline, &format!(" from {} parts", parts.files.len()), &path);
        self.report(&outline, &rows, &path)
    }

    /// Writes a report of what stands in the folder, if one is wanted.
    fn report(&self, outline: &Outline, rows: &dyn CellRows, path: &Path) -> Result<()> {
        if !self.reported.report {
            return Ok(());
        }
        inside::write(&inside::picks(outline, rows)?, path)?;
        write_report(About::new("sweep", &self.reported.command(), &outline.base)?, path, self.common.quiet)
    }

    fn folder(&self, outline: &Outline) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&outline.name))
    }

    /// What to know before anything is played.
    fn warn(&self, plan: &Plan) {
        let idle = preflight::idle_axis(&plan.outline.base);
        let once = plan.cells.iter().find_map(|cell| preflight::sampled_once(&cell.loaded));
        let general = idle.into_iter().chain(once);
        self.common.warn(&general.chain(common_warnings(plan)).collect::<Vec<_>>());
    }

    fn print(&self, outline: &Outline, rows: &dyn CellRows) -> Result<()> {
        self.common.print(&Columns::of(outline, rows)?.table(rows, 0..outline.cells())?)?;
        match along_axis(outline, rows)?.filter(|_| self.common.format() == Format::Table) {
            Some(shape) => print(&format!("\n{shape}")),
            None => Ok(()),
        }
    }

    /// Prints what [`Self::print`] would, holding few of the cells. A table is as wide as the widest cell of all, and so is
    /// none that can be printed in pieces.
    fn print_in_pieces(&self, outline: &Outline, rows: &Spool, cells: usize, path: &Path) -> Result<()> {
        let format = self.common.format();
        let (before, between, after) = match format {
            Format::Csv => ("", "", ""),
            Format::Json => ("[\n", ",\n", "\n]\n"),
            Format::Table | Format::Markdown => {
                talk(&format!(
                    "warning: a table of {cells} cells is not printed: see {}, or say --format csv",
                    path.join("cells.csv").display()
                ));
                return Ok(());
            }
        };
        let columns = Columns::of(outline, rows)?;
        for first in (0..cells).step_by(SHOWN_AT_ONCE) {
            let piece = columns.table(rows, first..cells.min(first + SHOWN_AT_ONCE))?.render(format);
            let piece = piece.strip_prefix(before).and_then(|piece| piece.strip_suffix(after));
            let piece = piece.expect("what is printed has a beginning and an end");
            match (first, format) {
                (0, _) => print(&format!("{before}{piece}"))?,
                // Every piece has the header.
                (_, Format::Csv) => print(piece.split_once('\n').map_or("", |(_, lines)| lines))?,
                _ => print(&format!("{between}{piece}"))?,
            }
        }
        print(after)
    }

    fn say_written(&self, outline: &Outline, how: &str, path: &Path) {
        if self.common.quiet {
            return;
        }
        if unknown_lifetime::is_covered(outline) {
            talk("lifetime_unknown.csv: means over a constant lifetime anywhere from 5 to 60 minutes");
        }
        let (cells, seeds) = (outline.cells(), outline.seeds);
        talk(&format!("{cells} cells x {seeds} seeds{how}; written to {}", path.display()));
    }

    /// Plays what is missing, and has every row kept. Ctrl-C ends it.
    fn play(
        &self,
        plan: &Plan,
        finished: &Finished,
        effort: &Effort,
        interrupted: &AtomicBool,
        keep: impl Fn(usize, u32, &Row) + Sync,
    ) -> Result<Rows> {
        let bar = progress_bar(self.common.quiet);
        bar.set_length(plan.jobs() as u64);
        bar.set_position(finished.len() as u64);
        let skipped = Mutex::new(BTreeMap::new());
        let played = plan.play_measured(finished, effort, |cell, seed, report| {
            bar.inc(1);
            if report.skipped.0 > 0 && seed == 0 {
                let mut skipped = skipped.lock().expect("nothing panics with the lock");
                skipped.insert(report.skipped.1.clone(), report.skipped.0);
            }
            keep(cell, seed, &report.row);
            !interrupted.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        for (first, count) in skipped.into_inner().expect("nothing panics with the lock") {
            self.common.warn(&skipped_words(&(count, first)));
        }
        played
    }
}

/// What all rows of a sweep follow from.
fn digest(outline: &Outline) -> Result<String> {
    Ok(format!("sweep-{:016x}", outline.fingerprint()?))
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

/// The columns of every sweep.
const MAIN: [&str; 7] =
    ["token_hit_ratio", "request_hit_ratio", "ceiling", "overflow", "ttft_p95_s", "total_p95_s", "cost_usd"];

/// The last column, where there is a baseline.
const GAIN: &str = "tokens_vs_baseline";

/// Columns that a narrow terminal does without, the first ones first: what says why goes before what is decided by.
const SPARE: [&str; 10] = [
    "overflow",
    "request_hit_ratio",
    "contaminated_requests",
    "extra_requests",
    "failed_requests",
    "given_up_requests",
    "ttft_p95_s",
    "total_p95_s",
    "ceiling",
    "cost_usd",
];

/// Short names of the axes that are none of a column beside them.
pub(super) fn axis_names(outline: &Outline) -> Vec<String> {
    let taken: Vec<_> = MAIN.into_iter().chain(RARE).chain([GAIN]).collect();
    short_names_beside(&outline.axes, &taken)
}

/// The columns of what is printed: the main numbers, and of what most sweeps have none of, what this one has some of.
struct Columns<'a> {
    outline: &'a Outline,
    rare: Vec<&'static str>,
}

impl<'a> Columns<'a> {
    fn of(outline: &'a Outline, rows: &dyn CellRows) -> Result<Self> {
        let mut rare = [false; RARE.len()];
        for cell in 0..outline.cells() {
            for row in rows.of_cell(cell)? {
                let has_some = |name: &str| row.get(name).is_some_and(|value| value > 0.0);
                rare.iter_mut().zip(RARE).for_each(|(found, name)| *found |= has_some(name));
            }
        }
        let rare = RARE.into_iter().zip(rare).filter_map(|(name, found)| found.then_some(name)).collect();
        Ok(Self { outline, rare })
    }

    /// Some cells, one line each.
    fn table(&self, rows: &dyn CellRows, cells: Range<usize>) -> Result<Table> {
        let mut header = axis_names(self.outline);
        header.extend(MAIN.iter().chain(&self.rare).map(ToString::to_string));
        if self.outline.has_baseline() {
            header.push(GAIN.into());
        }
        let mut table = Table::new(header).spare(SPARE);
        if is_without_usd(self.outline) {
            table = table.titled("cost_usd", "cost_units");
        }
        for cell in cells {
            table.row(line(self.outline, rows, cell, &self.rare)?);
        }
        Ok(table)
    }
}

/// Whether no cell's cost is in USD: the prices are relative, and none of the axes chooses others.
fn is_without_usd(outline: &Outline) -> bool {
    let has_prices =
        |path: &String| ["provider.profile", "provider.model"].iter().any(|above| path.starts_with(above));
    has_relative_prices(&outline.base.scenario.provider) && !outline.axes.iter().any(has_prices)
}

/// The main numbers of a cell.
fn line(outline: &Outline, rows: &dyn CellRows, cell: usize, rare: &[&str]) -> Result<Vec<Field>> {
    let of_cell = rows.of_cell(cell)?;
    let of_cell: Vec<_> = of_cell.iter().collect();
    let shown = |name: &str| Field::Estimate(summarize(&of_cell, name), 4);
    let mean = |name: &str| Field::Number(summarize(&of_cell, name).map(|e| e.mean), 4);
    let seconds = |name: &str| Field::Estimate(summarize(&of_cell, name).map(|e| e.scaled(1e-3)), 2);
    let mut line: Vec<Field> = outline.values(cell).iter().map(|value| plain(value).into()).collect();
    line.extend([
        shown("token_hit_ratio"),
        shown("request_hit_ratio"),
        mean("ceiling_lifetime_ratio"),
        mean("overflow_share"),
        seconds("ttft_p95_ms"),
        seconds("total_p95_ms"),
        shown("cost_usd"),
    ]);
    line.extend(rare.iter().map(|name| Field::Estimate(summarize(&of_cell, name), 0)));
    if let Some(baseline) = outline.baseline_of(cell) {
        let of_baseline = rows.of_cell(baseline)?;
        let of_baseline: Vec<_> = of_baseline.iter().collect();
        line.push(Field::Estimate(paired_difference(&of_cell, &of_baseline, "token_hit_ratio"), 4));
    }
    Ok(line)
}
