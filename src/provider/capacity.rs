//! Capacity: which boundaries of one machine must go when its room runs out.
//!
//! The law (the naive model in the tests): a machine holds as many *distinct live tokens* as its live boundaries
//! have before them, where a token that several of them have before them counts once in each scope. Whatever an
//! effect writes or renews, it *uses*. After each effect, while there are more tokens than room, the live boundary
//! whose last use is the longest ago is evicted; among those of one effect the deepest; among equally deep ones (of
//! several scopes) the one that the effect used first.
//!
//! Nothing here walks the boundaries of a prompt. For each stretch of text that a scope holds there stand: the
//! latest uses, where a store covers as a staircase (depths go down as uses get younger, because what uses a
//! boundary uses all before it); where other stretches branch off, so that the tokens needed are known; and one
//! place in each of two orders, of what goes first and of what dies first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use smallvec::SmallVec;

use crate::prompt::{Cursor, EdgeId, PathStep, PrefixTree};
use crate::provider::store::{Scope, Step, Store, Touched};
use crate::units::{SimTime, Tokens};

/// The tail of a body that no other prompt has: nobody can read it, but it takes room.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// Who holds it.
    pub scope: Scope,
    /// The place behind which it begins.
    pub from: Cursor,
    /// Its boundaries; for a write that covers, the deepest one.
    pub boundaries: &'a [Tokens],
    /// Until when they live.
    pub expiry: SimTime,
}

/// How much one machine may hold, what it holds, and what goes first.
#[derive(Clone, Debug)]
pub struct Capacity {
    most_tokens: u64,
    /// Distinct live tokens, as of the last effect.
    tokens: u64,
    /// Effects so far.
    effects: u64,
    /// Tails so far. A tail has no edge in the tree: tails are numbered downwards from the last edge there can be.
    tails: u32,
    held: BTreeMap<Spot, Held>,
    /// The boundary of each stretch that goes first.
    victims: BTreeSet<Victim>,
    /// When the first boundary of each stretch dies.
    deaths: BTreeSet<(SimTime, Spot)>,
}

/// A stretch of text as one scope holds it.
type Spot = (Scope, EdgeId);

/// When a boundary was last used: by which effect, and in which turn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    depth: Tokens,
    effect: u64,
    turn: u32,
}

/// A boundary that may be evicted; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    effect: u64,
    depth: Reverse<Tokens>,
    turn: u32,
    spot: Spot,
}

/// What is held of one stretch.
#[derive(Clone, Debug)]
struct Held {
    /// The place behind which it begins.
    from: Cursor,
    /// Its deepest live boundary, 0 if none is its own.
    own: Tokens,
    /// Uses of its boundaries, deepest first: a staircase if the store covers, one for each boundary otherwise.
    uses: SmallVec<[Use; 2]>,
    /// Where other held stretches begin, and how many.
    branches: BTreeMap<Tokens, u32>,
    /// The depth down to which its tokens are counted.
    counted: Tokens,
    victim: Option<Victim>,
    death: Option<SimTime>,
}

impl Held {
    fn behind(from: Cursor) -> Self {
        Self {
            from,
            own: 0,
            uses: SmallVec::new(),
            branches: BTreeMap::new(),
            counted: from.depth,
            victim: None,
            death: None,
        }
    }

    /// The depth down to which its tokens are needed.
    fn needed(&self) -> Tokens {
        let deepest_branch = self.branches.last_key_value().map_or(0, |(depth, _)| *depth);
        self.own.max(deepest_branch).max(self.from.depth)
    }

    /// Notes that another stretch begins (or ends) to need the tokens before `depth`.
    fn branch(&mut self, depth: Tokens, begins: bool) {
        let count = self.branches.entry(depth).or_default();
        if begins {
            *count += 1
        } else {
            *count -= 1
        }
        if *count == 0 {
            self.branches.remove(&depth);
        }
    }

    /// Notes a use; of all boundaries down to its depth, if the store covers.
    fn used(&mut self, covers: bool, latest: Use) {
        let deeper = self.uses.partition_point(|earlier| earlier.depth > latest.depth);
        let is_renewed = |earlier: &&Use| covers || earlier.depth == latest.depth;
        let renewed = self.uses[deeper..].iter().take_while(is_renewed).count();
        self.uses.drain(deeper..deeper + renewed);
        self.uses.insert(deeper, latest);
    }

