//! Where results come from, so that they can be made again: the command, the version, the seeds, and every value of the
//! scenario with how sure it is. Written beside the results, as `about.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::results::write_file;
use crate::experiment::scenario::Loaded;
use crate::provider::profile::{Evidence, Profile, Tag};

/// The name of the file.
pub const FILE: &str = "about.json";

/// The version that writes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What made a folder of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The verb that answered.
    pub verb: String,
    /// Name of the scenario.
    pub name: String,
    /// The question it asks.
    pub title: String,
    /// Version of the program that wrote the results.
    pub version: String,
    /// The command that makes them again.
    pub command: String,
    /// The first seed.
    pub seed: u64,
    /// Replications.
    pub seeds: u32,
    /// The scenario with all that was laid over it, as a file.
    pub scenario: String,
    /// Its values, those of the profile and the defaults included.
    pub values: Vec<Setting>,
}

/// One value of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its path.
    pub path: String,
    /// The value.
    pub value: String,
    /// Who says so: `scenario`, `flag`, `profile` or `default`.
    pub from: String,
    /// How sure a profile is of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Where the profile has it from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl About {
    /// What is to be said of results of a scenario.
    pub fn new(verb: &str, command: &str, loaded: &Loaded) -> Result<Self> {
        let scenario = &loaded.scenario;
        Ok(Self {
            verb: verb.into(),
            name: loaded.name.clone(),
            title: scenario.title.clone(),
            version: VERSION.into(),
            command: command.into(),
            seed: scenario.seed,
            seeds: scenario.seeds,
            scenario: loaded.to_toml(),
            values: settings(loaded)?,
        })
    }

    /// Writes the file into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::input(FILE, error))?;
        write_file(&folder.join(FILE), |out| writeln!(out, "{text}"))
    }

    /// Reads the file of a folder, if it is there; what is wrong with it is added to `problems`.
    pub fn read(folder: &Path, problems: &mut Vec<String>) -> Option<Self> {
        let path = folder.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                problems.push(format!(
                    "{FILE} is not there: the folder was made without --report, and does not say which scenario, \
                     version and command made it, nor what happened inside a run"
                ));
                return None;
            }
            Err(error) => {
                problems.push(format!("{FILE}: cannot be read ({error})"));
                return None;
            }
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(about) => {
                if about.version != VERSION {
                    problems.push(format!(
                        "{FILE}: these results are of version {}, and this program is {VERSION}: columns may mean \
                         something else; run the command again",
                        about.version
                    ));
                }
                Some(about)
            }
            Err(error) => {
                problems.push(format!(
                    "{FILE}: is not what this version writes ({error}); command and scenario are left out"
                ));
                None
            }
        }
    }
}

/// Every value in the order of the types, the axes of a sweep and the models that are not used left out.
fn settings(loaded: &Loaded) -> Result<Vec<Setting>> {
    let values = serde_json::to_value(&loaded.scenario).map_err(|error| Error::input(&loaded.name, error))?;
    let mut plain = Vec::new();
    flatten(&values, &KeyPath::default(), &mut plain);
    let mut profiles = Vec::new();
    let providers = std::iter::once(KeyPath::from_iter(["provider"])).chain(
        (0..loaded.scenario.regime.len())
            .map(|number| KeyPath::from_iter(["regime", &number.to_string(), "provider"])),
    );
    for (at, (_, provider)) in providers.zip(loaded.scenario.providers()) {
        profiles.push((at, &provider.model, Profile::load(&provider.profile, &loaded.folder)?));
    }
    let settings = plain.into_iter().filter_map(|(path, value)| {
        let profile = profiles.iter().find_map(|(at, model, profile)| {
            let below = path.keys().strip_prefix(at.keys())?;
            Some((KeyPath::from_iter(below.iter().cloned()), *model, profile))
        });
        if let Some((below, model, _)) = &profile
            && below.keys().first().is_some_and(|key| key == "models")
            && below.keys().get(1) != Some(model)
        {
            return None;
        }
        if path.keys()[0] == "sweep" {
            return None;
        }
        let evidence = profile.and_then(|(below, _, profile)| evidence(profile, &below));
        let (from, evidence) = if loaded.flagged.contains(&path) {
            ("flag", None)
        } else if loaded.written(&path).is_some() {
            ("scenario", None)
        } else if evidence.is_some() {
            ("profile", evidence)
        } else {
            ("default", None)
        };
        Some(Setting {
            path: path.to_string(),
            value,
            from: from.into(),
            tag: evidence.map(|evidence| evidence.tag),
            source: evidence.map_or(String::new(), |evidence| evidence.source.clone()),
        })
    });
    Ok(settings.collect())
}

/// The evidence for a value, or for the table or list that holds it.
fn evidence<'a>(profile: &'a Profile, path: &KeyPath) -> Option<&'a Evidence> {
    (1..=path.keys().len())
        .rev()
        .find_map(|keys| profile.evidence.get(&KeyPath::from_iter(path.keys()[..keys].iter().cloned())))
}

fn flatten(value: &Value, at: &KeyPath, plain: &mut Vec<(KeyPath, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(value, &at.child(key), plain)),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(n, value)| flatten(value, &at.child(n.to_string()), plain));
        }
        Value::Null => {}
        Value::String(text) => plain.push((at.clone(), text.clone())),
        other => plain.push((at.clone(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::scenario::Change;

    const CALLS: &str = r#"
        duration = "10m"
        [client.workload.calls]
        arrivals = { process = "poisson", rate = "1/min" }
        [client.workload.calls.shared_prefix]
        prefix_tokens = 2000
        tail_tokens = 100
        output_tokens = 10
        [provider]
        profile = "openai-classic"
    "#;

    #[test]
    fn every_value_says_where_it_comes_from() {
        let changes =
            [Change::new("seeds", 3, "--seeds"), Change::parse("provider.routing.limit_rpm=9").unwrap()];
        let loaded = Loaded::from_text("s", "s.toml", CALLS, Path::new(""), &changes).unwrap();
        let about = About::new("run", "cachecast run s.toml", &loaded).unwrap();
        let setting = |path: &str| about.values.iter().find(|setting| setting.path == path).unwrap();
        assert_eq!(setting("duration").from, "scenario");
        assert_eq!(
            (setting("provider.routing.limit_rpm").value.as_str(), setting("warmup").from.as_str()),
            ("9", "default")
        );
        assert_eq!(setting("provider.routing.limit_rpm").from, "flag");
        let interval = setting("provider.write.interval");
        assert!(interval.from == "profile" && interval.tag == Some(Tag::Doc) && !interval.source.is_empty());
        assert!(about.values.iter().all(|setting| !setting.path.starts_with("sweep")));
        let folder = tempfile::tempdir().unwrap();
        about.write(folder.path()).unwrap();
        let mut problems = Vec::new();
        assert_eq!(About::read(folder.path(), &mut problems), Some(about));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn another_version_is_said() {
        let loaded = Loaded::from_text("s", "s.toml", CALLS, Path::new(""), &[]).unwrap();
        let about = About { version: "0.0.1".into(), ..About::new("run", "c", &loaded).unwrap() };
        let folder = tempfile::tempdir().unwrap();
        about.write(folder.path()).unwrap();
        let mut problems = Vec::new();
        assert!(About::read(folder.path(), &mut problems).is_some());
        assert!(problems[0].contains("of version 0.0.1"), "{problems:?}");
        std::fs::write(folder.path().join(FILE), "{\"verb\": 3}").unwrap();
        assert_eq!(About::read(folder.path(), &mut problems), None);
        assert!(problems[1].contains("is not what this version writes"), "{problems:?}");
    }
}
