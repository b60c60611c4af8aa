//! The naive model: the law of the cache by linear scans, against the engine, request by request.
//!
//! No prefix tree, no staircase, no event queue, no counters. A prompt is a list of blocks; what is stored is a
//! list of boundaries with an expiry each; a rate is counted over all earlier requests; an attribution set is a
//! condition on them. From the engine the model takes only what nobody can know beforehand: what was drawn, how
//! long serving took, and in which order a hash ranks the machines. Everything else it decides itself, and must
//! agree.
//!
//! Reading order: [`Text`] is what "the same first n tokens" means here, [`Shelf`] is the law of the store,
//! [`Model`] puts routing, store and attribution together, [`Traffic`] and [`Case`] make random small
//! scenarios, and the tests compare.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::client::key::Strategy;
use crate::experiment::run::simulation;
use crate::experiment::scenario::Loaded;
use crate::provider::machine::Timing;
use crate::provider::routing::{
    KeyRole, MachineId, Overflow, Pick, RateCount, RateOver, Routing, RoutingKey, Rule,
};
use crate::provider::store::planted;
use crate::provider::write::{Bodies, LookBack, Semantics, Visible, When, Write};
use crate::simulation::outcome::{Attribution, Cause, Outcome};
use crate::units::{SimTime, Span, Tokens};

/// A `prompt_cache_key`, by number.
type Key = Option<u64>;

/// A block of text: the session whose own numbering it has (if any), its number, its tokens.
type Block = (Option<u64>, u64, Tokens);

/// A prompt: blocks that others may send too, the last of them perhaps cut short, then tokens of its own.
#[derive(Clone, Debug)]
struct Text {
    /// Number of the day whose date the hidden system message before it holds; always 0 if it holds none.
    date: u64,
    blocks: Vec<Block>,
    shareable: Tokens,
    tokens: Tokens,
}

impl Text {
    /// Tokens that two prompts have in common at their start.
    fn shared(&self, other: &Self) -> Tokens {
        if self.date != other.date {
            return 0;
        }
        let equal = self.blocks.iter().zip(&other.blocks).take_while(|(ours, theirs)| ours == theirs);
        let tokens: Tokens = equal.map(|((_, _, tokens), _)| tokens).sum();
        tokens.min(self.shareable).min(other.shareable)
    }

    fn is_prefix_of(&self, other: &Self) -> bool {
        self.shared(other) == self.tokens
    }
}

/// One request, as it is sent.
#[derive(Clone, Debug)]
struct Request {
    workload: u32,
    line: u64,
    partition: u32,
    session: Option<u64>,
    key: Key,
    arrival: SimTime,
    text: Text,
    /// What the trace says about the head, in place of the text.
    first256: Option<u64>,
}

/// What routing sees of a prompt: equal heads are equal text.
#[derive(Clone, Debug, PartialEq)]
enum Head {
    Recorded(u64),
    /// The first block, whatever its size.
    Block(Block),
    /// How much of whose own text.
    Own(u32, u64, Tokens),
}

impl Request {
    /// Whether an earlier request belongs to the same session.
    fn follows(&self, earlier: &Self) -> bool {
        self.session.is_some() && (earlier.workload, earlier.session) == (self.workload, self.session)
    }

    fn head(&self, hash_tokens: Tokens) -> Head {
        if let Some(name) = self.first256 {
            return Head::Recorded(name);
        }
        match self.text.blocks.first() {
            Some(block) => Head::Block(*block),
            // All empty prompts are the same.
            None if self.text.tokens == 0 => Head::Own(0, 0, 0),
            None => Head::Own(self.workload, self.line, hash_tokens.min(self.text.tokens)),
        }
    }
}

/// What nobody can know beforehand: taken from the engine.
struct Drawn<'a> {
    lifetime: Span,
    timing: Timing,
    ranked: &'a [MachineId],
    /// Where it went, if that was left to chance.
    machine: MachineId,
}

/// What model and engine must agree on.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    arrival: SimTime,
    routing_key: RoutingKey,
    machine: MachineId,
    overflowed: bool,
    in_flight: u32,
    cached: Tokens,
    written: Tokens,
    visible_at: SimTime,
    attribution: Attribution,
}

impl Answer {
    fn of(outcome: &Outcome) -> Self {
        Self {
            arrival: outcome.arrival,
            routing_key: outcome.routing_key,
            machine: outcome.machine,
            overflowed: outcome.overflowed,
            in_flight: outcome.in_flight,
            cached: outcome.cached,
            written: outcome.written,
            visible_at: outcome.visible_at,
            attribution: outcome.attribution.expect("attribution is on by default"),
        }
    }
}

/// A request that was sent, with all that became of it.
struct Sent {
    request: Request,
    routing_key: RoutingKey,
    route: Route,
    /// Tokens shared with each earlier request.
    shared: Vec<Tokens>,
    /// The boundary it read.
    read: Tokens,
    writes: bool,
    expiry: SimTime,
    visible_at: SimTime,
    /// When its answer is complete.
    ends: SimTime,
    /// Whether its write and renewals are visible yet.
    applied: bool,
}

struct Route {
    rank: usize,
    machine: MachineId,
    /// Whether a full home machine sent it elsewhere.
    overflowed: bool,
    /// Machines that were asked to take it.
    offered: Vec<MachineId>,
}

/// One stored boundary: the first `depth` tokens of an earlier prompt.
struct Boundary {
    owner: RoutingKey,
    key: Key,
    machine: MachineId,
    /// Number of the request that wrote it.
    of: usize,
    depth: Tokens,
    expiry: SimTime,
    /// The latest effect that wrote or renewed it, and its turn in that: renewals by routing key, then writes.
    used: (usize, u32),
}

/// One request's sight of what is stored, at one moment.
struct Sight<'a> {
    now: SimTime,
    machine: MachineId,
    /// The only key whose boundaries it may read, where keys are part of the cache's identity.
    key: Option<Key>,
    /// Tokens shared with each earlier request.
    shared: &'a [Tokens],
    /// The only depths at which it looks for boundaries, if it does not look everywhere.
    looks_at: Option<Vec<Tokens>>,
}

impl Sight<'_> {
    /// Alive, here, readable, and on the prompt's own path.
    fn reaches(&self, boundary: &Boundary) -> bool {
        boundary.expiry >= self.now
            && boundary.machine == self.machine
            && self.key.is_none_or(|key| key == boundary.key)
            && boundary.depth <= self.shared[boundary.of]
    }

    fn looks_at(&self, depth: Tokens) -> bool {
        self.looks_at.as_ref().is_none_or(|depths| depths.contains(&depth))
    }
}

/// All boundaries of all machines. Copies of one boundary stand side by side: it lives as long as any of them.
struct Shelf {
    boundaries: Vec<Boundary>,
    /// Whether a write drops the former body of its routing key.
    replaces: bool,
    /// Whether equal boundaries are apart if their routing keys, or their keys, are different.
    apart: (bool, bool),
    /// Most distinct live tokens of a machine.
    capacity: Option<u64>,
    /// Effects applied so far.
    applied: usize,
}

impl Shelf {
    /// The deepest boundary in sight.
    fn deepest(&self, sight: &Sight) -> Tokens {
        let reached = self.boundaries.iter().filter(|boundary| sight.reaches(boundary));
        let reached = reached.filter(|boundary| sight.looks_at(boundary.depth));
        reached.map(|boundary| boundary.depth).max().unwrap_or(0)
    }

