//! One provider's side of a run: a request from its routing until what it does to the cache is visible to others.

use crate::client::request::{Occasion, Request};
use crate::extent::Extent;
use crate::prompt::PrefixTree;
use crate::provider::cache::{Access, Cover, Effect, Found};
use crate::provider::machine::{Machines, Timing};
use crate::random::{Draws, Purpose};
use crate::simulation::attribution::{Ledger, Noted};
use crate::simulation::outcome::{Attribution, Outcome};
use crate::simulation::regime::{Provided, Terms};
use crate::units::{SimTime, Span, Tokens};

/// A provider, and what an attribution knows of the requests that came to it. (All of its steps are inlined by force:
/// having several callers must not slow down ordinary runs.)
pub(super) struct Side {
    pub provider: Provided,
    pub ledger: Option<Ledger>,
    /// For how long stores still hold what has expired.
    pub remembers: Span,
}

/// The sides that the requests of a run come to: to each of them as if it were the only one.
pub(super) struct Sides {
    pub first: Side,
    pub others: Vec<Side>,
}

impl Sides {
    pub fn one(first: Side) -> Self {
        Self { first, others: Vec::new() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The side of a number, counted from 0.
    #[inline(always)]
    pub fn numbered(&mut self, number: u32) -> &mut Side {
        match number {
            0 => &mut self.first,
            _ => &mut self.others[number as usize - 1],
        }
    }
}

/// A request on its way to a machine, before it is known what it finds there.
pub(super) struct Sent {
    pub access: Access,
    overflowed: bool,
    pub lifetime: Span,
    failed: bool,
    arrival: SimTime,
    noise: Option<f64>,
    /// Tokens of its answer.
    output: Tokens,
}

/// How a machine serves a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub cached: Tokens,
    pub timing: Timing,
    /// Requests in flight on all machines, this one included.
    pub in_flight: u32,
}

/// What a request of a plain run leaves, for when it appears.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub cover: Cover,
    /// What an attribution noted of it.
    pub noted: Noted,
}

impl Sent {
    /// Puts the request, of whose prompt so much is cached, behind those that a machine has.
    #[inline(always)]
    pub fn serve(&self, machines: &mut Machines, cached: Tokens) -> Served {
        let Self { access, arrival, noise, output, .. } = self;
        let uncached = access.prompt.tokens() - cached;
        let timing = machines.serve(access.machine, *arrival, cached, uncached, *output, *noise);
        Served { cached, timing, in_flight: machines.in_flight_with(&timing) }
    }
}

impl Side {
    /// Nothing has come to this provider yet.
    pub fn new(provider: Provided, ledger: Option<Ledger>) -> Self {
        Self { provider, ledger, remembers: Span::ZERO }
    }

    /// The noise of a request with these draws, if there is any.
    #[inline(always)]
    pub fn noise(&self, draws: Draws) -> Option<f64> {
        self.provider.machines.noise(draws)
    }

    /// Standard deviation of the logarithm of the noise: the noise of a request depends on nothing else of a side.
    pub fn noise_sigma(&self) -> f64 {
        self.provider.machines.noise_sigma()
    }

    /// One request, from routing to answer.
    #[inline(always)]
    pub fn answer(&mut self, tree: &PrefixTree, request: &Request, now: SimTime) -> (Outcome, Sent, Effect) {
        let extent = Extent::Full;
        let sent = self.send(request, now, self.noise(request.draws), extent);
        let found = self.provider.cache.look_up(tree, &sent.access, &request.marks, now, extent);
        let effect = self.effect(tree, request, &sent, found.read, now + sent.lifetime);
        let served = sent.serve(&mut self.provider.machines, found.cached);
        let attribute = |ledger: &Ledger| ledger.attribute(tree, request, &sent.access, &found, now);
        let attribution = self.ledger.as_ref().map(attribute);
        (self.outcome(request, &sent, &served, effect.written, attribution), sent, effect)
    }

    /// The same in a plain run; `noise` is that of the request.
    #[inline(always)]
    pub fn answer_plainly(
        &mut self,
        tree: &PrefixTree,
        request: &Request,
        now: SimTime,
        noise: Option<f64>,
    ) -> (Outcome, Left) {
        let extent = Extent::Plain;
        let sent = self.send(request, now, noise, extent);
        let found = self.provider.cache.look_up(tree, &sent.access, &request.marks, now, extent);
        let cover = self.provider.cache.cover(tree, &sent.access, found.read, now + sent.lifetime);
        let served = sent.serve(&mut self.provider.machines, found.cached);
        let (attribution, noted) = self.note_plainly(tree, request, &sent, &found, &cover).unzip();
        let outcome = self.outcome(request, &sent, &served, cover.written, attribution);
        // Without a ledger nobody asks what was noted.
        (outcome, Left { cover, noted: noted.unwrap_or_default() })
    }

