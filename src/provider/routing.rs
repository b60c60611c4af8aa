//! From a routing key to a machine: the home machine and its overflow, pools, and baselines without affinity.
//!
//! `routing key = hash(partition, first tokens, prompt_cache_key)`. Machines are ranked per routing key by
//! rendezvous hashing (Thaler and Ravishankar, 1998), so that adding a machine moves few keys.

use std::cmp::Reverse;
use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extent::Extent;
use crate::random::{Draws, Purpose, fold, mix};
use crate::units::{SimTime, Span, Tokens};

/// How requests find their machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// The rule: home (with overflow), pool, bounded_load, random or round_robin.
    pub rule: Rule,
    /// Machines in one partition's fleet.
    pub machines: u32,
    /// Tokens of the prompt's head that the routing hash covers.
    pub hash_tokens: Tokens,
    /// Requests a minute at which a rate counts as full (rule home).
    pub limit_rpm: u32,
    /// Where requests above the limit go (rule home).
    pub overflow: Overflow,
    /// How many machines after the home machine random overflow chooses from.
    pub fanout: u32,
    /// What the rate is counted over.
    pub rate_over: RateOver,
    /// How the rate is counted.
    pub rate_count: RateCount,
    /// Machines in a routing key's pool (rule pool).
    pub pool: u32,
    /// How a pool's machine is chosen.
    pub pick: Pick,
    /// A machine is overloaded with more than this many times the mean requests in flight ... (bounded_load)
    pub load_factor: f64,
    /// ... and this many more than the mean (bounded_load).
    pub load_margin: u32,
    /// Share of requests that go to any machine of the fleet, under every rule.
    pub explore: f64,
    /// Time after which a routing key's machines are ranked anew; "unlimited" never.
    pub churn: Span,
    /// Whether prompt_cache_key only steers routing, or is part of the cache's identity.
    pub key_role: KeyRole,
    /// Shares of the requests that go to each of several backends (regions, deployments), by chance and whatever their
    /// prefix: each has a fleet of its own, and nothing is shared between them.
    pub backends: Vec<f64>,
    /// Whether every request draws its backend, or every session once.
    pub backend_by: BackendBy,
}

/// The largest share of a backend.
const MOST_SHARE: f64 = 1e6;

/// The most machines of all partitions and backends together.
pub const MOST_MACHINES: u32 = 1 << 20;

/// The routing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The first-ranked machine; above the limit, further ones.
    Home,
    /// One of the first `pool` ranked machines, at any rate.
    Pool,
    /// The first ranked machine that is not overloaded, whatever the rate: the load-driven rival to the limit.
    BoundedLoad,
    /// Any machine: a baseline without affinity.
    Random,
    /// Machines in turn: a baseline without affinity.
    RoundRobin,
}

/// Where a request above the limit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Nowhere: the home machine takes every rate.
    None,
    /// The second-ranked machine, then the third, and so on; when all are full, the last.
    Cascade,
    /// A random one, not full, of ranks 2 to `fanout` + 1; when all are full, the last of them.
    Random,
}

/// What a rate is counted over: vendors have worded it in all three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateOver {
    /// Prefix and key together: the routing key.
    PrefixAndKey,
    /// The prompt_cache_key over all its prefixes.
    Key,
    /// The machine: all traffic that lands on it.
    Machine,
}

/// How a rate is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateCount {
    /// Requests admitted at that rank in (t - 60 s, t]; full at the limit.
    Admitted,
    /// All earlier arrivals N in (t - 60 s, t]; the rank is floor(N / limit).
    Arrivals,
    /// All earlier arrivals N in the calendar minute of simulated time; the rank is floor(N / limit).
    Tumbling,
}

/// How a machine is chosen from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Uniformly at random.
    Random,
    /// The one with the fewest requests in flight; of equals, the higher ranked.
    LeastLoaded,
}

/// What the prompt_cache_key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// It steers routing only: on the same machine another key may still hit.
    Routing,
    /// It is part of the cache's identity: another key is a miss.
    Identity,
}

/// What draws a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendBy {
    /// Every request.
    Request,
    /// Every session once.
    Session,
}