    /// Whether a body of this routing key is alive on this machine.
    fn has_body(&self, owner: RoutingKey, machine: MachineId, now: SimTime) -> bool {
        self.boundaries.iter().any(|b| b.owner == owner && b.machine == machine && b.expiry >= now)
    }

    /// Renews what request number `of` read and stores what it writes, at these depths.
    fn apply(&mut self, of: usize, sent: &Sent, sight: &Sight, writes: &[Tokens]) {
        let Sent { routing_key: owner, expiry, read, .. } = *sent;
        self.applied += 1;
        for boundary in &mut self.boundaries {
            if sight.reaches(boundary) && boundary.depth <= read {
                boundary.expiry = boundary.expiry.max(expiry);
                boundary.used = (self.applied, boundary.owner.0);
            }
        }
        let machine = sent.route.machine;
        if self.replaces && !writes.is_empty() {
            // What both bodies contain is not replaced, and lives on.
            let again = |b: &Boundary| sight.shared[b.of] >= b.depth && writes.contains(&b.depth);
            self.boundaries.retain(|b| (b.owner, b.machine) != (owner, machine) || again(b));
        }
        let (key, used) = (sent.request.key, (self.applied, u32::MAX));
        let boundary = |depth: &Tokens| Boundary { owner, key, machine, of, depth: *depth, expiry, used };
        let written: Vec<_> = writes.iter().map(boundary).collect();
        for boundary in &written {
            let scope = self.scope(boundary);
            let copies = (0..self.boundaries.len()).filter(|number| {
                let b = &self.boundaries[*number];
                self.scope(b) == scope && b.depth == boundary.depth && sight.shared[b.of] >= b.depth
            });
            for copy in copies.collect::<Vec<_>>() {
                self.boundaries[copy].used = used;
            }
        }
        self.boundaries.extend(written);
    }

    /// What tells equal boundaries apart.
    fn scope(&self, boundary: &Boundary) -> (MachineId, Option<RoutingKey>, Option<Key>) {
        let (by_owner, by_key) = self.apart;
        let Boundary { machine, owner, key, .. } = *boundary;
        (machine, by_owner.then_some(owner), by_key.then_some(key))
    }

    /// While a machine holds too many tokens, evicts the live boundary that was used longest ago, among those of one
    /// effect the deepest. `shared` says how many tokens two requests have in common.
    fn make_room(&mut self, machine: MachineId, now: SimTime, shared: &dyn Fn(usize, usize) -> Tokens) {
        let Some(capacity) = self.capacity else { return };
        loop {
            let here = self.boundaries.iter().filter(|b| b.machine == machine);
            let live: Vec<_> = here.filter(|b| b.expiry >= now).collect();
            if self.distinct_tokens(&live, shared) <= capacity {
                return;
            }
            let goes_first = |b: &&&Boundary| (b.used.0, Reverse(b.depth), b.used.1);
            let victim = live.iter().min_by_key(goes_first).expect("no boundary, no tokens");
            let (scope, of, depth) = (self.scope(victim), victim.of, victim.depth);
            let copy = |b: &Boundary| self.scope(b) == scope && b.depth == depth && shared(b.of, of) >= depth;
            let kept: Vec<_> = self.boundaries.iter().map(|b| !copy(b)).collect();
            let mut kept = kept.into_iter();
            self.boundaries.retain(|_| kept.next().expect("one for each"));
        }
    }

    /// Tokens before these boundaries, each counted once in a scope.
    fn distinct_tokens(&self, live: &[&Boundary], shared: &dyn Fn(usize, usize) -> Tokens) -> u64 {
        let mut deepest = BTreeMap::new();
        for b in live {
            let depth = deepest.entry((self.scope(b), b.of)).or_insert(0);
            *depth = b.depth.max(*depth);
        }
        let prefixes: Vec<_> = deepest.into_iter().collect();
        let new_tokens = prefixes.iter().enumerate().map(|(number, ((scope, of), depth))| {
            let before = prefixes[..number].iter().filter(|((other, _), _)| other == scope);
            let known = before.map(|((_, other), end)| shared(*of, *other).min(*end)).max().unwrap_or(0);
            u64::from(depth.saturating_sub(known))
        });
        new_tokens.sum()
    }
}

/// The provider, naively.
struct Model {
    routing: Routing,
    write: Write,
    sent: Vec<Sent>,
    /// What routing keys are made of, in the order of first use.
    routing_keys: Vec<(u32, Head, Key)>,
    held: Shelf,
    /// What would be held if a write replaced nothing and there were room for all.
    never_dropped: Shelf,
}

impl Model {
    fn new(routing: &Routing, write: &Write) -> Self {
        let by_owner = write.when == When::Once || write.bodies == Bodies::One;
        let apart = (by_owner, routing.key_role == KeyRole::Identity);
        let shelf =
            |replaces, capacity| Shelf { boundaries: Vec::new(), replaces, apart, capacity, applied: 0 };
        Self {
            routing: routing.clone(),
            write: write.clone(),
            sent: Vec::new(),
            routing_keys: Vec::new(),
            held: shelf(write.bodies == Bodies::One, write.capacity_tokens),
            never_dropped: shelf(false, None),
        }
    }

    /// What becomes of one request.
    fn answer(&mut self, request: Request, drawn: &Drawn) -> Answer {
        let now = request.arrival;
        self.appear(now);
        let routing_key = self.routing_key(&request);
        let route = self.route(&request, routing_key, drawn);
        let shared = self.shared(&request.text);
        let mut sight = self.sight(&request, route.machine, now, &shared);
        sight.looks_at = self.looks_at(&request);

        let prompt = request.text.tokens;
        let found = self.held.deepest(&sight);
        let cached = self.report(found, prompt);
        // What is not reported was not used.
        let read = if cached == 0 { 0 } else { found };
        let deepest = self.written(prompt).last().copied().unwrap_or(0);
        let writes = deepest > 0
            && match self.write.when {
                When::Always => true,
                When::OnMiss => read == 0,
                When::Once => !self.held.has_body(routing_key, route.machine, now),
            };
        let written = if writes { deepest.saturating_sub(read) } else { 0 };
        let moment = match self.write.visible {
            Visible::Arrival => Span::ZERO,
            Visible::FirstToken => drawn.timing.ttft,
            Visible::Completion => drawn.timing.total,
        };
        let visible_at = now + moment + self.write.lag;
        let answer = Answer {
            arrival: now,
            routing_key,
            machine: route.machine,
            overflowed: route.overflowed,
            in_flight: 1 + self.in_flight(now, |_| true),
            cached,
            written,
            visible_at,
            attribution: self.attribute(&request, &sight, found, cached),
        };
        let (expiry, ends) = (now + drawn.lifetime, now + drawn.timing.total);
        self.sent.push(Sent {
            request,
            routing_key,
            route,
            shared,
            read,
            writes,
            expiry,
            visible_at,
            ends,
            applied: false,
        });
        answer
    }

