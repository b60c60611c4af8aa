//! Calls: a user's file, whichever form it has -> its calls, one by one.
//!
//! The form is detected from the first lines, named in every answer, and can be forced.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::input::anonymized;
use crate::input::call::Call;
use crate::input::claude_code::ClaudeCode;
use crate::input::codex::Codex;
use crate::input::detect::{classify, detect, open, whole};
use crate::input::fields::Fields;
use crate::input::gateway;
use crate::input::request_log::{RequestLog, Step};
use crate::input::text_lines::{Parsed, TextLines};
use crate::input::trace::Skipped;
use crate::input::usage_table::{self, UsageTable};

/// The forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// One request body: a JSON object with `input`, `messages` or `instructions`, for any of the three APIs. Or one
    /// entry of a log, over as many lines as it likes.
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
    /// JSON lines of hashes in place of text, as `cachecast anonymize` writes them.
    Anonymized,
    /// A recorded trace, which [`TraceReader`](crate::input::trace::TraceReader) reads: named here, not read.
    Trace,
}

impl LogKind {
    /// Every form.
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::Log,
        Self::Gateway,
        Self::Codex,
        Self::ClaudeCode,
        Self::UsageTable,
        Self::Anonymized,
        Self::Trace,
    ];

    /// The word for it in a flag.
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Log => "log",
            Self::Gateway => "gateway",
            Self::Codex => "codex",
            Self::ClaudeCode => "claude-code",
            Self::UsageTable => "usage-table",
            Self::Anonymized => "anonymized",
            Self::Trace => "trace",
        }
    }

    /// What it is, in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "a request body",
            Self::Log => "a log of requests",
            Self::Gateway => "a gateway's log",
            Self::Codex => "a rollout of Codex",
            Self::ClaudeCode => "a session of Claude Code",
            Self::UsageTable => "a table of usage",
            Self::Anonymized => "an anonymized log",
            Self::Trace => "a recorded trace",
        }
    }

    /// Whether a file of this form may hold a line of another: some lines of logs look like bodies.
    fn may_hold(self, other: Self, forced: bool) -> bool {
        let logs = [Self::Request, Self::Log, Self::Gateway];
        let one_of_logs = logs.contains(&self) && logs.contains(&other);
        let body_in_log = self == Self::Log && other == Self::Request;
        self == other || body_in_log || one_of_logs && forced
    }
}

/// Reads calls one at a time, in the order of the file (which need not be the order of time).
#[derive(Debug)]
pub struct Calls {
    path: PathBuf,
    kind: LogKind,
    forced: bool,
    skip_bad: bool,
    reader: Reader,
    given: u64,
    without_usage: u64,
    skipped: Skipped,
}

#[derive(Debug)]
enum Reader {
    /// One object over the whole file, until it was read.
    Whole(Option<String>),
    /// An object a line.
    Lines(Box<Lines>),
    /// A row a call.
    Table(Box<UsageTable>),
}

#[derive(Debug)]
struct Lines {
    text: TextLines,
    form: Form,
    ended: bool,
}

/// How a line is read.
#[derive(Debug)]
enum Form {
    Log(RequestLog),
    Gateway,
    Codex(Codex),
    ClaudeCode(ClaudeCode),
    Anonymized,
}

/// What is wrong, and whether reading can go on behind it.
pub(super) enum Trouble {
    /// A bad line.
    Line(u64, String),
    /// Nothing more can be read.
    File(String),
}

/// What a reader gives: nothing at the end.
pub(super) type Next = std::result::Result<Option<Step>, Trouble>;

impl Calls {
    /// Opens a file, whose form is `kind` or is detected. Bad lines are counted and named if `skip_bad`, and end the
    /// reading otherwise.
    pub fn open(path: &Path, kind: Option<LogKind>, skip_bad: bool) -> Result<Self> {
        let forced = kind.is_some();
        let kind = kind.map_or_else(|| detect(path), Ok)?;
        let reader = Reader::open(path, kind)?;
        let (given, without_usage, skipped) = (0, 0, Skipped::default());
        Ok(Self { path: path.into(), kind, forced, skip_bad, reader, given, without_usage, skipped })
    }

    /// Which form a file has.
    pub fn detect(path: &Path) -> Result<LogKind> {
        detect(path)
    }

    /// Whether this header of a table has the times of requests, and what was sent and read.
    pub fn is_usage_of_requests(header: &str) -> bool {
        usage_table::tells_requests(header)
    }

