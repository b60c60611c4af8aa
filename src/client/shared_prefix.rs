//! Many callers of one prefix: the traffic of the bucketing study.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::volatility::shared_start;
use crate::prompt::{PrefixTree, Prompt, Run};
use crate::random::{CountDistribution, Draws, Purpose, SessionKey, fold};
use crate::units::{MOST_TOKENS, Tokens};

/// Independent calls that share a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedPrefix {
    /// Tokens of the prefix that all calls share.
    pub prefix_tokens: Tokens,
    /// Tokens after it.
    pub tail_tokens: CountDistribution,
    /// Different tails, sent in turn; 0 makes every call's tail its own.
    #[serde(default)]
    pub tails: u32,
    /// Tokens of the answer.
    pub output_tokens: CountDistribution,
}

impl SharedPrefix {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        check_prefix(self.prefix_tokens)?;
        if u64::from(self.prefix_tokens) + self.tail_tokens.support().0 == 0 {
            return Err(("tail_tokens", "a prompt needs at least one token".into()));
        }
        Ok(())
    }

    /// The prompt of the `call`-th request of this workload, and the length of its answer. `shared` is the identity
    /// of the workload's text, `own` that of the call's; `head` is a volatile beginning, if there is one.
    pub fn prompt(
        &self,
        shared: SessionKey,
        own: SessionKey,
        call: u64,
        head: Option<Run>,
        draws: Draws,
        tree: &mut PrefixTree,
    ) -> (Prompt, Tokens) {
        let prefix = shared_start(tree, shared, self.prefix_tokens, head);
        let output = self.output_tokens.draw(draws, Purpose::OutputTokens).0;
        if self.tails == 0 {
            let tail = self.tail_tokens.draw(draws, Purpose::PromptTokens).0;
            return (tree.prompt(prefix, tail, own.0), output);
        }
        // A rotating tail is the same text, and so of the same length, whenever its turn comes.
        let tail = SessionKey(fold(shared.0, call % u64::from(self.tails)));
        let tokens = self.tail_tokens.draw(tail.turn(0), Purpose::PromptTokens).0;
        let end = if tokens == 0 { prefix } else { tree.append(prefix, Run::piece(tail.0, tokens)) };
        (tree.prompt(end, 0, 0), output)
    }
}

/// Checks the length of a shared prefix.
pub(super) fn check_prefix(tokens: Tokens) -> Result<(), (&'static str, String)> {
    if tokens > MOST_TOKENS {
        Err(("prefix_tokens", format!("must be {MOST_TOKENS} or less")))
    } else {
        Ok(())
    }
}
