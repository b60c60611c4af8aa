//! Store: live boundaries, of one machine or of many.
//!
//! On each edge of the prefix tree a store keeps a few (depth, expiry) steps. Where a write *covers* (partial
//! prefixes), a step at depth d says that every boundary up to d lives until its expiry: depths go down as
//! expiries go up, a staircase, of which only the undominated steps are kept. Otherwise (whole bodies) a step is
//! one boundary. Both are found from the deep end.
//!
//! The law the staircase must obey (the naive model in the tests): a boundary lives until
//! `max(old, arrival + L)` over all requests that wrote or renewed it.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::chunked::Chunked;
use crate::prompt::{Cursor, EdgeId, PathStep, PrefixTree};
use crate::provider::routing::MachineId;
use crate::provider::write::{Readable, Write};
use crate::random::fold;
use crate::units::{SimTime, Tokens};

/// Whose boundaries these are, within one store: requests read and write under a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u64);

impl Scope {
    /// One scope for everybody.
    pub const SHARED: Self = Self(0);

    /// What of it stands in one partition.
    #[inline(always)]
    pub fn within(self, partition: u32) -> Self {
        self.on(MachineId(partition))
    }

    /// What of it stands on one machine.
    #[inline(always)]
    pub fn on(self, machine: MachineId) -> Self {
        let machine = u64::from(machine.0) + 1;
        // A digest is never so small, but by a chance of one in billions.
        if self == Self::SHARED { Self(machine) } else { Self(fold(self.0, machine)) }
    }
}

/// Boundaries up to (or exactly at) a depth, alive until an expiry, that moment included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tokens from the beginning of the prompt.
    pub depth: Tokens,
    /// When they die, in halves: three steps and what is said of them take one cache line.
    expiry: [u32; 2],
}

impl Step {
    /// Boundaries up to (or exactly at) a depth, alive until an expiry.
    #[inline(always)]
    pub fn new(depth: Tokens, SimTime(expiry): SimTime) -> Self {
        Self { depth, expiry: [expiry as u32, (expiry >> u32::BITS) as u32] }
    }

    /// When they die.
    #[inline(always)]
    pub fn expiry(self) -> SimTime {
        let [low, high] = self.expiry.map(u64::from);
        SimTime(high << u32::BITS | low)
    }
}

/// The steps on one edge, deepest first: as many as one cache line has room for, seldom more.
type Steps = SmallVec<[Step; 3]>;

/// What a store answers at later and later moments: ever shallower depths, each until its expiry.
pub type Answers = SmallVec<[Step; 4]>;

/// What an effect did to a store of limited room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// It wrote or renewed the boundary at this place and, if the store covers, all before it.
    Used(Scope, Cursor),
    /// It dropped what this scope held.
    Dropped(Scope),
}

/// What is noted where room is limited.
#[derive(Clone, Debug)]
struct Notes {
    rules: Write,
    touched: Vec<Touched>,
}

/// The live boundaries that some scopes hold.
#[derive(Clone, Debug)]
pub struct Store {
    covers: bool,
    /// What one scope holds on each edge. Most edges belong to one session, which most often finds one machine.
    first: Chunked<Held>,
    /// What other scopes hold, and what stands on no edge of the tree.
    others: FxHashMap<(Scope, EdgeId), Steps>,
    /// Entries of `others` after the last clean-up: dead ones are swept when their number has doubled.
    kept: usize,
    /// Only where room is limited.
    notes: Option<Box<Notes>>,
}

/// What one scope holds on an edge; nothing, if there are no steps. One cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Held {
    scope: Scope,
    /// In a store that covers, while there are live steps: the place behind which the edge begins, so that the tree need
    /// not be asked.
    origin: Cursor,
    steps: Steps,
}

const _: () = assert!(size_of::<Held>() == 64);

impl Held {
    /// Its steps without dead ones, on an edge that begins behind `origin`.
    #[inline(always)]
    fn cleared(&mut self, origin: Cursor, now: SimTime) -> &mut Steps {
        drop_dead(&mut self.steps, now);
        if self.steps.is_empty() {
            // It may be another edge of the same number by now.
            self.origin = origin;
        }
        &mut self.steps
    }
}

