//! What if: a user's own traffic under the choices it was sent with, and under others; and first of all whether the
//! simulator gives what was billed.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use toml::Value;

use crate::error::{Error, Result};
use crate::experiment::contract::Contracts;
use crate::experiment::metrics::Row;
use crate::experiment::run::replicate_requests;
use crate::experiment::scenario::{Change, Loaded};
use crate::input::log::Log;
use crate::simulation::outcome::Outcome;
use crate::units::Tokens;

/// Other choices than those of the log.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// As the user wrote them.
    pub name: String,
    /// What they change in the scenario.
    pub changes: Vec<Change>,
    /// Whether the log's own explicit breakpoints stay.
    keeps_marks: bool,
}

impl WhatIf {
    /// Nothing else than what was sent.
    pub fn actual() -> Self {
        Self { name: "actual".into(), changes: Vec::new(), keeps_marks: true }
    }

    /// Reads `key=buckets(8)`, `retention=24h`, `breakpoints=after-system`, `provider=openai-5.6`, or any `path=value` of a
    /// scenario; several with `;` between them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut what_if = Self { name: text.to_string(), ..Self::actual() };
        for choice in text.split(';').map(str::trim) {
            let origin = format!("--what-if {choice}");
            let wrong = |message: String| Error::input(&origin, message);
            let (name, value) =
                choice.split_once('=').map(|(name, value)| (name.trim(), value.trim())).ok_or_else(|| {
                    wrong(
                        "write NAME=VALUE, such as key=buckets(8), retention=24h or breakpoints=after-system"
                            .into(),
                    )
                })?;
            match name {
                "key" => what_if.changes.extend(key(value, &origin).map_err(wrong)?),
                "retention" => what_if.changes.push(Change::new("client.retention", value, &origin)),
                "model" => what_if.changes.push(Change::new("provider.model", value, &origin)),
                "provider" => what_if.changes.push(Change::new("provider.profile", value, &origin)),
                "breakpoints" => {
                    what_if.keeps_marks = false;
                    let marked = breakpoints(value).map_err(wrong)?;
                    what_if.changes.push(Change::new("client.breakpoints", marked, &origin));
                }
                _ => {
                    let known = "key, retention, breakpoints, provider, model, or a path such as provider.routing.limit_rpm";
                    let path = Change::parse(choice).ok().filter(|_| name.contains('.'));
                    let change = path.ok_or_else(|| wrong(format!("`{name}` is no choice: {known}")))?;
                    what_if.changes.push(Change { origin, ..change });
                }
            }
        }
        Ok(what_if)
    }
}

/// Whether keys follow from sessions.
pub fn goes_by_session(loaded: &Loaded) -> bool {
    let client = &loaded.scenario.client;
    client.workload.values().any(|workload| client.keying(workload).goes_by_session())
}

/// What the calls of a file say of their sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    calls: usize,
    named: usize,
    different: FxHashSet<u64>,
}

impl Sessions {
    /// Counts one more call.
    pub fn count(&mut self, session: Option<u64>) {
        self.calls += 1;
        self.named += usize::from(session.is_some());
        self.different.extend(session);
    }

    /// Checks a choice of keys that follow from sessions. Where no call of `file` names one, it is refused: every call
    /// would be a session of its own, and the answer that of a fresh key for each. Where that holds of some calls, or each
    /// session has but one, it is said.
    pub fn check(
        &self,
        what_if: &WhatIf,
        [actual, loaded]: [&Loaded; 2],
        file: &str,
    ) -> Result<Option<String>> {
        let Self { calls, named, different } = self;
        // What was sent may go by session as it is: then no choice brought it in.
        if !goes_by_session(loaded) || goes_by_session(actual) {
            return Ok(None);
        }
        let known = format!("{named} of {calls} calls of {file} name their `session`");
        if *named == 0 {
            let message =
                format!("the key would follow from a call's session, but {known}: name it in each line");
            return Err(Error::input(format!("--what-if {}", what_if.name), message));
        }
        let consequence = if different.len() == *named && *named > 1 {
            format!("no two calls of {file} have one session: each gets its key as if it were alone")
        } else if named < calls {
            format!("{known}: each of the others is played as a session of its own")
        } else {
            return Ok(None);
        };
        Ok(Some(format!("{}: {consequence}", what_if.name)))
    }
}

