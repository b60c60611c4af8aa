//! Observed cells on the stage: each is played from the scenario under any rival, through the one engine.
//!
//! A log of requests becomes a trace. Each replication has a trace of its own, alike but for the names of keys and heads,
//! so that which machines a key falls on is drawn anew with every seed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use tempfile::TempDir;
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::experiment::observations::{Cell, Figure, Observations, Observed, ObservedRequest};
use crate::experiment::run::{replicate, simulation};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::summaries::{FIGURE_RESOLUTION, Summaries};
use crate::units::Tokens;

/// Lines of all traces of one log together: with more requests, replications share traces.
const MOST_LINES: usize = 200_000;

/// The workload that plays a log.
const LOG: &str = "log";

/// All cells, ready to be played.
pub struct Stage {
    /// The scenario.
    base: Loaded,
    /// The cells.
    pub cells: Vec<Staged>,
    /// Replications of each.
    pub replications: u32,
    /// What to know of how the observations are read.
    pub notes: Vec<String>,
    /// Holds the traces.
    _folder: TempDir,
}

/// One cell.
pub struct Staged {
    /// Its name.
    pub name: String,
    /// What each number is.
    pub names: Vec<String>,
    /// The observed numbers.
    pub observed: Vec<f64>,
    /// What each is known to.
    pub resolution: Vec<f64>,
    changes: Vec<Change>,
    kind: Kind,
}

enum Kind {
    Log(Box<Log>),
    Figures(Vec<Figure>),
}

struct Log {
    file: String,
    requests: Vec<ObservedRequest>,
    compared: Vec<bool>,
    summaries: Summaries,
    traces: Vec<PathBuf>,
}

/// What one cell gave under one rival.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// The numbers of every replication.
    pub vectors: Vec<Vec<f64>>,
    /// Of a log: the requests that are compared.
    pub compared: usize,
    /// Of them, those whose reading some replication gives.
    pub explained: usize,
    /// Where the first one stands whose reading none gives.
    pub contradicted_at: Option<String>,
    /// Whether every replication gives the same readings.
    pub deterministic: bool,
}

impl Stage {
    /// Puts the cells of `observations` on a stage.
    pub fn new(loaded: &Loaded, observations: &Observations, replications: u32) -> Result<Self> {
        let folder = TempDir::new().map_err(|error| Error::input("the folder for temporary files", error))?;
        let mut stage = Self {
            base: loaded.clone(),
            cells: Vec::new(),
            replications,
            notes: Vec::new(),
            _folder: folder,
        };
        for (number, cell) in observations.cells.iter().enumerate() {
            let staged = match &cell.observed {
                Observed::Requests(requests) => stage.log(cell, requests, number)?,
                Observed::Figures(figures) => stage.figures(cell, figures)?,
            };
            stage.cells.push(staged);
        }
        Ok(stage)
    }

    fn figures(&self, cell: &Cell, figures: &[Figure]) -> Result<Staged> {
        let needs_causes =
            figures.iter().any(|one| one.metric.starts_with("lost_") || one.metric.starts_with("ceiling_"));
        let mut changes = cell.settings.clone();
        changes.push(Change::new("attribution", needs_causes, "fit"));
        self.base.with(&changes)?;
        Ok(Staged {
            name: cell.name.clone(),
            names: figures.iter().map(|figure| figure.metric.to_string()).collect(),
            observed: figures.iter().map(|figure| figure.value).collect(),
            resolution: figures.iter().map(|figure| (figure.value * FIGURE_RESOLUTION).max(1e-9)).collect(),
            changes,
            kind: Kind::Figures(figures.to_vec()),
        })
    }

    fn log(&mut self, cell: &Cell, requests: &[ObservedRequest], number: usize) -> Result<Staged> {
        let mut changes = cell.settings.clone();
        changes.extend(as_trace(&self.base));
        let compared = self.compared(cell, requests);
        let prefix_tokens: Vec<Tokens> =
            requests.iter().map(|request| prefix_tokens(&self.base, cell, request)).collect::<Result<_>>()?;
        let summaries = Summaries::of(requests, |index| compared[index]);
        let readings: Vec<Tokens> = requests.iter().map(|one| one.cached_tokens.unwrap_or(0)).collect();
        let count = (MOST_LINES / requests.len()).clamp(1, self.replications as usize);
        let mut traces = Vec::new();
        for seed in 0..count {
            let path = self._folder.path().join(format!("{number}-{seed}.jsonl"));
            std::fs::write(&path, trace(requests, &prefix_tokens, seed))
                .map_err(|error| Error::io(&path, "write a trace", &error))?;
            traces.push(path);
        }
        changes.push(Change::new(&trace_path(), traces[0].display().to_string(), "fit"));
        self.base.with(&changes)?;
        Ok(Staged {
            name: cell.name.clone(),
            names: summaries.names.clone(),
            observed: summaries.vector(&readings),
            resolution: summaries.resolution.clone(),
            changes,
            kind: Kind::Log(Box::new(Log {
                file: cell.file.clone(),
                requests: requests.to_vec(),
                compared,
                summaries,
                traces,
            })),
        })
    }

