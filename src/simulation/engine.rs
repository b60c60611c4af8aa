//! The event queue and the loop.
//!
//! Three kinds of events: the provider changes, what a request does to the cache becomes visible, and a session
//! calls. They are taken in one total order of (time, kind, sequence); at one instant a change comes first, then what
//! becomes visible, then arrivals; what expires at an instant is still alive at it. Everything else about a request is
//! known at its arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::client::request::{Occasion, Place, Request};
use crate::client::session::Session;
use crate::client::traffic::{Next, Response, Traffic};
use crate::error::Result;
use crate::prompt::PrefixTree;
use crate::provider::cache::{Access, Cache, Effect};
use crate::provider::machine::{Machines, Timing};
use crate::provider::profile::Provider;
use crate::provider::routing::{BackendBy, KeyRole, MachineId, Route, RouteRequest, Router, Routing};
use crate::provider::store::Scope;
use crate::provider::write::{Visible, Write};
use crate::random::{Purpose, SessionKey, SpanDistribution, fold};
use crate::simulation::attribution::Ledger;
use crate::simulation::outcome::Outcome;
use crate::units::{SimTime, Span, Tokens};

/// How the requests of one workload meet the provider.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Number of the partition.
    pub partition: u32,
    /// Lifetime under the retention policy in force.
    pub lifetime: SpanDistribution,
    /// Probability that a call fails.
    pub failure: f64,
}

/// A provider from a moment on.
#[derive(Clone, Debug)]
pub struct Regime {
    /// When it begins, counted from the start of the traffic.
    pub at: Span,
    /// The provider.
    pub provider: Provider,
    /// Its terms for each workload, in order.
    pub terms: Vec<Terms>,
}

impl Regime {
    /// Partitions, each account and each backend of one being one of its own.
    fn partitions(&self, accounts: u32) -> u32 {
        let named = self.terms.iter().map(|terms| terms.partition + 1).max().unwrap_or(1);
        named * accounts * self.provider.routing.backends.len() as u32
    }
}

/// One run: traffic on one side, a provider on the other.
pub struct Simulation {
    pub(super) traffic: Traffic,
    /// Accounts of each partition: each has fleets of its own.
    accounts: u32,
    /// The start of the traffic, if that is not its first request.
    start: Option<SimTime>,
    regimes: Vec<Regime>,
    pub(super) tree: PrefixTree,
    pub(super) provider: Provided,
    queue: Queue,
    pub(super) ledger: Option<Ledger>,
    /// For how long stores still hold what has expired.
    pub(super) remembers: Span,
    /// Sessions about to be queued: those that go on, and those that start.
    next: Next,
    starting: Next,
}

/// The provider's side of a run, under one regime.
pub(super) struct Provided {
    pub(super) terms: Vec<Terms>,
    routing: Routing,
    write: Write,
    failed_writes: bool,
    /// Which regime this is.
    regime: u32,
    accounts: u32,
    /// What the backend of a session is drawn from.
    backends: SessionKey,
    router: Router,
    pub(super) machines: Machines,
    pub(super) cache: Cache,
}

/// A request on its way to a machine, before it is known what it finds there.
pub(super) struct Sent {
    pub(super) access: Access,
    overflowed: bool,
    pub(super) lifetime: Span,
    failed: bool,
    arrival: SimTime,
    noise: Option<f64>,
    /// Tokens of its answer.
    output: Tokens,
}

/// How a machine serves a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub(super) cached: Tokens,
    pub(super) timing: Timing,
    /// Requests in flight on all machines, this one included.
    pub(super) in_flight: u32,
}

impl Sent {
    /// Puts the request, of whose prompt so much is cached, behind those that a machine has.
    pub(super) fn serve(&self, machines: &mut Machines, cached: Tokens) -> Served {
        let Self { access, arrival, noise, output, .. } = self;
        let uncached = access.prompt.tokens() - cached;
        let timing = machines.serve(access.machine, *arrival, cached, uncached, *output, *noise);
        Served { cached, timing, in_flight: machines.in_flight_total() }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The provider changes.
    Change,
    /// What a request did becomes visible.
    Visible,
    /// A session calls.
    Arrival,
}

/// Events by (time, kind, sequence); their contents are kept aside in slots that are used again.
#[derive(Default)]
struct Queue {
    events: BinaryHeap<Reverse<(SimTime, Kind, u64, u32)>>,
    sequence: u64,
    sessions: Slots<Caller>,
    effects: Slots<Effect>,
}

/// A session in the queue: freshly started ones make room for the next of their workload.
struct Caller {
    session: Session,
    starts: bool,
}

/// Values in numbered slots.
struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn put(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.values[slot as usize] = Some(value);
                slot
            }
            None => {
                self.values.push(Some(value));
                self.values.len() as u32 - 1
            }
        }
    }

    fn take(&mut self, slot: u32) -> T {
        self.free.push(slot);
        self.values[slot as usize].take().expect("an event owns its slot")
    }
}

