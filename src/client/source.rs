//! One workload while it runs: when its sessions start, what they ask and when they go on.

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::client::agent::Agent;
use crate::client::arrival::Starts;
use crate::client::chat::Chat;
use crate::client::conversation::{SegmentEnds, Setting};
use crate::client::fork_tree::ForkTree;
use crate::client::key::{Caller, Keying, PromptCacheKey};
use crate::client::reaction::{Reaction, Seen};
use crate::client::request::Place;
use crate::client::session::{Sent, Session};
use crate::client::shared_prefix::SharedPrefix;
use crate::client::volatility::Volatility;
use crate::client::workload::{Breakpoint, Client, Workload};
use crate::error::Result;
use crate::extent::Extent;
use crate::input::recording::Recording;
use crate::prompt::{Mark, MarkKind, Marks, PrefixTree, Prompt, Run};
use crate::provider::write::MarksWanted;
use crate::random::{Distribution, Draws, Purpose, Seed, SessionKey, digest, fold};
use crate::units::{SimTime, Span, Tokens};

/// One workload while it runs.
pub(super) struct Source {
    pub kind: Kind,
    pub keying: Keying,
    /// Whether all of a session's requests have one key and, as long as they only grow, one head.
    pub keeps_routing_key: bool,
    /// Whether its sessions are left out unless their key is in the sample.
    pub sampled: bool,
    pub reaction: Reaction,
    breakpoints: Vec<Breakpoint>,
    /// Digest of the partition's name.
    pub partition: u64,
    users: u32,
    volatility: Volatility,
    /// Identity of the text that this workload's sessions share.
    content: SessionKey,
    /// Calls so far.
    pub calls: u64,
    /// Requests assigned in turn: round robin goes on across sessions.
    pub assigned: u64,
    /// What the sessions of a trace have sent: their requests come one by one.
    pub recorded: FxHashMap<u64, (Sent, Option<Place>)>,
    /// Where the messages of their prompts ended, shallowest first, if the provider looks at marks.
    message_ends: FxHashMap<u64, Vec<Tokens>>,
    /// Which marks the provider looks at.
    wanted: MarksWanted,
}

pub(super) enum Kind {
    SharedPrefix(SharedPrefix, Starts),
    Chat(Chat, Starts),
    Agent(Agent, Starts),
    ForkTree(ForkTree, Starts),
    Trace(Box<Recording>),
}

/// The key of what a recorded workload numbers so.
fn recorded(content: SessionKey, number: u64) -> SessionKey {
    SessionKey(fold(content.0, number))
}

/// A prompt, and what will be answered.
pub(super) struct Asked {
    pub prompt: Prompt,
    pub output_tokens: Tokens,
    pub marks: Marks,
}

impl Source {
    /// A workload at its beginning. Its randomness follows from its name, so that another workload beside it
    /// changes nothing.
    pub fn new(
        client: &Client,
        name: &str,
        duration: Span,
        wanted: MarksWanted,
        seed: &Seed,
        folder: &Path,
    ) -> Result<Self> {
        let workload = &client.workload[name];
        let keys = |purpose| seed.session_keys(fold(digest(name), purpose));
        let text = workload.text.as_deref().unwrap_or(name);
        let starts = || {
            let arrivals = workload.arrivals.as_ref().expect("validated: generated traffic has arrivals");
            Starts::new(arrivals, SimTime::ZERO + duration, keys(0))
        };
        let Workload { shared_prefix, chat, agent, fork_tree, trace, .. } = workload;
        let kind = match (shared_prefix, chat, agent, fork_tree, trace) {
            (Some(shared), ..) => Kind::SharedPrefix(shared.clone(), starts()),
            (_, Some(chat), ..) => Kind::Chat(chat.clone(), starts()),
            (_, _, Some(agent), ..) => Kind::Agent(agent.clone(), starts()),
            (_, _, _, Some(tree), _) => Kind::ForkTree(tree.clone(), starts()),
            (_, _, _, _, Some(trace)) => {
                Kind::Trace(Box::new(Recording::open(trace, duration, digest(name), folder)?))
            }
            (None, None, None, None, None) => unreachable!("validated: a workload has one kind"),
        };
        Ok(Self {
            kind,
            keying: client.keying(workload).clone(),
            keeps_routing_key: trace.is_none() && client.keying(workload).settled(0, 0, 0).is_some(),
            sampled: false,
            reaction: workload.reaction.clone(),
            breakpoints: client.marked(workload).to_vec(),
            partition: digest(&workload.partition),
            users: workload.users,
            volatility: workload.volatility.clone(),
            content: seed.session_keys(fold(digest(text), 1)).next_key(),
            calls: 0,
            assigned: 0,
            recorded: FxHashMap::default(),
            message_ends: FxHashMap::default(),
            wanted,
        })
    }

