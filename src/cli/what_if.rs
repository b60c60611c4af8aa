//! What a replay says of a user's own log: first whether the simulator gives what was billed, then what other choices would
//! have done.

use serde_json::{Value, json};

use crate::cli::output::{Field, Format, Table, print, talk};
use crate::error::Result;
use crate::experiment::metrics::{COLUMNS, paired_difference, summarize};
use crate::experiment::results::number;
use crate::experiment::statistics::Estimate;
use crate::experiment::what_if::{Validation, Variant};
use crate::simulation::outcome::Cause;
use crate::units::round_to;

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
            Format::Table => {
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
                    talk(&words);
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
            words += "\nThis provider does not explain the log: a what-if is worth little before one does (cachecast fit).";
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
        ]);
        let actual = Self::rows(&self.variants[0]);
        for (at, variant) in self.variants.iter().enumerate() {
            let rows = Self::rows(variant);
            let gained = |name: &str, factor: f64| {
                let difference = paired_difference(&rows, &actual, name).filter(|_| at > 0);
                difference.map(|difference| difference.scaled(factor))
            };
            let estimate = |name: &str, places| Field::Estimate(summarize(&rows, name), places);
            table.row([
                variant.what_if.name.as_str().into(),
                estimate("request_hit_ratio", 4),
                estimate("token_hit_ratio", 4),
                Field::Estimate(gained("token_hit_ratio", 100.0), 2),
                estimate("ttft_p95_ms", 0),
                estimate("total_p95_ms", 0),
                estimate("cost_usd", 4),
                Field::Estimate(gained("cost_usd", -1.0), 4),
            ]);
        }
        table
    }

    /// Why tokens were uncached, a column a variant; causes of nothing are left out.
    fn causes(&self) -> Table {
        let names = self.variants.iter().map(|variant| variant.what_if.name.as_str());
        let mut table = Table::new(["cause"].into_iter().chain(names));
        for cause in Cause::ALL {
            let column = format!("lost_{}_tokens", cause.name());
            let share = |variant: &Variant| {
                let rows = Self::rows(variant);
                let lost = summarize(&rows, &column).map_or(0.0, |lost| lost.mean);
                summarize(&rows, "prompt_tokens").map(|prompt| lost / prompt.mean.max(1.0))
            };
            let shares: Vec<_> = self.variants.iter().map(share).collect();
            if shares.iter().flatten().any(|share| *share > 0.0) {
                let shares = shares.into_iter().map(|share| Field::Number(share, 4));
                table.row([Field::from(cause.name())].into_iter().chain(shares));
            }
        }
        table
    }

    /// A row for each variant, with every metric and its interval.
    fn every_metric(&self) -> Table {
        let names = COLUMNS.iter().map(|column| column.name);
        let mut table = Table::new(["what_if"].into_iter().chain(names.clone()));
        for variant in &self.variants {
            let rows = Self::rows(variant);
            let fields = names.clone().map(|name| Field::Estimate(summarize(&rows, name), 4));
            table.row([Field::from(variant.what_if.name.as_str())].into_iter().chain(fields));
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
            json!({ "what_if": variant.what_if.name, "replications": variant.rows.len(), "metrics": metrics })
        });
        let variants: Vec<_> = variants.collect();
        json!({ "file": self.file, "form": self.form, "validation": self.validation.as_ref().map(validation_json), "variants": variants })
    }
}

/// A number as results files have it.
fn plain(value: f64) -> Value {
    number(Some(round_to(value, 9))).parse().map_or(Value::Null, Value::Number)
}

fn estimate_json(estimate: Estimate) -> Value {
    json!({ "mean": plain(estimate.mean), "ci95": estimate.half_width.map(plain) })
}

fn validation_json(validation: &Validation) -> Value {
    let [logged, simulated] = validation.hit_ratios();
    let worst = validation
        .worst
        .map(|(line, logged, simulated)| json!({ "line": line, "logged": logged, "simulated": simulated }));
    json!({
        "calls": validation.compared,
        "exact_share": plain(validation.exact_share()),
        "mean_error_tokens": plain(validation.mean_error()),
        "mean_distance_tokens": plain(validation.mean_distance()),
        "worst": worst,
        "token_hit_ratio": { "logged": plain(logged), "simulated": plain(simulated) },
    })
}
