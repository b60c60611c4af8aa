//! The loop: events are taken from the [`agenda`](crate::simulation::agenda) one after the other. Everything about a request
//! but the moment at which its effect becomes visible is known at its arrival.

use std::hint::black_box;

use crate::client::request::{Place, Request};
use crate::client::session::Session;
use crate::client::traffic::{Next, Response, Traffic};
use crate::error::Result;
use crate::extent::Extent;
use crate::prompt::{EdgeId, PrefixTree};
use crate::provider::cache::Effect;
use crate::provider::profile::Provider;
use crate::provider::routing::{MachineId, RoutingKey};
use crate::queue::Event;
use crate::random::SessionKey;
use crate::simulation::agenda::{Agenda, Kind, Slots, Start};
use crate::simulation::attribution::Ledger;
use crate::simulation::outcome::Outcome;
use crate::simulation::regime::{Provided, Regime};
use crate::simulation::side::{Left, Sent, Side, Sides};
use crate::units::SimTime;

/// One run: traffic on one side, a provider on the other, or several of them.
pub struct Simulation {
    extent: Extent,
    pub(super) traffic: Traffic,
    /// Accounts of each partition: each has fleets of its own.
    accounts: u32,
    /// The start of the traffic, if that is not its first request.
    start: Option<SimTime>,
    regimes: Vec<Regime>,
    pub(super) tree: PrefixTree,
    pub(super) sides: Sides,
    agenda: Agenda,
    /// Sessions about to be queued: those that go on because of a call, and those that start.
    pub(super) next: Next,
    starting: Next,
    /// What the events that come next will need.
    near_edges: Vec<EdgeId>,
    near_keys: Vec<RoutingKey>,
    /// Edges of the tree after the last clean-up: what nobody needs is freed when they are half as many again.
    kept_edges: usize,
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
        Self {
            extent: extent(traffic.extent(), &regimes),
            traffic,
            accounts,
            start,
            tree: PrefixTree::new(routing.hash_tokens),
            sides: Sides::one(Side::new(
                Provided::new(0, first, accounts, backends),
                attribution.then(|| Ledger::new(write, first.partitions(accounts))),
            )),
            agenda: Agenda::default(),
            regimes,
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
                    let Self { sides, tree, agenda, .. } = self;
                    let (number, left) = agenda.left.values[slot as usize];
                    agenda.left.free.push(slot);
                    sides.numbered(number).appear_plainly(tree, &left, now);
                }
                Kind::Visible => {
                    let Self { sides, tree, agenda, .. } = self;
                    sides.first.appear(tree, &agenda.effects.values[slot as usize], now);
                    agenda.effects.free.push(slot);
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
        let Self { agenda, tree, sides, near_edges, near_keys, .. } = self;
        let Agenda { queue, effects, left, .. } = agenda;
        let Side { provider, ledger, .. } = &mut sides.first;
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
            Extent::Plain => left.values[slot].1.cover.at.edge,
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
        let may_forget = |side: &Side| side.ledger.is_none() && side.provider.write.capacity_tokens.is_none();
        if self.sides.iter().all(may_forget)
            && self.tree.len() > self.kept_edges + self.kept_edges / 2 + FEWEST_EDGES
        {
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
        self.tree.bytes() + self.sides.iter().map(|side| side.provider.cache.bytes()).sum::<usize>()
    }

    /// The traffic, for what it skipped.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The machines of a request's routing key, best first: for oracles that route on their own.
    pub fn ranked(&mut self, outcome: &Outcome) -> &[MachineId] {
        self.sides.first.provider.router.ranked(outcome.routing_key, u32::MAX)
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
        let side = &mut self.sides.first;
        side.provider = Provided::new(number as u32, regime, self.accounts, side.provider.backends);
        self.agenda.queue.retain(|event| Kind::of(*event) != Kind::Visible);
        self.agenda.effects = Slots::default();
        let partitions = regime.partitions(self.accounts);
        side.ledger =
            side.ledger.take().map(|ledger| ledger.after_change(&regime.provider.write, partitions));
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
        let live =
            self.sides.iter().flat_map(|side| side.provider.cache.live_edges(now.before(side.remembers)));
        let starting = self.agenda.starts.iter().map(|start| &start.session);
        let sessions = sessions.used().chain(starting).flat_map(Session::places);
        let places = sessions.chain(self.traffic.places()).map(|place| place.edge);
        let effects = self.agenda.effects.used().flat_map(Effect::edges);
        let effects = effects.chain(self.agenda.left.used().map(|(_, left)| left.cover.at.edge));
        let used = places.chain(effects).chain(live);
        self.tree.free_all_but(used);
        self.kept_edges = self.tree.len();
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
        let request = self.traffic.request(session, now, &mut self.tree, Extent::Full);
        let (outcome, sent, effect) = self.sides.first.answer(&self.tree, &request, now);
        observe(&outcome, &request, &self.tree);
        self.arrived(&sent, effect, outcome.visible_at, now);
        let response = response(&request, &outcome);
        self.traffic.answered(session, &request, &response, &mut self.next, Extent::Full)
    }

    /// The same in a plain run.
    #[inline(always)]
    fn arrive_plainly(
        &mut self,
        session: &mut Session,
        now: SimTime,
        observer: &mut impl Observer,
    ) -> Option<SimTime> {
        let request = self.traffic.request(session, now, &mut self.tree, Extent::Plain);
        let noise = self.sides.first.noise(request.draws);
        let (outcome, left) = self.sides.first.answer_plainly(&self.tree, &request, now, noise);
        observer.observe(&outcome);
        let response = response(&request, &outcome);
        let next = self.traffic.answered(session, &request, &response, &mut self.next, Extent::Plain);
        let visible_at = outcome.visible_at;
        let left = if visible_at > now && session.goes_unread(left.cover.at.edge, next, visible_at) {
            self.sides.first.appear_unread(&self.tree, &left, now)
        } else {
            Some(left)
        };
        if let Some(left) = left {
            self.arrived_plainly(0, left, visible_at, now);
        }
        next
    }

    /// Notes what a request that has arrived will do to the cache.
    #[inline(always)]
    pub(super) fn arrived(&mut self, sent: &Sent, effect: Effect, visible_at: SimTime, now: SimTime) {
        let Self { sides, tree, agenda, .. } = self;
        sides.first.note(tree, sent, &effect);
        if visible_at == now {
            sides.first.appear(tree, &effect, now);
        } else {
            let slot = agenda.effects.put(effect);
            agenda.push(visible_at, Kind::Visible, slot);
        }
    }

    /// The same in a plain run, at the side of this number.
    #[inline(always)]
    pub(super) fn arrived_plainly(&mut self, number: u32, left: Left, visible_at: SimTime, now: SimTime) {
        let Self { sides, tree, agenda, .. } = self;
        let side = sides.numbered(number);
        if visible_at == now {
            side.appear_plainly(tree, &left, now);
        } else if !side.has_appeared(&left) {
            let slot = agenda.left.put((number, left));
            agenda.push(visible_at, Kind::Visible, slot);
        }
    }
}

/// How much of the model a run needs, of whose traffic so much is known.
pub fn extent(traffic: Extent, regimes: &[Regime]) -> Extent {
    match regimes {
        [only] if only.is_plain() => traffic,
        _ => Extent::Full,
    }
}

/// What a client sees of an outcome.
#[inline(always)]
pub(super) fn response(request: &Request, outcome: &Outcome) -> Response {
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