    /// Which requests are compared: those with a reading, unless they read what nobody in the log had sent.
    fn compared(&mut self, cell: &Cell, requests: &[ObservedRequest]) -> Vec<bool> {
        let mut sent = BTreeSet::new();
        let mut warm = None;
        let compared = requests.iter().map(|request| {
            let fresh = sent.insert(&request.prefix);
            let was_warm = fresh && request.cached_tokens.is_some_and(|cached| cached > 0);
            if was_warm {
                warm = warm.or(Some(request.line));
            }
            request.cached_tokens.is_some() && !was_warm
        });
        let compared = compared.collect();
        if let Some(line) = warm {
            self.notes.push(format!(
                "{}:{line}: the first request of a prefix was a hit: the cache was warm before the log begins. That \
                 request is played, and not compared.",
                cell.file
            ));
        }
        compared
    }

    fn loaded(&self, cell: &Staged, changes: &[Change]) -> Result<Loaded> {
        self.base.with(&[cell.changes.as_slice(), changes].concat())
    }

    /// What every request of a log would read under these changes, with one seed; nothing of a cell of figures.
    pub fn readings(&self, number: usize, changes: &[Change], seed: u32) -> Result<Vec<Tokens>> {
        let Kind::Log(log) = &self.cells[number].kind else { return Ok(Vec::new()) };
        let mut readings = vec![0; log.requests.len()];
        log.read(&mut self.loaded(&self.cells[number], changes)?, seed as usize, seed, &mut readings)?;
        Ok(readings)
    }

    /// Plays one cell with the first so many seeds. Cells have seeds of their own: what they share in truth is the
    /// provider alone.
    pub fn play(&self, number: usize, changes: &[Change], replications: u32) -> Result<Played> {
        let cell = &self.cells[number];
        let mut loaded = self.loaded(cell, changes)?;
        let seeds = (0..replications).map(|seed| number as u32 * self.replications + seed);
        match &cell.kind {
            Kind::Figures(figures) => {
                let vectors = seeds.map(|seed| figures_of(&loaded, figures, seed)).collect::<Result<_>>()?;
                Ok(Played { vectors, deterministic: false, ..Played::default() })
            }
            Kind::Log(log) => log.play(&mut loaded, seeds),
        }
    }
}

fn figures_of(loaded: &Loaded, figures: &[Figure], seed: u32) -> Result<Vec<f64>> {
    let report = replicate(loaded, seed, |_| ())?;
    let value = |figure: &Figure| {
        let missing = || Error::input(figure.metric, "is missing in the simulation of this scenario");
        report.row.get(figure.metric).ok_or_else(missing)
    };
    figures.iter().map(value).collect()
}

impl Log {
    /// What every request reads with one seed, which takes the `index`-th trace.
    fn read(&self, loaded: &mut Loaded, index: usize, seed: u32, readings: &mut [Tokens]) -> Result<()> {
        let workload = loaded.scenario.client.workload.get_mut(LOG).expect("put there");
        let path = &self.traces[index % self.traces.len()];
        workload.trace.as_mut().expect("a trace").file.path = path.display().to_string();
        // Nothing is measured: only readings are wanted.
        simulation(loaded, seed)?.run(|outcome| readings[outcome.line as usize - 1] = outcome.cached)
    }

