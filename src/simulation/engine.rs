//! The loop: events are taken from the [`agenda`](crate::simulation::agenda) one after the other. Everything about a request
//! but the moment at which its effect becomes visible is known at its arrival.

use std::hint::black_box;

use crate::client::request::{Occasion, Place, Request};
use crate::client::session::Session;
use crate::client::traffic::{Next, Response, Traffic};
use crate::error::Result;
use crate::extent::Extent;
use crate::prompt::{EdgeId, PrefixTree};
use crate::provider::cache::{Access, Cover, Effect, Found};
use crate::provider::machine::{Machines, Timing};
use crate::provider::profile::Provider;
use crate::provider::routing::{MachineId, RoutingKey};
use crate::queue::Event;
use crate::random::{Purpose, SessionKey};
use crate::simulation::agenda::{Agenda, Kind, Slots, Start};
use crate::simulation::attribution::{Ledger, Noted};
use crate::simulation::outcome::{Attribution, Outcome};
use crate::simulation::regime::{Provided, Regime, Terms};
use crate::units::{SimTime, Span, Tokens};

/// One run: traffic on one side, a provider on the other.
pub struct Simulation {
    extent: Extent,
    pub(super) traffic: Traffic,
    /// Accounts of each partition: each has fleets of its own.
    accounts: u32,
    /// The start of the traffic, if that is not its first request.
    start: Option<SimTime>,
    regimes: Vec<Regime>,
    pub(super) tree: PrefixTree,
    pub(super) provider: Provided,
    agenda: Agenda,
    pub(super) ledger: Option<Ledger>,
    /// For how long stores still hold what has expired.
    pub(super) remembers: Span,
    /// Sessions about to be queued: those that go on because of a call, and those that start.
    pub(super) next: Next,
    starting: Next,
    /// What the events that come next will need.
    near_edges: Vec<EdgeId>,
    near_keys: Vec<RoutingKey>,
    /// Edges of the tree after the last clean-up: what nobody needs is freed when they are half as many again.
    kept_edges: usize,
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
    #[inline(always)]
    pub(super) fn serve(&self, machines: &mut Machines, cached: Tokens) -> Served {
        let Self { access, arrival, noise, output, .. } = self;
        let uncached = access.prompt.tokens() - cached;
        let timing = machines.serve(access.machine, *arrival, cached, uncached, *output, *noise);
        Served { cached, timing, in_flight: machines.in_flight_with(&timing) }
    }
}

/// Whoever wants to see outcomes. (A trait and no closure, so that observing can be inlined by force: an outcome that
/// nobody keeps is then never put together.)
pub trait Observer {
    /// Sees one outcome.
    fn observe(&mut self, outcome: &Outcome);
}

impl<F: FnMut(&Outcome)> Observer for F {
    #[inline(always)]
    fn observe(&mut self, outcome: &Outcome) {
        self(outcome);
    }
}

/// With fewer sessions all that belongs to them stays in the CPU's caches.
const MANY_SESSIONS: usize = 1 << 12;

