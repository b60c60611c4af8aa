//! A scenario: a TOML file, one to one, with a provider's profile under it and changes laid over it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::client::key::{Assign, Keying, Strategy};
use crate::client::sample::Share;
use crate::client::session::MOST_WORKLOADS;
use crate::client::workload::{Client, Workload, validate_marks};
use crate::document::{Document, KeyPath};
use crate::error::{Error, Result};
use crate::experiment::coupling;
use crate::input::trace::Record;
use crate::provider::profile::{Profile, Provider};
use crate::provider::routing::{MOST_MACHINES, Overflow, Routing, Rule};
use crate::random::{SpanDistribution, digest, fold};
use crate::simulation::regime::Terms;
use crate::units::Span;

/// A scenario file's content, complete and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The question this scenario answers, in one line.
    #[serde(default)]
    pub title: String,
    /// Requests are sent within this time (after the first, for a trace).
    #[serde(default = "unlimited")]
    pub duration: Span,
    /// Requests that arrive within this time after the start are simulated but not counted.
    #[serde(default)]
    pub warmup: Span,
    /// Base seed: replication n uses seed + n.
    #[serde(default = "one")]
    pub seed: u64,
    /// Replications, each with its own seed.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = MOST_SEEDS))]
    pub seeds: u32,
    /// Share of the keys that is simulated, such as "1/64", in place of all: chosen by a hash, each with all its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Share>,
    /// Whether every uncached token is attributed to a cause.
    #[serde(default = "yes")]
    pub attribution: bool,
    /// What the user can change.
    pub client: Client,
    /// What the user cannot change.
    pub provider: Provider,
    /// Changes of the provider behind the user's back, in the order of their times.
    #[serde(default)]
    pub regime: Vec<Regime>,
    /// Which variants a sweep compares.
    #[serde(default)]
    pub sweep: Sweep,
}

impl Scenario {
    /// The share of the keys that is simulated, if that is not all of them.
    pub fn sampled(&self) -> Option<Share> {
        self.sample.filter(|share| !share.is_all())
    }

    /// The provider from the start on, then every later one, each with its time after the start.
    pub fn providers(&self) -> impl Iterator<Item = (Span, &Provider)> {
        let later = self.regime.iter().map(|regime| (regime.at, &regime.provider));
        std::iter::once((Span::ZERO, &self.provider)).chain(later)
    }
}

/// Another provider from some time on. Its machines start cold and idle (a guess), whatever was stored before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regime {
    /// When it begins, counted from the start (from the first request, for a trace).
    pub at: Span,
    /// The provider from then on: a profile of its own, or the scenario's provider, with what changes laid over it.
    pub provider: Provider,
}

fn unlimited() -> Span {
    Span::UNLIMITED
}

fn one() -> u64 {
    1
}

fn ten() -> u32 {
    10
}

fn yes() -> bool {
    true
}

/// The most replications of a scenario.
const MOST_SEEDS: u32 = 100_000;

/// The most values of an axis.
const MOST_VALUES: i64 = 100_000;

/// The variants of a sweep: every combination of its axes' values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The axes, the last one turning fastest.
    #[serde(default)]
    pub axis: Vec<Axis>,
    /// Values, by path, of the cell that others are compared with; axes left out keep each cell's own value.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub baseline: toml::Table,
}

/// One axis of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// Any path of the scenario.
    pub path: String,
    /// The values: a list, or a range of whole numbers such as "1..64".
    #[schemars(with = "serde_json::Value")]
    pub values: Value,
}

impl Axis {
    /// The values one by one; the error says what is wrong with them.
    pub fn values(&self) -> std::result::Result<Vec<Value>, String> {
        let values = match &self.values {
            Value::Array(values) => values.clone(),
            Value::String(range) => {
                let bounds = range.split_once("..").and_then(|(low, high)| {
                    Some((low.trim().parse::<i64>().ok()?, high.trim().parse::<i64>().ok()?))
                });
                let Some((low, high)) = bounds else {
                    return Err(format!("`{range}` is no range of whole numbers: write \"1..64\" or a list"));
                };
                if high.saturating_sub(low) >= MOST_VALUES {
                    return Err(format!("`{range}` has more than {MOST_VALUES} values"));
                }
                (low..=high).map(Value::Integer).collect()
            }
            other => vec![other.clone()],
        };
        if values.is_empty() {
            return Err("an axis needs at least one value".into());
        }
        Ok(values)
    }
}