    /// Takes over what is live, and forgets the uses of what is not.
    fn keep(&mut self, covers: bool, live: &[Step]) {
        self.own = live.first().map_or(0, |step| step.depth);
        if !covers || self.own == 0 {
            let is_live =
                |depth| live.binary_search_by_key(&Reverse(depth), |step| Reverse(step.depth)).is_ok();
            self.uses.retain(|used| is_live(used.depth));
            return;
        }
        // The shallowest use that reaches the deepest live boundary is its latest.
        let older = self.uses.iter().skip(1).take_while(|used| used.depth >= self.own).count();
        self.uses.drain(..older);
        if let Some(first) = self.uses.first_mut() {
            first.depth = first.depth.min(self.own);
        }
    }
}

impl Capacity {
    /// An empty machine with room for so many distinct tokens.
    pub fn new(most_tokens: u64) -> Self {
        Self {
            most_tokens,
            tokens: 0,
            effects: 0,
            tails: 0,
            held: BTreeMap::new(),
            victims: BTreeSet::new(),
            deaths: BTreeSet::new(),
        }
    }

    /// Counts what one effect has just done to the store, the tail it wrote included, and evicts what there is no
    /// room for. Answers whose boundaries went.
    pub fn settle(
        &mut self,
        tree: &PrefixTree,
        store: &mut Store,
        tail: &Tail,
        now: SimTime,
    ) -> BTreeSet<Scope> {
        self.effects += 1;
        let mut turn = 0;
        for touched in store.take_touched() {
            match touched {
                Touched::Used(scope, at) => self.use_path(tree, store, scope, at, turn, now),
                Touched::Dropped(scope) => self.drop_scope(tree, store, scope, now),
            }
            turn += 1;
        }
        self.hold_tail(tree, store, tail, turn, now);
        while let Some((death, spot)) = self.deaths.first().copied()
            && death < now
        {
            self.update(tree, store, spot, None, now);
        }
        let mut evicted = BTreeSet::new();
        while self.tokens > self.most_tokens {
            evicted.insert(self.evict(tree, store, now));
        }
        evicted
    }

    /// When the last boundary of a scope dies; `None` if it has none.
    pub fn lives_until(&self, store: &mut Store, scope: Scope, now: SimTime) -> Option<SimTime> {
        let edges = self.edges_of(scope).into_iter();
        edges.filter_map(|edge| store.live(scope, edge, now).iter().map(|step| step.expiry()).max()).max()
    }

    fn edges_of(&self, scope: Scope) -> Vec<EdgeId> {
        let all = (scope, EdgeId(u32::MIN))..=(scope, EdgeId(u32::MAX));
        self.held.range(all).map(|((_, edge), _)| *edge).collect()
    }

    /// Notes that the boundary at `at` was used and, if the store covers, all before it.
    fn use_path(
        &mut self,
        tree: &PrefixTree,
        store: &mut Store,
        scope: Scope,
        at: Cursor,
        turn: u32,
        now: SimTime,
    ) {
        let effect = self.effects;
        let used = if store.covers() { usize::MAX } else { 1 };
        for PathStep { edge, start, leave } in tree.path(at).take(used) {
            let depth = store.boundary(leave);
            if depth > start {
                self.update(tree, store, (scope, edge), Some(Use { depth, effect, turn }), now);
            }
        }
    }

    /// Notes that the store dropped what a scope held, but for what it then wrote again.
    fn drop_scope(&mut self, tree: &PrefixTree, store: &mut Store, scope: Scope, now: SimTime) {
        for edge in self.edges_of(scope) {
            if !tree.contains(edge) {
                store.clear(scope, edge);
            }
            self.update(tree, store, (scope, edge), None, now);
        }
    }

