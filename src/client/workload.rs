//! Who sends what when: the traffic models, and the sessions they make.
//!
//! Sessions are closed loop: the next turn waits for the answer and a think time. A session's script (turns,
//! lengths, think times) is a function of its own random key alone, so that every variant of a scenario meets
//! the same scripts.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::arrival::{Arrivals, Starts};
use crate::client::key::{Caller, Keying, PromptCacheKey};
use crate::error::Result;
use crate::input::trace::{Record, Skipped, TraceFormat, TraceReader};
use crate::prompt::{Cursor, Mark, MarkKind, Marks, PrefixTree, Prompt, Run};
use crate::random::{
    CountDistribution, Draws, Purpose, Seed, SessionKey, SpanDistribution, digest, fold, mix,
};
use crate::units::{SimTime, Span, Tokens};

/// Everything a user can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The retention policy asked for; absent asks for none, and the provider's default applies.
    #[serde(default)]
    pub retention: Option<String>,
    /// The keying strategy.
    #[serde(default)]
    pub key: Keying,
    /// Segments at whose ends every request carries an explicit breakpoint: developer (tools and system prompt),
    /// message (the latest). Matters under write.semantics = breakpoints.
    #[serde(default)]
    pub breakpoints: Vec<Breakpoint>,
    /// The traffic, by name: several workloads make a mixture.
    pub workload: BTreeMap<String, Workload>,
}

/// Where a client puts an explicit breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breakpoint {
    /// At the end of the leading developer block.
    Developer,
    /// At the end of the latest message.
    Message,
}

/// One kind of traffic; exactly one of shared_prefix, chat and trace says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Organization, region, model or tier this traffic belongs to: caches are not shared across partitions.
    #[serde(default)]
    pub partition: String,
    /// Users that sessions are spread over.
    #[serde(default = "one")]
    pub users: u32,
    /// A keying strategy of its own, in place of client.key.
    #[serde(default)]
    pub key: Option<Keying>,
    /// A retention policy of its own, in place of client.retention.
    #[serde(default)]
    pub retention: Option<String>,
    /// When sessions start (not for a trace, which has its own times).
    #[serde(default)]
    pub arrivals: Option<Arrivals>,
    /// Many callers of one prefix, each with a tail of its own: the bucketing study.
    #[serde(default)]
    pub shared_prefix: Option<SharedPrefix>,
    /// Conversations that grow turn by turn.
    #[serde(default)]
    pub chat: Option<Chat>,
    /// Recorded requests.
    #[serde(default)]
    pub trace: Option<Trace>,
}

fn one() -> u32 {
    1
}

/// Independent calls that share a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedPrefix {
    /// Tokens of the prefix that all calls share.
    pub prefix_tokens: Tokens,
    /// Tokens after it.
    pub tail_tokens: CountDistribution,
    /// Different tails, sent in turn; 0 makes every call's tail its own.
    #[serde(default)]
    pub tails: u32,
    /// Tokens of the answer.
    pub output_tokens: CountDistribution,
}

/// Conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// Tokens of the system prompt that all conversations share.
    pub prefix_tokens: Tokens,
    /// Turns of a conversation, at least 1.
    pub turns: CountDistribution,
    /// Tokens of a user's message.
    pub user_tokens: CountDistribution,
    /// Tokens of an answer, which becomes part of the next prompt.
    pub output_tokens: CountDistribution,
    /// Pause between an answer and the next message.
    pub think: SpanDistribution,
}

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

impl Workload {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> std::result::Result<(), (&'static str, String)> {
        let kinds = usize::from(self.shared_prefix.is_some())
            + usize::from(self.chat.is_some())
            + usize::from(self.trace.is_some());
        if kinds != 1 {
            return Err(("", "needs exactly one of the tables shared_prefix, chat and trace".into()));
        }
        match (&self.arrivals, &self.trace) {
            (None, None) => return Err(("arrivals", "is missing: say when sessions start".into())),
            (Some(_), Some(_)) => return Err(("arrivals", "a trace has its own times".into())),
            _ => {}
        }
        if self.users == 0 {
            return Err(("users", "must be 1 or more".into()));
        }
        if let Some(SharedPrefix { prefix_tokens, tail_tokens, .. }) = &self.shared_prefix
            && u64::from(*prefix_tokens) + tail_tokens.support().0 == 0
        {
            return Err(("shared_prefix.tail_tokens", "a prompt needs at least one token".into()));
        }
        if let Some(chat) = &self.chat {
            if chat.turns.support().1 == Some(0) {
                return Err(("chat.turns", "must be 1 or more".into()));
            }
            if u64::from(chat.prefix_tokens) + chat.user_tokens.support().0 == 0 {
                return Err(("chat.user_tokens", "a prompt needs at least one token".into()));
            }
        }
        if let Some(Err((_, message))) = self.trace.as_ref().map(|trace| trace.file.validate()) {
            return Err(("trace.file.block_tokens", message));
        }
        Ok(())
    }
}

