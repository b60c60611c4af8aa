//! Conversations that grow turn by turn, in closed loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::shared_prefix::check_prefix;
use crate::random::{CountDistribution, SpanDistribution};
use crate::units::Tokens;

/// Conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// Tokens of the system prompt that all conversations share.
    pub prefix_tokens: Tokens,
    /// Turns of a conversation, at least 1.
    pub turns: CountDistribution,
    /// Tokens of a user's message.
    pub user_tokens: CountDistribution,
    /// Tokens of an answer, which becomes part of the next prompt.
    pub output_tokens: CountDistribution,
    /// Pause between an answer and the next message.
    pub think: SpanDistribution,
}

impl Chat {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        check_prefix(self.prefix_tokens)?;
        if self.turns.support().1 == Some(0) {
            return Err(("turns", "must be 1 or more".into()));
        }
        if u64::from(self.prefix_tokens) + self.user_tokens.support().0 == 0 {
            return Err(("user_tokens", "a prompt needs at least one token".into()));
        }
        Ok(())
    }
}
