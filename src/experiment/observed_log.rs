//! A user's own log as observations: what each of its requests sent, and what was read.
//!
//! What requests have in common is not told by names here, but by the text itself (or, without bodies, by what the
//! [log](crate::input::log) assumes of it).

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::experiment::contract::Contracts;
use crate::experiment::observations::{
    Cell, Content, Latency, Observations, Observed, ObservedRequest, Runs,
};
use crate::experiment::scenario::{Change, Loaded};
use crate::input::log::{Log, LogFormat, LoggedCall};
use crate::input::trace::Record;
use crate::prompt::Run;
use crate::units::Tokens;

/// What a log says of the prompt of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedPrompt {
    /// The prompt, to be played.
    pub record: Record,
    /// How many of its tokens some earlier request of the log begins with, too.
    pub shared_tokens: Tokens,
    /// How deep a cache that was hit must have been: the whole prompt, if it was sent before and never missed since. (Once
    /// a repeat has missed, another prompt's beginning may be all that lies where the next one looks.)
    pub read_tokens: Option<Tokens>,
}

impl LoggedPrompt {
    /// Whether so much was read that no earlier request of the log can have stored it.
    pub fn was_warm(&self, cached_tokens: Tokens) -> bool {
        let unnamed = self.record.prompt_tokens.saturating_sub(self.record.named_tokens);
        cached_tokens > self.shared_tokens + unnamed
    }
}

impl Observations {
    /// Adds the log in a file as one cell.
    pub fn add_log(&mut self, path: &Path, format: &LogFormat) -> Result<()> {
        let log = Log::read(path, format)?;
        let file = path.display().to_string();
        self.notes.extend(notes(&log, &file));
        let requests = requests(&log);
        if requests.is_empty() {
            return Err(Error::input(&file, "every prompt has no token: there is nothing to explain"));
        }
        self.latencies.extend(log.calls.iter().filter_map(latency));
        for call in &log.calls {
            let model = log.groups[call.group as usize].prefix.get("model");
            *self.models.entry(model.cloned()).or_insert(0) += 1;
        }
        let retention = retention(&log, &file, &mut self.notes);
        let observed = Observed::Requests(requests);
        self.cells.push(Cell {
            name: String::new(),
            file: file.clone(),
            settings: Vec::new(),
            retention,
            observed,
        });
        self.files.push(file);
        Ok(())
    }

    /// A scenario for logs alone: the first shipped profile that has the model of most of the calls.
    pub fn scenario(&mut self, changes: &[Change]) -> Result<Loaded> {
        let most = self.models.iter().max_by_key(|(_, calls)| **calls);
        let model = most.and_then(|(model, _)| model.as_deref());
        let contract = Contracts::new(None, Path::new(""))?.of(model);
        let trace = |field: &str| format!("client.workload.log.trace.file.{field}");
        let own = [
            Change::new("provider.profile", contract.provider.profile.as_str(), "fit"),
            Change::new("provider.model", contract.provider.model.as_str(), "fit"),
            Change::new(&trace("path"), self.files.join(", "), "fit"),
            Change::new(&trace("block_tokens"), 1, "fit"),
            Change::new(&trace("time_unit"), "ns", "fit"),
        ];
        let changed = |own: &Change| changes.iter().any(|change| change.path == own.path);
        let provider_is_set = changed(&own[0]);
        // The model is one of this profile's.
        let kept = own.iter().filter(|one| !(changed(one) || provider_is_set && one.path == own[1].path));
        let changes: Vec<_> = kept.chain(changes).cloned().collect();
        let loaded = Loaded::from_text("fit", "fit", "", Path::new(""), &changes)?;
        let provider = &loaded.scenario.provider;
        let why = match (provider_is_set, model, contract.exact) {
            (true, ..) => "as set".into(),
            (_, Some(model), true) => format!("the first profile that has the model {model}"),
            (_, Some(model), false) => format!("no profile has the model {model}, and this is the nearest"),
            (_, None, _) => "the log names no model".into(),
        };
        self.notes.push(format!(
            "No scenario is given: what the rivals leave open is that of `{}` ({why}).",
            provider.profile
        ));
        Ok(loaded)
    }

    /// Takes the retention that a log asked for as a setting of its cell, where the provider has it.
    pub fn lay_over(&mut self, loaded: &Loaded) {
        for cell in &mut self.cells {
            let Some(retention) = cell.retention.take() else { continue };
            let setting = Change::new("client.retention", retention.as_str(), "the log");
            if loaded.with(std::slice::from_ref(&setting)).is_ok() {
                cell.settings.push(setting);
            } else {
                self.notes.push(format!(
                    "{}: the requests ask for a retention of {retention}, which `{}` does not have: the scenario's is \
                     taken.",
                    cell.file, loaded.scenario.provider.profile
                ));
            }
        }
    }
}