/// One session while it lives.
#[derive(Clone, Debug)]
pub struct Session {
    /// Number of its workload.
    pub workload: u32,
    number: u64,
    key: SessionKey,
    user: u32,
    turn: u32,
    turns: u32,
    /// Everything said so far, as the next prompt will repeat it.
    history: Cursor,
    /// Where the latest messages end, as many as the provider looks back at.
    message_ends: VecDeque<Tokens>,
    previous: Option<Prompt>,
}

/// One call, as the provider gets it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the request within the run, from 0.
    pub call: u64,
    /// Line of the trace it was recorded on; 0 for generated traffic.
    pub line: u64,
    /// Number of the workload.
    pub workload: u32,
    /// Number of the session.
    pub session: u64,
    /// Turn within the session, from 0.
    pub turn: u32,
    /// The prompt_cache_key.
    pub key: PromptCacheKey,
    /// The prompt.
    pub prompt: Prompt,
    /// Ends of its segments, where the provider cares for them.
    pub marks: Marks,
    /// The session's prompt before this one.
    pub previous: Option<Prompt>,
    /// Tokens of the answer.
    pub output_tokens: Tokens,
    /// This request's draws.
    pub draws: Draws,
}

/// All sessions of one run.
pub struct Traffic {
    sources: Vec<Source>,
    sessions: u64,
    calls: u64,
    /// One count of assigned requests for each workload: round robin goes on across sessions.
    assigned: Vec<u64>,
    breakpoints: Vec<Breakpoint>,
    /// How many ends of messages the provider looks at.
    messages_wanted: usize,
}

struct Source {
    kind: Kind,
    keying: Keying,
    users: u32,
    /// Identity of the text that this workload's sessions share.
    content: SessionKey,
}

enum Kind {
    SharedPrefix(SharedPrefix, Starts),
    Chat(Chat, Starts),
    Trace(Box<Recording>),
}

struct Recording {
    reader: TraceReader,
    record: Record,
    start: Option<Span>,
    /// The recorded time that becomes `start`, or simulated midnight; known from the first record.
    origin: Option<u64>,
    previous: FxHashMap<u64, (u32, Prompt)>,
}

impl Traffic {
    /// The sessions that start within `duration`; paths of traces are relative to `folder`. The provider looks at
    /// the ends of the latest `messages_wanted` messages.
    pub fn new(
        client: &Client,
        duration: Span,
        messages_wanted: u32,
        seed: &Seed,
        folder: &Path,
    ) -> Result<Self> {
        let mut sources = Vec::new();
        for (stream, workload) in (0u64..).zip(client.workload.values()) {
            let starts = || {
                let arrivals = workload.arrivals.as_ref().expect("validated: generated traffic has arrivals");
                Starts::new(arrivals, SimTime::ZERO + duration, seed.session_keys(2 * stream))
            };
            let kind = match (&workload.shared_prefix, &workload.chat, &workload.trace) {
                (Some(shared), _, _) => Kind::SharedPrefix(shared.clone(), starts()),
                (_, Some(chat), _) => Kind::Chat(chat.clone(), starts()),
                (_, _, Some(trace)) => Kind::Trace(Box::new(Recording {
                    reader: TraceReader::open(&trace.file, folder)?,
                    record: Record::default(),
                    start: trace.start,
                    origin: None,
                    previous: FxHashMap::default(),
                })),
                (None, None, None) => unreachable!("validated: a workload has one kind"),
            };
            sources.push(Source {
                kind,
                keying: workload.key.as_ref().unwrap_or(&client.key).clone(),
                users: workload.users,
                content: seed.session_keys(2 * stream + 1).next_key(),
            });
        }
        let assigned = vec![0; sources.len()];
        let breakpoints = client.breakpoints.clone();
        let messages_wanted = messages_wanted as usize;
        Ok(Self { sources, sessions: 0, calls: 0, assigned, breakpoints, messages_wanted })
    }

    /// Number of workloads.
    pub fn workloads(&self) -> usize {
        self.sources.len()
    }