/// Edges are numbered from 0 up; what takes room behind them, from the last number down.
const MOST_EDGES: u32 = 1 << 31;

impl Store {
    /// An empty store; `covers` says whether a write at one depth also stores the boundaries before it.
    pub fn new(covers: bool) -> Self {
        Self { covers, first: Chunked::default(), others: FxHashMap::default(), kept: 0, notes: None }
    }

    /// An empty store of limited room: it notes what is touched, for [`Capacity`](super::capacity::Capacity) to
    /// count, and its steps lie at boundaries, so that none outlives the boundary it stands for.
    pub fn noting(rules: &Write) -> Self {
        let notes = Notes { rules: rules.clone(), touched: Vec::new() };
        Self { notes: Some(Box::new(notes)), ..Self::new(rules.covers()) }
    }

    /// Whether a write at one depth also stores the boundaries before it.
    pub fn covers(&self) -> bool {
        self.covers
    }

    /// The deepest live depth on the path to `at`, 0 if there is none. A covering store answers with a depth
    /// up to which everything is alive, not yet floored to a boundary; any other only where the reader looks.
    #[inline(always)]
    pub fn read(
        &self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        readable: &Readable,
        now: SimTime,
    ) -> Tokens {
        for PathStep { edge, leave, .. } in tree.path(at) {
            for step in self.steps(scope, edge) {
                if step.expiry() >= now && (self.covers || step.depth <= leave && readable.allows(step.depth))
                {
                    return step.depth.min(leave);
                }
            }
        }
        0
    }

    /// What [`read`](Self::read) answers everywhere, of a store that covers.
    #[inline(always)]
    pub fn read_covered(&self, tree: &PrefixTree, scope: Scope, mut at: Cursor, now: SimTime) -> Tokens {
        while at.depth > 0 {
            if let Some(step) = self.steps(scope, at.edge).iter().find(|step| step.expiry() >= now) {
                return step.depth.min(at.depth);
            }
            at = tree.origin(at.edge);
        }
        0
    }

    /// Of a store that covers, what [`read`](Self::read) would answer at every moment from `first` to `last`:
    /// deepest first, each depth until its expiry.
    pub fn read_between(
        &self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        first: SimTime,
        last: SimTime,
    ) -> Answers {
        let mut answers = Answers::new();
        let mut from = first;
        for PathStep { edge, leave, .. } in tree.path(at) {
            for step in self.steps(scope, edge) {
                if step.expiry() < from {
                    continue;
                }
                answers.push(Step::new(step.depth.min(leave), step.expiry()));
                if step.expiry() >= last {
                    return answers;
                }
                from = SimTime(step.expiry().0 + 1);
            }
        }
        answers
    }

    /// Stores the boundary at `at` (and, if this store covers, all before it) until at least `expiry`.
    #[inline(always)]
    pub fn write(&mut self, tree: &PrefixTree, scope: Scope, at: Cursor, now: SimTime, expiry: SimTime) {
        self.note(Touched::Used(scope, at));
        for PathStep { edge, leave, start } in tree.path(at) {
            let depth = self.boundary(leave);
            if depth > start {
                let covers = self.covers;
                let steps = self.room(scope, edge, tree.origin(edge), now);
                let lived_as_long =
                    if covers { cover(steps, depth, expiry) } else { mark(steps, depth, expiry) };
                if lived_as_long {
                    // Expiries never fall towards the root: neither does the rest of the path live longer now.
                    break;
                }
            }
            if !self.covers {
                break;
            }
        }
        self.sweep(now);
    }

    /// The same of a store that covers and has room for everything.
    #[inline(always)]
    pub fn cover(&mut self, tree: &PrefixTree, scope: Scope, mut at: Cursor, now: SimTime, expiry: SimTime) {
        while let Some(before) = self.cover_edge(tree, scope, at, now, expiry) {
            at = before;
        }
        self.sweep(now);
    }