    /// Applies what has become visible, in the order of (moment, request).
    fn appear(&mut self, now: SimTime) {
        let mut due: Vec<_> = (0..self.sent.len()).filter(|of| !self.sent[*of].applied).collect();
        due.retain(|of| self.sent[*of].visible_at <= now);
        due.sort_by_key(|of| self.sent[*of].visible_at);
        for of in due {
            let sent = &self.sent[of];
            let text = &sent.request.text;
            let shared = self.shared(text);
            let sight = self.sight(&sent.request, sent.route.machine, sent.visible_at, &shared);
            let writes = if sent.writes { self.written(text.tokens) } else { Vec::new() };
            self.held.apply(of, sent, &sight, &writes);
            self.never_dropped.apply(of, sent, &sight, &writes);
            let shared = |one: usize, other: usize| match one == other {
                true => self.sent[one].request.text.tokens,
                false => self.sent[one.max(other)].shared[one.min(other)],
            };
            self.held.make_room(sent.route.machine, sent.visible_at, &shared);
            self.sent[of].applied = true;
        }
    }

    fn shared(&self, text: &Text) -> Vec<Tokens> {
        self.sent.iter().map(|earlier| text.shared(&earlier.request.text)).collect()
    }

    fn sight<'a>(
        &self,
        request: &Request,
        machine: MachineId,
        now: SimTime,
        shared: &'a [Tokens],
    ) -> Sight<'a> {
        let key = (self.routing.key_role == KeyRole::Identity).then_some(request.key);
        Sight { now, machine, key, shared, looks_at: None }
    }

    /// Where a request looks, for semantics that care: at its own end, if that is a breakpoint, and by look-back at
    /// the ends of its session's earlier prompts, the latest ones and only those shorter than what came after.
    fn looks_at(&self, request: &Request) -> Option<Vec<Tokens>> {
        let Write { semantics, implicit_breakpoint, look_back_unit, look_back, .. } = self.write;
        if semantics != Semantics::Breakpoints {
            return None;
        }
        let look_back = look_back as usize;
        let mut ends = Vec::new();
        for earlier in self.sent.iter().map(|sent| &sent.request).filter(|earlier| request.follows(earlier)) {
            ends.retain(|end| *end < earlier.text.tokens);
            ends.push(earlier.text.tokens);
        }
        ends.retain(|end| *end < request.text.tokens);
        let own = implicit_breakpoint.then_some(request.text.tokens);
        Some(match look_back_unit {
            LookBack::Breakpoint => own.into_iter().take(look_back).collect(),
            LookBack::Message => {
                let earlier = ends.into_iter().rev().take(look_back);
                earlier.chain([request.text.tokens]).collect()
            }
        })
    }
}

/// Routing.
impl Model {
    fn routing_key(&mut self, request: &Request) -> RoutingKey {
        let made_of = (request.partition, request.head(self.routing.hash_tokens), request.key);
        let known = self.routing_keys.iter().position(|other| *other == made_of);
        let number = known.unwrap_or_else(|| {
            self.routing_keys.push(made_of);
            self.routing_keys.len() - 1
        });
        RoutingKey(number as u32)
    }

    fn route(&self, request: &Request, routing_key: RoutingKey, drawn: &Drawn) -> Route {
        let ranked = drawn.ranked;
        let allowed = self.allowed_ranks(request, routing_key, ranked);
        // Chance chooses among the allowed; a machine that is not allowed shows as a disagreement.
        let rank = *allowed.iter().find(|rank| ranked[**rank] == drawn.machine).unwrap_or(&allowed[0]);
        let offered = match self.routing.overflow {
            Overflow::Cascade => ranked[..=rank].to_vec(),
            Overflow::None | Overflow::Random => vec![ranked[0], ranked[rank]],
        };
        let has_home = matches!(self.routing.rule, Rule::Home | Rule::BoundedLoad);
        let overflowed = has_home && rank > 0 && !self.goes_anywhere();
        Route { rank, machine: ranked[rank], overflowed, offered }
    }

    /// Whether chance may send any request to any machine, by exploration or by ranks that are drawn anew.
    fn goes_anywhere(&self) -> bool {
        self.routing.explore > 0.0 || self.routing.churn != Span::UNLIMITED
    }

    fn allowed_ranks(&self, request: &Request, routing_key: RoutingKey, ranked: &[MachineId]) -> Vec<usize> {
        if self.goes_anywhere() {
            return (0..ranked.len()).collect();
        }
        let machines = self.routing.machines;
        let pool = 0..self.routing.pool as usize;
        match (self.routing.rule, self.routing.pick) {
            (Rule::Home, _) => self.home_ranks(request, routing_key, ranked),
            (Rule::Pool, Pick::Random) => pool.collect(),
            (Rule::Pool, Pick::LeastLoaded) => {
                let load = |rank: &usize| self.in_flight(request.arrival, |machine| machine == ranked[*rank]);
                pool.min_by_key(load).into_iter().collect()
            }
            (Rule::BoundedLoad, _) => {
                let calm = |machine: &MachineId| !self.is_overloaded(*machine, ranked, request.arrival);
                ranked.iter().position(calm).into_iter().collect()
            }
            (Rule::Random, _) => (0..ranked.len()).collect(),
            (Rule::RoundRobin, _) => {
                let before = self.sent.iter().filter(|e| e.request.partition == request.partition).count();
                let next = MachineId(request.partition * machines + before as u32 % machines);
                ranked.iter().position(|machine| *machine == next).into_iter().collect()
            }
        }
    }

    /// The ranks at which rule `home` may serve a request.
    fn home_ranks(&self, request: &Request, routing_key: RoutingKey, ranked: &[MachineId]) -> Vec<usize> {
        let Routing { overflow, rate_over, rate_count, .. } = self.routing;
        let last = match overflow {
            Overflow::None => 0,
            Overflow::Cascade => ranked.len() - 1,
            Overflow::Random => (ranked.len() - 1).min(self.routing.fanout as usize),
        };
        let limit = self.routing.limit_rpm as usize;
        let each_rank_has_its_rate = rate_over == RateOver::Machine || rate_count == RateCount::Admitted;
        let full = |rank: usize| {
            if each_rank_has_its_rate {
                self.rate(request, routing_key, rank, ranked[rank]) >= limit
            } else {
                // One rate fills the ranks one after another.
                self.rate(request, routing_key, 0, ranked[0]) >= limit * (rank + 1)
            }
        };
        if last == 0 || !full(0) {
            return vec![0];
        }
        match overflow {
            Overflow::Random if each_rank_has_its_rate => {
                let free: Vec<_> = (1..=last).filter(|rank| !full(*rank)).collect();
                if free.is_empty() { vec![last] } else { free }
            }
            Overflow::Random if !full(last) => (1..=last).collect(),
            Overflow::Random => vec![last],
            Overflow::Cascade | Overflow::None => vec![(1..last).find(|rank| !full(*rank)).unwrap_or(last)],
        }
    }

    /// Earlier requests that count towards the rate of a rank, which stands for a machine.
    fn rate(&self, request: &Request, routing_key: RoutingKey, rank: usize, machine: MachineId) -> usize {
        let Routing { rate_over, rate_count, .. } = self.routing;
        let now = request.arrival;
        let minute = |time: SimTime| time.0 / Span::MINUTE.0;
        let in_window = |earlier: &Sent| match rate_count {
            RateCount::Tumbling => minute(earlier.request.arrival) == minute(now),
            RateCount::Admitted | RateCount::Arrivals => earlier.request.arrival + Span::MINUTE > now,
        };
        let same_key = |earlier: &Sent| {
            (earlier.request.partition, earlier.request.key) == (request.partition, request.key)
        };
        let admitted_only = rate_count == RateCount::Admitted;
        let counts = |earlier: &Sent| match rate_over {
            RateOver::Machine if admitted_only => earlier.route.machine == machine,
            RateOver::Machine => earlier.route.offered.contains(&machine),
            _ if admitted_only && earlier.route.rank != rank => false,
            RateOver::PrefixAndKey => earlier.routing_key == routing_key,
            RateOver::Key => same_key(earlier),
        };
        self.sent.iter().filter(|earlier| in_window(earlier) && counts(earlier)).count()
    }

