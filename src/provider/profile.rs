//! Profile: one provider's contract, read from TOML, every number tagged with how sure it is.
//!
//! In a profile file each value is a table `{ value, tag, source }`, where the tag is `doc` (documented by the
//! vendor), `fit` (fitted to measurements) or `guess`. A scenario lays its own plain values over a profile.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::document::{Document, KeyPath, nearest};
use crate::error::{Error, Result};
use crate::provider::failure::Failures;
use crate::provider::machine::Latency;
use crate::provider::price::Model;
use crate::provider::retention::Retention;
use crate::provider::routing::Routing;
use crate::provider::write::Write;

/// A provider as a scenario sees it: a profile with the scenario's changes laid over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The profile's name, or the path of a profile file relative to the scenario.
    pub profile: String,
    /// One line on what this profile stands for.
    pub title: String,
    /// The model whose prices and retention policies apply.
    pub model: String,
    /// Within what caches are shared: nothing is read across it.
    pub isolation: String,
    /// How requests find their machine.
    pub routing: Routing,
    /// What a request stores and how a read is reported.
    pub write: Write,
    /// How long boundaries live.
    pub retention: Retention,
    /// How long machines take.
    pub latency: Latency,
    /// How often calls fail.
    #[serde(default)]
    pub failures: Failures,
    /// Prices and retention policies by model.
    pub models: BTreeMap<String, Model>,
}

impl Provider {
    /// Checks what the types cannot say; the error gives the path below `provider`.
    pub fn validate(&self) -> std::result::Result<(), (KeyPath, String)> {
        let at = |table: &str| {
            let table = table.to_string();
            move |(field, message): (&str, String)| (KeyPath::from_iter([table.as_str(), field]), message)
        };
        self.routing.validate().map_err(at("routing"))?;
        self.write.validate().map_err(at("write"))?;
        self.latency.validate().map_err(at("latency"))?;
        self.failures.validate().map_err(at("failures"))?;
        self.retention.validate().map_err(|(field, message)| {
            (KeyPath::from_iter(["retention"].into_iter().chain(field.split('.'))), message)
        })?;
        for (name, model) in &self.models {
            let place = |(field, message): (&str, String)| {
                (KeyPath::from_iter(["models", name].into_iter().chain(field.split('.'))), message)
            };
            model.validate().map_err(place)?;
            if model.retention.is_empty() {
                return Err(place(("retention", "needs at least one policy".into())));
            }
            if let Some(policy) = model.retention.iter().find(|p| !self.retention.lifetime.contains_key(*p)) {
                return Err(place((
                    "retention",
                    format!("`{policy}` has no lifetime under retention.lifetime"),
                )));
            }
        }
        if !self.models.contains_key(&self.model) {
            let known: Vec<_> = self.models.keys().map(String::as_str).collect();
            let hint =
                nearest(&self.model, known.iter().copied()).unwrap_or(known.first().unwrap_or(&"none"));
            return Err((
                KeyPath::from_iter(["model"]),
                format!(
                    "`{}` is not a model of this profile ({}); did you mean `{hint}`?",
                    self.model,
                    known.join(", ")
                ),
            ));
        }
        Ok(())
    }

    /// The chosen model.
    pub fn chosen_model(&self) -> &Model {
        &self.models[&self.model]
    }

    /// The retention policy in force for a request that asks for `wanted`, or for none; an error if the model
    /// does not support it, or if it is not allowed under the zero data retention that the request is under.
    pub fn policy<'a>(
        &'a self,
        wanted: Option<&'a str>,
        zero_data_retention: bool,
    ) -> std::result::Result<&'a str, String> {
        let (model, supported) = (&self.model, &self.chosen_model().retention);
        let offered = self.offered(zero_data_retention);
        if offered.is_empty() {
            return Err(format!(
                "`{model}` supports {} only, not known to be allowed under zero data retention: choose another \
                 model, or name what your contract allows in provider.retention.zero_data_retention",
                supported.join(", ")
            ));
        }
        let default = self.retention.default.as_str();
        match wanted {
            None if !zero_data_retention && offered.contains(&default) => Ok(default),
            None => Ok(offered[0]),
            Some(wanted) if offered.contains(&wanted) => Ok(wanted),
            Some(wanted) if supported.iter().any(|policy| policy == wanted) => Err(format!(
                "`{wanted}` is not allowed under zero data retention (client.zero_data_retention); `{model}` has {} \
                 there",
                offered.join(", ")
            )),
            Some(wanted) => Err(format!(
                "`{model}` does not support retention `{wanted}`; it supports {}",
                supported.join(", ")
            )),
        }
    }

    /// The policies that a request can have: under zero data retention those allowed, in the profile's order.
    pub fn offered(&self, zero_data_retention: bool) -> Vec<&str> {
        let supported = &self.chosen_model().retention;
        if !zero_data_retention {
            return supported.iter().map(String::as_str).collect();
        }
        let allowed = self.retention.zero_data_retention.iter();
        allowed.filter(|policy| supported.contains(policy)).map(String::as_str).collect()
    }
}