/// What `key=...` means: a strategy, perhaps with the number of buckets and what assigns them.
fn key(text: &str, origin: &str) -> std::result::Result<Vec<Change>, String> {
    const STRATEGIES: [(&str, &str); 8] = [
        ("none", "none"),
        ("constant", "constant"),
        ("recorded", "recorded"),
        ("session", "per_session"),
        ("per_session", "per_session"),
        ("call", "per_call"),
        ("per_call", "per_call"),
        ("buckets", "buckets"),
    ];
    let (name, inside) = match text.split_once('(') {
        Some((name, inside)) => (name.trim(), Some(inside.strip_suffix(')').ok_or("lacks a `)`")?)),
        None => (text, None),
    };
    let Some((_, strategy)) = STRATEGIES.iter().find(|(word, _)| *word == name) else {
        let known: Vec<_> = STRATEGIES.iter().map(|(word, _)| *word).collect();
        return Err(format!("`{name}` is no keying strategy here: {}, such as buckets(8)", known.join(", ")));
    };
    let mut changes = vec![Change::new("client.key.strategy", *strategy, origin)];
    match (*strategy, inside) {
        ("buckets", Some(inside)) => {
            let (count, assign) =
                inside.split_once(',').map_or((inside, None), |(count, by)| (count, Some(by.trim())));
            let count = count.trim().parse::<i64>().map_err(|_| "write how many buckets: buckets(8)")?;
            changes.push(Change::new("client.key.buckets", count, origin));
            changes.push(Change::new("client.key.assign", assign.unwrap_or("session"), origin));
        }
        ("buckets", None) => return Err("write how many buckets: buckets(8)".into()),
        (_, Some(_)) => return Err(format!("`{name}` takes nothing in brackets")),
        (_, None) => (),
    }
    Ok(changes)
}

/// What `breakpoints=...` means: segments that are marked, joined by `+`; `none` takes all marks away.
fn breakpoints(text: &str) -> std::result::Result<Value, String> {
    let marked = text.split('+').map(str::trim).filter(|word| *word != "none").map(|word| match word {
        "after-system" | "developer" => Ok(Value::from("developer")),
        "last-message" | "message" => Ok(Value::from("message")),
        _ => Err(format!(
            "`{word}` is no place to mark: after-system, last-message, both with a + between, or none"
        )),
    });
    marked.collect::<std::result::Result<Vec<_>, _>>().map(Value::Array)
}

/// The values by how many have them, the most common first, and of those the one that came first.
fn most_common<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut counted: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counted.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count += 1,
            None => counted.push((value, 1)),
        }
    }
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counted.into_iter().map(|(value, _)| value).collect()
}

/// A log, ready to be played.
pub struct Replay {
    log: Log,
    /// What the log itself says of how it was sent, and the flags.
    changes: Vec<Change>,
    /// The model of most calls, as the log names it.
    model: Option<String>,
    /// What to know of it.
    pub notes: Vec<String>,
}

/// One way of sending the log's calls, played.
pub struct Variant {
    /// What was chosen.
    pub what_if: WhatIf,
    /// The scenario.
    pub loaded: Loaded,
    /// Its replications.
    pub rows: Vec<Row>,
}

/// Line and `cached_tokens` of the calls that say so, by number.
pub type Logged = FxHashMap<u64, (u64, Tokens)>;

/// The simulated `cached_tokens` beside those of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    /// Calls of the log whose `cached_tokens` are known.
    pub compared: u64,
    /// Comparisons: calls times replications.
    pub comparisons: u64,
    /// Of them, those in which the simulator gives the very number.
    pub exact: u64,
    /// Sum of simulated minus logged.
    pub error_tokens: i64,
    /// Sum of the distances.
    pub distance_tokens: u64,
    /// The largest distance, with its line, and what was logged and simulated there.
    pub worst: Option<(u64, Tokens, Tokens)>,
    /// Sums over the calls compared: tokens of prompts as logged, cached as logged, cached as simulated.
    pub sums: [u64; 3],
}