    /// Makes `session` the next one of this workload: when it starts. `sessions` is its number, unless a trace has one
    /// of its own.
    pub fn next_session(&mut self, sessions: u64, session: &mut Session) -> Result<Option<SimTime>> {
        let (now, number, key) = match &mut self.kind {
            Kind::SharedPrefix(_, starts)
            | Kind::Chat(_, starts)
            | Kind::Agent(_, starts)
            | Kind::ForkTree(_, starts) => {
                let Some((now, key)) = starts.next() else { return Ok(None) };
                (now, sessions, key)
            }
            Kind::Trace(recording) => {
                let Some((now, number)) = recording.advance()? else { return Ok(None) };
                (now, number, recorded(self.content, recording.record().line))
            }
        };
        session.begin(number, key, self.levels());
        session.turns_left = self.turns(key);
        let (sent, place) = match &self.kind {
            Kind::Trace(_) => self.recorded.get(&number).copied().unwrap_or_default(),
            _ => Default::default(),
        };
        session.sent = sent;
        session.came_from(place);
        Ok(Some(now))
    }

    /// Whoever sends a session's requests: those of a recorded session come, and draw, one by one, and yet are one
    /// user's, as all nodes of a tree are.
    pub fn person(&self, session: &Session) -> SessionKey {
        if self.is_trace() { recorded(self.content, session.number) } else { session.root() }
    }

    /// The user whose session it is.
    pub fn user(&self, session: &Session) -> u32 {
        self.person(session).turn(0).below(Purpose::User, 0, u64::from(self.users)) as u32
    }

    /// The line of a trace that its next request was recorded on; 0 for generated traffic.
    #[inline(always)]
    pub fn line(&self) -> u64 {
        if let Kind::Trace(recording) = &self.kind { recording.record().line } else { 0 }
    }

    /// The key of call number `call` of the run, a session's next one, under a keying strategy; `assigned` counts the
    /// requests that were assigned in turn.
    #[inline(always)]
    pub fn key(
        &self,
        keying: &Keying,
        session: &Session,
        call: u64,
        draws: Draws,
        assigned: &mut u64,
        extent: Extent,
    ) -> PromptCacheKey {
        let recorded = match &self.kind {
            Kind::Trace(recording) => recording.record().key.as_deref(),
            _ => None,
        };
        let caller = Caller {
            workload: u32::from(session.workload),
            user: if keying.goes_by_user() { self.user(session) } else { 0 },
            session: session.number,
            branch: session.branch(extent),
            node: session.key.0,
            call,
            recorded,
            draws,
        };
        keying.key(&caller, assigned)
    }

    /// Levels of children below a session.
    fn levels(&self) -> u32 {
        if let Kind::ForkTree(tree, _) = &self.kind { tree.branching.len() as u32 } else { 0 }
    }

    fn turns(&self, key: SessionKey) -> u32 {
        let law = match &self.kind {
            Kind::Chat(Chat { turns, .. }, _) | Kind::Agent(Agent { turns, .. }, _) => turns,
            Kind::SharedPrefix(..) | Kind::ForkTree(..) | Kind::Trace(_) => return 1,
        };
        law.draw(key.turn(0), Purpose::Turns).0.max(1)
    }

    pub fn is_trace(&self) -> bool {
        matches!(self.kind, Kind::Trace(_))
    }

    /// The trees that this workload consists of.
    pub fn fork_tree(&self) -> &ForkTree {
        match &self.kind {
            Kind::ForkTree(tree, _) => tree,
            _ => unreachable!("only the nodes of fork trees fork"),
        }
    }

