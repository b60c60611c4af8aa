//! Calls: a user's file, whichever form it has -> its calls, one by one.
//!
//! The form is detected from the first lines, named in every answer, and can be forced.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::input::call::Call;
use crate::input::trace::Skipped;

/// The forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// One request body: a JSON object with `input`, `messages` or `instructions`, for any of the three APIs.
    Request,
    /// JSON lines of (time, request, usage or response).
    Log,
    /// JSON lines of usage as gateways write it (LiteLLM, OpenRouter): no bodies, or with them under `messages`.
    Gateway,
    /// A rollout of Codex.
    Codex,
    /// A session of Claude Code.
    ClaudeCode,
    /// A CSV of usage, without bodies.
    UsageTable,
}

/// Reads calls one at a time, in the order of the file.
#[derive(Debug)]
pub struct Calls {
    path: PathBuf,
    kind: LogKind,
    skipped: Skipped,
}

impl Calls {
    /// Opens a file, whose form is `kind` or is detected. Bad lines are counted and named if `skip_bad`, and end the
    /// reading otherwise.
    pub fn open(path: &Path, kind: Option<LogKind>, skip_bad: bool) -> Result<Self> {
        let _ = (kind, skip_bad);
        Err(Error::input(path.display(), "is no form of a log that is known"))
    }

    /// Which form the file has.
    pub fn kind(&self) -> LogKind {
        self.kind
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next call; `None` at the end.
    pub fn next_call(&mut self) -> Result<Option<Call>> {
        Ok(None)
    }

    /// The bad lines so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}
