//! `cachecast sensitivity`: which unknown moves the answer most.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::Common;
use crate::cli::output::{Field, Format, Table, estimate, estimate_json, print, progress_bar, talk};
use crate::cli::shard::{self, Sharding, Shared, digest, metrics};
use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::grid::Grid;
use crate::experiment::objective::{Metric, Unit};
use crate::experiment::preflight;
use crate::experiment::results::{prepare_folder, write_file};
use crate::experiment::scenario::Loaded;
use crate::experiment::sensitivity::{Effect, Screened, Screening, plausible, screen};
use crate::experiment::statistics::Estimate;
use crate::experiment::tables::plain;
use crate::units::Span;

/// An unknown as `--over` takes it.
const EXAMPLE: &str = "provider.routing.pool=[4,5,6]";

/// Say which unknown of the provider moves the answer most: what to measure next
#[derive(Debug, Args)]
#[command(
    after_help = "Elementary effects (Morris): every unknown is changed to another of its plausible values, from many\nrandom combinations of the others. The mean absolute effect says how much it matters."
)]
pub struct Sensitivity {
    /// A scenario file, or the name of a shipped one
    scenario: String,
    /// The answer: cost, token_hit_ratio, request_hit_ratio, ttft_p95 (or total_p50, ...)
    #[arg(long, default_value = "token_hit_ratio")]
    metric: String,
    /// An unknown with its plausible values, such as `provider.routing.pool=[4,5,6]`, in place of the built-in ones;
    /// can be given several times
    #[arg(long, value_name = "PATH=VALUES")]
    over: Vec<String>,
    /// Random combinations to start from
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    trajectories: u32,
    /// Folder for effects.csv; with --shard, the part
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    sharding: Sharding,
    #[command(flatten)]
    common: Common,
}

/// What is asked.
#[derive(Debug)]
pub struct Question {
    loaded: Loaded,
    metric: Metric,
    unknowns: Vec<Grid>,
}

impl Shared for Sensitivity {
    type Asked = Question;
    type Answer = Screened;

    fn ask(&self) -> Result<Question> {
        let metric = self.metric.parse().map_err(|message: String| Error::input("--metric", message))?;
        let loaded = self.common.load(&self.scenario)?;
        let unknowns = match self.over.as_slice() {
            [] => plausible(&loaded),
            given => given.iter().map(|text| Grid::parse("--over", text, EXAMPLE)).collect::<Result<_>>()?,
        };
        Ok(Question { loaded, metric, unknowns })
    }

    fn rows(&self, Question { loaded, metric, unknowns }: &Question) -> Result<(String, Vec<String>)> {
        let question = (metric, unknowns, self.trajectories);
        Ok((digest("sensitivity", loaded, &question)?, metrics()))
    }

    fn play(&self, Question { loaded, metric, unknowns }: &Question, desk: &Desk) -> Result<Screened> {
        let bar = progress_bar(self.common.quiet);
        bar.hold(self.common.as_warnings(&preflight::warnings(loaded)));
        let screening = Screening { loaded, unknowns, metric, trajectories: self.trajectories };
        let screened = screen(&screening, desk, |done, runs| {
            bar.set_length(runs as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok(screened)
    }

    fn tell(&self, asked: &Question, screened: &Screened) -> Result<()> {
        let (scale, unit) = scale(asked);
        let table = table(&screened.effects, scale);
        if let Some(folder) = &self.out {
            prepare_folder(folder)?;
            let text = table.render(Format::Csv);
            write_file(&folder.join("effects.csv"), |out| out.write_all(text.as_bytes()))?;
        }
        let written = screened.as_written.map(|e| e.scaled(scale));
        let words = self.words(&asked.metric, written, screened.effects.first(), (scale, unit));
        match self.common.format() {
            Format::Json => print(&format!(
                "{:#}\n",
                json!({
                    "metric": asked.metric.name,
                    "unit": unit,
                    "as_written": written.map(estimate_json),
                    "trajectories": self.trajectories,
                    "effects": table.objects(),
                })
            )),
            Format::Markdown => print(&format!("{words}\n\n{}", table.render(Format::Markdown))),
            format @ (Format::Table | Format::Csv) => {
                if !self.common.quiet {
                    words.lines().for_each(talk);
                }
                table.print(format)
            }
        }
    }
}

impl Sensitivity {
    pub(super) fn answer(&self) -> Result<()> {
        shard::answer(self, &self.sharding, self.out.as_deref(), self.common.quiet)
    }

    /// What it says, and what to measure next.
    fn words(
        &self,
        metric: &Metric,
        written: Option<Estimate>,
        first: Option<&Effect>,
        (scale, unit): (f64, &str),
    ) -> String {
        let mut words = format!(
            "{}: {} {unit} as written; effects in {unit}, from {} trajectories, 95 % intervals",
            metric.name,
            estimate(written, 2),
            self.trajectories
        );
        if let Some(first) = first.filter(|first| first.absolute.mean > 0.0) {
            let moves = estimate(Some(first.absolute.scaled(scale)), 2);
            words += &format!(
                "\nMeasure next: {}, which moves it by {moves} {unit} on average.",
                first.unknown.path
            );
        }
        words
    }
}

/// What effects are multiplied with to be shown, and their unit then.
fn scale(asked: &Question) -> (f64, &'static str) {
    match asked.metric.unit {
        Unit::Share => (100.0, "points"),
        Unit::UsdPerDay if asked.loaded.scenario.duration == Span::UNLIMITED => (1.0, "USD"),
        Unit::UsdPerDay => (1.0, "USD a day"),
        Unit::Seconds | Unit::Relative => (1.0, "s"),
    }
}

fn table(effects: &[Effect], scale: f64) -> Table {
    let mut table = Table::new(["unknown", "values", "effect", "signed_effect", "greatest", "change"])
        .spare(["signed_effect", "values", "change", "greatest"]);
    for effect in effects {
        let values: Vec<_> = effect.unknown.values.iter().map(plain).collect();
        let scaled = |value: Estimate| Field::Estimate(Some(value.scaled(scale)), 2);
        table.row([
            Field::from(effect.unknown.path.to_string()),
            values.join(", ").into(),
            scaled(effect.absolute),
            scaled(effect.signed),
            Field::Number(Some(effect.greatest.0 * scale), 2),
            effect.greatest.1.clone().into(),
        ]);
    }
    table
}
