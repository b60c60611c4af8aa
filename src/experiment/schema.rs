//! JSON Schema of scenario and profile files, read off the types that read them, so that an editor completes and checks
//! what it knows: keys, choices, defaults, units. (What only a whole file tells is left to the program.)
//!
//! Draft 7, without keywords that editors for TOML lack. A file may say less than a type holds: a scenario's provider is a
//! layer over its profile, and a profile may extend another.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::experiment::axes::axes_of;
use crate::experiment::scenario::Scenario;
use crate::provider::profile::{Profile, Provider, shipped};

/// The schema of scenario files.
pub fn scenario() -> Result<Value> {
    let mut root = of_types();
    for table in provider_tables(&root) {
        let table = &mut root["definitions"][&table];
        remove(table, "required");
        properties_mut(table).for_each(|(_, property)| remove(property, "default"));
    }
    let provider = &mut root["definitions"]["Provider"];
    let leftover =
        "The provider: a profile, with changes laid over it. What is left out is as in the profile.";
    provider["description"] = leftover.into();
    let properties = &mut provider["properties"];
    properties["profile"] = profile_name(&properties["profile"]);
    properties["model"] =
        known_or_any(&properties["model"], of_profiles(|provider| provider.models.into_keys().collect())?);
    for table in ["Client", "Workload"] {
        let property = &mut root["definitions"][table]["properties"]["retention"];
        *property = known_or_any(
            property,
            of_profiles(|provider| provider.retention.lifetime.into_keys().collect())?,
        );
    }
    root["properties"]["provider"] = json!({
        "description": "What the user cannot change: a profile, with changes laid over it.",
        "allOf": [{ "$ref": "#/definitions/Provider" }, { "required": ["profile"] }],
    });
    let path = &mut root["definitions"]["Axis"]["properties"]["path"];
    *path = known_or_any(path, paths()?);
    root["definitions"]["Workload"]["oneOf"] = kinds();
    describe(
        &mut root,
        "cachecast scenario",
        "A scenario of cachecast: traffic, a provider, and what a sweep varies.",
    );
    Ok(root)
}

/// The schema of profile files: every value with how sure it is and where it comes from.
pub fn profile() -> Result<Value> {
    let mut root = of_types();
    let complete = complete_profile(&root);
    let tables = provider_tables(&root);
    for name in &tables {
        let mut table = root["definitions"][name].clone();
        remove(&mut table, "required");
        // A surcharge is one value, with one source.
        if name != "LongPrompt" {
            for (_, property) in properties_mut(&mut table) {
                *property = tagged(property, &tables);
            }
        }
        root["definitions"][name] = table;
    }
    let mut provider = root["definitions"]["Provider"].take();
    let extended = profile_name(
        &json!({ "description": "Another profile, whose values hold where this one has none." }),
    );
    let properties = provider["properties"].as_object_mut().expect("a table has properties");
    let said = |property: &Value| property["description"].clone();
    let plain = |property: &Value| json!({ "description": said(property), "anyOf": [{ "type": "string" }, property] });
    properties.shift_remove("profile");
    for key in ["title", "model"] {
        properties[key] = plain(&properties[key]);
    }
    properties.shift_insert(0, "extends".into(), extended);
    root["properties"] = provider["properties"].take();
    root["required"] = json!([]);
    root["if"] = json!({ "not": { "required": ["extends"] } });
    root["then"] = complete;
    describe(
        &mut root,
        "cachecast profile",
        "A provider's contract: every value with how sure it is and its source.",
    );
    keep_used_definitions(&mut root);
    Ok(root)
}

/// A schema as it stands in a file.
pub fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// The words of a choice between words.
pub fn words_of<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    let listed = |key| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let described = listed("oneOf").filter_map(|one| one.get("const"));
    listed("enum").chain(described).filter_map(|word| word.as_str().map(String::from)).collect()
}

/// The schema of the complete types, in words that editors know.
fn of_types() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut root = generator.into_root_schema_for::<Scenario>().to_value();
    tidy(&mut root);
    root
}

/// Puts a title and a description in front.
fn describe(root: &mut Value, title: &str, description: &str) {
    root["title"] = title.into();
    root["description"] = description.into();
}

/// Takes out what TOML has not (null) and what only this program knows (formats), here and everywhere below.
fn tidy(node: &mut Value) {
    match node {
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Object(keys) => {
            keys.values_mut().for_each(tidy);
            tidy_keys(keys);
        }
        _ => {}
    }
}