    /// Bad lines that traces skipped so far, by workload.
    pub fn skipped(&self) -> impl Iterator<Item = (usize, &Skipped)> {
        self.sources.iter().enumerate().filter_map(|(index, source)| match &source.kind {
            Kind::Trace(recording) => Some((index, recording.reader.skipped())),
            _ => None,
        })
    }

    /// The next session of a workload, with its start; `None` when the workload has ended.
    pub fn next_session(&mut self, workload: u32) -> Result<Option<(SimTime, Session)>> {
        let source = &mut self.sources[workload as usize];
        let (now, key, turns, number) = match &mut source.kind {
            Kind::SharedPrefix(_, starts) => match starts.next() {
                Some((now, key)) => (now, key, 1, self.sessions),
                None => return Ok(None),
            },
            Kind::Chat(chat, starts) => match starts.next() {
                Some((now, key)) => (now, key, chat.turns.draw(key.turn(0), Purpose::Turns).0, self.sessions),
                None => return Ok(None),
            },
            Kind::Trace(recording) => match recording.advance()? {
                Some((now, session)) => {
                    (now, SessionKey(mix(source.content.0 ^ recording.record.line)), 1, session)
                }
                None => return Ok(None),
            },
        };
        self.sessions += 1;
        let user = key.turn(0).below(Purpose::User, 0, u64::from(source.users)) as u32;
        let session = Session {
            workload,
            number,
            key,
            user,
            turn: 0,
            turns: turns.max(1),
            history: Cursor::ROOT,
            message_ends: VecDeque::new(),
            previous: None,
        };
        Ok(Some((now, session)))
    }

    /// The session's next request.
    pub fn request(&mut self, session: &mut Session, tree: &mut PrefixTree) -> Request {
        let draws = session.key.turn(session.turn);
        let source = &mut self.sources[session.workload as usize];
        let call = self.calls;
        self.calls += 1;
        let developer = source.developer_tokens();
        let mut line = 0;
        let mut recorded = None;
        let (prompt, output_tokens) = match &mut source.kind {
            Kind::SharedPrefix(shared, _) => shared.prompt(source.content, session, call, draws, tree),
            Kind::Chat(chat, _) => chat.prompt(source.content, session, draws, tree),
            Kind::Trace(recording) => {
                line = recording.record.line;
                let (prompt, turn, previous) = recording.prompt(session.number, tree);
                (session.turn, session.previous) = (turn, previous);
                recorded = recording.record.key.as_deref();
                (prompt, recording.record.output_tokens)
            }
        };
        let caller = Caller {
            workload: session.workload,
            user: session.user,
            session: session.number,
            call,
            recorded,
            draws,
        };
        let key = source.keying.key(&caller, &mut self.assigned[session.workload as usize]);
        let marks = match self.messages_wanted {
            0 => Marks::new(),
            wanted => session.marks(developer, prompt.tokens(), wanted, &self.breakpoints),
        };
        let previous = session.previous.replace(prompt);
        Request {
            call,
            line,
            workload: session.workload,
            session: session.number,
            turn: session.turn,
            key,
            prompt,
            marks,
            previous,
            output_tokens,
            draws,
        }
    }

    /// When the session calls again, after an answer that is complete at `answered`; `None` if it has ended.
    pub fn next_turn(&self, session: &mut Session, answered: SimTime) -> Option<SimTime> {
        session.turn += 1;
        if session.turn >= session.turns {
            return None;
        }
        let Kind::Chat(chat, _) = &self.sources[session.workload as usize].kind else { return None };
        Some(answered + chat.think.draw(session.key.turn(session.turn), Purpose::Think))
    }
}

impl Source {
    /// Tokens of the developer block that every prompt begins with.
    fn developer_tokens(&self) -> Tokens {
        match &self.kind {
            Kind::SharedPrefix(shared, _) => shared.prefix_tokens,
            Kind::Chat(chat, _) => chat.prefix_tokens,
            Kind::Trace(_) => 0,
        }
    }
}

