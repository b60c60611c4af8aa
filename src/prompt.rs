//! What "the same first n tokens" means: symbolic prompts, interned in a prefix tree.
//!
//! No text is needed to simulate. A prompt is a sequence of pieces, each with a content number and a length; two
//! prompts share a prefix up to their first differing piece. Every prompt is interned once, as a path in a tree
//! whose edges are whole runs of pieces, and is from then on a [`Cursor`]: an edge and a depth. An edge exists
//! only where prompts really branched, so that a prompt of a million tokens, or the 600th turn of a session,
//! costs what a short one costs. Edges are never split: a child attaches in the middle of its parent.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::random::{fold, mix};
use crate::units::Tokens;

/// A stretch of a prompt: `pieces` pieces of `piece_tokens` tokens each, whose contents are numbered
/// consecutively from `content`. A segment of a generated prompt is a run of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Content number of the first piece; equal numbers after equal prefixes are equal text.
    pub content: u64,
    /// How many pieces, at least one.
    pub pieces: u32,
    /// Tokens in each piece, at least one.
    pub piece_tokens: Tokens,
}

impl Run {
    /// A single piece.
    pub fn piece(content: u64, tokens: Tokens) -> Self {
        Self { content, pieces: 1, piece_tokens: tokens }
    }

    /// Tokens in all pieces together.
    pub fn tokens(self) -> Tokens {
        self.pieces * self.piece_tokens
    }

    fn skip(self, pieces: u32) -> Self {
        Self { content: self.content.wrapping_add(u64::from(pieces)), pieces: self.pieces - pieces, ..self }
    }
}

/// A stretch of the tree without branches inside the prompts that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(pub u32);

/// A place in the prefix tree: the first `depth` tokens of every prompt that passes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The edge the place lies on (at its end, or before it).
    pub edge: EdgeId,
    /// Tokens from the beginning of the prompt.
    pub depth: Tokens,
}

impl Cursor {
    /// The empty prompt.
    pub const ROOT: Self = Self { edge: EdgeId(0), depth: 0 };
}

/// A prompt as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The part that some other prompt may share.
    pub shareable: Cursor,
    /// Tokens after it that no other prompt will ever contain: they need no place in the tree.
    pub unique_tail: Tokens,
    /// Digest of the first tokens, as many as routing looks at; nothing where the routing key is known anyway.
    pub head: u64,
}

impl Prompt {
    /// Length in tokens.
    pub fn tokens(&self) -> Tokens {
        self.shareable.depth + self.unique_tail
    }
}

/// A depth at which a segment of a prompt ends, where a provider may store or look for a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Tokens from the beginning of the prompt.
    pub depth: Tokens,
    /// What ends there.
    pub kind: MarkKind,
}

/// What ends at a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The leading developer block (tools and system prompt).
    Developer,
    /// A user's message, or the last tool response of a run.
    Message,
    /// The same in a request that leaves no implicit breakpoints: looked back at, and not written.
    PassedMessage,
    /// A segment that the client marked.
    Explicit,
}

/// The marks of a prompt, shallowest first; only the latest messages, as many as the provider looks back at.
pub type Marks = SmallVec<[Mark; 4]>;

/// Half a cache line each: prompts are followed from their end to the root.
#[derive(Clone, Debug)]
#[repr(align(32))]
struct Edge {
    parent: EdgeId,
    start: Tokens,
    end: Tokens,
    /// How many edges were made before it.
    serial: u32,
    /// Digest of the head, once this edge contains it whole or lies beyond it.
    head: u64,
    has_head: bool,
    private: bool,
    /// Number of its text among the texts that are kept; 0 for text that only its own session can send and that
    /// routing does not look at.
    text: u32,
}

/// The contents of an edge, with the depth at which each run ends.
type Text = Vec<(Run, Tokens)>;

/// All distinct prefixes sent so far.
#[derive(Clone, Debug)]
pub struct PrefixTree {
    edges: Vec<Edge>,
    texts: Vec<Text>,
    /// Edges made so far, and of them those whose place may be used again.
    made: u32,
    free: Vec<EdgeId>,
    /// The child behind a place, by the content and length of its first piece.
    children: FxHashMap<(EdgeId, Tokens, u64, Tokens), EdgeId>,
    head_tokens: Tokens,
    /// What was appended lately, and where that led: shared text stands where it stands for good.
    lately: Vec<(Cursor, Run, Cursor)>,
}

/// Appends that are remembered, at places that their contents say.
const LATELY: usize = 128;