    /// Which form the file has.
    pub fn kind(&self) -> LogKind {
        self.kind
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next call; `None` at the end. After an error about a line, reading can go on behind it.
    pub fn next_call(&mut self) -> Result<Option<Call>> {
        loop {
            match self.reader.next(self.kind, self.forced) {
                Ok(Some(Step::Call(call))) => {
                    self.given += 1;
                    return Ok(Some(*call));
                }
                Ok(Some(Step::WithoutUsage)) => self.without_usage += 1,
                Ok(Some(Step::Nothing)) => (),
                Ok(None) => return self.end(),
                Err(Trouble::File(message)) => return Err(Error::input(self.path.display(), message)),
                Err(Trouble::Line(line, message)) => {
                    let error = Error::input(format_args!("{}:{line}", self.path.display()), message);
                    if !self.skip_bad {
                        return Err(error);
                    }
                    self.skipped.add(&error);
                }
            }
        }
    }

    /// The bad lines so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Calls so far that were left out: they failed, or were broken off, or a gateway's own cache answered them, or the
    /// log knows neither their request nor their usage.
    pub fn without_usage(&self) -> u64 {
        self.without_usage
    }

    /// Columns of a table that say nothing here, and were passed over.
    pub fn passed_over(&self) -> &[String] {
        match &self.reader {
            Reader::Table(table) => table.passed_over(),
            Reader::Whole(_) | Reader::Lines(_) => &[],
        }
    }

    fn end(&self) -> Result<Option<Call>> {
        if self.given + self.without_usage + self.skipped.count == 0 {
            let message = format!("holds no call: it was read as {}", self.kind.name());
            return Err(Error::input(self.path.display(), message));
        }
        Ok(None)
    }
}

impl Reader {
    fn open(path: &Path, kind: LogKind) -> Result<Self> {
        let lines = |form| {
            let text =
                TextLines::new(open(path)?).map_err(|error| Error::io(path, "read the file", &error))?;
            Ok(Self::Lines(Box::new(Lines { text, form, ended: false })))
        };
        match kind {
            LogKind::Request => Ok(Self::Whole(Some(whole(path)?))),
            LogKind::Log => lines(Form::Log(RequestLog::default())),
            LogKind::Gateway => lines(Form::Gateway),
            LogKind::Codex => lines(Form::Codex(Codex::default())),
            LogKind::ClaudeCode => lines(Form::ClaudeCode(ClaudeCode::default())),
            LogKind::Anonymized => lines(Form::Anonymized),
            LogKind::UsageTable => Ok(Self::Table(Box::new(UsageTable::open(path)?))),
            LogKind::Trace => Err(Error::input(
                path.display(),
                "is a recorded trace (`timestamp`, `input_length`), not a log of calls: `cachecast replay` reads it",
            )),
        }
    }

    fn next(&mut self, kind: LogKind, forced: bool) -> Next {
        match self {
            Self::Table(table) => table.next(),
            Self::Lines(lines) => lines.next(kind, forced),
            Self::Whole(text) => {
                let Some(text) = text.take() else { return Ok(None) };
                let fields = Fields::parse_whole(&text)
                    .map_err(|(line, message)| Trouble::Line(line, format!("the request {message}")))?;
                let step = RequestLog::default().line(1, &fields);
                step.map(Some).map_err(|message| Trouble::Line(1, format!("the request {message}")))
            }
        }
    }
}

impl Lines {
    fn next(&mut self, kind: LogKind, forced: bool) -> Next {
        if self.ended || !self.text.advance().map_err(Trouble::File)? {
            self.ended = true;
            return Ok(self.form.end());
        }
        let number = self.text.number;
        let step = self.text.text().and_then(|text| self.form.line(number, text, kind, forced));
        step.map(Some).map_err(|message| Trouble::Line(number, message))
    }
}

impl Form {
    fn line(&mut self, number: u64, text: &str, kind: LogKind, forced: bool) -> Parsed<Step> {
        let fields = Fields::parse(text).map_err(|message| format!("the line {message}"))?;
        if let Some(other) = classify(&fields).filter(|other| !kind.may_hold(*other, forced)) {
            let (this, other) = (kind.name(), other.name());
            return Err(format!(
                "the line is of {other}, but the file is {this}: keep them in files of their own"
            ));
        }
        let step = match self {
            Self::Log(log) => log.line(number, &fields),
            Self::Gateway => gateway::line(number, &fields),
            Self::Codex(codex) => codex.line(number, &fields),
            Self::ClaudeCode(claude) => claude.line(number, &fields),
            Self::Anonymized => anonymized::line(text),
        };
        step.map_err(|message| format!("the line: {message}"))
    }

    /// What the last line left open, one by one.
    fn end(&mut self) -> Option<Step> {
        match self {
            Self::Log(_) | Self::Gateway | Self::Codex(_) | Self::Anonymized => None,
            Self::ClaudeCode(claude) => claude.end(),
        }
    }
}