fn tidy_keys(node: &mut Map<String, Value>) {
    if let Some(Value::Array(alternatives)) = node.get_mut("anyOf") {
        alternatives.retain(|one| *one != json!({ "type": "null" }));
        if alternatives.len() == 1 {
            let only = alternatives.remove(0);
            node.shift_remove("anyOf");
            match only {
                // Nothing beside a reference counts.
                Value::Object(only) if !only.contains_key("$ref") => node.extend(only),
                only => drop(node.insert("allOf".into(), json!([only]))),
            }
        }
    }
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            node.insert("type".into(), only);
        }
    }
    if node.get("default").is_some_and(Value::is_null) {
        node.shift_remove("default");
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if node.get("type").is_some_and(|kind| !kind.is_object())
        && let Some(Value::String(format)) = node.get("format").cloned()
    {
        node.shift_remove("format");
        form(&format, node);
    }
}

/// What a text or a number of this format looks like.
fn form(format: &str, node: &mut Map<String, Value>) {
    const NUMBER: &str = r"([0-9]+\.?[0-9]*|\.[0-9]+)";
    const WEIGHT: &str = r"\s*[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*";
    let span = format!(r"\s*(unlimited|{NUMBER}\s*(d|h|m|min|s|ms|us|ns))\s*");
    let count = r"\s*\+?[0-9_]+\s*";
    let law = |of: &str| {
        let option = format!("{of}:{WEIGHT}");
        format!(
            r"^({of}|\s*(uniform\s*\({of}\.\.{of}\)|exponential\s*\({of}\)|lognormal\s*\({of},{WEIGHT}\)|choice\s*\({option}(,{option})*\))\s*)$"
        )
    };
    let (pattern, examples) = match format {
        "time span" => (format!("^{span}$"), json!(["250ms", "30s", "5m", "24h", "unlimited"])),
        "rate" => (
            format!(r"^(\s*every {span}|{WEIGHT}/\s*(s|m|min|h|d)\s*)$"),
            json!(["1.4/s", "30/min", "200/h", "every 7m"]),
        ),
        "time span or distribution" => {
            (law(&span), json!(["30s", "uniform(5m..10m)", "exponential(45s)", "lognormal(40s, 1.0)"]))
        }
        "count or distribution" => {
            (law(count), json!([300, "uniform(50..200)", "exponential(300)", "lognormal(60, 0.9)"]))
        }
        "share" => (r"^\s*[0-9]+\s*/\s*[0-9]+\s*$".into(), json!(["1/64"])),
        "uint32" => {
            node.entry("maximum").or_insert(u32::MAX.into());
            return;
        }
        _ => return,
    };
    node.insert("pattern".into(), pattern.into());
    node.insert("examples".into(), examples);
    if format == "count or distribution" {
        node.insert("minimum".into(), 0.into());
    }
}

/// Names of the tables of a provider, its own first.
fn provider_tables(root: &Value) -> Vec<String> {
    let mut tables = vec!["Provider".to_string()];
    let mut next = 0;
    while let Some(name) = tables.get(next) {
        let below = referred(&root["definitions"][name]);
        let is_table = |name: &String| root["definitions"][name].get("properties").is_some();
        let new: Vec<_> = below.into_iter().filter(|name| is_table(name) && !tables.contains(name)).collect();
        tables.extend(new);
        next += 1;
    }
    tables
}

/// Names of the definitions that a node refers to.
fn referred(node: &Value) -> Vec<String> {
    match node {
        Value::Array(list) => list.iter().flat_map(referred).collect(),
        Value::Object(keys) => {
            let own =
                keys.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/definitions/"));
            own.map(str::to_string).into_iter().chain(keys.values().flat_map(referred)).collect()
        }
        _ => Vec::new(),
    }
}

/// Leaves out what is not used.
fn keep_used_definitions(root: &mut Value) {
    let mut definitions = root["definitions"].take();
    let mut used = referred(root);
    let mut next = 0;
    while let Some(name) = used.get(next) {
        let new: Vec<_> =
            referred(&definitions[name]).into_iter().filter(|name| !used.contains(name)).collect();
        used.extend(new);
        next += 1;
    }
    if let Some(definitions) = definitions.as_object_mut() {
        definitions.retain(|name, _| used.contains(name));
    }
    root["definitions"] = definitions;
}

/// A property of a profile file: a table as it is, any other value with its evidence.
fn tagged(property: &Value, tables: &[String]) -> Value {
    let to_table = |node: &Value| {
        let [name] = &*referred(node) else { return false };
        name != "LongPrompt" && tables.contains(name)
    };
    if let Some(values) = property.get("additionalProperties").filter(|values| values.is_object()) {
        let mut map = property.clone();
        map["additionalProperties"] = if to_table(values) { values.clone() } else { evident(values) };
        return map;
    }
    if to_table(property) { property.clone() } else { evident(property) }
}

/// A value with its evidence.
fn evident(value: &Value) -> Value {
    let mut inner = value.clone();
    remove(&mut inner, "default");
    let mut with_evidence = json!({
        "type": "object",
        "properties": {
            "value": inner,
            "tag": {
                "description": "How sure the value is.",
                "oneOf": [
                    { "const": "doc", "description": "Documented by the vendor." },
                    { "const": "fit", "description": "Fitted to measurements." },
                    { "const": "guess", "description": "Guessed." },
                ],
            },
            "source": { "type": "string", "description": "Where it comes from, or why it was guessed so." },
        },
        "required": ["value", "tag", "source"],
        "additionalProperties": false,
    });
    if let Some(description) = value.get("description") {
        with_evidence["description"] = description.clone();
    }
    with_evidence
}