    /// Whether a machine of this fleet is over both bounds.
    fn is_overloaded(&self, machine: MachineId, fleet: &[MachineId], now: SimTime) -> bool {
        let Routing { load_factor, load_margin, .. } = self.routing;
        let mean = f64::from(self.in_flight(now, |other| fleet.contains(&other))) / fleet.len() as f64;
        let load = f64::from(self.in_flight(now, |other| other == machine));
        load > load_factor * mean && load > mean + f64::from(load_margin)
    }

    /// Earlier requests that are not complete yet, on machines that count.
    fn in_flight(&self, now: SimTime, counts: impl Fn(MachineId) -> bool) -> u32 {
        self.sent.iter().filter(|earlier| earlier.ends > now && counts(earlier.route.machine)).count() as u32
    }
}

/// Write semantics and the report.
impl Model {
    /// Every depth at which a prompt of so many tokens has a boundary.
    fn boundaries(&self, prompt: Tokens) -> Vec<Tokens> {
        let Write { interval, hidden_tokens: hidden, .. } = self.write;
        match self.write.semantics {
            // A recorded request has one message, which ends where it does.
            Semantics::WholeBody | Semantics::Breakpoints => {
                (prompt > 0).then_some(prompt).into_iter().collect()
            }
            Semantics::PartialPrefix | Semantics::FirstTokens => {
                let from_hidden_start = (hidden + 1..=hidden + prompt).filter(|depth| depth % interval == 0);
                from_hidden_start.map(|depth| depth - hidden).collect()
            }
        }
    }

    /// The deepest boundary of a prompt of so many tokens.
    fn boundary(&self, prompt: Tokens) -> Tokens {
        self.boundaries(prompt).last().copied().unwrap_or(0)
    }

    /// The boundaries that a prompt of so many tokens writes.
    fn written(&self, prompt: Tokens) -> Vec<Tokens> {
        let Write { semantics, first_tokens, min_tokens, .. } = self.write;
        let mut depths = self.boundaries(prompt);
        if semantics == Semantics::Breakpoints && !self.write.implicit_breakpoint {
            depths.clear();
        }
        depths.retain(|depth| semantics != Semantics::FirstTokens || *depth <= first_tokens);
        // Nobody could read anything of a prompt whose deepest boundary is below the minimum.
        if depths.last().is_some_and(|deepest| *deepest >= min_tokens) { depths } else { Vec::new() }
    }

    fn report(&self, boundary: Tokens, prompt: Tokens) -> Tokens {
        let resumable = match self.write.computes_last_token {
            true => boundary.min(prompt.saturating_sub(1)),
            false => boundary.min(prompt),
        };
        let floored = resumable / self.write.report_step * self.write.report_step;
        Some(floored).filter(|reported| *reported >= self.write.min_tokens).unwrap_or(0)
    }
}

/// Attribution.
impl Model {
    /// Why the rest was uncached, of a request that found this boundary and was told `cached`.
    fn attribute(&self, request: &Request, sight: &Sight, found: Tokens, cached: Tokens) -> Attribution {
        let prompt = request.text.tokens;
        let deepest = |set: &dyn Fn(&Sent) -> bool, depth: &dyn Fn(usize) -> Tokens| {
            let members = (0..self.sent.len()).filter(|of| set(&self.sent[*of]));
            members.map(depth).max().unwrap_or(0)
        };
        let shared = |of: usize| sight.shared[of];
        let stored = |of: usize| match self.write.semantics {
            Semantics::PartialPrefix => shared(of),
            Semantics::FirstTokens => shared(of).min(self.write.first_tokens),
            Semantics::WholeBody | Semantics::Breakpoints => {
                let body = &self.sent[of].request.text;
                let found = body.is_prefix_of(&request.text) && sight.looks_at(body.tokens);
                if found { shared(of) } else { 0 }
            }
        };
        let in_partition = |earlier: &Sent| earlier.request.partition == request.partition;
        let readable = |e: &Sent| in_partition(e) && sight.key.is_none_or(|key| key == e.request.key);
        let visible = |e: &Sent| readable(e) && e.applied;
        let here = |e: &Sent| visible(e) && e.route.machine == sight.machine;
        let mut levels = [
            deepest(&|_| true, &shared),
            deepest(&|e| e.writes, &stored),
            deepest(&|e| e.writes && in_partition(e), &stored),
            deepest(&|e| e.writes && readable(e), &stored),
            deepest(&|e| e.writes && visible(e), &stored),
            deepest(&|e| e.writes && here(e), &stored),
            self.never_dropped.deepest(sight),
            found,
        ];
        for level in (1..levels.len()).rev() {
            levels[level - 1] = levels[level - 1].max(levels[level]);
        }
        let not_expired = |e: &Sent| in_partition(e) && sight.now <= e.expiry;
        let routed_perfectly = deepest(&not_expired, &shared);
        Attribution {
            lost: self.lost(request, levels, cached),
            ceiling_infinite: self.report(self.boundary(levels[0]), prompt),
            ceiling_lifetime: self.report(self.boundary(routed_perfectly), prompt),
        }
    }

    /// The depth lost at each step: from what was sent and what was written on, counted in boundaries.
    fn lost(&self, request: &Request, levels: [Tokens; 8], cached: Tokens) -> [Tokens; Cause::ALL.len()] {
        let [sent, written, ..] = levels;
        let [_, s1, s2, s3, s4, s5, s6, s7] = levels.map(|depth| self.boundary(depth));
        let changed = self.changed(request, sent);
        let by_cause = |cause: &Cause| match cause {
            Cause::New => request.text.tokens - sent - changed,
            Cause::Changed => changed,
            Cause::Unwritten => sent - written,
            Cause::OtherAccount => s1 - s2,
            Cause::OtherKey => s2 - s3,
            Cause::NotYetVisible => s3 - s4,
            Cause::OtherMachine => s4 - s5,
            Cause::Expired => s5 - s6,
            Cause::Evicted => s6 - s7,
            Cause::Rounding => (written - s1) + (s7 - cached),
        };
        let mut lost = [0; Cause::ALL.len()];
        for cause in Cause::ALL {
            lost[cause as usize] = by_cause(&cause);
        }
        lost
    }

    /// Tokens that the session's own previous prompt had too, but in other words.
    fn changed(&self, request: &Request, sent: Tokens) -> Tokens {
        let same_session = |e: &&Sent| request.follows(&e.request);
        let Some(previous) = self.sent.iter().rev().find(same_session) else { return 0 };
        let (previous, text) = (&previous.request.text, &request.text);
        if previous.is_prefix_of(text) { 0 } else { previous.tokens.min(text.tokens).saturating_sub(sent) }
    }