impl Routing {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("machines", self.machines),
            ("hash_tokens", self.hash_tokens),
            ("limit_rpm", self.limit_rpm),
            ("fanout", self.fanout),
            ("pool", self.pool),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err((field, "must be 1 or more".into()));
            }
        }
        if self.machines > MOST_MACHINES {
            return Err(("machines", format!("must be {MOST_MACHINES} or fewer")));
        }
        if !(1.0..=100.0).contains(&self.load_factor) {
            return Err(("load_factor", "must be from 1 to 100".into()));
        }
        if !(0.0..=1.0).contains(&self.explore) {
            return Err(("explore", "must be a share from 0 to 1".into()));
        }
        if self.churn == Span::ZERO {
            return Err(("churn", "must be above zero; \"unlimited\" switches it off".into()));
        }
        let has_share = |share: &f64| *share > 0.0 && *share <= MOST_SHARE;
        if self.backends.is_empty() || !self.backends.iter().all(has_share) {
            let message =
                format!("needs one share or more, each above 0 and at most {MOST_SHARE}, such as [1.0]");
            return Err(("backends", message));
        }
        if self.rule == Rule::Pool && self.pool > self.machines {
            return Err((
                "pool",
                format!("a pool of {} needs as many machines; the fleet has {}", self.pool, self.machines),
            ));
        }
        Ok(())
    }

    /// Whether every request is routed by the rule alone, and always in the same way.
    pub fn is_plain(&self) -> bool {
        self.explore == 0.0 && self.churn == Span::UNLIMITED && self.backends.len() == 1
    }

    /// Machines of one partition: those of all its backends.
    pub fn machines_of_partition(&self) -> usize {
        self.backends.len() * self.machines as usize
    }

    /// The backend that these draws choose.
    pub fn backend(&self, draws: Draws) -> u32 {
        let last = self.backends.len() - 1;
        if last == 0 {
            return 0;
        }
        let mut left = draws.uniform(Purpose::Backend, 0) * self.backends.iter().sum::<f64>();
        let holds = |share: &f64| {
            left -= share;
            left < 0.0
        };
        self.backends[..last].iter().position(holds).unwrap_or(last) as u32
    }
}

/// How much a routing key (in one of its epochs) likes each machine of a fleet.
fn scores(machines: &[u64], digest: u64, epoch: u64) -> impl Iterator<Item = u64> {
    let digest = if epoch == 0 { digest } else { fold(digest, epoch) };
    machines.iter().map(move |machine| mix(digest ^ machine))
}

/// One machine of one partition's fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId(pub u32);

/// A routing key, numbered in the order of first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingKey(pub u32);

/// What routing may look at.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest {
    /// Arrival.
    pub now: SimTime,
    /// The fleet that serves this request: caches never cross a partition.
    pub partition: u32,
    /// Digest of the prompt's head.
    pub head: u64,
    /// Digest of the prompt_cache_key.
    pub key: u64,
    /// The machine of the connection that the request comes over, where it continues a response.
    pub pinned: Option<MachineId>,
    /// The routing key it probably has.
    pub likely: Option<RoutingKey>,
    /// Whether it has that for sure.
    pub known: bool,
    /// This request's draws.
    pub draws: Draws,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its routing key.
    pub routing_key: RoutingKey,
    /// The machine.
    pub machine: MachineId,
    /// Whether a full home machine sent it elsewhere.
    pub overflowed: bool,
}

/// The state of routing: the keys seen, and the rates.
#[derive(Clone, Debug)]
pub struct Router {
    rules: Routing,
    numbers: FxHashMap<u64, RoutingKey>,
    keys: Vec<Keyed>,
    /// Digests of the machines of one partition.
    machine_digests: Vec<u64>,
    rates: Rates,
    round_robin: FxHashMap<u32, u32>,
}

/// What is known of one routing key, in one cache line: most keys never need more than their home machine.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Keyed {
    digest: u64,
    /// Which redrawing of the ranks this is.
    epoch: u64,
    /// Its best machine; the first of its fleet under rules that rank none.
    home: MachineId,
    /// The rate there, where rates are counted over routing keys.
    rate: Rate,
    /// What is known of the other ranks.
    further: Option<Box<Further>>,
}

const _: () = assert!(size_of::<Keyed>() == 64);

/// A routing key's ranks behind its home.
#[derive(Clone, Debug, Default)]
struct Further {
    /// All its machines, best first, once they were needed.
    ranked: Vec<MachineId>,
    /// Its rates from the second rank on.
    rates: Vec<Rate>,
}

