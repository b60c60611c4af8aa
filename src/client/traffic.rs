//! Traffic: all sessions of a run, one request at a time.
//!
//! Sessions are closed loop: the next turn waits for the answer and a think time. A session's script (turns,
//! lengths, think times) is a function of its own random key alone, so that every variant of a scenario meets
//! the same scripts.

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::client::fork_tree::{ForkTree, Order};
use crate::client::gateway::{Continuation, Gateway};
use crate::client::key::{Keying, PromptCacheKey};
use crate::client::reaction::{AfterMiss, KeepAlive, Seeing};
use crate::client::request::{Occasion, Place, Request};
use crate::client::sample::{Sample, Share, whole};
use crate::client::session::{Continued, Due, Session};
use crate::client::source::{Asked, Kind, Source};
use crate::client::upstream::Upstream;
use crate::client::workload::Client;
use crate::error::Result;
use crate::extent::Extent;
use crate::input::trace::Skipped;
use crate::prompt::{Cursor, PrefixTree};
use crate::provider::write::MarksWanted;
use crate::random::{Purpose, Seed, SessionKey, fold};
use crate::units::{LONGEST_PROMPT, MOST_TOKENS, SimTime, Span, Tokens};

/// All sessions of one run.
pub struct Traffic {
    extent: Extent,
    sources: Vec<Source>,
    /// If not all is simulated.
    sample: Option<Sample>,
    sessions: u64,
    calls: u64,
    /// Nothing generated is sent at or after this.
    end: SimTime,
    gateway: Gateway,
    /// Sessions that the gateway holds upstream, by partition and key.
    upstream: FxHashMap<u64, Upstream>,
    /// Nodes of fork trees that wait for their children, by their keys.
    joins: FxHashMap<u64, Join>,
}

/// A node that waits for its children.
struct Join {
    node: Session,
    /// Children that have not answered.
    left: u32,
    /// The next child, where they are called one by one.
    next: u32,
    /// Tokens of their answers.
    results: Tokens,
    /// When the last answer so far was complete.
    complete: SimTime,
}

/// What has come of one request, as its client sees it.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    /// Tokens reported as cached.
    pub cached: Tokens,
    /// Whether the call failed.
    pub failed: bool,
    /// Where it came from.
    pub place: Place,
    /// When the request arrived.
    pub arrival: SimTime,
    /// When the first token came.
    pub first_token: SimTime,
    /// When it was complete.
    pub complete: SimTime,
}

/// Sessions, with the moments of their next requests.
pub type Next = Vec<(SimTime, Session)>;

/// Series of draws for requests beside a session's script.
const RETRY: u32 = 1;
const KEEP_ALIVE: u32 = 2;
const WARM: u32 = 3;

impl Traffic {
    /// The sessions that start within `duration`; paths of traces are relative to `folder`. The provider looks at
    /// the `wanted` marks.
    pub fn new(
        client: &Client,
        duration: Span,
        wanted: MarksWanted,
        seed: &Seed,
        folder: &Path,
    ) -> Result<Self> {
        let source = |name: &String| Source::new(client, name, duration, wanted, seed, folder);
        Ok(Self {
            extent: client.extent(wanted),
            sources: client.workload.keys().map(source).collect::<Result<_>>()?,
            sample: None,
            sessions: 0,
            calls: 0,
            end: SimTime::ZERO + duration,
            gateway: client.gateway.clone(),
            upstream: FxHashMap::default(),
            joins: FxHashMap::default(),
        })
    }

    /// The same with only so large a share of the keys, which `salt` chooses, wherever keys can be sampled.
    pub fn sampled(mut self, client: &Client, share: Share, salt: u64) -> Self {
        for (source, workload) in self.sources.iter_mut().zip(client.workload.values()) {
            source.sampled = whole(workload, &source.keying, share).is_none();
        }
        self.sample = Some(Sample::new(share, salt));
        self
    }

    /// What was sampled so far.
    pub fn sample(&self) -> Option<&Sample> {
        self.sample.as_ref()
    }

    /// How much of the model it needs.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Number of workloads.
    pub fn workloads(&self) -> usize {
        self.sources.len()
    }

    /// Upstream accounts of each partition.
    pub fn accounts(&self) -> u32 {
        self.gateway.accounts
    }