    /// The same law in one sentence, where it holds (partial prefixes, always, any number of bodies, any room): the
    /// deepest boundary shared with any earlier request j here, visible by now, with t_i - t_j <= L_j.
    fn cached_by_the_sentence(&self, request: &Request, machine: MachineId) -> Option<Tokens> {
        let Write { semantics, when, bodies, capacity_tokens, .. } = self.write;
        let wanted = (Semantics::PartialPrefix, When::Always, Bodies::Unbounded, None);
        if (semantics, when, bodies, capacity_tokens) != wanted {
            return None;
        }
        let shared = self.shared(&request.text);
        let sight = self.sight(request, machine, request.arrival, &shared);
        let counts = |e: &Sent| {
            e.route.machine == machine
                && sight.key.is_none_or(|key| key == e.request.key)
                && e.visible_at <= sight.now
                && sight.now <= e.expiry
        };
        let earlier = self.sent.iter().zip(&shared).filter(|(e, _)| counts(e));
        let deepest = earlier.map(|(_, depth)| *depth).max().unwrap_or(0);
        Some(self.report(self.boundary(deepest), request.text.tokens))
    }
}

/// One line of a trace.
#[derive(Clone, Debug)]
struct Line {
    time_ms: u64,
    ids: Vec<u64>,
    prompt: Tokens,
    output: Tokens,
    session: Option<u64>,
    key: Key,
    first256: Option<u64>,
}

impl Line {
    fn json(&self) -> String {
        let mut json = serde_json::json!({
            "timestamp": self.time_ms, "input_length": self.prompt, "output_length": self.output,
        });
        // Both ways to write ids, in turn.
        if self.prompt.is_multiple_of(2) {
            json["hash_ids"] = self.ids.clone().into();
        } else {
            json["runs"] = self.ids.iter().map(|id| serde_json::json!([id, 1])).collect();
        }
        let names = [("session", self.session), ("key", self.key), ("first256", self.first256)];
        for (field, name) in names {
            if let Some(name) = name {
                json[field] = format!("{field}-{name}").into();
            }
        }
        json.to_string()
    }
}

/// One recorded workload.
#[derive(Clone, Debug)]
struct Recording {
    partition: u32,
    block_tokens: Tokens,
    ids_by_session: bool,
    start: Option<Span>,
    lines: Vec<Line>,
}

impl Recording {
    fn request(&self, workload: u32, line: u64, keys_are_sent: bool) -> Request {
        let recorded = &self.lines[line as usize - 1];
        let nanos = |ms: u64| ms * 1_000_000;
        let first = nanos(self.lines[0].time_ms);
        let arrival = match self.start {
            Some(start) => start.0 + nanos(recorded.time_ms) - first,
            None => nanos(recorded.time_ms) - first / Span::DAY.0 * Span::DAY.0,
        };
        let numbering = recorded.session.filter(|_| self.ids_by_session);
        let blocks: Vec<_> = recorded.ids.iter().map(|id| (numbering, *id, self.block_tokens)).collect();
        let shareable = recorded.prompt.min(blocks.len() as Tokens * self.block_tokens);
        Request {
            workload,
            line,
            partition: self.partition,
            session: recorded.session,
            key: recorded.key.filter(|_| keys_are_sent),
            arrival: SimTime(arrival),
            text: Text { date: 0, blocks, shareable, tokens: recorded.prompt },
            first256: recorded.first256,
        }
    }

    fn random(dice: &mut Dice, partition: u32, block_tokens: Tokens, unit_ms: u64) -> Self {
        // Swarm: what a trace has at all is drawn first, so that some cases have only one difficulty.
        let (has_sessions, has_keys, has_heads) = (dice.chance(60), dice.chance(70), dice.chance(15));
        let ids_by_session = has_sessions && dice.chance(20);
        let (letters, longest) = (1 + dice.below(3), 1 + dice.below(8));
        // From midnight on, a little later, on another day, or into the next one.
        let mut time_ms = dice.one(&[0, 0, 7 * unit_ms, 90_000_000 + unit_ms, 86_400_000 - 9 * unit_ms]);
        let mut lines = Vec::<Line>::new();
        for _ in 0..dice.one(&[5, 10, 20, 35]) {
            time_ms += unit_ms * dice.one(&[0, 0, 1, 1, 2, 3, 5, 10]);
            let ids = ids(dice, &lines, letters, longest);
            let full = ids.len() as Tokens * block_tokens;
            let part = 1 + dice.below(u64::from(block_tokens) - 1) as Tokens;
            // The last block full, left out, or partly filled.
            let prompt = match dice.below(3) {
                0 => full,
                1 => full + part,
                _ => full.saturating_sub(block_tokens - part),
            };
            // A trace whose ids are local to a session must name it on every line.
            let session = if ids_by_session { Some(dice.below(3)) } else { dice.maybe(3) };
            lines.push(Line {
                time_ms,
                ids,
                prompt,
                output: dice.one(&[0, 1, 20]),
                session: session.filter(|_| has_sessions),
                key: dice.maybe(3).filter(|_| has_keys),
                first256: dice.maybe(2).filter(|_| has_heads),
            });
        }
        let start = dice.chance(20).then(|| Span(unit_ms * 1_000_000 * dice.below(9)));
        Self { partition, block_tokens, ids_by_session, start, lines }
    }

    fn jsonl(&self) -> String {
        self.lines.iter().map(|line| line.json() + "\n").collect()
    }

    /// Its part of a scenario.
    fn settings(&self, number: usize) -> String {
        let Self { partition, block_tokens, ids_by_session, start, .. } = self;
        let ids = if *ids_by_session { "session" } else { "global" };
        let start = start.map_or(String::new(), |start| format!("start = '{start}', "));
        format!(
            "client.workload.w{number} = {{ partition = 'p{partition}', trace = {{ {start}file = {{ \
             path = '{number}.jsonl', block_tokens = {block_tokens}, time_unit = 'ms', ids = '{ids}' }} }} }}\n"
        )
    }
}

/// The ids of a prompt: mostly an earlier one sent again, longer, shorter or edited.
fn ids(dice: &mut Dice, lines: &[Line], letters: u64, longest: u64) -> Vec<u64> {
    let mut ids = if lines.is_empty() { Vec::new() } else { dice.one(lines).ids };
    match dice.below(6) {
        0 => ids.clear(),
        1 => ids.truncate(dice.below(1 + ids.len() as u64) as usize),
        2 => {
            let edited = dice.below(1 + ids.len() as u64) as usize;
            let letter = dice.below(letters);
            ids.get_mut(edited).into_iter().for_each(|id| *id = letter);
        }
        3 => return ids,
        _ => {}
    }
    let more = dice.below(1 + longest.saturating_sub(ids.len() as u64));
    ids.extend((0..more).map(|_| dice.below(letters)));
    ids
}

/// Every choice of a case: deterministic, from its seed.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A value below `n`, or none in one of four draws.
    fn maybe(&mut self, n: u64) -> Option<u64> {
        (!self.chance(25)).then(|| self.below(n))
    }
}

/// Recorded workloads, written to files once for all the cases that play them.
struct Traffic {
    /// All times are small multiples of one unit, so that gaps, lifetimes and latencies often tie.
    unit_ms: u64,
    recordings: Vec<Recording>,
    folder: TempDir,
}

impl Traffic {
    fn new(unit_ms: u64, recordings: Vec<Recording>) -> Rc<Self> {
        let folder = tempfile::tempdir().expect("a folder for traces");
        for (number, recording) in recordings.iter().enumerate() {
            let path = folder.path().join(format!("{number}.jsonl"));
            std::fs::write(path, recording.jsonl()).expect("a trace is written");
        }
        Rc::new(Self { unit_ms, recordings, folder })
    }