impl Validation {
    /// The share of comparisons in which the simulator gives the very number.
    pub fn exact_share(&self) -> f64 {
        self.exact as f64 / self.comparisons.max(1) as f64
    }

    /// Simulated minus logged, on average.
    pub fn mean_error(&self) -> f64 {
        self.error_tokens as f64 / self.comparisons.max(1) as f64
    }

    /// The distance on average.
    pub fn mean_distance(&self) -> f64 {
        self.distance_tokens as f64 / self.comparisons.max(1) as f64
    }

    /// Token hit ratios: as logged, and as simulated.
    pub fn hit_ratios(&self) -> [f64; 2] {
        [self.sums[1], self.sums[2]].map(|cached| cached as f64 / self.sums[0].max(1) as f64)
    }

    fn compare(&mut self, line: u64, logged: Tokens, outcome: &Outcome) {
        let (simulated, distance) = (outcome.cached, logged.abs_diff(outcome.cached));
        self.comparisons += 1;
        self.exact += u64::from(distance == 0);
        self.error_tokens += i64::from(simulated) - i64::from(logged);
        self.distance_tokens += u64::from(distance);
        let sums = [outcome.prompt, logged, simulated].map(u64::from);
        self.sums.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
        if self.worst.is_none_or(|(_, logged, simulated)| distance > logged.abs_diff(simulated))
            && distance > 0
        {
            self.worst = Some((line, logged, simulated));
        }
    }

    fn add(&mut self, other: &Self) {
        self.comparisons += other.comparisons;
        self.exact += other.exact;
        self.error_tokens += other.error_tokens;
        self.distance_tokens += other.distance_tokens;
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        let distance =
            |worst: &Option<(u64, Tokens, Tokens)>| worst.map_or(0, |(_, one, other)| one.abs_diff(other));
        if distance(&other.worst) > distance(&self.worst) {
            self.worst = other.worst;
        }
    }
}

impl Replay {
    /// A log under the contract of its model, or of the profile that was named; `flags` are laid over that.
    pub fn new(log: Log, contracts: &mut Contracts, flags: &[Change]) -> Self {
        let mut notes = log.notes.clone();
        let models =
            most_common(log.calls.iter().map(|call| log.groups[call.group as usize].prefix.get("model")));
        let retentions = most_common(log.calls.iter().map(|call| call.retention.as_ref()));
        let (model, asked) = (models[0].map(String::as_str), retentions[0].map(String::as_str));
        let contract = contracts.of_asking(model, asked);
        if models.len() > 1 {
            notes.push(format!(
                "{} models are in this log, and nothing is shared across them; all are played and priced as {}",
                models.len(),
                contract.provider.model
            ));
        }
        let provider = &contract.provider;
        let mut changes = vec![
            Change::new("client.key.strategy", "recorded", "the log"),
            Change::new("client.workload.log.trace.file.path", log.path.display().to_string(), "the log"),
            Change::new("provider.profile", provider.profile.as_str(), "the log"),
            Change::new("provider.model", provider.model.as_str(), "the log"),
        ];
        if let Some(policy) = asked {
            if provider.policy(Some(policy), false).is_ok() {
                changes.push(Change::new("client.retention", policy, "the log"));
            } else {
                notes.push(
                    "most calls ask for a retention that the profile does not know: its default is played"
                        .into(),
                );
            }
        }
        if retentions.len() > 1 {
            notes.push("the calls ask for different retentions: all are played with that of most".into());
        }
        changes.extend(flags.iter().cloned());
        let model = model.map(String::from);
        Self { log, changes, model, notes }
    }

