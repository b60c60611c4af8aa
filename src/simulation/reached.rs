//! A set of boundaries that never forgets: how deep anything reached, whatever has become of it since.
//!
//! It answers as a [`Store`] does in which everything lives for ever. Where writes cover, one number an edge says all that
//! such a store would know, and most edges belong to one scope.

use rustc_hash::FxHashMap;

use crate::prompt::{Cursor, EdgeId, PathStep, PrefixTree};
use crate::provider::store::{Scope, Store};
use crate::provider::write::Readable;
use crate::units::{SimTime, Tokens};

/// A set that never forgets.
#[derive(Clone, Debug)]
pub enum Reached {
    /// A write holds all boundaries up to its place.
    Covering(Depths),
    /// A write holds one boundary.
    Single(Store),
}

impl Reached {
    /// An empty set; `covers` says whether a write at one depth also holds the boundaries before it.
    pub fn new(covers: bool) -> Self {
        if covers { Self::Covering(Depths::default()) } else { Self::Single(Store::new(false)) }
    }

    /// The deepest depth on the path to `at` that a scope holds, 0 if there is none: where it covers, not floored to a
    /// boundary, and otherwise where the reader looks.
    #[inline(always)]
    pub fn read(&self, tree: &PrefixTree, scope: Scope, at: Cursor, readable: &Readable) -> Tokens {
        match self {
            Self::Covering(depths) => depths.read(tree, scope, at),
            // It has no clock.
            Self::Single(store) => store.read(tree, scope, at, readable, SimTime::ZERO),
        }
    }

    /// Holds the boundary at `at` (and, if this set covers, all before it).
    #[inline(always)]
    pub fn write(&mut self, tree: &PrefixTree, scope: Scope, at: Cursor) {
        match self {
            Self::Covering(depths) => depths.write(tree, scope, at),
            Self::Single(store) => store.write(tree, scope, at, SimTime::ZERO, SimTime::NEVER),
        }
    }

    /// Reads a bit of what is held on an edge, so that it is at hand.
    pub fn touch(&self, edge: EdgeId) -> u64 {
        match self {
            Self::Covering(depths) => {
                depths.first.get(edge.0 as usize).map_or(0, |held| u64::from(held.depth))
            }
            Self::Single(store) => store.touch(edge),
        }
    }
}

/// Down to which depth each scope holds everything, edge by edge.
#[derive(Clone, Debug, Default)]
pub struct Depths {
    /// What the first scope holds on each edge.
    first: Vec<Held>,
    /// What other scopes hold.
    others: FxHashMap<(Scope, EdgeId), Tokens>,
}

/// Down to which depth one scope holds an edge; 0 if nobody does.
#[derive(Clone, Copy, Debug)]
struct Held {
    scope: Scope,
    depth: Tokens,
}

impl Depths {
    #[inline(always)]
    fn read(&self, tree: &PrefixTree, scope: Scope, at: Cursor) -> Tokens {
        for PathStep { edge, leave, .. } in tree.path(at) {
            let depth = self.depth(scope, edge);
            if depth > 0 {
                return depth.min(leave);
            }
        }
        0
    }

    #[inline(always)]
    fn write(&mut self, tree: &PrefixTree, scope: Scope, at: Cursor) {
        for PathStep { edge, leave, start } in tree.path(at) {
            if leave > start {
                let depth = self.depth_mut(scope, edge);
                let before = *depth;
                *depth = before.max(leave);
                if before > 0 {
                    // Whoever holds anything of an edge holds everything before it.
                    break;
                }
            }
        }
    }

    #[inline(always)]
    fn depth(&self, scope: Scope, edge: EdgeId) -> Tokens {
        match self.first.get(edge.0 as usize) {
            Some(held) if held.scope == scope => held.depth,
            _ if self.others.is_empty() => 0,
            _ => self.others.get(&(scope, edge)).copied().unwrap_or(0),
        }
    }

    #[inline(always)]
    fn depth_mut(&mut self, scope: Scope, edge: EdgeId) -> &mut Tokens {
        let index = edge.0 as usize;
        if index >= self.first.len() {
            self.first.resize(index + 1, Held { scope, depth: 0 });
        }
        let held = &mut self.first[index];
        if held.depth == 0 {
            held.scope = scope;
        }
        if held.scope == scope { &mut held.depth } else { self.others.entry((scope, edge)).or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Run;

    /// Two scopes on a path that forks: after every write the set answers as a store does in which nothing dies.
    #[test]
    fn it_answers_as_a_store_that_never_forgets() {
        let mut tree = PrefixTree::new(256);
        let mut places = vec![Cursor::ROOT];
        for step in 0..60_u64 {
            let from = places[(step * 7 % places.len() as u64) as usize];
            let tokens = 1 + (step * 37 % 300) as Tokens;
            let end = match step % 3 {
                0 => tree.append(from, Run::piece(step % 5, tokens)),
                _ => tree.append_private(from, || step, tokens),
            };
            places.push(end);
            // And a place in the midst of an edge.
            places.push(tree.ancestor(end, end.depth - tokens / 2));
        }
        let everywhere = Readable::Everywhere;
        let (mut set, mut store) = (Reached::new(true), Store::new(true));
        for step in 0..200_usize {
            let (scope, at) = (Scope((step * step % 3) as u64), places[step * 11 % places.len()]);
            set.write(&tree, scope, at);
            store.write(&tree, scope, at, SimTime::ZERO, SimTime::NEVER);
            for (scope, place) in
                (0..4).flat_map(|scope| places.iter().map(move |place| (Scope(scope), *place)))
            {
                let expected = store.read(&tree, scope, place, &everywhere, SimTime(1 << 60));
                assert_eq!(set.read(&tree, scope, place, &everywhere), expected, "{scope:?} {place:?}");
            }
        }
    }
}