    fn random(seed: u64) -> Rc<Self> {
        let mut dice = Dice::new(seed);
        let unit_ms = dice.one(&[1, 100, 1_000, 10_000, 20_000, 30_000]);
        let block_tokens = dice.one(&[4, 7, 16, 32, 64, 128]);
        let mut recordings = vec![Recording::random(&mut dice, 0, block_tokens, unit_ms)];
        if dice.chance(40) {
            let block_tokens = if dice.chance(80) { block_tokens } else { 5 };
            let partition = dice.below(2) as u32;
            recordings.push(Recording::random(&mut dice, partition, block_tokens, unit_ms));
        }
        Self::new(unit_ms, recordings)
    }

    /// Lines by second, key and blocks of 100 tokens.
    fn of(lines: &[(u64, u64, &[u64])]) -> Rc<Self> {
        let line = |(second, key, ids): &(u64, u64, &[u64])| Line {
            time_ms: second * 1_000,
            ids: ids.to_vec(),
            prompt: ids.len() as Tokens * 100,
            output: 0,
            session: None,
            key: Some(*key),
            first256: None,
        };
        let lines = lines.iter().map(line).collect();
        let recording =
            Recording { partition: 0, block_tokens: 100, ids_by_session: false, start: None, lines };
        Self::new(1_000, vec![recording])
    }

    /// The same traffic under other names.
    fn relabelled(&self) -> Rc<Self> {
        let mut recordings = self.recordings.clone();
        for line in recordings.iter_mut().flat_map(|recording| &mut recording.lines) {
            line.ids.iter_mut().for_each(|id| *id = 1_000 - 3 * *id);
            for name in [&mut line.session, &mut line.key, &mut line.first256] {
                *name = name.map(|number| 7 - number);
            }
        }
        Self::new(self.unit_ms, recordings)
    }
}

/// A small scenario: its traffic, and the other settings by path, as TOML.
#[derive(Clone)]
struct Case {
    traffic: Rc<Traffic>,
    settings: BTreeMap<String, String>,
}

impl fmt::Display for Case {
    /// All that is needed to play it by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scenario())?;
        for (number, recording) in self.traffic.recordings.iter().enumerate() {
            write!(f, "--- {number}.jsonl\n{}", recording.jsonl())?;
        }
        Ok(())
    }
}

impl Case {
    /// The ideal provider, with some settings of its own.
    fn with(traffic: &Rc<Traffic>, settings: &[(&str, &str)]) -> Self {
        let mut case = Self { traffic: Rc::clone(traffic), settings: BTreeMap::new() };
        case.set("provider.profile", "'ideal'");
        case.set_all(settings);
        case
    }

    fn random(seed: u64, traffic: &Rc<Traffic>) -> Self {
        let mut dice = Dice::new(seed);
        let mut case = Self::with(traffic, &[]);
        case.set("seed", seed);
        case.set("client.key.strategy", dice.one(&["'recorded'", "'recorded'", "'recorded'", "'none'"]));
        case.routing(&mut dice);
        case.write(&mut dice);
        case.times(&mut dice);
        if dice.chance(33) {
            case.capacity(&mut dice);
        }
        case
    }

    fn set(&mut self, path: &str, value: impl fmt::Display) {
        self.settings.insert(path.into(), value.to_string());
    }

    fn set_all(&mut self, settings: &[(&str, &str)]) {
        settings.iter().for_each(|(path, value)| self.set(path, value));
    }

    fn routing(&mut self, dice: &mut Dice) {
        let machines = 1 + dice.below(6);
        let rule = dice.one(&["home", "home", "home", "pool", "bounded_load", "random", "round_robin"]);
        let overflow = dice.one(&["none", "cascade", "cascade", "random", "random"]);
        // Where any machine is allowed, nothing that the model cannot see may be counted: no rates, no turns.
        let counts = !matches!((rule, overflow), ("home", "none") | ("pool" | "random", _));
        let anywhere = !counts && dice.chance(20);
        let words = [
            ("rule", rule),
            ("overflow", overflow),
            ("churn", if anywhere { dice.one(&["unlimited", "100s"]) } else { "unlimited" }),
            ("rate_over", dice.one(&["prefix_and_key", "key", "machine"])),
            ("rate_count", dice.one(&["admitted", "arrivals", "tumbling"])),
            ("pick", dice.one(&["random", "least_loaded"])),
            ("key_role", dice.one(&["routing", "identity"])),
        ];
        for (name, word) in words {
            self.set(&format!("provider.routing.{name}"), format_args!("'{word}'"));
        }
        let numbers = [
            ("machines", machines),
            ("hash_tokens", dice.one(&[1, 8, 32, 100, 256])),
            ("limit_rpm", 1 + dice.below(3)),
            ("fanout", 1 + dice.below(4)),
            ("pool", 1 + dice.below(machines)),
            ("load_margin", dice.below(2)),
        ];
        for (name, number) in numbers {
            self.set(&format!("provider.routing.{name}"), number);
        }
        self.set("provider.routing.load_factor", dice.one(&["1.0", "1.25", "2.0"]));
        self.set("provider.routing.explore", if anywhere { "0.3" } else { "0.0" });
    }

    fn write(&mut self, dice: &mut Dice) {
        let block = self.traffic.recordings[0].block_tokens;
        let interval = dice.one(&[block / 4 + 1, block / 2, block, block, block + 1, 2 * block, 5 * block]);
        let words = [
            (
                "semantics",
                dice.one(&["partial_prefix", "partial_prefix", "whole_body", "first_tokens", "breakpoints"]),
            ),
            ("when", dice.one(&["always", "on_miss", "once"])),
            ("bodies", dice.one(&["unbounded", "one"])),
            ("visible", dice.one(&["arrival", "first_token", "completion"])),
        ];
        for (name, word) in words {
            self.set(&format!("provider.write.{name}"), format_args!("'{word}'"));
        }
        let numbers = [
            ("interval", interval),
            ("first_tokens", block * dice.one(&[1, 2, 4]) + dice.one(&[0, 1])),
            ("hidden_tokens", dice.one(&[0, 0, 1, block, 75])),
            ("min_tokens", dice.one(&[0, 0, 1, block, 2 * block + 1])),
            ("report_step", dice.one(&[1, 1, 3, block, interval])),
        ];
        for (name, number) in numbers {
            self.set(&format!("provider.write.{name}"), number);
        }
        self.set("provider.write.computes_last_token", dice.chance(50));
        self.set("provider.write.implicit_breakpoint", dice.chance(85));
        let unit = dice.one(&["message", "message", "breakpoint"]);
        self.set("provider.write.look_back_unit", format_args!("'{unit}'"));
        self.set("provider.write.look_back", 1 + dice.below(4));
        let lag = self.span(dice.one(&[0, 0, 0, 1, 2]));
        self.set("provider.write.lag", format_args!("'{lag}'"));
        self.set("provider.write.hidden_date", dice.chance(40));
    }

    /// Room for a few blocks, so that much is evicted.
    fn capacity(&mut self, dice: &mut Dice) {
        let block = u64::from(self.traffic.recordings[0].block_tokens);
        let tokens = block * dice.one(&[3, 4, 6, 9, 14, 30]) + dice.below(block);
        self.set("provider.write.capacity_tokens", tokens);
    }