impl Router {
    /// A router with no history.
    pub fn new(rules: &Routing) -> Self {
        Self {
            rules: rules.clone(),
            numbers: FxHashMap::default(),
            keys: Vec::new(),
            machine_digests: (0..u64::from(rules.machines)).map(mix).collect(),
            rates: Rates::new(rules),
            round_robin: FxHashMap::default(),
        }
    }

    /// Reads a bit of what is known of a routing key, so that it is at hand.
    pub fn touch(&self, key: RoutingKey) -> u64 {
        self.keys.get(key.0 as usize).map_or(0, |keyed| u64::from(keyed.home.0))
    }

    /// The same of what its rate at its home points to.
    pub fn touch_rate(&self, key: RoutingKey) -> u64 {
        match self.keys.get(key.0 as usize).map(|keyed| &keyed.rate) {
            Some(Rate::Admitted(times)) => times.oldest().map_or(0, |until| until.0),
            Some(Rate::Arrivals(times)) => times.back().map_or(0, |time| time.0),
            Some(Rate::Tumbling { .. }) | None => 0,
        }
    }

    /// Chooses the machine; `in_flight` tells a machine's unfinished requests.
    #[inline(always)]
    pub fn route(
        &mut self,
        request: &RouteRequest,
        extent: Extent,
        in_flight: impl Fn(MachineId) -> u32,
    ) -> Route {
        let routing_key = self.routing_key(request, extent);
        let fleet = u64::from(self.rules.machines);
        let unrouted = extent.rare(Some(())).and_then(|()| request.pinned.or_else(|| self.explored(request)));
        if let Some(machine) = unrouted {
            self.record_unrouted(routing_key, machine, request);
            return Route { routing_key, machine, overflowed: false };
        }
        let (machine, overflowed) = match self.rules.rule {
            Rule::Home => {
                let rank = self.home_rank(routing_key, request);
                let home = self.keys[routing_key.0 as usize].home;
                let elsewhere = rank > 0;
                (if elsewhere { self.ranked(routing_key, rank + 1)[rank as usize] } else { home }, elsewhere)
            }
            Rule::Pool => {
                let pool = self.rules.pool;
                let pick = self.rules.pick;
                let machines = self.ranked(routing_key, pool);
                let machine = match pick {
                    Pick::Random => {
                        machines[request.draws.below(Purpose::Route, 0, u64::from(pool)) as usize]
                    }
                    Pick::LeastLoaded => {
                        *machines.iter().min_by_key(|m| in_flight(**m)).expect("a pool has machines")
                    }
                };
                (machine, false)
            }
            Rule::BoundedLoad => {
                let rank = self.first_not_overloaded(routing_key, request.partition, in_flight);
                (self.ranked(routing_key, rank + 1)[rank as usize], rank > 0)
            }
            Rule::Random => {
                let index = request.draws.below(Purpose::Route, 0, fleet) as u32;
                (self.machine(request.partition, index), false)
            }
            Rule::RoundRobin => {
                let next = self.round_robin.entry(request.partition).or_default();
                let index = *next;
                *next = (index + 1) % self.rules.machines;
                (self.machine(request.partition, index), false)
            }
        };
        Route { routing_key, machine, overflowed }
    }

    /// Where a request that explores goes.
    #[inline(always)]
    fn explored(&self, request: &RouteRequest) -> Option<MachineId> {
        let Routing { explore, machines, .. } = self.rules;
        (explore > 0.0 && request.draws.uniform(Purpose::Explore, 0) < explore).then(|| {
            let index = request.draws.below(Purpose::Explore, 1, u64::from(machines)) as u32;
            self.machine(request.partition, index)
        })
    }

    /// The first `count` ranked machines of a routing key (all, if the fleet has no more).
    pub fn ranked(&mut self, key: RoutingKey, count: u32) -> &[MachineId] {
        let count = count.min(self.rules.machines) as usize;
        let Keyed { digest, epoch, home, further, .. } = &mut self.keys[key.0 as usize];
        if count == 1 {
            return std::slice::from_ref(home);
        }
        let ranked = &mut further.get_or_insert_default().ranked;
        if ranked.is_empty() {
            let first = home.0 - home.0 % self.rules.machines;
            let mut fleet: Vec<_> =
                scores(&self.machine_digests, *digest, *epoch).map(Reverse).zip(first..).collect();
            fleet.sort_unstable();
            ranked.extend(fleet.into_iter().map(|(_, machine)| MachineId(machine)));
        }
        &ranked[..count]
    }