impl Session {
    /// The ends of a prompt's segments, shallowest first: the developer block, the latest messages (the prompt's
    /// own end among them), and what the client marks.
    fn marks(&mut self, developer: Tokens, end: Tokens, wanted: usize, breakpoints: &[Breakpoint]) -> Marks {
        // A prompt that shrank (another text from some depth on) has lost the messages behind that.
        self.message_ends.retain(|earlier| *earlier < end);
        self.message_ends.push_back(end);
        if self.message_ends.len() > wanted {
            self.message_ends.pop_front();
        }
        let mut marks = Marks::new();
        let mut put = |kind, placement: Breakpoint, depth| {
            marks.push(Mark { depth, kind });
            if breakpoints.contains(&placement) && (placement == Breakpoint::Developer || depth == end) {
                marks.push(Mark { depth, kind: MarkKind::Explicit });
            }
        };
        if developer > 0 {
            put(MarkKind::Developer, Breakpoint::Developer, developer);
        }
        for depth in &self.message_ends {
            put(MarkKind::Message, Breakpoint::Message, *depth);
        }
        marks
    }
}

/// Appends text that every session of a workload shares, if there is any.
fn shared_start(tree: &mut PrefixTree, content: SessionKey, tokens: Tokens) -> Cursor {
    if tokens == 0 { Cursor::ROOT } else { tree.append(Cursor::ROOT, Run::piece(content.0, tokens)) }
}

impl SharedPrefix {
    fn prompt(
        &self,
        content: SessionKey,
        session: &Session,
        call: u64,
        draws: Draws,
        tree: &mut PrefixTree,
    ) -> (Prompt, Tokens) {
        let prefix = shared_start(tree, content, self.prefix_tokens);
        let output = self.output_tokens.draw(draws, Purpose::OutputTokens).0;
        if self.tails == 0 {
            let tail = self.tail_tokens.draw(draws, Purpose::PromptTokens).0;
            return (tree.prompt(prefix, tail, session.key.0), output);
        }
        // A rotating tail is the same text, and so of the same length, whenever its turn comes.
        let tail_content = SessionKey(fold(content.0, call % u64::from(self.tails)));
        let tokens = self.tail_tokens.draw(tail_content.turn(0), Purpose::PromptTokens).0;
        let end = if tokens == 0 { prefix } else { tree.append(prefix, Run::piece(tail_content.0, tokens)) };
        (tree.prompt(end, 0, 0), output)
    }
}

impl Chat {
    fn prompt(
        &self,
        content: SessionKey,
        session: &mut Session,
        draws: Draws,
        tree: &mut PrefixTree,
    ) -> (Prompt, Tokens) {
        if session.turn == 0 {
            session.history = shared_start(tree, content, self.prefix_tokens);
        }
        let message = self.user_tokens.draw(draws, Purpose::PromptTokens).0;
        let end = tree.append_private(session.history, draws.bits(Purpose::Content, 0), message);
        let prompt = tree.prompt(end, 0, 0);
        let output = self.output_tokens.draw(draws, Purpose::OutputTokens).0;
        session.history = tree.append_private(end, draws.bits(Purpose::Content, 1), output);
        (prompt, output)
    }
}

impl Recording {
    /// Reads the next record; its simulated time and its session's number.
    fn advance(&mut self) -> Result<Option<(SimTime, u64)>> {
        if !self.reader.read(&mut self.record)? {
            return Ok(None);
        }
        let time = self.record.time.0;
        let first_or_midnight = if self.start.is_some() { time } else { time - time % Span::DAY.0 };
        let origin = *self.origin.get_or_insert(first_or_midnight);
        let time = self.start.unwrap_or(Span::ZERO).0 + (time - origin);
        // A request without a session is one of its own; the top bit keeps the two kinds of number apart.
        let number = match &self.record.session {
            Some(name) => digest(name) | 1 << 63,
            None => self.record.line,
        };
        Ok(Some((SimTime(time), number)))
    }

    /// The record's prompt, with its turn in the session and the session's prompt before.
    fn prompt(&mut self, session: u64, tree: &mut PrefixTree) -> (Prompt, u32, Option<Prompt>) {
        let Record { runs, prompt_tokens, named_tokens, head, .. } = &self.record;
        let mut at = runs.iter().fold(Cursor::ROOT, |at, run| tree.append(at, *run));
        // The last block may be filled in part only.
        at.depth = at.depth.min(*named_tokens);
        let mut prompt = tree.prompt(at, prompt_tokens - named_tokens, mix(self.record.line));
        if let Some(head) = head {
            prompt.head = *head;
        }
        if self.record.session.is_none() {
            return (prompt, 0, None);
        }
        let entry = self.previous.entry(session).or_insert((0, prompt));
        let first = entry.0 == 0;
        let (turn, previous) = (entry.0, (!first).then_some(entry.1));
        *entry = (turn + 1, prompt);
        (prompt, turn, previous)
    }
}