/// What a profile that extends no other must hold: every value that has no default.
fn complete_profile(root: &Value) -> Value {
    let required = |name: &str| {
        let keys = root["definitions"][name]["required"].as_array().cloned().unwrap_or_default();
        Value::from_iter(keys.into_iter().filter(|key| key != "profile"))
    };
    let tables =
        [("routing", "Routing"), ("write", "Write"), ("retention", "Retention"), ("latency", "Latency")];
    let mut properties: Map<_, _> =
        tables.iter().map(|(key, name)| (key.to_string(), json!({ "required": required(name) }))).collect();
    let each = json!({ "additionalProperties": { "required": required("Model") } });
    properties.insert("models".into(), each);
    json!({ "required": required("Provider"), "properties": properties })
}

/// A workload is of one kind, and says when its sessions start unless it is a trace.
fn kinds() -> Value {
    let generated =
        ["shared_prefix", "chat", "agent", "fork_tree"].map(|kind| json!({ "required": [kind, "arrivals"] }));
    let trace = json!({ "required": ["trace"], "not": { "required": ["arrivals"] } });
    generated.into_iter().chain([trace]).collect()
}

/// The name of a shipped profile, or a file.
fn profile_name(property: &Value) -> Value {
    let names: Vec<_> = shipped().collect();
    json!({
        "description": property["description"],
        "anyOf": [{ "enum": names }, { "type": "string", "pattern": "\\.toml$" }],
    })
}

/// Known texts to complete from, and any other.
fn known_or_any(property: &Value, known: Vec<Value>) -> Value {
    json!({ "description": property["description"], "anyOf": [{ "enum": known }, { "type": "string" }] })
}

/// Names that all shipped profiles have of something.
fn of_profiles(names: impl Fn(Provider) -> Vec<String>) -> Result<Vec<Value>> {
    let mut all = BTreeSet::new();
    for name in shipped() {
        all.extend(names(Profile::load(name, Path::new(""))?.provider(name)?));
    }
    Ok(all.into_iter().map(Value::from).collect())
}

/// Paths that a sweep can vary in any scenario: those below a workload have its name in them.
fn paths() -> Result<Vec<Value>> {
    let provider = Profile::load("openai-classic", Path::new(""))?.provider("openai-classic")?;
    let axes = axes_of(&provider).into_iter().map(|axis| axis.path);
    Ok(axes.filter(|path| !path.contains("NAME")).map(Value::from).collect())
}

fn remove(node: &mut Value, key: &str) {
    if let Some(keys) = node.as_object_mut() {
        keys.shift_remove(key);
    }
}

fn properties_mut(table: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    table.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sample::Share;
    use crate::random::{CountDistribution, SpanDistribution};
    use crate::units::{Rate, Span};

    /// Texts that are of a format, and texts that are not, as their readers say.
    fn agrees<T: std::str::FromStr>(format: &str, right: &[&str], wrong: &[&str]) {
        let mut node = Map::new();
        form(format, &mut node);
        let pattern = regex::Regex::new(node["pattern"].as_str().unwrap()).unwrap();
        let examples = node["examples"].as_array().unwrap().iter().filter_map(Value::as_str);
        for text in examples.chain(right.iter().copied()) {
            assert!(text.parse::<T>().is_ok() && pattern.is_match(text), "{format}: {text}");
        }
        for text in wrong {
            assert!(text.parse::<T>().is_err() && !pattern.is_match(text), "{format}: {text}");
        }
    }

    #[test]
    fn patterns_match_what_the_readers_read() {
        agrees::<Span>(
            "time span",
            &["1.5h", ".5s", "5 m", "20100ns", "2d", "5min"],
            &["5", "m", "-5m", "5 weeks", ""],
        );
        agrees::<Rate>(
            "rate",
            &["1e3/s", "5/d", "0.5/m", "every 8s"],
            &["30", "every", "30/fortnight", "-1/s", "every 5"],
        );
        agrees::<SpanDistribution>(
            "time span or distribution",
            &["choice(5m: 1, 10m: 3)", "uniform(5m .. 10m)", "unlimited"],
            &["uniform(5m)", "gauss(1s)", "choice(5m)", "exponential(1s", "lognormal(1s, -1)", "5"],
        );
        agrees::<CountDistribution>(
            "count or distribution",
            &["300", "1_000", "choice(1: 1, 20: 0.5)"],
            &["uniform(5)", "-3", "1.5", "5m"],
        );
        agrees::<Share>("share", &["1/1", "3 / 4"], &["1", "0.5", "/2", "one/two"]);
    }
}
