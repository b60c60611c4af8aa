//! The JSON Schema of scenarios and profiles, checked by a validator that is not ours: the committed files are what the
//! program prints, every shipped file names its schema and keeps to it, and what is wrong does not.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use jsonschema::Validator;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// What the program prints of one schema.
fn printed(what: &str) -> String {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
    let done = command.args(["schema", what]).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn validator(what: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(&printed(what)).unwrap()).unwrap()
}

fn as_json(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

/// What is wrong with a file, each with its place.
fn errors(validator: &Validator, text: &str) -> Vec<String> {
    let value = as_json(text);
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Shipped files of a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

#[test]
fn the_committed_schemas_are_what_the_program_prints_and_are_schemas() {
    for what in ["scenario", "profile"] {
        let printed = printed(what);
        let committed = root().join(format!("scenarios/schema/{what}.json"));
        let remade = format!("cachecast schema {what} --out scenarios/schema/{what}.json");
        assert!(read(committed) == printed, "stale: {remade}");
        let schema: Value = serde_json::from_str(&printed).unwrap();
        assert!(jsonschema::meta::is_valid(&schema), "{what}");
    }
}

#[test]
fn every_shipped_file_names_its_schema_and_keeps_to_it() {
    for (folder, what, least) in [("scenarios", "scenario", 18), ("scenarios/providers", "profile", 18)] {
        let validator = validator(what);
        let files = files(folder);
        assert!(files.len() >= least, "{files:?}");
        for file in files {
            let text = read(&file);
            let named =
                text.lines().next().unwrap().strip_prefix("#:schema ").unwrap_or_else(|| panic!("{file:?}"));
            let schema = file.parent().unwrap().join(named).canonicalize().unwrap();
            assert_eq!(schema, root().join(format!("scenarios/schema/{what}.json")).canonicalize().unwrap());
            assert_eq!(errors(&validator, &text), Vec::<String>::new(), "{file:?}");
        }
    }
}

/// A scenario that keeps to the schema, in which a test puts something else in place of a part.
const SCENARIO: &str = r#"
duration = "1h"
[client]
retention = "24h"
[client.key]
strategy = "buckets"
[client.workload.calls]
arrivals = { process = "poisson", rate = "10/min" }
[client.workload.calls.shared_prefix]
prefix_tokens = 6600
tail_tokens = "uniform(50..200)"
output_tokens = 300
[provider]
profile = "openai-classic"
[provider.routing]
pool = 4
[[regime]]
at = "30m"
[regime.provider.write]
semantics = "whole_body"
[[sweep.axis]]
path = "client.workload.calls.arrivals.rate"
values = ["5/min", "20/min"]
"#;

#[test]
fn a_scenario_that_says_something_wrong_does_not_keep_to_the_schema() {
    let validator = validator("scenario");
    assert_eq!(errors(&validator, SCENARIO), Vec::<String>::new());
    let wrong = [
        ("duration = \"1h\"", "duration = \"1 hour\"", "/duration"),
        ("duration = \"1h\"", "duration = 3600", "/duration"),
        ("duration = \"1h\"", "duraton = \"1h\"", "duraton"),
        ("duration = \"1h\"", "seeds = -1", "/seeds"),
        ("duration = \"1h\"", "seeds = 100001", "/seeds"),
        ("\"buckets\"", "\"bucket\"", "/client/key/strategy"),
        ("\"10/min\"", "\"10\"", "/client/workload/calls/arrivals/rate"),
        ("process = \"poisson\", ", "", "process"),
        ("uniform(50..200)", "gauss(50)", "/client/workload/calls/shared_prefix/tail_tokens"),
        ("prefix_tokens = 6600\n", "", "prefix_tokens"),
        ("prefix_tokens = 6600", "prefix_tokens = 66.5", "prefix_tokens"),
        ("profile = \"openai-classic\"", "model = \"gpt-5.2\"", "/provider"),
        ("\"openai-classic\"", "\"openai-clasic\"", "/provider/profile"),
        ("pool = 4", "pool = \"4\"", "/provider/routing/pool"),
        ("pool = 4", "pools = 4", "/provider/routing"),
        ("whole_body", "whole_bodies", "/regime/0/provider/write/semantics"),
        ("at = \"30m\"\n", "", "/regime/0"),
        ("path = \"client.workload.calls.arrivals.rate\"\n", "", "/sweep/axis/0"),
        ("arrivals = { process = \"poisson\", rate = \"10/min\" }", "", "/client/workload/calls"),
        (
            "[provider]\n",
            "[client.workload.calls.chat]\nprefix_tokens = 1\nturns = 1\nuser_tokens = 1\noutput_tokens = 1\nthink = \"1s\"\n[provider]\n",
            "/client/workload/calls",
        ),
    ];
    for (part, other, place) in wrong {
        assert!(SCENARIO.contains(part), "{part}");
        let errors = errors(&validator, &SCENARIO.replacen(part, other, 1));
        assert!(errors.iter().any(|error| error.contains(place)), "{other}: {errors:?}");
    }
}

#[test]
fn a_profile_that_says_something_wrong_does_not_keep_to_the_schema() {
    let validator = validator("profile");
    let extending =
        "extends = \"ideal\"\n[routing]\npool = { value = 4, tag = \"guess\", source = \"a guess\" }\n";
    assert_eq!(errors(&validator, extending), Vec::<String>::new());
    let whole = read(root().join("scenarios/providers/ideal.toml"));
    let without = |key: &str| {
        let other = |line: &&str| !line.starts_with(&format!("{key} = "));
        whole.lines().filter(other).collect::<Vec<_>>().join("\n")
    };
    let with = |part: &str, other: &str| {
        assert!(extending.contains(part), "{part}");
        extending.replacen(part, other, 1)
    };
    let wrong = [
        (with("tag = \"guess\", ", ""), "tag"),
        (with("\"guess\"", "\"sure\""), "/routing/pool/tag"),
        (with(", source = \"a guess\"", ""), "source"),
        (with("value = 4", "value = \"four\""), "/routing/pool/value"),
        (with("{ value = 4, tag = \"guess\", source = \"a guess\" }", "4"), "/routing/pool"),
        (with("pool =", "pol ="), "pol"),
        (with("\"ideal\"", "\"ideel\""), "/extends"),
        (without("hidden_tokens"), "hidden_tokens"),
        (without("machines"), "machines"),
        (without("default"), "default"),
        (without("isolation"), "isolation"),
        (without("input"), "input"),
    ];
    for (text, place) in wrong {
        let errors = errors(&validator, &text);
        assert!(errors.iter().any(|error| error.contains(place)), "{place}: {errors:?}\n{text}");
    }
}

/// Everything that a schema says of the value at a path, references followed.
fn said<'a>(schema: &'a Value, node: &'a Value, path: &[&str], found: &mut Vec<&'a Value>) {
    if let Some(target) = node.get("$ref").and_then(Value::as_str) {
        return said(schema, schema.pointer(&target[1..]).unwrap(), path, found);
    }
    for all in node.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        said(schema, all, path, found);
    }
    let Some((key, below)) = path.split_first() else { return found.push(node) };
    let named = node.get("properties").and_then(|properties| properties.get(key));
    let any = node.get("additionalProperties").filter(|values| values.is_object());
    let item = node.get("items").filter(|_| key.parse::<usize>().is_ok());
    if let Some(next) = named.or(any).or(item) {
        said(schema, next, below, found);
        if below.is_empty() {
            found.push(next);
        }
    }
}

