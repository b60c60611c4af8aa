//! Log: the calls of a user's file as symbolic prompts, in the order of time.
//!
//! Text ends here. Bodies become places in a [`TokenTree`]; names of sessions and keys become numbers in the order of
//! their appearance, so that a log plays alike whatever its names are.
//!
//! A call without a body is known by its length. What it shares with others is then assumed: prompts of one identity,
//! or else of one session, all begin alike, a longer one going on from a shorter one; others share nothing.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::input::call::{Body, Call, Role, Settings, Usage};
use crate::input::calls::{Calls, LogKind};
use crate::input::render::{MESSAGE_OVERHEAD, Rendered, Renderer, Vocabulary};
use crate::input::token_tree::TokenTree;
use crate::input::trace::{Record, Skipped};
use crate::prompt::{Mark, MarkKind, Run};
use crate::units::{SimTime, Span, Tokens};

/// Tokens that routing looks at.
const HEAD_TOKENS: Tokens = 256;

/// Numbers of tokens that no body shows, apart from those of the tree: what a provider puts before a prompt, and prompts
/// known by their length. Each has 2^32 numbers.
const UNRENDERED: u64 = 1 << 60;
const UNSEEN: u64 = 1 << 61;

/// How a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// Its form, if it is not to be detected.
    pub kind: Option<LogKind>,
    /// What text is encoded with.
    pub vocabulary: Vocabulary,
    /// Tokens that a message costs beside its content.
    pub message_overhead: Tokens,
    /// Count and name bad lines instead of stopping at the first.
    pub skip_bad: bool,
}

impl Default for LogFormat {
    fn default() -> Self {
        let (vocabulary, message_overhead) = (Vocabulary::default(), MESSAGE_OVERHEAD);
        Self { kind: None, vocabulary, message_overhead, skip_bad: false }
    }
}

/// A log that was read.
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Its form.
    pub kind: LogKind,
    /// Its calls, in the order of time.
    pub calls: Vec<LoggedCall>,
    /// Names of the sessions, in the order of appearance.
    pub sessions: Names,
    /// Names of the keys, in the order of appearance.
    pub keys: Names,
    /// What was sent beside the text: calls with different ones share nothing.
    pub groups: Vec<Settings>,
    /// Bad lines that were passed over.
    pub skipped: Skipped,
    /// What to know of how it was read.
    pub notes: Vec<String>,
    /// Their text, as tokens.
    pub tree: TokenTree,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedCall {
    /// Line in the file.
    pub line: u64,
    /// What tells it apart from other calls: its line, unless a line holds several calls.
    pub number: u64,
    /// When it was sent, since 1970.
    pub time: SimTime,
    /// Number of its session.
    pub session: Option<u32>,
    /// Number of its key.
    pub key: Option<u32>,
    /// Number of its settings.
    pub group: u32,
    /// The retention policy it asked for.
    pub retention: Option<String>,
    /// What was billed.
    pub usage: Usage,
    /// Its text, by places in the tree; of a call without a body, an assumed one.
    pub runs: Vec<Run>,
    /// Tokens of that text.
    pub rendered_tokens: Tokens,
    /// Whether there was a body.
    pub has_body: bool,
    /// Where its segments end.
    pub marks: Vec<Mark>,
    /// Whether the client opted out of implicit breakpoints.
    pub explicit_only: bool,
    /// Tokens of the provider's own that are taken to stand before it: of calls with the same settings the least
    /// difference of what was billed to what was rendered.
    pub unrendered_tokens: Tokens,
    /// Time to first token.
    pub ttft: Option<Span>,
    /// Time until the answer was complete.
    pub total: Option<Span>,
}

/// What an observer is shown of a call while its text is at hand.
pub struct Shown<'a> {
    /// Number of the call, in the order of the file.
    pub number: u32,
    /// The call as it stands in the file.
    pub call: &'a Call,
    /// Its tokens; empty without a body.
    pub rendered: &'a Rendered,
    /// How many tokens some earlier call begins with, too.
    pub shared: Tokens,
    /// The last of those that share them.
    pub beside: Option<u32>,
}

