//! Every constant lifetime in one pass.
//!
//! Where a lifetime has no say in when requests are sent, where they go and what they write, the moments at which
//! boundaries are touched are the same under every lifetime. One store then holds these moments in place of
//! expiries (its clock runs as far behind as the longest lifetime), and alive under a lifetime L is what was touched
//! at `now - L` or later. What does depend on the lifetime is kept for each: what is read and billed, the machines'
//! queues, and of the attribution the step `expired` and one ceiling.

use std::cmp::Reverse;

use crate::client::request::Request;
use crate::client::session::Session;
use crate::error::Result;
use crate::extent::Extent;
use crate::prompt::PrefixTree;
use crate::provider::cache::{Access, Found};
use crate::provider::machine::Machines;
use crate::provider::store::Answers;
use crate::provider::write::Readable;
use crate::random::SpanDistribution;
use crate::simulation::attribution::{Ledger, Reach};
use crate::simulation::engine::{Simulation, response};
use crate::simulation::outcome::{Attribution, Outcome};
use crate::simulation::side::{Side, Sides};
use crate::units::{SimTime, Span, Tokens};

/// One run under each of several constant lifetimes.
///
/// Whoever asks for this answers for the conditions, which
/// [`obstacle`](crate::experiment::lifetimes::obstacle) knows.
pub struct Lifetimes {
    simulation: Simulation,
    /// The longest lifetime first: what is alive under a shorter one is no deeper.
    variants: Vec<Variant>,
}

/// What is kept for one lifetime.
struct Variant {
    /// Its place among the lifetimes asked for.
    number: usize,
    lifetime: Span,
    machines: Machines,
}

impl Lifetimes {
    /// A run of `simulation`, with these lifetimes in place of its own.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(mut simulation: Simulation, lifetimes: &[Span]) -> Self {
        let side = &mut simulation.sides.first;
        let machines = &side.provider.machines;
        let variant = |(number, lifetime): (usize, &Span)| Variant {
            number,
            lifetime: *lifetime,
            machines: machines.clone(),
        };
        let mut variants: Vec<_> = lifetimes.iter().enumerate().map(variant).collect();
        variants.sort_by_key(|variant| Reverse(variant.lifetime));
        side.remembers = variants[0].lifetime;
        for terms in &mut side.provider.terms {
            // The expiry of what is touched is then the moment of the touch.
            terms.lifetime = SpanDistribution::Constant(Span::ZERO);
        }
        Self { simulation, variants }
    }

    /// Runs to the end of the traffic and shows every outcome, in the order of arrival, under every lifetime by its
    /// number. Fails only where the traffic does: at a bad line of a trace.
    pub fn run(&mut self, mut observe: impl FnMut(usize, &Outcome)) -> Result<()> {
        let Self { simulation, variants } = self;
        simulation.play(Extent::Full, |simulation, session, now| {
            arrive(simulation, variants, session, now, &mut observe)
        })
    }

    /// What was simulated, for what its traffic skipped.
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
    }
}

/// One request, under every lifetime; when its session calls again. What the client sees of it is the same under each,
/// as far as it matters.
fn arrive(
    simulation: &mut Simulation,
    variants: &mut [Variant],
    session: &mut Session,
    now: SimTime,
    observe: &mut impl FnMut(usize, &Outcome),
) -> Option<SimTime> {
    let request = simulation.traffic.request(session, now, &mut simulation.tree, Extent::Full);
    let Simulation { sides: Sides { first: side, .. }, tree, .. } = simulation;
    let mut sent = side.send(&request, now, side.noise(request.draws), Extent::Full);
    // A covering write renews all that was read, so that it matters for the bill alone.
    let effect = side.effect(tree, &request, &sent, 0, now);
    let clocks = [&variants[0], &variants[variants.len() - 1]].map(|variant| now.before(variant.lifetime));
    let mut finds = Finds::new(side, tree, &request, &sent.access, clocks);
    let mut seen = None;
    for Variant { number, lifetime, machines } in variants {
        finds.advance(side, &request, &sent.access, now.before(*lifetime));
        sent.lifetime = *lifetime;
        machines.advance(now);
        let served = sent.serve(machines, finds.found.cached);
        let written = effect.written.saturating_sub(finds.found.read);
        let attribution = finds.reach.as_ref().map(|_| finds.attribution);
        let outcome = side.outcome(&request, &sent, &served, written, attribution);
        observe(*number, &outcome);
        debug_assert!(seen.is_none_or(|seen: Outcome| seen.visible_at == outcome.visible_at));
        seen.get_or_insert(outcome);
    }
    let seen = seen.expect("there are lifetimes");
    simulation.arrived(&sent, effect, seen.visible_at, now);
    let response = response(&request, &seen);
    simulation.traffic.answered(session, &request, &response, &mut simulation.next, Extent::Full)
}