    /// Lifetimes and latencies.
    fn times(&mut self, dice: &mut Dice) {
        let (short, long) = (1 + dice.below(4), 5 + dice.below(20));
        let (least, middle, most) = (self.span(short), self.span(long), self.span(2 * long));
        let lifetime = match dice.below(4) {
            0 => least,
            1 => middle,
            2 => format!("uniform({least}..{middle})"),
            _ => format!("choice({least}: 1, {middle}: 2, {most}: 1)"),
        };
        self.set("provider.retention.lifetime.ideal", format_args!("'{lifetime}'"));
        self.set("provider.latency.slots", 1 + dice.below(3));
        self.set("provider.latency.noise_sigma", dice.one(&["0.0", "0.0", "0.0", "0.5"]));
        for (name, units) in [("network", [0, 0, 1, 2]), ("overhead", [0, 0, 1, 3])] {
            let span = self.span(dice.one(&units));
            self.set(&format!("provider.latency.{name}"), format_args!("'{span}'"));
        }
        for name in ["per_uncached_token", "per_cached_token", "per_output_token"] {
            let nanos = self.traffic.unit_ms * dice.one(&[0, 0, 1_000, 30_000]);
            self.set(&format!("provider.latency.{name}"), format_args!("'{nanos}ns'"));
        }
    }

    fn span(&self, units: u64) -> String {
        format!("{}ms", units * self.traffic.unit_ms)
    }

    fn scenario(&self) -> String {
        let settings = self.settings.iter().map(|(path, value)| format!("{path} = {value}\n"));
        let recordings = self.traffic.recordings.iter().enumerate();
        settings.chain(recordings.map(|(number, recording)| recording.settings(number))).collect()
    }