/// Names, each with a number in the order of their appearance.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: FxHashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.to_string(), number);
        number
    }
}

impl Log {
    /// Reads a file whole.
    pub fn read(path: &Path, format: &LogFormat) -> Result<Self> {
        Self::read_shown(path, format, |_, _| ())
    }

    /// Reads a file whole, and shows every call while its text is at hand.
    pub fn read_shown(
        path: &Path,
        format: &LogFormat,
        mut observe: impl FnMut(&Shown<'_>, &LoggedCall),
    ) -> Result<Self> {
        let mut file = Calls::open(path, format.kind, format.skip_bad)?;
        let mut reading = Reading::new(format);
        while let Some(call) = file.next_call()? {
            reading
                .add(&call, &mut observe)
                .map_err(|message| Error::input(format_args!("{}:{}", path.display(), call.line), message))?;
        }
        let mut log = reading.log;
        log.path = path.to_path_buf();
        log.kind = file.kind();
        log.skipped = file.skipped().clone();
        if file.without_usage() > 0 {
            let left_out = file.without_usage();
            log.notes.push(format!("{left_out} calls are left out, which failed or say nothing of tokens"));
        }
        log.settle()?;
        Ok(log)
    }

    /// What is left to do when all calls are known.
    fn settle(&mut self) -> Result<()> {
        if self.calls.is_empty() {
            return Err(Error::input(self.path.display(), "holds no call with a body or with usage"));
        }
        self.number_calls();
        self.put_in_time()?;
        self.align();
        self.note_how_far_off();
        let bodiless = self.calls.iter().filter(|call| !call.has_body).count();
        if bodiless > 0 {
            self.notes.push(format!(
                "{bodiless} of {} calls have no body: prompts of one session (or of one identity) are taken to begin \
                 alike, others to share nothing; a `session` says which belong together",
                self.calls.len()
            ));
        }
        Ok(())
    }

    fn number_calls(&mut self) {
        let are_lines = self.calls.is_sorted_by(|one, next| one.line < next.line);
        for (at, call) in (1u64..).zip(&mut self.calls) {
            call.number = if are_lines { call.line } else { at };
        }
    }

    /// Whether the tokens of the text are those that were billed.
    fn note_how_far_off(&mut self) {
        let off = |call: &LoggedCall| {
            let billed = call.usage.prompt_tokens.filter(|_| call.has_body)?;
            Some((billed.abs_diff(call.rendered_tokens + call.unrendered_tokens), call.line))
        };
        let far = |(tokens, line): &(Tokens, u64)| (*tokens, std::cmp::Reverse(*line));
        let most = self.calls.iter().filter_map(off).max_by_key(far);
        if let Some((tokens, line)) = most.filter(|(tokens, _)| *tokens > 0) {
            self.notes.push(format!(
                "the tokens of the text are up to {tokens} off what was billed (line {line}): readings near a boundary \
                 may be a step off"
            ));
        }
    }

    /// Sorts the calls by time; without any, they are taken to be a second apart.
    fn put_in_time(&mut self) -> Result<()> {
        let timeless = self.calls.iter().filter(|call| call.time == SimTime::NEVER).count();
        if timeless == self.calls.len() {
            if timeless > 1 {
                self.notes.push("no call has a time: they are taken to be a second apart".into());
            }
            for (second, call) in (0u64..).zip(&mut self.calls) {
                call.time = SimTime::ZERO + Span::SECOND.times(second);
            }
        } else if let Some(call) = self.calls.iter().find(|call| call.time == SimTime::NEVER) {
            let message = "has no time, and other calls have one: give every call its time";
            return Err(Error::input(format_args!("{}:{}", self.path.display(), call.line), message));
        }
        self.calls.sort_by_key(|call| call.time);
        Ok(())
    }

    /// Lays what was billed beside what was rendered.
    fn align(&mut self) {
        let mut least: Vec<Option<Tokens>> = vec![None; self.groups.len()];
        for call in self.calls.iter().filter(|call| call.has_body) {
            let Some(billed) = call.usage.prompt_tokens else { continue };
            let more = billed.saturating_sub(call.rendered_tokens);
            let least = &mut least[call.group as usize];
            *least = Some(least.map_or(more, |least| least.min(more)));
        }
        for call in self.calls.iter_mut().filter(|call| call.has_body) {
            call.unrendered_tokens = least[call.group as usize].unwrap_or(0);
        }
    }

    /// The calls as requests to be played, in the order of time; explicit marks are left out unless they are to be kept.
    pub fn records(&self, keeps_marks: bool) -> Vec<Record> {
        self.calls.iter().map(|call| call.record(keeps_marks)).collect()
    }
}

impl LoggedCall {
    /// Length of its prompt: as billed, but never less than its text, since cutting that would tear prompts apart.
    pub fn prompt_tokens(&self) -> Tokens {
        let text = self.rendered_tokens + self.unrendered_tokens;
        self.usage.prompt_tokens.map_or(text, |billed| billed.max(text))
    }