    fn play(&self, loaded: &mut Loaded, seeds: impl Iterator<Item = u32>) -> Result<Played> {
        let mut readings: Vec<Tokens> = vec![0; self.requests.len()];
        let mut first: Option<Vec<Tokens>> = None;
        let mut given = vec![false; self.requests.len()];
        let mut played = Played { deterministic: true, ..Played::default() };
        for (index, seed) in seeds.enumerate() {
            self.read(loaded, index, seed, &mut readings)?;
            for (given, (request, reading)) in given.iter_mut().zip(self.requests.iter().zip(&readings)) {
                *given |= request.cached_tokens == Some(*reading);
            }
            played.deterministic &= first.get_or_insert_with(|| readings.clone()) == &readings;
            played.vectors.push(self.summaries.vector(&readings));
        }
        let compared = || (0..given.len()).filter(|index| self.compared[*index]);
        played.compared = compared().count();
        played.explained = compared().filter(|index| given[*index]).count();
        let contradicting = compared().find(|index| !given[*index]);
        played.contradicted_at =
            contradicting.map(|index| format!("{}:{}", self.file, self.requests[index].line));
        Ok(played)
    }
}

/// What turns a scenario into one that plays a log.
fn as_trace(base: &Loaded) -> Vec<Change> {
    let text = |value: &str| Value::String(value.into());
    let file = [
        ("path", text("")),
        ("block_tokens", Value::Integer(1)),
        ("time_unit", text("ns")),
        ("ids", text("global")),
    ];
    let table = |entries: Vec<(&str, Value)>| -> Value {
        Value::Table(entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Table>())
    };
    let trace = table(vec![("file", table(file.to_vec())), ("start", text("0s"))]);
    let mut workload = vec![("trace", trace)];
    let own = base.scenario.client.workload.values().find_map(|workload| workload.retention.clone());
    workload.extend(own.map(|retention| ("retention", Value::String(retention))));
    [
        ("client.workload", table(vec![(LOG, table(workload))])),
        ("client.key.strategy", text("recorded")),
        ("client.breakpoints", Value::Array(Vec::new())),
        ("duration", text("unlimited")),
        ("warmup", text("0s")),
        ("attribution", Value::Boolean(false)),
    ]
    .map(|(path, value)| Change::new(path, value, "fit"))
    .to_vec()
}

fn trace_path() -> String {
    format!("client.workload.{LOG}.trace.file.path")
}

/// The length of the prefix that a request shares: its own, or that of the scenario's shared prefix.
pub fn prefix_tokens(loaded: &Loaded, cell: &Cell, request: &ObservedRequest) -> Result<Tokens> {
    if let Some(tokens) = request.prefix_tokens {
        return Ok(tokens);
    }
    let error = |message: String| Err(Error::input(format!("{}:{}", cell.file, request.line), message));
    let mut shared = loaded.scenario.client.workload.values().filter_map(|one| one.shared_prefix.as_ref());
    match (shared.next(), shared.next()) {
        (Some(shared), None) if shared.prefix_tokens <= request.prompt_tokens => Ok(shared.prefix_tokens),
        (Some(shared), None) => error(format!(
            "the prompt is shorter than the prefix of {} tokens in the scenario: say how much is shared in a column \
             `prefix_tokens`",
            shared.prefix_tokens
        )),
        _ => error(
            "`prefix_tokens` is missing, and the scenario has not just one workload with a shared prefix: add the \
             column"
                .into(),
        ),
    }
}

/// A log as a trace: each prefix is a stretch of numbers that longer ones go on with, each tail one of its own.
fn trace(requests: &[ObservedRequest], prefix_tokens: &[Tokens], seed: usize) -> String {
    let mut prefixes: Vec<&str> = Vec::new();
    let mut text = String::new();
    for (index, (request, shared)) in requests.iter().zip(prefix_tokens).enumerate() {
        let known = prefixes.iter().position(|prefix| *prefix == request.prefix);
        let prefix = known.unwrap_or_else(|| {
            prefixes.push(&request.prefix);
            prefixes.len() - 1
        });
        let tail = request.prompt_tokens - shared;
        let stretches = [((prefix as u64) << 32, *shared), ((1 << 56) + ((index as u64) << 32), tail)];
        let runs: Vec<_> = stretches
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(first, count)| format!("[{first}, {count}]"))
            .collect();
        let key = match &request.key {
            Some(key) => serde_json::Value::from(format!("{key}#{seed}")).to_string(),
            None => "null".into(),
        };
        let (time, prompt, output) = (request.time.0, request.prompt_tokens, request.output_tokens);
        let runs = runs.join(", ");
        writeln!(
            text,
            "{{\"timestamp\": {time}, \"input_length\": {prompt}, \"output_length\": {output}, \"runs\": [{runs}], \
             \"key\": {key}, \"first256\": \"{prefix}#{seed}\"}}"
        )
        .expect("text takes every line");
    }
    text
}
