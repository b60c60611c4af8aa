//! Sessions: who sends what when, one request at a time.
//!
//! Sessions are closed loop: the next turn waits for the answer and a think time. A session's script (turns,
//! lengths, think times) is a function of its own random key alone, so that every variant of a scenario meets
//! the same scripts.

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::client::agent::Agent;
use crate::client::arrival::Starts;
use crate::client::chat::Chat;
use crate::client::conversation::{Conversation, Setting};
use crate::client::key::{Caller, Keying, PromptCacheKey};
use crate::client::shared_prefix::SharedPrefix;
use crate::client::volatility::Volatility;
use crate::client::workload::{Breakpoint, Client, Workload};
use crate::error::Result;
use crate::input::recording::Recording;
use crate::input::trace::Skipped;
use crate::prompt::{Cursor, Mark, MarkKind, Marks, PrefixTree, Prompt};
use crate::random::{Draws, Purpose, Seed, SessionKey, digest, fold};
use crate::units::{LONGEST_PROMPT, SimTime, Span, Tokens};

/// One session while it lives.
#[derive(Clone, Debug)]
pub struct Session {
    /// Number of its workload.
    pub workload: u32,
    number: u64,
    key: SessionKey,
    user: u32,
    /// Turns that have not begun.
    turns_left: u32,
    /// Further calls of this turn.
    calls_left: u32,
    conversation: Conversation,
    sent: Sent,
}

/// What a session has sent so far.
#[derive(Clone, Debug, Default)]
struct Sent {
    turn: u32,
    previous: Option<Prompt>,
    /// Where the messages of the last prompt end, shallowest first.
    message_ends: Vec<Tokens>,
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
    /// Call within the session, from 0.
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
    /// The place behind the answer, where a later prompt may repeat it.
    pub answered: Option<Cursor>,
    /// This request's draws.
    pub draws: Draws,
}

/// All sessions of one run.
pub struct Traffic {
    sources: Vec<Source>,
    sessions: u64,
    calls: u64,
    /// Nothing generated is sent at or after this.
    end: SimTime,
    breakpoints: Vec<Breakpoint>,
    /// How many ends of messages the provider looks at.
    messages_wanted: usize,
}

/// One workload while it runs.
struct Source {
    kind: Kind,
    keying: Keying,
    users: u32,
    volatility: Volatility,
    /// Identity of the text that this workload's sessions share.
    content: SessionKey,
    calls: u64,
    /// Requests assigned in turn: round robin goes on across sessions.
    assigned: u64,
    /// What the sessions of a trace have sent: their requests come one by one.
    recorded: FxHashMap<u64, Sent>,
}