    /// The session's next call; `known` says whether its routing key is.
    #[inline(always)]
    pub fn ask(
        &mut self,
        session: &mut Session,
        known: bool,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
        extent: Extent,
    ) -> Asked {
        let (output_tokens, added, begins_turn) = match &self.kind {
            Kind::SharedPrefix(shared, _) => {
                let head = match extent {
                    Extent::Plain => None,
                    Extent::Full => self.volatility.head(self.content, draws, now),
                };
                let (prompt, output_tokens) =
                    shared.prompt(self.content, session.key, self.calls, head, draws, tree);
                let marks = self.marks(|| {
                    let developer = shared.prefix_tokens + head.map_or(0, Run::tokens);
                    let developer = if shared.prefix_tokens == 0 { 0 } else { developer };
                    SegmentEnds::alone(developer, [prompt.tokens()].into_iter().collect())
                });
                return Asked { prompt, output_tokens, marks };
            }
            Kind::Trace(recording) => {
                let (prompt, output_tokens) = (recording.prompt(tree), recording.record().output_tokens);
                let marks = self.recorded_marks(session.number, prompt.tokens());
                return Asked { prompt, output_tokens, marks };
            }
            Kind::Chat(chat, _) => {
                (&chat.output_tokens, chat.user_tokens.draw(draws, Purpose::PromptTokens).0, true)
            }
            Kind::Agent(agent, _) if session.calls_left == 0 => {
                session.calls_left = agent.calls.draw(draws, Purpose::Calls).0.max(1);
                (&agent.output_tokens, agent.user_tokens.draw(draws, Purpose::PromptTokens).0, true)
            }
            Kind::Agent(agent, _) => {
                (&agent.output_tokens, agent.tool_tokens.draw(draws, Purpose::ToolTokens).0, false)
            }
            Kind::ForkTree(tree, _) => match session.node(extent).and_then(|node| node.results) {
                None => (&tree.output_tokens, tree.task_tokens.draw(draws, Purpose::PromptTokens).0, true),
                Some(results) => (&tree.output_tokens, results, false),
            },
        };
        session.turns_left = session.turns_left.saturating_sub(u32::from(begins_turn));
        session.calls_left = session.calls_left.saturating_sub(1);
        if extent == Extent::Plain {
            if session.conversation.is_new() {
                let setting = self.setting(session, false);
                session.conversation.begin(&setting, tree);
            }
            let output_tokens = output_tokens.draw(draws, Purpose::OutputTokens).0;
            let marks = Marks::new();
            if known && session.goes_alone() {
                let end = session.conversation.lengthen(added, output_tokens);
                let prompt = Prompt { shareable: end, unique_tail: 0, head: 0 };
                return Asked { prompt, output_tokens, marks };
            }
            let end = session.conversation.grow(added, output_tokens, draws, tree);
            if tree.is_private_end(session.conversation.end()) {
                session.leaves_the_others();
            }
            return Asked { prompt: tree.prompt(end, 0, 0), output_tokens, marks };
        }
        let rebases = session.seen_mut(extent).is_some_and(|seen| seen.begins_rebase());
        let setting = self.setting(session, rebases);
        let end = session.conversation.call(&setting, added, begins_turn, draws, now, tree);
        let marks = self.marks(|| session.conversation.segment_ends(self.prefix_tokens(), self.wanted));
        let output = output_tokens.draw(draws, Purpose::OutputTokens).0;
        let Volatility { reasoning_tokens, reasoning: rule, .. } = &self.volatility;
        let reasoning = reasoning_tokens.draw(draws, Purpose::Reasoning).0;
        session.conversation.answer(output, reasoning, *rule, draws, tree);
        Asked { prompt: tree.prompt(end, 0, 0), output_tokens: output + reasoning, marks }
    }

    /// A short call with nothing but what the session's next calls share.
    pub fn warm(&self, session: &mut Session, draws: Draws, now: SimTime, tree: &mut PrefixTree) -> Asked {
        let setting = self.setting(session, false);
        let end = session.conversation.open(&setting, draws, now, tree);
        let marks = self.marks(|| session.conversation.common_ends(self.prefix_tokens(), self.wanted));
        Asked { prompt: tree.prompt(end, 0, 0), output_tokens: 1, marks }
    }