    /// The best machine of a routing key: found without sorting the fleet, since most keys never need another one.
    fn home(&self, digest: u64, epoch: u64, partition: u32) -> MachineId {
        let first = self.machine(partition, 0);
        if matches!(self.rules.rule, Rule::Random | Rule::RoundRobin) {
            return first;
        }
        let ranked = scores(&self.machine_digests, digest, epoch).zip(first.0..);
        // Of equals, the first.
        let best = ranked.max_by_key(|(score, machine)| (*score, Reverse(*machine)));
        best.map_or(first, |(_, machine)| MachineId(machine))
    }

    /// The best rank whose machine is not above both bounds; the mean is over the fleet, so that one always is.
    fn first_not_overloaded(
        &mut self,
        key: RoutingKey,
        partition: u32,
        in_flight: impl Fn(MachineId) -> u32,
    ) -> u32 {
        let machines = self.rules.machines;
        let total: u64 =
            (0..machines).map(|index| u64::from(in_flight(self.machine(partition, index)))).sum();
        let mean = total as f64 / f64::from(machines);
        let bound = (mean * self.rules.load_factor).max(mean + f64::from(self.rules.load_margin));
        let calm = |machine: &MachineId| f64::from(in_flight(*machine)) <= bound;
        // The home machine will mostly do: do not rank the whole fleet for it.
        if calm(&self.ranked(key, 1)[0]) {
            return 0;
        }
        self.ranked(key, machines).iter().position(calm).unwrap_or(0) as u32
    }

    fn machine(&self, partition: u32, index: u32) -> MachineId {
        MachineId(partition * self.rules.machines + index)
    }

    #[inline(always)]
    fn routing_key(&mut self, request: &RouteRequest, extent: Extent) -> RoutingKey {
        if extent == Extent::Plain
            && request.known
            && let Some(key) = request.likely
        {
            return key;
        }
        let digest = fold(fold(u64::from(request.partition), request.head), request.key);
        // Most requests have the routing key of their session's last one.
        let is_it = |likely: &RoutingKey| {
            self.keys.get(likely.0 as usize).is_some_and(|keyed| keyed.digest == digest)
        };
        let key = match request.likely.filter(is_it) {
            Some(key) => key,
            None => self.numbered(digest, request),
        };
        if extent.if_full(|| self.rules.churn != Span::UNLIMITED) {
            self.redraw(key, request);
        }
        key
    }

    /// The number of the routing key with this digest.
    fn numbered(&mut self, digest: u64, request: &RouteRequest) -> RoutingKey {
        let next = RoutingKey(u32::try_from(self.keys.len()).expect("fewer than 2^32 routing keys"));
        let key = *self.numbers.entry(digest).or_insert(next);
        if key == next {
            let epoch = self.epoch(digest, request.now);
            let home = self.home(digest, epoch, request.partition);
            self.keys.push(Keyed { digest, epoch, home, rate: self.rates.none_yet(), further: None });
        }
        key
    }

    /// Which redrawing of a routing key's ranks it is by now.
    fn epoch(&self, digest: u64, now: SimTime) -> u64 {
        // Every key is redrawn at its own moment: all at once would look like an outage.
        match self.rules.churn {
            Span::UNLIMITED => 0,
            churn => (u128::from(now.0) + u128::from(digest % churn.0)) as u64 / churn.0,
        }
    }

    /// Ranks the machines of a routing key anew, when it is time to.
    fn redraw(&mut self, key: RoutingKey, request: &RouteRequest) {
        let Keyed { digest, epoch, .. } = self.keys[key.0 as usize];
        let now = self.epoch(digest, request.now);
        if now == epoch {
            return;
        }
        let home = self.home(digest, now, request.partition);
        let keyed = &mut self.keys[key.0 as usize];
        (keyed.epoch, keyed.home) = (now, home);
        if let Some(further) = &mut keyed.further {
            further.ranked.clear();
        }
    }

    /// The rank at which a request is served under rule `home`, with its arrival counted.
    #[inline(always)]
    fn home_rank(&mut self, key: RoutingKey, request: &RouteRequest) -> u32 {
        if self.rules.overflow == Overflow::None || self.rules.machines == 1 {
            return 0;
        }
        let one_rate_for_all_ranks =
            self.rules.rate_over != RateOver::Machine && self.rules.rate_count != RateCount::Admitted;
        if !one_rate_for_all_ranks {
            return self.first_not_full(key, request);
        }
        let limit = self.rules.limit_rpm;
        let rate = self.rate(key, 0, request);
        let multiple = rate.seen(request.now) / limit;
        rate.record(request.now, limit);
        self.overflow_rank(multiple, request)
    }