    /// Sends a request to its machine.
    #[inline(always)]
    pub fn send(&mut self, request: &Request, now: SimTime, noise: Option<f64>, extent: Extent) -> Sent {
        let Terms { lifetime, failure, .. } = &self.provider.terms[request.workload as usize];
        let lifetime = lifetime.draw(request.draws, Purpose::Lifetime);
        let failed =
            extent.if_full(|| *failure > 0.0 && request.draws.uniform(Purpose::Failure, 0) < *failure);
        self.provider.machines.advance(now);
        let (access, overflowed) = self.provider.route(request, failed, now, extent);
        // A call fails when its first token would come.
        let output = if failed { 0 } else { request.output_tokens };
        Sent { access, overflowed, lifetime, failed, arrival: now, noise, output }
    }

    /// What a request that reads down to `read` will do to the cache.
    #[inline(always)]
    pub fn effect(
        &self,
        tree: &PrefixTree,
        request: &Request,
        sent: &Sent,
        read: Tokens,
        expiry: SimTime,
    ) -> Effect {
        let Sent { access, arrival, .. } = sent;
        let Provided { cache, failed_writes, .. } = &self.provider;
        let mut effect = cache.effect(tree, *access, &request.marks, read, *arrival, expiry);
        if sent.failed && !*failed_writes {
            effect = effect.none();
        }
        effect
    }

    /// What comes of a request.
    #[inline(always)]
    pub fn outcome(
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
    pub fn note(&mut self, tree: &PrefixTree, sent: &Sent, effect: &Effect) {
        // A failed call that leaves nothing could not have been read by any other cache either.
        let leaves_something = !sent.failed || self.provider.failed_writes;
        if let Some(ledger) = self.ledger.as_mut().filter(|_| leaves_something) {
            let Effect { access, places, expiry, .. } = effect;
            ledger.arrive(tree, access, places, *expiry, sent.arrival.before(self.remembers));
        }
    }

    /// Attributes what a request of a plain run did not find, and notes what it leaves.
    #[inline(always)]
    fn note_plainly(
        &mut self,
        tree: &PrefixTree,
        request: &Request,
        sent: &Sent,
        found: &Found,
        cover: &Cover,
    ) -> Option<(Attribution, Noted)> {
        let ledger = self.ledger.as_mut()?;
        let (access, now) = (&sent.access, sent.arrival);
        let attribution = ledger.attribute(tree, request, access, found, now);
        Some((attribution, ledger.arrive(tree, access, &[cover.at], cover.expiry, now)))
    }

    /// What a request does becomes visible.
    #[inline(always)]
    pub fn appear(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        let now = now.before(self.remembers);
        self.provider.cache.apply(tree, effect, now);
        if let Some(ledger) = &mut self.ledger {
            ledger.appear_whole(tree, effect, now);
        }
    }

    /// The same in a plain run.
    #[inline(always)]
    pub fn appear_plainly(&mut self, tree: &PrefixTree, Left { cover, noted }: &Left, now: SimTime) {
        self.provider.cache.apply_cover(tree, cover, now);
        if let Some(ledger) = &mut self.ledger {
            ledger.appear(tree, *noted, &[cover.at]);
        }
    }

    /// Lets the last edge of what a request covers appear before its time, since nobody reads it until then: what is left
    /// to appear, if anything is. (Until it does, what lies before that edge may live shorter than the edge.)
    #[inline(always)]
    pub fn appear_unread(&mut self, tree: &PrefixTree, left: &Left, now: SimTime) -> Option<Left> {
        let Left { cover, noted } = *left;
        let covered = self.provider.cache.apply_cover_end(tree, &cover, now);
        let is_noted = self.ledger.as_mut().is_none_or(|ledger| ledger.appear_end(tree, noted, cover.at));
        let cover = if is_noted { covered? } else { Cover { at: tree.origin(cover.at.edge), ..cover } };
        Some(Left { cover, noted })
    }

    /// Whether what a request leaves is there already, and as long: then nothing happens when it appears.
    #[inline(always)]
    pub fn has_appeared(&self, Left { cover, noted }: &Left) -> bool {
        self.provider.cache.is_covered(cover)
            && self.ledger.as_ref().is_none_or(|ledger| ledger.is_noted(*noted, cover.at))
    }
}
