//! Contract: which provider a call is judged by.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::error::Result;
use crate::provider::profile::{Profile, Provider, shipped};

/// Who judges calls that no profile knows the model of.
const FALLBACK: &str = "openai-classic";

/// What a call is judged by.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The provider, with the model chosen.
    pub provider: Rc<Provider>,
    /// Whether the profile has this very model, so that what it says of models holds.
    pub exact: bool,
}

/// The contracts of all models seen.
#[derive(Debug)]
pub struct Contracts {
    /// Profiles in the order in which they are asked.
    profiles: Vec<Provider>,
    known: BTreeMap<Option<String>, Contract>,
}

impl Contracts {
    /// Judges every call by one profile, or each by the first shipped one that has its model.
    pub fn new(profile: Option<&str>, folder: &Path) -> Result<Self> {
        let load = |name: &str| Profile::load(name, folder)?.provider(name);
        let profiles = match profile {
            Some(name) => vec![load(name)?],
            None => {
                // Of one model's profiles the first has its defaults; Azure and hypotheses nobody can guess.
                let others = shipped().filter(|name| *name != FALLBACK);
                let others = others.filter(|name| !name.starts_with("hypothesis-") && *name != "ideal");
                std::iter::once(FALLBACK).chain(others).map(load).collect::<Result<_>>()?
            }
        };
        Ok(Self { profiles, known: BTreeMap::new() })
    }

    /// The contract of a model, or of a call that names none.
    pub fn of(&mut self, model: Option<&str>) -> Contract {
        let name = model.map(String::from);
        if let Some(known) = self.known.get(&name) {
            return known.clone();
        }
        let contract = self.find(model);
        self.known.insert(name, contract.clone());
        contract
    }

    /// The contract of a model whose calls ask for a retention: of the profiles that have the model, one that has the
    /// policy, if there is any.
    pub fn of_asking(&mut self, model: Option<&str>, retention: Option<&str>) -> Contract {
        let contract = self.of(model);
        let has = |provider: &Provider| provider.policy(retention, false).is_ok();
        if retention.is_none() || has(&contract.provider) {
            return contract;
        }
        let name = &contract.provider.model;
        let others = self.profiles.iter().filter(|profile| profile.models.contains_key(name));
        let others = others.map(|profile| Provider { model: name.clone(), ..profile.clone() });
        let other = others.into_iter().find(has);
        other.map_or(contract.clone(), |provider| Contract {
            provider: Rc::new(provider),
            exact: contract.exact,
        })
    }

    fn find(&self, model: Option<&str>) -> Contract {
        let candidates = || {
            self.profiles.iter().flat_map(|profile| profile.models.keys().map(move |name| (profile, name)))
        };
        let chosen = |(profile, name): (&Provider, &String), exact| Contract {
            provider: Rc::new(Provider { model: name.clone(), ..profile.clone() }),
            exact,
        };
        let first = (&self.profiles[0], &self.profiles[0].model);
        let Some(model) = model else { return chosen(first, false) };
        if let Some(same) = candidates().find(|(_, name)| is_dated(model, name)) {
            return chosen(same, true);
        }
        // The nearest relative: most words of the name in common, from its start; of equals the default, or the first.
        let common = |name: &str| words(model).zip(words(name)).take_while(|(a, b)| a == b).count();
        let mut best = (first, common(first.1));
        for candidate in candidates() {
            let common = common(candidate.1);
            if common > best.1 && common > usize::from(model.starts_with("gpt-")) {
                best = (candidate, common);
            }
        }
        chosen(best.0, false)
    }

    /// What to say of models that no profile has.
    pub fn stranger_words(&self) -> Vec<String> {
        let words = |(model, taken_for): (&str, &str)| match self.profiles.as_slice() {
            [Provider { profile, .. }] => {
                format!("{profile} has no model {model:?}: it is judged like its `{taken_for}`")
            }
            _ => format!(
                "no profile has the model {model:?}: it is judged like `{taken_for}` (--provider says otherwise)"
            ),
        };
        self.strangers().map(words).collect()
    }

    /// Models that no profile has, with those they were taken for.
    pub fn strangers(&self) -> impl Iterator<Item = (&str, &str)> {
        let strange =
            |(name, contract): (&'_ Option<String>, &'_ Contract)| name.is_some() && !contract.exact;
        let strange = self.known.iter().filter(move |(name, contract)| strange((name, contract)));
        strange
            .map(|(name, contract)| (name.as_deref().unwrap_or_default(), contract.provider.model.as_str()))
    }
}