/// What to know of how a log was read.
fn notes(log: &Log, file: &str) -> Vec<String> {
    let known = log.calls.iter().filter(|call| call.usage.cached_tokens.is_some()).count();
    let mut notes = vec![format!(
        "{file}: read as {} with {} calls, {known} of them with their `cached_tokens`.",
        log.kind.name(),
        log.calls.len()
    )];
    notes.extend(log.notes.iter().map(|note| format!("{file}: {note}.")));
    if log.skipped.count > 0 {
        let first = log.skipped.first.first().map_or(String::new(), |first| format!(", the first: {first}"));
        notes.push(format!("{file}: {} bad lines were passed over{first}.", log.skipped.count));
    }
    notes
}

/// The one retention that all calls ask for.
fn retention(log: &Log, file: &str, notes: &mut Vec<String>) -> Option<String> {
    let first = &log.calls.first()?.retention;
    if log.calls.iter().all(|call| call.retention == *first) {
        return first.clone();
    }
    notes.push(format!("{file}: the requests ask for several retentions: the scenario's is taken for all."));
    None
}

fn latency(call: &LoggedCall) -> Option<Latency> {
    let cached = call.usage.cached_tokens?;
    Some(Latency {
        uncached_tokens: f64::from(call.prompt_tokens().saturating_sub(cached)),
        cached_tokens: f64::from(cached),
        ttft_ms: call.ttft?.millis(),
        runs: Runs::One,
    })
}

/// The requests of a log, in the order of time; those without a token are none.
fn requests(log: &Log) -> Vec<ObservedRequest> {
    let mut sent = Places::default();
    // What was sent whole, by its last place and its length, and whether a repeat of it has missed.
    let mut whole: BTreeMap<(u64, Tokens), bool> = BTreeMap::new();
    let calls = log.calls.iter().zip(log.records(true));
    let calls = calls.filter(|(_, record)| record.prompt_tokens > 0);
    let request = |(call, record): (&LoggedCall, Record)| {
        let shared_tokens = sent.shared(&record.runs).min(record.named_tokens);
        sent.add(&record.runs);
        let end = record.runs.last().map_or(0, |run| run.content + u64::from(run.pieces));
        let missed = whole.get_mut(&(end, record.prompt_tokens));
        // Prompts that are only assumed to be alike repeat nothing for certain.
        let is_known = call.has_body || call.session.is_none();
        let repeats = missed.as_ref().is_some_and(|missed| !**missed) && is_known;
        let read_tokens = repeats.then_some(record.prompt_tokens);
        match missed {
            Some(missed) => *missed |= call.usage.cached_tokens == Some(0),
            None => drop(whole.insert((end, record.prompt_tokens), false)),
        }
        ObservedRequest {
            line: call.line,
            time: call.time,
            key: record.key.clone(),
            prefix: record.first256.clone().unwrap_or_default(),
            prompt_tokens: record.prompt_tokens,
            cached_tokens: call.usage.cached_tokens,
            output_tokens: record.output_tokens,
            content: Content::Logged(Box::new(LoggedPrompt { record, shared_tokens, read_tokens })),
        }
    };
    calls.map(request).collect()
}

/// Places of prompts that were sent: stretches of their numbers, by the first.
#[derive(Default)]
struct Places(BTreeMap<u64, u64>);

impl Places {
    /// How many tokens of a path were sent before.
    fn shared(&self, runs: &[Run]) -> Tokens {
        let mut shared = 0;
        for run in runs {
            let around = self.0.range(..=run.content).next_back();
            let known = around.map_or(0, |(_, end)| end.saturating_sub(run.content));
            let known = known.min(u64::from(run.pieces)) as Tokens;
            shared += known;
            if known < run.pieces {
                break;
            }
        }
        shared
    }

    fn add(&mut self, runs: &[Run]) {
        for run in runs {
            let (mut first, mut end) = (run.content, run.content + u64::from(run.pieces));
            let touching = self.0.range(..=end).rev().take_while(|(_, last)| **last >= first);
            let touching: Vec<_> = touching.map(|(from, last)| (*from, *last)).collect();
            for (from, last) in touching {
                self.0.remove(&from);
                (first, end) = (first.min(from), end.max(last));
            }
            self.0.insert(first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(content: u64, pieces: Tokens) -> Run {
        Run { content, pieces, piece_tokens: 1 }
    }

    #[test]
    fn what_was_sent_before_is_shared_up_to_where_it_ends() {
        let mut sent = Places::default();
        assert_eq!(sent.shared(&[run(0, 5)]), 0);
        sent.add(&[run(0, 5), run(20, 5)]);
        assert_eq!(sent.shared(&[run(0, 9)]), 5);
        assert_eq!(sent.shared(&[run(0, 5), run(20, 2)]), 7);
        assert_eq!(sent.shared(&[run(0, 5), run(30, 2)]), 5);
        assert_eq!(sent.shared(&[run(1, 5)]), 4);
        sent.add(&[run(3, 20)]);
        assert_eq!(sent.0, BTreeMap::from([(0, 25)]));
        sent.add(&[run(30, 1)]);
        sent.add(&[run(26, 1)]);
        assert_eq!(sent.0, BTreeMap::from([(0, 25), (26, 27), (30, 31)]));
    }
}