    /// The same on the last edge of the path alone: the place before it, unless all before it lives as long already.
    #[inline(always)]
    pub fn cover_end(
        &mut self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        now: SimTime,
        expiry: SimTime,
    ) -> Option<Cursor> {
        let before = self.cover_edge(tree, scope, at, now, expiry)?;
        (!self.is_covered(scope, before, expiry)).then_some(before)
    }

    /// Whether everything on the path to `at` lives until `expiry` at least, of a store that covers.
    #[inline(always)]
    pub fn is_covered(&self, scope: Scope, at: Cursor, expiry: SimTime) -> bool {
        let lives_as_long = |step: &Step| step.depth >= at.depth && step.expiry() >= expiry;
        at.depth == 0 || self.steps(scope, at.edge).iter().any(lives_as_long)
    }

    /// Covers one edge: the place before it, unless all before it lives as long already.
    #[inline(always)]
    fn cover_edge(
        &mut self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        now: SimTime,
        expiry: SimTime,
    ) -> Option<Cursor> {
        if at.depth == 0 {
            return None;
        }
        let held = self.first.get_mut(at.edge.0 as usize).filter(|held| held.scope == scope);
        let alive = held.filter(|held| is_alive(&held.steps, now));
        let (origin, steps) = match alive {
            Some(held) => (held.origin, &mut held.steps),
            None => {
                let origin = tree.origin(at.edge);
                // What many share stands here.
                let steps = match self.others.get_mut(&(scope, at.edge)) {
                    Some(steps) if is_alive(steps, now) => steps,
                    _ => self.room(scope, at.edge, origin, now),
                };
                (origin, steps)
            }
        };
        let covered = at.depth > origin.depth && raise(steps, at.depth, now, expiry);
        (!covered).then_some(origin)
    }

    /// Renews every live boundary on the path to `at` down to depth `read`, until at least `expiry`.
    pub fn renew(
        &mut self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        read: Tokens,
        now: SimTime,
        expiry: SimTime,
    ) {
        if self.covers {
            let alive = self.read(tree, scope, at, &Readable::Everywhere, now).min(read);
            // Everything down to `alive` is alive: renewing it is writing it again.
            if let Some(PathStep { edge, .. }) = tree.path(at).find(|step| step.start < alive) {
                self.write(tree, scope, Cursor { edge, depth: alive }, now, expiry);
            }
            return;
        }
        for PathStep { edge, leave, .. } in tree.path(at).filter(|step| step.start < read) {
            let mut notes = self.notes.take();
            for step in self.steps_mut(scope, edge).into_iter().flatten() {
                if step.depth <= leave.min(read) && step.expiry() >= now {
                    *step = Step::new(step.depth, renewed(step.expiry(), expiry));
                    if let Some(notes) = &mut notes {
                        notes.touched.push(Touched::Used(scope, Cursor { edge, depth: step.depth }));
                    }
                }
            }
            self.notes = notes;
        }
    }

    /// Drops what this scope holds on the path to `old`, but for the boundaries that a write at `kept` stores
    /// again: replacing a body must not shorten the life of what both bodies contain. Answers until when that
    /// lives, as far as its depth `holds_boundary`.
    pub fn replace(
        &mut self,
        tree: &PrefixTree,
        scope: Scope,
        old: Cursor,
        kept: &[Cursor],
        holds_boundary: impl Fn(Tokens) -> bool,
    ) -> SimTime {
        let mut survivors: Vec<(EdgeId, Step)> = Vec::new();
        for place in kept {
            for PathStep { edge, leave, start } in tree.path(*place) {
                let covered = self.boundary(leave);
                for step in self.steps(scope, edge) {
                    if self.covers {
                        if covered > start {
                            survivors.push((edge, Step::new(step.depth.min(covered), step.expiry())));
                        }
                    } else if step.depth == place.depth && place.depth <= leave {
                        survivors.push((edge, *step));
                    }
                }
            }
        }
        self.note(Touched::Dropped(scope));
        for PathStep { edge, .. } in tree.path(old) {
            self.clear(scope, edge);
        }
        let mut latest = SimTime::ZERO;
        for (edge, step) in survivors {
            let (depth, expiry) = (step.depth, step.expiry());
            let covers = self.covers;
            let steps = self.room(scope, edge, tree.origin(edge), SimTime::ZERO);
            if covers {
                cover(steps, depth, expiry)
            } else {
                mark(steps, depth, expiry)
            };
            if holds_boundary(depth) {
                latest = latest.max(expiry);
            }
        }
        latest
    }