    fn record(&self, keeps_marks: bool) -> Record {
        let (before, prompt_tokens) = (self.unrendered_tokens, self.prompt_tokens());
        let unrendered =
            Run { content: UNRENDERED + (u64::from(self.group) << 32), pieces: before, piece_tokens: 1 };
        let named_tokens = before + self.rendered_tokens;
        let runs: Vec<Run> =
            [unrendered].into_iter().filter(|run| run.pieces > 0).chain(self.runs.iter().copied()).collect();
        let sent = if keeps_marks { as_sent(&self.marks, self.explicit_only) } else { self.marks.clone() };
        let marks = sent.iter().filter(|mark| keeps_marks || mark.kind != MarkKind::Explicit);
        let marks = marks.map(|mark| Mark { depth: mark.depth + before, ..*mark });
        Record {
            line: self.number,
            time: self.time,
            prompt_tokens,
            output_tokens: self.usage.output_tokens.unwrap_or(0),
            first256: Some(format!("{}/{}", self.group, place_at(&runs, HEAD_TOKENS.min(named_tokens)))),
            runs,
            named_tokens,
            session: self.session.map(|number| number.to_string()),
            key: self.key.map(|number| number.to_string()),
            marks: self.has_body.then(|| marks.collect()),
        }
    }
}

/// The number of the place at this depth; 0 of the empty prompt.
fn place_at(runs: &[Run], depth: Tokens) -> u64 {
    let mut behind = depth;
    for run in runs {
        if behind <= run.pieces {
            return run.content + u64::from(behind);
        }
        behind -= run.pieces;
    }
    0
}

/// A log while it is read.
struct Reading {
    log: Log,
    renderer: Renderer,
    groups: FxHashMap<Settings, u32>,
    /// Identities of prompts without a body, and sessions that stand for them.
    unseen: Names,
}

impl Reading {
    fn new(format: &LogFormat) -> Self {
        let log = Log {
            path: PathBuf::new(),
            kind: LogKind::Request,
            calls: Vec::new(),
            sessions: Names::default(),
            keys: Names::default(),
            groups: Vec::new(),
            skipped: Skipped::default(),
            notes: Vec::new(),
            tree: TokenTree::default(),
        };
        let renderer = Renderer::new(format.vocabulary, format.message_overhead);
        Self { log, renderer, groups: FxHashMap::default(), unseen: Names::default() }
    }