/// With fewer edges nothing is freed.
const FEWEST_EDGES: usize = 64;

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
        let is_plain = regimes.len() == 1 && first.is_plain();
        Self {
            extent: if is_plain { traffic.extent() } else { Extent::Full },
            traffic,
            accounts,
            start,
            tree: PrefixTree::new(routing.hash_tokens),
            provider: Provided::new(0, first, accounts, backends),
            agenda: Agenda::default(),
            ledger: attribution.then(|| Ledger::new(write, first.partitions(accounts))),
            regimes,
            remembers: Span::ZERO,
            next: Next::new(),
            starting: Next::new(),
            near_edges: Vec::new(),
            near_keys: Vec::new(),
            kept_edges: 0,
        }
    }

    /// Runs to the end of the traffic and shows every outcome in the order of arrival. Fails only where the
    /// traffic does: at a bad line of a trace.
    pub fn run(&mut self, observer: &mut impl Observer) -> Result<()> {
        match self.extent {
            Extent::Plain => self.play(Extent::Plain, |simulation, session, now| {
                simulation.arrive_plainly(session, now, observer)
            }),
            Extent::Full => self.run_requests(&mut |outcome, _, _| observer.observe(outcome)),
        }
    }

    /// Like [`run`](Self::run), and shows the requests behind the outcomes too, with the tree of their prompts.
    pub fn run_requests(&mut self, observe: &mut dyn FnMut(&Outcome, &Request, &PrefixTree)) -> Result<()> {
        self.play(Extent::Full, |simulation, session, now| simulation.arrive(session, now, observe))
    }

    /// Runs to the end of the traffic. `call` makes a session's request at a moment, and says when its next one comes;
    /// other sessions that go on because of it, it leaves in `next`. `extent` is that of what becomes visible.
    pub(super) fn play(
        &mut self,
        extent: Extent,
        mut call: impl FnMut(&mut Self, &mut Session, SimTime) -> Option<SimTime>,
    ) -> Result<()> {
        // Apart from all else, so that a session is at hand while its request changes everything else.
        let mut sessions = Slots::default();
        for workload in 0..self.traffic.workloads() {
            let mut session = Session::vacant(workload as u16);
            if let Some(event) = self.start_next(&mut session, &mut sessions)? {
                self.agenda.starts.push(Start { event, session });
                self.agenda.sort_last_start();
            }
        }
        self.plan_changes();
        loop {
            if self.agenda.starts_next() {
                self.start(&mut sessions, &mut call)?;
                continue;
            }
            if self.agenda.queue.has_come_near() && sessions.values.len() >= MANY_SESSIONS {
                self.look_ahead(&sessions, extent);
            }
            let Some(event) = self.agenda.queue.pop() else { return Ok(()) };
            let Event { time: now, subject: slot, .. } = event;
            match Kind::of(event) {
                Kind::Change => self.change(slot as usize),
                Kind::Visible if extent == Extent::Plain => {
                    let (cover, noted) = self.agenda.covers.values[slot as usize];
                    self.agenda.covers.free.push(slot);
                    self.appear_plainly(&cover, noted, now);
                }
                Kind::Visible => {
                    let effects = std::mem::take(&mut self.agenda.effects);
                    self.appear(&effects.values[slot as usize], now);
                    self.agenda.effects = effects;
                    self.agenda.effects.free.push(slot);
                }
                Kind::Arrival => {
                    let next = call(self, &mut sessions.values[slot as usize], now);
                    self.agenda.push_sessions(&mut sessions, &mut self.next);
                    match next {
                        Some(at) => self.agenda.push(at, Kind::Arrival, slot),
                        None => sessions.free.push(slot),
                    }
                }
            }
        }
    }

    /// Loads what the next events will need into the CPU's caches, all at a time: with very many sessions, waiting for
    /// memory is most of the work, and many loads wait hardly longer than one.
    #[inline(never)]
    fn look_ahead(&mut self, sessions: &Slots<Session>, extent: Extent) {
        let Self { agenda, tree, provider, ledger, near_edges, near_keys, .. } = self;
        let Agenda { queue, effects, covers, .. } = agenda;
        let near = queue.come_near();
        let subjects = |kind: Kind| {
            near.iter().filter(move |event| Kind::of(**event) == kind).map(|event| event.subject as usize)
        };
        // What a session stands on is known only once the session is there, and what that points to only after it.
        near_edges.clear();
        near_keys.clear();
        for slot in subjects(Kind::Arrival) {
            let session = &sessions.values[slot];
            near_edges.push(session.end().edge);
            near_keys.extend(session.routing_key());
        }
        near_edges.extend(subjects(Kind::Visible).map(|slot| match extent {
            Extent::Plain => covers.values[slot].0.at.edge,
            Extent::Full => effects.values[slot].access.prompt.shareable.edge,
        }));
        let mut sum = 0;
        for edge in near_edges.iter() {
            sum ^= provider.cache.touch(*edge);
        }
        for key in near_keys.iter() {
            sum ^= provider.router.touch(*key);
        }
        if extent == Extent::Full || ledger.is_some() {
            for edge in near_edges.iter() {
                sum ^= u64::from(tree.origin(*edge).depth);
                sum ^= ledger.as_ref().map_or(0, |ledger| ledger.touch(*edge));
            }
        }
        for key in near_keys.iter() {
            sum ^= provider.router.touch_rate(*key);
        }
        black_box(sum);
    }

    /// A session calls for the first time, and makes room for the next one of its workload.
    fn start(
        &mut self,
        sessions: &mut Slots<Session>,
        call: &mut impl FnMut(&mut Self, &mut Session, SimTime) -> Option<SimTime>,
    ) -> Result<()> {
        // The next session of the workload takes the place of this one, which is queued if it goes on.
        let mut starts = std::mem::take(&mut self.agenda.starts);
        let Some(Start { event, session }) = starts.last_mut() else { return Ok(()) };
        let now = event.time;
        let called = if session.is_left_out() { None } else { call(self, session, now) };
        let next = called.map(|at| {
            let vacant = Session::vacant(session.workload);
            (at, sessions.put(std::mem::replace(session, vacant)))
        });
        match self.start_next(session, sessions)? {
            Some(start) => *event = start,
            None => drop(starts.pop()),
        }
        self.agenda.starts = starts;
        self.agenda.sort_last_start();
        self.agenda.push_sessions(sessions, &mut self.next);
        if let Some((at, slot)) = next {
            self.agenda.push(at, Kind::Arrival, slot);
        }
        // Attribution remembers all that was sent, and a limited room counts what it held.
        let may_forget = self.ledger.is_none() && self.provider.write.capacity_tokens.is_none();
        if may_forget && self.tree.len() > self.kept_edges + self.kept_edges / 2 + FEWEST_EDGES {
            self.forget(sessions, now);
        }
        Ok(())
    }

    /// How much of the model it needs.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Edges of the prefix tree: the most of what a run remembers.
    pub fn edges(&self) -> usize {
        self.tree.len()
    }

    /// Bytes of what was sent and of what is held of it: edges, and their places in the cache.
    pub fn segment_bytes(&self) -> usize {
        self.tree.bytes() + self.provider.cache.bytes()
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
        let first = self.agenda.starts.iter().map(|start| start.event.time).min();
        let Some(start) = self.start.or(first) else { return };
        for (number, regime) in self.regimes.iter().enumerate().skip(1) {
            self.agenda.push(start + regime.at, Kind::Change, number as u32);
        }
    }

    /// From now on another provider serves, whose machines are cold and idle. What former requests were about to do to
    /// the cache is lost with it; that they were sent is not forgotten.
    fn change(&mut self, number: usize) {
        let regime = &self.regimes[number];
        self.provider = Provided::new(number as u32, regime, self.accounts, self.provider.backends);
        self.agenda.queue.retain(|event| Kind::of(*event) != Kind::Visible);
        self.agenda.effects = Slots::default();
        let partitions = regime.partitions(self.accounts);
        self.ledger =
            self.ledger.take().map(|ledger| ledger.after_change(&regime.provider.write, partitions));
    }

    /// Makes `session` the next one of its workload: its start, if there is one. What else starts with it is queued.
    fn start_next(&mut self, session: &mut Session, sessions: &mut Slots<Session>) -> Result<Option<Event>> {
        let start = self.traffic.start_next(session, &mut self.starting)?;
        let event = start.map(|at| self.agenda.event(at, Kind::Arrival, 0));
        self.agenda.push_sessions(sessions, &mut self.starting);
        Ok(event)
    }

    /// Frees the text of sessions that have ended, once nothing of it is alive any more: memory follows what lives, not
    /// what was ever sent. (An attribution remembers all that was sent.)
    fn forget(&mut self, sessions: &Slots<Session>, now: SimTime) {
        let now = now.before(self.remembers);
        let starting = self.agenda.starts.iter().map(|start| &start.session);
        let sessions = sessions.used().chain(starting).flat_map(Session::places);
        let places = sessions.chain(self.traffic.places()).map(|place| place.edge);
        let effects = self.agenda.effects.used().flat_map(Effect::edges);
        let effects = effects.chain(self.agenda.covers.used().map(|(cover, _)| cover.at.edge));
        let used = places.chain(effects).chain(self.provider.cache.live_edges(now));
        self.tree.free_all_but(used);
        self.kept_edges = self.tree.len();
    }

    /// What a client sees of an outcome.
    #[inline(always)]
    pub(super) fn response(&self, request: &Request, outcome: &Outcome) -> Response {
        Response {
            cached: outcome.cached,
            failed: outcome.failed,
            place: Place {
                account: request.account,
                machine: outcome.machine,
                regime: outcome.regime,
                routing_key: outcome.routing_key,
            },
            arrival: outcome.arrival,
            first_token: outcome.arrival + outcome.timing.ttft,
            complete: outcome.arrival + outcome.timing.total,
        }
    }

    /// One request, from routing to answer; when its session calls again. Its steps are inlined by force, in whatever
    /// file they stand: calling sixty of them would be a fifth of the work.
    #[inline(always)]
    fn arrive(
        &mut self,
        session: &mut Session,
        now: SimTime,
        observe: &mut dyn FnMut(&Outcome, &Request, &PrefixTree),
    ) -> Option<SimTime> {
        let extent = Extent::Full;
        let request = self.traffic.request(session, now, &mut self.tree, extent);
        let sent = self.send(&request, now, extent);
        let found = self.provider.cache.look_up(&self.tree, &sent.access, &request.marks, now, extent);
        let effect = self.effect(&request, &sent, found.read, now + sent.lifetime);
        let served = sent.serve(&mut self.provider.machines, found.cached);
        let attribute = |ledger: &Ledger| ledger.attribute(&self.tree, &request, &sent.access, &found, now);
        let attribution = self.ledger.as_ref().map(attribute);
        let outcome = self.outcome(&request, &sent, &served, effect.written, attribution);
        observe(&outcome, &request, &self.tree);
        let response = self.response(&request, &outcome);
        self.arrived(&sent, effect, outcome.visible_at);
        self.traffic.answered(session, &request, &response, &mut self.next, extent)
    }

    /// The same in a plain run.
    #[inline(always)]
    fn arrive_plainly(
        &mut self,
        session: &mut Session,
        now: SimTime,
        observer: &mut impl Observer,
    ) -> Option<SimTime> {
        let extent = Extent::Plain;
        let request = self.traffic.request(session, now, &mut self.tree, extent);
        let sent = self.send(&request, now, extent);
        let found = self.provider.cache.look_up(&self.tree, &sent.access, &request.marks, now, extent);
        let cover = self.provider.cache.cover(&self.tree, &sent.access, found.read, now + sent.lifetime);
        let served = sent.serve(&mut self.provider.machines, found.cached);
        let (attribution, noted) = self.note_plainly(&request, &sent, &found, &cover).unzip();
        let outcome = self.outcome(&request, &sent, &served, cover.written, attribution);
        observer.observe(&outcome);
        // Without a ledger nobody asks what was noted.
        let noted = noted.unwrap_or_default();
        let response = self.response(&request, &outcome);
        let next = self.traffic.answered(session, &request, &response, &mut self.next, extent);
        let visible_at = outcome.visible_at;
        if visible_at == now {
            self.appear_plainly(&cover, noted, now);
            return next;
        }
        let left = if session.goes_unread(cover.at.edge, next, visible_at) {
            self.appear_unread(&cover, noted, now)
        } else {
            (!self.has_appeared(&cover, noted)).then_some(cover)
        };
        if let Some(cover) = left {
            let slot = self.agenda.covers.put((cover, noted));
            self.agenda.push(visible_at, Kind::Visible, slot);
        }
        next
    }

    /// Whether what a request covers is there already, and as long: then nothing happens when it appears.
    #[inline(always)]
    fn has_appeared(&self, cover: &Cover, noted: Noted) -> bool {
        self.provider.cache.is_covered(cover)
            && self.ledger.as_ref().is_none_or(|ledger| ledger.is_noted(noted, cover.at))
    }

    /// Attributes what a request of a plain run did not find, and notes what it leaves.
    #[inline(always)]
    fn note_plainly(
        &mut self,
        request: &Request,
        sent: &Sent,
        found: &Found,
        cover: &Cover,
    ) -> Option<(Attribution, Noted)> {
        let ledger = self.ledger.as_mut()?;
        let (access, now) = (&sent.access, sent.arrival);
        let attribution = ledger.attribute(&self.tree, request, access, found, now);
        Some((attribution, ledger.arrive(&self.tree, access, &[cover.at], cover.expiry, now)))
    }

    /// Lets the last edge of what a request covers appear before its time, since nobody reads it until then: what is left
    /// to appear, if anything is. (Until it does, what lies before that edge may live shorter than the edge.)
    #[inline(always)]
    fn appear_unread(&mut self, cover: &Cover, noted: Noted, now: SimTime) -> Option<Cover> {
        let left = self.provider.cache.apply_cover_end(&self.tree, cover, now);
        let Self { tree, ledger, .. } = self;
        let is_noted = ledger.as_mut().is_none_or(|ledger| ledger.appear_end(tree, noted, cover.at));
        if is_noted { left } else { Some(Cover { at: tree.origin(cover.at.edge), ..*cover }) }
    }

    #[inline(always)]
    fn appear_plainly(&mut self, cover: &Cover, noted: Noted, now: SimTime) {
        self.provider.cache.apply_cover(&self.tree, cover, now);
        if let Some(ledger) = &mut self.ledger {
            ledger.appear(&self.tree, noted, &[cover.at]);
        }
    }

    /// Sends a request to its machine. (This and the next ones are inlined by force, since having a second caller, many
    /// lifetimes at once, must not slow down ordinary runs.)
    #[inline(always)]
    pub(super) fn send(&mut self, request: &Request, now: SimTime, extent: Extent) -> Sent {
        let Terms { lifetime, failure, .. } = &self.provider.terms[request.workload as usize];
        let lifetime = lifetime.draw(request.draws, Purpose::Lifetime);
        let failed =
            extent.if_full(|| *failure > 0.0 && request.draws.uniform(Purpose::Failure, 0) < *failure);
        self.provider.machines.advance(now);
        let (access, overflowed) = self.provider.route(request, failed, now, extent);
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

    /// What comes of a request.
    #[inline(always)]
    pub(super) fn outcome(
        &self,
        request: &Request,
        sent: &Sent,
        served: &Served,
        written: Tokens,
        attribution: Option<Attribution>,
    ) -> Outcome {
        let Sent { access, arrival, .. } = sent;
        let Served { cached, timing, in_flight } = *served;
        Outcome {
            call: request.call,
            line: request.line,
            workload: request.workload,
            session: request.session,
            group: request.group,
            turn: request.turn,
            occasion: request.occasion,
            attempt: request.attempt,
            failed: sent.failed,
            given_up: sent.failed && request.last_attempt && request.occasion == Occasion::Call,
            contaminated: request.contaminated,
            named_partition: self.provider.terms[request.workload as usize].partition,
            partition: access.partition,
            key: request.key,
            regime: self.provider.regime,
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
            attribution,
        }
    }

    /// Notes what a request that has arrived will do to the cache.
    #[inline(always)]
    pub(super) fn arrived(&mut self, sent: &Sent, effect: Effect, visible_at: SimTime) {
        let now = sent.arrival;
        // A failed call that leaves nothing could not have been read by any other cache either.
        let leaves_something = !sent.failed || self.provider.failed_writes;
        if let Some(ledger) = self.ledger.as_mut().filter(|_| leaves_something) {
            let Effect { access, places, expiry, .. } = &effect;
            ledger.arrive(&self.tree, access, places, *expiry, now.before(self.remembers));
        }
        if visible_at == now {
            self.appear(&effect, now);
        } else {
            let slot = self.agenda.effects.put(effect);
            self.agenda.push(visible_at, Kind::Visible, slot);
        }
    }

    #[inline(always)]
    fn appear(&mut self, effect: &Effect, now: SimTime) {
        let now = now.before(self.remembers);
        self.provider.cache.apply(&self.tree, effect, now);
        if let Some(ledger) = &mut self.ledger {
            ledger.appear_whole(&self.tree, effect, now);
        }
    }
}