    /// The log under other choices, ready to run, and what to say of it.
    pub fn scenario(&self, what_if: &WhatIf) -> Result<(Loaded, Vec<String>)> {
        let value = |path: &str| what_if.changes.iter().find(|change| change.path.to_string() == path);
        let own_provider = value("provider.profile");
        // Another provider has other models, and perhaps not the retention of this one.
        let is_kept = |change: &&Change| {
            let path = change.path.to_string();
            let is_of_provider = path == "provider.model" || path == "client.retention";
            own_provider.is_none() || change.origin != "the log" || !is_of_provider
        };
        let mut changes: Vec<_> = self.changes.iter().filter(is_kept).cloned().collect();
        let mut words = Vec::new();
        if let (Some(Change { value: Value::String(profile), .. }), Some(model), None) =
            (own_provider, &self.model, value("provider.model"))
        {
            let mut contracts = Contracts::new(Some(profile), Path::new(""))?;
            let model = contracts.of(Some(model)).provider.model.clone();
            changes.push(Change::new("provider.model", model, "the log"));
            let said = contracts.stranger_words().into_iter();
            words = said.map(|words| format!("{}: {words} (model=... chooses)", what_if.name)).collect();
        }
        changes.extend(what_if.changes.iter().cloned());
        let records: Arc<[_]> = self.log.records(what_if.keeps_marks).into();
        Ok((Loaded::from_log("replay", records, &changes)?, words))
    }

    /// What its calls say of their sessions.
    pub fn sessions(&self) -> Sessions {
        let mut sessions = Sessions::default();
        self.log.calls.iter().for_each(|call| sessions.count(call.session.map(u64::from)));
        sessions
    }

    /// What was logged as cached, with its line, by the number of the call.
    pub fn logged(&self) -> Logged {
        let calls = self.log.calls.iter();
        calls.filter_map(|call| Some((call.number, (call.line, call.usage.cached_tokens?)))).collect()
    }
}

/// Plays a scenario with every seed, and lays what it reads beside what was `logged`.
pub fn play(what_if: WhatIf, loaded: Loaded, logged: &Logged) -> Result<(Variant, Validation)> {
    let seeds: Vec<_> = (0..loaded.scenario.seeds).collect();
    let played = seeds.par_iter().map(|seed| {
        let mut compared = Validation::default();
        let report = replicate_requests(&loaded, *seed, &mut |outcome, _, _| {
            if let Some((line, cached)) = logged.get(&outcome.line) {
                compared.compare(*line, *cached, outcome);
            }
        })?;
        Ok((report.row, compared))
    });
    let played: Vec<_> = played.collect::<Result<_>>()?;
    let mut validation = Validation { compared: logged.len() as u64, ..Validation::default() };
    played.iter().for_each(|(_, compared)| validation.add(compared));
    let rows = played.into_iter().map(|(row, _)| row).collect();
    Ok((Variant { what_if, loaded, rows }, validation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_meant() {
        let changes = |text: &str| -> Vec<String> {
            let changes = WhatIf::parse(text).unwrap().changes;
            changes.iter().map(|change| format!("{}={}", change.path, change.value)).collect()
        };
        let buckets =
            ["client.key.strategy=\"buckets\"", "client.key.buckets=8", "client.key.assign=\"session\""];
        assert_eq!(changes("key=buckets(8)"), buckets);
        assert_eq!(changes("key=buckets(8, round_robin)")[2], "client.key.assign=\"round_robin\"");
        assert_eq!(
            changes("key = session; retention=24h"),
            ["client.key.strategy=\"per_session\"", "client.retention=\"24h\""]
        );
        assert_eq!(
            changes("breakpoints=after-system+last-message"),
            ["client.breakpoints=[\"developer\", \"message\"]"]
        );
        assert_eq!(changes("breakpoints=none"), ["client.breakpoints=[]"]);
        assert_eq!(changes("provider.routing.limit_rpm=30"), ["provider.routing.limit_rpm=30"]);
        for wrong in [
            "",
            "key",
            "key=bucket(8)",
            "key=buckets",
            "key=buckets(x)",
            "key=none(3)",
            "breakpoints=there",
            "=3",
        ] {
            let error = WhatIf::parse(wrong).expect_err(wrong).to_string();
            assert!(error.starts_with("--what-if") && !error.contains('\n'), "{error}");
        }
    }
}