    /// What effects have touched since this was last asked, in that order.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        self.notes.as_mut().map(|notes| std::mem::take(&mut notes.touched)).unwrap_or_default()
    }

    /// The deepest boundary at or before `depth`: where room is limited, nothing else is stored.
    pub fn boundary(&self, depth: Tokens) -> Tokens {
        self.notes.as_ref().map_or(depth, |notes| notes.rules.boundary(depth))
    }

    /// The live steps on one edge, deepest first; dead ones are dropped.
    pub fn live(&mut self, scope: Scope, edge: EdgeId, now: SimTime) -> &[Step] {
        let Some(steps) = self.steps_mut(scope, edge) else { return &[] };
        drop_dead(steps, now);
        steps
    }

    /// Stores one boundary on an edge, and nothing before it.
    pub fn mark(&mut self, scope: Scope, edge: EdgeId, depth: Tokens, expiry: SimTime) {
        // Nobody looks behind it: it may be no edge of a tree.
        mark(self.room(scope, edge, Cursor::ROOT, SimTime::ZERO), depth, expiry);
    }

    /// Drops the boundary at `depth` from an edge, and nothing else.
    pub fn unmark(&mut self, scope: Scope, edge: EdgeId, depth: Tokens) {
        if let Some(steps) = self.steps_mut(scope, edge) {
            steps.retain(|step| step.depth != depth);
        }
    }

    /// Drops the boundaries deeper than `kept` from an edge of a store that covers.
    pub fn cut(&mut self, scope: Scope, edge: EdgeId, kept: Tokens) {
        let Some(steps) = self.steps_mut(scope, edge).filter(|steps| !steps.is_empty()) else { return };
        // The shallowest step that reaches further says until when what is kept lives.
        let deeper = steps.iter().skip(1).take_while(|step| step.depth >= kept).count();
        steps.drain(..deeper);
        steps[0].depth = steps[0].depth.min(kept);
    }

    /// Drops all that a scope holds on an edge.
    pub fn clear(&mut self, scope: Scope, edge: EdgeId) {
        match self.first.get_mut(edge.0 as usize) {
            Some(held) if held.scope == scope => held.steps.clear(),
            _ => drop(self.others.remove(&(scope, edge))),
        }
    }

    /// Edges and scopes with boundaries in this store, dead ones not yet swept included.
    pub fn len(&self) -> usize {
        self.others.len() + self.first.iter().filter(|held| !held.steps.is_empty()).count()
    }

    /// Bytes that the places on edges take.
    pub fn bytes(&self) -> usize {
        self.first.bytes()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a bit of what is held on an edge, so that it is at hand.
    pub fn touch(&self, edge: EdgeId) -> u64 {
        self.first.get(edge.0 as usize).map_or(0, |held| held.scope.0)
    }

    /// The edges on which something is alive.
    pub fn live_edges(&self, now: SimTime) -> impl Iterator<Item = EdgeId> {
        let alive = move |steps: &Steps| steps.iter().any(|step| step.expiry() >= now);
        let first = self.first.iter().zip(0..).filter(move |(held, _)| alive(&held.steps));
        let others = self.others.iter().filter(move |(_, steps)| alive(steps));
        first.map(|(_, edge)| EdgeId(edge)).chain(others.map(|((_, edge), _)| *edge))
    }

    fn note(&mut self, touched: Touched) {
        if let Some(notes) = &mut self.notes {
            notes.touched.push(touched);
        }
    }

    /// The steps of a scope on an edge, deepest first.
    #[inline]
    fn steps(&self, scope: Scope, edge: EdgeId) -> &[Step] {
        match self.first.get(edge.0 as usize) {
            Some(held) if held.scope == scope => &held.steps,
            _ if self.others.is_empty() => &[],
            _ => self.others.get(&(scope, edge)).map_or(&[], |steps| steps),
        }
    }

    fn steps_mut(&mut self, scope: Scope, edge: EdgeId) -> Option<&mut Steps> {
        match self.first.get_mut(edge.0 as usize) {
            Some(held) if held.scope == scope => Some(&mut held.steps),
            _ => self.others.get_mut(&(scope, edge)),
        }
    }

    /// Where a scope's steps on an edge, which begins behind `origin`, stand or will stand, without dead ones.
    #[inline(always)]
    fn room(&mut self, scope: Scope, edge: EdgeId, origin: Cursor, now: SimTime) -> &mut Steps {
        let index = edge.0 as usize;
        if self.first.get(index).is_none_or(|held| held.scope != scope) {
            return self.make_room(scope, edge, origin, now);
        }
        self.first[index].cleared(origin, now)
    }

    /// The same for a scope that is not the first on an edge, or not yet.
    fn make_room(&mut self, scope: Scope, edge: EdgeId, origin: Cursor, now: SimTime) -> &mut Steps {
        let index = edge.0 as usize;
        let is_dead = |steps: &Steps| steps.iter().all(|step| step.expiry() < now);
        while index >= self.first.len() && edge.0 < MOST_EDGES {
            self.first.push(Held { scope, origin, steps: Steps::new() });
        }
        // A place is free for the next scope as soon as all in it is dead.
        if let Some(held) = self.first.get_mut(index).filter(|held| is_dead(&held.steps)) {
            if held.scope != scope {
                let steps = self.others.remove(&(scope, edge)).unwrap_or_default();
                *held = Held { scope, origin, steps };
            }
            return held.cleared(origin, now);
        }
        let steps = self.others.entry((scope, edge)).or_default();
        drop_dead(steps, now);
        steps
    }

    /// Frees what is dead, so that memory follows what is alive.
    #[inline]
    fn sweep(&mut self, now: SimTime) {
        if self.others.len() > 2 * self.kept + 64 {
            self.others.retain(|_, steps| steps.iter().any(|step| step.expiry() >= now));
            self.kept = self.others.len();
        }
    }
}

