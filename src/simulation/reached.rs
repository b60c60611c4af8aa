//! Sets of boundaries that never forget: how deep anything reached, whatever has become of it since.
//!
//! Each answers as a [`Store`] does in which everything lives for ever. Where writes cover, one number an edge says all
//! that such a store would know, and most edges belong to one scope: what all sets hold of an edge stands in one line of
//! the CPU's caches.

use rustc_hash::FxHashMap;

use crate::chunked::Chunked;
use crate::prompt::{Cursor, EdgeId, PathStep, PrefixTree};
use crate::provider::store::{Scope, Store};
use crate::provider::write::Readable;
use crate::units::{SimTime, Tokens};

/// The sets, from wide to narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Set {
    /// S0: everything sent before, as plain prefixes.
    Sent,
    /// S1: the boundaries that were actually written.
    Written,
    /// S2: those in one partition.
    InPartition,
    /// S3: those that one key may read.
    ByKey,
    /// S4: those visible by now.
    Visible,
    /// S5: those on one machine.
    Here,
}

/// How many sets there are.
const SETS: usize = 6;

/// Kinds of scopes that sets go by: everyone's, a partition's, a key's, a machine's.
const KINDS: usize = 4;

impl Set {
    /// Of which kind its scopes are.
    #[inline(always)]
    fn kind(self) -> usize {
        match self {
            Self::Sent | Self::Written => 0,
            Self::InPartition => 1,
            Self::ByKey | Self::Visible => 2,
            Self::Here => 3,
        }
    }
}

/// Sets that never forget.
#[derive(Clone, Debug)]
pub struct Reached {
    depths: Depths,
    /// Where a write holds one boundary alone: all sets but that of what was sent, in their order.
    single: Option<Box<[Store; SETS - 1]>>,
}

impl Reached {
    /// Empty sets; `covers` says whether a write at one depth also holds the boundaries before it.
    pub fn new(covers: bool) -> Self {
        let single = || Box::new(std::array::from_fn(|_| Store::new(false)));
        Self { depths: Depths::default(), single: (!covers).then(single) }
    }

    /// The same sets with nothing in them but what was sent.
    pub fn sent_alone(self, covers: bool) -> Self {
        Self { depths: self.depths.sent_alone(), ..Self::new(covers) }
    }

    /// The deepest depth on the path to `at` that a scope holds, 0 if there is none: where it covers, not floored to a
    /// boundary, and otherwise where the reader looks.
    #[inline(always)]
    pub fn read(&self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor, readable: &Readable) -> Tokens {
        match (&self.single, (set as usize).checked_sub(1)) {
            // It has no clock.
            (Some(stores), Some(index)) => stores[index].read(tree, scope, at, readable, SimTime::ZERO),
            _ => self.depths.read(set, tree, scope, at),
        }
    }

    /// Holds the boundary at `at` (and, if writes cover, all before it).
    #[inline(always)]
    pub fn write(&mut self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor) {
        match (&mut self.single, (set as usize).checked_sub(1)) {
            (Some(stores), Some(index)) => {
                stores[index].write(tree, scope, at, SimTime::ZERO, SimTime::NEVER);
            }
            _ => self.depths.write(set, tree, scope, at),
        }
    }

    /// Whether a scope holds all before a place, where writes cover.
    #[inline(always)]
    pub fn holds(&self, set: Set, scope: Scope, at: Cursor) -> bool {
        at.depth == 0 || self.depths.depth(set, scope, at.edge) >= at.depth
    }

    /// Holds the last edge of the path to `at` alone, where writes cover: whether all before it is held too.
    #[inline(always)]
    pub fn write_end(&mut self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor) -> bool {
        self.depths.write_end(set, tree, scope, at)
    }

    /// Reads a bit of what is held on an edge, so that it is at hand.
    pub fn touch(&self, edge: EdgeId) -> u64 {
        self.depths.first.get(edge.0 as usize).map_or(0, |held| u64::from(held.depths[0]))
    }
}

