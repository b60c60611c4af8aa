//! What a replay says of a user's own log: first whether the simulator gives what was billed, then what other choices would
//! have done.

use serde_json::{Value, json};

use crate::cli::output::{Field, Format, Table, estimate_json, number_json, print, sentences, talk_lines};
use crate::error::Result;
use crate::experiment::metrics::{COLUMNS, paired_difference, summarize};
use crate::experiment::preflight::has_relative_prices;
use crate::experiment::statistics::Estimate;
use crate::experiment::what_if::{Validation, Variant};
use crate::provider::profile::Provider;
use crate::simulation::outcome::Cause;

/// With a smaller share of exact readings the simulator does not fit the log well enough for a what-if.
const FITS: f64 = 0.9;

/// What is answered: the variants, the one that was sent first.
pub(super) struct Answer<'a> {
    /// The file.
    pub file: &'a str,
    /// What it is.
    pub form: &'static str,
    /// Simulated beside logged; missing where nothing was logged.
    pub validation: Option<Validation>,
    /// How the requests were sent, and how else.
    pub variants: Vec<Variant>,
}

impl Answer<'_> {
    pub fn print(&self, format: Format, quiet: bool) -> Result<()> {
        let words = self.words();
        match format {
            Format::Table | Format::Markdown => {
                let words = if format == Format::Table { sentences(&words) } else { words };
                let mut text = format!("{words}\n\n{}", self.choices().render(format));
                text += &format!(
                    "\nUncached tokens by cause, as a share of all prompt tokens:\n{}",
                    self.causes().render(format)
                );
                print(&text)
            }
            Format::Json => print(&format!("{:#}\n", self.json())),
            format => {
                if !quiet {
                    talk_lines(&words);
                }
                self.every_metric().print(format)
            }
        }
    }

    /// Whether the simulator gives what was billed.
    fn words(&self) -> String {
        let Self { file, form, .. } = self;
        let Some(validation) = &self.validation else {
            return format!(
                "{file} is {form}; it says nothing of cached_tokens: nothing to compare the simulator with"
            );
        };
        let [logged, simulated] = validation.hit_ratios();
        let worst = validation.worst.map_or(String::new(), |(line, logged, simulated)| {
            format!("; worst at {file}:{line}: {logged} logged, {simulated} simulated")
        });
        let mut words = format!(
            "{file} is {form}. Simulated beside logged cached_tokens of {} calls: {:.1} % exact; {:+.1} tokens on average \
             ({:.1} apart){worst}; token hit ratio {logged:.4} logged, {simulated:.4} simulated.",
            validation.compared,
            validation.exact_share() * 100.0,
            validation.mean_error(),
            validation.mean_distance(),
        );
        if validation.exact_share() < FITS {
            words += "\nAs it is set, the simulator does not give what was billed: a what-if is worth little before one does (cachecast fit).";
        }
        words
    }

    fn rows(variant: &Variant) -> Vec<&crate::experiment::metrics::Row> {
        variant.rows.iter().collect()
    }

    /// A line for each variant, with what a user decides by.
    fn choices(&self) -> Table {
        let mut table = Table::new([
            "what_if",
            "request_hit_ratio",
            "token_hit_ratio",
            "points_gained",
            "ttft_p95_ms",
            "total_p95_ms",
            "cost_usd",
            "usd_saved",
        ])
        .spare(["total_p95_ms", "ttft_p95_ms", "request_hit_ratio"]);
        for variant in &self.variants {
            let rows = Self::rows(variant);
            let estimate = |name: &str, places| Field::Estimate(summarize(&rows, name), places);
            let [points, saved] = self.gains(variant);
            let cost = if has_no_usd(variant) { Field::Estimate(None, 4) } else { estimate("cost_usd", 4) };
            table.row([
                variant.what_if.name.as_str().into(),
                estimate("request_hit_ratio", 4),
                estimate("token_hit_ratio", 4),
                Field::Estimate(points, 2),
                estimate("ttft_p95_ms", 0),
                estimate("total_p95_ms", 0),
                cost,
                Field::Estimate(saved, 4),
            ]);
        }
        table
    }

    /// Points of token hit ratio gained over what was sent, and USD saved, seed by seed.
    fn gains(&self, variant: &Variant) -> [Option<Estimate>; 2] {
        let actual = &self.variants[0];
        if std::ptr::eq(variant, actual) {
            return [None, None];
        }
        let difference = |name: &str| paired_difference(&Self::rows(variant), &Self::rows(actual), name);
        let points = difference("token_hit_ratio").map(|gained| gained.scaled(100.0));
        let in_usd = !has_no_usd(variant) && !has_no_usd(actual);
        [points, difference("cost_usd").filter(|_| in_usd).map(|more| more.scaled(-1.0))]
    }

    /// Why tokens were uncached, a column a cause; causes of nothing are left out.
    fn causes(&self) -> Table {
        let share = |variant: &Variant, cause: &Cause| {
            let rows = Self::rows(variant);
            let lost =
                summarize(&rows, &format!("lost_{}_tokens", cause.name())).map_or(0.0, |lost| lost.mean);
            summarize(&rows, "prompt_tokens").map_or(0.0, |prompt| lost / prompt.mean.max(1.0))
        };
        let some = |cause: &Cause| self.variants.iter().any(|variant| share(variant, cause) > 0.0);
        let causes: Vec<_> = Cause::ALL.into_iter().filter(some).collect();
        let mut table = Table::new(["what_if"].into_iter().chain(causes.iter().map(|cause| cause.name())));
        for variant in &self.variants {
            let shares = causes.iter().map(|cause| Field::Number(Some(share(variant, cause)), 4));
            table.row([Field::from(variant.what_if.name.as_str())].into_iter().chain(shares));
        }
        table
    }

    /// A row for each variant, with every metric and its interval.
    fn every_metric(&self) -> Table {
        let names = COLUMNS.iter().map(|column| column.name);
        let mut table =
            Table::new(["what_if", "points_gained", "usd_saved"].into_iter().chain(names.clone()));
        for variant in &self.variants {
            let rows = Self::rows(variant);
            let fields = names.clone().map(|name| match name.ends_with("_usd") && has_no_usd(variant) {
                true => Field::Estimate(None, 4),
                false => Field::Estimate(summarize(&rows, name), 4),
            });
            let [points, saved] = self.gains(variant);
            let first = [
                Field::from(variant.what_if.name.as_str()),
                Field::Estimate(points, 2),
                Field::Estimate(saved, 4),
            ];
            table.row(first.into_iter().chain(fields));
        }
        table
    }

    fn json(&self) -> Value {
        let variants = self.variants.iter().map(|variant| {
            let rows = Self::rows(variant);
            let metrics =
                COLUMNS.iter().filter_map(|column| Some((column.name, summarize(&rows, column.name)?)));
            let metrics: serde_json::Map<_, _> =
                metrics.map(|(name, estimate)| (name.to_string(), estimate_json(estimate))).collect();
            let [points, saved] = self.gains(variant).map(|gain| gain.map(estimate_json));
            let Provider { profile, model, .. } = &variant.loaded.scenario.provider;
            json!({
                "what_if": variant.what_if.name,
                "profile": profile,
                "model": model,
                "prices_in_usd": !has_no_usd(variant),
                "replications": variant.rows.len(),
                "points_gained": points,
                "usd_saved": saved,
                "metrics": metrics,
            })
        });
        let variants: Vec<_> = variants.collect();
        json!({ "file": self.file, "form": self.form, "validation": self.validation.as_ref().map(validation_json), "variants": variants })
    }
}

/// Whether the prices of its provider are relative only.
fn has_no_usd(variant: &Variant) -> bool {
    has_relative_prices(&variant.loaded.scenario.provider)
}

fn validation_json(validation: &Validation) -> Value {
    let [logged, simulated] = validation.hit_ratios();
    let worst = validation
        .worst
        .map(|(line, logged, simulated)| json!({ "line": line, "logged": logged, "simulated": simulated }));
    json!({
        "calls": validation.compared,
        "exact_share": number_json(validation.exact_share()),
        "mean_error_tokens": number_json(validation.mean_error()),
        "mean_distance_tokens": number_json(validation.mean_distance()),
        "worst": worst,
        "token_hit_ratio": { "logged": number_json(logged), "simulated": number_json(simulated) },
    })
}