/// A scenario that can be run, with what is needed to make its variants.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its name: the file's, without folder and ending.
    pub name: String,
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The content, checked.
    pub scenario: Scenario,
    /// Paths that the command line set.
    pub flagged: Vec<KeyPath>,
    document: Document,
    /// What its trace plays, if that is a user's log and no trace file.
    logged: Option<Arc<[Record]>>,
}

impl Loaded {
    /// Reads a scenario file and lays `changes` over it.
    pub fn from_file(path: &Path, changes: &[Change]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => {
                let message =
                    "is no text: a scenario is a TOML file; a log or trace is played by `cachecast replay`";
                Error::input(path.display(), message)
            }
            _ => Error::io(path, "read scenario", &error),
        })?;
        let name = path.file_stem().map_or("scenario".into(), |stem| stem.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self::from_text(&name, &path.display().to_string(), &text, &folder, changes)
    }

    /// The same from text; `file` is its name in messages.
    pub fn from_text(name: &str, file: &str, text: &str, folder: &Path, changes: &[Change]) -> Result<Self> {
        let document = Document::parse(file, text)?;
        Self::resolved(name, folder, document, None, changes)
    }

    /// A scenario that plays these requests of a user's log in place of the trace that `changes` name.
    pub fn from_log(name: &str, records: Arc<[Record]>, changes: &[Change]) -> Result<Self> {
        Self::resolved(name, Path::new(""), Document::default(), Some(records), changes)
    }

    fn resolved(
        name: &str,
        folder: &Path,
        mut document: Document,
        logged: Option<Arc<[Record]>>,
        changes: &[Change],
    ) -> Result<Self> {
        for Change { path, value, origin } in changes {
            document.set(path, value.clone(), origin)?;
        }
        let scenario = resolve(&document, folder, logged.as_ref())?;
        let is_flag =
            |change: &&Change| ["--set", "--sample"].iter().any(|flag| change.origin.starts_with(flag));
        let flagged = changes.iter().filter(is_flag);
        let flagged = flagged.map(|change| change.path.clone()).collect();
        Ok(Self { name: name.to_string(), folder: folder.to_path_buf(), scenario, flagged, document, logged })
    }

    /// This scenario with some changes laid over it.
    pub fn with(&self, changes: &[Change]) -> Result<Self> {
        Self::resolved(&self.name, &self.folder, self.document.clone(), self.logged.clone(), changes)
    }

    /// The scenario as a file's text, with everything that was laid over it. Comments are lost.
    pub fn to_toml(&self) -> String {
        self.document.table().to_string()
    }

    /// An error about one of its paths, with the line it stands on.
    pub fn error(&self, path: &str, message: impl std::fmt::Display) -> Error {
        match path.parse() {
            Ok(path) => self.document.error(&path, message),
            Err(_) => Error::input(path, message),
        }
    }

    /// The file and line of the value at a path, or of the nearest above it; `None` if no file has it.
    pub fn line(&self, path: &KeyPath) -> Option<(&str, usize)> {
        self.document.line(path)
    }

    /// The value that the scenario itself, or something laid over it, has at a path.
    pub fn written(&self, path: &KeyPath) -> Option<&Value> {
        self.document.get(path)
    }

    /// A digest of everything the results follow from: the scenario's values and the bytes of its traces.
    pub fn fingerprint(&self) -> Result<u64> {
        let text = serde_json::to_string(&self.scenario).map_err(|error| Error::input(&self.name, error))?;
        let mut sum = digest(text.as_bytes());
        for trace in self.scenario.client.workload.values().filter_map(|workload| workload.trace.as_ref()) {
            let path = self.folder.join(&trace.file.path);
            let mut file = File::open(&path).map_err(|error| Error::io(&path, "open the trace", &error))?;
            let mut chunk = vec![0; 1 << 20];
            loop {
                let read =
                    file.read(&mut chunk).map_err(|error| Error::io(&path, "read the trace", &error))?;
                if read == 0 {
                    break;
                }
                sum = fold(sum, digest(&chunk[..read]));
            }
        }
        Ok(sum)
    }

    /// Whether every replication gives the same numbers: a trace, with nothing left to a draw.
    pub fn is_deterministic(&self) -> bool {
        let Scenario { client, .. } = &self.scenario;
        let constant = |law: &SpanDistribution| matches!(law, SpanDistribution::Constant(_));
        let drawn_by_no_provider = |(_, provider): (_, &Provider)| {
            let Routing { rule, overflow, explore, ref backends, .. } = provider.routing;
            rule == Rule::Home
                && overflow != Overflow::Random
                && explore == 0.0
                && backends.len() == 1
                && provider.latency.noise_sigma == 0.0
                && provider.failures.probability(client.execution) == 0.0
                && provider.retention.lifetime.values().all(constant)
        };
        let drawn_key = |key: &Keying| {
            key.strategy == Strategy::Buckets && matches!(key.assign, Assign::Random | Assign::User)
                || key.strategy == Strategy::PerUser
        };
        let recorded = |workload: &Workload| workload.trace.is_some() && !drawn_key(client.keying(workload));
        client.workload.values().all(recorded) && self.scenario.providers().all(drawn_by_no_provider)
    }

    /// The retention policy in force for a workload, at first.
    pub fn policy<'a>(&'a self, workload: &'a Workload) -> &'a str {
        self.policy_of(&self.scenario.provider, workload)
    }

    fn policy_of<'a>(&'a self, provider: &'a Provider, workload: &'a Workload) -> &'a str {
        let Scenario { client, .. } = &self.scenario;
        let wanted = workload.retention.as_deref().or(client.retention.as_deref());
        provider.policy(wanted, client.zero_data_retention).expect("validated")
    }

    /// The terms of every workload, in order, under one of the providers.
    pub fn terms(&self, provider: &Provider) -> Vec<Terms> {
        let Scenario { client, .. } = &self.scenario;
        let partitions = client.partitions();
        let terms = |workload: &Workload| Terms {
            partition: partitions.iter().position(|name| *name == workload.partition).unwrap_or(0) as u32,
            lifetime: provider.retention.lifetime[self.policy_of(provider, workload)].clone(),
            failure: provider.failures.probability(client.execution),
        };
        client.workload.values().map(terms).collect()
    }
}