/// How sure a profile's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// Documented by the vendor.
    Doc,
    /// Fitted to measurements.
    Fit,
    /// Guessed.
    Guess,
}

/// The tag of one value, with its source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How sure the value is.
    pub tag: Tag,
    /// Where it comes from, or why it was guessed so.
    pub source: String,
}

/// A profile file: its plain values, and the evidence for each.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The values, tags taken off.
    pub document: Document,
    /// The evidence by path.
    pub evidence: BTreeMap<KeyPath, Evidence>,
}

/// Names a file in the folder of shipped profiles and takes its text in.
macro_rules! profile {
    ($name:literal) => {
        ($name, include_str!(concat!("../../scenarios/providers/", $name, ".toml")))
    };
}

/// The profiles that come with the program.
const SHIPPED: &[(&str, &str)] = &[
    profile!("openai-classic"),
    profile!("openai-24h"),
    profile!("openai-24h-current"),
    profile!("openai-5.5"),
    profile!("openai-5.6"),
    profile!("azure-classic"),
    profile!("anthropic-5m"),
    profile!("anthropic-1h"),
    profile!("deepseek"),
    profile!("mistral"),
    profile!("gemini-implicit"),
    profile!("xai"),
    profile!("groq"),
    profile!("hypothesis-whole-body"),
    profile!("hypothesis-single-body"),
    profile!("hypothesis-write-once"),
    profile!("hypothesis-hidden-reasoning"),
    profile!("ideal"),
];

/// Names of the shipped profiles.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

impl Profile {
    /// Finds a profile by its shipped name or, if it ends in `.toml`, as a file relative to `folder`.
    pub fn load(name: &str, folder: &Path) -> Result<Self> {
        Self::load_below(name, folder, &[])
    }

    /// The same, for a profile that others `above` extend.
    fn load_below(name: &str, folder: &Path, above: &[&str]) -> Result<Self> {
        if above.contains(&name) {
            let chain = above.join(" extends ");
            return Err(Error::input(
                "provider.profile",
                format!("{chain} extends {name}: a profile cannot extend itself"),
            ));
        }
        let above = [above, &[name]].concat();
        if name.ends_with(".toml") {
            let path = folder.join(name);
            let text =
                std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read profile", &error))?;
            let inner = path.parent().unwrap_or(folder);
            return Self::parse(&path.display().to_string(), &text, inner, &above);
        }
        let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) else {
            let hint =
                nearest(name, shipped()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let known: Vec<_> = shipped().collect();
            return Err(Error::input(
                "provider.profile",
                format!(
                    "`{name}` is neither a shipped profile ({}) nor a .toml file{hint}",
                    known.join(", ")
                ),
            ));
        };
        Self::parse(&format!("scenarios/providers/{name}.toml"), text, folder, &above)
    }

    /// The profile as a provider of its own, without a scenario's changes; `name` is what it is called.
    pub fn provider(&self, name: &str) -> Result<Provider> {
        let mut document = self.document.clone();
        document.set(&KeyPath::from_iter(["profile"]), name.into(), name)?;
        document.typed(&KeyPath::default())
    }