impl Queue {
    fn push_session(&mut self, at: SimTime, session: Session, starts: bool) {
        let slot = self.sessions.put(Caller { session, starts });
        self.push(at, Kind::Arrival, slot);
    }

    fn push(&mut self, time: SimTime, kind: Kind, slot: u32) {
        self.events.push(Reverse((time, kind, self.sequence, slot)));
        self.sequence += 1;
    }
}

impl Simulation {
    /// A run of `traffic`, which begins at `start` (or with its first request), against a cold provider: the first of
    /// `regimes`, and the others from their time on. The backend of a session is drawn from `backends`.
    pub fn new(
        traffic: Traffic,
        start: Option<SimTime>,
        regimes: Vec<Regime>,
        backends: SessionKey,
        attribution: bool,
    ) -> Self {
        let first = &regimes[0];
        let accounts = traffic.accounts();
        let Provider { routing, write, .. } = &first.provider;
        Self {
            traffic,
            accounts,
            start,
            tree: PrefixTree::new(routing.hash_tokens),
            provider: Provided::new(0, first, accounts, backends),
            queue: Queue::default(),
            ledger: attribution.then(|| Ledger::new(write, first.partitions(accounts))),
            regimes,
            remembers: Span::ZERO,
            next: Next::new(),
            starting: Next::new(),
        }
    }

    /// Runs to the end of the traffic and shows every outcome in the order of arrival. Fails only where the
    /// traffic does: at a bad line of a trace.
    pub fn run(&mut self, mut observe: impl FnMut(&Outcome)) -> Result<()> {
        self.run_requests(|outcome, _, _| observe(outcome))
    }

    /// Like [`run`](Self::run), and shows the requests behind the outcomes too, with the tree of their prompts.
    pub fn run_requests(&mut self, mut observe: impl FnMut(&Outcome, &Request, &PrefixTree)) -> Result<()> {
        self.play(|simulation, session, now| {
            let (outcome, request) = simulation.arrive(session, now);
            observe(&outcome, &request, &simulation.tree);
            let response = simulation.response(&request, &outcome);
            (request, response)
        })
    }

    /// Runs to the end of the traffic, with `answer` to what a session sends at a moment.
    pub(super) fn play(
        &mut self,
        mut answer: impl FnMut(&mut Self, &mut Session, SimTime) -> (Request, Response),
    ) -> Result<()> {
        for workload in 0..self.traffic.workloads() as u32 {
            self.start_next(workload)?;
        }
        self.plan_changes();
        while let Some(Reverse((now, kind, _, slot))) = self.queue.events.pop() {
            match kind {
                Kind::Change => self.change(slot as usize),
                Kind::Visible => {
                    let effect = self.queue.effects.take(slot);
                    self.appear(&effect, now);
                }
                Kind::Arrival => {
                    let Caller { mut session, starts } = self.queue.sessions.take(slot);
                    let workload = session.workload;
                    let (request, response) = answer(self, &mut session, now);
                    self.traffic.answered(session, request, &response, &mut self.next);
                    if starts {
                        self.start_next(workload)?;
                    }
                    for (at, session) in self.next.drain(..) {
                        self.queue.push_session(at, session, false);
                    }
                }
            }
        }
        Ok(())
    }

    /// The traffic, for what it skipped.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The machines of a request's routing key, best first: for oracles that route on their own.
    pub fn ranked(&mut self, outcome: &Outcome) -> &[MachineId] {
        self.provider.router.ranked(outcome.routing_key, u32::MAX)
    }

    /// Puts every later regime into the queue.
    fn plan_changes(&mut self) {
        let first = self.queue.events.peek().map(|Reverse((time, ..))| *time);
        let Some(start) = self.start.or(first) else { return };
        for (number, regime) in self.regimes.iter().enumerate().skip(1) {
            self.queue.push(start + regime.at, Kind::Change, number as u32);
        }
    }

