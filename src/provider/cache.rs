//! Cache: the stores of all machines, and who may read and write what in them.

use crate::extent::Extent;
use crate::prompt::{Cursor, EdgeId, Mark, PrefixTree, Prompt};
use crate::provider::capacity::{Capacity, Tail};
use crate::provider::routing::{MachineId, RoutingKey};
use crate::provider::store::{Answers, Scope, Store};
use crate::provider::write::{Bodies, Depths, Places, Readable, Stored, When, Write};
use crate::random::fold;
use crate::units::{SimTime, Tokens};

/// How one request meets the cache of the machine it was sent to.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Number of the partition.
    pub partition: u32,
    /// The machine.
    pub machine: MachineId,
    /// Number of the date in the hidden system message.
    pub date: u64,
    /// Who may read it: the key, where the key is part of the cache's identity, and who has the same date.
    pub scope: Scope,
    /// The same on this machine alone.
    pub here: Scope,
    /// Whose body it is.
    pub owner: RoutingKey,
    /// The prompt.
    pub prompt: Prompt,
    /// What it stores, if it writes.
    pub body: Stored,
}

/// What a request found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it looked.
    pub readable: Readable,
    /// The deepest live depth on its path, not yet floored to a boundary.
    pub alive: Tokens,
    /// The boundary it resumes at; 0 where nothing is reported: what is not reported was not used.
    pub read: Tokens,
    /// What is reported.
    pub cached: Tokens,
}

/// What a request does to the cache, in full at the moment it becomes visible: its write and its renewals.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Where.
    pub access: Access,
    /// The boundary it read; live boundaries down to it are renewed.
    pub read: Tokens,
    /// Whether it writes.
    pub writes: bool,
    /// Tokens between what it read and the deepest boundary it writes: those that a write price bills.
    pub written: Tokens,
    /// Where it writes boundaries that others can read.
    pub places: Places,
    /// Where room is limited: the boundaries it writes in a tail that nobody can read.
    pub tail: Depths,
    /// Until when what it touches lives, at least.
    pub expiry: SimTime,
}

impl Effect {
    /// The same, of a request that does nothing to the cache.
    pub fn none(self) -> Self {
        Self { read: 0, writes: false, written: 0, places: Places::new(), tail: Depths::new(), ..self }
    }

    /// The edges of what it touches.
    pub fn edges(&self) -> impl Iterator<Item = EdgeId> {
        let Access { prompt, body, .. } = &self.access;
        let places = self.places.iter().map(|place| place.edge);
        places.chain([prompt.shareable.edge, body.shareable.edge])
    }

    /// Renews and writes in one store.
    #[inline(always)]
    pub fn touch(&self, store: &mut Store, tree: &PrefixTree, scope: Scope, now: SimTime) {
        // A covering write renews all it covers; single boundaries must be renewed one by one.
        if self.read > 0 && (self.places.is_empty() || !store.covers()) {
            store.renew(tree, scope, self.access.prompt.shareable, self.read, now, self.expiry);
        }
        for place in &self.places {
            store.write(tree, scope, *place, now, self.expiry);
        }
    }
}

/// What a request does in a plain run: everything on its path down to a place lives until its expiry, at least.
#[derive(Clone, Copy, Debug)]
pub struct Cover {
    /// Whose it is.
    pub scope: Scope,
    /// Down to where.
    pub at: Cursor,
    /// Tokens between what it read and the deepest boundary it writes.
    pub written: Tokens,
    /// Until when, at least.
    pub expiry: SimTime,
}

/// The stores of all machines, as scopes of one.
#[derive(Clone, Debug)]
pub struct Cache {
    rules: Write,
    store: Store,
    machines: Vec<MachineCache>,
}

/// What must be known of one machine beside what it stores.
#[derive(Clone, Debug, Default)]
struct MachineCache {
    /// Only where room is limited.
    capacity: Option<Box<Capacity>>,
    /// Routing keys with a body here, in their order, where the rules must know them apart.
    owners: Vec<Owner>,
}

/// A routing key that wrote on a machine.
#[derive(Clone, Copy, Debug)]
struct Owner {
    key: RoutingKey,
    readers: Scope,
    body: Stored,
    /// When the last of its boundaries here dies.
    alive_until: SimTime,
}

impl Owner {
    /// The scope in which its own body is held.
    fn scope(&self) -> Scope {
        Scope(fold(u64::from(self.key.0), self.readers.0))
    }
}

impl Cache {
    /// Empty machines.
    pub fn new(rules: &Write, machines: usize) -> Self {
        let capacity = rules.capacity_tokens.map(|tokens| Box::new(Capacity::new(tokens)));
        let store = if capacity.is_some() { Store::noting(rules) } else { Store::new(rules.covers()) };
        let machine = MachineCache { capacity, owners: Vec::new() };
        Self { rules: rules.clone(), store, machines: vec![machine; machines] }
    }