impl PrefixTree {
    /// An empty tree for a provider that routes on the first `head_tokens` tokens.
    pub fn new(head_tokens: Tokens) -> Self {
        let mut tree = Self {
            edges: Vec::new(),
            texts: vec![Text::new()],
            made: 0,
            free: Vec::new(),
            children: FxHashMap::default(),
            head_tokens,
            lately: vec![(Cursor::ROOT, Run::piece(0, 0), Cursor::ROOT); LATELY],
        };
        tree.attach(Cursor::ROOT, true);
        tree
    }

    /// The place after `run` behind `at`, for text that other prompts may contain too.
    pub fn append(&mut self, at: Cursor, run: Run) -> Cursor {
        let place = mix(run.content ^ u64::from(at.edge.0)) as usize % LATELY;
        let (before, text, end) = self.lately[place];
        if before == at && text == run {
            return end;
        }
        let end = self.find_or_add(at, run);
        self.lately[place] = (at, run, end);
        end
    }

    fn find_or_add(&mut self, mut at: Cursor, mut run: Run) -> Cursor {
        loop {
            let matched = self.matching_pieces(at, run);
            if matched > 0 {
                at.depth += matched * run.piece_tokens;
                if matched == run.pieces {
                    return at;
                }
                run = run.skip(matched);
                continue;
            }
            let key = (at.edge, at.depth, run.content, run.piece_tokens);
            if let Some(&child) = self.children.get(&key) {
                at.edge = child;
                continue;
            }
            let edge = &self.edges[at.edge.0 as usize];
            if edge.private || at.depth < edge.end {
                let child = self.attach(at, false);
                self.children.insert(key, child);
                at.edge = child;
            }
            return self.grow(at, run.tokens(), || run);
        }
    }

    /// The place after a piece that only this session can send again (its own history). Most often nobody will ask what
    /// is in it.
    #[inline(always)]
    pub fn append_private(
        &mut self,
        mut at: Cursor,
        content: impl FnOnce() -> u64,
        tokens: Tokens,
    ) -> Cursor {
        if tokens == 0 {
            return at;
        }
        let edge = &self.edges[at.edge.0 as usize];
        if !edge.private || at.depth < edge.end || at.edge == Cursor::ROOT.edge {
            at.edge = self.attach(at, true);
        }
        self.grow(at, tokens, || Run::piece(content(), tokens))
    }

    /// The places after two private pieces, one behind the other.
    #[inline(always)]
    pub fn append_private_two(
        &mut self,
        at: Cursor,
        pieces: [Tokens; 2],
        content: impl Fn(u32) -> u64,
    ) -> [Cursor; 2] {
        let edge = &mut self.edges[at.edge.0 as usize];
        if edge.private && edge.has_head && at.depth == edge.end {
            edge.end += pieces[0] + pieces[1];
            return [pieces[0], pieces[0] + pieces[1]]
                .map(|tokens| Cursor { depth: at.depth + tokens, ..at });
        }
        let first = self.append_private(at, || content(0), pieces[0]);
        [first, self.append_private(first, || content(1), pieces[1])]
    }

    /// A prompt that ends at `at`, followed by `unique_tail` tokens (numbered `tail_content`) of no other prompt.
    #[inline(always)]
    pub fn prompt(&self, at: Cursor, unique_tail: Tokens, tail_content: u64) -> Prompt {
        let mut head = self.head(at);
        let missing = self.head_tokens.saturating_sub(at.depth).min(unique_tail);
        if missing > 0 {
            head = fold(fold(head, tail_content), u64::from(missing));
        }
        Prompt { shareable: at, unique_tail, head }
    }

    /// Whether text that is private, and lies behind all that routing looks at, ends here: whoever said it may lengthen
    /// it without telling.
    #[inline(always)]
    pub fn is_private_end(&self, at: Cursor) -> bool {
        let edge = &self.edges[at.edge.0 as usize];
        edge.private && edge.has_head && at.depth == edge.end && at.edge != Cursor::ROOT.edge
    }

    /// Whether a prompt of so many tokens holds all that routing looks at.
    #[inline(always)]
    pub fn is_beyond_head(&self, tokens: Tokens) -> bool {
        tokens >= self.head_tokens.max(1)
    }

    /// The edges from `at` to the root, each with the depth at which the path leaves it and the depth at which
    /// it begins.
    pub fn path(&self, at: Cursor) -> impl Iterator<Item = PathStep> {
        let mut next = Some(at);
        std::iter::from_fn(move || {
            let Cursor { edge, depth } = next?;
            let Edge { parent, start, .. } = self.edges[edge.0 as usize];
            next = (edge != Cursor::ROOT.edge && start > 0).then_some(Cursor { edge: parent, depth: start });
            Some(PathStep { edge, start, leave: depth })
        })
    }