    /// The rate at one rank of a routing key.
    #[inline(always)]
    fn rate(&mut self, key: RoutingKey, rank: u32, request: &RouteRequest) -> &mut Rate {
        match self.rules.rate_over {
            RateOver::PrefixAndKey => {
                let Keyed { rate, further, .. } = &mut self.keys[key.0 as usize];
                let Some(index) = (rank as usize).checked_sub(1) else { return rate };
                let rates = &mut further.get_or_insert_default().rates;
                if index >= rates.len() {
                    rates.resize_with(index + 1, || self.rates.none_yet());
                }
                &mut rates[index]
            }
            RateOver::Key => {
                self.rates.of(RateScope::Key(fold(u64::from(request.partition), request.key), rank))
            }
            RateOver::Machine => {
                let machine = self.ranked(key, rank + 1)[rank as usize];
                self.rates.of(RateScope::Machine(machine))
            }
        }
    }

    fn last_rank(&self) -> u32 {
        let reach = match self.rules.overflow {
            Overflow::Random => self.rules.fanout,
            Overflow::None | Overflow::Cascade => u32::MAX,
        };
        reach.min(self.rules.machines - 1)
    }

    /// Chooses among ranks that each have a rate of their own.
    #[inline(always)]
    fn first_not_full(&mut self, key: RoutingKey, request: &RouteRequest) -> u32 {
        // "Arrivals" at a machine are all requests offered to it, those it turned away included.
        let count_offers = self.rules.rate_count != RateCount::Admitted;
        let limit = self.rules.limit_rpm;
        let home = self.rate(key, 0, request);
        let home_is_full = home.is_full(request.now, limit);
        if !home_is_full || count_offers {
            home.record(request.now, limit);
        }
        if !home_is_full {
            return 0;
        }
        self.first_not_full_elsewhere(key, request, count_offers)
    }

    /// The same behind a home machine that is full.
    fn first_not_full_elsewhere(
        &mut self,
        key: RoutingKey,
        request: &RouteRequest,
        count_offers: bool,
    ) -> u32 {
        let last = self.last_rank();
        let mut rank = 1;
        if self.rules.overflow == Overflow::Random {
            let free = (1..=last).filter(|rank| !self.is_full(key, *rank, request)).count() as u64;
            let mut chosen = request.draws.below(Purpose::Route, 0, free.max(1));
            while rank < last && (self.is_full(key, rank, request) || chosen > 0) {
                chosen -= u64::from(!self.is_full(key, rank, request));
                rank += 1;
            }
        } else if self.rules.rate_over == RateOver::PrefixAndKey && !count_offers {
            rank += self.full_ranks(key, last - 1, request.now);
        } else {
            while rank < last && self.is_full(key, rank, request) {
                if count_offers {
                    self.record(key, rank, request);
                }
                rank += 1;
            }
        }
        self.record(key, rank, request);
        rank
    }

    /// How many of the first `most` ranks behind its home are full, before one that is not. (Where a key is busy, this is
    /// most of the work.)
    fn full_ranks(&mut self, RoutingKey(key): RoutingKey, most: u32, now: SimTime) -> u32 {
        let Some(further) = &mut self.keys[key as usize].further else { return 0 };
        let (limit, ranks) = (self.rules.limit_rpm, further.rates.iter_mut().take(most as usize));
        ranks.map(|rate| rate.is_full(now, limit)).take_while(|is_full| *is_full).count() as u32
    }

    /// Counts a request that no rule routed (it explores, or continues a response): on its machine, or among the
    /// arrivals of its scope. It was admitted at no rank.
    fn record_unrouted(&mut self, key: RoutingKey, machine: MachineId, request: &RouteRequest) {
        if self.rules.rule != Rule::Home || self.rules.overflow == Overflow::None {
            return;
        }
        match (self.rules.rate_over, self.rules.rate_count) {
            (RateOver::Machine, _) => {
                let limit = self.rules.limit_rpm;
                self.rates.of(RateScope::Machine(machine)).record(request.now, limit);
            }
            (_, RateCount::Admitted) => {}
            (_, RateCount::Arrivals | RateCount::Tumbling) => self.record(key, 0, request),
        }
    }

