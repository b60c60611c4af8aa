//! Recording: a trace as a source of sessions, in simulated time.

use std::path::Path;

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
    reader: TraceReader,
    record: Record,
    start: Option<Span>,
    duration: Span,
    /// Identity of this recording: keeps its own texts, and ids that mean nothing elsewhere, apart.
    salt: u64,
    ids: IdScope,
    /// The recorded time that becomes `start`, or simulated midnight; known from the first record.
    origin: Option<SimTime>,
    end: SimTime,
}

impl Recording {
    /// Opens a trace whose path is relative to `folder`. Requests later than `duration` after the first are left
    /// out. Recordings of one run need different salts.
    pub fn open(trace: &Trace, duration: Span, salt: u64, folder: &Path) -> Result<Self> {
        Ok(Self {
            reader: TraceReader::open(&trace.file, folder)?,
            record: Record::default(),
            start: trace.start,
            duration,
            salt,
            ids: trace.file.ids,
            origin: None,
            end: SimTime::NEVER,
        })
    }

    /// Moves to the next record; its simulated time and its session's number. `None` at the end.
    pub fn advance(&mut self) -> Result<Option<(SimTime, u64)>> {
        if !self.reader.read(&mut self.record)? {
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

    /// The record's prompt. Its routing head is `first256` where the trace has one, else the first block, whatever
    /// its size: what lies inside a block is not known.
    pub fn prompt(&self, tree: &mut PrefixTree) -> Prompt {
        let Record { runs, prompt_tokens, named_tokens, head, line, .. } = &self.record;
        let offset = if self.ids == IdScope::Trace { self.salt } else { 0 };
        let salted = |run: &Run| Run { content: run.content.wrapping_add(offset), ..*run };
        let mut at = runs.iter().fold(Cursor::ROOT, |at, run| tree.append(at, salted(run)));
        // The last block may be filled in part only.
        at.depth = at.depth.min(*named_tokens);
        let mut prompt = tree.prompt(at, prompt_tokens - named_tokens, mix(fold(self.salt, *line)));
        if let Some(head) = head {
            prompt.head = *head;
        } else if let Some(first) = runs.first() {
            prompt.head = fold(salted(first).content, u64::from(first.piece_tokens));
        }
        prompt
    }

    /// Bad lines skipped so far.
    pub fn skipped(&self) -> &Skipped {
        self.reader.skipped()
    }
}