/// A name without vendor and region, in one way of writing: `us.anthropic.claude-opus-4-8` as `claude-opus-4.8`.
fn plain(model: &str) -> String {
    let lower = model.rsplit('/').next().unwrap_or(model).to_lowercase();
    let vendor = ["anthropic.", "openai.", "deepseek.", "mistral."]
        .iter()
        .filter_map(|name| lower.find(name).map(|at| at + name.len()));
    let name = &lower[vendor.max().unwrap_or(0)..];
    name.replace(['.', '@', ':'], "-")
}

fn words(model: &str) -> impl Iterator<Item = String> {
    plain(model).split('-').map(String::from).collect::<Vec<_>>().into_iter()
}

/// Whether `model` is `name`, perhaps with a date or a vendor: `gpt-5.2-2026-01-15`, `openai/gpt-5.2`.
fn is_dated(model: &str, name: &str) -> bool {
    let (model, name) = (plain(model), plain(name));
    let rest = model.strip_prefix(&name);
    // A date, or a revision such as `v1`: no further number of the version.
    let is_date = |piece: &str| piece.len() >= 2 && piece.bytes().all(|byte| byte.is_ascii_digit());
    let is_revision = |piece: &str| piece.len() <= 2 && piece.starts_with('v') || piece == "0";
    rest.is_some_and(|rest| {
        rest.is_empty()
            || rest.starts_with('-') && rest[1..].split('-').all(|piece| is_date(piece) || is_revision(piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_judged_by_the_profile_that_has_it_or_its_nearest_relative() {
        let mut contracts = Contracts::new(None, Path::new("")).unwrap();
        let mut of = |model: &str| {
            let Contract { provider, exact } = contracts.of(Some(model));
            (provider.profile.clone(), provider.model.clone(), exact)
        };
        let is = |profile: &str, model: &str, exact| (profile.to_string(), model.to_string(), exact);
        assert_eq!(of("gpt-5.2"), is("openai-classic", "gpt-5.2", true));
        assert_eq!(of("openai/gpt-5.4-mini-2026-02-03"), is("openai-classic", "gpt-5.4-mini", true));
        assert_eq!(of("gpt-5.6-sol").0, "openai-5.6");
        assert_eq!(of("gpt-3.5-turbo"), is("openai-classic", "gpt-5.2", false));
        assert_eq!(of("claude-opus-4-1").0, "anthropic-5m");
        assert_eq!(of("something"), is("openai-classic", "gpt-5.2", false));
        assert_eq!(contracts.strangers().count(), 4);
    }

    #[test]
    fn a_model_is_known_however_its_vendor_writes_it() {
        let mut contracts = Contracts::new(None, Path::new("")).unwrap();
        let mut of = |model: &str| contracts.of(Some(model));
        for model in
            ["claude-opus-4-8", "us.anthropic.claude-opus-4-8-v1:0", "anthropic/claude-opus-4.8", "GPT-5.2"]
        {
            assert!(of(model).exact, "{model}");
        }
        assert!(!of("claude-opus-4").exact, "another version is another model");
    }

    #[test]
    fn a_retention_that_is_asked_for_chooses_among_the_profiles_of_a_model() {
        let mut contracts = Contracts::new(None, Path::new("")).unwrap();
        let mut profile =
            |retention| contracts.of_asking(Some("claude-opus-4-8"), retention).provider.profile.clone();
        assert_eq!(
            [None, Some("1h"), Some("7d")].map(&mut profile),
            ["anthropic-5m", "anthropic-1h", "anthropic-5m"]
        );
    }

    #[test]
    fn a_profile_that_is_named_judges_all() {
        let mut contracts = Contracts::new(Some("openai-5.6"), Path::new("")).unwrap();
        assert_eq!(contracts.of(Some("gpt-6-sol")).provider.model, "gpt-6-sol");
        assert_eq!(contracts.of(None).provider.model, "gpt-5.6-terra");
        assert_eq!(
            contracts.of(Some("gpt-5.2")).provider.model,
            "gpt-5.6-terra",
            "all are as near: the default"
        );
        assert!(Contracts::new(Some("openai-5.7"), Path::new("")).is_err());
    }
}