    fn hold_tail(&mut self, tree: &PrefixTree, store: &mut Store, tail: &Tail, turn: u32, now: SimTime) {
        if tail.boundaries.is_empty() || tail.expiry < now {
            return;
        }
        let edge = EdgeId(u32::MAX - self.tails);
        assert!(!tree.contains(edge), "fewer than 2^32 edges and tails");
        self.tails += 1;
        self.held.insert((tail.scope, edge), Held::behind(tail.from));
        for depth in tail.boundaries {
            store.mark(tail.scope, edge, *depth, tail.expiry);
            let latest = Use { depth: *depth, effect: self.effects, turn };
            self.update(tree, store, (tail.scope, edge), Some(latest), now);
        }
    }

    /// Evicts the boundary that goes first, with those of the same stretch that would go right after it, and
    /// answers whose it was.
    fn evict(&mut self, tree: &PrefixTree, store: &mut Store, now: SimTime) -> Scope {
        let victim = *self.victims.first().expect("tokens are counted for the boundaries behind them");
        let spot @ (scope, edge) = victim.spot;
        if store.covers() {
            let kept = store.boundary(self.kept(&victim));
            if kept > self.held[&spot].from.depth {
                store.cut(scope, edge, kept);
            } else {
                store.clear(scope, edge);
            }
        } else {
            store.unmark(scope, edge, victim.depth.0);
        }
        self.update(tree, store, spot, None, now);
        scope
    }

    /// Down to which depth the boundaries behind a victim go with it, one after another, in a store that covers:
    /// until there is room, or others are as old.
    fn kept(&self, victim: &Victim) -> Tokens {
        let Victim { effect, depth: Reverse(depth), spot, .. } = *victim;
        let held = &self.held[&spot];
        let excess = self.tokens - self.most_tokens;
        let enough = u64::from(held.counted).saturating_sub(excess) as Tokens;
        let used_later = held.uses.get(1).map_or(0, |later| later.depth);
        let rival = self.victims.iter().nth(1).filter(|rival| rival.effect == effect);
        let rival = rival.map_or(0, |rival| rival.depth.0);
        // What hangs on a branch was written no earlier than the victim, along the path up to that branch: later
        // uses and rivals stop there already.
        enough.max(used_later).max(rival).min(depth - 1)
    }

    /// Brings the books of one stretch up to what the store holds of it now.
    fn update(
        &mut self,
        tree: &PrefixTree,
        store: &mut Store,
        spot: Spot,
        latest: Option<Use>,
        now: SimTime,
    ) {
        let (scope, edge) = spot;
        let covers = store.covers();
        let held = self.held.entry(spot).or_insert_with(|| Held::behind(tree.origin(edge)));
        if let Some(latest) = latest {
            held.used(covers, latest);
        }
        let live = store.live(scope, edge, now);
        held.keep(covers, live);
        // Of a staircase the deepest step is used the longest ago, and dies first.
        let first = if covers { 1 } else { usize::MAX };
        let as_victim =
            |&Use { depth, effect, turn }: &Use| Victim { effect, depth: Reverse(depth), turn, spot };
        let victim = held.uses.iter().take(first).map(as_victim).min();
        let death = live.iter().take(first).map(|step| step.expiry()).min();
        let victim_before = mem::replace(&mut held.victim, victim);
        let death_before = mem::replace(&mut held.death, death);
        if victim != victim_before {
            victim_before.map(|before| self.victims.remove(&before));
            self.victims.extend(victim);
        }
        if death != death_before {
            death_before.map(|before| self.deaths.remove(&(before, spot)));
            self.deaths.extend(death.map(|death| (death, spot)));
        }
        self.count(tree, spot);
    }