    /// Adds a call; the error is a message without its place.
    fn add(
        &mut self,
        call: &Call,
        observe: &mut impl FnMut(&Shown<'_>, &LoggedCall),
    ) -> std::result::Result<(), String> {
        call.usage.check()?;
        let number = self.log.calls.len() as u32;
        let group = self.group(&call.settings);
        let body = call.body.as_ref().filter(|_| !call.continues);
        let rendered = body.map(|body| self.renderer.render(body)).unwrap_or_default();
        let mut path = self.log.tree.insert(group, &rendered.tokens, number);
        let rendered_tokens = match (body, call.usage.prompt_tokens) {
            (Some(_), _) => rendered.tokens.len() as Tokens,
            (None, Some(tokens)) => tokens,
            (None, None) => return Err("has neither a body nor the tokens of its prompt".into()),
        };
        if body.is_none() {
            path.runs = self.unseen(call, group, number, rendered_tokens);
        }
        let logged = LoggedCall {
            line: call.line,
            number: 0,
            explicit_only: call.settings.explicit_only,
            time: call.time.unwrap_or(SimTime::NEVER),
            session: call.session.as_deref().map(|name| self.log.sessions.number(name)),
            key: call.key.as_deref().map(|name| self.log.keys.number(name)),
            group,
            retention: call.settings.retention.clone(),
            usage: call.usage,
            runs: path.runs,
            rendered_tokens,
            has_body: body.is_some(),
            marks: body.map_or(Vec::new(), |body| marks(body, &rendered)),
            unrendered_tokens: 0,
            ttft: call.ttft,
            total: call.total,
        };
        let shown = Shown { number, call, rendered: &rendered, shared: path.shared, beside: path.beside };
        observe(&shown, &logged);
        self.log.calls.push(logged);
        Ok(())
    }

    /// Number of the settings, as far as they are part of the prefix.
    fn group(&mut self, settings: &Settings) -> u32 {
        let prefix = Settings { prefix: settings.prefix.clone(), ..Settings::default() };
        let groups = &mut self.log.groups;
        *self.groups.entry(prefix).or_insert_with_key(|prefix| {
            groups.push(prefix.clone());
            groups.len() as u32 - 1
        })
    }

    /// The assumed text of a call without a body.
    fn unseen(&mut self, call: &Call, group: u32, number: u32, tokens: Tokens) -> Vec<Run> {
        // The prefixes keep identities, sessions and single calls apart.
        let name = match (&call.prompt, &call.session) {
            (Some(prompt), _) => format!("{group} prompt {prompt}"),
            (None, Some(session)) => format!("{group} session {session}"),
            (None, None) => format!("call {number}"),
        };
        let content = UNSEEN + (u64::from(self.unseen.number(&name)) << 32);
        let run = Run { content, pieces: tokens, piece_tokens: 1 };
        if tokens > 0 { vec![run] } else { Vec::new() }
    }
}

/// Ends of messages that are remembered of a call, the latest: no provider looks further back.
const MOST_MESSAGES: usize = 128;

/// The marks as the provider gets them: of a client that opted out of implicit breakpoints it writes at explicit ones only.
pub fn as_sent(marks: &[Mark], explicit_only: bool) -> Vec<Mark> {
    let sent = |mark: &Mark| match mark.kind {
        MarkKind::Developer if explicit_only => None,
        MarkKind::Message if explicit_only => Some(Mark { kind: MarkKind::PassedMessage, ..*mark }),
        _ => Some(*mark),
    };
    marks.iter().filter_map(sent).collect()
}

/// Where the segments of a body end: the leading developer block, messages of the user, the last tool response of a run,
/// and what the client marked.
pub fn marks(body: &Body, rendered: &Rendered) -> Vec<Mark> {
    let mut marks = Vec::new();
    let parts: Vec<_> = body.parts.iter().zip(&rendered.ends).collect();
    let is_developer = |role: Role| matches!(role, Role::Tools | Role::Developer);
    let leading = parts.iter().take_while(|(part, _)| is_developer(part.role)).last();
    if let Some((_, end)) = leading {
        marks.push(Mark { depth: **end, kind: MarkKind::Developer });
    }
    for (at, (part, end)) in parts.iter().enumerate() {
        let next = parts.get(at + 1).map(|(next, _)| next.role);
        let is_message = part.ends_message
            && (part.role == Role::User || part.role == Role::ToolResult && next != Some(Role::ToolResult));
        if is_message {
            marks.push(Mark { depth: **end, kind: MarkKind::Message });
        }
        if part.marked {
            marks.push(Mark { depth: **end, kind: MarkKind::Explicit });
        }
    }
    let messages = marks.iter().filter(|mark| mark.kind == MarkKind::Message).count();
    let mut forgotten = messages.saturating_sub(MOST_MESSAGES);
    marks.retain(|mark| {
        let forgets = mark.kind == MarkKind::Message && forgotten > 0;
        forgotten -= usize::from(forgets);
        !forgets
    });
    marks
}