    fn is_full(&mut self, key: RoutingKey, rank: u32, request: &RouteRequest) -> bool {
        let limit = self.rules.limit_rpm;
        self.rate(key, rank, request).is_full(request.now, limit)
    }

    #[inline(always)]
    fn record(&mut self, key: RoutingKey, rank: u32, request: &RouteRequest) {
        let limit = self.rules.limit_rpm;
        self.rate(key, rank, request).record(request.now, limit);
    }

    /// The rank for the n-th multiple of the limit, when one rate is kept for all ranks.
    fn overflow_rank(&self, multiple: u32, request: &RouteRequest) -> u32 {
        let last = self.last_rank();
        match self.rules.overflow {
            Overflow::Random if (1..=last).contains(&multiple) => {
                1 + request.draws.below(Purpose::Route, 0, u64::from(last)) as u32
            }
            _ => multiple.min(last),
        }
    }
}

/// What a rate is counted over that is not one routing key; of keys each rank has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RateScope {
    Key(u64, u32),
    Machine(MachineId),
}

/// The rates that are not counted over routing keys.
#[derive(Clone, Debug)]
struct Rates {
    count: RateCount,
    rates: FxHashMap<RateScope, Rate>,
}

impl Rates {
    fn new(rules: &Routing) -> Self {
        Self { count: rules.rate_count, rates: FxHashMap::default() }
    }

    fn none_yet(&self) -> Rate {
        match self.count {
            RateCount::Admitted => Rate::Admitted(Admitted::default()),
            RateCount::Arrivals => Rate::Arrivals(Box::default()),
            RateCount::Tumbling => Rate::Tumbling { minute: 0, seen: 0 },
        }
    }

    fn of(&mut self, scope: RateScope) -> &mut Rate {
        let none_yet = self.none_yet();
        self.rates.entry(scope).or_insert(none_yet)
    }
}

/// Requests counted in one scope.
#[derive(Clone, Debug)]
enum Rate {
    /// Those admitted in (t - 60 s, t], the last ones of them.
    Admitted(Admitted),
    /// The times of all in (t - 60 s, t].
    #[expect(
        clippy::box_collection,
        reason = "so that what is known of a routing key stays in one cache line"
    )]
    Arrivals(Box<VecDeque<SimTime>>),
    /// The count in one calendar minute.
    Tumbling { minute: u64, seen: u32 },
}

impl Rate {
    /// Whether `limit` requests count now.
    #[inline(always)]
    fn is_full(&mut self, now: SimTime, limit: u32) -> bool {
        match self {
            Self::Admitted(admitted) => admitted.is_full(now, limit),
            Self::Arrivals(_) | Self::Tumbling { .. } => self.seen(now) >= limit,
        }
    }

    /// How many requests count now, where more than the limit are remembered.
    #[inline(always)]
    fn seen(&mut self, now: SimTime) -> u32 {
        match self {
            Self::Admitted(_) => unreachable!("of those admitted no more count than the limit"),
            Self::Arrivals(times) => {
                while times.front().is_some_and(|time| now.since(*time) >= Span::MINUTE) {
                    times.pop_front();
                }
                times.len() as u32
            }
            Self::Tumbling { minute, seen } if *minute == now.0 / Span::MINUTE.0 => *seen,
            Self::Tumbling { .. } => 0,
        }
    }

    /// Counts a request; of those admitted the last `limit` are remembered.
    #[inline(always)]
    fn record(&mut self, now: SimTime, limit: u32) {
        match self {
            Self::Admitted(admitted) => admitted.record(now, limit),
            Self::Arrivals(times) => times.push_back(now),
            Self::Tumbling { minute, seen } => {
                let this_minute = now.0 / Span::MINUTE.0;
                if *minute != this_minute {
                    (*minute, *seen) = (this_minute, 0);
                }
                *seen += 1;
            }
        }
    }
}

/// The last requests that were admitted, in a ring as large as it ever had to be: only the oldest of them says whether
/// there is room for another one.
#[derive(Clone, Debug, Default)]
struct Admitted {
    /// Until when each of them counts.
    until: Box<[SimTime]>,
    /// Position of the oldest.
    oldest: u32,
}

impl Admitted {
    /// Until when the oldest one counts.
    #[inline(always)]
    fn oldest(&self) -> Option<SimTime> {
        self.until.get(self.oldest as usize).copied()
    }

