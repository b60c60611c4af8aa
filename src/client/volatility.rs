//! What changes inside a prompt from call to call, and so breaks its prefix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::{Cursor, PrefixTree, Run};
use crate::random::{Count, CountDistribution, Distribution, Draws, Purpose, SessionKey, fold};
use crate::units::{MOST_TOKENS, SimTime, Span, Tokens};

/// The volatile parts of a workload's prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Volatility {
    /// Tokens of a status block above the latest user message; 0 for none.
    pub status_tokens: Tokens,
    /// When the status block is rewritten: with every call, with every turn, or off for no block at all.
    pub status_rewritten: Rewritten,
    /// Chance that a turn begins with an edit of what was said before.
    pub edit_probability: f64,
    /// Whether the next turn takes an edit back.
    pub edit_reverted: bool,
    /// Where an edit happens, as a share of everything before the turn, the system prompt included: 0 at its head,
    /// 1 at its end.
    pub edit_depth: f64,
    /// Tokens of a timestamp or id at the head of the prompt; 0 for none.
    pub head_tokens: Tokens,
    /// When the head changes.
    pub head_changes: HeadChanges,
    /// Prompts longer than this are compacted before the next turn; absent never.
    pub compact_above: Option<Tokens>,
    /// Tokens of the summary that takes the history's place.
    pub summary_tokens: Tokens,
    /// Tokens of reasoning before each answer, billed and timed as output.
    pub reasoning_tokens: CountDistribution,
    /// Whether later prompts repeat it.
    pub reasoning: Reasoning,
}

impl Default for Volatility {
    fn default() -> Self {
        Self {
            status_tokens: 0,
            status_rewritten: Rewritten::Call,
            edit_probability: 0.0,
            edit_depth: 0.5,
            edit_reverted: false,
            head_tokens: 0,
            head_changes: HeadChanges::Call,
            compact_above: None,
            summary_tokens: 2_000,
            reasoning_tokens: Distribution::Constant(Count(0)),
            reasoning: Reasoning::Kept,
        }
    }
}

/// Whether later prompts repeat the reasoning before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reasoning {
    /// For ever.
    Kept,
    /// By the calls of the same turn; the next turn leaves it out, and so changes what lies behind it.
    KeptWithinTurn,
    /// Never: the next prompt goes on from the answer alone.
    Dropped,
}

/// When a status block is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rewritten {
    /// With every call.
    Call,
    /// With every turn: the calls of a tool loop keep it.
    Turn,
    /// There is none, whatever its length would be.
    Off,
}

/// When a timestamp or id in the head changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadChanges {
    /// With every call.
    Call,
    /// With every minute of simulated time.
    Minute,
    /// With every day of simulated time.
    Day,
}

impl Volatility {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let tokens = [
            ("status_tokens", self.status_tokens),
            ("head_tokens", self.head_tokens),
            ("summary_tokens", self.summary_tokens),
        ];
        if let Some((field, _)) = tokens.into_iter().find(|(_, tokens)| *tokens > MOST_TOKENS) {
            return Err((field, format!("must be {MOST_TOKENS} or less")));
        }
        for (field, share) in [("edit_probability", self.edit_probability), ("edit_depth", self.edit_depth)] {
            if !(0.0..=1.0).contains(&share) {
                return Err((field, "must be from 0 to 1".into()));
            }
        }
        Ok(())
    }

    /// Tokens of the status block, 0 if there is none.
    pub fn status(&self) -> Tokens {
        if self.status_rewritten == Rewritten::Off { 0 } else { self.status_tokens }
    }

    /// Whether anything but the head is volatile.
    pub fn needs_a_conversation(&self) -> bool {
        let reasons = self.reasoning_tokens.support().1 != Some(0);
        self.status() > 0 || self.edit_probability > 0.0 || self.compact_above.is_some() || reasons
    }

    /// Identity of the head at a moment: equal heads are equal text, in all sessions of a workload.
    pub fn head(&self, shared: SessionKey, draws: Draws, now: SimTime) -> Option<Run> {
        if self.head_tokens == 0 {
            return None;
        }
        let content = match self.head_changes {
            HeadChanges::Call => draws.bits(Purpose::Content, 4),
            HeadChanges::Minute => fold(shared.0, now.0 / Span::MINUTE.0),
            HeadChanges::Day => fold(shared.0, now.0 / Span::DAY.0),
        };
        Some(Run::piece(fold(content, 1), self.head_tokens))
    }

    /// What this turn's history is after the edit that may come before it.
    #[inline]
    pub fn edited(&self, history: Cursor, draws: Draws, tree: &mut PrefixTree) -> Cursor {
        if self.edit_probability == 0.0 || draws.uniform(Purpose::Edit, 0) >= self.edit_probability {
            return history;
        }
        self.edit(history, draws, tree)
    }

    fn edit(&self, history: Cursor, draws: Draws, tree: &mut PrefixTree) -> Cursor {
        // At the very end an edit changes the last token, not nothing.
        let depth = (f64::from(history.depth) * self.edit_depth) as Tokens;
        let depth = depth.min(history.depth.saturating_sub(1));
        let kept = tree.ancestor(history, depth);
        tree.append_private(kept, || draws.bits(Purpose::Content, 5), history.depth - depth)
    }
}

/// The text that all sessions of a workload begin with: heads, if there are any, and the shared prefix.
pub fn shared_start(
    tree: &mut PrefixTree,
    shared: SessionKey,
    prefix_tokens: Tokens,
    heads: impl IntoIterator<Item = Run>,
) -> Cursor {
    let at = heads.into_iter().fold(Cursor::ROOT, |at, head| tree.append(at, head));
    if prefix_tokens == 0 { at } else { tree.append(at, Run::piece(shared.0, prefix_tokens)) }
}
