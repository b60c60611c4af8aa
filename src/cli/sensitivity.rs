//! `cachecast sensitivity`: which unknown moves the answer most.

use clap::Args;
use serde_json::json;

use crate::cli::Common;
use crate::cli::output::{Field, Format, Table, estimate, estimate_json, print, progress_bar, talk};
use crate::error::{Error, Result};
use crate::experiment::grid::Grid;
use crate::experiment::objective::{Metric, Unit};
use crate::experiment::preflight;
use crate::experiment::sensitivity::{Effect, as_written, plausible, screen};
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
    #[command(flatten)]
    common: Common,
}

impl Sensitivity {
    pub(super) fn answer(&self) -> Result<()> {
        let metric: Metric =
            self.metric.parse().map_err(|message: String| Error::input("--metric", message))?;
        let loaded = self.common.load(&self.scenario)?;
        let unknowns = match self.over.as_slice() {
            [] => plausible(&loaded),
            given => given.iter().map(|text| Grid::parse("--over", text, EXAMPLE)).collect::<Result<_>>()?,
        };
        let bar = progress_bar(self.common.quiet);
        bar.hold(self.common.as_warnings(&preflight::warnings(&loaded)));
        let effects = screen(&loaded, &unknowns, &metric, self.trajectories, |done, runs| {
            bar.set_length(runs as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let (scale, unit) = match metric.unit {
            Unit::Share => (100.0, "points"),
            Unit::UsdPerDay if loaded.scenario.duration == Span::UNLIMITED => (1.0, "USD"),
            Unit::UsdPerDay => (1.0, "USD a day"),
            Unit::Seconds | Unit::Relative => (1.0, "s"),
        };
        let mut table = Table::new(["unknown", "values", "effect", "signed_effect", "greatest", "change"])
            .spare(["signed_effect", "values", "change", "greatest"]);
        for effect in &effects {
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
        let format = self.common.format();
        if self.common.quiet && matches!(format, Format::Table | Format::Csv) {
            return table.print(format);
        }
        let written = as_written(&loaded, &metric, loaded.scenario.seeds)?.map(|e| e.scaled(scale));
        let words = self.words(&metric, written, effects.first(), (scale, unit));
        match format {
            Format::Json => print(&format!(
                "{:#}\n",
                json!({
                    "metric": metric.name,
                    "unit": unit,
                    "as_written": written.map(estimate_json),
                    "trajectories": self.trajectories,
                    "effects": table.objects(),
                })
            )),
            Format::Markdown => print(&format!("{words}\n\n{}", table.render(format))),
            Format::Table | Format::Csv => {
                words.lines().for_each(talk);
                table.print(format)
            }
        }
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