    /// The place behind which an edge begins.
    pub fn origin(&self, edge: EdgeId) -> Cursor {
        let Edge { parent, start, .. } = self.edges[edge.0 as usize];
        Cursor { edge: parent, depth: start }
    }

    /// Whether the place `prefix` lies on the path to `at`.
    pub fn is_prefix(&self, prefix: Cursor, at: Cursor) -> bool {
        prefix.depth == 0 || self.path(at).any(|step| step.edge == prefix.edge && prefix.depth <= step.leave)
    }

    /// The place at `depth` on the path to `at`; `at` itself if it is no deeper.
    pub fn ancestor(&self, at: Cursor, depth: Tokens) -> Cursor {
        if depth >= at.depth {
            return at;
        }
        let step = self.path(at).find(|step| step.start < depth);
        step.map_or(Cursor::ROOT, |step| Cursor { edge: step.edge, depth })
    }

    /// Edges in the tree.
    pub fn len(&self) -> usize {
        self.edges.len() - self.free.len() - 1
    }

    /// Bytes that the edges take, without the texts of those that many share.
    pub fn bytes(&self) -> usize {
        self.edges.len() * size_of::<Edge>()
    }

    /// How many edges were made before this one, those that were freed since included.
    pub fn serial(&self, edge: EdgeId) -> u32 {
        self.edges[edge.0 as usize].serial
    }

    /// Frees the private edges on whose paths nobody stands: neither `used` nor before one that is.
    pub fn free_all_but(&mut self, used: impl Iterator<Item = EdgeId>) {
        let mut kept = vec![false; self.edges.len()];
        kept[Cursor::ROOT.edge.0 as usize] = true;
        let shared = self.edges.iter().zip(0..).filter(|(edge, _)| !edge.private);
        for mut edge in shared.map(|(_, id)| EdgeId(id)).chain(used) {
            // What lies beyond the tree is no edge of it.
            while let Some(kept) = kept.get_mut(edge.0 as usize).filter(|kept| !**kept) {
                *kept = true;
                edge = self.edges[edge.0 as usize].parent;
            }
        }
        self.free.clear();
        for (index, _) in kept.iter().enumerate().filter(|(_, kept)| !**kept) {
            // Whoever gets its place gets room for a text with it.
            self.texts[self.edges[index].text as usize].clear();
            self.free.push(EdgeId(index as u32));
        }
    }

    /// Whether this is an edge of this tree.
    pub fn contains(&self, edge: EdgeId) -> bool {
        (edge.0 as usize) < self.edges.len()
    }

    /// Whether no prompt was interned yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pieces of `run` stand on the edge right behind `at`.
    fn matching_pieces(&self, at: Cursor, run: Run) -> u32 {
        let edge = &self.edges[at.edge.0 as usize];
        if edge.private || at.depth >= edge.end {
            return 0;
        }
        let text = &self.texts[edge.text as usize];
        let index = if text.len() == 1 { 0 } else { text.partition_point(|(_, end)| *end <= at.depth) };
        let (there, end) = text[index];
        let passed = at.depth - (end - there.tokens());
        let aligned = passed.is_multiple_of(there.piece_tokens);
        let there = there.skip(passed / there.piece_tokens);
        if aligned && there.content == run.content && there.piece_tokens == run.piece_tokens {
            there.pieces.min(run.pieces)
        } else {
            0
        }
    }

    fn attach(&mut self, at: Cursor, private: bool) -> EdgeId {
        let has_head = at.depth >= self.head_tokens && at.depth > 0;
        let head = if has_head { self.head(at) } else { 0 };
        let reused = self.free.pop();
        let edge = Edge {
            parent: at.edge,
            start: at.depth,
            end: at.depth,
            serial: self.made,
            head,
            has_head,
            private,
            text: reused.map_or(0, |id| self.edges[id.0 as usize].text),
        };
        self.made = self.made.wrapping_add(1);
        if let Some(id) = reused {
            self.edges[id.0 as usize] = edge;
            return id;
        }
        let id = EdgeId(u32::try_from(self.edges.len()).expect("fewer than 2^32 edges"));
        self.edges.push(edge);
        id
    }

    /// Lengthens the edge that ends at `at` by a run of so many tokens.
    #[inline(always)]
    fn grow(&mut self, at: Cursor, tokens: Tokens, run: impl FnOnce() -> Run) -> Cursor {
        let edge = &mut self.edges[at.edge.0 as usize];
        debug_assert_eq!(at.depth, edge.end, "nobody has lengthened it without telling");
        edge.end += tokens;
        let end = Cursor { edge: at.edge, depth: edge.end };
        if !edge.private || !edge.has_head {
            if edge.text == 0 {
                edge.text = u32::try_from(self.texts.len()).expect("fewer than 2^32 edges");
                self.texts.push(Text::new());
            }
            self.texts[edge.text as usize].push((run(), end.depth));
        }
        if !edge.has_head && end.depth >= self.head_tokens {
            let head = self.head(end);
            let edge = &mut self.edges[at.edge.0 as usize];
            (edge.head, edge.has_head) = (head, true);
        }
        end
    }