    #[inline(always)]
    fn is_full(&self, now: SimTime, limit: u32) -> bool {
        self.until.len() >= limit as usize && self.oldest().is_some_and(|until| until > now)
    }

    #[inline(always)]
    fn record(&mut self, now: SimTime, limit: u32) {
        let is_wanted = self.oldest().is_none_or(|until| until > now);
        if is_wanted && self.until.len() < limit as usize {
            self.grow(limit as usize);
        }
        self.until[self.oldest as usize] = now + Span::MINUTE;
        self.oldest += 1;
        if self.oldest as usize == self.until.len() {
            self.oldest = 0;
        }
    }

    /// Makes room for twice as many, or the most that are remembered.
    #[cold]
    fn grow(&mut self, most: usize) {
        let (newer, older) = self.until.split_at(self.oldest as usize);
        let mut until = [older, newer].concat();
        self.oldest = until.len() as u32;
        until.resize((2 * until.len()).max(4).min(most), SimTime::ZERO);
        self.until = until.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn rules(rule: Rule) -> Routing {
        Routing {
            rule,
            machines: 64,
            hash_tokens: 256,
            limit_rpm: 3,
            overflow: Overflow::Cascade,
            fanout: 4,
            rate_over: RateOver::PrefixAndKey,
            rate_count: RateCount::Admitted,
            pool: 5,
            pick: Pick::Random,
            load_factor: 1.25,
            load_margin: 10,
            explore: 0.0,
            churn: Span::UNLIMITED,
            key_role: KeyRole::Routing,
            backends: vec![1.0],
            backend_by: BackendBy::Request,
        }
    }

    fn request(second: u64, key: u64) -> RouteRequest {
        let draws = Seed::new(1, 0).session_keys(0).next_key().turn(second as u32);
        let now = SimTime(second * 1_000_000_000);
        RouteRequest { now, partition: 0, head: 9, key, pinned: None, likely: None, known: false, draws }
    }

    /// The 1-based ranks at which requests of one key at the given seconds land.
    fn ranks(rules: &Routing, seconds: &[u64]) -> Vec<usize> {
        let mut router = Router::new(rules);
        let land = |second: &u64| {
            let route = router.route(&request(*second, 1), Extent::Full, |_| 0);
            let rank = router.ranked(route.routing_key, 64).iter().position(|m| *m == route.machine);
            rank.unwrap() + 1
        };
        seconds.iter().map(land).collect()
    }

    #[test]
    fn backends_take_their_shares_whatever_these_add_up_to() {
        let mut rules = rules(Rule::Home);
        let keys: Vec<_> = {
            let mut keys = Seed::new(1, 0).session_keys(0);
            (0..30_000).map(|_| keys.next_key()).collect()
        };
        for (backends, expected) in
            [(vec![7.0], vec![30_000]), (vec![3.0, 1.0, 2.0], vec![15_000, 5_000, 10_000])]
        {
            rules.backends = backends;
            let mut seen = vec![0i32; expected.len()];
            keys.iter().for_each(|key| seen[rules.backend(key.turn(0)) as usize] += 1);
            assert!(
                seen.iter().zip(&expected).all(|(seen, expected)| (seen - expected).abs() < 400),
                "{seen:?}"
            );
        }
        for bad in [vec![], vec![1.0, 0.0], vec![-1.0], vec![f64::NAN]] {
            rules.backends = bad;
            assert_eq!(rules.validate().unwrap_err().0, "backends");
        }
    }

    #[test]
    fn each_count_fills_as_its_definition_says() {
        let mut rules = rules(Rule::Home);
        let seconds = [0, 1, 2, 3, 4, 5, 6, 60, 61, 64];
        // Admitted: ranks fill one after another; the request of 0 s has left the window at 60 s.
        assert_eq!(ranks(&rules, &seconds), [1, 1, 1, 2, 2, 2, 3, 1, 1, 1]);
        rules.rate_count = RateCount::Arrivals;
        // Six earlier arrivals at 6 s; six in (0, 60] and in (1, 61], four in (4, 64].
        assert_eq!(ranks(&rules, &seconds), [1, 1, 1, 2, 2, 2, 3, 3, 3, 2]);
        rules.rate_count = RateCount::Tumbling;
        assert_eq!(ranks(&rules, &seconds), [1, 1, 1, 2, 2, 2, 3, 1, 1, 1]);
        rules.overflow = Overflow::None;
        assert_eq!(ranks(&rules, &seconds), [1; 10]);
    }

    #[test]
    fn random_overflow_stays_within_its_fanout_and_ends_on_the_last() {
        let rules = Routing { overflow: Overflow::Random, ..rules(Rule::Home) };
        let landed = ranks(&rules, &(0..40).collect::<Vec<_>>());
        assert!(landed[..3].iter().all(|rank| *rank == 1));
        assert!(landed[3..15].iter().all(|rank| (2..=5).contains(rank)));
        assert!((2..=5).all(|rank| landed[3..15].iter().filter(|r| **r == rank).count() == 3));
        assert!(landed[15..].iter().all(|rank| *rank == 5));
    }

    #[test]
    fn a_machine_counts_what_other_keys_send_to_it() {
        let rules = Routing { rate_over: RateOver::Machine, limit_rpm: 1, ..rules(Rule::Home) };
        let mut router = Router::new(&rules);
        let moved =
            (0..200u64).filter(|key| router.route(&request(0, *key), Extent::Full, |_| 0).overflowed).count();
        assert!(moved > 136, "200 keys on 64 machines of one request a minute each: {moved}");
    }

    #[test]
    fn a_pool_is_the_first_ranked_and_balanced() {
        let mut router = Router::new(&rules(Rule::Pool));
        let mut seen = FxHashMap::<MachineId, u32>::default();
        for second in 0..1000 {
            *seen.entry(router.route(&request(second, 1), Extent::Full, |_| 0).machine).or_default() += 1;
        }
        let pool = router.ranked(RoutingKey(0), 5).to_vec();
        assert!(pool.iter().all(|m| (150..250).contains(&seen[m])) && seen.len() == 5);
        let mut least = Router::new(&Routing { pick: Pick::LeastLoaded, ..rules(Rule::Pool) });
        let busy = least.route(&request(0, 1), Extent::Full, |_| 0).machine;
        assert_ne!(least.route(&request(1, 1), Extent::Full, |m| u32::from(m == busy)).machine, busy);
    }

    #[test]
    fn bounded_load_leaves_an_overloaded_home_and_comes_back() {
        let rules = rules(Rule::BoundedLoad);
        let mut router = Router::new(&rules);
        let home = router.route(&request(0, 1), Extent::Full, |_| 0);
        assert!(!home.overflowed);
        // Mean (11 + 63) / 64: 12 is within mean + 10 = 11.2 no more, 11 is.
        let route = |router: &mut Router, at_home| {
            router.route(&request(1, 1), Extent::Full, |m| if m == home.machine { at_home } else { 1 })
        };
        assert_eq!(route(&mut router, 11).machine, home.machine);
        let moved = route(&mut router, 12);
        assert_eq!((moved.overflowed, moved.machine), (true, router.ranked(home.routing_key, 2)[1]));
    }

    #[test]
    fn exploration_takes_its_share_and_churn_moves_a_key_once_a_period() {
        let machines = |rules: &Routing, requests: u64| -> Vec<MachineId> {
            let mut router = Router::new(rules);
            (0..requests)
                .map(|second| router.route(&request(second, 1), Extent::Full, |_| 0).machine)
                .collect()
        };
        let explore = Routing { explore: 0.25, overflow: Overflow::None, ..rules(Rule::Home) };
        let landed = machines(&explore, 4_000);
        let home = machines(&Routing { explore: 0.0, ..explore.clone() }, 1)[0];
        let away = landed.iter().filter(|machine| **machine != home).count() as f64 / 4_000.0;
        // One exploring request in 64 lands at home.
        assert!((away - 0.25 * 63.0 / 64.0).abs() < 0.03, "{away}");
        let churn = Routing { explore: 0.0, churn: Span::from_seconds(100), ..explore };
        let moves = machines(&churn, 1_000).windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((8..=10).contains(&moves), "{moves} moves in 1,000 s");
    }

    #[test]
    fn adding_a_machine_moves_few_keys() {
        let home = |machines: u32, key: u64| {
            let mut router = Router::new(&Routing { machines, ..rules(Rule::Home) });
            router.route(&request(0, key), Extent::Full, |_| 0).machine
        };
        let moved = (0..2000).filter(|key| home(64, *key) != home(65, *key)).count();
        assert!((10..60).contains(&moved), "about 2000 / 65 keys move: {moved}");
    }
}