    #[inline(always)]
    fn setting(&self, session: &Session, rebases: bool) -> Setting<'_> {
        let start_tokens = match &self.kind {
            Kind::Agent(Agent { start_tokens, .. }, _) | Kind::ForkTree(ForkTree { start_tokens, .. }, _) => {
                Some(start_tokens)
            }
            Kind::SharedPrefix(..) | Kind::Chat(..) | Kind::Trace(_) => None,
        };
        let start = start_tokens.filter(|_| session.conversation.is_new()).map(|law| {
            let root = session.root().turn(0);
            Run::piece(root.bits(Purpose::Content, 3), law.draw(root, Purpose::StartTokens).0)
        });
        Setting {
            shared: self.content,
            prefix_tokens: self.prefix_tokens(),
            start: start.filter(|start| start.tokens() > 0),
            volatility: &self.volatility,
            nonce: Seen::nonce(session.seen(Extent::Full), &self.reaction, session.key),
            status_paused: session.seen(Extent::Full).is_some_and(|seen| seen.pauses_status()),
            rebases,
            wanted: self.wanted,
        }
    }

    /// The marks of a prompt whose segments end so, if the provider looks at any.
    #[inline(always)]
    fn marks(&self, ends: impl FnOnce() -> SegmentEnds) -> Marks {
        if self.wanted.messages == 0 { Marks::new() } else { ends().marks(&self.breakpoints) }
    }

    /// The marks of a prompt of a trace's session.
    fn recorded_marks(&mut self, session: u64, end: Tokens) -> Marks {
        if self.wanted.messages == 0 {
            return Marks::new();
        }
        match &self.kind {
            Kind::Trace(recording) if recording.record().marks.is_some() => {
                self.known_marks(recording.record().marks.as_deref().unwrap_or_default())
            }
            _ => self.assumed_marks(session, end),
        }
    }

    /// The marks of a prompt whose segments are known: the recorded explicit ones, unless others are asked for.
    fn known_marks(&self, recorded: &[Mark]) -> Marks {
        let is_message = |mark: &Mark| matches!(mark.kind, MarkKind::Message | MarkKind::PassedMessage);
        let messages = recorded.iter().filter(|mark| is_message(mark)).count();
        let mut forgotten = messages.saturating_sub(self.wanted.messages);
        let latest = recorded.iter().filter(|mark| {
            let is_forgotten = is_message(mark) && forgotten > 0;
            forgotten -= usize::from(is_forgotten);
            !is_forgotten
        });
        if self.breakpoints.is_empty() {
            return latest.copied().collect();
        }
        let mut ends = SegmentEnds::default();
        for mark in latest {
            match mark.kind {
                MarkKind::Developer => ends.developer = Some(mark.depth),
                MarkKind::Message | MarkKind::PassedMessage => ends.messages.push(mark.depth),
                MarkKind::Explicit => (),
            }
        }
        ends.marks(&self.breakpoints)
    }

    /// The marks of a prompt known by its length: the ends of its session's prompts are taken for those of messages.
    fn assumed_marks(&mut self, session: u64, end: Tokens) -> Marks {
        let ends = self.message_ends.entry(session).or_default();
        // A prompt that shrank (another text from some depth on) has lost the messages behind that.
        while ends.last().is_some_and(|earlier| *earlier >= end) {
            ends.pop();
        }
        ends.push(end);
        let forgotten = ends.len().saturating_sub(self.wanted.messages);
        SegmentEnds::alone(0, ends[forgotten..].iter().copied().collect()).marks(&self.breakpoints)
    }

    /// Time between an answer and the session's next call; `None` if there is none.
    #[inline(always)]
    pub fn pause(&self, session: &Session) -> Option<Span> {
        let law = match &self.kind {
            Kind::SharedPrefix(..) | Kind::ForkTree(..) | Kind::Trace(_) => return None,
            Kind::Agent(agent, _) if session.calls_left > 0 => &agent.pause,
            _ if session.turns_left == 0 => return None,
            Kind::Chat(Chat { think, .. }, _) | Kind::Agent(Agent { think, .. }, _) => think,
        };
        Some(match law {
            // A pause that is always the same needs no draws.
            Distribution::Constant(pause) => *pause,
            _ => law.draw(session.draws(), Purpose::Think),
        })
    }

    #[inline(always)]
    fn prefix_tokens(&self) -> Tokens {
        match &self.kind {
            Kind::SharedPrefix(SharedPrefix { prefix_tokens, .. }, _)
            | Kind::Chat(Chat { prefix_tokens, .. }, _)
            | Kind::Agent(Agent { prefix_tokens, .. }, _)
            | Kind::ForkTree(ForkTree { prefix_tokens, .. }, _) => *prefix_tokens,
            Kind::Trace(_) => 0,
        }
    }
}
