//! Observed cells on the stage: each is played from the scenario under any rival, through the one engine.
//!
//! A log of requests becomes a trace, played from memory. Each replication has one of its own, alike but for the names of
//! keys and heads, so that which machines a key falls on is drawn anew with every seed.

use std::collections::BTreeSet;
use std::sync::Arc;

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::experiment::observations::{Cell, Content, Figure, Observations, Observed, ObservedRequest};
use crate::experiment::run::{replicate_unwatched, simulation};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::summaries::{FIGURE_RESOLUTION, Summaries};
use crate::input::trace::Record;
use crate::prompt::Run;
use crate::simulation::outcome::Outcome;
use crate::units::Tokens;

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
    /// The requests as they are played, but for the salt of their keys and heads.
    records: Vec<Record>,
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
        let mut stage = Self { base: loaded.clone(), cells: Vec::new(), replications, notes: Vec::new() };
        for cell in &observations.cells {
            let staged = match &cell.observed {
                Observed::Requests(requests) => stage.log(cell, requests)?,
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

    fn log(&mut self, cell: &Cell, requests: &[ObservedRequest]) -> Result<Staged> {
        let mut changes = cell.settings.clone();
        changes.extend(as_trace(&self.base));
        let compared = self.compared(cell, requests);
        let prefix_tokens: Vec<Tokens> =
            requests.iter().map(|request| prefix_tokens(&self.base, cell, request)).collect::<Result<_>>()?;
        let summaries = Summaries::of(requests, |index| compared[index]);
        let readings: Vec<Tokens> = requests.iter().map(|one| one.cached_tokens.unwrap_or(0)).collect();
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
                records: records(requests, &prefix_tokens),
            })),
        })
    }

    /// Which requests are compared: those with a reading, unless they read what nobody in the log had sent.
    fn compared(&mut self, cell: &Cell, requests: &[ObservedRequest]) -> Vec<bool> {
        let mut sent = BTreeSet::new();
        let (mut compared, mut warm) = (Vec::new(), Vec::new());
        for request in requests {
            let cached = request.cached_tokens.unwrap_or(0);
            let was_warm = match &request.content {
                Content::Prefix(_) => sent.insert(&request.prefix) && cached > 0,
                Content::Logged(prompt) => prompt.was_warm(cached),
            };
            if was_warm {
                warm.push(request);
            }
            compared.push(request.cached_tokens.is_some() && !was_warm);
        }
        let Some(first) = warm.first() else { return compared };
        let place = format!("{}:{}", cell.file, first.line);
        self.notes.push(match first.content {
            Content::Prefix(_) => format!(
                "{place}: the first request of a prefix was a hit: the cache was warm before the log begins. That \
                 request is played, and not compared."
            ),
            Content::Logged(_) => format!(
                "{place}: more was read than anybody in the log had sent before: the cache was warm, or the log does \
                 not show what prompts have in common. {} such requests are played, and not compared.",
                warm.len()
            ),
        });
        compared
    }

    /// The cell and the line of a place in a log.
    pub fn find(&self, place: &str) -> Option<(usize, u64)> {
        let (file, line) = place.rsplit_once(':')?;
        let is_of = |cell: &Staged| matches!(&cell.kind, Kind::Log(log) if log.file == file);
        Some((self.cells.iter().position(is_of)?, line.parse().ok()?))
    }

    /// A line of a cell's log, as messages name it.
    pub fn place(&self, cell: usize, line: u64) -> Option<String> {
        match &self.cells.get(cell)?.kind {
            Kind::Log(log) => Some(format!("{}:{line}", log.file)),
            Kind::Figures(_) => None,
        }
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
    let report = replicate_unwatched(loaded, seed)?;
    let value = |figure: &Figure| {
        let missing = || Error::input(figure.metric, "is missing in the simulation of this scenario");
        report.row.get(figure.metric).ok_or_else(missing)
    };
    figures.iter().map(value).collect()
}

impl Log {
    /// What every request reads with one seed, and keys and heads that are salted with `index`.
    fn read(&self, loaded: &mut Loaded, index: usize, seed: u32, readings: &mut [Tokens]) -> Result<()> {
        let workload = loaded.scenario.client.workload.get_mut(LOG).expect("put there");
        workload.trace.as_mut().expect("a trace").logged = Some(self.salted(index));
        // Nothing is measured: only readings are wanted.
        let mut read = |outcome: &Outcome| readings[outcome.line as usize - 1] = outcome.cached;
        simulation(loaded, seed)?.run(&mut read)
    }

    fn salted(&self, salt: usize) -> Arc<[Record]> {
        let salted = |name: &Option<String>| name.as_ref().map(|name| format!("{name}#{salt}"));
        let record = |record: &Record| Record {
            key: salted(&record.key),
            first256: salted(&record.first256),
            ..record.clone()
        };
        self.records.iter().map(record).collect()
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

/// The length of the prefix that a request shares: its own, or that of the scenario's shared prefix.
pub fn prefix_tokens(loaded: &Loaded, cell: &Cell, request: &ObservedRequest) -> Result<Tokens> {
    match &request.content {
        Content::Prefix(Some(tokens)) => return Ok(*tokens),
        Content::Prefix(None) => (),
        Content::Logged(prompt) => return Ok(prompt.shared_tokens),
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

/// The requests as a trace. Each named prefix is a stretch of numbers that longer ones go on with, each tail one of its own.
fn records(requests: &[ObservedRequest], prefix_tokens: &[Tokens]) -> Vec<Record> {
    let mut prefixes: Vec<&str> = Vec::new();
    let mut records = Vec::new();
    for (index, (request, shared)) in requests.iter().zip(prefix_tokens).enumerate() {
        // Outcomes name requests by their number, from 1.
        let line = index as u64 + 1;
        if let Content::Logged(prompt) = &request.content {
            records.push(Record { line, ..prompt.record.clone() });
            continue;
        }
        let known = prefixes.iter().position(|prefix| *prefix == request.prefix);
        let prefix = known.unwrap_or_else(|| {
            prefixes.push(&request.prefix);
            prefixes.len() - 1
        });
        let tail = request.prompt_tokens - shared;
        let stretches = [((prefix as u64) << 32, *shared), ((1 << 56) + ((index as u64) << 32), tail)];
        let runs = stretches.map(|(content, pieces)| Run { content, pieces, piece_tokens: 1 });
        records.push(Record {
            line,
            time: request.time,
            prompt_tokens: request.prompt_tokens,
            output_tokens: request.output_tokens,
            runs: runs.into_iter().filter(|run| run.pieces > 0).collect(),
            named_tokens: request.prompt_tokens,
            key: request.key.clone(),
            first256: Some(prefix.to_string()),
            ..Record::default()
        });
    }
    records
}