    /// From now on another provider serves, whose machines are cold and idle. What former requests were about to do to
    /// the cache is lost with it; that they were sent is not forgotten.
    fn change(&mut self, number: usize) {
        let regime = &self.regimes[number];
        self.provider = Provided::new(number as u32, regime, self.accounts, self.provider.backends);
        self.queue.events.retain(|Reverse((_, kind, ..))| *kind != Kind::Visible);
        self.queue.effects = Slots::default();
        let partitions = regime.partitions(self.accounts);
        self.ledger =
            self.ledger.take().map(|ledger| ledger.after_change(&regime.provider.write, partitions));
    }

    /// Queues the next session of a workload: its first request makes room for the one after it.
    fn start_next(&mut self, workload: u32) -> Result<()> {
        self.traffic.start_next(workload, &mut self.starting)?;
        for (index, (at, session)) in self.starting.drain(..).enumerate() {
            self.queue.push_session(at, session, index == 0);
        }
        Ok(())
    }

    /// What a client sees of an outcome.
    pub(super) fn response(&self, request: &Request, outcome: &Outcome) -> Response {
        let Provided { regime, .. } = self.provider;
        Response {
            cached: outcome.cached,
            failed: outcome.failed,
            place: Place { account: request.account, machine: outcome.machine, regime },
            arrival: outcome.arrival,
            first_token: outcome.arrival + outcome.timing.ttft,
            complete: outcome.arrival + outcome.timing.total,
        }
    }

    /// One request, from routing to answer.
    fn arrive(&mut self, session: &mut Session, now: SimTime) -> (Outcome, Request) {
        let request = self.traffic.request(session, now, &mut self.tree);
        let sent = self.send(&request, now);
        let found = self.provider.cache.look_up(&self.tree, &sent.access, &request.marks, now);
        let effect = self.effect(&request, &sent, found.read, now + sent.lifetime);
        let served = sent.serve(&mut self.provider.machines, found.cached);
        let attribution = self
            .ledger
            .as_ref()
            .map(|ledger| ledger.attribute(&self.tree, &request, &sent.access, &found, now));
        let outcome = Outcome { attribution, ..self.outcome(&request, &sent, &served, effect.written) };
        self.arrived(&sent, effect, outcome.visible_at);
        (outcome, request)
    }

    /// Sends a request to its machine. (This and the next ones are inlined by force, since having a second caller, many
    /// lifetimes at once, must not slow down ordinary runs.)
    #[inline(always)]
    pub(super) fn send(&mut self, request: &Request, now: SimTime) -> Sent {
        let Terms { lifetime, failure, .. } = &self.provider.terms[request.workload as usize];
        let lifetime = lifetime.draw(request.draws, Purpose::Lifetime);
        let failed = *failure > 0.0 && request.draws.uniform(Purpose::Failure, 0) < *failure;
        self.provider.machines.advance(now);
        let (access, overflowed) = self.provider.route(request, failed, now);
        let noise = self.provider.machines.noise(request.draws);
        // A call fails when its first token would come.
        let output = if failed { 0 } else { request.output_tokens };
        Sent { access, overflowed, lifetime, failed, arrival: now, noise, output }
    }

    /// What a request that reads down to `read` will do to the cache.
    #[inline(always)]
    pub(super) fn effect(&self, request: &Request, sent: &Sent, read: Tokens, expiry: SimTime) -> Effect {
        let Sent { access, arrival, .. } = sent;
        let Provided { cache, failed_writes, .. } = &self.provider;
        let mut effect = cache.effect(&self.tree, *access, &request.marks, read, *arrival, expiry);
        if sent.failed && !*failed_writes {
            effect = effect.none();
        }
        effect
    }

    /// What comes of a request, but for its attribution.
    #[inline(always)]
    pub(super) fn outcome(
        &self,
        request: &Request,
        sent: &Sent,
        served: &Served,
        written: Tokens,
    ) -> Outcome {
        let Sent { access, arrival, .. } = sent;
        let Served { cached, timing, in_flight } = *served;
        Outcome {
            call: request.call,
            line: request.line,
            workload: request.workload,
            session: request.session,
            turn: request.turn,
            occasion: request.occasion,
            attempt: request.attempt,
            failed: sent.failed,
            given_up: sent.failed && request.last_attempt && request.occasion == Occasion::Call,
            contaminated: request.contaminated,
            named_partition: self.provider.terms[request.workload as usize].partition,
            partition: access.partition,
            key: request.key,
            routing_key: access.owner,
            arrival: *arrival,
            machine: access.machine,
            overflowed: sent.overflowed,
            in_flight,
            prompt: request.prompt.tokens(),
            cached,
            written,
            output: sent.output,
            timing,
            lifetime: sent.lifetime,
            visible_at: self.provider.visible_at(*arrival, &timing),
            attribution: None,
        }
    }

