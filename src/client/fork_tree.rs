//! Divide and conquer: calls that branch from a common start, and hand their results back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::shared_prefix::check_prefix;
use crate::random::{CountDistribution, SpanDistribution};
use crate::units::{Span, Tokens};

/// Trees of calls. Each node's prompt is its parent's, with what the parent answered, and a task of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkTree {
    /// Tokens of tools and system prompt that all trees share.
    pub prefix_tokens: Tokens,
    /// Tokens of the common start that all nodes of one tree share.
    pub start_tokens: CountDistribution,
    /// Children of the root, then of each of its children, and so on: as many levels as numbers.
    pub branching: Vec<CountDistribution>,
    /// Whether the root is a call of its own before it forks; otherwise its children share the common start only.
    #[serde(default = "yes")]
    pub root_call: bool,
    /// In which order children are called.
    #[serde(default)]
    pub order: Order,
    /// Time between a fork and the call of a child, drawn for each (order parallel and warm_first).
    #[serde(default = "at_once")]
    pub stagger: SpanDistribution,
    /// Tokens of a node's own task.
    pub task_tokens: CountDistribution,
    /// Tokens of an answer.
    pub output_tokens: CountDistribution,
    /// Whether a node calls once more, with the answers of its children behind its own, before it answers its
    /// parent.
    #[serde(default = "yes")]
    pub merge: bool,
}

fn yes() -> bool {
    true
}

fn at_once() -> SpanDistribution {
    SpanDistribution::Constant(Span::ZERO)
}

/// In which order the children of a node are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All at once.
    #[default]
    Parallel,
    /// All at once, behind the first token of a short call that writes what they share.
    WarmFirst,
    /// Each after the answer of the one before it.
    OneByOne,
}

/// Most levels of a tree below its root.
const MOST_LEVELS: usize = 32;

/// Most nodes of a tree.
const MOST_NODES: f64 = 1e6;

impl ForkTree {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        check_prefix(self.prefix_tokens)?;
        if self.branching.is_empty() || self.branching.iter().any(|law| law.support().1 == Some(0)) {
            return Err(("branching", "needs one number or more, each 1 or more".into()));
        }
        if self.branching.len() > MOST_LEVELS {
            return Err(("branching", format!("has more than {MOST_LEVELS} levels")));
        }
        if self.nodes().sum::<f64>() > MOST_NODES {
            return Err(("branching", format!("makes trees of more than {MOST_NODES} nodes")));
        }
        if u64::from(self.prefix_tokens) + self.start_tokens.support().0 + self.task_tokens.support().0 == 0 {
            return Err(("task_tokens", "a prompt needs at least one token".into()));
        }
        Ok(())
    }

    /// Mean number of nodes on each level, the root's first.
    fn nodes(&self) -> impl Iterator<Item = f64> {
        let below = self.branching.iter().scan(1.0, |nodes, law| {
            *nodes *= law.mean().max(1.0);
            Some(*nodes)
        });
        std::iter::once(1.0).chain(below)
    }

    /// Mean number of calls of a tree, those that warm left out.
    pub fn mean_calls(&self) -> f64 {
        let inner: f64 = self.nodes().take(self.branching.len()).sum();
        let merges = if self.merge { inner } else { 0.0 };
        self.nodes().sum::<f64>() - f64::from(u8::from(!self.root_call)) + merges
    }
}