/// Down to which depth each scope holds everything, edge by edge.
#[derive(Clone, Debug, Default)]
struct Depths {
    /// What the first scopes hold on each edge.
    first: Chunked<Held>,
    /// What other scopes hold.
    others: FxHashMap<(Set, Scope, EdgeId), Tokens>,
}

/// Down to which depth each set holds an edge for one scope of its kind; 0 if it does not. One cache line.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Held {
    scopes: [Scope; KINDS],
    depths: [Tokens; SETS],
}

const _: () = assert!(size_of::<Held>() == 64);

impl Held {
    /// Whether no set of this kind holds anything.
    #[inline(always)]
    fn is_free(&self, kind: usize) -> bool {
        let [sent, written, in_partition, by_key, visible, here] = self.depths;
        [sent | written, in_partition, by_key | visible, here][kind] == 0
    }
}

impl Depths {
    #[inline(always)]
    fn read(&self, set: Set, tree: &PrefixTree, scope: Scope, mut at: Cursor) -> Tokens {
        while at.depth > 0 {
            let depth = self.depth(set, scope, at.edge);
            if depth > 0 {
                return depth.min(at.depth);
            }
            at = tree.origin(at.edge);
        }
        0
    }

    #[inline(always)]
    fn write(&mut self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor) {
        // Whoever holds anything of an edge holds everything before it, or will before anybody looks.
        match self.first.get_mut(at.edge.0 as usize) {
            Some(held) if held.scopes[set.kind()] == scope && held.depths[set as usize] > 0 => {
                let depth = &mut held.depths[set as usize];
                *depth = at.depth.max(*depth);
            }
            _ => self.write_path(set, tree, scope, at),
        }
    }

    /// Holds the last edge of the path to `at` alone: whether all before it is held too.
    #[inline(always)]
    fn write_end(&mut self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor) -> bool {
        let depth = self.depth_mut(set, scope, at.edge);
        let before = *depth;
        *depth = before.max(at.depth);
        before > 0 || {
            let origin = tree.origin(at.edge);
            origin.depth == 0 || self.depth(set, scope, origin.edge) >= origin.depth
        }
    }

    fn write_path(&mut self, set: Set, tree: &PrefixTree, scope: Scope, at: Cursor) {
        for PathStep { edge, leave, start } in tree.path(at) {
            if leave > start {
                let depth = self.depth_mut(set, scope, edge);
                let before = *depth;
                *depth = before.max(leave);
                if before > 0 {
                    break;
                }
            }
        }
    }

    #[inline(always)]
    fn depth(&self, set: Set, scope: Scope, edge: EdgeId) -> Tokens {
        match self.first.get(edge.0 as usize) {
            Some(held) if held.scopes[set.kind()] == scope => held.depths[set as usize],
            _ if self.others.is_empty() => 0,
            _ => self.others.get(&(set, scope, edge)).copied().unwrap_or(0),
        }
    }

    fn depth_mut(&mut self, set: Set, scope: Scope, edge: EdgeId) -> &mut Tokens {
        let index = edge.0 as usize;
        while index >= self.first.len() {
            self.first.push(Held::default());
        }
        let held = &mut self.first[index];
        if held.scopes[set.kind()] != scope && held.is_free(set.kind()) {
            held.scopes[set.kind()] = scope;
        }
        if held.scopes[set.kind()] == scope {
            &mut held.depths[set as usize]
        } else {
            self.others.entry((set, scope, edge)).or_default()
        }
    }

    fn sent_alone(mut self) -> Self {
        for held in self.first.iter_mut() {
            held.depths[1..].fill(0);
        }
        self.others.retain(|(set, ..), _| *set == Set::Sent);
        self
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
            set.write(Set::Here, &tree, scope, at);
            store.write(&tree, scope, at, SimTime::ZERO, SimTime::NEVER);
            for (scope, place) in
                (0..4).flat_map(|scope| places.iter().map(move |place| (Scope(scope), *place)))
            {
                let expected = store.read(&tree, scope, place, &everywhere, SimTime(1 << 60));
                assert_eq!(
                    set.read(Set::Here, &tree, scope, place, &everywhere),
                    expected,
                    "{scope:?} {place:?}"
                );
            }
        }
    }
}