/// What one request finds under shorter and shorter lifetimes.
struct Finds {
    alive: Falling,
    found: Found,
    /// Where uncached tokens are attributed.
    reach: Option<Reach>,
    perfectly_routed: Falling,
    attribution: Attribution,
}

impl Finds {
    /// What a request finds, first under the longest lifetime; the stores' clocks are then at the first of `clocks`,
    /// and under the shortest one at the last.
    fn new(side: &Side, tree: &PrefixTree, request: &Request, access: &Access, clocks: [SimTime; 2]) -> Self {
        let Side { provider, ledger, .. } = side;
        let [first, last] = clocks;
        let mut alive = Falling::new(provider.cache.alive_between(tree, access, first, last));
        let found = provider.cache.found(access, Readable::Everywhere, alive.at(first));
        let reach = ledger.as_ref().map(|ledger| ledger.reach(tree, access, &found.readable));
        let routed = ledger.as_ref().map(|ledger| ledger.perfectly_routed_between(tree, access, first, last));
        let mut finds = Self {
            alive,
            found,
            reach,
            perfectly_routed: Falling::new(routed.unwrap_or_default()),
            attribution: Attribution::default(),
        };
        if let Some(ledger) = ledger {
            finds.perfectly_routed.at(first);
            finds.attribute(ledger, request, access);
        }
        finds
    }

    /// Goes on to a shorter lifetime.
    fn advance(&mut self, side: &Side, request: &Request, access: &Access, clock: SimTime) {
        let (before, routed_before) = (self.alive.depth(), self.perfectly_routed.depth());
        if self.alive.at(clock) != before {
            self.found = side.provider.cache.found(access, Readable::Everywhere, self.alive.depth());
        }
        if let Some(ledger) = &side.ledger
            && (self.perfectly_routed.at(clock) != routed_before || self.alive.depth() != before)
        {
            self.attribute(ledger, request, access);
        }
    }

    fn attribute(&mut self, ledger: &Ledger, request: &Request, access: &Access) {
        let Some(reach) = &self.reach else { return };
        // Nothing is replaced or evicted: all that has not expired is alive.
        let lost = ledger.lost(request, access, &self.found, self.found.alive, reach);
        let ceiling_lifetime = ledger.report(self.perfectly_routed.depth(), access);
        self.attribution = Attribution { ceiling_lifetime, ..lost };
    }
}

/// What a store answers, at one later moment after the other.
struct Falling {
    answers: Answers,
    next: usize,
}

impl Falling {
    fn new(answers: Answers) -> Self {
        Self { answers, next: 0 }
    }

    /// The depth at a moment no earlier than those asked for before.
    fn at(&mut self, clock: SimTime) -> Tokens {
        while self.answers.get(self.next).is_some_and(|step| step.expiry() < clock) {
            self.next += 1;
        }
        self.depth()
    }

    /// The depth at the last moment asked for.
    fn depth(&self) -> Tokens {
        self.answers.get(self.next).map_or(0, |step| step.depth)
    }
}