    /// Bad lines that traces skipped so far.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.sources.iter().filter_map(|source| match &source.kind {
            Kind::Trace(recording) => recording.skipped(),
            _ => None,
        })
    }

    /// Makes `session` the next one of its workload: when it starts. Other sessions that start with it come into
    /// `next`. Nothing when the workload has ended.
    pub fn start_next(&mut self, session: &mut Session, next: &mut Next) -> Result<Option<SimTime>> {
        let source = &mut self.sources[session.workload as usize];
        let Some(now) = source.next_session(self.sessions, session)? else { return Ok(None) };
        let forks_at_once = matches!(&source.kind, Kind::ForkTree(tree, _) if !tree.root_call);
        self.sessions += 1;
        self.choose(session);
        if !forks_at_once || session.is_left_out() {
            return Ok(Some(now));
        }
        let others = next.len();
        self.fork(session.clone(), now, next);
        if next.len() == others {
            return Ok(None);
        }
        let (at, first) = next.remove(others);
        *session = first;
        Ok(Some(at))
    }

    /// Leaves a session out whose key is not in the sample.
    fn choose(&mut self, session: &mut Session) {
        let source = &mut self.sources[session.workload as usize];
        let Some(sample) = self.sample.as_mut().filter(|_| source.sampled) else { return };
        let key = source.keying.settled(u32::from(session.workload), source.user(session), session.number);
        session.group = sample.group(key.expect("only settled keys are sampled").digest());
        // Texts that are sent in turn go on as if it had called.
        source.calls += u64::from(session.is_left_out());
    }

    /// The places from which conversations go on that belong to no session in the queue.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        let upstream = self.upstream.values().flat_map(Upstream::places);
        upstream.chain(self.joins.values().flat_map(|join| join.node.places()))
    }

    /// The session's next request.
    #[inline(always)]
    pub fn request(
        &mut self,
        session: &mut Session,
        now: SimTime,
        tree: &mut PrefixTree,
        extent: Extent,
    ) -> Request {
        let mut request = match session.due(extent) {
            None => self.ask(session, Occasion::Call, now, tree, extent),
            Some(Due::Warm) => self.ask(session, Occasion::Warm, now, tree, extent),
            Some(Due::Retry(failed, attempt)) => {
                let last_attempt = *attempt >= self.sources[session.workload as usize].reaction.retries;
                let draws = failed.draws.beside(RETRY, *attempt);
                Request { draws, attempt: *attempt, last_attempt, ..failed.clone() }
            }
            Some(Due::KeepAlive(last, keep_alive)) => Request {
                draws: session.key.turn(last.turn).beside(KEEP_ALIVE, keep_alive.sent),
                occasion: Occasion::KeepAlive,
                previous: last.prompt.tokens(),
                output_tokens: 1,
                answered: None,
                ..last.clone()
            },
        };
        request.call = self.calls;
        self.calls += 1;
        request
    }

    /// Requests sent so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The keying strategy of each workload.
    pub fn keyings(&self) -> impl Iterator<Item = &Keying> {
        self.sources.iter().map(|source| &source.keying)
    }

    /// The key that a request of a plain run would have under another keying strategy; `assigned` counts the requests of
    /// its workload that were assigned in turn.
    #[inline(always)]
    pub fn key_under(
        &self,
        keying: &Keying,
        session: &Session,
        request: &Request,
        assigned: &mut u64,
    ) -> PromptCacheKey {
        let source = &self.sources[session.workload as usize];
        source.key(keying, session, request.call, request.draws, assigned, Extent::Plain)
    }

    /// Takes in what came of a session's request: when its next one comes, if there is one. Other sessions that go on
    /// because of it come into `next`.
    #[inline(always)]
    pub fn answered(
        &mut self,
        session: &mut Session,
        request: &Request,
        response: &Response,
        next: &mut Next,
        extent: Extent,
    ) -> Option<SimTime> {
        if extent == Extent::Plain {
            session.sent.answered_by(response.place.routing_key);
            let source = &mut self.sources[session.workload as usize];
            if source.is_trace() {
                source.recorded.insert(session.number, (session.sent, None));
            }
            return self.next_call(session, response);
        }
        if let Some(due) = session.take_due()
            && let Due::KeepAlive(last, KeepAlive { call, sent }) = *due
        {
            return self.go_on(session, &last, KeepAlive { call, sent: sent + 1 }, response);
        }
        self.remember(session, request, response);
        let reaction = &self.sources[session.workload as usize].reaction;
        if response.failed && !request.last_attempt {
            let again = response.complete + reaction.wait(request.attempt);
            session.will(Due::Retry(request.clone(), request.attempt + 1));
            return self.allowed(session, again);
        }
        if request.occasion == Occasion::Warm {
            // Even if it was given up, the calls it was for are made.
            self.call_children(session.clone(), response.first_token, next);
            return None;
        }
        if response.failed {
            self.complete(session, response.complete, 0, next);
            return None;
        }
        if reaction.after_miss != AfterMiss::Nothing {
            let previous = request.previous;
            let seeing = Seeing { previous, prompt: request.prompt.tokens(), cached: response.cached };
            session.sees(reaction, seeing);
        }
        if session.levels(extent) > 0 && session.conversation.tokens() <= LONGEST_PROMPT {
            self.fork(session.clone(), response.complete, next);
            return None;
        }
        self.complete(session, response.complete, request.output_tokens, next);
        let call = self.next_call(session, response);
        self.go_on(session, request, KeepAlive { call, sent: 0 }, response)
    }

    /// When the session makes its next call, if it does.
    #[inline(always)]
    fn next_call(&self, session: &Session, response: &Response) -> Option<SimTime> {
        let pause = self.sources[session.workload as usize].pause(session);
        let call = pause.map(|pause| response.complete + pause);
        call.filter(|at| *at < self.end && session.conversation.tokens() <= LONGEST_PROMPT)
    }

    /// A call of its script, or one that warms for it.
    #[inline(always)]
    fn ask(
        &mut self,
        session: &mut Session,
        occasion: Occasion,
        now: SimTime,
        tree: &mut PrefixTree,
        extent: Extent,
    ) -> Request {
        let warms = extent.if_full(|| occasion == Occasion::Warm);
        let source = &mut self.sources[session.workload as usize];
        let draws = session.draws();
        let mut assigned = source.assigned;
        let key = source.key(&source.keying, session, self.calls, draws, &mut assigned, extent);
        source.assigned = assigned;
        let key = key.rotated(session.rotations(extent));
        let continuation =
            if extent == Extent::Full { self.gateway.continuation } else { Continuation::None };
        let implicit = continuation == Continuation::Implicit;
        let contaminated = implicit && {
            session.continues(self.continued(session, key, now));
            session.enters_upstream()
        };
        let source = &mut self.sources[session.workload as usize];
        let likely = session.routing_key();
        let known = extent == Extent::Plain
            && source.keeps_routing_key
            && likely.is_some()
            && tree.is_beyond_head(session.sent.previous);
        let Asked { prompt, output_tokens, marks } = if warms {
            source.warm(session, draws, now, tree)
        } else {
            source.ask(session, known, draws, now, tree, extent)
        };
        let answered = if warms { None } else { session.conversation.answered() };
        let place = match continuation {
            Continuation::None => None,
            Continuation::Explicit => session.place(),
            Continuation::Implicit => session.leaves_upstream(),
        };
        let account = || match extent {
            Extent::Plain => 0,
            Extent::Full => self.gateway.account(source.person(session), self.calls),
        };
        let key = match extent {
            Extent::Plain => key,
            Extent::Full => source.keying.fingerprinted(key, &prompt, self.calls, tree),
        };
        let request = Request {
            call: self.calls,
            line: source.line(),
            workload: u32::from(session.workload),
            session: session.number,
            group: session.group,
            turn: session.sent.turn,
            occasion,
            attempt: 0,
            last_attempt: extent.if_full(|| source.reaction.retries == 0),
            key,
            account: place.map_or_else(account, |place| place.account),
            continues: place,
            likely,
            known,
            contaminated,
            prompt,
            marks,
            previous: session.sent.previous,
            output_tokens,
            answered,
            draws: if warms { draws.beside(WARM, 0) } else { draws },
        };
        if !warms {
            session.sent.previous = prompt.tokens();
            session.sent.turn += 1;
            source.calls += 1;
        }
        request
    }

    /// The context that the gateway continues for this key, if it does.
    #[inline(always)]
    fn continued(&mut self, session: &Session, key: PromptCacheKey, now: SimTime) -> Option<Continued> {
        if key == PromptCacheKey::None {
            return None;
        }
        let upstream = fold(self.sources[session.workload as usize].partition, key.digest());
        let held = self.upstream.entry(upstream).or_default();
        Some(Continued { upstream, context: held.context(now, self.gateway.session_tokens) })
    }

    /// Remembers what a response leaves for those that continue it. A failed one leaves nothing.
    #[inline(always)]
    fn remember(&mut self, session: &mut Session, request: &Request, response: &Response) {
        if !response.failed {
            session.sent.answered_by(response.place.routing_key);
            if self.gateway.continuation == Continuation::Explicit {
                session.came_from(Some(response.place));
            }
            if let Some(Continued { upstream, mut context }) = session.take_continued() {
                context.place = Some(response.place);
                self.upstream.entry(upstream).or_default().will_hold(response.complete, context);
            }
        }
        let source = &mut self.sources[session.workload as usize];
        if source.is_trace() {
            // A retry must not undo what later requests of its session have sent.
            match (request.attempt, source.recorded.get_mut(&session.number)) {
                (1.., Some(_)) if response.failed => {}
                (1.., Some((sent, place))) => {
                    sent.answered_like(session.sent);
                    *place = session.place();
                }
                _ => drop(source.recorded.insert(session.number, (session.sent, session.place()))),
            }
        }
    }

    /// The session's next request: its next call, or its last one again to keep it alive.
    #[inline(always)]
    fn go_on(
        &self,
        session: &mut Session,
        last: &Request,
        keep_alive: KeepAlive,
        response: &Response,
    ) -> Option<SimTime> {
        let reaction = &self.sources[session.workload as usize].reaction;
        if let Some(at) = keep_alive.next(reaction, response.arrival, response.complete) {
            session.will(Due::KeepAlive(last.clone(), keep_alive));
            return self.allowed(session, at);
        }
        keep_alive.call.and_then(|at| self.allowed(session, at))
    }

    /// A node's children are called, behind a warming call if there is to be one.
    fn fork(&mut self, mut node: Session, at: SimTime, next: &mut Next) {
        if self.sources[node.workload as usize].fork_tree().order == Order::WarmFirst {
            node.will(Due::Warm);
            self.send(node, at, next);
        } else {
            self.call_children(node, at, next);
        }
    }

    fn call_children(&mut self, node: Session, at: SimTime, next: &mut Next) {
        let tree = self.sources[node.workload as usize].fork_tree();
        let branching = &tree.branching[tree.branching.len() - node.levels(Extent::Full) as usize];
        let left = branching.draw(node.key.turn(0), Purpose::Children).0.max(1);
        let together = if tree.order == Order::OneByOne { 1 } else { left };
        for index in 0..together {
            let child = node.child(index);
            // The first one goes at once, so that a tree begins when it starts.
            let stagger = match index {
                0 => Span::ZERO,
                _ => tree.stagger.draw(child.key.turn(0), Purpose::Think),
            };
            self.send(child, at + stagger, next);
        }
        let join = Join { left, next: together, results: 0, complete: at, node };
        self.joins.insert(join.node.key.0, join);
    }

    /// A session has answered; if it is a node of a fork tree, it has answered its parent with `results` tokens.
    #[inline(always)]
    fn complete(&mut self, node: &Session, at: SimTime, results: Tokens, next: &mut Next) {
        if let Some(parent) = node.node(Extent::Full).and_then(|node| node.parent) {
            self.join(parent, node, at, results, next);
        }
    }

    fn join(
        &mut self,
        SessionKey(parent): SessionKey,
        node: &Session,
        at: SimTime,
        results: Tokens,
        next: &mut Next,
    ) {
        let &ForkTree { order, merge, .. } = self.sources[node.workload as usize].fork_tree();
        let Some(join) = self.joins.get_mut(&parent) else { return };
        join.left -= 1;
        join.results = join.results.saturating_add(results).min(MOST_TOKENS);
        join.complete = join.complete.max(at);
        if join.left > 0 {
            if order == Order::OneByOne {
                let child = join.node.child(join.next);
                join.next += 1;
                self.send(child, at, next);
            }
            return;
        }
        let Some(Join { mut node, results, complete, .. }) = self.joins.remove(&parent) else { return };
        node.joins(results);
        if merge {
            self.send(node, complete, next);
        } else {
            self.complete(&node, complete, results, next);
        }
    }

    /// The moment of a session's request, if it is still sent: generated traffic sends nothing after the end; a trace
    /// is cut where it is read.
    #[inline(always)]
    fn allowed(&self, session: &Session, at: SimTime) -> Option<SimTime> {
        (at < self.end || self.sources[session.workload as usize].is_trace()).then_some(at)
    }

    fn send(&self, session: Session, at: SimTime, next: &mut Next) {
        if let Some(at) = self.allowed(&session, at) {
            next.push((at, session));
        }
    }
}