#[test]
fn an_editor_finds_every_path_with_its_meaning_its_default_and_its_choices() {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
    let listed = command.args(["list", "axes", "--format", "json"]).output().unwrap();
    let axes: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let schema: Value = serde_json::from_str(&printed("scenario")).unwrap();
    assert!(axes.len() > 100);
    for axis in &axes {
        // A model's name has a dot in it.
        let path = axis["path"].as_str().unwrap().replace("\"gpt-5.2\"", "MODEL");
        let keys: Vec<_> = path.split('.').collect();
        let mut found = Vec::new();
        said(&schema, &schema, &keys, &mut found);
        assert!(!found.is_empty(), "{path} is not in the schema");
        let has = |key: &str| found.iter().any(|node| node.get(key).is_some());
        assert!(has("description") || path.contains("lifetime."), "{path} has no description");
        let choices = axis["type"].as_str().unwrap().contains(" | ") && axis["type"] != "true | false";
        let lists = |key: &str| found.iter().any(|node| node.get(key).is_some_and(Value::is_array));
        assert!(!choices || lists("oneOf") || lists("enum"), "{path} has no choices: {found:?}");
        let of_the_user = !path.starts_with("provider.") && path != "title" && !axis["default"].is_null();
        assert!(!of_the_user || has("default"), "{path} has no default");
    }
}