#[inline]
fn drop_dead(steps: &mut Steps, now: SimTime) {
    if steps.iter().any(|step| step.expiry() < now) {
        steps.retain(|step| step.expiry() >= now);
    }
}

/// The expiry of a boundary that is written or renewed: never earlier than it was.
fn renewed(old: SimTime, new: SimTime) -> SimTime {
    #[cfg(test)]
    if planted::SHORTENS.get() {
        return new;
    }
    old.max(new)
}

/// Whether any step of a staircase is alive: the shallowest lives longest.
#[inline(always)]
fn is_alive(staircase: &Steps, now: SimTime) -> bool {
    staircase.last().is_some_and(|step| step.expiry() >= now)
}

/// Inserts a step into a staircase that may have dead steps; true if a part of it, however short, lived as long before.
#[inline]
fn raise(steps: &mut Steps, depth: Tokens, now: SimTime, expiry: SimTime) -> bool {
    if let [deepest, ..] = steps[..]
        && depth < deepest.depth
    {
        drop_dead(steps, now);
    }
    cover(steps, depth, expiry)
}

/// Inserts a step into a staircase; true if a part of it, however short, lived as long before.
#[inline]
fn cover(steps: &mut Steps, depth: Tokens, expiry: SimTime) -> bool {
    #[cfg(test)]
    if planted::SHORTENS.get() {
        steps.retain(|step| step.depth > depth);
    }
    // Most often it is the deepest so far.
    if let [deepest, others @ ..] = &mut steps[..]
        && depth >= deepest.depth
    {
        let lived = deepest.expiry();
        if lived > expiry {
            if depth > deepest.depth {
                steps.insert(0, Step::new(depth, expiry));
            }
            return true;
        }
        *deepest = Step::new(depth, expiry);
        let lived_as_long = others.last().map_or(lived, |latest| latest.expiry()) >= expiry;
        let dominated = others.iter().take_while(|step| step.expiry() <= expiry).count();
        if dominated > 0 {
            drop(steps.drain(1..1 + dominated));
        }
        return lived_as_long;
    }
    cover_steps(steps, depth, expiry)
}

