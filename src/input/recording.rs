//! Recording: a trace as a source of sessions, in simulated time.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::input::trace::{IdScope, Record, Skipped, TraceFormat, TraceReader};
use crate::prompt::{Cursor, PrefixTree, Prompt, Run};
use crate::random::{digest, fold, mix};
use crate::units::{SimTime, Span};

/// Recorded requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The file and its form.
    pub file: TraceFormat,
    /// The requests of a user's log, in place of the file: in the order of time, ids of one token each.
    #[serde(skip)]
    #[schemars(skip)]
    pub logged: Option<Arc<[Record]>>,
    /// Simulated time of the first request; absent keeps its time of day, so that whole days before it are
    /// dropped.
    #[serde(default)]
    pub start: Option<Span>,
}

impl Trace {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> std::result::Result<(), (&'static str, String)> {
        self.file.validate().map_err(|(_, message)| ("file.block_tokens", message))?;
        if self.start.is_some_and(|start| start > Span::DAY.times(36_500)) {
            return Err(("start", "must lie within a hundred years".into()));
        }
        Ok(())
    }
}

/// A trace that is being played.
#[derive(Debug)]
pub struct Recording {
    requests: Requests,
    record: Record,
    start: Option<Span>,
    duration: Span,
    /// Identity of this recording: keeps its own texts, and ids that mean nothing elsewhere, apart.
    salt: u64,
    /// The recorded time that becomes `start`, or simulated midnight; known from the first record.
    origin: Option<SimTime>,
    end: SimTime,
}

/// Where the requests come from.
#[derive(Debug)]
enum Requests {
    File(Box<TraceReader>),
    Logged { records: Arc<[Record]>, next: usize },
}

impl Requests {
    fn read(&mut self, record: &mut Record) -> Result<bool> {
        match self {
            Self::File(reader) => reader.read(record),
            Self::Logged { records, next } => {
                let Some(logged) = records.get(*next) else { return Ok(false) };
                record.clone_from(logged);
                *next += 1;
                Ok(true)
            }
        }
    }

    /// Where an id means the same text.
    fn ids(&self) -> IdScope {
        match self {
            Self::File(reader) => reader.description().ids,
            Self::Logged { .. } => IdScope::Trace,
        }
    }
}

impl Recording {
    /// Opens a trace whose path is relative to `folder`. Requests later than `duration` after the first are left
    /// out. Recordings of one run need different salts.
    pub fn open(trace: &Trace, duration: Span, salt: u64, folder: &Path) -> Result<Self> {
        let requests = match &trace.logged {
            Some(records) => Requests::Logged { records: records.clone(), next: 0 },
            None => Requests::File(Box::new(TraceReader::open(&trace.file, folder)?)),
        };
        Ok(Self {
            requests,
            record: Record::default(),
            start: trace.start,
            duration,
            salt,
            origin: None,
            end: SimTime::NEVER,
        })
    }

    /// Moves to the next record; its simulated time and its session's number. `None` at the end.
    pub fn advance(&mut self) -> Result<Option<(SimTime, u64)>> {
        if !self.requests.read(&mut self.record)? {
            return Ok(None);
        }
        let time = self.record.time;
        let origin = *self.origin.get_or_insert_with(|| {
            self.end = time + self.duration;
            let midnight = SimTime(time.0 - time.0 % Span::DAY.0);
            if self.start.is_some() { time } else { midnight }
        });
        if time >= self.end {
            return Ok(None);
        }
        // A request without a session is one of its own; the top bit keeps the two kinds of number apart.
        let number = match &self.record.session {
            Some(name) => digest(name) | 1 << 63,
            None => self.record.line,
        };
        Ok(Some((SimTime::ZERO + self.start.unwrap_or(Span::ZERO) + time.since(origin), number)))
    }

    /// The record this recording stands at.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record's prompt, with the routing head that the record has.
    pub fn prompt(&self, tree: &mut PrefixTree) -> Prompt {
        let Record { runs, prompt_tokens, named_tokens, session, line, .. } = &self.record;
        let offset = match (self.requests.ids(), session) {
            (IdScope::Trace, _) => self.salt,
            (IdScope::Session, Some(session)) => local(session),
            _ => 0,
        };
        let salted = |run: &Run| Run { content: run.content.wrapping_add(offset), ..*run };
        let mut at = runs.iter().fold(Cursor::ROOT, |at, run| tree.append(at, salted(run)));
        // The last block may be filled in part only.
        at.depth = at.depth.min(*named_tokens);
        let mut prompt = tree.prompt(at, prompt_tokens - named_tokens, mix(fold(self.salt, *line)));
        if let Some(head) = self.record.head(salted) {
            prompt.head = head;
        }
        prompt
    }

    /// Bad lines skipped so far.
    pub fn skipped(&self) -> Option<&Skipped> {
        match &self.requests {
            Requests::File(reader) => Some(reader.skipped()),
            Requests::Logged { .. } => None,
        }
    }
}

/// Where the ids of a session are moved to. An offset keeps consecutive ids consecutive; ids and offset have 63 bits
/// each, so that their sum fits. Two sessions of n blocks overlap with a chance of n / 2^62 only.
fn local(session: &str) -> u64 {
    digest(session) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_two_sessions_never_meet() {
        let [one, other, again] = ["1", "2", "1"].map(local);
        assert_eq!(one, again, "a session is known by its text");
        assert!(one.abs_diff(other) > 3);
        assert!(one.checked_add(u64::MAX >> 1).is_some());
    }
}