enum Kind {
    SharedPrefix(SharedPrefix, Starts),
    Chat(Chat, Starts),
    Agent(Agent, Starts),
    Trace(Box<Recording>),
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
        for (name, workload) in &client.workload {
            let keying = client.keying(workload);
            sources.push(Source::new(name, workload, keying, duration, seed, folder)?);
        }
        Ok(Self {
            sources,
            sessions: 0,
            calls: 0,
            end: SimTime::ZERO + duration,
            breakpoints: client.breakpoints.clone(),
            messages_wanted: messages_wanted as usize,
        })
    }

    /// Number of workloads.
    pub fn workloads(&self) -> usize {
        self.sources.len()
    }

    /// Bad lines that traces skipped so far.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.sources.iter().filter_map(|source| match &source.kind {
            Kind::Trace(recording) => Some(recording.skipped()),
            _ => None,
        })
    }

    /// The next session of a workload, with its start; `None` when the workload has ended.
    pub fn next_session(&mut self, workload: u32) -> Result<Option<(SimTime, Session)>> {
        let source = &mut self.sources[workload as usize];
        let Some((now, number, key)) = source.next_start(self.sessions)? else { return Ok(None) };
        // A session of a trace is one user, though its requests come, and draw, one by one.
        let person = if source.is_trace() { SessionKey(fold(source.content.0, number)) } else { key };
        self.sessions += 1;
        let session = Session {
            workload,
            number,
            key,
            user: person.turn(0).below(Purpose::User, 0, u64::from(source.users)) as u32,
            turns_left: source.turns(key),
            calls_left: 0,
            conversation: Conversation::default(),
            sent: source.recorded.remove(&number).unwrap_or_default(),
        };
        Ok(Some((now, session)))
    }

    /// The session's next request.
    pub fn request(&mut self, session: &mut Session, now: SimTime, tree: &mut PrefixTree) -> Request {
        let source = &mut self.sources[session.workload as usize];
        let draws = session.key.turn(session.sent.turn);
        let developer = source.developer_tokens();
        let (prompt, output_tokens) = source.prompt(session, draws, now, tree);
        let (line, recorded) = match &source.kind {
            Kind::Trace(recording) => (recording.record().line, recording.record().key.as_deref()),
            _ => (0, None),
        };
        let caller = Caller {
            workload: session.workload,
            user: session.user,
            session: session.number,
            call: self.calls,
            recorded,
            draws,
        };
        let key = source.keying.key(&caller, &mut source.assigned);
        let marks = match self.messages_wanted {
            0 => Marks::new(),
            wanted => session.sent.marks(developer, prompt.tokens(), wanted, &self.breakpoints),
        };
        let request = Request {
            call: self.calls,
            line,
            workload: session.workload,
            session: session.number,
            turn: session.sent.turn,
            key,
            prompt,
            marks,
            previous: session.sent.previous.replace(prompt),
            output_tokens,
            answered: session.conversation.end(),
            draws,
        };
        self.calls += 1;
        source.calls += 1;
        session.sent.turn += 1;
        if let Kind::Trace(recording) = &source.kind
            && recording.record().session.is_some()
        {
            source.recorded.insert(session.number, std::mem::take(&mut session.sent));
        }
        request
    }

    /// When the session calls again, after an answer that is complete at `answered`; `None` if it has ended.
    pub fn next_turn(&self, session: &Session, answered: SimTime) -> Option<SimTime> {
        let source = &self.sources[session.workload as usize];
        let draws = session.key.turn(session.sent.turn);
        let next = answered + source.pause(session, draws)?;
        (next < self.end && session.conversation.tokens() <= LONGEST_PROMPT).then_some(next)
    }
}

impl Source {
    /// A workload at its beginning. Its randomness follows from its name, so that another workload beside it
    /// changes nothing.
    fn new(
        name: &str,
        workload: &Workload,
        keying: &Keying,
        duration: Span,
        seed: &Seed,
        folder: &Path,
    ) -> Result<Self> {
        let keys = |purpose| seed.session_keys(fold(digest(name), purpose));
        let starts = || {
            let arrivals = workload.arrivals.as_ref().expect("validated: generated traffic has arrivals");
            Starts::new(arrivals, SimTime::ZERO + duration, keys(0))
        };
        let content = keys(1).next_key();
        let Workload { shared_prefix, chat, agent, trace, .. } = workload;
        let kind = match (shared_prefix, chat, agent, trace) {
            (Some(shared), ..) => Kind::SharedPrefix(shared.clone(), starts()),
            (_, Some(chat), ..) => Kind::Chat(chat.clone(), starts()),
            (_, _, Some(agent), _) => Kind::Agent(agent.clone(), starts()),
            (_, _, _, Some(trace)) => {
                Kind::Trace(Box::new(Recording::open(trace, duration, digest(name), folder)?))
            }
            (None, None, None, None) => unreachable!("validated: a workload has one kind"),
        };
        let (keying, users, volatility) = (keying.clone(), workload.users, workload.volatility.clone());
        let recorded = FxHashMap::default();
        Ok(Self { kind, keying, users, volatility, content, calls: 0, assigned: 0, recorded })
    }

    /// Start, number and key of the next session.
    fn next_start(&mut self, sessions: u64) -> Result<Option<(SimTime, u64, SessionKey)>> {
        match &mut self.kind {
            Kind::SharedPrefix(_, starts) | Kind::Chat(_, starts) | Kind::Agent(_, starts) => {
                Ok(starts.next().map(|(now, key)| (now, sessions, key)))
            }
            Kind::Trace(recording) => {
                let start = recording.advance()?;
                let key = SessionKey(fold(self.content.0, recording.record().line));
                Ok(start.map(|(now, number)| (now, number, key)))
            }
        }
    }

    fn is_trace(&self) -> bool {
        matches!(self.kind, Kind::Trace(_))
    }

