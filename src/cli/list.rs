//! `cachecast list`: what there is to choose from.

use std::path::Path;

use clap::{Args, ValueEnum};
use toml::Value;

use crate::cli::output::{Format, Table};
use crate::cli::{SHIPPED, load};
use crate::error::{Error, Result};
use crate::experiment::axes::{Axis, axes_of};
use crate::experiment::tables::word;
use crate::provider::profile::{Evidence, Profile, Provider, shipped};
use crate::provider::routing::{Overflow, Rule};

/// Show providers, scenarios, or the paths that can be set and swept
#[derive(Debug, Args)]
pub struct List {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// One provider: every value of its profile (prices, residency, ...), with how sure it is and where it comes from
    profile: Option<String>,
    /// How to print the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print no talk; a list has none
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Provider profiles, side by side
    Providers,
    /// Shipped scenarios and their questions
    Scenarios,
    /// Every path, with type, default and meaning
    Axes,
}

impl List {
    pub(super) fn answer(&self) -> Result<()> {
        let table = match (self.what, &self.profile) {
            (What::Providers, Some(name)) => profile(name)?,
            (What::Providers, None) => providers()?,
            (What::Scenarios, None) => scenarios()?,
            (What::Axes, None) => axes()?,
            (What::Scenarios | What::Axes, Some(name)) => {
                return Err(Error::input(name, "only providers are listed one by one"));
            }
        };
        table.print(self.format.unwrap_or_else(Format::for_stdout))
    }
}

/// A shipped profile on its own, with the evidence for its values.
fn provider(name: &str) -> Result<(Provider, Profile)> {
    let profile = Profile::load(name, Path::new(""))?;
    Ok((profile.provider(name)?, profile))
}

fn providers() -> Result<Table> {
    let mut table = Table::new([
        "profile",
        "routing",
        "limit_rpm",
        "semantics",
        "interval",
        "hidden_tokens",
        "min_tokens",
        "retention",
        "doc/fit/guess",
    ])
    .spare(["doc/fit/guess", "hidden_tokens", "interval", "limit_rpm", "min_tokens"]);
    for name in shipped() {
        let (provider, profile) = provider(name)?;
        let Provider { routing, write, retention, .. } = &provider;
        let default = std::iter::once(&retention.default);
        let others = retention.lifetime.keys().filter(|policy| **policy != retention.default);
        let policies: Vec<_> = default.chain(others).map(|policy| retention.describe(policy)).collect();
        let mut tags = [0; 3];
        for evidence in profile.evidence.values() {
            tags[evidence.tag as usize] += 1;
        }
        let limited = routing.rule == Rule::Home && routing.overflow != Overflow::None;
        table.row([
            name.to_string(),
            word(&routing.rule),
            // What a rule does not use would only mislead.
            if limited { routing.limit_rpm.to_string() } else { String::new() },
            word(&write.semantics),
            if write.covers() { write.interval.to_string() } else { String::new() },
            if write.covers() { write.hidden_tokens.to_string() } else { String::new() },
            write.min_tokens.to_string(),
            policies.join(", else "),
            tags.map(|count| count.to_string()).join("/"),
        ]);
    }
    Ok(table)
}

/// Every value of one profile, with its evidence.
fn profile(name: &str) -> Result<Table> {
    let profile = Profile::load(name, Path::new("")).map_err(|error| match error {
        // No scenario is involved: name what was asked for.
        Error::Input { place, message } if place == "provider.profile" => Error::input(name, message),
        other => other,
    })?;
    let mut table = Table::new(["path", "value", "tag", "source"]);
    for (path, Evidence { tag, source }) in &profile.evidence {
        let value = match profile.document.get(path) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        table.row([format!("provider.{path}"), value, word(tag), source.clone()]);
    }
    Ok(table)
}

fn scenarios() -> Result<Table> {
    let mut table = Table::new(["scenario", "question", "cells", "seeds"]);
    for (name, _) in SHIPPED {
        let loaded = load(name, &[])?;
        let outline = crate::experiment::sweep::Outline::new(&loaded)?;
        let seeds = loaded.scenario.seeds.to_string();
        table.row([name.to_string(), loaded.scenario.title.clone(), outline.cells().to_string(), seeds]);
    }
    Ok(table)
}

fn axes() -> Result<Table> {
    let mut table = Table::new(["path", "type", "default", "meaning"]);
    let (provider, _) = provider("openai-classic")?;
    for Axis { path, kind, default, meaning } in axes_of(&provider) {
        table.row([path, kind, default, meaning]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_scenarios_and_axes_are_listed() {
        assert_eq!(providers().unwrap().rows.len(), shipped().count());
        assert_eq!(scenarios().unwrap().rows.len(), SHIPPED.len());
        assert!(axes().unwrap().rows.len() > 50);
    }
}
