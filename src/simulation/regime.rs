//! A provider under one regime, and then perhaps another.

use crate::client::request::Request;
use crate::extent::Extent;
use crate::provider::cache::{Access, Cache};
use crate::provider::machine::{Machines, Timing};
use crate::provider::profile::Provider;
use crate::provider::routing::{BackendBy, KeyRole, MachineId, Route, RouteRequest, Router, Routing};
use crate::provider::store::Scope;
use crate::provider::write::{Stored, Visible, Write};
use crate::random::{SessionKey, SpanDistribution, fold};
use crate::units::{SimTime, Span};

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
    /// Whether nothing rare happens on the provider's side.
    pub(super) fn is_plain(&self) -> bool {
        let Provider { routing, write, .. } = &self.provider;
        let never_fails = self.terms.iter().all(|terms| terms.failure == 0.0);
        never_fails && routing.is_plain() && write.is_plain()
    }

    /// Partitions, each account and each backend of one being one of its own.
    pub(super) fn partitions(&self, accounts: u32) -> u32 {
        let named = self.terms.iter().map(|terms| terms.partition + 1).max().unwrap_or(1);
        named * accounts * self.provider.routing.backends.len() as u32
    }
}

/// A provider under one regime, with its machines and stores.
pub(super) struct Provided {
    pub(super) terms: Vec<Terms>,
    routing: Routing,
    pub(super) write: Write,
    pub(super) failed_writes: bool,
    /// Which regime this is.
    pub(super) regime: u32,
    accounts: u32,
    /// What the backend of a session is drawn from.
    pub(super) backends: SessionKey,
    pub(super) router: Router,
    pub(super) machines: Machines,
    pub(super) cache: Cache,
}

impl Provided {
    /// Cold and idle machines of regime number `number`.
    pub(super) fn new(number: u32, regime: &Regime, accounts: u32, backends: SessionKey) -> Self {
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
    #[inline(always)]
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

    #[inline(always)]
    pub(super) fn route(
        &mut self,
        request: &Request,
        failed: bool,
        now: SimTime,
        extent: Extent,
    ) -> (Access, bool) {
        // A connection from before a change of regime is gone.
        let pinned = extent.rare(request.continues).filter(|place| place.regime == self.regime);
        let pinned = pinned.map(|place| place.machine);
        let partition = match pinned {
            Some(MachineId(machine)) => machine / self.routing.machines,
            None if extent == Extent::Plain => self.terms[request.workload as usize].partition,
            None => self.partition(request),
        };
        let draws = request.draws;
        let (head, likely) = (request.prompt.head, request.likely);
        let (key, known) = (request.key.digest(), request.known);
        let asked = RouteRequest { now, partition, head, key, pinned, likely, known, draws };
        let machines = &self.machines;
        let route = self.router.route(&asked, extent, |machine| machines.in_flight(machine));
        let date = if extent == Extent::Plain { 0 } else { self.write.date(now) };
        let scope = match (self.routing.key_role, date) {
            (KeyRole::Routing, date) => Scope(date),
            (KeyRole::Identity, 0) => Scope(key),
            (KeyRole::Identity, date) => Scope(fold(key, date)),
        };
        let Route { machine, routing_key: owner, .. } = route;
        let Request { prompt, output_tokens, answered, .. } = *request;
        // A failed call has no answer to store.
        let (output_tokens, answered) = if failed { (0, None) } else { (output_tokens, answered) };
        let body = match extent {
            Extent::Plain => Stored { shareable: prompt.shareable, unique_tail: prompt.unique_tail },
            Extent::Full => self.write.stored(&prompt, output_tokens, answered),
        };
        let here = scope.on(machine);
        let access = Access { partition, machine, date, scope, here, owner, prompt, body };
        (access, route.overflowed)
    }

    /// When a request that arrives now becomes visible to others.
    #[inline(always)]
    pub(super) fn visible_at(&self, now: SimTime, timing: &Timing) -> SimTime {
        let moment = match self.write.visible {
            Visible::Arrival => Span::ZERO,
            Visible::FirstToken => timing.ttft,
            Visible::Completion => timing.total,
        };
        now + moment + self.write.lag
    }
}