    /// Notes what a request that has arrived will do to the cache.
    #[inline(always)]
    pub(super) fn arrived(&mut self, sent: &Sent, effect: Effect, visible_at: SimTime) {
        let now = sent.arrival;
        // A failed call that leaves nothing could not have been read by any other cache either.
        let leaves_something = !sent.failed || self.provider.failed_writes;
        if let Some(ledger) = self.ledger.as_mut().filter(|_| leaves_something) {
            ledger.arrive(&self.tree, &effect, now.before(self.remembers));
        }
        if visible_at == now {
            self.appear(&effect, now);
        } else {
            let slot = self.queue.effects.put(effect);
            self.queue.push(visible_at, Kind::Visible, slot);
        }
    }

    fn appear(&mut self, effect: &Effect, now: SimTime) {
        let now = now.before(self.remembers);
        self.provider.cache.apply(&self.tree, effect, now);
        if let Some(ledger) = &mut self.ledger {
            ledger.appear(&self.tree, effect, now);
        }
    }
}

impl Provided {
    /// Cold and idle machines of regime number `number`.
    fn new(number: u32, regime: &Regime, accounts: u32, backends: SessionKey) -> Self {
        let Regime { provider, terms, .. } = regime;
        let machines = provider.routing.machines as usize * regime.partitions(accounts) as usize;
        Self {
            regime: number,
            accounts,
            failed_writes: provider.failures.failed_writes,
            terms: terms.clone(),
            routing: provider.routing.clone(),
            write: provider.write.clone(),
            backends,
            router: Router::new(&provider.routing),
            machines: Machines::new(&provider.latency, machines),
            cache: Cache::new(&provider.write, machines),
        }
    }

    /// The partition that serves a request: each account and each backend is one of its own.
    fn partition(&self, request: &Request) -> u32 {
        let draws = match self.routing.backend_by {
            BackendBy::Request => request.draws,
            BackendBy::Session => {
                let session = fold(u64::from(request.workload), request.session);
                SessionKey(fold(self.backends.0, session)).turn(0)
            }
        };
        let Terms { partition, .. } = self.terms[request.workload as usize];
        let account = partition * self.accounts + request.account;
        account * self.routing.backends.len() as u32 + self.routing.backend(draws)
    }

    fn route(&mut self, request: &Request, failed: bool, now: SimTime) -> (Access, bool) {
        // A connection from before a change of regime is gone.
        let pinned = request.continues.filter(|place| place.regime == self.regime).map(|place| place.machine);
        let partition = match pinned {
            Some(MachineId(machine)) => machine / self.routing.machines,
            None => self.partition(request),
        };
        let key = request.key.digest();
        let draws = request.draws;
        let asked = RouteRequest { now, partition, head: request.prompt.head, key, pinned, draws };
        let machines = &self.machines;
        let route = self.router.route(&asked, |machine| machines.in_flight(machine));
        let date = self.write.date(now);
        let scope = match (self.routing.key_role, date) {
            (KeyRole::Routing, date) => Scope(date),
            (KeyRole::Identity, 0) => Scope(key),
            (KeyRole::Identity, date) => Scope(fold(key, date)),
        };
        let Route { machine, routing_key: owner, .. } = route;
        let Request { prompt, output_tokens, answered, .. } = *request;
        // A failed call has no answer to store.
        let (output_tokens, answered) = if failed { (0, None) } else { (output_tokens, answered) };
        let body = self.write.stored(&prompt, output_tokens, answered);
        let access = Access { partition, machine, date, scope, owner, prompt, body };
        (access, route.overflowed)
    }

    /// When a request that arrives now becomes visible to others.
    fn visible_at(&self, now: SimTime, timing: &Timing) -> SimTime {
        let moment = match self.write.visible {
            Visible::Arrival => Span::ZERO,
            Visible::FirstToken => timing.ttft,
            Visible::Completion => timing.total,
        };
        now + moment + self.write.lag
    }
}