/// A value laid over a scenario.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where.
    pub path: KeyPath,
    /// What.
    pub value: Value,
    /// Who asked for it, for messages: a flag, or a cell of a sweep.
    pub origin: String,
}

impl Change {
    /// A change that `origin` asked for.
    ///
    /// # Panics
    /// If `path` is no path: paths are written in the program.
    pub fn new(path: &str, value: impl Into<Value>, origin: &str) -> Self {
        Self { path: path.parse().expect("a path"), value: value.into(), origin: origin.to_string() }
    }

    /// Reads `path=value` of a `--set` flag.
    pub fn parse(text: &str) -> Result<Self> {
        let origin = format!("--set {text}");
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| Error::input(&origin, "write path=value, such as client.key.buckets=8"))?;
        let path: KeyPath = path.parse().map_err(|message| Error::input(&origin, message))?;
        Ok(Self { path, value: parse_value(value), origin })
    }
}

/// A value as TOML where it is some, as a plain word otherwise.
pub fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {}", text.trim()).parse::<toml::Table>().ok();
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.trim().to_string()))
}

/// Puts the profiles under the scenario, reads the types and checks them.
fn resolve(document: &Document, folder: &Path, logged: Option<&Arc<[Record]>>) -> Result<Scenario> {
    let provider = KeyPath::from_iter(["provider"]);
    let Some(profile) = profile_at(document, &provider, folder)? else {
        let message = "is missing: name a profile, such as \"openai-classic\"";
        return Err(document.error(&provider.child("profile"), message));
    };
    let workloads = KeyPath::from_iter(["client", "workload"]);
    if document.get(&workloads).is_none() {
        let example =
            "is missing: describe the traffic in a table such as [client.workload.NAME.shared_prefix]";
        return Err(document.error(&workloads, example));
    }
    let mut layered = Document::default();
    layered.overlay(&provider, &profile.document);
    layered.overlay(&KeyPath::default(), document);
    let regimes = KeyPath::from_iter(["regime"]);
    for number in 0..document.get(&regimes).and_then(Value::as_array).map_or(0, Vec::len) {
        let at = regimes.child(number.to_string()).child("provider");
        let Some(own) = document.part(&at) else {
            let message = "is missing: say what changes in a table such as [regime.provider]";
            return Err(document.error(&at, message));
        };
        let base = match profile_at(document, &at, folder)? {
            Some(profile) => profile.document,
            None => layered.part(&provider).expect("laid there above"),
        };
        layered.overlay(&at, &base);
        layered.overlay(&at, &own);
    }
    let mut scenario: Scenario = layered.typed(&KeyPath::default())?;
    if let Some(records) = logged {
        let traces = scenario.client.workload.values_mut().filter_map(|workload| workload.trace.as_mut());
        traces.for_each(|trace| trace.logged = Some(records.clone()));
    }
    validate(&scenario).map_err(|(path, message)| layered.error(&path, message))?;
    Ok(scenario)
}