    fn parse(file: &str, text: &str, folder: &Path, above: &[&str]) -> Result<Self> {
        let mut tagged = Document::parse(file, text)?;
        let base = match tagged.remove("extends") {
            Some(Value::String(name)) => {
                let base = Self::load_below(&name, folder, above).map_err(|error| match error {
                    Error::Input { place, message } if place == "provider.profile" => {
                        tagged.error(&KeyPath::from_iter(["extends"]), message)
                    }
                    other => other,
                });
                Some(base?)
            }
            Some(_) => return Err(Error::input(file, "extends: must be the name of a profile")),
            None => None,
        };
        let mut evidence = BTreeMap::new();
        let mut plain = tagged.clone();
        strip(tagged.table(), &KeyPath::default(), &tagged, &mut plain, &mut evidence)?;
        let Some(mut profile) = base else { return Ok(Self { document: plain, evidence }) };
        profile.document.overlay(&KeyPath::default(), &plain);
        profile.evidence.extend(evidence);
        Ok(profile)
    }
}

/// Takes the tags off every value below `path`.
fn strip(
    table: &Table,
    path: &KeyPath,
    tagged: &Document,
    plain: &mut Document,
    evidence: &mut BTreeMap<KeyPath, Evidence>,
) -> Result<()> {
    for (key, value) in table {
        let at = path.child(key.as_str());
        match value {
            Value::Table(below) if below.contains_key("value") => {
                let mut below = below.clone();
                let value = below.remove("value").expect("just seen");
                let parsed: std::result::Result<Evidence, _> = Value::Table(below).try_into();
                let parsed = parsed.map_err(|error| {
                    tagged.error(
                        &at,
                        format!(
                            "needs tag = \"doc\" | \"fit\" | \"guess\" and a source: {}",
                            error.message().lines().next().unwrap_or_default()
                        ),
                    )
                })?;
                plain.replace(&at, value);
                evidence.insert(at, parsed);
            }
            Value::Table(below) => strip(below, &at, tagged, plain, evidence)?,
            Value::String(_) if ["title", "model"].contains(&key.as_str()) && path.keys().is_empty() => {}
            _ => {
                return Err(tagged.error(
                    &at,
                    "a profile's value must be { value = ..., tag = \"doc\" | \"fit\" | \"guess\", source = \"...\" }",
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_are_complete_valid_and_tagged() {
        for name in shipped() {
            let profile = Profile::load(name, Path::new("")).unwrap();
            let provider = profile.provider(name).unwrap();
            assert_eq!(provider.validate(), Ok(()), "{name}");
            assert!(provider.policy(None, false).is_ok(), "{name}");
            let fleet = KeyPath::from_iter(["routing", "machines"]);
            assert!(profile.evidence[&fleet].source.len() > 3, "{name}");
        }
    }

    #[test]
    fn under_zero_data_retention_only_allowed_policies_are_in_force() {
        let provider = |name| Profile::load(name, Path::new("")).unwrap().provider(name).unwrap();
        let classic = provider("openai-24h");
        assert_eq!(classic.policy(None, false), Ok("24h"));
        assert_eq!(classic.policy(None, true), Ok("in_memory"), "the first that is allowed");
        assert_eq!(classic.policy(Some("in_memory"), true), Ok("in_memory"));
        let forbidden = classic.policy(Some("24h"), true).unwrap_err();
        assert!(forbidden.contains("`24h` is not allowed") && forbidden.ends_with("has in_memory there"));
        let unsupported = classic.policy(Some("1h"), true).unwrap_err();
        assert!(unsupported.contains("does not support retention `1h`; it supports in_memory, 24h"));
        for wanted in [None, Some("24h")] {
            let none = provider("openai-5.5").policy(wanted, true).unwrap_err();
            assert!(none.contains("`gpt-5.5` supports 24h only, not known to be allowed"), "{none}");
        }
        assert_eq!(provider("anthropic-1h").policy(None, true), Ok("1h"));
    }

    #[test]
    fn a_value_without_its_tag_is_refused() {
        let error = |text| Profile::parse("p.toml", text, Path::new(""), &[]).unwrap_err().to_string();
        assert!(
            error("[routing]\nmachines = 3\n").starts_with("p.toml:2: routing.machines: a profile's value")
        );
        assert!(
            error("[routing]\nmachines = { value = 3, tag = \"sure\", source = \"x\" }\n").contains("doc")
        );
    }
}