    /// What the engine makes of it: every outcome, with the machines of its routing key from first to last.
    fn play(&self) -> (Loaded, Vec<(Outcome, Vec<MachineId>)>) {
        let folder = self.traffic.folder.path();
        let loaded = Loaded::from_text("case", "case.toml", &self.scenario(), folder, &[]);
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}\n{self}"));
        let mut simulation = simulation(&loaded, 0).expect("the traces open");
        let mut outcomes = Vec::new();
        let mut observer = |outcome: &Outcome| outcomes.push(*outcome);
        simulation.run(&mut observer).unwrap_or_else(|error| panic!("{error}\n{self}"));
        let lines: usize = self.traffic.recordings.iter().map(|recording| recording.lines.len()).sum();
        assert_eq!(outcomes.len(), lines, "every line is sent");
        let with_ranking = outcomes.into_iter().map(|outcome| {
            let ranked = simulation.ranked(&outcome).to_vec();
            (outcome, ranked)
        });
        (loaded, with_ranking.collect())
    }

    fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.play().1.into_iter().map(|(outcome, _)| outcome)
    }

    fn cached(&self) -> Vec<Tokens> {
        self.outcomes().map(|outcome| outcome.cached).collect()
    }

    /// Plays the case on both; the first difference, or else what both say.
    fn compare(&self) -> Result<Vec<Answer>, String> {
        let (loaded, outcomes) = self.play();
        let Loaded { scenario, .. } = &loaded;
        let keys_are_sent = scenario.client.key.strategy == Strategy::Recorded;
        let mut model = Model::new(&scenario.provider.routing, &scenario.provider.write);
        let mut answers = Vec::new();
        for (number, (outcome, ranked)) in outcomes.iter().enumerate() {
            let recording = &self.traffic.recordings[outcome.workload as usize];
            let mut request = recording.request(outcome.workload, outcome.line, keys_are_sent);
            if scenario.provider.write.hidden_date {
                request.text.date = request.arrival.0 / Span::DAY.0;
            }
            let answer = Answer::of(outcome);
            check(&mut model, request, outcome, ranked, &answer)
                .map_err(|difference| format!("request {number}: {difference}\n{self}"))?;
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// Compares the engine's answer to one request with the model's, and with what is true of every answer.
fn check(
    model: &mut Model,
    request: Request,
    outcome: &Outcome,
    ranked: &[MachineId],
    answer: &Answer,
) -> Result<(), String> {
    let Outcome { prompt, cached, lifetime, timing, machine, .. } = *outcome;
    let Attribution { lost, ceiling_lifetime, ceiling_infinite } = answer.attribution;
    let by_the_sentence = model.cached_by_the_sentence(&request, machine);
    let expected = model.answer(request, &Drawn { lifetime, timing, ranked, machine });
    if *answer != expected {
        return Err(format!("expected {expected:?}\nthe engine says {answer:?}"));
    }
    if by_the_sentence.is_some_and(|sentence| sentence != cached) {
        return Err(format!("by the sentence {by_the_sentence:?} are cached, by the model {answer:?}"));
    }
    if lost.iter().sum::<Tokens>() != prompt - cached {
        return Err(format!("the causes do not add up to {prompt} - {cached}: {answer:?}"));
    }
    if !(cached <= ceiling_lifetime && ceiling_lifetime <= ceiling_infinite) {
        return Err(format!("a ceiling is too low: {answer:?}"));
    }
    Ok(())
}

/// Random cases by name: several providers meet each traffic.
fn cases(traffics: std::ops::Range<u64>) -> impl Iterator<Item = (String, Case)> {
    traffics.flat_map(|number| {
        let traffic = Traffic::random(number);
        (0..8).map(move |variant| {
            let seed = 8 * number + variant;
            (format!("traffic {number}, provider {seed}"), Case::random(seed, &traffic))
        })
    })
}

#[test]
fn the_engine_agrees_with_the_naive_model() {
    let (mut lost, mut cached, mut overflowed) = ([0; Cause::ALL.len()], 0, 0);
    for (name, case) in cases(0..750) {
        for answer in case.compare().unwrap_or_else(|difference| panic!("{name}, {difference}")) {
            cached += u64::from(answer.cached > 0);
            overflowed += u64::from(answer.overflowed);
            let causes = lost.iter_mut().zip(answer.attribution.lost);
            causes.for_each(|(requests, tokens)| *requests += u64::from(tokens > 0));
        }
    }
    // A comparison of empty caches would prove nothing.
    assert!(lost.iter().all(|requests| *requests > 300), "every cause occurs: {lost:?}");
    assert!(cached > 10_000 && overflowed > 5_000, "{cached} read something, {overflowed} overflowed");
}

#[test]
fn the_engine_agrees_where_all_share_one_small_room() {
    let (mut evicted, mut dice) = (0, Dice::new(0));
    for (name, mut case) in cases(800..1_000) {
        case.set_all(&[("provider.routing.machines", "1"), ("provider.routing.pool", "1")]);
        case.capacity(&mut dice);
        let answers = case.compare().unwrap_or_else(|difference| panic!("{name}, {difference}"));
        let lost = |answer: &Answer| answer.attribution.lost[Cause::Evicted as usize];
        evicted += answers.iter().filter(|answer| lost(answer) > 0).count();
    }
    assert!(evicted > 1_000, "only {evicted} requests lost something to eviction");
}

/// Switches the planted bug on for this thread, and off again however the test ends.
struct Planted;

impl Planted {
    fn bug() -> Self {
        planted::SHORTENS.set(true);
        Self
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        planted::SHORTENS.set(false);
    }
}

#[test]
fn a_planted_bug_is_found() {
    let planted = Planted::bug();
    let found = cases(0..20).find(|(_, case)| case.compare().is_err());
    drop(planted);
    let (name, case) = found.expect("a renewal that shortens lifetimes shows");
    case.compare().unwrap_or_else(|difference| panic!("only the planted bug is found: {name}, {difference}"));
}

/// Where the metamorphic rules hold: every request writes, nothing is replaced, there is room for all, what is
/// written is visible at once, and routing does not follow load (which depends on what was cached).
const REGULAR: [(&str, &str); 7] = [
    ("provider.write.capacity_tokens", "1_000_000_000"),
    ("provider.write.when", "'always'"),
    ("provider.write.bodies", "'unbounded'"),
    ("provider.write.visible", "'arrival'"),
    ("provider.write.lag", "'0s'"),
    ("provider.routing.pick", "'random'"),
    ("provider.routing.load_margin", "1000"),
];

/// Asserts that `more` reads at least what `less` reads, request by request, on every case, and somewhere more.
fn assert_never_less(cases: impl Iterator<Item = (String, Case, Case)>) {
    let mut gained = 0;
    for (name, less, more) in cases {
        let (less, more) = (less.cached(), more.cached());
        assert!(less.iter().zip(&more).all(|(less, more)| less <= more), "{name}: {less:?}, then {more:?}");
        gained += less.iter().zip(&more).filter(|(less, more)| less < more).count();
    }
    assert!(gained > 100, "only {gained} requests differ");
}

#[test]
fn longer_lifetimes_never_lose_tokens() {
    assert_never_less(cases(1_000..1_040).map(|(name, mut short)| {
        short.set_all(&REGULAR);
        let mut long = short.clone();
        for (case, units) in [(&mut short, 3), (&mut long, 7)] {
            case.set("provider.retention.lifetime.ideal", format_args!("'{}'", case.span(units)));
        }
        (name, short, long)
    }));
}

#[test]
fn a_whole_body_never_reads_more_than_a_partial_prefix() {
    assert_never_less(cases(2_000..2_040).map(|(name, mut whole)| {
        whole.set_all(&REGULAR);
        whole.set("provider.write.hidden_tokens", 0);
        whole.set("provider.write.report_step", whole.settings["provider.write.interval"].clone());
        let mut partial = whole.clone();
        whole.set("provider.write.semantics", "'whole_body'");
        partial.set("provider.write.semantics", "'partial_prefix'");
        (name, whole, partial)
    }));
}

#[test]
fn a_whole_body_reads_more_where_reports_are_finer_than_boundaries() {
    let traffic = Traffic::of(&[(0, 0, &[1]), (1, 0, &[1, 2])]);
    let read = |semantics| {
        let coarse = [("provider.write.interval", "64"), ("provider.write.semantics", semantics)];
        Case::with(&traffic, &coarse).cached()
    };
    assert_eq!(read("'partial_prefix'"), [0, 64]);
    assert_eq!(read("'whole_body'"), [0, 100]);
}

#[test]
fn longer_lifetimes_lose_tokens_where_only_misses_write() {
    let traffic = Traffic::of(&[(0, 0, &[1]), (400, 0, &[1, 2]), (500, 0, &[1, 2, 3])]);
    for semantics in ["'partial_prefix'", "'whole_body'"] {
        let read = |lifetime| {
            let on_miss = [
                ("provider.write.when", "'on_miss'"),
                ("provider.write.semantics", semantics),
                ("provider.retention.lifetime.ideal", lifetime),
            ];
            Case::with(&traffic, &on_miss).cached()
        };
        assert_eq!(read("'300s'"), [0, 0, 200], "the first is dead by then: the second writes, and is read");
        assert_eq!(read("'600s'"), [0, 100, 100], "the second reads the first, and so writes nothing");
    }
}

#[test]
fn a_body_that_nobody_read_is_not_kept_alive() {
    // Key 2 reads [1] of key 0 while [1, 2] of key 1 is on its way. When that read renews what it read, the body
    // is there, but was not read: it dies at 12 s, and key 1 may write again.
    let lines: [(u64, u64, &[u64]); 4] =
        [(0, 0, &[1]), (2, 1, &[1, 2]), (3, 2, &[1, 2, 3]), (13, 1, &[1, 4])];
    let once = [
        ("client.key.strategy", "'recorded'"),
        ("provider.routing.hash_tokens", "100"),
        ("provider.write.semantics", "'whole_body'"),
        ("provider.write.when", "'once'"),
        ("provider.write.visible", "'completion'"),
        ("provider.latency.network", "'2s'"),
        ("provider.retention.lifetime.ideal", "'10s'"),
    ];
    let answers = Case::with(&Traffic::of(&lines), &once).compare().unwrap_or_else(|text| panic!("{text}"));
    assert!(answers.iter().map(|answer| (answer.cached, answer.written)).eq([
        (0, 100),
        (100, 100),
        (100, 200),
        (100, 100)
    ]));
}

#[test]
fn what_was_used_longest_ago_makes_room_deepest_first() {
    // Room for five blocks of 100 tokens. Used by the fourth request, [1] and [1, 2] outlive the younger [1, 2, 4].
    let lines: [(u64, u64, &[u64]); 9] = [
        (0, 0, &[1, 2, 3]),              // holds 300
        (1, 0, &[1, 2, 4]),              // holds 400
        (2, 0, &[5, 6]),                 // 600: [1, 2, 3] goes, last used at 0 s
        (3, 0, &[1, 2, 3]),              // 600: [1, 2, 4] goes, last used at 1 s
        (4, 0, &[1, 2, 3, 7]),           // 600: of [5] and [5, 6], last used at 2 s, the deeper goes
        (5, 0, &[5, 6]),                 // 600: [1, 2, 3, 7] goes, last used at 4 s, deeper than [1, 2, 3]
        (6, 0, &[1, 2, 3, 7]),           // 600: [5, 6] goes
        (7, 0, &[8, 9, 10, 11, 12, 13]), // 1,100: all else goes, and then its own end
        (8, 0, &[8, 9, 10, 11, 12, 13]),
    ];
    let small = [("provider.write.interval", "100"), ("provider.write.capacity_tokens", "500")];
    let answers = Case::with(&Traffic::of(&lines), &small).compare().unwrap_or_else(|text| panic!("{text}"));
    let cached: Vec<_> = answers.iter().map(|answer| answer.cached).collect();
    assert_eq!(cached, [0, 200, 0, 200, 300, 100, 300, 0, 500]);
    let evicted = |answer: &Answer| answer.attribution.lost[Cause::Evicted as usize];
    let evicted: Vec<_> = answers.iter().map(evicted).collect();
    assert_eq!(evicted, [0, 0, 0, 100, 0, 100, 100, 0, 100]);
}

#[test]
fn names_change_nothing() {
    for (name, mut case) in cases(3_000..3_040) {
        // With more machines, other names would be hashed elsewhere.
        case.set_all(&[("provider.routing.machines", "1"), ("provider.routing.pool", "1")]);
        let other = Case { traffic: case.traffic.relabelled(), ..case.clone() };
        let answers = |case: &Case| case.outcomes().map(|outcome| Answer::of(&outcome)).collect::<Vec<_>>();
        assert_eq!(answers(&case), answers(&other), "{name}");
    }
}
