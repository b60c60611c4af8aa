//! An ensemble of plausible providers: what the data still allow the provider to be.
//!
//! Nobody outside knows how a provider routes, how long it keeps what, or what exactly it stores. A choice is
//! therefore judged under every member, by what it loses there to the member's own best choice: its *regret*.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::document::{Document, KeyPath};
use crate::error::{Error, Result};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::tables::word;
use crate::provider::routing::{RateCount, Routing, Rule};
use crate::provider::write::Semantics;

/// One plausible provider.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// How plausible it is, relative to the others.
    pub weight: f64,
    /// What is laid over the scenario's own provider.
    pub changes: Vec<Change>,
}

impl Member {
    fn new(name: impl Into<String>, changes: Vec<Change>) -> Self {
        Self { name: name.into(), weight: 1.0, changes }
    }
}

/// The providers that are plausible where nothing is known but the documents and a few public measurements: the
/// scenario's own; home under each way of counting the rate; pools of four to six; in-memory lifetimes that end
/// within the hour; each write semantics. Members that do not differ from an earlier one are left out.
pub fn plausible(loaded: &Loaded) -> Result<Vec<Member>> {
    let own = &loaded.scenario.provider;
    let mut members = vec![Member::new("as written", Vec::new())];
    for count in [RateCount::Admitted, RateCount::Arrivals, RateCount::Tumbling] {
        let changes = vec![set("routing.rule", word(&Rule::Home)), set("routing.rate_count", word(&count))];
        members.push(Member::new(format!("home, {} counted", word(&count)), changes));
    }
    for pool in [4, 5, 6] {
        let Routing { machines, .. } = own.routing;
        let pool = i64::from(machines.min(pool));
        let changes = vec![set("routing.rule", word(&Rule::Pool)), set("routing.pool", pool)];
        members.push(Member::new(format!("a pool of {pool}"), changes));
    }
    let policies: Vec<_> =
        loaded.scenario.client.workload.values().map(|workload| loaded.policy(workload)).collect();
    if policies.contains(&"in_memory") {
        let changes = vec![set("retention.lifetime.in_memory", "uniform(5m..60m)")];
        members.push(Member::new("in_memory 5 to 60 min", changes));
    }
    for semantics in
        [Semantics::PartialPrefix, Semantics::WholeBody, Semantics::FirstTokens, Semantics::Breakpoints]
    {
        members.push(Member::new(word(&semantics), vec![set("write.semantics", word(&semantics))]));
    }
    let mut distinct: Vec<(Loaded, Member)> = Vec::new();
    for member in members {
        let under = loaded.with(&member.changes)?;
        if distinct.iter().all(|(known, _)| known.scenario != under.scenario) {
            distinct.push((under, member));
        }
    }
    Ok(distinct.into_iter().map(|(_, member)| member).collect())
}

fn set(path: &str, value: impl Into<Value>) -> Change {
    Change::new(&format!("provider.{path}"), value, "the ensemble")
}

/// A file of members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    member: Vec<FileMember>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMember {
    name: String,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default)]
    provider: Table,
}

fn one() -> f64 {
    1.0
}

/// Reads an ensemble: tables `[[member]]` with a name, a weight and, under `[member.provider]`, what is laid over
/// the scenario's provider.
pub fn read(path: &Path) -> Result<Vec<Member>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "read ensemble", &error))?;
    let file = path.display().to_string();
    let document = Document::parse(&file, &text)?;
    let File { member: members } = document.typed(&KeyPath::default())?;
    if members.is_empty() {
        return Err(Error::input(&file, "has no [[member]]: an ensemble needs at least one provider"));
    }
    let member = |(index, FileMember { name, weight, provider }): (usize, FileMember)| {
        let at = KeyPath::from_iter(["member".to_string(), index.to_string()]);
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(document.error(&at.child("weight"), "must be above zero"));
        }
        let mut changes = Vec::new();
        flatten(
            &provider,
            &KeyPath::from_iter(["provider"]),
            &format!("{file}: member `{name}`"),
            &mut changes,
        );
        Ok(Member { name, weight, changes })
    };
    members.into_iter().enumerate().map(member).collect()
}

/// Every value of a table as a change at its path.
fn flatten(table: &Table, at: &KeyPath, origin: &str, changes: &mut Vec<Change>) {
    for (key, value) in table {
        let path = at.child(key.as_str());
        match value {
            Value::Table(below) if !below.is_empty() => flatten(below, &path, origin, changes),
            value => changes.push(Change { path, value: value.clone(), origin: origin.to_string() }),
        }
    }
}