    /// Counts the tokens of a stretch again and, where it begins or ends to need those before it, of them.
    fn count(&mut self, tree: &PrefixTree, (scope, mut edge): Spot) {
        while let Some(held) = self.held.get_mut(&(scope, edge)) {
            let Cursor { edge: parent, depth: start } = held.from;
            let needed = held.needed();
            let before = mem::replace(&mut held.counted, needed);
            self.tokens = self.tokens + u64::from(needed) - u64::from(before);
            if needed == start {
                self.held.remove(&(scope, edge));
            }
            if (before > start) == (needed > start) || start == 0 {
                break;
            }
            let above = self.held.entry((scope, parent)).or_insert_with(|| Held::behind(tree.origin(parent)));
            above.branch(start, needed > start);
            edge = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Run;
    use crate::provider::profile::Profile;
    use crate::provider::write::{Readable, Write};

    /// A store of partial prefixes, with a boundary every 128 tokens, and its capacity.
    fn machine(most_tokens: u64) -> (Store, Capacity) {
        let ideal = Profile::load("ideal", std::path::Path::new("")).unwrap().provider("ideal").unwrap();
        let rules = Write { interval: 128, ..ideal.write };
        (Store::noting(&rules), Capacity::new(most_tokens))
    }

    fn apply(
        (store, capacity): &mut (Store, Capacity),
        tree: &PrefixTree,
        at: Cursor,
        tail: &[Tokens],
        (now, expiry): (u64, u64),
    ) {
        let (scope, now, expiry) = (Scope::SHARED, SimTime(now), SimTime(expiry));
        store.write(tree, scope, at, now, expiry);
        capacity.settle(tree, store, &Tail { scope, from: at, boundaries: tail, expiry }, now);
    }

    fn read((store, _): &(Store, Capacity), tree: &PrefixTree, at: Cursor, now: u64) -> Tokens {
        store.read(tree, Scope::SHARED, at, &Readable::Everywhere, SimTime(now))
    }

    #[test]
    fn what_has_expired_takes_no_room() {
        let mut tree = PrefixTree::new(256);
        let [old, dead, new] = [1, 2, 3].map(|content| tree.append(Cursor::ROOT, Run::piece(content, 128)));
        let mut machine = machine(256);
        apply(&mut machine, &tree, old, &[], (0, 100));
        apply(&mut machine, &tree, dead, &[], (1, 10));
        assert_eq!(machine.1.tokens, 256);
        apply(&mut machine, &tree, new, &[], (11, 100));
        assert_eq!(machine.1.tokens, 256);
        assert_eq!([old, dead, new].map(|at| read(&machine, &tree, at, 11)), [128, 0, 128]);
    }

    #[test]
    fn a_tail_of_its_own_takes_room_and_goes_before_what_it_hangs_on() {
        let mut tree = PrefixTree::new(256);
        let [one, other] = [1, 2].map(|content| tree.append(Cursor::ROOT, Run::piece(content, 300)));
        let mut machine = machine(1_000);
        // Its deepest boundary is at 896; the 44 tokens between 256 and the tail are needed by the tail alone.
        apply(&mut machine, &tree, one, &[896], (0, 100));
        assert_eq!(machine.1.tokens, 896);
        apply(&mut machine, &tree, other, &[], (1, 100));
        assert_eq!(machine.1.tokens, 640 + 256, "the tail lost two boundaries");
        apply(&mut machine, &tree, other, &[768], (2, 100));
        assert_eq!(machine.1.tokens, 128 + 768, "the tail is gone, and a boundary of what it hung on");
        assert_eq!([one, other].map(|at| read(&machine, &tree, at, 2)), [128, 256]);
        // At 101 all but what was renewed is dead.
        apply(&mut machine, &tree, Cursor { depth: 128, ..one }, &[], (101, 200));
        assert_eq!((machine.1.tokens, machine.1.held.len()), (128, 1));
    }

    #[test]
    fn a_long_prompt_goes_in_as_few_steps_as_a_short_one() {
        for tokens in [1_024, 350_208] {
            let mut tree = PrefixTree::new(256);
            let mut machine = machine(u64::from(tokens) * 3 / 2);
            for content in 0..100 {
                let at = tree.append(Cursor::ROOT, Run::piece(content, tokens));
                apply(&mut machine, &tree, at, &[], (content, 1_000));
            }
            let (mut store, mut capacity) = machine;
            assert_eq!((capacity.held.len(), store.len()), (2, 2));
            assert_eq!(capacity.tokens, u64::from(tokens) * 3 / 2);
            // The half that is left of the last but one, then all the last one but a boundary.
            capacity.most_tokens = 128;
            for left in [u64::from(tokens), 128] {
                capacity.evict(&tree, &mut store, SimTime(100));
                assert_eq!(capacity.tokens, left);
            }
        }
    }
}
