//! Token tree: which prompts of a log begin alike, token by token.
//!
//! Every prompt is laid into a tree whose edges are stretches of tokens that some prompt was the first to have. A token's
//! place in the tree, numbered in the order of appearance, stands for all tokens up to it: equal numbers, equal prefixes.
//! So a prompt becomes a few runs of consecutive numbers, and text that was seen before takes no room again.

use rustc_hash::FxHashMap;

use crate::prompt::Run;
use crate::units::Tokens;

/// What prompts begin with in a log: a tree for each group of settings, since nothing is shared across them.
#[derive(Debug, Default)]
pub struct TokenTree {
    /// The tokens of all edges, one edge behind the other: the position is the number of the place.
    tokens: Vec<u32>,
    edges: Vec<Edge>,
    /// Edges that begin behind a place, by what comes first. (Of a group's root the place is the group.)
    children: FxHashMap<(Behind, u32), u32>,
}

/// What an edge attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Behind {
    Group(u32),
    Place(u64),
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    /// Number of its first token.
    first: u64,
    /// How many tokens it has.
    length: u32,
    /// The last prompt that went along it.
    visitor: u32,
}

/// A prompt in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its tokens by their numbers.
    pub runs: Vec<Run>,
    /// How many of them some earlier prompt begins with, too.
    pub shared: Tokens,
    /// The last of the prompts that share them, as far as the tree knows.
    pub beside: Option<u32>,
}

impl TokenTree {
    /// Lays the prompt with this number into the tree.
    pub fn insert(&mut self, group: u32, tokens: &[u32], visitor: u32) -> Path {
        let (mut runs, mut beside) = (Vec::new(), None);
        let mut behind = Behind::Group(group);
        let mut rest = tokens;
        while let Some(edge) = rest.first().and_then(|token| self.children.get(&(behind, *token))).copied() {
            let edge = &mut self.edges[edge as usize];
            let known = &self.tokens[edge.first as usize..][..edge.length as usize];
            let length = known.iter().zip(rest).take_while(|(known, token)| known == token).count();
            beside = Some(edge.visitor);
            edge.visitor = visitor;
            runs.push(run(edge.first, length));
            behind = Behind::Place(edge.first + length as u64 - 1);
            rest = &rest[length..];
        }
        let shared = (tokens.len() - rest.len()) as Tokens;
        if let Some(token) = rest.first() {
            let first = self.tokens.len() as u64;
            self.tokens.extend_from_slice(rest);
            self.children.insert((behind, *token), self.edges.len() as u32);
            self.edges.push(Edge { first, length: rest.len() as u32, visitor });
            runs.push(run(first, rest.len()));
        }
        Path { runs: joined(&runs), shared, beside }
    }

    /// The tokens at these places.
    pub fn tokens<'a>(&'a self, runs: &'a [Run]) -> impl Iterator<Item = u32> + 'a {
        runs.iter().flat_map(|run| &self.tokens[run.content as usize..][..run.pieces as usize]).copied()
    }

    /// Tokens in the tree.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing was laid into it.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// How many tokens two paths begin with together.
pub fn common_prefix(one: &[Run], other: &[Run]) -> Tokens {
    let mut common = 0;
    for (one, other) in one.iter().zip(other) {
        if one.content != other.content {
            break;
        }
        common += one.pieces.min(other.pieces);
        if one.pieces != other.pieces {
            break;
        }
    }
    common
}

fn run(first: u64, length: usize) -> Run {
    Run { content: first, pieces: length as u32, piece_tokens: 1 }
}

/// Runs that follow each other as one, so that equal paths have equal runs up to where they part.
fn joined(runs: &[Run]) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.content + u64::from(last.pieces) == run.content => last.pieces += run.pieces,
            _ => joined.push(*run),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prompts_share_what_they_begin_with() {
        let mut tree = TokenTree::default();
        let runs = |path: &Path| path.runs.iter().map(|run| (run.content, run.pieces)).collect::<Vec<_>>();
        let first = tree.insert(0, &[7, 8, 9], 0);
        assert_eq!((runs(&first), first.shared, first.beside), (vec![(0, 3)], 0, None));
        let longer = tree.insert(0, &[7, 8, 9, 7], 1);
        assert_eq!((runs(&longer), longer.shared, longer.beside), (vec![(0, 4)], 3, Some(0)));
        let other = tree.insert(0, &[7, 5], 2);
        assert_eq!((runs(&other), other.shared, other.beside), (vec![(0, 1), (4, 1)], 1, Some(1)));
        let elsewhere = tree.insert(1, &[7, 8, 9], 3);
        assert_eq!((elsewhere.shared, elsewhere.beside), (0, None));
        assert_eq!(tree.insert(0, &[], 4), Path { runs: vec![], shared: 0, beside: None });
        assert_eq!(tree.tokens(&other.runs).collect::<Vec<_>>(), [7, 5]);
    }

    proptest! {
        #[test]
        fn numbers_are_equal_just_where_prefixes_are(
            prompts in prop::collection::vec(prop::collection::vec(0u32..3, 0..12), 1..12)
        ) {
            let mut tree = TokenTree::default();
            let paths: Vec<_> =
                prompts.iter().enumerate().map(|(at, prompt)| tree.insert(0, prompt, at as u32)).collect();
            for (at, (prompt, path)) in prompts.iter().zip(&paths).enumerate() {
                prop_assert_eq!(&tree.tokens(&path.runs).collect::<Vec<_>>(), prompt);
                let common = |other: &Vec<u32>| other.iter().zip(prompt).take_while(|(a, b)| a == b).count();
                let shared = prompts[..at].iter().map(common).max().unwrap_or(0);
                prop_assert_eq!(path.shared as usize, shared);
                for (other, earlier) in prompts.iter().zip(&paths) {
                    prop_assert_eq!(common_prefix(&path.runs, &earlier.runs) as usize, common(other));
                }
            }
        }
    }
}