fn cover_steps(steps: &mut Steps, depth: Tokens, expiry: SimTime) -> bool {
    // Deeper steps that live as long cover the new one; shallower ones that die no later are covered by it.
    let position = steps.iter().position(|step| step.depth <= depth).unwrap_or(steps.len());
    let deeper_lives_as_long = steps[..position].last().is_some_and(|step| step.expiry() >= expiry);
    let same = steps.get(position).is_some_and(|step| step.depth == depth && step.expiry() >= expiry);
    if deeper_lives_as_long || same {
        return true;
    }
    let dominated = steps[position..].iter().take_while(|step| step.expiry() <= expiry).count();
    let step = Step::new(depth, expiry);
    let lived_as_long = steps.last().is_some_and(|latest| latest.expiry() >= expiry);
    if dominated == 0 {
        steps.insert(position, step);
    } else {
        steps[position] = step;
    }
    if dominated > 1 {
        drop(steps.drain(position + 1..position + dominated));
    }
    lived_as_long
}

/// Inserts or renews one boundary; never covers what lies before it.
fn mark(steps: &mut Steps, depth: Tokens, expiry: SimTime) -> bool {
    match steps.iter().position(|step| step.depth <= depth) {
        Some(position) if steps[position].depth == depth => {
            steps[position] = Step::new(depth, renewed(steps[position].expiry(), expiry));
        }
        Some(position) => steps.insert(position, Step::new(depth, expiry)),
        None => steps.push(Step::new(depth, expiry)),
    }
    false
}

/// A bug that tests switch on, to show that the naive model finds it.
#[cfg(test)]
pub mod planted {
    use std::cell::Cell;

    thread_local! {
        /// A renewal with a shorter lifetime shortens what was there.
        pub static SHORTENS: Cell<bool> = const { Cell::new(false) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Run;

    #[test]
    fn a_staircase_keeps_only_steps_that_matter() {
        let mut tree = PrefixTree::new(256);
        let end = tree.append(Cursor::ROOT, Run { content: 0, pieces: 10, piece_tokens: 100 });
        let at = |depth| Cursor { depth, ..end };
        let mut store = Store::new(true);
        let mut write =
            |depth, expiry| store.write(&tree, Scope::SHARED, at(depth), SimTime(0), SimTime(expiry));
        write(500, 50);
        write(300, 80);
        write(400, 60);
        write(200, 70);
        write(1000, 10);
        let read = |now| store.read(&tree, Scope::SHARED, end, &Readable::Everywhere, SimTime(now));
        assert_eq!(
            [0, 10, 11, 50, 51, 60, 61, 80, 81].map(read),
            [1000, 1000, 500, 500, 400, 400, 300, 300, 0]
        );
        assert_eq!(store.steps(Scope::SHARED, end.edge).len(), 4);
    }

    #[test]
    fn what_many_scopes_held_on_one_edge_is_swept() {
        let mut tree = PrefixTree::new(256);
        let mut store = Store::new(true);
        let at = tree.append(Cursor::ROOT, Run::piece(0, 100));
        for n in 0..10_000 {
            store.write(&tree, Scope(n), at, SimTime(n), SimTime(n + 10));
        }
        assert!(store.len() < 200, "{} scopes kept for 11 live ones", store.len());
        assert_eq!(store.live_edges(SimTime(10_010)).count(), 0);
        assert_eq!(store.live_edges(SimTime(9_999)).filter(|edge| *edge == at.edge).count(), 11);
    }
}