    /// What a request with these marks finds now.
    #[inline(always)]
    pub fn look_up(
        &self,
        tree: &PrefixTree,
        access: &Access,
        marks: &[Mark],
        now: SimTime,
        extent: Extent,
    ) -> Found {
        if extent == Extent::Plain {
            let alive = self.store.read_covered(tree, access.here, access.prompt.shareable, now);
            return self.found(access, Readable::Everywhere, alive);
        }
        let readable = self.rules.readable(marks);
        let alive = self.alive(tree, access, &readable, now);
        self.found(access, readable, alive)
    }

    /// What a request finds where its path is alive down to this depth.
    #[inline(always)]
    pub fn found(&self, access: &Access, readable: Readable, alive: Tokens) -> Found {
        let boundary = self.rules.boundary(alive);
        let cached = self.rules.report(boundary, access.prompt.tokens());
        Found { readable, alive, read: if cached == 0 { 0 } else { boundary }, cached }
    }

    /// Down to where a request's path is alive at every moment from `first` to `last`: of a cache whose writes cover
    /// and whose routing keys are not known apart.
    pub fn alive_between(
        &self,
        tree: &PrefixTree,
        access: &Access,
        first: SimTime,
        last: SimTime,
    ) -> Answers {
        self.store.read_between(tree, access.here, access.prompt.shareable, first, last)
    }

    /// What it will do, once it is visible.
    #[inline(always)]
    pub fn effect(
        &self,
        tree: &PrefixTree,
        access: Access,
        marks: &[Mark],
        read: Tokens,
        now: SimTime,
        expiry: SimTime,
    ) -> Effect {
        let depths = self.rules.depths(&access.body, marks);
        let deepest = self.rules.deepest(&depths);
        let writes = deepest > 0 && self.writes(&access, read, now);
        let (written, places) = match writes {
            true => (deepest.saturating_sub(read), self.rules.places(tree, &access.body, &depths)),
            false => (0, Places::new()),
        };
        let tail = match writes && self.rules.capacity_tokens.is_some() {
            true => self.rules.tail_boundaries(&access.body, &depths),
            false => Depths::new(),
        };
        Effect { access, read, writes, written, places, tail, expiry }
    }

    /// The same in a plain run, where a request covers its prompt, or the beginning of it.
    #[inline(always)]
    pub fn cover(&self, tree: &PrefixTree, access: &Access, read: Tokens, expiry: SimTime) -> Cover {
        let Access { here, body, .. } = access;
        let depth = self.rules.covered(body);
        let boundary = self.rules.boundary(depth);
        let writes = boundary > 0 && boundary >= self.rules.min_tokens;
        // Whatever was read, a prompt that reads is long enough to be written.
        debug_assert!(writes || read == 0);
        let (depth, written) = if writes { (depth, boundary.saturating_sub(read)) } else { (0, 0) };
        Cover { scope: *here, at: tree.ancestor(body.shareable, depth), written, expiry }
    }

    /// Applies what a request covers.
    #[inline(always)]
    pub fn apply_cover(&mut self, tree: &PrefixTree, cover: &Cover, now: SimTime) {
        self.store.cover(tree, cover.scope, cover.at, now, cover.expiry);
    }

    /// Whether what a request covers is covered already, for as long.
    #[inline(always)]
    pub fn is_covered(&self, cover: &Cover) -> bool {
        self.store.is_covered(cover.scope, cover.at, cover.expiry)
    }

    /// Applies it on the last edge of its path alone: what is left to do, if anything is.
    #[inline(always)]
    pub fn apply_cover_end(&mut self, tree: &PrefixTree, cover: &Cover, now: SimTime) -> Option<Cover> {
        let before = self.store.cover_end(tree, cover.scope, cover.at, now, cover.expiry)?;
        Some(Cover { at: before, ..*cover })
    }

    /// The deepest live depth on the prompt's path that it may read.
    #[inline(always)]
    fn alive(&self, tree: &PrefixTree, access: &Access, readable: &Readable, now: SimTime) -> Tokens {
        let at = access.prompt.shareable;
        if !self.rules.by_owner() {
            return self.store.read(tree, access.here, at, readable, now);
        }
        let owners = self.machines[access.machine.0 as usize].owners.iter();
        let readers = access.here;
        let open = owners.filter(|owner| owner.readers == readers && owner.alive_until >= now);
        open.map(|owner| self.store.read(tree, owner.scope(), at, readable, now)).max().unwrap_or(0)
    }