    /// Digest of the first `head_tokens` tokens before `at` (of all of them, if there are fewer).
    #[inline(always)]
    fn head(&self, at: Cursor) -> u64 {
        let edge = &self.edges[at.edge.0 as usize];
        if edge.has_head && at.depth >= self.head_tokens {
            return edge.head;
        }
        self.digest(at)
    }

    /// The same, where it is not known yet.
    fn digest(&self, at: Cursor) -> u64 {
        if at.depth == 0 {
            return 0;
        }
        let edge = &self.edges[at.edge.0 as usize];
        let end = at.depth.min(self.head_tokens);
        if end <= edge.start {
            return self.head(Cursor { edge: edge.parent, depth: end });
        }
        let mut digest = self.head(Cursor { edge: edge.parent, depth: edge.start });
        let mut depth = edge.start;
        for (run, _) in &self.texts[edge.text as usize] {
            for piece in 0..run.pieces {
                if depth >= end {
                    return digest;
                }
                let taken = run.piece_tokens.min(end - depth);
                // A piece is known by its content and its length, of which the head may hold a part.
                let content = run.content.wrapping_add(u64::from(piece));
                digest = fold(fold(fold(digest, content), u64::from(run.piece_tokens)), u64::from(taken));
                depth += taken;
            }
        }
        digest
    }
}

/// One edge on the way from a place to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// The edge.
    pub edge: EdgeId,
    /// Depth at which the edge begins.
    pub start: Tokens,
    /// Depth at which the path leaves the edge, at most its end.
    pub leave: Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intern(tree: &mut PrefixTree, pieces: &[u64]) -> Cursor {
        pieces.iter().fold(Cursor::ROOT, |at, content| tree.append(at, Run::piece(*content, 10)))
    }

    #[test]
    fn runs_match_in_the_middle_and_branch_there() {
        let mut tree = PrefixTree::new(256);
        let long = tree.append(Cursor::ROOT, Run { content: 0, pieces: 100, piece_tokens: 512 });
        let short = tree.append(Cursor::ROOT, Run { content: 0, pieces: 40, piece_tokens: 512 });
        assert_eq!((long.edge, short), (short.edge, Cursor { edge: long.edge, depth: 40 * 512 }));
        let other = tree.append(short, Run { content: 7_000, pieces: 3, piece_tokens: 512 });
        assert!(tree.is_prefix(short, other) && !tree.is_prefix(long, other));
        assert_eq!(tree.append(short, Run { content: 7_000, pieces: 3, piece_tokens: 512 }), other);
        assert_eq!(tree.len(), 2);
    }

    #[test]
    fn a_session_of_many_turns_is_one_edge() {
        let mut tree = PrefixTree::new(256);
        let system = tree.append(Cursor::ROOT, Run::piece(1, 2_000));
        let last = (0..600).fold(system, |at, turn| tree.append_private(at, || turn, 100));
        assert_eq!((tree.len(), last.depth), (2, 62_000));
        let fork = tree.append_private(Cursor { edge: last.edge, depth: 30_000 }, || 9, 50);
        assert!(!tree.is_prefix(last, fork) && tree.path(fork).count() == 3);
    }

    proptest! {
        #[test]
        fn shared_prefix_and_head_follow_the_contents(
            prompts in prop::collection::vec(prop::collection::vec(0u64..3, 0..8), 2..12),
            head_pieces in 0u32..5,
        ) {
            let head_tokens = head_pieces * 10 + 5;
            let mut tree = PrefixTree::new(head_tokens);
            let placed: Vec<_> = prompts.iter().map(|p| intern(&mut tree, p)).collect();
            for (a, at_a) in prompts.iter().zip(&placed) {
                for (b, at_b) in prompts.iter().zip(&placed) {
                    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
                    prop_assert_eq!(at_a == at_b, a == b);
                    prop_assert_eq!(tree.is_prefix(*at_a, *at_b), common == a.len());
                    let head = |p: &[u64]| p.iter().copied().take(head_pieces as usize + 1).collect::<Vec<_>>();
                    let heads_equal = tree.prompt(*at_a, 0, 0).head == tree.prompt(*at_b, 0, 0).head;
                    prop_assert_eq!(heads_equal, head(a) == head(b));
                }
            }
        }
    }
}
