//! Store: one machine's live boundaries.
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

use crate::prompt::{Cursor, EdgeId, PathStep, PrefixTree};
use crate::provider::write::{Readable, Write};
use crate::units::{SimTime, Tokens};

/// Whose boundaries these are, within one store: requests read and write under a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u64);

impl Scope {
    /// One scope for everybody.
    pub const SHARED: Self = Self(0);
}

/// Boundaries up to (or exactly at) a depth, alive until an expiry, that moment included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tokens from the beginning of the prompt.
    pub depth: Tokens,
    /// When they die.
    pub expiry: SimTime,
}

/// The steps on one edge, deepest first.
type Steps = SmallVec<[Step; 2]>;

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

/// The live boundaries of one machine.
#[derive(Clone, Debug)]
pub struct Store {
    covers: bool,
    steps: FxHashMap<(Scope, EdgeId), Steps>,
    /// Edges after the last clean-up: dead ones are swept when their number has doubled.
    kept: usize,
    /// Only where room is limited.
    notes: Option<Box<Notes>>,
}

impl Store {
    /// An empty store; `covers` says whether a write at one depth also stores the boundaries before it.
    pub fn new(covers: bool) -> Self {
        Self { covers, steps: FxHashMap::default(), kept: 0, notes: None }
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
    pub fn read(
        &self,
        tree: &PrefixTree,
        scope: Scope,
        at: Cursor,
        readable: &Readable,
        now: SimTime,
    ) -> Tokens {
        for PathStep { edge, leave, .. } in tree.path(at) {
            let Some(steps) = self.steps.get(&(scope, edge)) else { continue };
            for step in steps {
                if step.expiry >= now && (self.covers || step.depth <= leave && readable.allows(step.depth)) {
                    return step.depth.min(leave);
                }
            }
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
            let steps = self.steps.get(&(scope, edge)).into_iter().flatten();
            for step in steps {
                if step.expiry < from {
                    continue;
                }
                answers.push(Step { depth: step.depth.min(leave), ..*step });
                if step.expiry >= last {
                    return answers;
                }
                from = SimTime(step.expiry.0 + 1);
            }
        }
        answers
    }

    /// Stores the boundary at `at` (and, if this store covers, all before it) until at least `expiry`.
    pub fn write(&mut self, tree: &PrefixTree, scope: Scope, at: Cursor, now: SimTime, expiry: SimTime) {
        self.note(Touched::Used(scope, at));
        for PathStep { edge, leave, start } in tree.path(at) {
            let depth = self.boundary(leave);
            if depth > start {
                let steps = self.steps.entry((scope, edge)).or_default();
                steps.retain(|step| step.expiry >= now);
                let covered =
                    if self.covers { cover(steps, depth, expiry) } else { mark(steps, depth, expiry) };
                if covered {
                    // Expiries never fall towards the root: what covers this edge covers the rest of the path.
                    break;
                }
            }
            if !self.covers {
                break;
            }
        }
        self.sweep(now);
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
        let alive = self.read(tree, scope, at, &Readable::Everywhere, now).min(read);
        let path = tree.path(at).filter(|step| step.start < alive);
        if self.covers {
            // Everything down to `alive` is alive: renewing it is writing it again.
            if let Some(PathStep { edge, .. }) = { path }.next() {
                self.write(tree, scope, Cursor { edge, depth: alive }, now, expiry);
            }
            return;
        }
        for PathStep { edge, leave, .. } in path {
            for step in self.steps.get_mut(&(scope, edge)).into_iter().flatten() {
                if step.depth <= leave.min(read) && step.expiry >= now {
                    step.expiry = renewed(step.expiry, expiry);
                    if let Some(notes) = &mut self.notes {
                        notes.touched.push(Touched::Used(scope, Cursor { edge, depth: step.depth }));
                    }
                }
            }
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
                for step in self.steps.get(&(scope, edge)).into_iter().flatten() {
                    if self.covers {
                        if covered > start {
                            survivors.push((edge, Step { depth: step.depth.min(covered), ..*step }));
                        }
                    } else if step.depth == place.depth && place.depth <= leave {
                        survivors.push((edge, *step));
                    }
                }
            }
        }
        self.note(Touched::Dropped(scope));
        for PathStep { edge, .. } in tree.path(old) {
            self.steps.remove(&(scope, edge));
        }
        let mut latest = SimTime::ZERO;
        for (edge, Step { depth, expiry }) in survivors {
            let steps = self.steps.entry((scope, edge)).or_default();
            if self.covers {
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
        let Some(steps) = self.steps.get_mut(&(scope, edge)) else { return &[] };
        steps.retain(|step| step.expiry >= now);
        steps
    }

    /// Stores one boundary on an edge, and nothing before it.
    pub fn mark(&mut self, scope: Scope, edge: EdgeId, depth: Tokens, expiry: SimTime) {
        mark(self.steps.entry((scope, edge)).or_default(), depth, expiry);
    }

    /// Drops the boundary at `depth` from an edge, and nothing else.
    pub fn unmark(&mut self, scope: Scope, edge: EdgeId, depth: Tokens) {
        if let Some(steps) = self.steps.get_mut(&(scope, edge)) {
            steps.retain(|step| step.depth != depth);
        }
    }

    /// Drops the boundaries deeper than `kept` from an edge of a store that covers.
    pub fn cut(&mut self, scope: Scope, edge: EdgeId, kept: Tokens) {
        let Some(steps) = self.steps.get_mut(&(scope, edge)) else { return };
        // The shallowest step that reaches further says until when what is kept lives.
        let deeper = steps.iter().skip(1).take_while(|step| step.depth >= kept).count();
        steps.drain(..deeper);
        steps[0].depth = steps[0].depth.min(kept);
    }

    /// Drops all of an edge.
    pub fn clear(&mut self, scope: Scope, edge: EdgeId) {
        self.steps.remove(&(scope, edge));
    }

    fn note(&mut self, touched: Touched) {
        if let Some(notes) = &mut self.notes {
            notes.touched.push(touched);
        }
    }

    /// Edges with boundaries in this store, dead ones not yet swept included.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Frees what is dead, so that memory follows what is alive.
    fn sweep(&mut self, now: SimTime) {
        if self.steps.len() > 2 * self.kept + 64 {
            self.steps.retain(|_, steps| steps.iter().any(|step| step.expiry >= now));
            self.kept = self.steps.len();
        }
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

/// Inserts a step into a staircase; true if it was covered already.
fn cover(steps: &mut Steps, depth: Tokens, expiry: SimTime) -> bool {
    #[cfg(test)]
    if planted::SHORTENS.get() {
        steps.retain(|step| step.depth > depth);
    }
    // Deeper steps that live as long cover the new one; shallower ones that die no later are covered by it.
    let position = steps.iter().position(|step| step.depth <= depth).unwrap_or(steps.len());
    let deeper_lives_as_long = steps[..position].last().is_some_and(|step| step.expiry >= expiry);
    let same = steps.get(position).is_some_and(|step| step.depth == depth && step.expiry >= expiry);
    if deeper_lives_as_long || same {
        return true;
    }
    let dominated = steps[position..].iter().take_while(|step| step.expiry <= expiry).count();
    steps.drain(position..position + dominated);
    steps.insert(position, Step { depth, expiry });
    false
}

/// Inserts or renews one boundary; never covers what lies before it.
fn mark(steps: &mut Steps, depth: Tokens, expiry: SimTime) -> bool {
    match steps.iter().position(|step| step.depth <= depth) {
        Some(position) if steps[position].depth == depth => {
            steps[position].expiry = renewed(steps[position].expiry, expiry);
        }
        Some(position) => steps.insert(position, Step { depth, expiry }),
        None => steps.push(Step { depth, expiry }),
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
        assert_eq!(store.steps[&(Scope::SHARED, end.edge)].len(), 4);
    }

    #[test]
    fn dead_edges_are_swept() {
        let mut tree = PrefixTree::new(256);
        let mut store = Store::new(true);
        for n in 0..10_000 {
            let at = tree.append(Cursor::ROOT, Run::piece(n, 100));
            store.write(&tree, Scope::SHARED, at, SimTime(n), SimTime(n + 10));
        }
        assert!(store.len() < 200, "{} edges kept for 11 live ones", store.len());
    }
}