    fn turns(&self, key: SessionKey) -> u32 {
        let law = match &self.kind {
            Kind::Chat(Chat { turns, .. }, _) | Kind::Agent(Agent { turns, .. }, _) => turns,
            Kind::SharedPrefix(..) | Kind::Trace(_) => return 1,
        };
        law.draw(key.turn(0), Purpose::Turns).0.max(1)
    }

    /// The session's next prompt, and the length of its answer.
    fn prompt(
        &self,
        session: &mut Session,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
    ) -> (Prompt, Tokens) {
        let (output_tokens, added, begins_turn) = match &self.kind {
            Kind::SharedPrefix(shared, _) => {
                let head = self.volatility.head(self.content, draws, now);
                return shared.prompt(self.content, session.key, self.calls, head, draws, tree);
            }
            Kind::Trace(recording) => return (recording.prompt(tree), recording.record().output_tokens),
            Kind::Chat(chat, _) => {
                (&chat.output_tokens, chat.user_tokens.draw(draws, Purpose::PromptTokens), true)
            }
            Kind::Agent(agent, _) if session.calls_left == 0 => {
                session.calls_left = agent.calls.draw(draws, Purpose::Calls).0.max(1);
                (&agent.output_tokens, agent.user_tokens.draw(draws, Purpose::PromptTokens), true)
            }
            Kind::Agent(agent, _) => {
                (&agent.output_tokens, agent.tool_tokens.draw(draws, Purpose::ToolTokens), false)
            }
        };
        session.turns_left -= u32::from(begins_turn);
        session.calls_left = session.calls_left.saturating_sub(1);
        let setting = self.setting(session);
        let end = session.conversation.call(&setting, added.0, begins_turn, draws, now, tree);
        let output = output_tokens.draw(draws, Purpose::OutputTokens).0;
        session.conversation.answer(output, draws, tree);
        (tree.prompt(end, 0, 0), output)
    }

    fn setting(&self, session: &Session) -> Setting<'_> {
        let start_tokens = match &self.kind {
            Kind::Agent(agent, _) if session.sent.turn == 0 => {
                agent.start_tokens.draw(session.key.turn(0), Purpose::StartTokens).0
            }
            _ => 0,
        };
        Setting {
            shared: self.content,
            prefix_tokens: self.prefix_tokens(),
            start_tokens,
            volatility: &self.volatility,
        }
    }

    /// Time between an answer and the session's next call; `None` if there is none.
    fn pause(&self, session: &Session, draws: Draws) -> Option<Span> {
        let law = match &self.kind {
            Kind::SharedPrefix(..) | Kind::Trace(_) => return None,
            Kind::Agent(agent, _) if session.calls_left > 0 => &agent.pause,
            _ if session.turns_left == 0 => return None,
            Kind::Chat(Chat { think, .. }, _) | Kind::Agent(Agent { think, .. }, _) => think,
        };
        Some(law.draw(draws, Purpose::Think))
    }

    fn prefix_tokens(&self) -> Tokens {
        match &self.kind {
            Kind::SharedPrefix(shared, _) => shared.prefix_tokens,
            Kind::Chat(chat, _) => chat.prefix_tokens,
            Kind::Agent(agent, _) => agent.prefix_tokens,
            Kind::Trace(_) => 0,
        }
    }

    /// Tokens of the developer block that every prompt begins with.
    fn developer_tokens(&self) -> Tokens {
        match self.prefix_tokens() {
            0 => 0,
            prefix => prefix + self.volatility.head_tokens,
        }
    }
}

impl Sent {
    /// The ends of a prompt's segments, shallowest first: the developer block, the latest messages (the prompt's
    /// own end among them), and what the client marks.
    fn marks(&mut self, developer: Tokens, end: Tokens, wanted: usize, breakpoints: &[Breakpoint]) -> Marks {
        // A prompt that shrank (another text from some depth on) has lost the messages behind that.
        while self.message_ends.last().is_some_and(|earlier| *earlier >= end) {
            self.message_ends.pop();
        }
        self.message_ends.push(end);
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
        for depth in &self.message_ends[self.message_ends.len().saturating_sub(wanted)..] {
            put(MarkKind::Message, Breakpoint::Message, *depth);
        }
        marks
    }
}
