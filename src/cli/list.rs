//! `cachecast list`: what there is to choose from.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::output::{Format, Table};
use crate::cli::{SHIPPED, load};
use crate::document::KeyPath;
use crate::error::Result;
use crate::experiment::scenario::{Scenario, describe_policy};
use crate::provider::profile::{Profile, Provider, shipped};

/// Show providers, scenarios, or the paths that can be set and swept
#[derive(Debug, Args)]
pub struct List {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// How to print the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
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
        let table = match self.what {
            What::Providers => providers()?,
            What::Scenarios => scenarios()?,
            What::Axes => axes()?,
        };
        table.print(self.format.unwrap_or_else(Format::for_stdout))
    }
}

/// A shipped profile on its own, with the evidence for its values.
fn provider(name: &str) -> Result<(Provider, Profile)> {
    let profile = Profile::load(name, Path::new(""))?;
    let mut document = profile.document.clone();
    document.set(&KeyPath::from_iter(["profile"]), name.into(), "list")?;
    Ok((document.typed(&KeyPath::default())?, profile))
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
    ]);
    for name in shipped() {
        let (provider, profile) = provider(name)?;
        let Provider { routing, write, retention, .. } = &provider;
        let default = std::iter::once(&retention.default);
        let others = retention.lifetime.keys().filter(|policy| **policy != retention.default);
        let policies: Vec<_> =
            default.chain(others).map(|policy| describe_policy(retention, policy)).collect();
        let mut tags = [0; 3];
        for evidence in profile.evidence.values() {
            tags[evidence.tag as usize] += 1;
        }
        table.row([
            name.to_string(),
            word(&routing.rule),
            routing.limit_rpm.to_string(),
            word(&write.semantics),
            write.interval.to_string(),
            write.hidden_tokens.to_string(),
            write.min_tokens.to_string(),
            policies.join(", else "),
            tags.map(|count| count.to_string()).join("/"),
        ]);
    }
    Ok(table)
}

/// A choice as it is written in a file.
fn word(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word,
        other => other.map_or(String::new(), |value| value.to_string()),
    }
}

fn scenarios() -> Result<Table> {
    let mut table = Table::new(["scenario", "question", "cells", "seeds"]);
    for (name, _) in SHIPPED {
        let loaded = load(name, &[])?;
        let plan = crate::experiment::sweep::Plan::new(&loaded)?;
        let seeds = loaded.scenario.seeds.to_string();
        table.row([name.to_string(), loaded.scenario.title.clone(), plan.cells.len().to_string(), seeds]);
    }
    Ok(table)
}

/// Every path of a scenario, read off the schema of its types; a provider's defaults are those of its profile.
fn axes() -> Result<Table> {
    let mut table = Table::new(["path", "type", "default", "meaning"]);
    let schema = serde_json::to_value(schemars::schema_for!(Scenario)).unwrap_or_default();
    let (provider, _) = provider("openai-classic")?;
    let profile = serde_json::to_value(&provider).unwrap_or_default();
    walk(&schema, &schema, "", &serde_json::json!({ "provider": profile }), &mut table);
    Ok(table)
}

/// Adds a row for every leaf below a schema node. `values` holds known values at the same place.
fn walk(root: &Value, node: &Value, path: &str, values: &Value, table: &mut Table) {
    let node = resolve(root, node);
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let known = values.get(name).unwrap_or(&Value::Null);
        let target = resolve(root, property);
        if path == "sweep" {
            continue;
        }
        if let Some(inner) = target.get("additionalProperties").filter(|inner| inner.is_object()) {
            let example = if path == "client.workload" { "NAME" } else { first_key(known) };
            let path = format!("{path}.{}", quoted(example));
            let known = known.get(example).unwrap_or(&Value::Null);
            if resolve(root, inner).get("properties").is_some() {
                walk(root, inner, &path, known, table);
            } else {
                leaf(root, inner, property, &path, known, table);
            }
        } else if target.get("properties").is_some() {
            walk(root, target, &path, known, table);
        } else {
            leaf(root, target, property, &path, known, table);
        }
    }
}

fn leaf(root: &Value, target: &Value, property: &Value, path: &str, known: &Value, table: &mut Table) {
    let default = property.get("default").filter(|value| !value.is_null()).unwrap_or(known);
    let default = match default {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    table.row([path.to_string(), type_name(root, target), default, meaning]);
}

/// The first key of a map, as an example of its keys.
fn first_key(map: &Value) -> &str {
    map.as_object().and_then(|map| map.keys().next()).map_or("NAME", String::as_str)
}

fn quoted(key: &str) -> String {
    if key.contains('.') { format!("\"{key}\"") } else { key.to_string() }
}

/// Follows references, and takes the one real alternative of an optional value.
fn resolve<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    if let Some(name) = node.get("$ref").and_then(Value::as_str) {
        let target = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(node, |target| resolve(root, target));
    }
    let alternatives = node.get("anyOf").and_then(Value::as_array);
    let real = alternatives.and_then(|list| list.iter().find(|one| one.get("type") != Some(&"null".into())));
    real.map_or(node, |real| resolve(root, real))
}

/// A short name for a type: its choices, its unit, or its JSON type.
fn type_name(root: &Value, node: &Value) -> String {
    let node = resolve(root, node);
    let text = |value: &Value| value.as_str().map(str::to_string);
    if let Some(choices) = node.get("oneOf").and_then(Value::as_array) {
        let words: Vec<_> = choices.iter().filter_map(|choice| choice.get("const").and_then(text)).collect();
        return words.join(" | ");
    }
    if let Some(choices) = node.get("enum").and_then(Value::as_array) {
        return choices.iter().filter_map(text).collect::<Vec<_>>().join(" | ");
    }
    let plain = match node.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(text).find(|name| name != "null"),
        Some(name) => text(name),
        None => None,
    };
    match (node.get("format").and_then(Value::as_str), plain.as_deref()) {
        (
            Some(format @ ("time span" | "rate" | "time span or distribution" | "count or distribution")),
            _,
        ) => format.into(),
        (_, Some("integer")) => "whole number".into(),
        (_, Some("boolean")) => "true | false".into(),
        (_, Some(name)) => name.into(),
        _ => "value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_leaf_of_a_scenario_is_listed_with_a_meaning() {
        let table = axes().unwrap();
        assert!(table.rows.iter().all(|row| row[1] != "value" && !row[3].is_empty()), "{table:?}");
        let listed: BTreeSet<_> = table.rows.iter().map(|row| row[0].as_str()).collect();
        for path in [
            "duration",
            "client.key.buckets",
            "client.retention",
            "provider.routing.limit_rpm",
            "provider.retention.lifetime.24h",
            "provider.models.\"gpt-4.1\".cached",
            "client.workload.NAME.arrivals.rate",
            "client.workload.NAME.chat.think",
            "client.workload.NAME.trace.file.block_tokens",
            "client.workload.NAME.key.strategy",
        ] {
            assert!(listed.contains(path), "{path} is missing: {listed:?}");
        }
    }

    #[test]
    fn providers_and_scenarios_are_listed() {
        assert_eq!(providers().unwrap().rows.len(), shipped().count());
        assert_eq!(scenarios().unwrap().rows.len(), SHIPPED.len());
    }
}