/// The profile that the provider at a path names, if it names one.
fn profile_at(document: &Document, provider: &KeyPath, folder: &Path) -> Result<Option<Profile>> {
    let path = provider.child("profile");
    match document.get(&path) {
        Some(Value::String(name)) => Profile::load(name, folder).map(Some).map_err(|error| match error {
            Error::Input { place, message } if place == "provider.profile" => document.error(&path, message),
            other => other,
        }),
        Some(_) => Err(document.error(&path, "must be the name of a profile")),
        None if document.get(provider).is_some_and(|value| !value.is_table()) => {
            Err(document.error(provider, "must be a table, with at least a `profile`"))
        }
        None => Ok(None),
    }
}

fn validate(scenario: &Scenario) -> std::result::Result<(), (KeyPath, String)> {
    let at = |path: &str, message: String| (path.parse::<KeyPath>().expect("a written path"), message);
    let Scenario { client, .. } = scenario;
    if !(1..=MOST_SEEDS).contains(&scenario.seeds) {
        return Err(at("seeds", format!("must be from 1 to {MOST_SEEDS}")));
    }
    if scenario.duration == Span::ZERO {
        return Err(at("duration", "must be above zero".into()));
    }
    if scenario.warmup >= scenario.duration {
        return Err(at("warmup", "must be shorter than the duration".into()));
    }
    if client.workload.is_empty() {
        return Err(at("client.workload", "needs at least one workload".into()));
    }
    let workloads = client.workload.len();
    if workloads > MOST_WORKLOADS {
        return Err(at(
            "client.workload",
            format!("may have {MOST_WORKLOADS} workloads; it has {workloads}"),
        ));
    }
    client.key.validate().map_err(|(field, message)| at(&format!("client.key.{field}"), message))?;
    validate_marks(&client.breakpoints).map_err(|message| at("client.breakpoints", message))?;
    client.gateway.validate().map_err(|(field, message)| at(&format!("client.gateway.{field}"), message))?;
    let unrecorded = |workload: &&Workload| workload.trace.is_none() && workload.key.is_none();
    if client.key.strategy == Strategy::Recorded && client.workload.values().any(|w| unrecorded(&w)) {
        let message = "`recorded` takes its keys from a trace, and not every workload is one";
        return Err(at("client.key.strategy", message.into()));
    }
    for (name, workload) in &client.workload {
        let of_workload = |message| format!("workload `{name}`: {message}");
        let marks = match &workload.breakpoints {
            Some(_) => KeyPath::from_iter(["client", "workload", name, "breakpoints"]),
            None => KeyPath::from_iter(["client", "breakpoints"]),
        };
        workload.validate_marked(client.marked(workload)).map_err(|message| (marks, of_workload(message)))?;
        workload
            .validate_continued(&client.gateway, client.keying(workload))
            .map_err(|message| at("client.gateway.continuation", of_workload(message)))?;
        validate_workload(scenario, workload).map_err(|(field, message)| {
            let below = field.split('.').filter(|key| !key.is_empty());
            (KeyPath::from_iter(["client", "workload", name].into_iter().chain(below)), message)
        })?;
    }
    validate_provider(scenario, &scenario.provider, &KeyPath::from_iter(["provider"]))?;
    for number in 0..scenario.regime.len() {
        let place = KeyPath::from_iter(["regime", &number.to_string()]);
        validate_regime(scenario, number)
            .map_err(|(below, message)| (place.join(&below.parse().expect("a written path")), message))?;
        validate_provider(scenario, &scenario.regime[number].provider, &place.child("provider"))?;
    }
    let providers: Vec<_> = scenario.providers().map(|(_, provider)| provider).collect();
    scenario.sampled().map_or(Ok(()), |share| {
        coupling::check(client, &providers, share).map_err(|message| at("sample", message))
    })
}

