//! Every path of a scenario that can be set or swept, read off the schema of its types.

use serde_json::Value;

use crate::experiment::scenario::Scenario;
use crate::provider::profile::Provider;

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The path; NAME stands for the name of a workload.
    pub path: String,
    /// Its type: the choices, the unit, or the kind of value.
    pub kind: String,
    /// Its default, as it is written in a file; a provider's are those of its profile.
    pub default: String,
    /// What it means.
    pub meaning: String,
}

/// All paths, with a provider's values as the defaults of its part.
pub fn axes_of(provider: &Provider) -> Vec<Axis> {
    let schema = serde_json::to_value(schemars::schema_for!(Scenario)).unwrap_or_default();
    let profile = serde_json::to_value(provider).unwrap_or_default();
    let mut axes = Vec::new();
    walk(&schema, &schema, "", &serde_json::json!({ "provider": profile }), &mut axes);
    axes
}

/// Adds an axis for every leaf below a schema node. `values` holds known values at the same place.
fn walk(root: &Value, node: &Value, path: &str, values: &Value, axes: &mut Vec<Axis>) {
    for (name, property) in properties_of(root, node) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let known = values.get(name).unwrap_or(&Value::Null);
        let target = resolve(root, property);
        if path == "sweep" {
            continue;
        }
        if path == "regime" {
            // The first of them; what is below its provider is what is below `provider`.
            for (name, property) in properties_of(root, &target["items"]) {
                leaf(
                    root,
                    resolve(root, property),
                    property,
                    &format!("regime.0.{name}"),
                    &Value::Null,
                    axes,
                );
            }
            continue;
        }
        if let Some(inner) = target.get("additionalProperties").filter(|inner| inner.is_object()) {
            for example in examples(&path, known, values) {
                let path = format!("{path}.{}", quoted(example));
                let known = known.get(example).unwrap_or(&Value::Null);
                if resolve(root, inner).get("properties").is_some() {
                    walk(root, inner, &path, known, axes);
                } else {
                    leaf(root, inner, property, &path, known, axes);
                }
            }
        } else if target.get("properties").is_some() {
            walk(root, target, &path, known, axes);
        } else {
            leaf(root, target, property, &path, known, axes);
        }
    }
}

/// What a schema node says of each key.
fn properties_of<'a>(root: &'a Value, node: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
    resolve(root, node).get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn leaf(root: &Value, target: &Value, property: &Value, path: &str, known: &Value, axes: &mut Vec<Axis>) {
    let default = property.get("default").filter(|value| !value.is_null()).unwrap_or(known);
    let default = match default {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    axes.push(Axis { path: path.to_string(), kind: type_name(root, target), default, meaning });
}

/// Keys that stand for those of a map: the chosen model for all models, and every key of other maps.
fn examples<'a>(path: &str, map: &'a Value, beside: &'a Value) -> Vec<&'a str> {
    match (path, map.as_object()) {
        ("provider.models", _) => beside.get("model").and_then(Value::as_str).into_iter().collect(),
        (_, Some(map)) => map.keys().map(String::as_str).collect(),
        (_, None) => vec!["NAME"],
    }
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
        (_, Some("object")) => "table".into(),
        (_, Some(name)) => name.into(),
        _ => "value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::profile::Profile;
    use std::path::Path;

    #[test]
    fn every_leaf_of_a_scenario_is_listed_with_a_meaning() {
        let profile = Profile::load("openai-classic", Path::new("")).unwrap();
        let axes = axes_of(&profile.provider("openai-classic").unwrap());
        assert!(axes.iter().all(|axis| axis.kind != "value" && !axis.meaning.is_empty()), "{axes:?}");
        for path in [
            "duration",
            "client.key.buckets",
            "client.retention",
            "provider.routing.limit_rpm",
            "provider.retention.lifetime.24h",
            "provider.models.\"gpt-5.2\".cached",
            "client.workload.NAME.arrivals.rate",
            "client.workload.NAME.chat.think",
            "client.workload.NAME.trace.file.block_tokens",
            "client.workload.NAME.key.strategy",
            "regime.0.at",
            "regime.0.provider",
        ] {
            assert!(axes.iter().any(|axis| axis.path == path), "{path} is missing: {axes:?}");
        }
    }
}