    /// Whether a request that arrives now and reads down to `read` will write. Decided at its arrival: two
    /// requests in flight on a cold prefix both write.
    #[inline(always)]
    fn writes(&self, access: &Access, read: Tokens, now: SimTime) -> bool {
        match self.rules.when {
            When::Always => true,
            When::OnMiss => read == 0,
            When::Once => {
                let owners = &self.machines[access.machine.0 as usize].owners;
                !owners.iter().any(|other| other.key == access.owner && other.alive_until >= now)
            }
        }
    }

    /// Reads a bit of what is held on an edge, so that it is at hand.
    pub fn touch(&self, edge: EdgeId) -> u64 {
        self.store.touch(edge)
    }

    /// Bytes that what is held on edges takes.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// The edges on which something is alive, and those of bodies that must be known apart.
    pub fn live_edges(&self, now: SimTime) -> impl Iterator<Item = EdgeId> {
        let owners = self.machines.iter().flat_map(|machine| &machine.owners);
        self.store.live_edges(now).chain(owners.map(|owner| owner.body.shareable.edge))
    }

    /// Applies what a request does.
    #[inline(always)]
    pub fn apply(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        if self.rules.by_owner() {
            self.renew_owners(tree, effect, now);
            if effect.writes {
                self.write_owner(tree, effect, now);
            }
        } else {
            effect.touch(&mut self.store, tree, effect.access.here, now);
        }
        if self.rules.capacity_tokens.is_some() {
            self.make_room(tree, effect, now);
        }
    }

    /// Evicts what the machine has no room for any more.
    fn make_room(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        let Effect { access: Access { machine, owner, body, .. }, expiry, .. } = *effect;
        let Self { store, machines, .. } = self;
        let MachineCache { capacity, owners } = &mut machines[machine.0 as usize];
        let Some(capacity) = capacity else { return };
        let scope = effect.access.here;
        let own = owners.iter().find(|other| effect.writes && other.key == owner && other.readers == scope);
        let scope = own.map_or(scope, Owner::scope);
        let tail = Tail { scope, from: body.shareable, boundaries: &effect.tail, expiry };
        let evicted = capacity.settle(tree, store, &tail, now);
        owners.retain_mut(|owner| {
            if !evicted.contains(&owner.scope()) {
                return true;
            }
            let alive_until = capacity.lives_until(store, owner.scope(), now);
            owner.alive_until = alive_until.unwrap_or(owner.alive_until);
            alive_until.is_some()
        });
    }

    fn renew_owners(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        let Effect { access: Access { machine, prompt, .. }, read, expiry, .. } = *effect;
        let Self { store, machines, .. } = self;
        let MachineCache { owners, .. } = &mut machines[machine.0 as usize];
        let scope = effect.access.here;
        // Only what this request read: a body beyond that is not its own.
        let at = tree.ancestor(prompt.shareable, read);
        for owner in owners.iter_mut().filter(|owner| owner.readers == scope && owner.alive_until >= now) {
            let depth = self
                .rules
                .boundary(store.read(tree, owner.scope(), at, &Readable::Everywhere, now))
                .min(read);
            if depth > 0 {
                store.renew(tree, owner.scope(), at, depth, now, expiry);
                owner.alive_until = owner.alive_until.max(expiry);
            }
        }
    }

    fn write_owner(&mut self, tree: &PrefixTree, effect: &Effect, now: SimTime) {
        let Effect { access: Access { machine, owner, body, .. }, expiry, .. } = *effect;
        let Self { store, machines, .. } = self;
        let MachineCache { owners, .. } = &mut machines[machine.0 as usize];
        let scope = effect.access.here;
        owners.retain(|other| other.alive_until >= now);
        let mut written = Owner { key: owner, readers: scope, body, alive_until: expiry };
        let one = self.rules.bodies == Bodies::One;
        let is_former = |other: &&mut Owner| other.key == owner && (one || other.readers == scope);
        match owners.iter_mut().find(is_former) {
            Some(known) => {
                // What the former body shares with this one may outlive it: nothing, if it has another date.
                let kept_until = match self.rules.bodies {
                    Bodies::One => {
                        let former = known.body.shareable;
                        let shared = if known.readers == scope { &effect.places[..] } else { &[] };
                        let holds_boundary = |depth| self.rules.boundary(depth) > 0;
                        store.replace(tree, known.scope(), former, shared, holds_boundary)
                    }
                    Bodies::Unbounded => known.alive_until,
                };
                written.alive_until = kept_until.max(expiry);
                *known = written;
            }
            None => {
                let position = owners.partition_point(|other| other.key < owner);
                owners.insert(position, written);
            }
        }
        for place in &effect.places {
            store.write(tree, written.scope(), *place, now, expiry);
        }
    }
}