/// Checks one provider, and whether every workload can have what it asks of it.
fn validate_provider(
    scenario: &Scenario,
    provider: &Provider,
    place: &KeyPath,
) -> std::result::Result<(), (KeyPath, String)> {
    let Scenario { client, .. } = scenario;
    provider.validate().map_err(|(below, message)| (place.join(&below), message))?;
    let accounts = client.partitions().len() * client.gateway.accounts as usize;
    let machines = accounts.saturating_mul(provider.routing.machines_of_partition());
    if machines > MOST_MACHINES as usize {
        return Err((
            place.child("routing").child("machines"),
            format!("all partitions, accounts and backends together may have {MOST_MACHINES} machines"),
        ));
    }
    // Of the scenario's own provider nobody needs to be told which it is.
    let whose = if scenario.regime.is_empty() { String::new() } else { format!(" ({place})") };
    let check = |wanted: &Option<String>| match provider.policy(wanted.as_deref(), client.zero_data_retention)
    {
        Ok(_) => Ok(()),
        Err(message) => Err(message + &whose),
    };
    let asked = if client.retention.is_some() { "retention" } else { "zero_data_retention" };
    check(&client.retention).map_err(|message| (KeyPath::from_iter(["client", asked]), message))?;
    for (name, workload) in &client.workload {
        let path = ["client", "workload", name, "retention"];
        check(&workload.retention).map_err(|message| (KeyPath::from_iter(path), message))?;
    }
    Ok(())
}

/// Checks when a change comes, and that it changes nothing that cannot change; the error names the path below the regime.
fn validate_regime(scenario: &Scenario, number: usize) -> std::result::Result<(), (&'static str, String)> {
    let Regime { at, provider } = &scenario.regime[number];
    let before = number.checked_sub(1).map_or(Span::ZERO, |before| scenario.regime[before].at);
    if *at == Span::ZERO {
        return Err(("at", "must be above zero: from the start on it is `provider` that holds".into()));
    }
    if *at <= before {
        let message = format!("must be later than regime.{}.at, which is {before}", number - 1);
        return Err(("at", message));
    }
    if *at >= scenario.duration {
        return Err(("at", format!("must be before the end of the duration of {}", scenario.duration)));
    }
    let hash_tokens = scenario.provider.routing.hash_tokens;
    if provider.routing.hash_tokens != hash_tokens {
        return Err((
            "provider.routing.hash_tokens",
            format!("cannot change during a run: must be {hash_tokens}, as in `provider`"),
        ));
    }
    Ok(())
}

fn validate_workload(scenario: &Scenario, workload: &Workload) -> std::result::Result<(), (String, String)> {
    let Scenario { duration, .. } = scenario;
    workload.validate()?;
    if workload.arrivals.is_some() && *duration == Span::UNLIMITED {
        let message = "generated traffic needs a duration: set `duration`, such as \"1h\"";
        return Err(("arrivals".into(), message.into()));
    }
    if workload.trace.is_none() && workload.key.as_ref().is_some_and(|key| key.strategy == Strategy::Recorded)
    {
        let message = "`recorded` takes its keys from a trace, and this workload is none";
        return Err(("key.strategy".into(), message.into()));
    }
    validate_marks(workload.breakpoints.as_deref().unwrap_or_default())
        .map_err(|message| ("breakpoints".to_string(), message))
}
