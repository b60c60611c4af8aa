//! Stretches: the text of all prompts of a log, cut wherever two of them part, so that hashes can stand for it.
//!
//! Every prompt is [learned](Stretches::learn) first: its text is laid into a [`TokenTree`], without what a provider
//! adds to messages, and a cut is made where its parts end and where it leaves the prompts before it. Then every prompt
//! is [cut](Stretches::cut). Two prompts that begin with the same n tokens follow the same places up to there, and so have
//! the same stretches; where they part is a cut, and their next stretches differ. Hence hashes of stretches share just
//! what the tokens share. That holds whatever is put where parts begin, and so for every message overhead.

use std::collections::BTreeMap;

use crate::input::call::{Body, Content};
use crate::input::render::{Rendered, Renderer, Vocabulary};
use crate::input::salt::Salt;
use crate::input::token_tree::{Path, TokenTree};
use crate::prompt::Run;
use crate::units::Tokens;

/// The prompts of a log, to be cut.
pub struct Stretches {
    renderer: Renderer,
    tree: TokenTree,
    /// Places at which a stretch ends, with what stands for it once that is known.
    cuts: BTreeMap<u64, Option<u64>>,
    salt: Salt,
}

impl Stretches {
    /// No prompts yet.
    pub fn new(vocabulary: Vocabulary, salt: Salt) -> Self {
        let renderer = Renderer::new(vocabulary, 0);
        Self { renderer, tree: TokenTree::default(), cuts: BTreeMap::new(), salt }
    }

    /// What is hashed with.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// How many distinct stretches stood for text so far.
    pub fn hashed(&self) -> usize {
        self.cuts.values().flatten().count()
    }

    /// Makes the cuts that this prompt asks for.
    pub fn learn(&mut self, body: &Body) {
        let (rendered, path) = self.lay(body);
        let ends = places(&path.runs, &rendered.ends);
        let left = std::slice::from_ref(&path.shared);
        self.cuts.extend(ends.chain(places(&path.runs, left)).map(|place| (place, None)));
    }

    /// What stands for each part of a prompt; nothing if the prompt was never learned.
    pub fn cut(&mut self, body: &Body) -> Option<Vec<Content>> {
        let (rendered, path) = self.lay(body);
        let mut stretches = self.along(&path.runs)?.into_iter();
        let mut depth = 0;
        let parts = rendered.ends.iter().map(|end| {
            let part = &rendered.tokens[depth as usize..*end as usize];
            let digest = self.salt.hash_tokens("part", part.iter().copied());
            let mut inside = Vec::new();
            while depth < *end {
                let stretch = stretches.next()?;
                depth += stretch.1;
                inside.push(stretch);
            }
            (depth == *end).then_some(Content::Hashed { digest, stretches: inside })
        });
        parts.collect()
    }

    fn lay(&mut self, body: &Body) -> (Rendered, Path) {
        let rendered = self.renderer.render(body);
        // What is shared across settings is cut, too: that is more than is needed, and the tree stays one.
        let path = self.tree.insert(0, &rendered.tokens, 0);
        (rendered, path)
    }

    /// The stretches along a path; nothing if the last one is not cut off.
    fn along(&mut self, runs: &[Run]) -> Option<Vec<(u64, Tokens)>> {
        let mut stretches = Vec::new();
        for run in runs {
            let (mut from, end) = (run.content, run.content + u64::from(run.pieces));
            for (place, hash) in self.cuts.range_mut(from..end) {
                // A path leaves an edge at a cut only, so that a stretch lies within one run.
                let stretch = Run { content: from, pieces: (place + 1 - from) as u32, piece_tokens: 1 };
                let tokens = std::slice::from_ref(&stretch);
                let hash =
                    *hash.get_or_insert_with(|| self.salt.hash_tokens("stretch", self.tree.tokens(tokens)));
                stretches.push((hash, stretch.pieces));
                from = place + 1;
            }
            if from != end {
                return None;
            }
        }
        Some(stretches)
    }
}

/// The places of the last tokens before these depths, which do not go down; none before the first token.
fn places<'a>(runs: &'a [Run], depths: &'a [Tokens]) -> impl Iterator<Item = u64> + 'a {
    let (mut rest, mut before) = (runs, 0);
    depths.iter().filter(|depth| **depth > 0).filter_map(move |depth| {
        while let [run, more @ ..] = rest
            && before + run.pieces < *depth
        {
            before += run.pieces;
            rest = more;
        }
        rest.first().map(|run| run.content + u64::from(depth - before) - 1)
    })
}
