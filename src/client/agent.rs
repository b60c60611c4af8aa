//! Agents: tool loops on one long context, in closed loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::shared_prefix::check_prefix;
use crate::random::{CountDistribution, SpanDistribution};
use crate::units::Tokens;

/// Sessions of an agent: each turn is a user's message and a loop of calls, every one of which adds an answer and a
/// tool's result to the context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Tokens of tools and system prompt that all sessions share.
    pub prefix_tokens: Tokens,
    /// Tokens of context that a session brings along from the start.
    pub start_tokens: CountDistribution,
    /// Turns of a session, at least 1.
    pub turns: CountDistribution,
    /// Calls of a turn, at least 1.
    pub calls: CountDistribution,
    /// Tokens of a user's message.
    pub user_tokens: CountDistribution,
    /// Tokens of a tool's result.
    pub tool_tokens: CountDistribution,
    /// Tokens of an answer.
    pub output_tokens: CountDistribution,
    /// Time that a tool takes, between an answer and the next call of the loop.
    pub pause: SpanDistribution,
    /// Pause between the end of a turn and the next message.
    pub think: SpanDistribution,
}

impl Agent {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        check_prefix(self.prefix_tokens)?;
        for (field, law) in [("turns", &self.turns), ("calls", &self.calls)] {
            if law.support().1 == Some(0) {
                return Err((field, "must be 1 or more".into()));
            }
        }
        if u64::from(self.prefix_tokens) + self.start_tokens.support().0 + self.user_tokens.support().0 == 0 {
            return Err(("user_tokens", "a prompt needs at least one token".into()));
        }
        Ok(())
    }
}
